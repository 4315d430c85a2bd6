"""The grammar of goals is strict: what does not parse scores nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rao_rl.envs.textcraft import format_goal, parse_goal
from rao_rl.envs.textcraft.names import MATERIALS, PARTS

items = st.builds("{}_{}".format, st.sampled_from(MATERIALS), st.sampled_from(PARTS))


@given(st.dictionaries(items, st.integers(1, 999_999), min_size=1))
def test_reads_what_it_writes(targets: dict[str, int]) -> None:
    assert parse_goal(format_goal(targets)) == targets


def test_the_documented_goal() -> None:
    goal = "Craft the following items: 2x copper_gear, 1x oak_frame"
    assert parse_goal(goal) == {"copper_gear": 2, "oak_frame": 1}


@pytest.mark.parametrize(
    "goal",
    [
        "",
        "Craft the following items: ",
        "Craft 2x copper_gear",
        "craft the following items: 2x copper_gear",
        "Craft the following items: 2x copper_gear.",
        "Craft the following items: 2x copper_gear\n",
        " Craft the following items: 2x copper_gear",
        "Craft the following items: 2x copper_gear,1x oak_frame",
        "Craft the following items: 2x copper_gear, ",
        "Craft the following items: 2x copper_gear and 1x oak_frame",
        "Craft the following items: 0x copper_gear",
        "Craft the following items: 02x copper_gear",
        "Craft the following items: -1x copper_gear",
        "Craft the following items: 2.0x copper_gear",
        "Craft the following items: 2 copper_gear",
        "Craft the following items: ٢x copper_gear",
        "Craft the following items: 2x Copper_gear",
        "Craft the following items: 2x copper gear",
        "Craft the following items: 1x copper_gear, 1x copper_gear",
        "Craft the following items: 9999999x copper_gear",
    ],
)
def test_refuses_anything_else(goal: str) -> None:
    assert parse_goal(goal) is None
