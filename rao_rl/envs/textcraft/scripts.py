"""The code that the reference solver writes: short cells of plain Python, names and counts copied from the observations.

A look-up shows a recipe as the ingredients to craft, the base items, and the yield: `({'oak_frame': 2}, {'iron_ore': 1}, 2)`.
The next cell repeats these literals: the code then shows what is delegated, and a small model only has to copy. Python does the
arithmetic: for 3 units of an item that is crafted 2 at a time, `k=-(-3//2)` crafts.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from .goals import PREFIX
from .world import Recipe, World

LETTERS = "abcdefghjklmn"
"""Names of the number of crafts at each level of a single agent's work (i is taken), and in capitals of the ingredients."""


@dataclass(frozen=True, slots=True)
class Noise:
    """Mistakes to demonstrate. Probabilities: a delegation leaves out its last child; a child is asked for a wrong count.

    The last one, so that names still come in the order in which they were seen: a policy shall learn to be careless, not
    to mix up names.
    """

    drop_child: float = 0.0
    wrong_count: float = 0.0

    def children(self, rng: random.Random, needed: Mapping[str, int]) -> dict[str, int]:
        """What the children are asked for instead of `needed` (item to units for one craft)."""
        children = dict(needed)
        if children and rng.random() < self.drop_child:
            children.popitem()
        for item, units in children.items():
            if rng.random() < self.wrong_count:
                children[item] = units + rng.choice((-1, 1) if units > 1 else (1,))
        return children


Mistakes = Callable[[Mapping[str, int]], Mapping[str, int]]
"""Changes what the children should be asked for into what they are asked for."""


def node_script(world: World, targets: Mapping[str, int], mistakes: Mistakes) -> Iterator[str]:
    """The cells of one agent that delegates every ingredient that must be crafted."""
    if len(targets) > 1:
        launches = ",".join(f"launch_subagent('{PREFIX}{count}x {item}')" for item, count in targets.items())
        yield f"finish(await asyncio.gather({launches}))"
        return
    ((item, count),) = targets.items()
    recipe = world.recipes[item]
    yield _look_up(item)
    lines = [f"k=-(-{count}//{recipe.yields})"]
    children = dict(mistakes(_crafted(world, recipe)))
    rest = {part: units for part, units in recipe.ingredients.items() if children.get(part) != units}
    used = f"{rest}"
    if children:
        lines.append(f"w={children}")
        lines.append(f"await asyncio.gather(*[launch_subagent(f'{PREFIX}{{n*k}}x {{i}}') for i,n in w.items()])")
        used = f"(w|{rest})"
    yield "\n".join([*lines, f"finish({_craft(recipe, used, 'k')})"])


def single_script(world: World, targets: Mapping[str, int], mistakes: Mistakes) -> Iterator[str]:
    """The cells of one agent that crafts everything itself, depth first; a cell ends where the next recipe is needed."""
    lines: list[str] = []

    def make(item: str, count: str, level: int) -> Iterator[str]:
        yield "\n".join([*lines, _look_up(item)])
        recipe = world.recipes[item]
        times, parts = LETTERS[level], LETTERS[level].upper()
        crafted = mistakes(_crafted(world, recipe))
        rest = {part: units for part, units in recipe.ingredients.items() if crafted.get(part) != units}
        lines[:] = [f"{times}=-(-{count}//{recipe.yields})"]
        if not crafted:
            lines.append(_craft(recipe, f"{rest}", times))
            return
        lines.append(f"{parts}={dict(crafted)}|{rest}")
        for part in crafted:
            yield from make(part, f"{parts}['{part}']*{times}", level + 1)
        lines.append(_craft(recipe, parts, times))

    for item, count in targets.items():
        yield from make(item, str(count), 0)
    lines[-1] = f"finish({lines[-1]})"
    yield "\n".join(lines)


def _look_up(item: str) -> str:
    """Code that shows which ingredients must be crafted, which are base items, and the yield."""
    return (
        f"i,=await get_info(['{item}'])\n"
        "r=i['recipes'][0]\n"
        "s=r['ingredients']\n"
        "w=[x['item'] for x in await get_info(list(s)) if not x['is_base']]\n"
        "{i:s[i] for i in w},{i:s[i] for i in s if i not in w},r['yields']"
    )


def _craft(recipe: Recipe, used: str, times: str) -> str:
    return f"await craft({{i:n*{times} for i,n in {used}.items()}},('{recipe.item}',{recipe.yields}*{times}))"


def _crafted(world: World, recipe: Recipe) -> dict[str, int]:
    """The ingredients that are crafted, not found."""
    return {part: units for part, units in recipe.ingredients.items() if not world.is_base(part)}
