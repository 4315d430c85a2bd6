"""The reference solver: the base items and crafts that a task needs, and two ways to carry it out.

*Plain recursion* gives every sub-goal to a child of its own and rounds it up to the recipe's yield, so that surplus is
never reused; this is how a tree of agents works. The *perfect* solution crafts every item once, in one batch for all uses.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from recursive_agent.status import Status
from recursive_agent.tools import ToolContext

from .goals import format_goal
from .session import TextCraftSession
from .world import Recipe, World


def tree_nodes(world: World, targets: Mapping[str, int]) -> Counter[tuple[str, int]]:
    """The agents of plain recursion, one for each target and those below: (item, count asked) to how many."""
    nodes: Counter[tuple[str, int]] = Counter()
    waiting: list[Counter[tuple[str, int]]] = [Counter() for _ in world.by_tier]
    for item, count in targets.items():
        waiting[world.tiers[item]][item, count] += 1
    # From the top tier down, so that equal sub-goals have all been counted when they are expanded.
    for tier in reversed(waiting[1:]):
        for (item, count), agents in tier.items():
            nodes[item, count] = agents
            recipe = world.recipes[item]
            for part, units in recipe.ingredients.items():
                waiting[world.tiers[part]][part, units * recipe.times(count)] += agents
    return nodes


def plain_needs(world: World, targets: Mapping[str, int]) -> dict[str, int]:
    """Base items that plain recursion uses up for `targets`."""
    needs: Counter[str] = Counter()
    for (item, count), agents in tree_nodes(world, targets).items():
        recipe = world.recipes[item]
        for part, units in recipe.ingredients.items():
            if world.is_base(part):
                needs[part] += units * recipe.times(count) * agents
    return dict(needs)


def generous_needs(world: World, targets: Mapping[str, int]) -> dict[str, int]:
    """Base items for `targets` if every recipe yielded one unit: never less than `plain_needs`."""
    needs = Counter(targets)
    for recipe in _used(world, targets):
        count = needs.pop(recipe.item)
        for part, units in recipe.ingredients.items():
            needs[part] += units * count
    return dict(needs)


def perfect_crafts(world: World, targets: Mapping[str, int]) -> list[tuple[str, int]]:
    """The shortest solution: (item, units) of each craft in an order that works, one craft for each item involved."""
    needs = Counter(targets)
    crafts: list[tuple[str, int]] = []
    for recipe in _used(world, targets):
        times = recipe.times(needs[recipe.item])
        crafts.append((recipe.item, times * recipe.yields))
        for part, units in recipe.ingredients.items():
            needs[part] += units * times
    return crafts[::-1]


def _used(world: World, targets: Mapping[str, int]) -> list[Recipe]:
    """The recipes that `targets` need, each before those of its ingredients."""
    recipes: dict[str, Recipe] = {}
    waiting = list(targets)
    while waiting:
        recipe = world.recipes.get(item := waiting.pop())
        if recipe is not None and item not in recipes:
            recipes[item] = recipe
            waiting.extend(recipe.ingredients)
    return sorted(recipes.values(), key=lambda recipe: -recipe.tier)


@dataclass(frozen=True, slots=True)
class SolvedNode:
    """An agent of the reference solution, as `TextCraftSession.score` takes it."""

    id: str
    goal: str
    status: Status = Status.FINISHED
    result: Any = None


class Unsolvable(Exception):
    """The reference solver was refused a craft; the message is the tool's."""


async def solve(session: TextCraftSession, targets: Mapping[str, int], *, node: str = "0") -> list[SolvedNode]:
    """Carry `targets` out by plain recursion through the session's own tools, and return its agents, `node` first.

    Raises Unsolvable if a craft is refused.
    """
    goal = format_goal(targets)
    solved = [SolvedNode(node, goal)]
    if len(targets) > 1:
        for index, (item, count) in enumerate(targets.items()):
            solved += await solve(session, {item: count}, node=f"{node}.{index}")
        return solved
    ((item, count),) = targets.items()
    recipe = session.world.recipes[item]
    times = recipe.times(count)
    crafted = [part for part in recipe.ingredients if not session.world.is_base(part)]
    for index, part in enumerate(crafted):
        solved += await solve(session, {part: recipe.ingredients[part] * times}, node=f"{node}.{index}")
    await _craft(session, node, goal, recipe, times)
    return solved


async def solve_perfectly(
    session: TextCraftSession, targets: Mapping[str, int], *, node: str = "0"
) -> list[SolvedNode]:
    """Carry `targets` out as one agent with the fewest crafts. Raises Unsolvable if a craft is refused."""
    goal = format_goal(targets)
    for item, units in perfect_crafts(session.world, targets):
        recipe = session.world.recipes[item]
        await _craft(session, node, goal, recipe, units // recipe.yields)
    return [SolvedNode(node, goal)]


async def _craft(session: TextCraftSession, node: str, goal: str, recipe: Recipe, times: int) -> None:
    context = ToolContext("solver", node, node.rpartition(".")[0] or None, node.count("."), goal)
    ingredients = {part: units * times for part, units in recipe.ingredients.items()}
    answer = await session.craft(ingredients, (recipe.item, recipe.yields * times), ctx=context)
    if answer.startswith("Error"):
        raise Unsolvable(answer)
