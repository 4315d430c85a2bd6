"""Exact tokens of a real model on vLLM: what is recorded is what was sampled, as the trainer needs it."""

from __future__ import annotations

from pathlib import Path
from statistics import mean

import anyio
import pytest

from recursive_agent import Agent, Limits, Status
from recursive_agent.model import Message, connect, resolve_endpoint
from recursive_agent.model.base import Completion, Model, Sampling
from recursive_agent.model.template import CheckpointRenderer

from .cells import delegating
from .conftest import Served

pytestmark = pytest.mark.anyio

CLOSE = 0.05
"""Mean |Δ log-prob| of two runtimes that compute in bfloat16."""


def tokens_at(server: Served, folder: Path) -> Model:
    return connect(resolve_endpoint(server.name, server.url), interface="tokens", renderer=CheckpointRenderer(folder))


async def sampled(model: Model, prompt: str, *, tokens: int, seed: int) -> Completion:
    conversation = model.conversation(sampling=Sampling(temperature=1.0))
    conversation.add(Message("user", prompt))
    return await conversation.complete(max_tokens=tokens, seed=seed)


async def test_a_tree_records_what_was_sampled_token_by_token(vllm: Served, checkpoint: Path, tmp_path: Path) -> None:
    model, renderer = tokens_at(vllm, checkpoint), CheckpointRenderer(checkpoint)
    sampling = {"temperature": 1.0, "max_tokens": 48}
    for more in ({}, delegating(vllm)):
        limits = Limits(max_depth=1, max_steps=3, max_malformed=3)
        agent = Agent(model, limits=limits, sampling={**sampling, **more}, trace_dir=tmp_path)
        result = await agent.solve("What is 17 * 23?", seed=4)
        assert result.status in {Status.FINISHED, Status.STEP_LIMIT, Status.MALFORMED}, result.reason
        read = written = 0
        for node in result.tree.walk():
            before: tuple[int, ...] = ()
            for call in (step.model for step in node.steps if step.model is not None):
                prompt, answer, logprobs = call.prompt_token_ids, call.token_ids, call.logprobs
                assert prompt is not None
                assert answer is not None
                assert logprobs is not None
                assert len(answer) == len(logprobs) == call.usage.completion_tokens > 0
                assert len(prompt) == call.usage.prompt_tokens
                assert tuple(prompt[: len(before)]) == before, "a conversation is only ever appended to"
                assert renderer.decode(answer).removesuffix("<|im_end|>") == call.text
                before = (*prompt, *answer)
                read, written = read + len(prompt), written + len(answer)
        assert (result.usage.prompt_tokens, result.usage.completion_tokens) == (read, written)
    await model.aclose()


async def test_log_probs_are_those_of_the_converted_checkpoint(vllm: Served, checkpoint: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    model = tokens_at(vllm, checkpoint)
    policy = AutoModelForCausalLM.from_pretrained(checkpoint)
    off: list[float] = []
    for seed, prompt in enumerate(["Write a line about the sea.", "List the first primes.", "def add(a, b):"]):
        answer = await sampled(model, prompt, tokens=24, seed=seed)
        start = answer.prompt_token_ids or ()
        ids = torch.tensor([[*start, *(answer.token_ids or ())]])
        with torch.no_grad():
            scores = policy(ids).logits[0, len(start) - 1 : -1].float().log_softmax(-1)
        found = scores.gather(1, ids[0, len(start) :, None])[:, 0].tolist()
        off += [abs(ours - theirs) for ours, theirs in zip(found, answer.logprobs or (), strict=True)]
    await model.aclose()
    assert len(off) > 30
    assert mean(off) < CLOSE


async def test_many_seeded_requests_at_once_are_all_answered(vllm: Served, checkpoint: Path) -> None:
    model = tokens_at(vllm, checkpoint)
    answers: dict[int, Completion] = {}

    async def ask(number: int) -> None:
        answers[number] = await sampled(model, f"{number}: " + "The ferry ran. " * 200, tokens=4, seed=number)

    async with anyio.create_task_group() as group:
        for number in range(8):  # several times what one step of vLLM reads
            group.start_soon(ask, number)
    await model.aclose()
    assert len(answers) == 8
    assert min(answer.usage.prompt_tokens for answer in answers.values()) > 800
