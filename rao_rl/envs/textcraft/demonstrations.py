"""Conversations to imitate: the reference solver's cells, and the observation after each.

Every cell is executed on a real session, so every observation is exact (`cells` says what it does without a sandbox).
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from recursive_agent.errors import ConfigurationError

from ..base import Mode
from .cells import Cells, step
from .goals import format_goal
from .names import Naming
from .scripts import Noise, node_script, single_script
from .session import TextCraftSession
from .solver import generous_needs, tree_nodes
from .tasks import FIXED_SEED, Level, level_named, split_fixed, stream_seed
from .world import MAX_INGREDIENTS, Recipe, World, build_world, make_world

TOOLS = ("get_info", "view_inventory", "craft")
FUNCTIONS: Mapping[Mode, tuple[str, ...]] = MappingProxyType(
    {"recursive": (*TOOLS, "launch_subagent", "finish"), "single": (*TOOLS, "finish")}
)
"""The names an agent of each mode may call, in the order of its prompt."""

WORLDS = 8
WORLD_LIFE = 500
"""Demonstrations drawn from a world, on average, before another takes its place."""
ROOTS = 24
"""Trees of each level from which the counts that nodes are asked for are drawn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demonstration:
    """What one agent does about its `goal`, with `functions`, the names that it may call.

    A cell is its code and what it shows, None for the last one, which finishes. `tier` is the height of what is crafted,
    `success` whether the goal was met (without noise: always).
    """

    functions: tuple[str, ...]
    goal: str
    cells: list[tuple[str, str | None]]
    tier: int
    success: bool


def demonstrate(
    world: World,
    targets: Mapping[str, int],
    *,
    mode: Mode = "recursive",
    rng: random.Random | None = None,
    noise: Noise | None = None,
) -> Demonstration:
    """One demonstration of crafting `targets`; `rng` draws the mistakes of `noise`."""
    rng, noise = rng or random.Random(0), noise or Noise()
    script = node_script if mode == "recursive" else single_script
    goal = format_goal(targets)
    repl = Cells(TextCraftSession(world, _supplies(world, targets, mode)), goal)
    cells = [(code, repl.run(code)) for code in script(world, targets, lambda needed: noise.children(rng, needed))]
    return Demonstration(
        functions=FUNCTIONS[mode],
        goal=goal,
        cells=cells,
        tier=max(world.tiers[item] for item in targets),
        success=step(repl.score()) == 1.0,
    )


def demonstrations(
    rng: random.Random,
    *,
    mode: Mode = "recursive",
    names: Naming = "words",
    levels: Sequence[str] = ("easy", "medium", "hard"),
    balance: bool = True,
    vary: float = 0.5,
    several: float = 0.02,
    drop_child: float = 0.0,
    wrong_count: float = 0.0,
    max_turns: int | None = None,
) -> Iterator[Demonstration]:
    """An endless stream of demonstrations from training worlds, drawn from `rng` alone.

    `recursive` gives single nodes of the trees of `levels`, `single` whole tasks of these. For nodes: `balance`
    makes every height equally likely (else as frequent as in the trees, where leaves prevail); with probability `vary`
    the recipe is made up for the occasion, with 1 to 6 ingredients and any yield, so that neither goes with a height;
    with probability `several` the goal names two or three items. `max_turns` leaves out longer ones.
    """
    chosen = [level_named(name) for name in levels]
    if not chosen or mode not in FUNCTIONS:
        raise ConfigurationError("demonstrations needs at least one level, and a mode: recursive or single")
    return _stream(rng, mode, names, chosen, balance, vary, several, Noise(drop_child, wrong_count), max_turns)


def _stream(
    rng: random.Random,
    mode: Mode,
    names: Naming,
    levels: Sequence[Level],
    balance: bool,
    vary: float,
    several: float,
    noise: Noise,
    max_turns: int | None,
) -> Iterator[Demonstration]:
    worlds = [_new_world(rng, names) for _ in range(WORLDS)]
    nodes = _Nodes(rng, worlds, levels, balance) if mode == "recursive" else None
    while True:
        place = rng.randrange(WORLDS)
        if rng.random() * WORLD_LIFE < 1:
            worlds[place] = _new_world(rng, names)
        world = worlds[place]
        if nodes is None:
            item, count = _root(rng, world, rng.choice(levels))
            targets = {item: count}
        elif rng.random() < several:
            targets = dict(nodes.draw(world) for _ in range(rng.randint(2, 3)))
        else:
            item, count = nodes.draw(world)
            if rng.random() < vary:
                world, count = _vary(rng, world, item), rng.choice((count, rng.randint(1, 12)))
            targets = {item: count}
        demonstration = demonstrate(world, targets, mode=mode, rng=rng, noise=noise)
        if max_turns is None or len(demonstration.cells) <= max_turns:
            yield demonstration


class _Nodes:
    """Draws the goal of one agent of a tree: an item, and a count as trees ask for items of that tier."""

    def __init__(self, rng: random.Random, worlds: Sequence[World], levels: Sequence[Level], balance: bool) -> None:
        self._rng = rng
        self._balance = balance
        self._counts: dict[int, dict[int, int]] = {}
        for level in levels:
            for _ in range(ROOTS):
                world = rng.choice(worlds)
                for (item, count), agents in tree_nodes(world, dict([_root(rng, world, level)])).items():
                    counts = self._counts.setdefault(world.tiers[item], {})
                    counts[count] = counts.get(count, 0) + agents
        self._tiers = sorted(self._counts)
        self._sizes = [sum(self._counts[tier].values()) for tier in self._tiers]

    def draw(self, world: World) -> tuple[str, int]:
        rng = self._rng
        tier = rng.choice(self._tiers) if self._balance else rng.choices(self._tiers, self._sizes)[0]
        counts = self._counts[tier]
        return rng.choice(world.by_tier[tier]), rng.choices(list(counts), list(counts.values()))[0]


def _new_world(rng: random.Random, names: Naming) -> World:
    if names == "words":
        return build_world(stream_seed("train", rng.getrandbits(48)), names)
    # The targets of test tasks stay unseen as targets; what they are made of is shared, as in the authors' setting.
    world = make_world(FIXED_SEED, names)
    return replace(world, by_tier=tuple(map(tuple, split_fixed(world, "train"))))


def _root(rng: random.Random, world: World, level: Level) -> tuple[str, int]:
    item = rng.choice([item for tier in level.tiers for item in world.by_tier[tier]])
    return item, rng.randint(1, level.max_count)


def _vary(rng: random.Random, world: World, item: str) -> World:
    """The same world, but `item` has a made-up recipe: any number of ingredients, any of them base items."""
    tier = world.tiers[item]
    size = rng.randint(1, MAX_INGREDIENTS)
    crafted = rng.randint(0, size)
    below = [other for other in rng.sample(list(world.recipes), crafted + 1) if other != item][:crafted]
    ingredients = below + rng.sample(world.by_tier[0], size - crafted)
    rng.shuffle(ingredients)
    most = rng.randint(1, 2)
    recipe = Recipe(item, {part: rng.randint(1, most) for part in ingredients}, rng.randint(1, 4), tier)
    return replace(world, recipes={**world.recipes, item: recipe})


def _supplies(world: World, targets: Mapping[str, int], mode: Mode) -> dict[str, int]:
    """Base items that suffice: for the node's own crafts where children make the rest."""
    if mode == "single":
        return generous_needs(world, targets)
    supplies: dict[str, int] = {}
    for item, count in targets.items():
        recipe = world.recipes[item]
        for part, units in recipe.ingredients.items():
            if world.is_base(part):
                supplies[part] = supplies.get(part, 0) + units * recipe.times(count)
    return supplies
