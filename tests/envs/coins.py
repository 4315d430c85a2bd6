"""An environment that a random policy can learn on: every answer is scored by the parity of what was sampled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from rao_rl.envs.base import Session, Task
from rao_rl.imitation.policy import Architecture
from rao_rl.rollouts.attempt import ROLLOUT_LIMITS, AttemptSettings, agent_for
from rao_rl.weights.checkpoint import write_checkpoint
from recursive_agent.checkpoint import CheckpointSettings
from recursive_agent.errors import ModelError
from recursive_agent.model.base import OnText
from recursive_agent.model.batching import Request
from recursive_agent.model.embedded import EmbeddedModel
from recursive_agent.trace.tree import Node

from ..train.policies import make_checkpoint, make_tokenizer

SMALLEST = Architecture(vocabulary=640, width=16, layers=1, heads=1, head_width=16, feed_forward=16, context_length=256)


class Toss:
    """One attempt. Its score depends on the sampled tokens alone, so the same samples always score the same."""

    tools = ()

    async def score(self, node: Node) -> float | None:
        sampled = [token for step in node.steps if step.model is not None for token in step.model.token_ids or ()]
        return float(sum(sampled) % 2)


class Coins:
    """`count` tasks of level `fair`, and none of any other."""

    name = "coins"
    max_depth = 1
    splits = ("train", "test")
    levels = ("fair",)

    def __init__(self, count: int = 5) -> None:
        self.count = count

    def tasks(self, split: str, seed: int = 0, level: str | None = None, limit: int | None = None) -> Iterable[Task]:
        numbers = range(self.count if level in (None, "fair") else 0)[:limit]
        return [Task(id=f"{split}/{number}", goal=f"Toss coin {number}", level="fair") for number in numbers]

    def task(self, goal: str, seed: int = 0) -> Task:
        return Task(id=f"own/{goal}", goal=goal)

    def session(self, task: Task) -> Session:
        return Toss()


COLLECT: Mapping[str, Any] = {"level": "fair", "tasks_per_step": 1, "num_generations": 2, "max_steps": 2}
"""Settings under which a batch takes a fraction of a second."""


def smallest_checkpoint(directory: Path, tokenizer: Any = None) -> Path:
    """A random policy of one layer that answers in a dozen tokens."""
    make_checkpoint(directory, tokenizer or make_tokenizer(), shape=SMALLEST)
    return directory


class Watched(EmbeddedModel):
    """A sampler that counts its calls, and fails those that `fails` says."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.calls = 0
        self.under_way = 0
        self.most_under_way = 0

    def fails(self, call: int) -> ModelError | None:
        """What call number `call`, from 1, fails with."""
        return None

    async def sample(self, request: Request, on_text: OnText | None = None) -> None:
        self.calls += 1
        error = self.fails(self.calls)
        if error is not None:
            raise error
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await super().sample(request, on_text)
        finally:
            self.under_way -= 1


def taught_checkpoint(directory: Path) -> Path:
    """A policy that answers `finish(N)` with one of ten digits, most of the time: it finishes, and has something to learn."""
    tokenizer = make_tokenizer()
    policy = make_checkpoint(directory, tokenizer, shape=SMALLEST)
    prompts = [_prompt(directory, f"Toss coin {number}") for number in range(5)]
    ends = [[*tokenizer.encode(f"```python\nfinish({digit})\n```"), tokenizer.eos_token_id] for digit in range(10)]
    optimizer = torch.optim.AdamW(policy.parameters(), lr=2e-2)
    policy.train()
    for number in range(60):
        optimizer.zero_grad()
        for end in ends[number % 2 :: 2]:
            given = prompts[number % 5]
            logits = policy(torch.tensor([given + end])).logits[0, len(given) - 1 : -1]
            (torch.nn.functional.cross_entropy(logits, torch.tensor(end)) / 5).backward()
        optimizer.step()
    write_checkpoint(directory, policy.eval(), tokenizer, CheckpointSettings.load(directory))
    return directory


def _prompt(directory: Path, goal: str) -> list[int]:
    """What an agent with this goal is given, to the token."""
    agent = agent_for(
        Coins(),
        Toss(),
        EmbeddedModel(directory),
        AttemptSettings(limits=replace(ROLLOUT_LIMITS, max_steps=1)),
    )
    return list(agent.solve_sync(goal).tree.root.steps[0].model.prompt_token_ids)
