"""How long a conversation may be: as the endpoint says it, or as its refusals do."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from recursive_agent.model import Message
from recursive_agent.model.failures import rejected
from recursive_agent.model.remote import window_of
from recursive_agent.testing import Answer, Fault, Request

from .conftest import serving

CARDS = [
    {"id": "base", "max_model_len": 2048, "parent": None},
    {"id": "adapter", "max_model_len": None, "parent": "base"},
    {"id": "orphan", "max_model_len": None, "parent": "gone"},
]


@pytest.mark.parametrize(("name", "window"), [("base", 2048), ("adapter", 2048), ("orphan", None), ("other", None)])
def test_an_adapter_has_the_window_of_its_base(name: str, window: int | None) -> None:
    assert window_of(CARDS, name) == window


@pytest.mark.anyio
async def test_a_model_asks_for_the_window_of_its_base() -> None:
    async with serving("x", model="adapter", models=("adapter",)) as (endpoint, model):
        handle: Callable[[Any], Any] = endpoint._server.handler

        async def listing(exchange: Any) -> None:
            if exchange.path == "/v1/models":
                exchange.send(200, json.dumps({"data": CARDS}).encode())
            else:
                await handle(exchange)

        endpoint._server.handler = listing
        assert await model.context_length() == 2048


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_an_answer_longer_than_the_window_says_how_long_that_is(name: str) -> None:
    message = f"{name}=4096 cannot be greater than max_model_len=2048. Please request fewer output tokens."
    refused = rejected(400, {"error": {"message": message}}, {}, wait=0, secret="")
    assert refused.is_overflow
    assert refused.sizes() == (2048, 1, False)


@pytest.mark.anyio
async def test_an_answer_longer_than_the_window_is_asked_for_again_and_shorter() -> None:
    """As vLLM refuses it: the answer alone first, then with the prompt, which it counts no further than it must."""
    window, prompt = 2048, 1500

    def script(request: Request) -> Answer:
        if request.max_tokens > window:
            said = f"max_tokens={request.max_tokens} cannot be greater than max_model_len={window}."
            return Fault.http(400, f"{said} Please request fewer output tokens.")
        if request.max_tokens + prompt > window:
            least = window - request.max_tokens + 1
            said = f"This model's maximum context length is {window} tokens. However, you requested"
            return Fault.http(
                400, f"{said} {request.max_tokens} output tokens and your prompt contains at least {least} input tokens"
            )
        return "there was room"

    async with serving(script) as (endpoint, model):
        conversation = model.conversation()
        conversation.add(Message("user", "x" * 40))
        assert (await conversation.complete(max_tokens=4096)).text == "there was room"
        assert [request.max_tokens for request in endpoint.requests] == [4096, 2047, 1023, 511]
