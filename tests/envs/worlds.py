"""A world small enough to work everything out by hand, and callers of its tools."""

from rao_rl.envs.textcraft import Recipe, TextCraftSession, World
from recursive_agent import ToolContext

SMALL = World(
    recipes={
        "oak_frame": Recipe("oak_frame", {"oak_beam": 3}, 3, 1),
        "copper_gear": Recipe("copper_gear", {"oak_frame": 2, "iron_rod": 1}, 2, 2),
        "pine_wheel": Recipe("pine_wheel", {"copper_gear": 1, "oak_frame": 1}, 1, 3),
    },
    tiers={"oak_beam": 0, "iron_rod": 0, "oak_frame": 1, "copper_gear": 2, "pine_wheel": 3},
    by_tier=(("iron_rod", "oak_beam"), ("oak_frame",), ("copper_gear",), ("pine_wheel",)),
)


def small_session(**inventory: int) -> TextCraftSession:
    return TextCraftSession(SMALL, inventory)


def caller(node: str = "0", goal: str = "") -> ToolContext:
    return ToolContext("run", node, node.rpartition(".")[0] or None, node.count("."), goal)
