"""`oolong-synth`: questions about long transcripts that are generated here, with the right answer for any part of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

from recursive_agent.errors import ConfigurationError

from ...errors import UnknownGoal
from ..base import About, Demonstration, Mode, Task
from ..generated import check_selection, one_of
from .experts import LEAF_LINES, PIECE_LINES, Expert
from .grading import Scoring
from .questions import parse_goal
from .session import OolongSession, Reading
from .tasks import LEVELS, Split, generate, lengths_of, task_of
from .transcript import make_transcript

MAX_DEPTH = 6
_ENDLESS = 10**9


class OolongSynth:
    """Answer a question about a long transcript of game sessions, which is the agent's `context`.

    `scoring`: `strict` or `official`. `reading`: `code` takes any right answer; `print` takes it only from an agent that has
    printed all of its context or had sub-agents read it. `mode`: which demonstrations are given; `single` also sets the depth
    to 0. `lengths`: the levels, with commas between them, each any length such as `512`, `2k` or `1m` tokens. `taught`: levels
    of the demonstrations (default: the shortest two). `leaf`: lines that the expert handles at a
    time, and from which on it delegates (default: 100; 32 to print; 150 alone). `rules`: give agents the tool `rules`, whose
    text says what counts and how sub-agents are asked. Raises ConfigurationError for other values.
    """

    name = "oolong-synth"
    about = About(
        summary="answer questions about generated game transcripts of 8,000 to 1,000,000 tokens",
        sizes={"train": None, "validation": None, "test": None},
    )
    splits: tuple[Split, ...] = get_args(Split)
    levels = tuple(LEVELS)

    def __init__(
        self,
        *,
        scoring: Scoring = "strict",
        reading: Reading = "code",
        mode: Mode = "recursive",
        lengths: str = ",".join(LEVELS),
        taught: str | None = None,
        leaf: int | None = None,
        rules: bool = True,
    ) -> None:
        for argument, value, allowed in (
            ("scoring", scoring, get_args(Scoring)),
            ("reading", reading, get_args(Reading)),
            ("mode", mode, get_args(Mode)),
            ("rules", rules, (True, False)),
        ):
            one_of(self.name, argument, value, allowed)
        if leaf is not None and (type(leaf) is not int or leaf < 1):
            raise ConfigurationError(f"oolong-synth: leaf must be a whole number of at least 1, not {leaf!r}")
        self.scoring: Scoring = scoring
        self.reading: Reading = reading
        self.mode: Mode = mode
        self._lengths = lengths_of(str(lengths))
        self.levels = tuple(self._lengths)
        shortest = sorted(self.levels, key=self._lengths.__getitem__)[:2]
        self.taught = shortest if taught is None else [level.strip() for level in str(taught).split(",")]
        for level in self.taught:
            one_of("oolong-synth", "level", level, self.levels)
        self.leaf = leaf or (PIECE_LINES if mode == "single" else LEAF_LINES[reading])
        self.rules = bool(rules)
        self.max_depth = MAX_DEPTH if mode == "recursive" else 0

    def tasks(self, split: str, seed: int = 0, level: str | None = None, limit: int | None = None) -> Iterator[Task]:
        """The tasks of a split: of one level, or of all in turn; at most `limit`, of one level as many as `limit` says.

        The same arguments give the same tasks everywhere. Raises ConfigurationError for an unknown split or level.
        """
        chosen = check_selection(self.name, split, self.splits, level, self.levels, limit)
        return generate(chosen, seed, self._lengths if level is None else {level: self._lengths[level]}, limit)

    def task(self, goal: str, seed: int = 0) -> Task:
        """The task of any question about the first test transcript of `seed` with 8,000 tokens.

        Raises UnknownGoal for a goal that breaks the grammar.
        """
        question = parse_goal(goal)
        if question is None:
            raise UnknownGoal(f"a goal reads like 'How many casts of Ember are there?', not {goal!r:.200}")
        key, tokens = f"test/{seed}/8k/0", LEVELS["8k"]
        return task_of(
            f"oolong-synth/own/{seed}/{goal}",
            question,
            make_transcript(key, tokens),
            level=None,
            data={"transcript": key, "tokens": tokens},
        )

    def session(self, task: Task) -> OolongSession:
        """A fresh state for one attempt at `task`. Raises ConfigurationError for a task of another environment."""
        key, tokens = task.data.get("transcript"), task.data.get("tokens")
        if not isinstance(key, str) or type(tokens) is not int:
            raise ConfigurationError(f"oolong-synth: {task.id} is not a task of this environment")
        return OolongSession(make_transcript(key, tokens), scoring=self.scoring, reading=self.reading, rules=self.rules)

    def demonstrations(self, seed: int = 0) -> Iterator[Demonstration]:
        """Training tasks of the levels `taught`, in turn, and the reference expert, which delegates if the mode allows it."""
        expert = Expert(reading=self.reading, recursive=self.mode == "recursive", leaf=self.leaf)
        streams = [self.tasks("train", seed, level, _ENDLESS) for level in self.taught]
        for tasks in zip(*streams, strict=True):
            for task in tasks:
                yield Demonstration(task=task, expert=expert)
