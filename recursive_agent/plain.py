"""Plain data: what may cross into the REPL and into the trace."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from pydantic import BaseModel
from pydantic_core import to_jsonable_python


def plain(value: Any, *, strict: bool = False) -> Any:
    """`value` as None, bool, int, float, str, bytes, list or dict of such.

    What has no such form becomes its `str`; where `strict`, it raises ValueError.
    """
    if value is None or type(value) in (bool, int, float, str, bytes):
        return value
    if isinstance(value, Mapping):
        return {
            key if type(key) in (str, int, float, bool) or key is None else str(key): plain(v, strict=strict)
            for key, v in value.items()
        }
    if isinstance(value, list | tuple):
        return [plain(item, strict=strict) for item in value]
    if isinstance(value, set | frozenset):
        return [plain(item, strict=strict) for item in sorted(value, key=repr)]
    if isinstance(value, BaseModel):
        return plain(value.model_dump(), strict=strict)
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name), strict=strict) for field in fields(value)}
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    return to_jsonable_python(value, fallback=None if strict else str)
