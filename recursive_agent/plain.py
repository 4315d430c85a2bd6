"""Plain data: what may cross into the REPL and into the trace."""

from __future__ import annotations

from dataclasses import is_dataclass
from typing import Any

from pydantic import BaseModel, TypeAdapter
from pydantic_core import to_jsonable_python


def plain(value: Any) -> Any:
    """`value` as None, bool, int, float, str, bytes, list or dict of such; what has no such form becomes its `str`."""
    if value is None or type(value) in (bool, int, float, str, bytes):
        return value
    if isinstance(value, dict):
        return {
            key if type(key) in (str, int, float, bool) or key is None else str(key): plain(v)
            for key, v in value.items()
        }
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return [plain(item) for item in sorted(value, key=repr)]
    if isinstance(value, BaseModel):
        return plain(value.model_dump())
    if is_dataclass(value) and not isinstance(value, type):
        return plain(TypeAdapter(type(value)).dump_python(value))
    return to_jsonable_python(value, fallback=str)
