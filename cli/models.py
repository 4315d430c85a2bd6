"""Which model a command talks to: the embedded policy, a checkpoint directory (run here or served), or an endpoint."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, NamedTuple

from recursive_agent.checkpoint import FILE_NAME
from recursive_agent.errors import ConfigurationError
from recursive_agent.model.base import Model


class Checkpoint(NamedTuple):
    """A checkpoint directory of ours, and the endpoint that serves it (None: the embedded runtime runs it)."""

    directory: Path
    base_url: str | None = None

    def open(self) -> Model:
        """The model. Raises ConfigurationError where it cannot be had."""
        if self.base_url is not None:
            from recursive_agent.model.served import ServedCheckpoint

            return ServedCheckpoint(self.directory, self.base_url)
        from recursive_agent.model.embedded import EmbeddedModel

        return EmbeddedModel(self.directory)


def find_checkpoint(model: str | None, base_url: str | None) -> Checkpoint | None:
    """The checkpoint that a command line means; None where it means a name at an endpoint, or nothing.

    `--model DIR` alone runs it here, and with `--base-url` where it is served; RAO_MODEL=DIR goes with OPENAI_BASE_URL, as
    `rao serve` prints them.
    """
    if model is not None:
        return Checkpoint(Path(model), base_url) if is_checkpoint(model) else None
    named = os.environ.get("RAO_MODEL")
    if named and is_checkpoint(named):
        return Checkpoint(Path(named), base_url or os.environ.get("OPENAI_BASE_URL") or None)
    return None


def endpoint_is_configured(model: str | None, base_url: str | None) -> bool:
    """Whether the arguments or the environment name an endpoint (a checkpoint directory alone is none)."""
    if (checkpoint := find_checkpoint(model, base_url)) is not None:
        return checkpoint.base_url is not None
    return bool(model or base_url or os.environ.get("OPENAI_BASE_URL") or os.environ.get("RAO_MODEL"))


def is_checkpoint(model: str) -> bool:
    """Whether `model` is the path of a checkpoint directory of ours."""
    return (Path(model) / FILE_NAME).is_file()


def open_model(
    model: str | None = None, base_url: str | None = None, *, interface: Literal["chat", "tokens"] = "chat"
) -> Model:
    """The model of a command line; `interface` is how an endpoint is talked to (a served checkpoint has `tokens`).

    Raises ConfigurationError in one sentence for what does not exist.
    """
    if (checkpoint := find_checkpoint(model, base_url)) is not None:
        return checkpoint.open()
    if endpoint_is_configured(model, base_url):
        if model is not None and base_url is None and (os.sep in model and Path(model).is_dir()):
            raise ConfigurationError(f"{model} is a directory without {FILE_NAME}; a checkpoint of `rao train` has one")
        from recursive_agent.model import connect, resolve_endpoint

        return connect(resolve_endpoint(model, base_url), interface=interface)
    from recursive_agent.model.embedded import EmbeddedModel

    return EmbeddedModel()
