"""Tasks about our own transcripts: several questions about each, families in turn."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Literal, TypeAlias, get_args

from recursive_agent.errors import ConfigurationError

from ..base import Task
from .facts import SUBJECT, Filter, Kind
from .questions import Gold, Question
from .transcript import Transcript, make_transcript

Family: TypeAlias = Literal["counting", "common", "user", "timeline", "list"]
FAMILIES: tuple[Family, ...] = get_args(Family)
Split: TypeAlias = Literal["train", "validation", "test"]
LEVELS: Mapping[str, int] = MappingProxyType(
    {"8k": 1 << 13, "16k": 1 << 14, "32k": 1 << 15, "64k": 1 << 16, "128k": 1 << 17, "256k": 1 << 18, "512k": 1 << 19}
    | {"1m": 1 << 20}
)
"""The levels where no others are asked for, and the tokens of their transcripts."""
LEAST, MOST = 64, 1 << 20
"""Tokens of the shortest and of the longest transcript."""
_LENGTH = re.compile(r"([1-9][0-9]{0,6})([km]?)")
SIZES: Mapping[Split, int] = MappingProxyType({"train": 500, "validation": 30, "test": 60})
"""Tasks of each level."""
PER_TRANSCRIPT = 5
"""Questions about one transcript: one of each family."""
_DRAWS = 12
"""Questions that are drawn before one is taken as it is."""
_KINDS: tuple[Kind, ...] = ("casts", "rolls", "hits")


def lengths_of(text: str) -> dict[str, int]:
    """The levels that a list such as `512,2k,1m` names, and the tokens of each. Raises ConfigurationError for another text."""
    found = {name.strip(): _tokens(name.strip()) for name in text.split(",")}
    if wrong := [name for name, tokens in found.items() if not LEAST <= tokens <= MOST]:
        raise ConfigurationError(
            f"oolong-synth: a length reads 512, 2k or 1m and is from {LEAST} tokens to 1m, not {wrong[0]!r:.40}"
        )
    return found


def _tokens(name: str) -> int:
    match = _LENGTH.fullmatch(name)
    return 0 if match is None else int(match[1]) << {"": 0, "k": 10, "m": 20}[match[2]]


def generate(split: Split, seed: int, levels: Mapping[str, int], limit: int | None) -> Iterator[Task]:
    """The tasks of a split: of one level, as many as `limit` says, or of several in turn."""
    if len(levels) > 1:
        for number in range(SIZES[split]):
            for name, tokens in levels.items():
                if limit is not None and limit <= 0:
                    return
                limit = None if limit is None else limit - 1
                yield make_task(split, seed, name, tokens, number)
        return
    for name, tokens in levels.items():
        for number in range(SIZES[split] if limit is None else limit):
            yield make_task(split, seed, name, tokens, number)


def make_task(split: Split, seed: int, level: str, tokens: int, number: int) -> Task:
    """Task `number` of a level, whose transcripts have so many tokens."""
    key = f"{split}/{seed}/{level}/{number // PER_TRANSCRIPT}"
    transcript = make_transcript(key, tokens)
    family = FAMILIES[number % PER_TRANSCRIPT]
    question = draw_question(transcript, family, random.Random(f"question/{key}/{family}"))
    return task_of(
        f"oolong-synth/{split}/{seed}/{level}/{number}",
        question,
        transcript,
        level=level,
        data={"transcript": key, "tokens": tokens, "family": family},
    )


def task_of(
    id: str, question: Question, transcript: Transcript, *, level: str | None, data: Mapping[str, object]
) -> Task:
    """The task of a question about a transcript."""
    return Task(
        id=id, goal=str(question), context=transcript.text, returns=returns_of(question), level=level, data=dict(data)
    )


def returns_of(question: Question) -> object:
    """The type of the answer."""
    match question.form:
        case "compare":
            return str
        case "most" | "fewest":
            return int if question.by == "episode" else str
        case "names":
            return list[int] if question.by == "episode" else list[str]
        case "tally":
            return dict[str, int] if question.by != "episode" else dict
        case _:
            return int


def draw_question(transcript: Transcript, family: Family, rng: random.Random) -> Question:
    """A question whose answer is one, and not the first thing that one would say; after some tries, as it comes."""
    facts = list(transcript.facts_of(range(len(transcript.lines))))
    question = _DRAW[family](transcript, rng)
    for _ in range(_DRAWS):
        if _asks(question, question.answer(facts), transcript.episodes):
            break
        question = _DRAW[family](transcript, rng)
    return question


def _asks(question: Question, gold: Gold, episodes: int) -> bool:
    match question.form:
        case "count" | "damage":
            return bool(gold.value)
        case "most" | "fewest":
            return len(gold.accepted) == 1 and "none" not in gold.accepted
        case "episodes":
            return gold.value not in (0, episodes)
        case "first":
            return gold.value not in (0, 1)
        case "last":
            return gold.value not in (0, episodes)
        case "names":
            return isinstance(gold.value, list) and len(gold.value) > 1
        case _:
            return True


def _filter(transcript: Transcript, rng: random.Random, *, what: bool, who: bool, value: bool = False) -> Filter:
    """Any filter that names something, where `what`, `who` and `value` say along which dimensions it must not."""
    kind = rng.choice(_KINDS)
    cast = transcript.cast
    value = value and kind == "rolls"
    choices = [name for name, allowed in (("what", what), ("who", who), ("value", value)) if allowed]
    named = set(rng.sample(choices, rng.randint(1, len(choices)))) if choices else set()
    return Filter(
        kind,
        rng.choice(cast.names[kind]) if "what" in named else None,
        rng.choice(cast.characters) if "who" in named else None,
        rng.randint(1, 20) if "value" in named else None,
    )


def _counting(transcript: Transcript, rng: random.Random) -> Question:
    about = _filter(transcript, rng, what=True, who=True, value=True)
    return Question("damage" if about.kind == "hits" and rng.random() < 0.5 else "count", about)


def _common(transcript: Transcript, rng: random.Random) -> Question:
    if rng.random() < 0.4:
        about = _filter(transcript, rng, what=False, who=rng.random() < 0.5)
        one, other = rng.sample(transcript.cast.names[about.kind], 2)
        return Question(
            "compare",
            Filter(about.kind, one, about.who),
            SUBJECT[about.kind],
            Filter(about.kind, other, about.who),
        )
    about = _filter(transcript, rng, what=False, who=True, value=True)
    return Question(rng.choice(("most", "most", "fewest")), about, SUBJECT[about.kind])


def _user(transcript: Transcript, rng: random.Random) -> Question:
    about = _filter(transcript, rng, what=True, who=False, value=True)
    return Question(rng.choice(("most", "most", "fewest")), about, "character")


def _timeline(transcript: Transcript, rng: random.Random) -> Question:
    about = _filter(transcript, rng, what=True, who=True, value=True)
    return Question(rng.choice(("first", "last", "episodes")), about)


def _list(transcript: Transcript, rng: random.Random) -> Question:
    about = _filter(transcript, rng, what=True, who=True, value=True)
    while len(about.open) == 1:  # only the episode is open, and in long transcripts these lists have hundreds of items
        about = _filter(transcript, rng, what=True, who=True, value=True)
    return Question("names", about, about.open[0])


_DRAW: Mapping[Family, Callable[[Transcript, random.Random], Question]] = {
    "counting": _counting,
    "common": _common,
    "user": _user,
    "timeline": _timeline,
    "list": _list,
}
