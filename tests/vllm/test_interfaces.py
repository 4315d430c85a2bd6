"""Both interfaces of the SDK on a real vLLM, and that it samples what the light runtime would."""

from __future__ import annotations

import math
from typing import Any

import httpx2
import pytest

from recursive_agent import ContextOverflow
from recursive_agent.model import connect, resolve_endpoint
from recursive_agent.model.base import Completion, Message, Model, Sampling
from recursive_agent.model.embedded import EmbeddedModel
from recursive_agent.model.served import ServedCheckpoint

from .conftest import NAME, Vllm

pytestmark = pytest.mark.anyio

PROMPTS = [
    "Craft the following items: 2x copper_gear",
    "Craft the following items: 1x oak_frame, 3x iron_rod",
    "Which of these float: oak, iron, wool?",
    "7 + 15 = 22, 22 + 31 = 53, 53 + 8 =",
]
CLOSE = 1e-4
"""Largest |Δ log-prob| of two runtimes that both compute in float32."""


async def ask(model: Model, prompt: str, *, seed: int = 0, **sampling: Any) -> Completion:
    conversation = model.conversation(sampling=Sampling.of(sampling) if sampling else None)
    conversation.add(Message("user", prompt))
    return await conversation.complete(max_tokens=24, seed=seed)


async def test_the_server_says_what_it_serves(vllm: Vllm, model: ServedCheckpoint) -> None:
    cards = httpx2.get(f"{vllm.url}/models").json()["data"]
    assert [card["id"] for card in cards] == [NAME, str(vllm.folder)]
    assert await model.context_length() == 2048
    assert vllm.served is not None
    assert f"export OPENAI_BASE_URL={vllm.url}\n  export RAO_MODEL={vllm.folder}\n" in vllm.served.errors


async def test_chat_answers_whole_and_in_pieces(vllm: Vllm) -> None:
    model = connect(resolve_endpoint(NAME, vllm.url))
    pieces: list[str] = []
    whole = await ask(model, PROMPTS[0], temperature=0.0)
    conversation = model.conversation(sampling=Sampling(temperature=0.0))
    conversation.add(Message("user", PROMPTS[0]))
    streamed = await conversation.complete(max_tokens=24, on_text=pieces.append)
    await model.aclose()
    assert whole.text == streamed.text == "".join(pieces)
    assert len(pieces) > 1
    assert whole.usage == streamed.usage
    assert (whole.usage.prompt_tokens, whole.finish_reason) == (8, "stop")


async def test_prompts_of_chat_are_counted_by_the_servers_tokenizer(vllm: Vllm) -> None:
    model = connect(resolve_endpoint(NAME, vllm.url), sampling=Sampling(temperature=0.0))
    conversation, off = model.conversation(), []
    for prompt in PROMPTS:
        conversation.add(Message("user", prompt))
        bound = await conversation.prompt_tokens()
        off.append(bound - (await conversation.complete(max_tokens=8)).usage.prompt_tokens)
    await model.aclose()
    assert off == [16, 0, 0, 0], "exact, once a bill has confirmed it"


async def test_the_servers_own_template_gives_the_same_prompts_over_turns(vllm: Vllm, model: ServedCheckpoint) -> None:
    there = connect(resolve_endpoint(NAME, vllm.url), interface="tokens")  # renders by /tokenize
    told = []
    for each in (there, model):
        conversation = each.conversation(sampling=Sampling(temperature=1.0))
        conversation.add(Message("user", PROMPTS[0]))
        first = await conversation.complete(max_tokens=3, seed=5)  # cut off, so its end has to be put in
        conversation.add(Message("user", "[1, 2]"))
        second = await conversation.complete(max_tokens=8, seed=6)
        assert first.prompt_token_ids is not None
        assert first.token_ids is not None
        assert second.prompt_token_ids is not None
        start = (*first.prompt_token_ids, *first.token_ids)
        assert second.prompt_token_ids[: len(start)] == start
        told.append((first.token_ids, first.logprobs, second.prompt_token_ids, second.token_ids))
    await there.aclose()
    assert told[0] == told[1]


async def test_what_the_light_runtime_samples_has_the_same_log_probs_in_vllm(vllm: Vllm) -> None:
    embedded = EmbeddedModel(vllm.folder)
    worst, count = 0.0, 0
    async with httpx2.AsyncClient(timeout=60) as client:
        for number, prompt in enumerate(PROMPTS * 4):
            here = await ask(embedded, prompt, seed=number, temperature=1.0)
            assert here.prompt_token_ids is not None
            assert here.token_ids is not None
            assert here.logprobs is not None
            ids = [*here.prompt_token_ids, *here.token_ids]
            body = {"model": NAME, "prompt": ids, "max_tokens": 1, "prompt_logprobs": 0}
            answer = (await client.post(f"{vllm.url}/completions", json=body)).json()
            scored = answer["choices"][0]["prompt_logprobs"][len(here.prompt_token_ids) :]
            for token, ours, theirs in zip(here.token_ids, here.logprobs, scored, strict=True):
                worst, count = max(worst, abs(ours - theirs[str(token)]["logprob"])), count + 1
    print(f"largest difference of log-probs over {count} tokens: {worst:.1e}")
    assert count > 100
    assert worst < CLOSE


async def test_greedy_answers_are_the_light_runtimes(vllm: Vllm, model: ServedCheckpoint) -> None:
    embedded = EmbeddedModel(vllm.folder)
    for prompt in PROMPTS:
        here, there = [await ask(each, prompt, temperature=0.0) for each in (embedded, model)]
        assert (there.prompt_token_ids, there.token_ids) == (here.prompt_token_ids, here.token_ids)
        assert (there.text, there.finish_reason) == (here.text, here.finish_reason)


async def test_who_says_nothing_gets_the_checkpoints_own_sampling(vllm: Vllm, model: ServedCheckpoint) -> None:
    assert model.sampling.temperature == 0.5
    body = {"model": NAME, "prompt": PROMPTS[2], "max_tokens": 24, "seed": 3, "logprobs": 0, "return_token_ids": True}
    told = []
    async with httpx2.AsyncClient(timeout=60) as client:
        for more in ({}, {"temperature": 0.5}, {"temperature": 1.0}):
            choice = (await client.post(f"{vllm.url}/completions", json={**body, **more})).json()["choices"][0]
            told.append((choice["token_ids"], choice["logprobs"]["token_logprobs"]))
    assert told[0] == told[1]
    # The log-prob is that of the distribution which was sampled from, temperature and all.
    assert all(math.isfinite(value) for value in told[2][1])
    assert told[0] != told[2]


async def test_a_prompt_beyond_the_window_is_told_as_such(model: ServedCheckpoint) -> None:
    with pytest.raises(ContextOverflow, match="2048"):
        await ask(model, "oak_gear " * 1500)
