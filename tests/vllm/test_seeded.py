"""Many seeded requests at once, with more prompt tokens than one step of vLLM takes: it answers them all, and goes on."""

from __future__ import annotations

import anyio
import pytest

from recursive_agent.model.base import Completion, Message
from recursive_agent.model.served import ServedCheckpoint

from .conftest import Vllm

pytestmark = pytest.mark.anyio

REQUESTS = 24
WORDS, TOKENS = 380, 1520
"""Of each prompt: three of them are more than a step takes by default, so the next one would be read in two chunks."""


async def test_two_dozen_seeded_requests_with_long_prompts_are_all_answered(
    vllm: Vllm, model: ServedCheckpoint
) -> None:
    assert vllm.served is not None
    assert "--no-enable-chunked-prefill: prompts are read whole" in vllm.served.errors
    assert "--enforce-eager: with weights of" in vllm.served.errors
    answers: dict[int, Completion] = {}

    async def ask(number: int) -> None:
        conversation = model.conversation()
        conversation.add(Message("user", f"{number} " + "oak " * WORDS))
        answers[number] = await conversation.complete(max_tokens=8, seed=number)

    async with anyio.create_task_group() as group:
        for number in range(REQUESTS):
            group.start_soon(ask, number)
    assert len(answers) == REQUESTS
    assert all(answer.usage.prompt_tokens > TOKENS for answer in answers.values())
    again = answers[0].text
    await ask(0)
    assert answers[0].text == again, "the same seed gives the same answer"
    assert answers[0].usage.cached_tokens > 0, "vLLM says how much of the prompt it had in its cache"
