"""Any Python value ↔ plain JSON, without loss where that is possible.

What JSON lacks is written as an object with one reserved key; a user's own object that looks like one is written as a
`$dict`, so nothing that a user passes can be mistaken for a marker:

    {"$blob": hash}             a large value that stands elsewhere in the file, once
    {"$bytes": base64}          {"$float": "nan" | "inf" | "-inf"}         {"$int": "0x…"}  more than 64 bits
    {"$tuple": […]}             {"$set": […]}    {"$frozenset": […]}       {"$dict": [[key, value], …]}

What is lost: subclasses become their base type, a surrogate *pair* inside a string becomes the character it spells
(lone surrogates survive), any other object becomes its `repr`, what is nested deeper than 100 levels or holds itself
becomes "…", and so do what comes after the first five million values and whole numbers of more than 8 million bits.
"""

from __future__ import annotations

import base64
import codecs
import json
import math
from collections.abc import Callable, Iterator, Mapping
from json.encoder import encode_basestring
from typing import Any

from ..errors import TraceError

MAX_NESTING = 100
MAX_REPR = 2_000
MAX_VALUES = 5_000_000
MAX_INT_BITS = 1 << 23
PIECE = 256 * 1024
"""Characters or bytes that one call into C is given: the others wait for its end, about a millisecond."""
_RUN = 50
"""Values of a list that are written by one call."""
_SCALARS = frozenset({str, int, float, bool, type(None)})
CUT = "…"
LEFT_OUT = "left out: the trace had reached its size limit]"
BLOB = "$blob"
MARKERS = frozenset({BLOB, "$bytes", "$float", "$int", "$tuple", "$set", "$frozenset", "$dict"})


def _escape(error: UnicodeError) -> tuple[str, int]:
    """A lone surrogate, which only an escape can spell; inside a JSON string, where alone it can stand."""
    assert isinstance(error, UnicodeEncodeError)
    return error.object[error.start : error.end].encode("ascii", "backslashreplace").decode("ascii"), error.end


_LENIENT = "rao-json-escape"
codecs.register_error(_LENIENT, _escape)
_encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False, check_circular=False)


def to_json(packed: Any) -> bytes:
    """A packed value as one line of JSON in UTF-8."""
    return _encoder.encode(packed).encode("utf-8", _LENIENT)


def json_pieces(packed: Any) -> Iterator[bytes]:
    """`to_json` in pieces, none of which holds up other threads. Strings in `packed` must be short."""
    pieces: list[str] = []
    size = 0
    for piece in _tokens(packed):
        pieces.append(piece)
        size += len(piece)
        if size >= PIECE:
            yield "".join(pieces).encode("utf-8", _LENIENT)
            pieces.clear()
            size = 0
    yield "".join(pieces).encode("utf-8", _LENIENT)


def _tokens(packed: Any) -> Iterator[str]:
    """The JSON of a packed value, some values at a time; json's own iterator takes each through all levels above it."""
    waiting: list[tuple[Iterator[Any], str]] = [(iter((packed,)), "")]
    comma = [""]
    while waiting:
        items, end = waiting[-1]
        for item in items:
            before, comma[-1] = comma[-1], ","
            if end == "}":
                name, item = item
                before += encode_basestring(name) + ":"
            if type(item) in _SCALARS:
                yield before + _encoder.encode(item)
            elif type(item) is tuple:  # of which packed data has none: several values, written already
                yield before + item[0]
            elif isinstance(item, dict) and len(item) <= _RUN and all(type(v) in _SCALARS for v in item.values()):
                yield before + _encoder.encode(item)
            else:
                is_list = isinstance(item, list)
                yield before + ("[" if is_list else "{")
                waiting.append((_runs(item), "]") if is_list else (iter(item.items()), "}"))
                comma.append("")
                break
        else:
            waiting.pop()
            comma.pop()
            yield end


def _runs(items: list[Any]) -> Iterator[Any]:
    """The items of a list; many of them that hold nothing else as one piece of JSON."""
    for start in range(0, len(items), _RUN):
        run = items[start : start + _RUN]
        if all(type(item) in _SCALARS for item in run):
            yield (_encoder.encode(run)[1:-1],)
        else:
            yield from run


def string_pieces(pieces: Iterator[str]) -> Iterator[bytes]:
    """The JSON of the string that `pieces` add up to."""
    yield b'"'
    for piece in pieces:
        yield encode_basestring(piece)[1:-1].encode("utf-8", _LENIENT)
    yield b'"'


def bytes_pieces(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The JSON of the packed form of the bytes that `pieces` add up to."""
    yield b'{"$bytes":"'
    rest = b""
    for piece in pieces:
        whole = rest + piece
        cut = len(whole) - len(whole) % 3  # base64 goes by threes
        yield base64.b64encode(whole[:cut])
        rest = whole[cut:]
    yield base64.b64encode(rest) + b'"}'


def pack(
    value: Any,
    text: Callable[[str], Any],
    data: Callable[[bytes], Any],
    *,
    most: int = MAX_VALUES,
) -> Any:
    """`value` as plain JSON data; `text` and `data` are given every string and every bytes value on the way.

    `text` returns a string, or a marker that stands for it; `data` bytes, or such a marker. Never raises for a value.
    """
    return _Packer(text, data, most).pack(value, 0)


def is_cut(value: Any) -> bool:
    """Whether a value that was read holds a note in place of something large, which a full trace file had no room for."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if type(item) is str:
            if item.startswith(CUT) and item.endswith(LEFT_OUT):
                return True
        elif isinstance(item, list | tuple):
            waiting.extend(item)
        elif isinstance(item, dict):
            waiting.extend(item.values())
    return False


def pack_number(value: float) -> Any:
    """`pack` of a number, which holds no texts."""
    if isinstance(value, int):
        return _pack_int(int(value))
    return float(value) if math.isfinite(value) else {"$float": str(float(value))}


class _Packer:
    """Packs one value; counts its parts, and knows what it is inside of."""

    def __init__(self, text: Callable[[str], Any], data: Callable[[bytes], Any], most: int) -> None:
        self._text = text
        self._data = data
        self._left = most
        self._inside: set[int] = set()

    def pack(self, value: Any, depth: int) -> Any:
        kind = type(value)
        if kind is str:
            return self._text(value)
        if value is None or kind is bool:
            return value
        if isinstance(value, int | float):
            return pack_number(value)
        if isinstance(value, str):
            return self._text(str.__str__(value))
        if isinstance(value, bytes | bytearray | memoryview):
            packed = self._data(bytes(value))
            return {"$bytes": base64.b64encode(packed).decode("ascii")} if isinstance(packed, bytes) else packed
        if isinstance(value, list | tuple | Mapping | set | frozenset):
            if depth >= MAX_NESTING or id(value) in self._inside:
                return CUT
            self._inside.add(id(value))
            try:
                return self._container(value, depth + 1)
            except Exception as error:  # a container of a foreign class, or one that changes meanwhile
                return self._text(f"<{kind.__name__}, reading which raised {type(error).__name__}>")
            finally:
                self._inside.discard(id(value))
        return self._text(spelled(value))

    def _container(self, value: Any, depth: int) -> Any:
        self._left -= len(value)
        if self._left < 0:
            return CUT
        if isinstance(value, list):
            return [self.pack(item, depth) for item in value]
        if isinstance(value, Mapping):
            return self._mapping(value, depth)
        if isinstance(value, tuple):
            return {"$tuple": [self.pack(item, depth) for item in value]}
        items = [self._key(item, depth) for item in value]
        return {"$set" if isinstance(value, set) else "$frozenset": sorted(items, key=to_json)}

    def _mapping(self, value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        items = list(value.items())
        names = [self._text(key) if type(key) is str else None for key, _ in items]
        ambiguous = len(names) == 1 and names[0] in MARKERS if all(type(name) is str for name in names) else True
        if ambiguous or len(set(names)) < len(names):
            return {"$dict": [[self._key(key, depth), self.pack(item, depth)] for key, item in items]}
        return {str(name): self.pack(item, depth) for name, (_, item) in zip(names, items, strict=True)}

    def _key(self, value: Any, depth: int) -> Any:
        """What must still be hashable when it is read."""
        return self.pack(value, depth) if _stays_hashable(value) else self._text(spelled(value))


def _stays_hashable(value: Any) -> bool:
    if isinstance(value, tuple | frozenset):
        return all(map(_stays_hashable, value))
    return not isinstance(value, list | set | Mapping)


def _pack_int(number: int) -> Any:
    bits = number.bit_length()
    if bits <= 64:
        return number
    return {"$int": hex(number)} if bits <= MAX_INT_BITS else CUT


def spelled(value: object) -> str:
    """The `repr` of anything, shortened."""
    try:
        text = repr(value)
    except Exception as error:  # a foreign __repr__ must not end the run
        text = f"<{type(value).__name__}, whose repr raised {type(error).__name__}>"
    return text if len(text) <= MAX_REPR else text[:MAX_REPR] + "…"


def unpack(packed: Any, blobs: Mapping[str, Any]) -> Any:
    """The value that was packed, containers always new. `blobs` maps hashes to packed values. Raises TraceError."""
    if isinstance(packed, list):
        return [unpack(item, blobs) for item in packed]
    if not isinstance(packed, dict):
        return packed
    if len(packed) == 1:
        marker, inner = next(iter(packed.items()))
        if marker in MARKERS:
            try:
                return _unpack_marker(marker, inner, blobs)
            except (TypeError, ValueError, AttributeError, OverflowError, MemoryError) as error:
                if isinstance(error, TraceError):
                    raise
                raise TraceError(f"a value of kind {marker} that cannot be read ({error})") from error
    return {key: unpack(item, blobs) for key, item in packed.items()}


def _unpack_marker(marker: str, inner: Any, blobs: Mapping[str, Any]) -> Any:
    match marker:
        case "$blob":
            if inner not in blobs:
                raise TraceError(f"blob {inner!r} is referred to before it was written")
            return unpack(blobs[inner], blobs)
        case "$bytes":
            return base64.b64decode(inner, validate=True)
        case "$float":
            return float(inner)
        case "$int":
            return int(inner, 16)
        case "$tuple":
            return tuple(unpack(item, blobs) for item in inner)
        case "$set":
            return {unpack(item, blobs) for item in inner}
        case "$frozenset":
            return frozenset(unpack(item, blobs) for item in inner)
        case _:
            return {unpack(key, blobs): unpack(item, blobs) for key, item in inner}
