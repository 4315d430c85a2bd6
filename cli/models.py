"""Which model a command talks to: the embedded policy, a checkpoint directory, or an endpoint."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from recursive_agent.checkpoint import FILE_NAME
from recursive_agent.errors import ConfigurationError
from recursive_agent.model.base import Model


def endpoint_is_configured(model: str | None, base_url: str | None) -> bool:
    """Whether the arguments or the environment name an endpoint (a checkpoint directory is none)."""
    if model is not None and is_checkpoint(model):
        return False
    return bool(model or base_url or os.environ.get("OPENAI_BASE_URL") or os.environ.get("RAO_MODEL"))


def is_checkpoint(model: str) -> bool:
    """Whether `model` is the path of a checkpoint directory of ours."""
    return (Path(model) / FILE_NAME).is_file()


def open_model(
    model: str | None = None, base_url: str | None = None, *, interface: Literal["chat", "tokens"] = "chat"
) -> Model:
    """The model of a command line; `interface` is how an endpoint is talked to.

    Raises ConfigurationError in one sentence for what does not exist.
    """
    if endpoint_is_configured(model, base_url):
        if model is not None and base_url is None and (os.sep in model and Path(model).is_dir()):
            raise ConfigurationError(f"{model} is a directory without {FILE_NAME}; a checkpoint of `rao train` has one")
        from recursive_agent.model import connect, resolve_endpoint

        return connect(resolve_endpoint(model, base_url), interface=interface)
    from recursive_agent.model.embedded import EmbeddedModel

    return EmbeddedModel(Path(model)) if model is not None else EmbeddedModel()
