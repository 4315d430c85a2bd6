"""The reference solvers of DeepDive-Synth, run as real agents in a real sandbox."""

from __future__ import annotations

from typing import Any

import pytest

from rao_rl.envs import Mode
from rao_rl.envs.deepdive import DeepDiveSynth
from rao_rl.imitation.expert import ExpertModel
from rao_rl.imitation.prompting import MINIMAL
from rao_rl.rollouts.attempt import rollout
from recursive_agent import Status

CHARACTERS = 3
"""In a token, at least: made-up names take more tokens than words do (4.1 measured, with the tokenizer of SmolLM2)."""
CAP = 1024
"""Tokens of one agent's conversation that all levels are meant for, where agents delegate."""


def slow(level: str) -> Any:
    return pytest.param(level, marks=pytest.mark.slow)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # the tools are tested on both loops elsewhere


@pytest.mark.anyio
@pytest.mark.parametrize(
    "level", [DeepDiveSynth().levels[0], *map(slow, DeepDiveSynth().levels[1:-1]), DeepDiveSynth().levels[-1]]
)
@pytest.mark.parametrize("mode", ["recursive", "single"])
async def test_the_reference_solver_succeeds_at_every_node(mode: Mode, level: str) -> None:
    environment = DeepDiveSynth(mode=mode)
    hops = int(level[0])
    for task in environment.tasks("validation", 0, level, 2):
        expert = next(iter(environment.demonstrations())).expert
        result = await rollout(environment, task, ExpertModel(expert, MINIMAL))
        assert result.status is Status.FINISHED, result.reason
        nodes = list(result.tree.nodes.values())
        assert {node.score for node in nodes} == {1.0}
        assert len(nodes) == (2 * hops - 1 if mode == "recursive" else 1)
        assert result.tree.concurrent_share == 0.0  # every hop needs the one before
        if mode == "recursive":
            assert result.tree.max_depth <= 3
            assert max(sum(len(m.content) for m in node.conversation()) for node in nodes) <= CAP * CHARACTERS


def test_demonstrations_are_training_tasks_of_all_levels() -> None:
    environment = DeepDiveSynth()
    shown = [demonstration.task for _, demonstration in zip(range(40), environment.demonstrations(4), strict=False)]
    assert shown == list(environment.tasks("train", 4, limit=40))
    assert {task.level for task in shown} == set(environment.levels)


@pytest.mark.anyio
async def test_an_expert_that_finds_nothing_says_so_and_scores_0() -> None:
    environment = DeepDiveSynth(mode="single")
    (task,) = environment.tasks("validation", 1, "2-hop", 1)

    def careless(goal: str, context: object) -> list[str]:
        return ["found = await search_web('\"\" OR ( NEAR', 3)\nfinish(found['results'])"]

    result = await rollout(environment, task, ExpertModel(careless, MINIMAL))
    assert result.output == []
    assert result.tree.root.score == 0.0
