"""A transcript of game sessions, drawn from a seed, that knows what each part of it reports."""

from __future__ import annotations

import random
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate

from .facts import Fact, Kind
from .names import CHARACTERS, CREATURES, PLACES, SKILLS, SPELLS, THINGS
from .wordings import CHATTER, LINE, NOTHING, WORDINGS

CHARS_PER_TOKEN = 4
"""The lengths of levels are in tokens of so many characters."""
MOST_LINE = 100
"""Characters up to which a line is long, its end of line included."""
EPISODE = (30, 90)
"""Lines of the shortest and the longest episode."""
FACTS = 0.45
"""The share of lines that report a fact."""
_FALSE = 0.3
"""The share of the other lines that only sound as if they did."""
_NAME = re.compile(r"\[\d+:\d+\]")
_KINDS: tuple[Kind, ...] = ("casts", "rolls", "hits")


@dataclass(frozen=True, slots=True)
class Cast:
    """The names of one transcript."""

    characters: tuple[str, ...]
    names: dict[Kind, tuple[str, ...]]
    """Spells, skills and creatures."""


@dataclass(frozen=True)
class Transcript:
    """The text, its lines, and the fact that each line reports (None: nothing). Line `i` begins at character `starts[i]`."""

    text: str
    cast: Cast
    lines: Sequence[str]
    facts: Sequence[Fact | None]
    starts: Sequence[int]
    _numbers: dict[str, int] = field(default_factory=dict)

    @property
    def episodes(self) -> int:
        """How many episodes there are; they count from 1."""
        last = LINE.match(self.lines[-1])
        assert last is not None
        return int(last[1])

    def find(self, context: object) -> list[int] | None:
        """The numbers of the whole lines in `context`, if all of it is from this transcript; None otherwise.

        A context is a text, or a list of texts. A text is a part of the transcript, or any of its whole lines; what is left of
        a line that is cut at either end may stand beside its neighbour, and does not count. None too where a line occurs twice,
        and where there is no whole line.
        """
        parts = [context] if isinstance(context, str) else context
        if not isinstance(parts, list | tuple) or not all(isinstance(part, str) for part in parts):
            return None
        found: list[int] = []
        for part in parts:
            start = self._place(part)
            lines = self._apart(part) if start is None else self._whole(start, start + len(part))
            if lines is None:
                return None
            found.extend(lines)
        return found if found and len(set(found)) == len(found) else None

    def _place(self, part: str) -> int | None:
        """Where a part begins, if it is one; by the first line that it names, since a search would go over all of the text."""
        named = _NAME.search(part)
        number = None if named is None else self._number(named[0])
        if named is None or number is None:
            return None
        start = self.starts[number] - named.start()
        return start if start >= 0 and self.text.startswith(part, start) else None

    def _whole(self, start: int, end: int) -> range:
        """The lines that lie between two characters as a whole; the end of line at their end may be missing."""
        first = bisect_left(self.starts, start)
        # A line is whole where its full stop, two characters before the next line, is inside.
        return range(first, max(first, bisect_right(self.starts, end + 1, first) - 1))

    def _apart(self, text: str) -> list[int] | None:
        """The numbers of the whole lines of a text; None where anything else stands in it.

        Only the end of the line before the first one, and the beginning of the line after the last one, may stand there too: a
        text of the parent's own, however short, could hold the answer.
        """
        found: list[int] = []
        at = 0
        for match in LINE.finditer(text):
            number = self.number(match[0])
            between = text[at : match.start()].strip()
            if number is None:
                return None
            if between and (found or number == 0 or not self.lines[number - 1].endswith(between)):
                return None
            at = match.end()
            found.append(number)
        rest = text[at:].strip()
        if rest and (not found or not self._line(found[-1] + 1).startswith(rest)):
            return None
        return found

    def _line(self, number: int) -> str:
        return self.lines[number] if number < len(self.lines) else ""

    def number(self, line: str) -> int | None:
        """The number of a whole line, None if it is not of this transcript."""
        number = self._number(line.partition(" ")[0])
        return number if number is not None and self.lines[number] == line else None

    def _number(self, name: str) -> int | None:
        """The number of the line that is named `[12:7]`."""
        if not self._numbers:
            self._numbers.update((line.partition(" ")[0], number) for number, line in enumerate(self.lines))
        return self._numbers.get(name)

    def facts_of(self, lines: Sequence[int]) -> Iterator[Fact]:
        """What these lines report."""
        return (fact for number in lines if (fact := self.facts[number]) is not None)


@lru_cache(maxsize=8)
def make_transcript(seed: str, tokens: int) -> Transcript:
    """The transcript of a seed: as many lines as fit into `tokens` tokens, kept for the next time."""
    rng = random.Random(f"transcript/{seed}")
    most = tokens * CHARS_PER_TOKEN
    cast = _cast(rng)
    # Roughly; only to place the episodes in which a spell or a creature is known.
    episodes = max(2, most // 63 // (sum(EPISODE) // 2))
    draw = _Draw(rng, cast, episodes)
    lines: list[str] = []
    facts: list[Fact | None] = []
    size = episode = number = last = 0
    while True:
        if number == last:
            episode, number, last = episode + 1, 0, rng.randint(*EPISODE)
        number += 1
        said, fact = draw.line(episode, number)
        line = f"[{episode}:{number}] {said}."
        if size + len(line) + 1 > most and lines:
            break
        size += len(line) + 1
        lines.append(line)
        facts.append(fact)
    starts = list(accumulate((len(line) + 1 for line in lines), initial=0))
    return Transcript("\n".join(lines) + "\n", cast, lines, facts, starts)


def _cast(rng: random.Random) -> Cast:
    return Cast(
        tuple(rng.sample(CHARACTERS, rng.randint(5, 7))),
        {
            "casts": tuple(rng.sample(SPELLS, rng.randint(8, 12))),
            "rolls": tuple(rng.sample(SKILLS, rng.randint(6, 8))),
            "hits": tuple(rng.sample(CREATURES, rng.randint(6, 10))),
        },
    )


class _Draw:
    """Draws the lines of a transcript."""

    def __init__(self, rng: random.Random, cast: Cast, episodes: int) -> None:
        self._rng = rng
        self._cast = cast
        self._weights = [rng.uniform(0.5, 2) for _ in cast.characters]
        self._kinds = [rng.uniform(0.7, 1.3) for _ in _KINDS]
        # Every other name is only heard from some episode on, until some other one.
        self._known = {
            (kind, name): sorted(rng.randint(1, episodes) for _ in range(2)) if place % 2 else [1, episodes * 2 + 2]
            for kind in _KINDS
            for place, name in enumerate(cast.names[kind])
        }
        self._frequent = {key: rng.uniform(0.4, 2) for key in self._known}
        self._episode = 0
        self._now: dict[Kind, tuple[list[str], list[float]]] = {}

    def line(self, episode: int, number: int) -> tuple[str, Fact | None]:
        """What line `number` of an episode says, and what it reports."""
        rng = self._rng
        if episode != self._episode:
            self._enter(episode)
        who, other = self._two()
        if rng.random() < FACTS:
            kind = rng.choices(_KINDS, self._kinds)[0]
            names, weights = self._now[kind]
            what = rng.choices(names, weights)[0]
            value = rng.randint(1, 20) if kind == "rolls" else rng.randint(1, 12)
            said = rng.choice(WORDINGS[kind]).format(
                who=who,
                other=other,
                what=what,
                value=value,
                creature=rng.choice(self._cast.names["hits"]),
                place=rng.choice(PLACES),
            )
            return said, Fact(kind, episode, number, who, what, 0 if kind == "casts" else value)
        said = rng.choice(NOTHING if rng.random() < _FALSE else CHATTER).format(
            who=who,
            other=other,
            spell=rng.choice(self._cast.names["casts"]),
            skill=rng.choice(self._cast.names["rolls"]),
            creature=rng.choice(self._cast.names["hits"]),
            value=rng.randint(2, 20),
            place=rng.choice(PLACES),
            things=rng.choice(THINGS),
        )
        return said, None

    def _two(self) -> tuple[str, str]:
        who, other = self._rng.choices(self._cast.characters, self._weights, k=2)
        while other == who:
            other = self._rng.choice(self._cast.characters)
        return who, other

    def _enter(self, episode: int) -> None:
        self._episode = episode
        for kind in _KINDS:
            known = [
                name
                for name in self._cast.names[kind]
                if self._known[kind, name][0] <= episode <= self._known[kind, name][1]
            ]
            self._now[kind] = known, [self._frequent[kind, name] for name in known]
