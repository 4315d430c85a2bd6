"""What holds for every environment whose tasks are generated and whose agents are all scored exactly."""

from __future__ import annotations

from itertools import islice
from typing import Any

import anyio
import pytest

from rao_rl.envs import Mode, Task, UnknownGoal, make
from rao_rl.envs.generated import Generated, same
from rao_rl.envs.registry import about
from recursive_agent import ConfigurationError, Status

from .solving import Answered, digest, longest, solved

ENVIRONMENTS = ("algebra", "dialogue", "maze", "sequence")
DIGESTS = {
    "dialogue": "99b8cbe2e1b93fc5",
    "algebra": "c0069b42eb0ebb5a",
    "maze": "ad67f164eb2bee1b",
    "sequence": "a84a3a94b13df00e",
}
LONGEST = {"dialogue": 2600, "algebra": 800, "maze": 800, "sequence": 300}
"""Characters of the longest conversation of one agent of the reference solver, in any level and mode."""


def environment(name: str, mode: Mode = "recursive") -> Generated:
    made = make(name, mode=mode)
    assert isinstance(made, Generated)
    return made


@pytest.mark.parametrize("mode", ["recursive", "single"])
@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_the_reference_solver_is_right_at_every_agent_of_every_level(name: str, mode: Mode) -> None:
    env = environment(name, mode)
    split = "test"
    tasks = [task for level in env.levels_of(split) for task in env.tasks(split, 5, level=level, limit=2)]
    trees = anyio.run(solved, env, mode, tasks)
    scores = {(tree.root.goal, node.goal): node.score for tree in trees for node in tree.walk() if node.score != 1.0}
    assert scores == {}
    assert max(tree.max_depth for tree in trees) == env.max_depth
    assert longest(trees) <= LONGEST[name]


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_tasks_are_the_same_on_every_machine_and_in_every_mode(name: str) -> None:
    assert digest(environment(name)) == digest(environment(name, "single")) == DIGESTS[name]


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_ids_are_unique_and_a_limit_only_shortens(name: str) -> None:
    env = environment(name)
    ids = [task.id for split in env.splits for seed in (0, 1) for task in env.tasks(split, seed, limit=40)]
    assert len(set(ids)) == len(ids)
    for split in env.splits:
        first = list(env.tasks(split, 1, limit=20))
        assert list(env.tasks(split, 1, limit=7)) == first[:7]
        assert {task.level for task in first} == set(env.levels_of(split))
        for level in env.levels_of(split):
            some = list(env.tasks(split, 1, level=level, limit=3))
            assert [task.id for task in some] == [f"{name}/{split}/1/{level}/{index}" for index in range(3)]
            assert {task.level for task in some} == {level}
    assert len(list(env.tasks("test", level=env.levels[0]))) == env.sizes["test"]
    assert len(list(env.tasks("test", level=env.levels[0], limit=70))) == 70
    assert list(env.tasks("test", limit=0)) == []


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_splits_and_seeds_share_no_task(name: str) -> None:
    env = environment(name)
    level = env.levels[0]
    data = [
        str(dict(task.data)) for split in env.splits for seed in (0, 1) for task in env.tasks(split, seed, level, 30)
    ]
    assert len(set(data)) == len(data)


@pytest.mark.parametrize("name", ENVIRONMENTS)
@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"split": "dev"}, "split must be one of train, validation, test, not 'dev'"),
        ({"split": "test", "level": "huge"}, "level of the split test must be one of"),
        ({"split": "test", "limit": -1}, "limit must not be negative"),
    ],
)
def test_wrong_arguments_are_refused_before_the_first_task(
    name: str, arguments: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"{name}: .*{complaint}"):
        environment(name).tasks(**arguments)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_a_wrong_mode_and_another_environments_task_are_configuration_errors(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{name}: mode must be one of single, recursive, not 'both'"):
        make(name, mode="both")
    with pytest.raises(ConfigurationError, match=f"{name}: the task 'foreign' was not made by this environment"):
        environment(name).session(Task(id="foreign", goal="g"))


@pytest.mark.parametrize("name", ENVIRONMENTS)
@pytest.mark.parametrize("goal", ["", "Do something.", "Craft the following items: 1x oak", "x" * 10_000])
def test_a_goal_of_another_kind_is_unknown(name: str, goal: str) -> None:
    with pytest.raises(UnknownGoal, match="a goal reads like"):
        environment(name).task(goal)


@pytest.mark.anyio
@pytest.mark.parametrize("name", ENVIRONMENTS)
async def test_malformed_goals_and_unfinished_agents_score_0_and_the_former_are_counted(name: str) -> None:
    env = environment(name)
    (task,) = env.tasks("test", limit=1)
    session = env.session(task)
    assert await session.score(Answered(goal=f" {task.goal}", result=1, id="0.0")) == 0.0
    assert await session.score(Answered(goal=task.goal, result=None, id="0.1", status=Status.STEP_LIMIT)) == 0.0
    assert session.unparsed == {"0.0"}


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_demonstrations_are_training_tasks_of_every_level(name: str) -> None:
    env = environment(name)
    shown = list(islice(env.demonstrations(3), 30))
    assert [each.task for each in shown] == list(env.tasks("train", 3, limit=30))
    assert {each.task.level for each in shown} == set(env.levels_of("train"))


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_it_says_what_it_is(name: str) -> None:
    said = about(name)
    assert said is not None
    assert set(said.sizes) == {"train", "validation", "test"}
    assert said.data is None


def test_answers_are_compared_with_their_types() -> None:
    assert same([1, "a", None], [1, "a", None])
    for found, gold in ((1.0, 1), (True, 1), (None, 0), ([1], [1, 1]), ([1, True], [1, 1]), ("1", 1), ([1], 1)):
        assert not same(found, gold)
