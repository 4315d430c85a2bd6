"""Worlds: the sizes, recipes and names that the benchmark is defined by."""

import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rao_rl.envs.textcraft import World, format_goal, make_world, parse_goal
from rao_rl.envs.textcraft.names import MATERIALS, PARTS

seeds = st.integers(0, 2**50)
some_worlds = settings(max_examples=12, deadline=None)


def true_depths(world: World) -> dict[str, int]:
    depths: dict[str, int] = {}

    def depth(item: str) -> int:
        if item not in depths:
            recipe = world.recipes.get(item)
            depths[item] = 0 if recipe is None else 1 + max(map(depth, recipe.ingredients))
        return depths[item]

    return {item: depth(item) for item in world.tiers}


@some_worlds
@given(seeds)
def test_every_item_is_as_deep_as_its_tier(seed: int) -> None:
    world = make_world(seed)
    assert true_depths(world) == world.tiers


@some_worlds
@given(seeds)
def test_every_recipe_keeps_to_the_numbers_of_its_tier(seed: int) -> None:
    fewest = {1: 1, **dict.fromkeys(range(2, 8), 2), **dict.fromkeys(range(8, 12), 3), 12: 4}
    yields = {1: (2, 4), 2: (2, 3), 3: (1, 2), 4: (1, 2), 5: (1, 2)}
    world = make_world(seed)
    for recipe in world.recipes.values():
        tier = recipe.tier
        assert fewest[tier] <= len(recipe.ingredients) <= min(6, fewest[tier] + min(2, tier // 3))
        low, high = yields.get(tier, (1, 1))
        assert low <= recipe.yields <= high
        assert all(1 <= units <= (2 if tier <= 4 else 1) for units in recipe.ingredients.values())
        distances = [tier - world.tiers[part] for part in recipe.ingredients]
        assert set(distances) <= {1, 2, 3, 4}
        assert sum(distance > 2 for distance in distances) <= 1


@some_worlds
@given(seeds)
def test_an_item_keeps_to_its_domain_but_for_twelve_that_cross_them(seed: int) -> None:
    """Items connected by recipes fall into the five domains, but for four each of tiers 10 to 12."""
    world = make_world(seed)
    owner: dict[str, str] = {item: item for item in world.tiers}

    def find(item: str) -> str:
        while owner[item] != item:
            item = owner[item]
        return item

    by_height = sorted(world.recipes.values(), key=lambda recipe: recipe.tier)
    for recipe in by_height:
        if recipe.tier < 10:
            for part in recipe.ingredients:
                owner[find(part)] = find(recipe.item)
    domains = Counter(find(recipe.item) for recipe in by_height if recipe.tier < 10)
    sizes = [size for _, size in domains.most_common()]
    # A base item that a single recipe uses may leave the odd item of tier 1 on its own.
    assert 213 == 2 * 25 + 3 * 24 + 3 * 23 + 22 >= max(sizes)
    assert min(sizes[:5]) > 200
    assert sum(sizes[5:]) < 10
    crossing = Counter[int]()
    for recipe in by_height:
        if recipe.tier >= 10:
            homes = {find(part) for part in recipe.ingredients}
            crossing[recipe.tier] += len(homes) > 1
            owner[recipe.item] = homes.pop()
    assert crossing == {10: 4, 11: 4, 12: 4}


@pytest.mark.parametrize("naming", ["words", "fixed"])
def test_the_fixed_world_has_the_authors_sizes(naming: str) -> None:
    world = make_world(42, "fixed" if naming == "fixed" else "words")
    assert (len(world.tiers), len(world.recipes), len(world.by_tier[0])) == (1452, 1402, 50)
    assert [len(items) for items in world.by_tier[1:]] == [
        *(125, 125, 120, 120, 120, 115, 115, 115, 110),
        *(114, 114, 109),
    ]
    shape = r"m\d+_i\d+" if naming == "fixed" else r"[a-z]+_[a-z]+"
    assert all(re.fullmatch(shape, item, re.ASCII) for item in world.tiers)


def test_words_are_common_ascii_and_make_names_that_read_back() -> None:
    words = MATERIALS + PARTS
    assert len(MATERIALS) == len(PARTS) == 40
    assert len(set(words)) == 80
    assert all(word.isascii() and word.isalpha() and word.islower() and len(word) <= 8 for word in words)
    everything = {f"{material}_{part}": 1 for material in MATERIALS for part in PARTS}
    assert parse_goal(format_goal(everything)) == everything


@some_worlds
@given(seeds)
def test_names_are_dealt_anew_and_change_nothing_else(seed: int) -> None:
    words, fixed = make_world(seed, "words"), make_world(seed, "fixed")
    assert [r.tier for r in words.recipes.values()] == [r.tier for r in fixed.recipes.values()]
    rename = dict(zip(words.tiers, fixed.tiers, strict=True))
    for recipe in words.recipes.values():
        same = fixed.recipes[rename[recipe.item]]
        assert {rename[part]: units for part, units in recipe.ingredients.items()} == same.ingredients
        assert (recipe.yields, recipe.tier) == (same.yields, same.tier)
    other = make_world(seed + 1)
    moved = [item for item in words.tiers if words.tiers[item] != other.tiers.get(item)]
    assert len(moved) > 1000


def test_a_name_tells_nothing_of_the_tier() -> None:
    """Over many worlds the mean tier of a word is that of all items."""
    total: Counter[str] = Counter()
    count: Counter[str] = Counter()
    for seed in range(40):
        for item, tier in make_world(seed).tiers.items():
            for word in item.split("_"):
                total[word] += tier
                count[word] += 1
    means = [total[word] / count[word] for word in MATERIALS + PARTS]
    overall = sum(total.values()) / sum(count.values())
    # About 1,450 draws a word with a deviation of 3.6: 0.5 is more than five standard errors.
    assert max(abs(mean - overall) for mean in means) < 0.5


def test_the_place_of_an_ingredient_tells_nothing_of_its_tier() -> None:
    """Neither the deepest nor the shallowest ingredient has a fixed place in a recipe."""
    first = Counter[bool]()
    for seed in range(10):
        world = make_world(seed)
        for recipe in world.recipes.values():
            depths = [world.tiers[part] for part in recipe.ingredients]
            if recipe.tier >= 4 and len(depths) == 2 and depths[0] != depths[1]:
                first[depths[0] > depths[1]] += 1
    assert 0.4 < first[True] / first.total() < 0.6
