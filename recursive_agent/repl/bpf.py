"""Seccomp filters in words: an assembler with labels for classic BPF, and the checks of a system call's arguments."""

from __future__ import annotations

import errno
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

ALLOW, KILL = 0x7FFF0000, 0x80000000
REFUSE = 0x00050000 | errno.EPERM
"""The call fails with EPERM."""

_LOAD, _RETURN = 0x20, 0x06
EQUAL, GREATER, AT_LEAST, ANY_BIT = 0x15, 0x25, 0x35, 0x45
"""Tests of a jump: what was loaded, against the operand, as unsigned 32-bit numbers."""
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
_WORD = 0xFFFFFFFF


class Assembler:
    """Writes a program line by line. A jump names a label further down, or None to go on with the next line."""

    def __init__(self) -> None:
        self._lines: list[tuple[int, str | None, str | None, int]] = []
        self._places: dict[str, int] = {}

    def load(self, offset: int) -> None:
        """Load the 32-bit word at `offset` of seccomp's data."""
        self._lines.append((_LOAD, None, None, offset))

    def jump(self, test: int, operand: int, *, yes: str | None = None, no: str | None = None) -> None:
        """Go to `yes` where the loaded word passes the test, else to `no`."""
        self._lines.append((test, yes, no, operand))

    def answer(self, value: int) -> None:
        """End: this is what becomes of the call."""
        self._lines.append((_RETURN, None, None, value))

    def label(self, name: str) -> None:
        """The next line is called so. Raises ValueError for a name used before."""
        if name in self._places:
            raise ValueError(f"two labels {name!r}")
        self._places[name] = len(self._lines)

    def program(self) -> bytes:
        """The program for the kernel. Raises ValueError for a jump that is too far, or to a label that is not below."""
        code = []
        for place, (operation, yes, no, operand) in enumerate(self._lines):
            code.append(struct.pack("<HBBI", operation, self._distance(place, yes), self._distance(place, no), operand))
        return b"".join(code)

    def _distance(self, place: int, label: str | None) -> int:
        if label is None:
            return 0
        distance = self._places.get(label, -1) - place - 1
        if not 0 <= distance <= 255:
            raise ValueError(f"line {place}: {label!r} is out of reach")
        return distance


class Check(Protocol):
    """A condition on one argument of a system call."""

    def write(self, code: Assembler, refused: str) -> None:
        """Go on with the next line where it holds, to the label `refused` where it does not."""


@dataclass(frozen=True, slots=True)
class Among:
    """An `int` that is one of a few values."""

    argument: int
    values: Sequence[int]

    def write(self, code: Assembler, refused: str) -> None:
        """See `Check`. The kernel takes the lower half of the register alone, and so does this."""
        passed = f"{refused}: {self.argument} passed"
        code.load(_low(self.argument))
        for value in self.values[:-1]:
            code.jump(EQUAL, value & _WORD, yes=passed)
        code.jump(EQUAL, self.values[-1] & _WORD, no=refused)
        code.label(passed)


@dataclass(frozen=True, slots=True)
class AmongLong:
    """A `long` or a pointer that is one of a few values, all of them smaller than 2**32."""

    argument: int
    values: Sequence[int]

    def write(self, code: Assembler, refused: str) -> None:
        """See `Check`."""
        code.load(_high(self.argument))
        code.jump(EQUAL, 0, no=refused)
        Among(self.argument, self.values).write(code, refused)


@dataclass(frozen=True, slots=True)
class OnlyBits:
    """An `int` of flags, of which only those in `mask` may be set."""

    argument: int
    mask: int

    def write(self, code: Assembler, refused: str) -> None:
        """See `Check`."""
        code.load(_low(self.argument))
        code.jump(ANY_BIT, ~self.mask & _WORD, yes=refused)


@dataclass(frozen=True, slots=True)
class OnlyBitsLong:
    """A `long` of flags, of which only those in `mask` may be set."""

    argument: int
    mask: int

    def write(self, code: Assembler, refused: str) -> None:
        """See `Check`."""
        code.load(_high(self.argument))
        code.jump(EQUAL, 0, no=refused)
        OnlyBits(self.argument, self.mask).write(code, refused)


@dataclass(frozen=True, slots=True)
class AtMost:
    """An `int` from 0 to `most`."""

    argument: int
    most: int

    def write(self, code: Assembler, refused: str) -> None:
        """See `Check`. A negative number is a large one here."""
        code.load(_low(self.argument))
        code.jump(GREATER, self.most, yes=refused)


def allow_list(
    audit: int, allowed: Mapping[int, Sequence[Check]], *, others: int = REFUSE, killed_from: int | None = None
) -> bytes:
    """The filter for one architecture: calls by number, each allowed while all its checks hold.

    A call that is not in `allowed` gets `others`. A foreign architecture is killed, and so are numbers from `killed_from`.
    """
    code = Assembler()
    code.load(_ARCHITECTURE)
    code.jump(EQUAL, audit, yes="native")
    code.answer(KILL)
    code.label("native")
    code.load(_NUMBER)
    if killed_from is not None:
        code.jump(AT_LEAST, killed_from, no="known")
        code.answer(KILL)
        code.label("known")
    for number, checks in allowed.items():
        refused, following = f"{number} refused", f"after {number}"
        code.jump(EQUAL, number, no=following)
        for check in checks:
            check.write(code, refused)
        code.answer(ALLOW)
        if checks:
            code.label(refused)
            code.answer(REFUSE)
        code.label(following)
    code.answer(others)
    return code.program()


def refusing(audit: int, refused: Mapping[int, int]) -> bytes:
    """A filter that answers the calls in `refused` with that error number, and allows all others."""
    code = Assembler()
    code.load(_ARCHITECTURE)
    code.jump(EQUAL, audit, yes="native")
    code.answer(ALLOW)
    code.label("native")
    code.load(_NUMBER)
    for number, error in refused.items():
        code.jump(EQUAL, number, no=f"after {number}")
        code.answer(0x00050000 | error)
        code.label(f"after {number}")
    code.answer(ALLOW)
    return code.program()


def _low(argument: int) -> int:
    return _ARGUMENTS + 8 * argument


def _high(argument: int) -> int:
    return _ARGUMENTS + 8 * argument + 4
