"""Tasks: which item of which world, how many, and what is in the inventory at the start."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from types import MappingProxyType
from typing import Literal, get_args

from recursive_agent.errors import ConfigurationError

from ..base import Task
from .goals import format_goal
from .names import Naming
from .solver import generous_needs, plain_needs
from .world import World, make_world

Inventory = Literal["generous", "tight"]
Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
FIXED_SEED = 42
"""The one world of `names="fixed"`."""
WORLDS: Mapping[Split, int] = MappingProxyType({"train": 128, "validation": 32, "test": 32})
"""How many worlds the tasks of one split and seed are spread over with `names="words"`; all fit `make_world`'s cache."""


@dataclass(frozen=True, slots=True)
class Level:
    """Depth of the target item, largest count asked for, and how many tasks the authors' splits hold."""

    tiers: range
    max_count: int
    train: int
    test: int


LEVELS: Mapping[str, Level] = MappingProxyType(
    {
        "easy": Level(range(2, 4), 3, 588, 147),
        "medium": Level(range(4, 7), 3, 852, 213),
        "hard": Level(range(7, 10), 2, 544, 136),
        "extreme": Level(range(10, 13), 2, 538, 136),
    }
)


def level_named(name: str) -> Level:
    """A level by name. Raises ConfigurationError, listing the names, for another."""
    try:
        return LEVELS[name]
    except KeyError:
        raise ConfigurationError(f"there is no level {name!r}; choose from {', '.join(LEVELS)}") from None


def stream_seed(split: Split, number: int) -> int:
    """A world seed of `split`: its remainder modulo the number of splits tells whose it is, so no two share one."""
    return number * len(SPLITS) + SPLITS.index(split)


def world_seed(split: Split, seed: int, index: int) -> int:
    """Seed of the `index`-th world of a split and seed (hashed, so that neighbouring seeds share no worlds)."""
    digest = hashlib.sha256(f"textcraft/{seed}/{index}".encode()).digest()
    return stream_seed(split, int.from_bytes(digest[:6], "big"))


def split_fixed(world: World, split: Split) -> list[list[str]]:
    """Target items of the fixed world by tier: four fifths of each tier for training, the rest for testing."""
    rng = random.Random("split/fixed")
    chosen = []
    for items in world.by_tier:
        shuffled = rng.sample(items, len(items))
        cut = int(len(items) * 0.8)
        chosen.append(shuffled[:cut] if split == "train" else shuffled[cut:])
    return chosen


def starting_inventory(world: World, targets: Mapping[str, int], kind: Inventory, rng: random.Random) -> dict[str, int]:
    """Base items to begin with, in sorted order.

    `generous`: the authors' formula, as if every recipe yielded one unit, plus up to half as much again, plus one to
    three draws of items that may be of no use. `tight`: what plain recursion uses up, plus 0 to 3 of each.
    """
    if kind == "tight":
        return {item: need + rng.randint(0, 3) for item, need in sorted(plain_needs(world, targets).items())}
    have = {
        item: need + rng.randint(0, max(1, need // 2)) for item, need in sorted(generous_needs(world, targets).items())
    }
    for _ in range(rng.randint(1, 3)):
        item = rng.choice(world.by_tier[0])
        have[item] = have.get(item, 0) + rng.randint(1, 5)
    return dict(sorted(have.items()))


def make_task(
    *, id: str, seed: int, names: Naming, inventory: Inventory, targets: Mapping[str, int], level: str | None
) -> Task:
    """The task of crafting `targets` in the world of `seed`; what is in the inventory follows from `id`."""
    world = make_world(seed, names)
    start = starting_inventory(world, targets, inventory, random.Random(f"inventory/{id}"))
    return Task(
        id=id,
        goal=format_goal(targets),
        level=level,
        data={"world": seed, "names": names, "targets": dict(targets), "inventory": start},
    )


def generate(
    split: Split, seed: int, *, names: Naming, inventory: Inventory, level: str | None = None, limit: int | None = None
) -> Iterator[Task]:
    """The tasks of a split: of one level in order, or of all of them shuffled together.

    With `names="words"` the sizes are the authors', and one level gives as many as `limit` asks for. With
    `names="fixed"` the tasks are the authors' selection: every item of the split in every count, shuffled by `seed`.
    """
    draw = _fixed(split, seed) if names == "fixed" else _words(split, seed)
    levels = [level] if level is not None else list(LEVELS)
    order: list[tuple[str, int]] = []
    for name in levels:
        settings = level_named(name)
        size = settings.train if split == "train" else settings.test
        if level is not None and limit is not None and names == "words":
            size = limit
        order += [(name, index) for index in range(size)]
    if level is None:
        random.Random(f"order/{split}/{seed}").shuffle(order)
    for name, index in islice(order, limit):
        world, item, count = draw.target(name, index)
        suffix = "" if inventory == "generous" else f"/{inventory}"
        yield make_task(
            id=f"textcraft/{names}/{split}/{seed}/{name}/{index}{suffix}",
            seed=world,
            names=names,
            inventory=inventory,
            targets={item: count},
            level=name,
        )


class _Targets:
    """Targets by level and number, no two alike: the pool of each world is shuffled once and read in order."""

    def __init__(self, split: Split, seed: int, names: Naming, worlds: list[int]) -> None:
        self._split, self._seed, self._names, self._worlds = split, seed, names, worlds
        self._pools: dict[tuple[str, int], list[tuple[str, int]]] = {}

    def target(self, level: str, index: int) -> tuple[int, str, int]:
        """(world seed, item, count) of task `index`. Neighbouring tasks come from different worlds."""
        turn, place = divmod(index, len(self._worlds))
        world = self._worlds[place]
        pool = self._pools.get((level, world))
        if pool is None:
            pool = self._pools[level, world] = self._pool(level, world)
        if turn >= len(pool):
            raise ConfigurationError(f"there are only {len(pool) * len(self._worlds)} different {level} tasks")
        return world, *pool[turn]

    def _pool(self, level: str, seed: int) -> list[tuple[str, int]]:
        world = make_world(seed, self._names)
        by_tier = split_fixed(world, self._split) if self._names == "fixed" else world.by_tier
        settings = LEVELS[level]
        pool = [
            (item, count)
            for tier in settings.tiers
            for item in by_tier[tier]
            for count in range(1, settings.max_count + 1)
        ]
        random.Random(f"targets/{self._split}/{self._seed}/{level}/{seed}").shuffle(pool)
        return pool


def _words(split: Split, seed: int) -> _Targets:
    return _Targets(split, seed, "words", [world_seed(split, seed, index) for index in range(WORLDS[split])])


def _fixed(split: Split, seed: int) -> _Targets:
    return _Targets(split, seed, "fixed", [FIXED_SEED])
