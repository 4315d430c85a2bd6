"""A crafting world: five domains of items in tiers 0 (found, not made) to 12, one recipe for each item made."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from .names import Naming, deal

DOMAINS = 5
MAX_TIER = 12
BASE_ITEMS = 10
"""Base items of one domain."""
CROSS_TIERS = (10, 11, 12)
CROSS_ITEMS = 4
"""Items of one cross tier that take their ingredients from several domains."""
MAX_INGREDIENTS = 6

_BASE_INGREDIENTS = (0, 1, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 4)
_YIELDS = ((1, 1), (2, 4), (2, 3), (1, 2), (1, 2), (1, 2), *[(1, 1)] * 7)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How `yields` units of `item` are made; `ingredients` maps item to units, in the order agents see them."""

    item: str
    ingredients: Mapping[str, int]
    yields: int
    tier: int

    def times(self, count: int) -> int:
        """How often the recipe must be carried out for at least `count` units."""
        return -(-count // self.yields)


@dataclass(frozen=True, slots=True)
class World:
    """All items with their recipes. `tiers` holds every item, `recipes` those that are made rather than found.

    Tier and true depth are the same thing here: the longest chain of recipes from a base item.
    """

    recipes: Mapping[str, Recipe]
    tiers: Mapping[str, int]
    by_tier: tuple[tuple[str, ...], ...]

    def is_base(self, item: str) -> bool:
        """Whether `item` is found and cannot be made."""
        return item in self.tiers and item not in self.recipes


@lru_cache(maxsize=192)
def make_world(seed: int, names: Naming = "words") -> World:
    """The world of `seed`, kept for the next time (half a megabyte each)."""
    return build_world(seed, names)


def build_world(seed: int, names: Naming) -> World:
    """The world of `seed`: 1,452 items, 50 of them base, the same recipes under any naming. Takes about 10 ms."""
    rng = random.Random(f"world/{seed}")
    # Items are numbers while recipes are drawn; names are dealt when the number of items is known.
    grid: list[list[list[int]]] = [[] for _ in range(DOMAINS)]
    tiers: list[int] = []
    drawn: list[tuple[int, list[int], int]] = []

    def add(tier: int) -> int:
        tiers.append(tier)
        return len(tiers) - 1

    for domain in grid:
        domain.append([add(0) for _ in range(BASE_ITEMS)])
        for tier in range(1, MAX_TIER + 1):
            items = [(add(tier), _ingredients(rng, domain, tier)) for _ in range(25 - tier // 3)]
            drawn.extend((item, ingredients, tier) for item, ingredients in items)
            domain.append([item for item, _ in items])
    for tier in CROSS_TIERS:
        drawn.extend((add(tier), _cross_ingredients(rng, grid, tier), tier) for _ in range(CROSS_ITEMS))

    name = deal(names, seed, len(tiers))
    recipes: dict[str, Recipe] = {}
    for item, ingredients, tier in drawn:
        most = 2 if tier <= 4 else 1
        recipes[name[item]] = Recipe(
            name[item],
            {name[part]: rng.randint(1, most) for part in ingredients},
            rng.randint(*_YIELDS[tier]),
            tier,
        )
    by_tier: list[list[str]] = [[] for _ in range(MAX_TIER + 1)]
    for item, tier in enumerate(tiers):
        by_tier[tier].append(name[item])
    return World(
        recipes,
        {name[item]: tier for item, tier in enumerate(tiers)},
        # Sorted by name, so that the place in the tuple does not tell the domain either.
        tuple(tuple(sorted(items)) for items in by_tier),
    )


def _size(rng: random.Random, tier: int) -> int:
    return min(MAX_INGREDIENTS, _BASE_INGREDIENTS[tier] + rng.randint(0, min(2, tier // 3)))


def _ingredients(rng: random.Random, domain: list[list[int]], tier: int) -> list[int]:
    """Different items of one domain, drawn one after the other with weight 1/(distance + 1).

    The candidates are all items of the two tiers below and, from tier 4 on, one item of the two tiers below those.
    """
    size = _size(rng, tier)
    pools = [(domain[tier - distance], 1 / (distance + 1)) for distance in (1, 2) if distance <= tier]
    if tier >= 4:
        distance = rng.randint(3, 4)
        pools.append(([rng.choice(domain[tier - distance])], 1 / (distance + 1)))
    total = sum(len(pool) * weight for pool, weight in pools)
    chosen: list[int] = []
    while len(chosen) < size:
        point = rng.random() * total
        for pool, weight in pools:
            if point < len(pool) * weight:
                break
            point -= len(pool) * weight
        item = pool[min(int(point / weight), len(pool) - 1)]
        if item not in chosen:
            chosen.append(item)
    # Without an ingredient of the tier just below the item would be shallower than its tier says.
    below = domain[tier - 1]
    if not any(below[0] <= item <= below[-1] for item in chosen):
        chosen[rng.randrange(size)] = rng.choice(below)
    return chosen


def _cross_ingredients(rng: random.Random, grid: list[list[list[int]]], tier: int) -> list[int]:
    """One item each of several domains, the first of the tier just below, the others of the two tiers below."""
    domains = rng.sample(grid, min(_size(rng, tier), DOMAINS))
    distances = [1, *rng.choices((1, 2), weights=(1 / 2, 1 / 3), k=len(domains) - 1)]
    chosen = [rng.choice(domain[tier - distance]) for domain, distance in zip(domains, distances, strict=True)]
    rng.shuffle(chosen)
    return chosen
