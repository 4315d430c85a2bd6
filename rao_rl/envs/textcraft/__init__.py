"""TextCraft-Synth: crafting items of deep recipes, the benchmark of the RAO paper, generated from a seed."""

from .demonstrations import Demonstration, demonstrate, demonstrations
from .environment import TextCraft
from .goals import format_goal, parse_goal
from .session import Ledger, TextCraftSession
from .solver import perfect_crafts, plain_needs, solve, solve_perfectly, tree_nodes
from .tasks import LEVELS
from .world import Recipe, World, make_world

__all__ = [
    "LEVELS",
    "Demonstration",
    "Ledger",
    "Recipe",
    "TextCraft",
    "TextCraftSession",
    "World",
    "demonstrate",
    "demonstrations",
    "format_goal",
    "make_world",
    "parse_goal",
    "perfect_crafts",
    "plain_needs",
    "solve",
    "solve_perfectly",
    "tree_nodes",
]
