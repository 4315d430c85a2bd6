"""Which model a command talks to: the embedded policy, a checkpoint directory (run here or served), or an endpoint."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, TypedDict

import typer

from recursive_agent.checkpoint import FILE_NAME
from recursive_agent.errors import ConfigurationError
from recursive_agent.model.base import Model

_PANEL = "Model"

ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="NAME|DIR",
        help="Name of a model at the endpoint, or the directory of a model that rao train wrote. Default: RAO_MODEL, else the "
        "built-in model.",
        rich_help_panel=_PANEL,
    ),
]
BaseUrlOption = Annotated[
    str | None,
    typer.Option(
        "--base-url",
        metavar="URL",
        help="OpenAI-compatible endpoint that serves the model; the URL usually ends in /v1. Default: OPENAI_BASE_URL.",
        rich_help_panel=_PANEL,
    ),
]
Interface = Literal["chat", "tokens"]
InterfaceOption = Annotated[
    Interface,
    typer.Option(
        "--interface",
        help="API to use. chat: /v1/chat/completions, for any endpoint. tokens: /v1/completions with token ids and log-probs, "
        "which --objective rao needs for training (vLLM supports it).",
        rich_help_panel=_PANEL,
    ),
]
RequestTimeoutOption = Annotated[
    float | None,
    typer.Option(
        "--request-timeout",
        metavar="SECONDS",
        help="Time limit for each request to the endpoint; failed requests are sent again.",
        rich_help_panel=_PANEL,
    ),
]


class Checkpoint(NamedTuple):
    """A checkpoint directory of ours, and the endpoint that serves it (None: the embedded runtime runs it)."""

    directory: Path
    base_url: str | None = None

    def open(self, *, request_timeout: float | None = None) -> Model:
        """The model. Raises ConfigurationError where it cannot be had."""
        if self.base_url is not None:
            from recursive_agent.model.served import ServedCheckpoint

            return ServedCheckpoint(self.directory, self.base_url, **attempts(request_timeout))
        refuse_idle(request_timeout)
        from recursive_agent.model.embedded import EmbeddedModel

        return EmbeddedModel(self.directory)


def find_checkpoint(model: str | None, base_url: str | None) -> Checkpoint | None:
    """The checkpoint that a command line means; None where it means a name at an endpoint, or nothing.

    `--model DIR` alone runs it here, and with `--base-url` where it is served; RAO_MODEL=DIR goes with OPENAI_BASE_URL, as
    `rao serve` prints them. Raises ConfigurationError for a directory that holds none, unless an endpoint may know it.
    """
    if model is not None:
        if is_checkpoint(model):
            return Checkpoint(Path(model), base_url)
        if base_url is None:
            _check_directory(model)
        return None
    named = os.environ.get("RAO_MODEL")
    if named and is_checkpoint(named):
        return Checkpoint(Path(named), base_url or os.environ.get("OPENAI_BASE_URL") or None)
    return None


def _check_directory(model: str) -> None:
    """Raises ConfigurationError for what can only be a directory, and is no checkpoint. An endpoint's names may hold /."""
    if os.sep in model and Path(model).is_dir():
        raise ConfigurationError(
            f"{model} has no {FILE_NAME}, so it is not a model of rao train; give the directory that rao train wrote as "
            "--out, or the --base-url of a server that knows this name"
        )
    looks_local = model.startswith((".", "~", os.sep)) or model.endswith(os.sep)
    if looks_local and not os.environ.get("OPENAI_BASE_URL"):
        raise ConfigurationError(f"{model}: there is no such directory; give one that rao train wrote as --out")


def endpoint_is_configured(model: str | None, base_url: str | None) -> bool:
    """Whether the arguments or the environment name an endpoint (a checkpoint directory alone is none)."""
    if (checkpoint := find_checkpoint(model, base_url)) is not None:
        return checkpoint.base_url is not None
    return bool(model or base_url or os.environ.get("OPENAI_BASE_URL") or os.environ.get("RAO_MODEL"))


def is_checkpoint(model: str) -> bool:
    """Whether `model` is the path of a checkpoint directory of ours."""
    return (Path(model) / FILE_NAME).is_file()


class Attempts(TypedDict, total=False):
    """Settings of `connect` for one attempt at an answer."""

    timeout: float


def attempts(request_timeout: float | None) -> Attempts:
    """How long one attempt at an answer may take, as a setting of `connect`. Raises ConfigurationError."""
    if request_timeout is None:
        return {}
    if not 0 < request_timeout < math.inf:
        raise ConfigurationError(f"--request-timeout must be a number of seconds above 0, not {request_timeout:g}")
    return {"timeout": request_timeout}


def refuse_idle(request_timeout: float | None) -> None:
    """Raises ConfigurationError where the option would do nothing."""
    if request_timeout is not None:
        raise ConfigurationError(
            "--request-timeout works only with an endpoint, and this model runs inside rao; leave it out"
        )


def open_model(
    model: str | None = None,
    base_url: str | None = None,
    *,
    interface: Interface = "chat",
    request_timeout: float | None = None,
) -> Model:
    """The model of a command line; `interface` is how an endpoint is talked to (a served checkpoint has `tokens`).

    Raises ConfigurationError in one sentence for what does not exist.
    """
    if (checkpoint := find_checkpoint(model, base_url)) is not None:
        return checkpoint.open(request_timeout=request_timeout)
    if endpoint_is_configured(model, base_url):
        from recursive_agent.model import connect, resolve_endpoint

        return connect(resolve_endpoint(model, base_url), interface=interface, **attempts(request_timeout))
    refuse_idle(request_timeout)
    from recursive_agent.model.embedded import EmbeddedModel

    return EmbeddedModel()
