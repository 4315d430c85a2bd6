"""Text of a model: made fit to be written, sent and run, and searched for stop strings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


def clean(text: str) -> str:
    """`text` without lone surrogates (half characters), which JSON can carry and UTF-8 cannot; pairs are put together."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


class Stop(NamedTuple):
    """A stop string in a text, from `start` up to `end`."""

    start: int
    end: int
    text: str


def find_stop(text: str, stops: Iterable[str], searched: int = 0) -> Stop | None:
    """The stop string that is complete first in `text`, from `searched` on; of several that end together, the one listed
    first. None where there is none.
    """
    found = [Stop(at, at + len(stop), stop) for stop in stops if stop and (at := text.find(stop, searched)) >= 0]
    return min(found, key=lambda stop: stop.end, default=None)
