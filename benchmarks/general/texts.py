"""Texts for the tasks: prose that says nothing, with facts hidden in it, and logs."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

_WHO = ("The clerk", "A visitor", "The old captain", "Her neighbour", "The gardener", "A student", "The baker")
_DID = ("walked along", "wrote about", "looked at", "repaired", "described", "painted", "asked about", "remembered")
_WHAT = ("the bridge", "a narrow street", "the market", "an empty house", "the river", "a small boat", "the library")
_WHEN = ("in the morning", "before noon", "after the rain", "last winter", "on a quiet day", "without a word")


def sentence(rng: Random) -> str:
    """A sentence without numbers."""
    return f"{rng.choice(_WHO)} {rng.choice(_DID)} {rng.choice(_WHAT)} {rng.choice(_WHEN)}."


def prose(rng: Random, sentences: int, facts: Sequence[str] = ()) -> str:
    """That many idle sentences, ten a paragraph, with the facts at random places among them, in their order."""
    lines = [sentence(rng) for _ in range(sentences)]
    places = sorted(rng.sample(range(sentences), len(facts)), reverse=True)
    for place, fact in zip(places, reversed(facts), strict=True):
        lines.insert(place, fact)
    return "\n\n".join(" ".join(lines[at : at + 10]) for at in range(0, len(lines), 10))


def log(rng: Random, lines: int, levels: Sequence[str] = ("INFO", "DEBUG", "WARN", "ERROR")) -> str:
    """A log: `00017 WARN worker-3 job 512 took 48 ms`."""
    return "\n".join(
        f"{number:05} {rng.choice(levels)} worker-{rng.randint(1, 9)} job {rng.randint(100, 999)} took {rng.randint(5, 900)} ms"
        for number in range(lines)
    )
