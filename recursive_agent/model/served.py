"""A checkpoint that some endpoint serves: sampled there, and prompted as it was trained."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ..checkpoint import CheckpointSettings
from .base import Sampling
from .endpoint import base_urls, resolve_endpoint
from .pool import PoolModel
from .retry import Retries
from .template import CheckpointRenderer, Renderer
from .tokens import TokensModel


class ServedCheckpoint(TokensModel):
    """The checkpoint in `directory`, at an endpoint that serves it (`rao serve`, vLLM).

        agent = Agent(ServedCheckpoint("better/", "http://localhost:8000/v1"))

    Its `agent.json` sets prompt style, action format, sampling and context window (without one: see
    `CheckpointSettings.infer`); its own tokenizer and chat template create the prompts. `model` is the name that the endpoint
    uses (default: the name in `agent.json`); `base_url` and `api_key` have the same defaults as in `Agent`; `renderer` is
    that of another `ServedCheckpoint` of the directory. Raises ConfigurationError if the directory is not a checkpoint, or if
    no endpoint is configured.
    """

    settings: CheckpointSettings

    def __init__(
        self,
        directory: str | Path,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        model: str | None = None,
        timeout: float = 600.0,
        retries: Retries | None = None,
        renderer: Renderer | None = None,
    ) -> None:
        self.directory = Path(directory)
        self.settings = CheckpointSettings.of(self.directory)
        super().__init__(
            resolve_endpoint(model or self.settings.name, base_url, api_key),
            renderer=renderer or CheckpointRenderer(self.directory),
            sampling=Sampling.of(self.settings.sampling),
            timeout=timeout,
            retries=retries,
        )

    async def context_length(self) -> int | None:
        """The smaller of the checkpoint's and the endpoint's context window; None if neither is known."""
        lengths = [length for length in (self.settings.context_length, await super().context_length()) if length]
        return min(lengths, default=None)


def served_checkpoint(
    directory: str | Path,
    base_url: str | Sequence[str] | None = None,
    api_key: str | None = None,
    *,
    model: str | None = None,
    timeout: float = 600.0,
) -> ServedCheckpoint | PoolModel[ServedCheckpoint]:
    """The checkpoint in `directory` at the endpoints that serve it: several base URLs make a `PoolModel`.

    The arguments are those of `ServedCheckpoint`; `base_url` may be a sequence, or text with commas. Raises ConfigurationError.
    """
    urls = base_urls(base_url or os.environ.get("OPENAI_BASE_URL"))
    retries = Retries()
    first = ServedCheckpoint(
        directory, urls[0] if urls else None, api_key, model=model, timeout=timeout, retries=retries
    )
    if len(urls) < 2:
        return first
    others = [
        ServedCheckpoint(
            directory, url, api_key, model=model, timeout=timeout, retries=retries, renderer=first.renderer
        )
        for url in urls[1:]
    ]
    return PoolModel([first, *others])
