"""Models on a scripted endpoint, with retries that do not wait."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from recursive_agent.model import Message, Retries, Sampling, resolve_endpoint
from recursive_agent.model.chat import ChatModel
from recursive_agent.model.tokens import TokensModel
from recursive_agent.testing import ScriptedEndpoint

KEY = "sk-very-secret-key"
USER = Message("user", "Say hello.")
NO_WAIT = Retries(limit=3, base=0.0)


@asynccontextmanager
async def serving(script: Any, *, interface: str = "chat", **settings: Any) -> AsyncIterator[tuple[Any, Any]]:
    """An endpoint and a model on it; settings named as ScriptedEndpoint's go there."""
    server = {name: settings.pop(name) for name in list(settings) if name in SERVER_SETTINGS}
    name = settings.pop("model", "scripted")
    async with ScriptedEndpoint(script, **server) as endpoint:
        make: Callable[..., Any] = TokensModel if interface == "tokens" else ChatModel
        settings.setdefault("retries", NO_WAIT)
        settings["sampling"] = Sampling.of(settings.get("sampling"))
        model = make(resolve_endpoint(name, endpoint.base_url, KEY), **settings)
        try:
            yield endpoint, model
        finally:
            await model.aclose()


SERVER_SETTINGS = ("api_key", "models", "max_model_len", "latency", "fingerprint", "tokenizer")


@pytest.fixture(params=["chat", "tokens"])
def interface(request: pytest.FixtureRequest) -> str:
    return str(request.param)
