"""The sequence as an `Environment`: tasks by length, the tool that reads a page, and the score of every agent."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from recursive_agent.errors import ConfigurationError
from recursive_agent.tools import ToolContext

from ...errors import UnknownGoal
from ..base import About, ScoredNode, Task
from ..generated import ExactSession, Generated, Window, same, task_data
from .entries import KINDS, Entry, Kind, Question, gold, make_pages, names_of, parse_goal
from .experts import recursive_cell, single_cell

LEVELS: Mapping[str, int] = MappingProxyType({"2k": 5, "10k": 25, "40k": 100})
"""Tokens of the longest sequence of a level, and how many pages these are; the shortest has four fifths of them."""
RETURNS: Mapping[Kind, Any] = MappingProxyType({"balance": int, "count": int, "last": int | None, "peak": list[int]})


class SequenceSession(ExactSession):
    """One sequence, and how many pages each agent has read."""

    def __init__(self, pages: list[list[Entry]], window: int | None = None) -> None:
        super().__init__()
        self.pages = pages
        self.tools = (self.read,)
        self._names = frozenset(names_of(pages))
        self._window = Window(window, "pages")

    async def read(self, page: int, *, ctx: ToolContext) -> list[tuple[str, int]]:
        """One page of the sequence, numbered from 0: its entries (name, amount) in order.

        A goal `KIND of NAME on pages A:B` asks about the entries of NAME on the pages from A up to B (not included). KIND is
        `balance`: the sum of the amounts; `count`: the number of entries; `last`: the last amount, None if there is no
        entry; `peak`: [balance, highest balance on the way], starting from 0.
        """
        if not 0 <= page < len(self.pages):
            raise ValueError(f"there is no page {page}: the pages are 0 to {len(self.pages) - 1}")
        self._window.look(ctx)
        return list(self.pages[page])

    def understands(self, goal: str) -> bool:
        """Whether the goal keeps the grammar, and its name and pages exist."""
        return self._question(goal) is not None

    def verdict(self, node: ScoredNode) -> bool:
        """Whether the result is the answer to the node's own question."""
        question = self._question(node.goal)
        return question is not None and same(node.result, gold(self.pages, question))

    def _question(self, goal: str) -> Question | None:
        question = parse_goal(goal)
        if question is None or question.name not in self._names or question.end > len(self.pages):
            return None
        return question


class Sequence(Generated):
    """A sequence of entries that is read page by page, some 400 tokens at a time.

    `mode`: `single` withholds `launch_subagent` (`max_depth` 0). `window`: pages that one agent may read in all; None: as
    many as it likes. Raises ConfigurationError for any other value.
    """

    name = "sequence"
    levels = tuple(LEVELS)
    deepest = 3
    about = About(
        summary="sum, count and follow the entries of a sequence of 2,000 to 40,000 tokens, read 400 tokens at a time",
        sizes={"train": None, "validation": None, "test": None},
    )

    def make(self, id: str, level: str) -> Task:
        """A question about a whole sequence."""
        rng = random.Random(f"task/{id}")
        most = LEVELS[level]
        count = rng.randint(-(-most * 4 // 5), most)
        return self._task(id, id, level, Question(rng.choice(KINDS), rng.choice(names_of(make_pages(id, 1))), 0, count))

    def task(self, goal: str, seed: int = 0) -> Task:
        """The task of any goal about the longest sequence of `seed`.

        Raises UnknownGoal for a goal that breaks the grammar, and ConfigurationError for a name or pages that do not exist.
        """
        question = parse_goal(goal)
        if question is None:
            raise UnknownGoal(
                f"a goal reads like 'balance of amy on pages 0:25' (or {', '.join(KINDS[1:])}), not {goal!r:.80}"
            )
        source, most = f"sequence/own/{seed}", LEVELS[self.levels[-1]]
        if question.end > most:
            raise ConfigurationError(f"sequence: there are {most} pages, so the last number must be at most {most}")
        if question.name not in (names := names_of(make_pages(source, most))):
            raise ConfigurationError(
                f"sequence: {question.name} is not in the sequence of seed {seed}; it has {', '.join(names)}"
            )
        return self._task(f"{source}/{goal}", source, None, question)

    def session(self, task: Task) -> SequenceSession:
        """A fresh state for one attempt at `task`."""
        source, count = (
            task_data(self.name, task, "source", str),
            task_data(self.name, task, "pages", int),
        )
        return SequenceSession(make_pages(source, count), self.window)

    def expert(self, goal: str, context: Any) -> Iterator[str]:
        """One cell: read the page or delegate, or read all pages in a loop."""
        question = parse_goal(goal)
        if question is not None:
            yield recursive_cell(question) if self.mode == "recursive" else single_cell(question)

    def parts(self, task: Task) -> int:
        """Pages of the sequence."""
        return task_data(self.name, task, "pages", int)

    def _task(self, id: str, source: str, level: str | None, question: Question) -> Task:
        count = question.end if level is not None else LEVELS[self.levels[-1]]
        return Task(
            id=id,
            goal=str(question),
            returns=RETURNS[question.kind],
            level=level,
            data={"source": source, "pages": count},
        )
