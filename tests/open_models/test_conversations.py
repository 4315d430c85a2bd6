"""One conversation with a real open model: pieces of text, and prompts that are counted before they are sent."""

from __future__ import annotations

import pytest

from recursive_agent.model import Message, connect, resolve_endpoint
from recursive_agent.model.base import Sampling

from .conftest import Served

pytestmark = pytest.mark.anyio

PROMPTS = ["Name three kinds of trees.", "And what are they used for?", "  1234  x\t≠ ½ 日本 \n\n ok"]


async def test_an_answer_in_pieces_is_the_whole_answer(server: Served) -> None:
    model = connect(resolve_endpoint(server.name, server.url), sampling=Sampling(temperature=0.0))
    texts, pieces = [], list[str]()
    for on_text in (None, None, pieces.append):
        conversation = model.conversation()
        conversation.add(Message("user", PROMPTS[0]))
        texts.append(await conversation.complete(max_tokens=24, on_text=on_text))
    await model.aclose()
    _, whole, streamed = texts  # the first one fills the server's cache
    assert whole.text == streamed.text == "".join(pieces)
    assert len(pieces) > 1
    assert whole.usage == streamed.usage


async def test_prompts_are_counted_before_they_are_sent(server: Served) -> None:
    model = connect(resolve_endpoint(server.name, server.url), sampling=Sampling(temperature=0.0))
    conversation, off = model.conversation(), []
    for prompt in PROMPTS:
        conversation.add(Message("user", prompt))
        bound = await conversation.prompt_tokens()
        off.append(bound - (await conversation.complete(max_tokens=8)).usage.prompt_tokens)
    await model.aclose()
    assert min(off) >= 0, "never more than was held for them"
    assert off[1:] == [0, 0], "exact, once a bill has confirmed it"
