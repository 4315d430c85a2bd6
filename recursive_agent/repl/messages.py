"""What a worker may say: a closed set of messages, checked field by field before anything is done with one.

A worker is an attacker: the code in it may have left the language policy. So its bytes are measured before they are
decoded (`protocol.measure`), decoded into plain data, and read here into one of these classes; whatever is not exactly
one of them is a ProtocolError, and the worker is killed. Nothing of a message is evaluated, imported, formatted or made a
type in this process. The values inside (`args`, `kwargs`, `value`) are plain data of bounded size and depth.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .base import CellStatus
from .protocol import MAX_DEPTH, MESSAGE_OBJECTS, ProtocolError, counted, unpack

LAUNCH = "launch_subagent"
LAUNCH_ARGUMENTS = frozenset({"goal", "context", "returns", "max_steps", "max_tokens"})
_LAYERS = frozenset({"rlimits", "no_new_privs", "pdeathsig", "landlock", "seccomp"})
_MOST_NAMES = 1_000
_NAME_CHARS = 200
_REASON_CHARS = 2_000
_LARGEST_NUMBER = 2**62
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
class Call:
    """The agent's code calls a function of the host."""

    id: int
    name: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    cell: int
    size: int
    """Bytes of memory that it takes here, about; at least those of the message."""


@dataclass(frozen=True, slots=True)
class Cancel:
    """The agent's code gave a call up."""

    id: int


@dataclass(frozen=True, slots=True)
class Finish:
    """The agent's result."""

    value: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A cell has ended."""

    status: CellStatus
    output: str
    error: str | None
    refused: str | None
    unawaited: tuple[str, ...]
    running: tuple[str, ...]
    wall: float
    cpu: float


Message = Ready | Failed | Opened | Call | Cancel | Finish | Done


def read(
    body: bytes,
    *,
    objects: int = MESSAGE_OBJECTS,
    text: int = 0,
    extension: Callable[[int, bytes], Any] | None = None,
) -> Message:
    """The message of a frame's body. Raises ProtocolError for anything but a well-formed one.

    `objects` bounds the values in it, `text` the characters of a cell's output and of its error. `extension` answers for
    references to texts that the worker was given.
    """
    values, containers = counted(body, objects, MAX_DEPTH + 4)  # what the agent sends stands a few levels down
    kind, *fields = unpack(body, extension, errors="strict")
    reader = _READERS.get(kind)
    if reader is None:
        raise ProtocolError("a message of an unknown kind")
    return reader(fields, len(body) + _VALUE_BYTES * values + _CONTAINER_BYTES * containers, text)


def _ready(fields: list[Any], size: int, text: int) -> Ready:
    (layers,) = _exactly(1, fields)
    return Ready(frozenset(_names(layers)) & _LAYERS)


def _failed(fields: list[Any], size: int, text: int) -> Failed:
    (reason,) = _exactly(1, fields)
    return Failed(_text(reason, _REASON_CHARS))


def _opened(fields: list[Any], size: int, text: int) -> Opened:
    _exactly(0, fields)
    return Opened()


def _call(fields: list[Any], size: int, text: int) -> Call:
    number, name, args, kwargs, cell = _exactly(5, fields)
    if type(args) is not list or type(kwargs) is not dict or any(type(key) is not str for key in kwargs):
        raise ProtocolError("a malformed call")
    if type(name) is not str or len(name) > _NAME_CHARS:
        raise ProtocolError("a malformed call")
    if name == LAUNCH and (args or not kwargs.keys() <= LAUNCH_ARGUMENTS):
        raise ProtocolError("a malformed launch")
    return Call(_number(number, 1), name, tuple(args), kwargs, _number(cell, 0), size)


def _cancel(fields: list[Any], size: int, text: int) -> Cancel:
    (number,) = _exactly(1, fields)
    return Cancel(_number(number, 1))


def _finish(fields: list[Any], size: int, text: int) -> Finish:
    (value,) = _exactly(1, fields)
    return Finish(value)


_STATUSES = {status.value: status for status in CellStatus if status is not CellStatus.KILLED}
_REQUIRED = frozenset({"status", "output", "error", "unawaited", "running", "wall", "cpu"})


def _done(fields: list[Any], size: int, text: int) -> Done:
    (told,) = _exactly(1, fields)
    if type(told) is not dict or not _REQUIRED <= told.keys() <= _REQUIRED | {"refused"}:
        raise ProtocolError("a malformed end of a cell")
    status = _STATUSES.get(told["status"]) if type(told["status"]) is str else None
    if status is None:
        raise ProtocolError("a cell that ended in an unknown way")
    error, refused = told["error"], told.get("refused")
    return Done(
        status=status,
        output=_text(told["output"], text),
        error=None if error is None else _text(error, text),
        refused=None if refused is None else _text(refused, _REASON_CHARS),
        unawaited=_names(told["unawaited"]),
        running=_names(told["running"]),
        wall=_seconds(told["wall"]),
        cpu=_seconds(told["cpu"]),
    )


_READERS: dict[str, Callable[[list[Any], int, int], Message]] = {
    "ready": _ready,
    "failed": _failed,
    "opened": _opened,
    "call": _call,
    "cancel": _cancel,
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
    return tuple(_text(name, _NAME_CHARS) for name in value)
