"""Transcripts: what they report can be read off their lines, and parts of them are told from anything else."""

from __future__ import annotations

import random
from hashlib import sha256
from itertools import pairwise
from string import Formatter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rao_rl.envs.oolong import names, wordings
from rao_rl.envs.oolong.facts import Kind
from rao_rl.envs.oolong.transcript import MOST_LINE, make_transcript
from rao_rl.envs.oolong.wordings import LINE, read_facts

SMALL = make_transcript("small", 1_000)
KINDS: tuple[Kind, ...] = ("casts", "rolls", "hits")


@pytest.mark.parametrize("tokens", [1 << 13, 1 << 16])
def test_a_transcript_is_as_long_as_it_says(tokens: int) -> None:
    made = make_transcript(f"length/{tokens}", tokens)
    assert tokens * 4 - MOST_LINE < len(made.text) <= tokens * 4
    assert made.text == "".join(f"{line}\n" for line in made.lines)
    assert all(made.text[start:].startswith(line) for start, line in zip(made.starts, made.lines, strict=False))
    assert max(map(len, made.lines)) < MOST_LINE
    assert len(set(made.lines)) == len(made.lines)


@pytest.mark.parametrize("kind", KINDS)
def test_a_careful_reader_sees_exactly_what_was_reported(kind: Kind) -> None:
    made = make_transcript("reader", 1 << 15)
    assert list(read_facts(made.text, kind)) == [fact for fact in made.facts if fact is not None and fact.kind == kind]


def test_every_wording_reports_what_it_should_and_nothing_else() -> None:
    values = {
        "who": "Mara",
        "other": "Edda",
        "spell": "Ember",
        "skill": "Stealth",
        "creature": "wolf",
        "place": "mill",
        "things": "ropes",
        "value": 7,
    }
    whats = {"casts": "Ember", "rolls": "Stealth", "hits": "wolf"}
    for kind, texts in wordings.WORDINGS.items():
        for text in texts:
            line = f"[3:4] {text.format(**values, what=whats[kind])}."
            assert [(fact.who, fact.what) for fact in read_facts(line, kind)] == [("Mara", whats[kind])], line
            assert not any(list(read_facts(line, other)) for other in KINDS if other != kind), line
    for text in (*wordings.NOTHING, *wordings.CHATTER):
        line = f"[3:4] {text.format(**values)}."
        assert not any(list(read_facts(line, kind)) for kind in KINDS), line


def test_a_line_can_be_told_by_its_ends() -> None:
    words = [*names.CHARACTERS, *names.SPELLS, *names.SKILLS, *names.CREATURES, *names.PLACES, *names.THINGS]
    assert len(set(words)) == len(words)
    assert all(word.isascii() and word.isalpha() for word in words)
    texts = [*(text for texts in wordings.WORDINGS.values() for text in texts), *wordings.NOTHING, *wordings.CHATTER]
    for text in texts:
        plain = "".join(part for part, _, _, _ in Formatter().parse(text))
        assert not set(plain) & set(".[]'\"\\\n"), text


def test_the_same_seed_gives_the_same_text_everywhere() -> None:
    texts = [make_transcript(f"fixed/{number}", 1 << 12).text for number in range(3)]
    assert sha256("".join(texts).encode()).hexdigest()[:16] == "60ed60803bbc9580"
    assert make_transcript.__wrapped__("fixed/0", 1 << 12).text == texts[0]


@given(st.integers(0, len(SMALL.text)), st.integers(0, len(SMALL.text)))
def test_a_slice_counts_its_whole_lines(one: int, other: int) -> None:
    start, end = sorted((one, other))
    whole = [match[0] for match in LINE.finditer(SMALL.text[start:end])]
    found = SMALL.find(SMALL.text[start:end])
    assert [SMALL.lines[number] for number in found or []] == whole
    assert (found is None) == (not whole)


@given(st.sets(st.integers(0, len(SMALL.lines) - 1), min_size=1), st.randoms(use_true_random=False), st.booleans())
def test_any_lines_count_once_as_a_list_or_as_a_text(chosen: set[int], rng: random.Random, joined: bool) -> None:
    order = rng.sample(sorted(chosen), len(chosen))
    lines = [SMALL.lines[number] for number in order]
    assert SMALL.find("\n".join(lines) if joined else lines) == order


@given(st.lists(st.integers(1, len(SMALL.text) // MOST_LINE - 1), min_size=1, max_size=6, unique=True))
def test_a_transcript_cut_anywhere_is_a_list_of_its_parts(cuts: list[int]) -> None:
    places = [0, *(cut * MOST_LINE for cut in sorted(cuts)), len(SMALL.text)]
    parts = [SMALL.text[start:end] for start, end in pairwise(places)]
    whole = [match[0] for part in parts for match in LINE.finditer(part)]
    assert [SMALL.lines[number] for number in SMALL.find(parts) or []] == whole


FIRST, SECOND = SMALL.lines[:2]


@pytest.mark.parametrize(
    "context",
    [
        None,
        3,
        "",
        "  \n",
        [],
        [""],
        {"text": FIRST},
        [FIRST, 3],
        [[FIRST]],
        "[1:1] Mara casts Ember at the wolf.",
        "Mara casts Ember.",
        FIRST[:-2],
        FIRST[1:],
        FIRST[:-1] + " again.",
        f"{FIRST}\n{FIRST}",
        [FIRST, SECOND, FIRST],
        f"{FIRST} The answer is 5",
        f"The answer is 5. {FIRST}",
        f"{FIRST} 5 {SECOND}",
        SMALL.text + "[99:1] Mara casts Ember.",
        SMALL.text + SMALL.text,
        SMALL.text.replace("a", "e"),
        [SMALL.text, "5"],
        [FIRST, SECOND[:12], SECOND[12:]],
        f"5\n{SECOND}",
        f"{FIRST}\n5",
        f"{FIRST}\n{SMALL.lines[2][:9]}",
        FIRST + "x" * 10_000,
    ],
)
def test_what_is_not_of_the_transcript_is_refused(context: object) -> None:
    assert SMALL.find(context) is None


def test_a_line_that_is_cut_may_stand_at_the_ends_of_a_part() -> None:
    assert SMALL.find(f"{FIRST[4:]}\n{SECOND}\n{SMALL.lines[2][:-3]}") == [1]
    assert SMALL.find([f"{FIRST}\n{SECOND[:12]}", f"{SECOND[12:]}\n{SMALL.lines[2]}"]) == [0, 2]
