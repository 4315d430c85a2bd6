"""Any Python value ↔ plain JSON, without loss where that is possible.

What JSON lacks is written as an object with one reserved key; a user's own object that looks like one is written as a
`$dict`, so nothing that a user passes can be mistaken for a marker:

    {"$blob": hash}             a large value that stands elsewhere in the file, once
    {"$bytes": base64}          {"$float": "nan" | "inf" | "-inf"}         {"$int": "0x…"}  more than 64 bits
    {"$tuple": […]}             {"$set": […]}    {"$frozenset": […]}       {"$dict": [[key, value], …]}

What is lost: subclasses become their base type, a surrogate *pair* inside a string becomes the character it spells
(lone surrogates survive), any other object becomes its `repr`, and what is nested deeper than 100 levels becomes "…".
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import TraceError

MAX_NESTING = 100
MAX_REPR = 2_000
BLOB = "$blob"
MARKERS = frozenset({BLOB, "$bytes", "$float", "$int", "$tuple", "$set", "$frozenset", "$dict"})

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False, check_circular=False).encode
_encode_ascii = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"), allow_nan=False, check_circular=False).encode


def to_json(packed: Any) -> bytes:
    """A packed value as one line of JSON in UTF-8."""
    try:
        return _encode(packed).encode()
    except UnicodeEncodeError:  # a lone surrogate, which only an escape can spell
        return _encode_ascii(packed).encode()


def pack(value: Any, text: Callable[[str], Any], data: Callable[[bytes], bytes], depth: int = 0) -> Any:
    """`value` as plain JSON data; `text` and `data` are given every string and every bytes value on the way.

    `text` returns a string, or a marker that stands for it.
    """
    kind = type(value)
    if kind is str:
        return text(value)
    if value is None or kind is bool:
        return value
    if isinstance(value, int):
        number = int(value)
        return number if number.bit_length() <= 64 else {"$int": hex(number)}
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"$float": str(float(value))}
    if isinstance(value, str):
        return text(str.__str__(value))
    if isinstance(value, bytes | bytearray | memoryview):
        return {"$bytes": base64.b64encode(data(bytes(value))).decode("ascii")}
    if depth >= MAX_NESTING:
        return "…"
    depth += 1
    if isinstance(value, list):
        return [pack(item, text, data, depth) for item in value]
    if isinstance(value, Mapping):
        return _pack_mapping(value, text, data, depth)
    if isinstance(value, tuple):
        return {"$tuple": [pack(item, text, data, depth) for item in value]}
    if isinstance(value, set | frozenset):
        items = [pack(item, text, data, depth) for item in value]
        return {"$set" if isinstance(value, set) else "$frozenset": sorted(items, key=to_json)}
    return text(_repr(value))


def _pack_mapping(
    value: Mapping[Any, Any], text: Callable[[str], Any], data: Callable[[bytes], bytes], depth: int
) -> dict[str, Any]:
    names = [text(key) if type(key) is str else None for key in value]
    ambiguous = len(names) == 1 and names[0] in MARKERS if all(type(name) is str for name in names) else True
    if ambiguous or len(set(names)) < len(names):
        return {"$dict": [[pack(k, text, data, depth), pack(v, text, data, depth)] for k, v in value.items()]}
    return {str(name): pack(item, text, data, depth) for name, item in zip(names, value.values(), strict=True)}


def _repr(value: object) -> str:
    try:
        spelled = repr(value)
    except Exception as error:  # a foreign __repr__ must not end the run
        spelled = f"<{type(value).__name__}, whose repr raised {type(error).__name__}>"
    return spelled if len(spelled) <= MAX_REPR else spelled[:MAX_REPR] + "…"


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
            except (TypeError, ValueError) as error:
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
