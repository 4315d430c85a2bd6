"""Made-up names: nothing about them can be known, and many of them differ by one word only."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

_FIRST = ("Al", "Bren", "Cor", "Dar", "El", "Fen", "Gil", "Hal", "Ish", "Jor", "Kel", "Lor", "Mir", "Nev", "Or", "Tol")
_LAST = ("an", "ara", "eth", "ia", "in", "ona", "us", "wen")
_FAMILY = ("Ver", "Mos", "Tarn", "Quil", "Ash", "Bel", "Crow", "Dun", "Fal", "Gren", "Hol", "Ing")
_FAMILY_END = ("beck", "rick", "sley", "ton")
_PLACE = ("Os", "Vess", "Har", "Lin", "Mar", "Nor", "Pell", "Rav", "Sel", "Thorn", "Ul", "Wyn", "Yar", "Zel")
_PLACE_END = ("mere", "stad", "wick", "ford", "holm", "dale")
_HOUSE = ("Harl", "Ond", "Brimm", "Castr", "Lum", "Pard", "Sund", "Vail")
_HOUSE_END = ("ow", "ery", "ane", "is")
_BODIES = ("Press", "Works", "Guild", "Institute", "Society", "Union")
_COLOURS = ("Amber", "Silent", "Crimson", "Hollow", "Winter", "Paper", "Salt", "Distant", "Broken", "Copper")
_THINGS = ("Ledger", "Lantern", "Orchard", "Harbour", "Mirror", "Compass", "Garden", "Letter", "Bridge", "Clock")
_GATHERINGS = ("Congress", "Regatta", "Festival", "Fair", "Tournament", "Assembly")


def _joined(heads: Sequence[str], ends: Sequence[str]) -> list[str]:
    return [head + end for head in heads for end in ends]


_PAIRS: Mapping[str, tuple[list[str], list[str]]] = {
    "person": (_joined(_FIRST, _LAST), _joined(_FAMILY, _FAMILY_END)),
    "organisation": (_joined(_HOUSE, _HOUSE_END), list(_BODIES)),
    "work": (list(_COLOURS), list(_THINGS)),
    "event": (_joined(_PLACE, ("ian", "er")), list(_GATHERINGS)),
}
"""First words and last words of the names of each kind; places have one word."""


def deal(rng: random.Random, kind: str, count: int) -> list[str]:
    """`count` different names of a kind. About three of them share each of their words, as far as the pools allow."""
    if kind == "place":
        return rng.sample(_joined(_PLACE, _PLACE_END), count)
    firsts, lasts = _PAIRS[kind]
    few = max(4, -(-count // 3))
    firsts, lasts = rng.sample(firsts, min(few, len(firsts))), rng.sample(lasts, min(few, len(lasts)))
    return rng.sample([f"{first} {last}" for first in firsts for last in lasts], count)
