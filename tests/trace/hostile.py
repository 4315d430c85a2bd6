"""Values and events as hostile as a worker, a tool or a broken model can make them, and files damaged at random."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from typing import Any

from recursive_agent.model.base import Message, ToolCall
from recursive_agent.status import Status
from recursive_agent.trace.schema import (
    CellRan,
    Event,
    HostCalled,
    ModelCalled,
    NodeEnded,
    NodeStarted,
    RunEnded,
    RunStarted,
    Scored,
)
from recursive_agent.usage import Usage


class OddMapping(dict[Any, Any]):
    def items(self) -> Any:
        raise RuntimeError("no items")


class Frozen(list[Any]):
    __hash__ = object.__hash__  # type: ignore[assignment]


class Unspeakable:
    def __repr__(self) -> str:
        raise MemoryError


def _deep() -> Any:
    value: Any = 0
    for turn in range(505):
        value = [value] if turn % 2 else {"a": value}
    return value


def _circle() -> Any:
    value: list[Any] = [1]
    value += [value, value, {"again": value}]
    return value


_ODD: list[Callable[[], Any]] = [
    lambda: None,
    lambda: True,
    lambda: 3,
    lambda: 0.5,
    lambda: "text",
    lambda: 10**5000,
    lambda: -(2**70),
    lambda: 1 << (1 << 24),
    lambda: math.nan,
    lambda: -math.inf,
    lambda: "\ud800",
    lambda: "a\udfffb" * 3000,
    lambda: b"\xff" * 9000,
    lambda: bytearray(b"x"),
    lambda: {"$blob": "x"},
    lambda: {"$dict": 1},
    lambda: {"$int": {"$bytes": []}},
    lambda: {Frozen([1]): 1, 2: 3},
    lambda: {Frozen([1])},
    lambda: {(1, frozenset({(2, "x")})): 1},
    lambda: OddMapping(a=1),
    lambda: {OddMapping: 1},
    lambda: Unspeakable(),
    lambda: object(),
    lambda: 1j,
    _deep,
    _circle,
    lambda: ("é" * 300_000,),
    lambda: {"k" * 9000: 1},
    lambda: [{"n": n} for n in range(3000)],
]


def hostile_value(chance: random.Random) -> Any:
    """A value that no field expects, or a container of such."""
    kind = chance.randrange(6)
    if kind == 0:
        return [hostile_value(chance) for _ in range(chance.randrange(3))]
    if kind == 1:
        return {chance.choice(("a", "$set", 5, None)): hostile_value(chance) for _ in range(chance.randrange(3))}
    return chance.choice(_ODD)()


def hostile_event(chance: random.Random) -> Event:
    """An event with a value of any kind in any field, the containers of its own fields left as they are."""
    kind = chance.choice((RunStarted, NodeStarted, ModelCalled, HostCalled, CellRan, NodeEnded, RunEnded, Scored))
    return kind(**{spec.name: _field(spec.name, str(spec.type), chance) for spec in fields(kind)})


def _field(name: str, kind: str, chance: random.Random) -> Any:
    value = partial(hostile_value, chance)
    few = range(chance.randrange(3))
    match kind:
        case "Status":
            return chance.choice(list(Status))
        case "Usage":
            return Usage(calls=value(), prompt_tokens=value(), cost=value(), unconfirmed=value())
        case "Sequence[Message]":
            return [Message(value(), value(), (ToolCall(value(), value(), value()),) * len(few), value()) for _ in few]
        case "Sequence[ToolCall]":
            return [ToolCall(value(), value(), value()) for _ in few]
        case "Sequence[Any]":
            return [value() for _ in few]
        case "Mapping[str, Any]":
            return {chance.choice(("a", "$set", 5, None)): value() for _ in few}
        case "Sequence[int] | None" | "Sequence[float] | None":
            return chance.choice((None, [1, 2], [0.5], [2**40], [None], [math.nan], []))
    return chance.choice(("0", "0.1")) if name == "node" else value()


def damaged(data: bytes, chance: random.Random) -> bytes:
    """A file with a few of its bytes changed, lost, doubled or moved."""
    spoiled = bytearray(data)
    for _ in range(chance.randrange(1, 6)):
        at = chance.randrange(len(spoiled))
        length = chance.choice((1, 1, 2, 7, 60))
        match chance.randrange(6):
            case 0:
                spoiled[at] = chance.randrange(256)
            case 1:
                del spoiled[at : at + length]
            case 2:
                spoiled[at:at] = spoiled[at : at + length]
            case 3:
                spoiled[at : at + 1] = chance.choice(
                    (b"1e999", b"-1", b"null", b'"', b"{}", b"[]", b"9" * 5000, b"NaN")
                )
            case 4:
                lines = bytes(spoiled).splitlines(keepends=True)
                lines.insert(chance.randrange(len(lines) + 1), lines.pop(chance.randrange(len(lines))))
                spoiled = bytearray(b"".join(lines))
            case _:
                spoiled[at : at + 1] = chance.choice((b"true", b'"0"', b'{"$blob":"a"}', b'{"$int":"0x9"}', b"\\ud800"))
        if not spoiled:
            return b""
    return bytes(spoiled)
