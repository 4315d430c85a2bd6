"""Demonstrations: really executed, in the documented style, and varied enough to learn every height from."""

import asyncio
import random
import statistics
from collections import Counter
from itertools import islice

import pytest

from rao_rl.envs.textcraft import TextCraft, demonstrate, demonstrations, parse_goal
from rao_rl.envs.textcraft.cells import Cells, step
from recursive_agent import ConfigurationError

from .worlds import SMALL, small_session


def test_a_node_looks_up_delegates_and_crafts() -> None:
    made = demonstrate(SMALL, {"pine_wheel": 2})
    assert made.goal == "Craft the following items: 2x pine_wheel"
    assert made.functions == ("get_info", "view_inventory", "craft", "launch_subagent", "finish")
    (first, seen), (second, end) = made.cells
    assert first == (
        "i,=await get_info(['pine_wheel'])\n"
        "r=i['recipes'][0]\n"
        "s=r['ingredients']\n"
        "w=[x['item'] for x in await get_info(list(s)) if not x['is_base']]\n"
        "{i:s[i] for i in w},{i:s[i] for i in s if i not in w},r['yields']"
    )
    assert seen == "({'copper_gear': 1, 'oak_frame': 1}, {}, 1)"
    assert second == (
        "k=-(-2//1)\n"
        "w={'copper_gear': 1, 'oak_frame': 1}\n"
        "await asyncio.gather(*[launch_subagent(f'Craft the following items: {n*k}x {i}') for i,n in w.items()])\n"
        "finish(await craft({i:n*k for i,n in (w|{}).items()},('pine_wheel',1*k)))"
    )
    assert end is None
    assert made.success


def test_a_leaf_crafts_at_once() -> None:
    made = demonstrate(SMALL, {"oak_frame": 4})
    assert made.cells[0][1] == "({}, {'oak_beam': 3}, 3)"
    assert made.cells[1][0] == (
        "k=-(-4//3)\nfinish(await craft({i:n*k for i,n in {'oak_beam': 3}.items()},('oak_frame',3*k)))"
    )


def test_a_goal_of_several_items_is_split() -> None:
    made = demonstrate(SMALL, {"copper_gear": 2, "oak_frame": 1})
    assert made.cells == [
        (
            "finish(await asyncio.gather(launch_subagent('Craft the following items: 2x copper_gear'),"
            "launch_subagent('Craft the following items: 1x oak_frame')))",
            None,
        )
    ]
    assert made.success


def test_a_single_agent_goes_depth_first_and_crafts_as_soon_as_it_can() -> None:
    made = demonstrate(SMALL, {"pine_wheel": 2}, mode="single")
    assert made.functions == ("get_info", "view_inventory", "craft", "finish")
    own_lines = [text.partition("i,=await")[0] for text, _ in made.cells]
    assert own_lines == [
        "",
        "a=-(-2//1)\nA={'copper_gear': 1, 'oak_frame': 1}|{}\n",
        "b=-(-A['copper_gear']*a//2)\nB={'oak_frame': 2}|{'iron_rod': 1}\n",
        "c=-(-B['oak_frame']*b//3)\n"
        "await craft({i:n*c for i,n in {'oak_beam': 3}.items()},('oak_frame',3*c))\n"
        "await craft({i:n*b for i,n in B.items()},('copper_gear',2*b))\n",
        "b=-(-A['oak_frame']*a//3)\n"
        "await craft({i:n*b for i,n in {'oak_beam': 3}.items()},('oak_frame',3*b))\n"
        "finish(await craft({i:n*a for i,n in A.items()},('pine_wheel',1*a)))",
    ]
    assert [seen for _, seen in made.cells][-2:] == ["({}, {'oak_beam': 3}, 3)", None]
    assert made.success


@pytest.mark.parametrize("names", ["words", "fixed"])
@pytest.mark.parametrize("mode", ["recursive", "single"])
def test_without_noise_every_demonstration_succeeds(mode: str, names: str) -> None:
    stream = demonstrations(
        random.Random(3),
        mode="single" if mode == "single" else "recursive",
        names="fixed" if names == "fixed" else "words",
        levels=("easy", "medium"),
        several=0.1,
    )
    for made in islice(stream, 60):
        assert made.success
        assert parse_goal(made.goal)
        assert [seen is None for _, seen in made.cells] == [False] * (len(made.cells) - 1) + [True]


def test_single_demonstrations_of_real_tasks_succeed_at_any_depth() -> None:
    environment = TextCraft()
    for level in ("easy", "medium", "hard"):
        for task in environment.tasks("test", 0, level=level, limit=2):
            session = environment.session(task)
            made = demonstrate(session.world, task.data["targets"], mode="single")
            repl = Cells(session, task.goal)
            assert [repl.run(text) for text, _ in made.cells] == [seen for _, seen in made.cells]
            assert step(repl.score()) == 1.0


def test_noise_fails_about_as_often_as_it_should() -> None:
    """A dropped child always ruins a delegation, a count too small nearly always."""
    made = list(islice(demonstrations(random.Random(5), levels=("medium",), drop_child=0.5), 600))
    delegating = [one for one in made if "gather" in one.cells[-1][0] or not one.success]
    assert 0.4 < 1 - statistics.mean(one.success for one in delegating) < 0.6
    wrong = list(islice(demonstrations(random.Random(5), levels=("medium",), wrong_count=1.0), 600))
    assert 0.05 < 1 - statistics.mean(one.success for one in wrong) < 0.9


def test_balanced_nodes_show_every_height_equally() -> None:
    made = Counter(one.tier for one in islice(demonstrations(random.Random(1), several=0.0), 1800))
    assert set(made) == set(range(1, 10))
    assert max(made.values()) < 2 * min(made.values())
    natural = Counter(one.tier for one in islice(demonstrations(random.Random(1), balance=False, several=0.0), 900))
    assert natural[1] > 3 * natural[7]


def test_recipes_and_counts_vary_at_every_height() -> None:
    sizes: dict[int, set[int]] = {}
    yields, counts = set(), set()
    for made in islice(demonstrations(random.Random(2), several=0.0), 3000):
        parts, base, units = eval(made.cells[0][1] or "")
        sizes.setdefault(made.tier, set()).add(len(parts | base))
        yields.add(units)
        counts |= set((parse_goal(made.goal) or {}).values())
    assert all(seen >= {1, 2, 3, 4, 5, 6} for seen in sizes.values())
    assert yields == {1, 2, 3, 4}
    assert counts >= set(range(1, 13))


def test_max_turns_leaves_the_long_ones_out() -> None:
    stream = demonstrations(random.Random(4), mode="single", levels=("easy", "medium"), max_turns=12)
    assert max(len(made.cells) for made in islice(stream, 40)) <= 12


def test_wrong_settings_are_refused_at_once() -> None:
    with pytest.raises(ConfigurationError, match="at least one level"):
        demonstrations(random.Random(0), levels=())
    with pytest.raises(ConfigurationError, match="easy, medium, hard, extreme"):
        demonstrations(random.Random(0), levels=("epic",))


def test_a_cell_that_waits_is_a_bug_and_says_so() -> None:
    cells = Cells(small_session(), "")
    cells._names["sleep"] = asyncio.sleep
    with pytest.raises(RuntimeError, match="waited"):
        cells.run("await sleep(0)")
