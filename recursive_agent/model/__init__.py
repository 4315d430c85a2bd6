"""Language models: any OpenAI-compatible endpoint by `chat`, or by exact `tokens`."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Literal

from .base import Completion, Conversation, Message, Model, Sampling, ToolCall
from .endpoint import Endpoint, resolve_endpoint
from .retry import Retries

if TYPE_CHECKING:
    from .chat import ChatModel
    from .template import Renderer
    from .tokens import TokensModel

__all__ = [
    "Completion",
    "Conversation",
    "Endpoint",
    "Message",
    "Model",
    "Retries",
    "Sampling",
    "ToolCall",
    "connect",
    "resolve_endpoint",
]


def connect(
    endpoint: Endpoint,
    *,
    interface: Literal["chat", "tokens"] = "chat",
    sampling: Sampling | None = None,
    timeout: float = 600.0,
    max_retries: int = 5,
    rng: random.Random | None = None,
    renderer: Renderer | None = None,
) -> ChatModel | TokensModel:
    """The model at an endpoint. Nothing is sent before the first call.

    `timeout` (seconds) is for one attempt, `rng` draws the jitter between attempts, `renderer` applies the chat
    template for `tokens` (default: the endpoint's /tokenize).
    """
    from .chat import ChatModel
    from .tokens import TokensModel

    retries = Retries(limit=max_retries, rng=rng or random.Random())
    if interface == "tokens":
        return TokensModel(endpoint, renderer=renderer, sampling=sampling, timeout=timeout, retries=retries)
    return ChatModel(endpoint, sampling=sampling, timeout=timeout, retries=retries)
