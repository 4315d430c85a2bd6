"""The messages of a worker: a closed set, each checked field by field before it is used.

A worker is an attacker: the code in it may have left the language policy. So its bytes are measured before they are
decoded (`protocol.counted`), decoded into plain data, and read here into one of these classes; whatever is not exactly
one of them is a ProtocolError, and the worker is killed. Nothing of a message is evaluated, imported, formatted or made a
type in this process. The values inside (`args`, `kwargs`, `value`) are plain data of bounded size and depth.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, NamedTuple

from .base import CellStatus, HostRequest
from .protocol import MAX_DEPTH, MESSAGE_OBJECTS, MOST_CLOCK, ProtocolError, counted, is_harmless, unpack

LAUNCH = "launch_subagent"
LAUNCH_ARGUMENTS = frozenset({"goal", "context", "returns", "max_steps", "max_tokens", "model"})
_LAYERS = frozenset({"rlimits", "no_new_privs", "pdeathsig", "landlock", "seccomp"})
_MOST_NAMES = 1_000
_NAME_CHARS = 200
_REASON_CHARS = 2_000
_LARGEST_NUMBER = 2**62
_LEAST_CLOCK = 4
"""Numbers in a part of a log, at least: its counts, and a reading."""
_DEPTH = MAX_DEPTH + 4
"""Nesting of a message: what the agent sends stands a few levels down in it."""
_CONTAINERS = frozenset({list, dict})
_VALUE_BYTES, _CONTAINER_BYTES = 32, 64
"""What a value, and a list or dict besides, takes in memory at least: an empty dict is one byte of a message."""


@dataclass(frozen=True, slots=True)
class Ready:
    """The worker is locked; the layers that hold."""

    layers: frozenset[str]


@dataclass(frozen=True, slots=True)
class Failed:
    """The worker could not be locked or set up."""

    reason: str


@dataclass(frozen=True, slots=True)
class Opened:
    """The REPL is set up."""


@dataclass(frozen=True, slots=True)
class Cancel:
    """The agent's code gave a call up."""

    id: int


@dataclass(frozen=True, slots=True)
class Finish:
    """The agent's result."""

    value: Any


@dataclass(frozen=True, slots=True)
class Clock:
    """A part of the log of the cell that runs: the host keeps the numbers and does not interpret them."""

    values: Sequence[float]


@dataclass(frozen=True, slots=True)
class Live:
    """The replay of a cell that was cut short has used up the log, and goes on live."""


@dataclass(frozen=True, slots=True)
class Diverged:
    """The replay of a cell did something else than its log says."""

    what: str


class Done(NamedTuple):
    """A cell has ended."""

    status: CellStatus
    output: str
    error: str | None
    refused: str | None
    unawaited: tuple[str, ...]
    running: tuple[str, ...]
    wall: float
    cpu: float


Call = HostRequest
"""The agent's code calls a function of the host."""
Message = Ready | Failed | Opened | Call | Cancel | Clock | Live | Diverged | Finish | Done


def read(
    body: bytes,
    *,
    objects: int = MESSAGE_OBJECTS,
    text: int = 0,
    extension: Callable[[int, bytes], Any] | None = None,
) -> Message:
    """The message of a frame's body. Raises ProtocolError for anything but a well-formed one.

    `objects` bounds the values in it, `text` the characters of a cell's output and of its error. `extension` answers for
    references to texts of the context.
    """
    counts = None if is_harmless(body, objects, _DEPTH) else counted(body, objects, _DEPTH)
    kind, *fields = unpack(body, extension, errors="strict")
    if kind == "call":
        return _call(fields, body, counts)
    reader = _READERS.get(kind)
    if reader is None:
        raise ProtocolError("a message of an unknown kind")
    return reader(fields, text)


def _ready(fields: list[Any], text: int) -> Ready:
    (layers,) = _exactly(1, fields)
    return Ready(frozenset(_names(layers)) & _LAYERS)


def _failed(fields: list[Any], text: int) -> Failed:
    (reason,) = _exactly(1, fields)
    return Failed(_text(reason, _REASON_CHARS))


def _opened(fields: list[Any], text: int) -> Opened:
    _exactly(0, fields)
    return Opened()


def _call(fields: list[Any], body: bytes, counts: tuple[int, int] | None) -> Call:
    number, name, args, kwargs, cell = _exactly(5, fields)
    if type(args) is not list or type(kwargs) is not dict or any(type(key) is not str for key in kwargs):
        raise ProtocolError("a malformed call")
    if type(name) is not str or len(name) > _NAME_CHARS:
        raise ProtocolError("a malformed call")
    if name == LAUNCH and (args or not kwargs.keys() <= LAUNCH_ARGUMENTS):
        raise ProtocolError("a malformed launch")
    size = _memory(body, args, kwargs, counts)
    return Call(id=_number(number, 1), name=name, args=tuple(args), kwargs=kwargs, cell=_number(cell, 0), size=size)


def _memory(body: bytes, args: list[Any], kwargs: dict[str, Any], counts: tuple[int, int] | None) -> int:
    """Bytes of memory that a call takes, about, from the values and the lists and dicts in it."""
    if counts is not None:
        values, containers = counts
    elif _CONTAINERS.isdisjoint(map(type, args)) and _CONTAINERS.isdisjoint(map(type, kwargs.values())):
        values, containers = 7 + len(args) + 2 * len(kwargs), 3  # the message with its five fields, and what is in two
    else:
        values, containers = counted(body, len(body), len(body))
    return len(body) + _VALUE_BYTES * values + _CONTAINER_BYTES * containers


def _cancel(fields: list[Any], text: int) -> Cancel:
    (number,) = _exactly(1, fields)
    return Cancel(_number(number, 1))


def _clock(fields: list[Any], text: int) -> Clock:
    (body,) = _exactly(1, fields)
    values = array("d")
    size = values.itemsize
    if type(body) is not bytes or len(body) % size or not _LEAST_CLOCK * size <= len(body) <= MOST_CLOCK * size:
        raise ProtocolError("a log that is none")
    values.frombytes(body)
    if not all(map(isfinite, values)):
        raise ProtocolError("a log with what is no number")
    return Clock(values)


def _live(fields: list[Any], text: int) -> Live:
    _exactly(0, fields)
    return Live()


def _diverged(fields: list[Any], text: int) -> Diverged:
    (what,) = _exactly(1, fields)
    return Diverged(_text(what, _REASON_CHARS))


def _finish(fields: list[Any], text: int) -> Finish:
    (value,) = _exactly(1, fields)
    return Finish(value)


_STATUSES = {status.value: status for status in CellStatus if status is not CellStatus.KILLED}


def _done(fields: list[Any], text: int) -> Done:
    status, output, error, refused, unawaited, running, wall, cpu = _exactly(8, fields)
    known = _STATUSES.get(status) if type(status) is str else None
    if known is None:
        raise ProtocolError("a cell that ended in an unknown way")
    return Done(
        status=known,
        output=_text(output, text),
        error=None if error is None else _text(error, text),
        refused=None if refused is None else _text(refused, _REASON_CHARS),
        unawaited=_names(unawaited),
        running=_names(running),
        wall=_seconds(wall),
        cpu=_seconds(cpu),
    )


_READERS: dict[str, Callable[[list[Any], int], Message]] = {
    "ready": _ready,
    "failed": _failed,
    "opened": _opened,
    "cancel": _cancel,
    "clock": _clock,
    "live": _live,
    "diverged": _diverged,
    "finish": _finish,
    "done": _done,
}


def _exactly(count: int, fields: list[Any]) -> list[Any]:
    if len(fields) != count:
        raise ProtocolError("a message with too few or too many fields")
    return fields


def _number(value: Any, least: int) -> int:
    if type(value) is not int or not least <= value < _LARGEST_NUMBER:  # a bool is no number here
        raise ProtocolError("a number that is none, or out of range")
    return value


def _seconds(value: Any) -> float:
    if type(value) not in (int, float) or not 0 <= value < 1e9:  # which NaN is not either
        raise ProtocolError("a time that is none")
    return float(value)


def _text(value: Any, most: int) -> str:
    if type(value) is not str:
        raise ProtocolError("something else where text must stand")
    return value[:most]


def _names(value: Any) -> tuple[str, ...]:
    if type(value) is not list or len(value) > _MOST_NAMES:
        raise ProtocolError("a list of names that is none, or too long")
    return tuple(_text(name, _NAME_CHARS) for name in value) if value else ()
