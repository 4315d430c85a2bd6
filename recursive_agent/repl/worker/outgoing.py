"""Packs the agent's values into frames within the limits of a message; a value above a limit is an error in the cell."""

from __future__ import annotations

import itertools
from typing import Any

import msgpack

from ..protocol import HEADER, MAX_DEPTH, SHARED_STRING, ProtocolError, TooLarge, is_harmless, measure, unpack
from .plain import plain

_COUNTED = 10
"""Values are counted up to so many times the limit, to say how many there are."""
_CONTAINERS = frozenset((list, tuple, dict, set, frozenset))
_LEAVES = frozenset((bool, int, float, str, bytes, type(None)))
_NUMBER = 4
_CALL = msgpack.packb(["call", 1 << 31, None, None, None, None])[: -4 - _NUMBER]
"""How the message of a call begins, before the four bytes of its number."""


def _framed(body: bytes) -> bytes:
    return HEADER.pack(len(body)) + body


def _advice(what: str) -> str:
    return f"{'return' if what == 'finish' else 'pass'} less, or a summary"


def _items(value: Any) -> Any:
    return itertools.chain(value, value.values()) if type(value) is dict else value


def count(value: Any, most: int) -> tuple[int, int]:
    """`(values, levels)` of containers within one another; stops counting above `most` values or the deepest level."""
    total, depth, level = 1, 0, [value] if type(value) in _CONTAINERS else []
    while level and total <= most and depth <= MAX_DEPTH:
        total += sum(2 * len(item) if type(item) is dict else len(item) for item in level)
        if total > most:
            break
        level = [child for item in level for child in _items(item) if type(child) in _CONTAINERS]
        depth += 1
    return total, depth


def _decodes(body: bytes) -> bool:
    """Whether a body is one whole value; False where that cannot be said so quickly."""
    try:
        msgpack.unpackb(body, strict_map_key=False, raw=True)
    except (TypeError, ValueError):
        return False
    return True


class Outgoing:
    """Packs frames. `shared` are the strings of the context that came by memory file, in order."""

    def __init__(self, shared: list[str], most_bytes: int, most_objects: int) -> None:
        self._texts = shared
        self._shared = {id(text): index for index, text in enumerate(shared)}
        self._most_bytes = most_bytes
        self._most_objects = most_objects

    def frame(self, what: str, message: list[Any]) -> bytes:
        """The frame of a message. Raises TypeError for other than plain data, ValueError for too much or too deep data."""
        return _framed(self._body(what, message))

    def call(self, name: str, args: list[Any], kwargs: dict[str, Any], cell: int) -> bytes:
        """A call that has no number yet: packing its arguments may run the agent's code, which may make other calls."""
        if not self._shared and _LEAVES.issuperset(map(type, args)) and _LEAVES.issuperset(map(type, kwargs.values())):
            body = self._flat([name, args, kwargs, cell], 5 + len(args) + 2 * len(kwargs))
            if body is not None:
                return body
        return self._body(name, [name, args, kwargs, cell])

    def _flat(self, message: list[Any], values: int) -> bytes | None:
        """The body of a message of exact texts and numbers: no code of the agent's has a part in it. None for a refusal."""
        if values > self._most_objects:
            return None
        try:
            body: bytes = msgpack.packb(message, unicode_errors="strict")
        except (ValueError, OverflowError):  # no valid text; whole numbers of more than 64 bits
            return None
        return body if len(body) <= self._most_bytes else None

    @staticmethod
    def numbered(call: bytes, number: int) -> bytes:
        """The frame of a call."""
        size = HEADER.pack(len(_CALL) + _NUMBER + len(call) - 1)
        rest = memoryview(call)[1:]  # without the byte that says: an array of four
        return b"".join((size, _CALL, number.to_bytes(_NUMBER, "big"), rest))

    def _body(self, what: str, message: list[Any]) -> bytes:
        total, depth = count(message, self._most_objects * _COUNTED)
        self._check(what, total, depth)
        if self._shared:
            message = self._by_reference(message)
        try:
            body = _pack(what, message)
        except UnicodeEncodeError as error:
            raise TypeError(f"{what}: a string is not valid text: {error.reason}") from None
        if len(body) > self._most_bytes:
            raise ValueError(
                f"{what}: {len(body):,} bytes are more than the limit of {self._most_bytes:,} for one message; {_advice(what)}"
            )
        if is_harmless(body, self._most_objects, MAX_DEPTH) and _decodes(body):
            return body
        try:
            measure(body, self._most_objects, MAX_DEPTH)
        except TooLarge as error:
            raise ValueError(f"{what}: {error}; {_advice(what)}") from None
        except ProtocolError as error:  # a class of the agent's own gives more or less than its `len` says
            raise ValueError(
                f"{what}: this cannot be sent ({error}): convert it to plain lists and dicts first"
            ) from None
        return body

    def _check(self, what: str, total: int, depth: int) -> None:
        if total > self._most_objects:
            most = self._most_objects * _COUNTED
            number = f"{total:,}" if total <= most else f"more than {most:,}"
            raise ValueError(
                f"{what}: {number} values are more than the {self._most_objects:,} that one message may hold; {_advice(what)}"
            )
        if depth > MAX_DEPTH:
            raise ValueError(
                f"{what}: nested too deeply, or contains itself: at most {MAX_DEPTH} levels can be sent; flatten it"
            )

    def _by_reference(self, value: Any) -> Any:
        """Name the strings that came by memory file instead of sending them back."""
        kind = type(value)
        if kind is str:
            index = self._shared.get(id(value))
            return value if index is None else msgpack.ExtType(SHARED_STRING, index.to_bytes(4, "little"))
        if kind is list or kind is tuple:
            return [self._by_reference(item) for item in value]
        if kind is dict:
            return {key: self._by_reference(item) for key, item in value.items()}
        return value

    def plain(self, frame: bytes) -> list[Any]:
        """The message of a frame, as the host will read it."""

        def text(code: int, data: bytes) -> Any:
            return self._texts[int.from_bytes(data, "little")]

        return unpack(memoryview(frame)[HEADER.size :], text)


def _pack(what: str, message: Any) -> bytes:
    raised: list[BaseException] = []

    def default(value: Any) -> Any:
        try:
            return plain(value)
        except BaseException as error:
            raised.append(error)
            raise

    try:
        body: bytes = msgpack.packb(message, default=default, unicode_errors="strict")
    except TypeError as error:
        raise TypeError(f"{what}: {error}") from None
    except UnicodeEncodeError:
        raise
    except (ValueError, RecursionError) as error:
        if raised and error is raised[-1]:  # out of the agent's own code
            raise
        raise ValueError(f"{what}: nested too deeply, or contains itself ({error})") from None
    except OverflowError as error:
        raise ValueError(f"{what}: {error}") from None
    return body


def plain_copy(what: str, value: Any, most_bytes: int, most_objects: int, most_depth: int) -> Any:
    """`value` as plain data of its own, which no object of the agent's stands in. Raises TypeError, ValueError."""
    if count(value, most_objects)[0] > most_objects:
        raise ValueError(f"{what}: more than {most_objects:,} values")
    body = _pack(what, [what, value])
    if len(body) > most_bytes + len(what) + 8:
        raise ValueError(f"{what}: {len(body):,} bytes are more than the {most_bytes:,} allowed")
    try:
        measure(body, most_objects + 2, most_depth + 1)
    except ProtocolError as error:
        raise ValueError(f"{what}: {error}") from None
    return unpack(body)[1]
