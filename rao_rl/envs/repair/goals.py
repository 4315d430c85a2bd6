"""The grammar of goals: five kinds, each with a result of its own. docs/environments/repair.md explains them to readers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Kind = Literal["repair", "find", "explain", "mend", "test"]
MOST_CASES = 6
"""Pairs of arguments and result that `Write tests` takes."""
_NAME = "[a-z]+_[a-z]+"
_GRAMMAR: Mapping[Kind, re.Pattern[str]] = MappingProxyType(
    {
        "repair": re.compile(
            f"Repair the repository: make all tests pass(?:, and write tests for (?P<name>{_NAME}))?", re.ASCII
        ),
        "find": re.compile(f"Find the functions that make test_(?P<test>{_NAME}) fail", re.ASCII),
        "explain": re.compile(
            f"Explain why (?P<name>{_NAME}) fails test_(?P<test>{_NAME}): give an input and the expected output",
            re.ASCII,
        ),
        "mend": re.compile(f"Mend (?P<name>{_NAME})", re.ASCII),
        "test": re.compile(
            f"Write tests for (?P<name>{_NAME}): at most {MOST_CASES} pairs of arguments and result", re.ASCII
        ),
    }
)


@dataclass(frozen=True, slots=True)
class Goal:
    """What an agent is asked to do: the kind, the function it is about, and the function whose test is meant."""

    kind: Kind
    name: str | None = None
    test: str | None = None

    def __str__(self) -> str:
        match self.kind:
            case "repair":
                more = "" if self.name is None else f", and write tests for {self.name}"
                return f"Repair the repository: make all tests pass{more}"
            case "find":
                return f"Find the functions that make test_{self.test} fail"
            case "explain":
                return f"Explain why {self.name} fails test_{self.test}: give an input and the expected output"
            case "mend":
                return f"Mend {self.name}"
            case "test":
                return f"Write tests for {self.name}: at most {MOST_CASES} pairs of arguments and result"


def parse_goal(goal: str) -> Goal | None:
    """The goal of a text; None where it breaks the grammar. Strict on purpose: every word and blank as `str(Goal)` has it."""
    for kind, pattern in _GRAMMAR.items():
        if match := pattern.fullmatch(goal):
            found = match.groupdict()
            return Goal(kind, found.get("name"), found.get("test"))
    return None
