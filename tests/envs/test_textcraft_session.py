"""The tools and the ledger: what agents see, what they may do, and who is credited with it."""

from typing import Any

import anyio
import pytest

from rao_rl.envs.textcraft import format_goal
from rao_rl.envs.textcraft.solver import SolvedNode
from recursive_agent import Status
from recursive_agent.tools import ToolContext, tool_set

from .worlds import caller, small_session

pytestmark = pytest.mark.anyio


async def test_get_info_tells_all_about_items() -> None:
    session = small_session(iron_rod=4)
    assert await session.get_info(["copper_gear", "iron_rod"]) == [
        {
            "item": "copper_gear",
            "can_craft": True,
            "is_base": False,
            "in_inventory": 0,
            "crafting_depth": 2,
            "recipes": [{"ingredients": {"oak_frame": 2, "iron_rod": 1}, "yields": 2}],
        },
        {
            "item": "iron_rod",
            "can_craft": False,
            "is_base": True,
            "in_inventory": 4,
            "crafting_depth": 0,
            "recipes": [],
        },
    ]


async def test_get_info_of_an_unknown_item_says_so() -> None:
    (info,) = await small_session().get_info(["gold_gear"])
    assert info["error"] == "there is no item called 'gold_gear'"
    assert (info["can_craft"], info["is_base"], info["recipes"]) == (False, False, [])


async def test_an_agent_that_changes_what_it_was_told_changes_no_recipe() -> None:
    session = small_session(oak_frame=2, iron_rod=1)
    (info,) = await session.get_info(["copper_gear"])
    info["recipes"][0]["ingredients"].clear()
    (await session.view_inventory()).clear()
    assert await session.craft({"oak_frame": 2, "iron_rod": 1}, ("copper_gear", 2), ctx=caller()) == (
        "Crafted 2x copper_gear"
    )


async def test_craft_takes_the_ingredients_and_adds_the_product() -> None:
    session = small_session(oak_beam=7)
    assert await session.craft({"oak_beam": 6}, ("oak_frame", 6), ctx=caller()) == "Crafted 6x oak_frame"
    assert await session.view_inventory() == {"oak_beam": 1, "oak_frame": 6}
    await session.craft({"oak_frame": 2, "iron_rod": 1}, ("copper_gear", 2), ctx=caller())
    assert session.ledger.entries == [("0", "oak_frame", 6)]


@pytest.mark.parametrize(
    ("ingredients", "target", "message"),
    [
        ({"oak_beam": 3}, ("oak_frame", 4), "oak_frame is made 3 at a time: count must be a multiple of 3, not 4"),
        ({"oak_beam": 4}, ("oak_frame", 3), "3x oak_frame takes exactly {'oak_beam': 3}, not {'oak_beam': 4}"),
        ({}, ("oak_frame", 3), "3x oak_frame takes exactly {'oak_beam': 3}, not {}"),
        ({"oak_beam": 3, "iron_rod": 0}, ("oak_frame", 3), "takes exactly"),
        (["oak_beam"], ("oak_frame", 3), "takes exactly"),
        ({"oak_frame": 4, "iron_rod": 2}, ("copper_gear", 4), "4x oak_frame needed, 1 in the inventory"),
        ({"copper_gear": 1, "oak_frame": 1}, ("pine_wheel", 1), "1x copper_gear needed, 0 in the inventory"),
        ({}, ("iron_rod", 1), "iron_rod is a base item and cannot be crafted"),
        ({}, ("gold_gear", 1), "there is no item called 'gold_gear'"),
        ({}, (["oak_frame"], 1), "there is no item called ['oak_frame']"),
        ({}, ("oak_frame", 0), "the count of oak_frame must be a whole number of at least 1, not 0"),
        ({}, ("oak_frame", -3), "whole number"),
        ({}, ("oak_frame", "3"), "whole number"),
        ({}, ("oak_frame", True), "whole number"),
        ({}, "oak_frame", "target must be a pair (item, count), not 'oak_frame'"),
        ({}, ("oak_frame",), "target must be a pair"),
        ({}, None, "target must be a pair"),
    ],
)
async def test_a_craft_that_cannot_be_is_an_error_text_and_changes_nothing(
    ingredients: Any, target: Any, message: str
) -> None:
    session = small_session(oak_beam=9, iron_rod=2, oak_frame=1)
    before = dict(session.inventory)
    said = await session.craft(ingredients, target, ctx=caller())
    assert said.startswith("Error: ")
    assert message in said
    assert dict(session.inventory) == before
    assert session.ledger.entries == []


async def test_units_stay_whole_numbers_whatever_an_agent_passes() -> None:
    session = small_session(oak_beam=3)
    ingredients: Any = {"oak_beam": 3.0}
    assert await session.craft(ingredients, ("oak_frame", 3), ctx=caller()) == "Crafted 3x oak_frame"
    assert all(type(units) is int for units in session.inventory.values())


async def test_the_sdk_calls_the_tools_and_says_who_calls() -> None:
    session = small_session(oak_beam=3)
    tools = tool_set(session.tools)
    assert list(tools) == ["get_info", "view_inventory", "craft"]
    assert "ctx" not in tools["craft"].signature
    said = await tools["craft"].call(caller("0.1"), [{"oak_beam": 3}, ["oak_frame", 3]], {})
    assert said == "Crafted 3x oak_frame"
    assert session.ledger.entries == [("0.1", "oak_frame", 3)]
    assert await tools["view_inventory"].call(caller("0"), [], {}) == {"oak_frame": 3}


def node(id: str, goal: str, status: Status = Status.FINISHED) -> SolvedNode:
    return SolvedNode(id, goal, status)


async def test_interleaved_siblings_are_credited_with_their_own_work_only() -> None:
    """0.1 works, its sibling 0.10 uses the product up, 0.2 does nothing: whatever the order, each gets what it did."""
    session = small_session(oak_beam=6, iron_rod=1)
    frames, gears = format_goal({"oak_frame": 3}), format_goal({"copper_gear": 2})
    made, used = anyio.Event(), anyio.Event()

    async def maker() -> None:
        await session.craft({"oak_beam": 3}, ("oak_frame", 3), ctx=caller("0.1"))
        made.set()
        await used.wait()
        assert session.inventory["oak_frame"] == 1

    async def user() -> None:
        await made.wait()
        await session.craft({"oak_frame": 2, "iron_rod": 1}, ("copper_gear", 2), ctx=caller("0.10"))
        used.set()

    async with anyio.create_task_group() as group:
        group.start_soon(maker)
        group.start_soon(user)
    assert await session.score(node("0.1", frames)) == 1.0
    assert await session.score(node("0.10", gears)) == 1.0
    assert await session.score(node("0.10", frames)) == 0.0
    assert await session.score(node("0.2", frames)) == 0.0
    assert await session.score(node("0.2", gears)) == 0.0


async def test_a_node_is_credited_with_what_its_descendants_made() -> None:
    session = small_session(oak_beam=6)
    await session.craft({"oak_beam": 3}, ("oak_frame", 3), ctx=caller("0.1.0"))
    await session.craft({"oak_beam": 3}, ("oak_frame", 3), ctx=caller("0.1"))
    six = format_goal({"oak_frame": 6})
    assert [await session.score(node(id, six)) for id in ("0", "0.1", "0.1.0", "0.10", "0.1.0.0")] == [1, 1, 0, 0, 0]
    assert session.ledger.produced("0.1.0") == {"oak_frame": 3}


async def test_what_was_there_before_does_not_count() -> None:
    session = small_session(oak_frame=5, oak_beam=3)
    goal = format_goal({"oak_frame": 1})
    assert await session.score(node("0", goal)) == 0.0
    await session.craft({"oak_beam": 3}, ("oak_frame", 3), ctx=caller())
    assert await session.score(node("0", goal)) == 1.0


async def test_every_target_must_be_there_in_its_count() -> None:
    session = small_session(oak_beam=3, oak_frame=2, iron_rod=1)
    goal = format_goal({"copper_gear": 2, "oak_frame": 4})
    await session.craft({"oak_frame": 2, "iron_rod": 1}, ("copper_gear", 2), ctx=caller())
    await session.craft({"oak_beam": 3}, ("oak_frame", 3), ctx=caller())
    assert await session.score(node("0", goal)) == 0.0
    assert await session.score(node("0", format_goal({"copper_gear": 2, "oak_frame": 3}))) == 1.0


@pytest.mark.parametrize("status", [status for status in Status if not status.finished])
async def test_an_agent_that_did_not_finish_scores_nothing(status: Status) -> None:
    session = small_session(oak_beam=3)
    await session.craft({"oak_beam": 3}, ("oak_frame", 3), ctx=caller())
    assert await session.score(node("0", format_goal({"oak_frame": 3}), status)) == 0.0


async def test_a_goal_that_breaks_the_grammar_scores_nothing_and_is_counted_once() -> None:
    session = small_session(oak_beam=3)
    await session.craft({"oak_beam": 3}, ("oak_frame", 3), ctx=caller("0.0"))
    for _ in range(2):
        assert await session.score(node("0.0", "Please craft 3 oak_frame")) == 0.0
    assert await session.score(node("0.1", "make it so", Status.STEP_LIMIT)) == 0.0
    assert session.unparsed == {"0.0", "0.1"}


async def test_concurrent_crafts_never_use_an_ingredient_twice() -> None:
    session = small_session(oak_beam=30)
    said: list[str] = []

    async def craft(context: ToolContext) -> None:
        said.append(await session.craft({"oak_beam": 3}, ("oak_frame", 3), ctx=context))

    async with anyio.create_task_group() as group:
        for index in range(20):
            group.start_soon(craft, caller(f"0.{index}"))
    assert sum(text.startswith("Crafted") for text in said) == 10
    assert session.inventory == {"oak_beam": 0, "oak_frame": 30}
