"""Language models: any OpenAI-compatible endpoint by `chat`, or by exact `tokens`."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, overload

from ..errors import ConfigurationError
from .base import (
    Completion,
    Conversation,
    Explaining,
    Keyed,
    Message,
    Model,
    NoAnswer,
    OnWait,
    Sampling,
    Throttled,
    ToolCall,
    Trained,
    Versioned,
    Waiting,
)
from .endpoint import Endpoint, resolve_endpoint, resolve_endpoints
from .retry import Retries

if TYPE_CHECKING:
    from .chat import ChatModel
    from .pool import PoolModel
    from .template import Renderer
    from .tokens import TokensModel

__all__ = [
    "Completion",
    "Conversation",
    "Endpoint",
    "Explaining",
    "Keyed",
    "Message",
    "Model",
    "NoAnswer",
    "OnWait",
    "Retries",
    "Sampling",
    "Throttled",
    "ToolCall",
    "Trained",
    "Versioned",
    "Waiting",
    "attempt_timeout",
    "connect",
    "preload",
    "resolve_endpoint",
    "resolve_endpoints",
]

_ATTEMPT = 600.0
_LONGEST_ATTEMPT = 86_400.0


@overload
def connect(
    endpoint: Endpoint,
    *,
    interface: Literal["chat", "tokens"] = "chat",
    sampling: Sampling | None = None,
    timeout: float | None = None,
    max_retries: int = 5,
    patience: float | None = 900.0,
    rng: random.Random | None = None,
    renderer: Renderer | None = None,
) -> ChatModel | TokensModel: ...


@overload
def connect(
    endpoint: Sequence[Endpoint],
    *,
    interface: Literal["chat", "tokens"] = "chat",
    sampling: Sampling | None = None,
    timeout: float | None = None,
    max_retries: int = 5,
    patience: float | None = 900.0,
    rng: random.Random | None = None,
    renderer: Renderer | None = None,
) -> ChatModel | TokensModel | PoolModel[ChatModel] | PoolModel[TokensModel]: ...


def connect(
    endpoint: Endpoint | Sequence[Endpoint],
    *,
    interface: Literal["chat", "tokens"] = "chat",
    sampling: Sampling | None = None,
    timeout: float | None = None,
    max_retries: int = 5,
    patience: float | None = 900.0,
    rng: random.Random | None = None,
    renderer: Renderer | None = None,
) -> ChatModel | TokensModel | PoolModel[ChatModel] | PoolModel[TokensModel]:
    """The model at an endpoint, or at several (see `PoolModel`). Nothing is sent before the first call.

    `timeout` (seconds, default 600) limits each request. `patience` (seconds) limits how long a call waits while the endpoint
    accepts no more calls (None: until the caller's own limits). `rng` draws the random part of the pause between retries.
    `renderer` applies the chat template for `tokens` (default: the endpoint's /tokenize). Raises ConfigurationError.
    """
    timeout = attempt_timeout(None) if timeout is None else timeout
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout < math.inf:
        raise ConfigurationError(f"the time-out of an attempt must be a number of seconds above 0, not {timeout!r}")
    retries = Retries(limit=max_retries, patience=patience, rng=rng or random.Random())
    endpoints = [endpoint] if isinstance(endpoint, Endpoint) else endpoint
    if interface == "tokens":
        from .pool import PoolModel, tokens_pool
        from .tokens import TokensModel

        exact = [
            TokensModel(each, renderer=renderer, sampling=sampling, timeout=timeout, retries=retries)
            for each in endpoints
        ]
        if len(exact) == 1:
            return exact[0]
        return PoolModel(exact) if renderer is not None else tokens_pool(exact)
    from .chat import ChatModel

    models = [ChatModel(each, sampling=sampling, timeout=timeout, retries=retries) for each in endpoints]
    if len(models) == 1:
        return models[0]
    from .pool import PoolModel

    return PoolModel(models)


def attempt_timeout(run: float | None) -> float:
    """Default time-out of one attempt, in seconds: as long as the whole `run` may take, and at least ten minutes."""
    return _ATTEMPT if run is None else max(_ATTEMPT, min(run, _LONGEST_ATTEMPT))


def preload() -> None:
    """Import what the first request needs: as much work as the rest of the package. To be called in the event loop."""
    from .transport import on_asyncio

    if on_asyncio():  # else httpx takes its place, see `transport`
        import aiohttp  # noqa: F401
