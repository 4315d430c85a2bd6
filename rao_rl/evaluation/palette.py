"""The colours, dashes and markers of every picture: charts in files, and the training page. No matplotlib.

Colours are Okabe and Ito's, which readers with any kind of colour blindness tell apart. No picture relies on colour alone:
lines differ in dashes and markers too, and bars in hatches, so that a picture printed in grey says the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..envs.base import Mode


@dataclass(frozen=True, slots=True)
class Look:
    """How one run, or one series, is drawn."""

    colour: str
    dark: str
    """The colour on a dark ground."""
    dash: tuple[int, ...]
    """Lengths of dash and gap, in line widths; () for a full line."""
    marker: str
    """A marker of matplotlib."""


COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette."""
_DARK = {"#000000": "#F0F0F0"}
"""What takes the place of a colour that a dark ground hides."""
DASHES: tuple[tuple[int, ...], ...] = ((), (5, 2), (2, 2), (7, 2, 2, 2), (10, 3), (4, 2, 1, 2, 1, 2), (1, 2))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LOOKS = tuple(
    Look(colour, _DARK.get(colour, colour), dash, marker)
    for colour, dash, marker in zip(COLOURS, DASHES, MARKERS, strict=True)
)


def look(place: int) -> Look:
    """How the run or series at this place is drawn. After seven the colours come again, each with another dash and marker."""
    again, first = divmod(place, len(LOOKS))
    base = LOOKS[first]
    if not again:
        return base
    other = LOOKS[(first + again) % len(LOOKS)]
    return Look(base.colour, base.dark, other.dash, other.marker)


MODES: Mapping[Mode, str] = {"single": "#E69F00", "recursive": "#0072B2"}
"""The colours of the two ways of working: a light and a dark one."""
HATCHES: Mapping[Mode, str] = {"single": "///", "recursive": ""}
COMPARED = ("#B8B8B8", "#0072B2")
"""The first and the second of two results."""
SOLVED, UNSOLVED = "#0072B2", "#D0D0D0"
INK, MUTED, GRID = "#202020", "#595959", "#E6E6E6"
"""Of text and whiskers, of notes, and of grid lines."""
