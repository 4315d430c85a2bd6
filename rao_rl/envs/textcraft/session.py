"""One attempt at a task: the shared inventory, the tools on it, and the ledger that says who made what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from recursive_agent.tools import ToolContext

from ..base import ScoredNode
from .goals import parse_goal
from .world import World

CRAFTED = "Crafted"
"""How the answer to a craft that was carried out begins."""


class Ledger:
    """Who crafted what. A node is credited with its own crafts and those of its descendants."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, str, int]] = []
        """(node, item, units) of every craft, in order."""
        self._credit: dict[str, Counter[str]] = {}

    def record(self, node: str, item: str, count: int) -> None:
        """Credit `count` units of `item` to `node` ("0.2.1") and all its ancestors ("0.2", "0")."""
        self.entries.append((node, item, count))
        path = node
        while path:
            self._credit.setdefault(path, Counter())[item] += count
            path = path.rpartition(".")[0]

    def produced(self, node: str) -> Mapping[str, int]:
        """Units of each item that `node` and its descendants crafted, whatever became of them."""
        return self._credit.get(node, Counter())


class TextCraftSession:
    """The state of one tree. Every agent of the tree works on the same inventory.

    The tools never wait inside, so each call is atomic on the event loop however many agents run at once.
    """

    def __init__(self, world: World, inventory: Mapping[str, int]) -> None:
        self.world = world
        self.inventory: Counter[str] = Counter(inventory)
        self.ledger = Ledger()
        self.unparsed: set[str] = set()
        """Ids of the nodes whose goal broke the grammar, as far as they were scored."""
        self.tools: Sequence[Callable[..., Any]] = (self.get_info, self.view_inventory, self.craft)

    async def get_info(self, items: list[str]) -> list[dict[str, Any]]:
        """Look items up: whether each is a base item, how many are in the inventory, and its recipes.

        A recipe {'ingredients': {'oak_frame': 2, 'iron_rod': 1}, 'yields': 2} makes two units at a time.
        """
        return [self._info(item) for item in items]

    async def view_inventory(self) -> dict[str, int]:
        """What the inventory, shared by all agents, holds now: item to units."""
        return {item: count for item, count in self.inventory.items() if count}

    async def craft(self, ingredients: dict[str, int], target: tuple[str, int], *, ctx: ToolContext) -> str:
        """Make target = (item, count) out of exactly these ingredients; count must be a multiple of the recipe's yield.

        Returns what was crafted, or a message that begins with "Error" and says what was wrong; then nothing happened.
        """
        needed = self._needed(ingredients, target)
        if isinstance(needed, str):
            return f"Error: {needed}"
        item, count = target
        # What the recipe says, not what the agent wrote: 2.0 equals 2 but must not get into the inventory.
        self.inventory.subtract(needed)
        self.inventory[item] += count
        self.ledger.record(ctx.node, item, count)
        return f"{CRAFTED} {count}x {item}"

    async def score(self, node: ScoredNode) -> float:
        """1.0 where the node finished and it and its descendants crafted all of its goal, else 0.0."""
        targets = parse_goal(node.goal)
        if targets is None:
            self.unparsed.add(node.id)
            return 0.0
        if not node.status.finished:
            return 0.0
        produced = self.ledger.produced(node.id)
        return float(all(produced.get(item, 0) >= count for item, count in targets.items()))

    def _info(self, item: str) -> dict[str, Any]:
        recipe = self.world.recipes.get(item)
        known = item in self.world.tiers
        info: dict[str, Any] = {
            "item": item,
            "can_craft": recipe is not None,
            "is_base": known and recipe is None,
            "in_inventory": self.inventory.get(item, 0),
            "crafting_depth": self.world.tiers.get(item),
            "recipes": [] if recipe is None else [{"ingredients": dict(recipe.ingredients), "yields": recipe.yields}],
        }
        if not known:
            info["error"] = f"there is no item called {item!r}"
        return info

    def _needed(self, ingredients: object, target: object) -> dict[str, int] | str:
        """What a craft uses up, or why it cannot be carried out. Agents write the arguments: nothing is certain."""
        if not isinstance(target, tuple | list) or len(target) != 2:
            return f"target must be a pair (item, count), not {target!r}"
        item, count = target
        if not isinstance(item, str) or item not in self.world.tiers:
            return f"there is no item called {item!r}"
        if type(count) is not int or count < 1:
            return f"the count of {item} must be a whole number of at least 1, not {count!r}"
        recipe = self.world.recipes.get(item)
        if recipe is None:
            return f"{item} is a base item and cannot be crafted"
        if count % recipe.yields:
            return f"{item} is made {recipe.yields} at a time: count must be a multiple of {recipe.yields}, not {count}"
        times = count // recipe.yields
        needed = {part: units * times for part, units in recipe.ingredients.items()}
        if not isinstance(ingredients, Mapping) or dict(ingredients) != needed:
            return f"{count}x {item} takes exactly {needed}, not {ingredients!r}"
        missing = [
            f"{units}x {part} needed, {self.inventory.get(part, 0)} in the inventory"
            for part, units in needed.items()
            if self.inventory.get(part, 0) < units
        ]
        return "; ".join(missing) or needed
