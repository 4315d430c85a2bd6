"""TextCraft-Synth as an `Environment`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

from recursive_agent.errors import ConfigurationError
from recursive_agent.trace.tree import ExecutionTree, Node

from ...errors import UnknownGoal
from ..base import About, Demonstration, Mode, Task
from ..generated import check_selection, one_of
from .goals import PREFIX, parse_goal
from .names import Naming
from .restarts import subtask
from .scripts import node_script, single_script
from .session import TextCraftSession
from .tasks import FIXED_SEED, LEVELS, SPLITS, Inventory, Split, generate, level_named, make_task, world_seed
from .world import MAX_TIER, World, make_world


class TextCraft:
    """Crafting with deep recipes: item by item the agent must look up what it needs, get it made, and craft.

    `names`: readable ones dealt anew for each of many worlds (`words`), or the authors' setting of one world (`fixed`).
    `mode`: `single` withholds `launch_subagent` (`max_depth` 0). `inventory`: `generous` affords waste, `tight` hardly
    any. Raises ConfigurationError for any other value.
    """

    name = "textcraft"
    about = About(
        summary="craft items whose recipes need other items, up to 12 levels deep",
        sizes={"train": None, "validation": None, "test": None},
        levels=tuple(LEVELS),
    )

    def __init__(self, *, names: Naming = "words", mode: Mode = "recursive", inventory: Inventory = "generous") -> None:
        for argument, value, allowed in (
            ("names", names, get_args(Naming)),
            ("mode", mode, get_args(Mode)),
            ("inventory", inventory, get_args(Inventory)),
        ):
            one_of(self.name, argument, value, allowed)
        self.names = names
        self.mode = mode
        self.inventory = inventory
        self.max_depth = MAX_TIER if mode == "recursive" else 0
        # With fixed names the authors' one world is cut in two, and there is no third part.
        self.splits: tuple[Split, ...] = ("train", "test") if names == "fixed" else SPLITS
        self.levels = tuple(LEVELS)

    def tasks(self, split: str, seed: int = 0, level: str | None = None, limit: int | None = None) -> Iterator[Task]:
        """The tasks of a split (`train`, `test`, `validation` with `words`): of one level, or of all of them shuffled.

        At most `limit`; of one level in `words`, as many as `limit` says. The same arguments give the same tasks
        everywhere, in every mode. Raises ConfigurationError for an unknown split or level.
        """
        if level is not None:
            level_named(level)
        checked = check_selection(self.name, split, self.splits, limit=limit)
        return generate(checked, seed, names=self.names, inventory=self.inventory, level=level, limit=limit)

    def task(self, goal: str, seed: int = 0) -> Task:
        """The task of any goal in the test world of `seed`.

        Raises UnknownGoal for a goal that breaks the grammar, and ConfigurationError for an item that cannot be crafted
        there.
        """
        targets = parse_goal(goal)
        if targets is None:
            raise UnknownGoal(f"a goal reads like {PREFIX + '2x copper_gear, 1x oak_frame'!r}, not {goal!r}")
        world_of = FIXED_SEED if self.names == "fixed" else world_seed("test", seed, 0)
        world = make_world(world_of, self.names)
        for item in targets:
            if item not in world.recipes:
                others = ", ".join(sorted(world.recipes)[:3])
                raise ConfigurationError(f"{item} cannot be crafted in this world; {others} can, for instance")
        return make_task(
            id=f"textcraft/{self.names}/own/{seed}/{goal[len(PREFIX) :]}",
            seed=world_of,
            names=self.names,
            inventory=self.inventory,
            targets=targets,
            level=None,
        )

    def session(self, task: Task) -> TextCraftSession:
        """A fresh state for one attempt at `task`."""
        return TextCraftSession(make_world(task.data["world"], task.data["names"]), task.data["inventory"])

    def subtask(self, task: Task, tree: ExecutionTree, node: Node) -> Task | None:
        """The task of a sub-agent, with the inventory of the moment when it was launched; see `restarts.py`."""
        return subtask(task, make_world(task.data["world"], task.data["names"]), tree, node, self.inventory)

    def demonstrations(self, seed: int = 0) -> Iterator[Demonstration]:
        """Training tasks of all levels but the last, and the reference solver, which delegates where the mode allows it."""
        script = node_script if self.mode == "recursive" else single_script
        for task in self.tasks("train", seed):
            if task.level == "extreme":
                continue
            world = make_world(task.data["world"], task.data["names"])

            def expert(goal: str, context: object, world: World = world) -> Iterator[str]:
                return script(world, parse_goal(goal) or {}, lambda needed: needed)

            yield Demonstration(task=task, expert=expert)
