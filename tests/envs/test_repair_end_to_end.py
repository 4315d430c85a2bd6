"""The reference solver as real agents in real sandboxes: every agent meets its goal, in both modes and at each level."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rao_rl.envs import Demonstrating, Mode, make
from rao_rl.envs.repair.experts import expert_for
from rao_rl.imitation.expert import ExpertModel
from rao_rl.imitation.prompting import MINIMAL
from rao_rl.rollouts.attempt import AttemptSettings, rollout

LARGEST = 4_500
"""Characters of the longest conversation; about 1,500 tokens."""


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("mode", "level"),
    [
        ("recursive", "small"),
        ("recursive", "medium"),
        ("single", "small"),
        pytest.param("single", "medium", marks=pytest.mark.slow),
        pytest.param("recursive", "large", marks=pytest.mark.slow),
        pytest.param("single", "large", marks=pytest.mark.slow),
    ],
)
async def test_every_agent_of_the_reference_solver_meets_its_goal(mode: Mode, level: str, anyio_backend: str) -> None:
    environment = make("repair", mode=mode)
    split = {"asyncio": "train", "trio": "test"}[anyio_backend]
    (task,) = environment.tasks(split, 2, level, 1)
    result = await rollout(environment, task, ExpertModel(expert_for(mode), MINIMAL), AttemptSettings(mode=mode))
    assert {(node.goal, node.status, node.score) for node in result.tree.walk() if node.score != 1.0} == set()
    kinds = {node.goal.split()[0] for node in result.tree.walk()}
    everything = {"Repair", "Find", "Mend", "Explain"} | ({"Write"} if level != "small" else set())
    assert kinds == (everything if mode == "recursive" else {"Repair"})
    for node in result.tree.walk():
        calls = [step.model for step in node.steps if step.model is not None]
        assert sum(len(call.text) + sum(len(one.content) for one in call.messages) for call in calls) < LARGEST


@pytest.mark.anyio
async def test_the_reference_solver_reads_what_cells_show_in_any_style_of_prompt() -> None:
    environment = make("repair")
    (task,) = environment.tasks("train", 5, "small", 1)
    model = ExpertModel(expert_for("recursive"), replace(MINIMAL, style="rich"))
    result = await rollout(environment, task, model, AttemptSettings())
    assert {node.score for node in result.tree.walk()} == {1.0}


def test_demonstrations_are_training_tasks_of_all_levels() -> None:
    environment = make("repair")
    assert isinstance(environment, Demonstrating)
    shown = [one.task for one, _ in zip(environment.demonstrations(1), range(8), strict=False)]
    assert len({task.level for task in shown}) > 1
    assert all(task.id.startswith("repair/train/") for task in shown)
