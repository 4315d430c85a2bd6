"""`email-synth`: questions to synthetic mailboxes, with exact answers for every agent, as an `Environment`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import get_args

from recursive_agent.errors import ConfigurationError
from recursive_agent.threads import call_in_thread
from recursive_agent.trace.tree import Node

from ...errors import UnknownGoal
from ..base import About, Demonstration, Mode, Task
from ..generated import check_selection, one_of
from .answers import UNKNOWN, Answer, answer_of, overlap, same, sources_of
from .experts import alone, delegating
from .goals import Question, parse_goal
from .gold import Gold, gold_of, is_right
from .mailbox import Mailbox
from .session import Tools
from .synth_tasks import PER_WORLD, SPLITS, WORLDS, generate, world_seed
from .world import LEVELS, World, make_world

MAX_DEPTH = 6
"""Deepest level of the reference solver: a question about several senders of the largest mailbox, down to single days."""
_EXAMPLE = Question(
    kind="value", attribute="budget", project="Blue Heron", start=date(2023, 1, 2), end=date(2023, 7, 1)
)


class SynthSession(Tools):
    """An attempt at a question to a synthetic mailbox; every agent's own goal has an exact answer."""

    def __init__(self, seed: int, level: str) -> None:
        self._seed, self._level = seed, level
        self._made: World | None = None
        super().__init__(self._mailbox)

    async def score(self, node: Node) -> float:
        """1 for an agent that finished with the right answer to its own goal, else 0 (a goal outside the grammar has none)."""
        if not node.finished:
            return 0.0
        gold = await call_in_thread(self._gold, node.goal)
        answer = answer_of(node.result)
        if gold is None or answer is None or same(answer, UNKNOWN):
            return 0.0
        return float(is_right(answer, gold))

    def metrics(self, node: Node) -> dict[str, float]:
        """How the sources that an agent names fit the emails that its answer comes from; they do not change its score."""
        gold = self._gold(node.goal)
        return {} if gold is None else overlap(sources_of(node.result), gold.sources)

    def _world(self) -> World:
        """The mailbox; making it takes up to half a second."""
        if self._made is None:
            self._made = make_world(self._seed, self._level)
        return self._made

    def _mailbox(self) -> tuple[Mailbox, str]:
        return self._world().mailbox, self._world().inbox

    def _gold(self, goal: str) -> Gold | None:
        question = parse_goal(goal)
        return None if question is None else gold_of(self._world(), question)


class EmailSynth:
    """Questions to a synthetic mailbox of thousands of emails, answered by searching and reading.

    Values are stated, corrected, quoted and discussed; the last statement in the period counts. `mode`: which
    demonstrations are given; `single` has `max_depth` 0. Raises ConfigurationError for another.
    """

    name = "email-synth"
    about = About(
        summary="answer questions about a generated mailbox of 2,000 or 6,000 emails, where the last correction counts",
        sizes={split: number * PER_WORLD * len(LEVELS) for split, number in WORLDS.items()},
    )
    splits = SPLITS
    levels = tuple(LEVELS)

    def __init__(self, *, mode: Mode = "recursive") -> None:
        one_of(self.name, "mode", mode, get_args(Mode))
        self.mode = mode
        self.max_depth = MAX_DEPTH if mode == "recursive" else 0

    def tasks(self, split: str, seed: int = 0, level: str | None = None, limit: int | None = None) -> Iterator[Task]:
        """The questions of a split: of one level, or of all in turn; with `limit`, as many as that.

        Raises ConfigurationError for an unknown split or level.
        """
        return generate(check_selection(self.name, split, self.splits, level, self.levels, limit), seed, level, limit)

    def task(self, goal: str, seed: int = 0) -> Task:
        """The task of a question to the first small test mailbox of `seed`.

        Raises UnknownGoal for a goal that breaks the grammar, and ConfigurationError for a project or person that this
        mailbox does not know.
        """
        question = parse_goal(goal)
        if question is None:
            raise UnknownGoal(f"email-synth: a goal reads like {_EXAMPLE.goal()!r}, not {goal!r:.200}")
        number = world_seed("test", seed, 0)
        world = make_world(number, self.levels[0])
        if gold_of(world, question) is None:
            raise ConfigurationError(
                f"email-synth: this mailbox does not know everything that is named in {goal!r}; it knows the projects "
                f"{', '.join(world.projects)}, and {', '.join(world.people)}"
            )
        data = {"world": number, "mailbox": self.levels[0]}
        return Task(id=f"email-synth/own/{seed}/{goal}", goal=goal, returns=Answer, data=data)

    def session(self, task: Task) -> SynthSession:
        """A fresh attempt at `task`."""
        return SynthSession(task.data["world"], task.data["mailbox"])

    def demonstrations(self, seed: int = 0) -> Iterator[Demonstration]:
        """Training tasks of all levels, and the reference solver, which delegates where the mode allows it."""
        expert = delegating if self.mode == "recursive" else alone
        for task in self.tasks("train", seed):
            yield Demonstration(task=task, expert=expert)
