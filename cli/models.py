"""Which model a command talks to: the embedded policy, a checkpoint directory (run here or served), or an endpoint."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypedDict

import typer

from recursive_agent.checkpoint import CONFIG, FILE_NAME, CheckpointSettings, is_checkpoint
from recursive_agent.errors import ConfigurationError
from recursive_agent.model.base import Model
from recursive_agent.styles import ActionFormat, PromptStyle

from .messages import say

_PANEL = "Model"

ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="NAME|DIR",
        help="Name of a model at the endpoint, or the directory of a model: of rao train, or any causal model that "
        "transformers loads. Default: RAO_MODEL, else the built-in model.",
        rich_help_panel=_PANEL,
    ),
]
BaseUrlOption = Annotated[
    str | None,
    typer.Option(
        "--base-url",
        metavar="URL[,URL…]",
        help="OpenAI-compatible endpoint that serves the model; the URL usually ends in /v1. Several servers of the same "
        "model: separate their URLs with commas. Default: OPENAI_BASE_URL.",
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


PromptStyleOption = Annotated[
    PromptStyle | None,
    typer.Option(
        "--prompt-style",
        help="How agents are prompted: rich for general models, minimal for models trained on one environment. Default: the "
        "style saved with the model, else rich.",
        rich_help_panel=_PANEL,
    ),
]
ActionFormatOption = Annotated[
    ActionFormat | None,
    typer.Option(
        "--action-format",
        help="How answers hold code: fenced blocks, tags, or calls of a tool. Default: the format saved with the model, else "
        "fenced.",
        rich_help_panel=_PANEL,
    ),
]


@dataclass(frozen=True, slots=True)
class Prompting:
    """How the command line wants a model prompted; None leaves it to the model."""

    style: PromptStyle | None = None
    action_format: ActionFormat | None = None

    def over(self, settings: CheckpointSettings) -> CheckpointSettings:
        """The settings of a model with these on top."""
        chosen = {"prompt_style": self.style, "action_format": self.action_format}
        return settings.model_copy(update={name: value for name, value in chosen.items() if value is not None})

    def refuse_idle(self) -> None:
        """Raises ConfigurationError where the options would do nothing but harm."""
        if self != Prompting():
            raise ConfigurationError(
                "the built-in model knows one prompt only; leave out --prompt-style and --action-format, or choose another "
                "model with --model"
            )

    def on(self, model: Any) -> Any:
        """An endpoint's model, prompted so."""
        if self != Prompting():
            model.settings = self.over(model.settings or CheckpointSettings(name=model.name))
        return model


class Checkpoint(NamedTuple):
    """A directory with a model, and the endpoint that serves it (None: it runs in this process)."""

    directory: Path
    base_url: str | None = None

    def open(
        self, *, request_timeout: float | None = None, prompting: Prompting | None = None, quiet: bool = False
    ) -> Model:
        """The model. Unless `quiet`, stderr says what its user should know of how it runs. Raises ConfigurationError."""
        settings = (prompting or Prompting()).over(CheckpointSettings.of(self.directory))
        if self.base_url is not None:
            from recursive_agent.model.served import served_checkpoint

            model = served_checkpoint(self.directory, self.base_url, **attempts(request_timeout))
            model.settings = settings
            return model
        refuse_idle(request_timeout)
        from rao_rl.weights.folder import open_folder

        opened = open_folder(self.directory, settings=settings)
        for note in [] if quiet else opened.notes:
            say(f"{opened.name} {note}")
        return opened


def find_checkpoint(model: str | None, base_url: str | None) -> Checkpoint | None:
    """The checkpoint that a command line means; None where it means a name at an endpoint, or nothing.

    `--model DIR` alone runs it here, and with `--base-url` where it is served; RAO_MODEL=DIR goes with OPENAI_BASE_URL, as
    `rao serve` prints them. Raises ConfigurationError for a directory that holds none, unless an endpoint may know it.
    """
    if model is not None:
        if _is_meant(model, at_endpoint=base_url is not None):
            return Checkpoint(Path(model), base_url)
        if base_url is None:
            _check_directory(model)
        return None
    named, url = os.environ.get("RAO_MODEL"), base_url or os.environ.get("OPENAI_BASE_URL") or None
    if named and _is_meant(named, at_endpoint=url is not None):
        return Checkpoint(Path(named), url)
    return None


def _is_meant(model: str, *, at_endpoint: bool) -> bool:
    """Whether a name means a directory. One of other people's may bear the name that an endpoint has for the same model."""
    if not is_checkpoint(model):
        return False
    return not at_endpoint or os.sep in model or (Path(model) / FILE_NAME).is_file()


def _check_directory(model: str) -> None:
    """Raises ConfigurationError for what can only be a directory, and is no checkpoint. An endpoint's names may hold /."""
    if Path(model).is_dir() and (os.sep in model or not _has_endpoint()):
        raise ConfigurationError(
            f"{model} contains no model: it has neither {FILE_NAME} nor {CONFIG}; give a folder that rao train or transformers "
            "wrote, or the --base-url of a server that knows this name"
        )
    looks_local = model.startswith((".", "~", os.sep)) or model.endswith(os.sep)
    if looks_local and not os.environ.get("OPENAI_BASE_URL"):
        raise ConfigurationError(f"{model}: there is no such directory; give the folder of a model")
    if not _has_endpoint():
        raise ConfigurationError(
            f"neither a folder nor an endpoint for {model!r} was found: there is no such folder here, and no endpoint is "
            "configured that could know a model of that name (--base-url or OPENAI_BASE_URL; OPENAI_API_KEY for OpenAI)"
        )


def _has_endpoint() -> bool:
    return bool(os.environ.get("OPENAI_BASE_URL") or os.environ.get("OPENAI_API_KEY"))


def endpoint_is_configured(model: str | None, base_url: str | None) -> bool:
    """Whether the arguments or the environment name an endpoint (a checkpoint directory alone is none)."""
    if (checkpoint := find_checkpoint(model, base_url)) is not None:
        return checkpoint.base_url is not None
    return bool(model or base_url or os.environ.get("OPENAI_BASE_URL") or os.environ.get("RAO_MODEL"))


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
    prompting: Prompting | None = None,
    quiet: bool = False,
) -> Model:
    """The model of a command line; `interface` is how an endpoint is talked to (a served checkpoint has `tokens`).

    Raises ConfigurationError in one sentence for what does not exist.
    """
    prompting = prompting or Prompting()
    if (checkpoint := find_checkpoint(model, base_url)) is not None:
        return checkpoint.open(request_timeout=request_timeout, prompting=prompting, quiet=quiet)
    if endpoint_is_configured(model, base_url):
        from recursive_agent.model import connect, resolve_endpoints

        endpoints = resolve_endpoints(model, base_url)
        opened: Model = prompting.on(connect(endpoints, interface=interface, **attempts(request_timeout)))
        return opened
    refuse_idle(request_timeout)
    prompting.refuse_idle()
    from recursive_agent.model.embedded import EmbeddedModel

    return EmbeddedModel()
