"""The grammar of goals: `Craft the following items: 2x copper_gear, 1x oak_frame`."""

from __future__ import annotations

import re
from collections.abc import Mapping

PREFIX = "Craft the following items: "
_TARGET = re.compile(r"([1-9][0-9]{0,5})x ([a-z0-9]+(?:_[a-z0-9]+)*)", re.ASCII)


def format_goal(targets: Mapping[str, int]) -> str:
    """The goal that asks for `targets` (item to count)."""
    return PREFIX + ", ".join(f"{count}x {item}" for item, count in targets.items())


def parse_goal(goal: str) -> dict[str, int] | None:
    """The targets of a goal (item to count), None where it breaks the grammar.

    Strict on purpose: spaces, spelling and counts as `format_goal` writes them, every item named once. Whether the
    items exist is another question.
    """
    if not goal.startswith(PREFIX):
        return None
    targets: dict[str, int] = {}
    for part in goal[len(PREFIX) :].split(", "):
        match = _TARGET.fullmatch(part)
        if match is None or match[2] in targets:
            return None
        targets[match[2]] = int(match[1])
    return targets
