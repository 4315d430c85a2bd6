"""DeepDive-Synth as an `Environment`: questions of 2 to 6 hops about made-up worlds, with exact gold for every hop."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import lru_cache
from hashlib import blake2b
from itertools import islice
from typing import get_args

from recursive_agent.errors import ConfigurationError

from ...errors import UnknownGoal
from ..base import About, Demonstration, Mode, Task
from ..generated import check_selection, one_of
from .corpus import Corpus
from .expert import recursive_expert, single_expert
from .goals import EXAMPLE, Chain, answers, format_goal, parse_goal
from .graph import Graph, make_graph
from .pages import pages
from .questions import questions
from .synth_session import SynthSession

HOPS = {f"{hops}-hop": hops for hops in range(2, 7)}
"""Levels, and the number of steps of their chains."""
SIZES = {"train": 200, "validation": 20, "test": 40}
"""Tasks of one level."""
WORLDS = {"train": 256, "validation": 16, "test": 32}
"""Worlds that the tasks of a split are about."""


class DeepDiveSynth:
    """Multi-hop questions about made-up people, places, organisations, works and events, answered by searching pages.

    `mode`: `single` withholds `launch_subagent` (`max_depth` 0). Raises ConfigurationError for any other value.
    """

    name = "deepdive-synth"
    levels = tuple(HOPS)
    about = About(
        summary="answer questions of 2 to 6 hops about made-up worlds by searching their pages",
        sizes={"train": None, "validation": None, "test": None},
    )

    def __init__(self, *, mode: Mode = "recursive") -> None:
        one_of(self.name, "mode", mode, get_args(Mode))
        self.mode = mode
        self.max_depth = max(HOPS.values()) - 1 if mode == "recursive" else 0
        self.splits = tuple(SIZES)

    def tasks(self, split: str, seed: int = 0, level: str | None = None, limit: int | None = None) -> Iterator[Task]:
        """The tasks of a split: of one level (as many as `limit` says), or of all of them shuffled.

        Splits have worlds of their own. Raises ConfigurationError for an unknown split or level.
        """
        check_selection(self.name, split, self.splits, level, self.levels, limit)
        return islice(self._all(split, seed, level, limit), limit)

    def task(self, goal: str, seed: int = 0) -> Task:
        """The task of any goal in the first test world of `seed`.

        Raises UnknownGoal for a goal that breaks the grammar, and ConfigurationError for one that has no answer there, or
        several.
        """
        chain = parse_goal(goal)
        if chain is None:
            raise UnknownGoal(f"a goal reads like {EXAMPLE!r}, not {goal!r:.300}")
        world = world_seed("test", seed, 0)
        graph = _graph(world)
        for name in chain.names():
            if name not in graph.kinds:
                others = ", ".join(sorted(graph.kinds)[:3])
                raise ConfigurationError(
                    f"there is nothing called {name} in this world; there are {others}, for instance"
                )
        if (count := len(answers(graph, chain))) != 1:
            raise ConfigurationError(
                f"a question must have one answer, and {goal!r:.300} has {count or 'none'} in this world"
            )
        return Task(id=f"{self.name}/own/{seed}/{goal}", goal=goal, data={"world": world})

    def session(self, task: Task) -> SynthSession:
        """A fresh state for one attempt at `task`."""
        return SynthSession(_graph(task.data["world"]), _corpus(task.data["world"]))

    def demonstrations(self, seed: int = 0) -> Iterator[Demonstration]:
        """Training tasks of all levels, and the reference solver, which delegates where the mode allows it."""
        expert = recursive_expert if self.mode == "recursive" else single_expert
        for task in self.tasks("train", seed):
            yield Demonstration(task=task, expert=expert)

    def _all(self, split: str, seed: int, level: str | None, limit: int | None) -> Iterator[Task]:
        size = SIZES[split] if level is None or limit is None else limit
        order = [(name, index) for name in ([level] if level else HOPS) for index in range(size)]
        if level is None:
            random.Random(f"deepdive/order/{split}/{seed}").shuffle(order)
        drawn = _Questions(split, seed)
        for name, index in order:
            world, chain = drawn.question(name, index)
            yield Task(
                id=f"{self.name}/{split}/{seed}/{name}/{index}",
                goal=format_goal(chain),
                level=name,
                data={"world": world},
            )


class _Questions:
    """Questions by level and number, no two of one world and level alike; neighbours come from different worlds."""

    def __init__(self, split: str, seed: int) -> None:
        self._split, self._seed = split, seed
        self._drawn: dict[tuple[str, int], tuple[Iterator[Chain], list[Chain]]] = {}

    def question(self, level: str, index: int) -> tuple[int, Chain]:
        """(seed of the world, chain) of task `index`."""
        turn, place = divmod(index, WORLDS[self._split])
        world = world_seed(self._split, self._seed, place)
        if (level, place) not in self._drawn:
            rng = random.Random(f"deepdive/questions/{level}/{world}")
            self._drawn[level, place] = questions(_graph(world), rng, HOPS[level]), []
        source, known = self._drawn[level, place]
        while len(known) <= turn:
            chain = next(source, None)
            if chain is None:
                raise ConfigurationError(f"there are not {index + 1:,} different {level} tasks; ask for fewer")
            known.append(chain)
        return world, known[turn]


def world_seed(split: str, seed: int, index: int) -> int:
    """The seed of world `index` of a split; no two splits or seeds share one."""
    return int.from_bytes(blake2b(f"deepdive/{split}/{seed}/{index}".encode(), digest_size=6).digest(), "big")


@lru_cache(maxsize=128)
def _graph(seed: int) -> Graph:
    return make_graph(seed)


@lru_cache(maxsize=64)
def _corpus(seed: int) -> Corpus:
    """The index of the pages of a graph (a quarter of a megabyte), which only attempts need."""
    return Corpus.of(pages(_graph(seed)))
