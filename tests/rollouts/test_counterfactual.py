"""Further children at launches: which launches, in what situation, and none of them twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from rao_rl.credit.counterfactual import launch_of
from rao_rl.envs import Task
from rao_rl.rollouts import batches
from rao_rl.rollouts.batches import CollectConfig, Collector
from recursive_agent.errors import ConfigurationError
from recursive_agent.repl import make_sandbox
from recursive_agent.testing import Request, ScriptedEndpoint
from recursive_agent.trace.tree import ExecutionTree, Node

from ..envs.coins import Coins
from .test_many import model_at

pytestmark = pytest.mark.anyio

CELLS = {
    "Sum the parts": (
        "a = await launch_subagent('Add', context={'numbers': [1, 2]}, returns=int)\n"
        "b = await launch_subagent('Add', context={'numbers': [3]}, returns=int, max_steps=1)\n"
        "finish(a + b)"
    ),
    "Add": "finish(await launch_subagent('Leaf', context=context) + sum(context['numbers']))",
    "Leaf": "finish(0)",
}


class Parts:
    """A root that launches two agents, which launch one each: the last level."""

    name = "parts"
    max_depth = 2
    splits = ("train",)
    levels = ("any",)
    tools = ()

    def tasks(self, split: str, seed: int = 0, level: str | None = None, limit: int | None = None) -> list[Task]:
        return [Task(id="parts", goal="Sum the parts", level="any")]

    def task(self, goal: str, seed: int = 0) -> Task:
        return Task(id=goal, goal=goal)

    def session(self, task: Task) -> Parts:
        return self

    async def score(self, node: Node) -> float | None:
        return float(node.finished)

    def subtask(self, task: Task, tree: ExecutionTree, node: Node) -> Task | None:
        return Task(id=f"{task.id}/{node.id}", goal="not what the node was asked", data={"of": tree.run})


CONFIG = CollectConfig(
    tasks_per_step=1, num_generations=2, level="any", counterfactual_children=3, counterfactual_launches=5
)


def answer(request: Request) -> str:
    return f"```python\n{next(cell for goal, cell in CELLS.items() if goal in request.first)}\n```"


@pytest.fixture
async def endpoint() -> AsyncIterator[ScriptedEndpoint]:
    async with ScriptedEndpoint(answer) as endpoint:
        yield endpoint


async def roll(endpoint: ScriptedEndpoint, folder: Path, **changes: Any) -> list[ExecutionTree]:
    model = model_at(endpoint)
    try:
        batch = await Collector(Parts(), model, CONFIG, folder).batch(0)
        assert not batch.lost.total()
        return batch.trees
    finally:
        await model.aclose()


async def test_launches_in_a_situation_like_a_root_s_get_further_children(
    endpoint: ScriptedEndpoint, tmp_path: Path
) -> None:
    trees = await roll(endpoint, tmp_path)
    attempts, further = trees[:2], trees[2:]
    assert [launch_of(tree.group) for tree in attempts] == [None, None]
    # 0.1 has limits of its own, and 0.0.0 and 0.1.0 stand at the last level.
    assert Counter(launch_of(tree.group) for tree in further) == {(tree.run, "0.0"): 3 for tree in attempts}
    assert len({tree.seed for tree in trees}) == len(trees)
    for tree in further:
        launched = attempts[0].nodes["0.0"]
        assert (tree.root.goal, tree.root.context, tree.root.returns) == ("Add", {"numbers": [1, 2]}, launched.returns)
        assert tree.limits["max_depth"] == 1
        assert list(tree.nodes) == ["0", "0.0"]
        assert (tree.root.result, tree.root.score) == (3, 1.0)


async def test_what_is_recorded_is_not_rolled_out_again(endpoint: ScriptedEndpoint, tmp_path: Path) -> None:
    first = await roll(endpoint, tmp_path)
    removed = next(path for path in sorted(tmp_path.rglob("*.jsonl")) if first[-1].run in path.read_text())
    removed.unlink()
    calls = len(endpoint.requests)
    again = await roll(endpoint, tmp_path)
    assert [(tree.group, tree.seed) for tree in again] == [(tree.group, tree.seed) for tree in first]
    assert [tree.run for tree in again][:-1] == [tree.run for tree in first][:-1]
    assert len(endpoint.requests) == calls + 2


async def test_each_folder_is_read_once_though_attempts_of_several_are_in_flight(
    endpoint: ScriptedEndpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    plain = batches.read_recorded

    def noted(folder: Path) -> dict[tuple[str, int], ExecutionTree]:
        read.append(folder.name)
        return plain(folder)

    monkeypatch.setattr(batches, "read_recorded", noted)
    model = model_at(endpoint)
    collector = Collector(Parts(), model, CONFIG, tmp_path)
    try:
        async with make_sandbox("process") as sandbox, collector.flow(sandbox, staleness=1) as flow:
            await flow.take()
            assert read == ["000000", "000001"]
    finally:
        await model.aclose()


def test_an_environment_without_sub_tasks_is_refused() -> None:
    nobody: Any = None
    with pytest.raises(ConfigurationError, match="an environment with a method `subtask`, which coins does not have"):
        Collector(Coins(), nobody, CONFIG, Path("nowhere"))
