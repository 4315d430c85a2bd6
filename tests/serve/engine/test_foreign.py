"""Models that rao did not write, behind HTTP through torch: the same answers as the model's own forward pass gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest
import torch

from rao_rl.weights.folder import open_folder
from recursive_agent import Agent, Limits
from recursive_agent.model.served import ServedCheckpoint
from tests.weights.foreign import CHATML, NO_SYSTEM, REWRITES, write_foreign

from .engines import served

pytestmark = pytest.mark.anyio

MESSAGES: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "say hello"}]


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gpt2", "mistral"])
async def test_completions_and_chat_are_exact_greedy_and_seeded(kind: str, tmp_path: Path) -> None:
    policy = write_foreign(tmp_path, kind)
    async with served(open_folder(tmp_path)) as engine:
        prompt = engine.model.renderer.encode([])  # the generation prompt alone
        for settings in ({"temperature": 0.0}, {"temperature": 0.8, "seed": 3}):
            asked: Any = {"prompt": prompt, "max_tokens": 8, "logprobs": 1, **settings}
            first, again = await engine.choice(**asked), await engine.choice(**asked)
            assert first == again
            ids = prompt + first["token_ids"]
            with torch.no_grad():
                logits = policy(torch.tensor([ids])).logits[0, len(prompt) - 1 : -1].double()
            logprobs = torch.log_softmax(logits / (settings["temperature"] or 1.0), -1)
            expected = logprobs.gather(1, torch.tensor(first["token_ids"])[:, None])[:, 0].tolist()
            assert first["logprobs"]["token_logprobs"] == pytest.approx(expected, abs=1e-3)
            if not settings["temperature"]:
                assert first["token_ids"] == logits.argmax(-1).tolist()
        body = {"messages": MESSAGES, "max_tokens": 8, "temperature": 0, "return_token_ids": True, "logprobs": True}
        chat = (await engine.post("/v1/chat/completions", **body)).json()
        same = await engine.choice(prompt=chat["prompt_token_ids"], max_tokens=8, temperature=0)
        assert same["token_ids"] == chat["choices"][0]["token_ids"]
        assert len(chat["choices"][0]["logprobs"]["content"]) == len(same["token_ids"])


async def test_a_crowd_is_sampled_in_one_batch_and_nobody_differs_from_alone(tmp_path: Path) -> None:
    write_foreign(tmp_path)
    asked: list[dict[str, Any]] = [
        {"prompt": [5 + n % 50, *range(10, 12 + n)], "max_tokens": 6, "seed": n} for n in range(40)
    ]
    model = open_folder(tmp_path, max_batch=40)
    together: dict[int, list[int]] = {}
    async with served(model, max_concurrency=40) as engine:

        async def one(number: int) -> None:
            together[number] = (await engine.choice(**asked[number]))["token_ids"]

        async with anyio.create_task_group() as group:
            for number in range(len(asked)):
                group.start_soon(one, number)
        for number in (0, 7, 39):
            assert together[number] == (await engine.choice(**asked[number]))["token_ids"]


@pytest.mark.parametrize("template", [CHATML, NO_SYSTEM, REWRITES, None])
async def test_an_agent_works_over_such_a_server_by_the_folder(template: str | None, tmp_path: Path) -> None:
    write_foreign(tmp_path / "model", template=template, max_position_embeddings=8192)
    async with served(open_folder(tmp_path / "model")) as engine:
        model = ServedCheckpoint(tmp_path / "model", f"{engine.url}/v1", "none")
        limits = Limits(max_steps=2, max_agents=1)
        try:
            async with Agent(model, limits=limits, require=None, sampling={"max_tokens": 6}) as agent:
                result = await agent.solve("say hello", seed=1)
        finally:
            await model.aclose()
    calls = [step.model for step in result.tree.root.steps if step.model]
    assert len(calls) == 2
    assert all(call.token_ids and len(call.token_ids) == len(call.logprobs or ()) for call in calls)
