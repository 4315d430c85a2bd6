"""Tasks: solvable, reproducible, of the stated sizes and depth, and never shared between training and testing."""

import json
import os
import statistics
import subprocess
import sys
from dataclasses import asdict
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rao_rl.envs import Task
from rao_rl.envs.textcraft import (
    LEVELS,
    TextCraft,
    make_world,
    parse_goal,
    perfect_crafts,
    plain_needs,
    solve,
    solve_perfectly,
    tree_nodes,
)
from rao_rl.envs.textcraft.names import Naming
from rao_rl.envs.textcraft.solver import Unsolvable, generous_needs
from rao_rl.envs.textcraft.tasks import SPLITS, WORLDS, Inventory, Split, world_seed
from recursive_agent import ConfigurationError

from .worlds import SMALL, small_session


@pytest.mark.parametrize("names", ["words", "fixed"])
def test_the_splits_have_the_authors_sizes(names: Naming) -> None:
    environment = TextCraft(names=names)
    for split, sizes in (("train", (588, 852, 544, 538)), ("test", (147, 213, 136, 136))):
        tasks = list(environment.tasks(split, 3))
        assert [sum(task.level == level for task in tasks) for level in LEVELS] == list(sizes)
        assert len({(task.data["world"], task.goal) for task in tasks}) == len(tasks)
        assert len({task.id for task in tasks}) == len(tasks)


@pytest.mark.parametrize("level", LEVELS)
def test_targets_have_the_depth_and_the_counts_of_their_level(level: str) -> None:
    tiers = {"easy": {2, 3}, "medium": {4, 5, 6}, "hard": {7, 8, 9}, "extreme": {10, 11, 12}}[level]
    counts = {1, 2, 3} if level in ("easy", "medium") else {1, 2}
    seen = set()
    for task in TextCraft().tasks("test", 0, level=level):
        ((item, count),) = (parse_goal(task.goal) or {}).items()
        assert task.level == level
        assert task.data["targets"] == {item: count}
        seen.add((make_world(task.data["world"]).tiers[item], count))
    assert seen == {(tier, count) for tier in tiers for count in counts}


@pytest.mark.parametrize("level", LEVELS)
def test_a_perfect_solution_is_about_as_long_as_in_the_paper(level: str) -> None:
    low, high = {"easy": (3.2, 5.0), "medium": (17, 27), "hard": (75, 105), "extreme": (150, 215)}[level]
    tasks = TextCraft().tasks("test", 0, level=level)
    lengths = [len(perfect_crafts(make_world(task.data["world"]), task.data["targets"])) for task in tasks]
    assert low < statistics.mean(lengths) < high


def test_needs_worked_out_by_hand() -> None:
    """One wheel takes a gear and a frame; a gear comes in twos and takes two frames; frames come in threes, a beam each."""
    wheel = {"pine_wheel": 1}
    assert tree_nodes(SMALL, wheel) == {
        ("pine_wheel", 1): 1,
        ("copper_gear", 1): 1,
        ("oak_frame", 2): 1,
        ("oak_frame", 1): 1,
    }
    assert plain_needs(SMALL, wheel) == {"oak_beam": 6, "iron_rod": 1}
    assert perfect_crafts(SMALL, wheel) == [("oak_frame", 3), ("copper_gear", 2), ("pine_wheel", 1)]
    assert generous_needs(SMALL, wheel) == {"oak_beam": 9, "iron_rod": 1}
    assert plain_needs(SMALL, {"copper_gear": 3}) == {"oak_beam": 6, "iron_rod": 2}
    assert generous_needs(SMALL, {"copper_gear": 3, "iron_rod": 2}) == {"oak_beam": 18, "iron_rod": 5}


@pytest.mark.anyio
async def test_the_solver_says_when_there_is_not_enough() -> None:
    """Five beams suffice for one batch of frames, which a perfect solution makes do with and plain recursion does not."""
    session = small_session(oak_beam=5, iron_rod=1)
    with pytest.raises(Unsolvable, match="3x oak_beam needed, 2 in the inventory"):
        await solve(session, {"pine_wheel": 1})
    await solve_perfectly(small_session(oak_beam=5, iron_rod=1), {"pine_wheel": 1})


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(["generous", "tight"]), st.sampled_from(["train", "validation", "test"]))
def test_every_task_has_what_plain_recursion_needs(seed: int, inventory: Inventory, split: str) -> None:
    environment = TextCraft(inventory=inventory)
    for level in LEVELS:
        for task in environment.tasks(split, seed, level=level, limit=12):
            world = make_world(task.data["world"])
            have = task.data["inventory"]
            needs = plain_needs(world, task.data["targets"])
            assert all(have[item] >= need for item, need in needs.items())
            assert all(world.is_base(item) for item in have)
            if inventory == "tight":
                assert have.keys() == needs.keys()
                assert all(have[item] <= need + 3 for item, need in needs.items())
            else:
                formula = generous_needs(world, task.data["targets"])
                extra = {item: count - formula.get(item, 0) for item, count in have.items()}
                assert all(
                    0 <= more <= max(1, formula[item] // 2 if item in formula else 0) + 15
                    for item, more in extra.items()
                )
                assert len(have.keys() - formula.keys()) <= 3


@pytest.mark.anyio
@pytest.mark.parametrize("inventory", ["generous", "tight"])
@pytest.mark.parametrize("level", ["easy", "medium", "hard"])
async def test_plain_recursion_through_the_tools_succeeds_at_every_node(level: str, inventory: Inventory) -> None:
    environment = TextCraft(inventory=inventory)
    for task in environment.tasks("test", 1, level=level, limit=6):
        session = environment.session(task)
        nodes = await solve(session, task.data["targets"])
        assert len(nodes) == tree_nodes(session.world, task.data["targets"]).total()
        assert max(node.id.count(".") for node in nodes) < environment.max_depth
        assert {await session.score(node) for node in nodes} == {1.0}


@pytest.mark.anyio
@pytest.mark.parametrize("inventory", ["generous", "tight"])
@pytest.mark.parametrize("level", LEVELS)
async def test_one_agent_through_the_tools_succeeds(level: str, inventory: Inventory) -> None:
    environment = TextCraft(inventory=inventory, mode="single")
    for task in environment.tasks("test", 0, level=level):  # every one of them
        session = environment.session(task)
        (root,) = await solve_perfectly(session, task.data["targets"])
        assert root.goal == task.goal
        assert await session.score(root) == 1.0


@given(st.integers(), st.integers())
def test_no_two_splits_share_a_world(one: int, other: int) -> None:
    worlds = [{world_seed(split, seed, index) for seed in (one, other) for index in range(20)} for split in SPLITS]
    assert not any(first & second for first, second in combinations(worlds, 2))


@pytest.mark.parametrize("split", SPLITS)
def test_tasks_come_from_the_worlds_of_their_split(split: Split) -> None:
    worlds = {world_seed(split, 11, index) for index in range(WORLDS[split])}
    assert {task.data["world"] for task in TextCraft().tasks(split, 11, limit=30)} <= worlds


def test_the_fixed_world_shares_no_target_between_training_and_testing() -> None:
    environment = TextCraft(names="fixed")
    train, test = ({next(iter(t.data["targets"])) for t in environment.tasks(split, 5)} for split in ("train", "test"))
    assert not train & test
    # Whatever the seeds: it only shuffles.
    assert {t.goal for t in environment.tasks("test", 6)} == {t.goal for t in environment.tasks("test", 5)}


def test_training_draws_on_many_worlds() -> None:
    tasks = list(TextCraft().tasks("train", 0, level="medium", limit=64))
    assert len({task.data["world"] for task in tasks}) == 64


def test_a_session_starts_from_the_task_and_leaves_it_alone() -> None:
    environment = TextCraft()
    (task,) = environment.tasks("test", 0, limit=1)
    first, second = environment.session(task), environment.session(task)
    first.inventory.clear()
    assert second.inventory == task.data["inventory"] != {}


def test_modes_and_inventories_pose_the_same_goals() -> None:
    def goals(environment: TextCraft) -> list[str]:
        return [task.goal for task in environment.tasks("test", 4, limit=20)]

    assert goals(TextCraft()) == goals(TextCraft(mode="single")) == goals(TextCraft(inventory="tight"))


def test_a_limit_takes_the_first_tasks_and_asks_for_more_than_the_authors_have() -> None:
    environment = TextCraft()
    easy = list(environment.tasks("test", 0, level="easy"))
    assert list(environment.tasks("test", 0, level="easy", limit=5)) == easy[:5]
    assert list(environment.tasks("test", 0, level="easy", limit=200))[:147] == easy
    assert list(environment.tasks("test", 0, limit=0)) == []


_DIGEST = """
import hashlib, itertools, json, random
from dataclasses import asdict
from rao_rl.envs.textcraft import TextCraft, demonstrations
lines = [json.dumps(asdict(t)) for n in ("words", "fixed") for t in TextCraft(names=n).tasks("train", 7, limit=8)]
stream = demonstrations(random.Random(7), levels=("easy",), drop_child=0.3, wrong_count=0.3)
lines += [json.dumps(asdict(d)) for d in itertools.islice(stream, 50)]
text = "\\n".join(lines).replace('"level": ', '"difficulty": ')  # its name when the digest was taken
print(hashlib.sha256(text.encode()).hexdigest())
"""


def test_the_same_seed_gives_the_same_everywhere() -> None:
    """Across processes with different string hashing; the digest stands for other machines and Python versions too."""
    digests = {
        subprocess.run(
            [sys.executable, "-c", _DIGEST],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert digests == {DIGEST}


DIGEST = "8a666ce22fe8a6f503ebc61f64117d8c9c8029df445eb308b75b09d22d7860fd"


def test_tasks_are_plain_data() -> None:
    (task,) = TextCraft().tasks("train", 0, limit=1)
    assert Task(**json.loads(json.dumps(asdict(task)))) == task


@pytest.mark.parametrize(
    ("names", "arguments", "message"),
    [
        ("words", {"split": "dev"}, "train, validation, test"),
        ("fixed", {"split": "validation"}, "train, test"),
        ("words", {"split": "test", "level": "epic"}, "easy, medium, hard, extreme"),
        ("words", {"split": "test", "limit": -1}, "negative"),
    ],
)
def test_wrong_arguments_are_named_at_once(names: Naming, arguments: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        TextCraft(names=names).tasks(seed=0, **arguments)  # type: ignore[arg-type]


def test_more_tasks_than_there_are_is_an_error() -> None:
    environment = TextCraft()
    with pytest.raises(ConfigurationError, match="only 23520 different easy tasks"):
        list(environment.tasks("test", 0, level="easy", limit=23521))


@pytest.mark.anyio
async def test_a_goal_of_ones_own_becomes_a_task() -> None:
    environment = TextCraft(inventory="tight")
    world = make_world(environment.task(_own_goal(environment), 9).data["world"])
    item, other = world.by_tier[3][0], world.by_tier[2][0]
    task = environment.task(f"Craft the following items: 2x {item}, 1x {other}", 9)
    session = environment.session(task)
    assert {await session.score(node) for node in await solve(session, task.data["targets"])} == {1.0}


def _own_goal(environment: TextCraft) -> str:
    return next(iter(environment.tasks("test", 9, level="easy", limit=1))).goal


@pytest.mark.parametrize("goal", ["plan a trip", "Craft the following items: 1x m0_i0"])
def test_a_goal_that_makes_no_sense_here_is_a_clear_error(goal: str) -> None:
    with pytest.raises(ConfigurationError, match=r"a goal reads like|can, for instance"):
        TextCraft().task(goal)
