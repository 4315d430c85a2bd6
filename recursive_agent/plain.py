"""Plain data: what may cross into the REPL and into the trace.

Values of other libraries (numpy, pandas, torch, polars, pyarrow) become plain by their own conversion, known by its name,
so that none of them is imported. What has no such form is refused by name: its `repr` would be taken for the value.
"""

from __future__ import annotations

import io
import sys
from collections import deque
from collections.abc import Callable, Generator, ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from itertools import islice
from pathlib import PurePath
from typing import Any
from uuid import UUID

MOST_LEVELS = 100
"""Levels of nesting, as many as a message into a sandbox may have."""
_AS_TEXT = (Decimal, Fraction, PurePath, UUID)
_SEQUENCES = (list, tuple, deque, range, KeysView, ValuesView, ItemsView)


class NotPlain(ValueError):
    """A value that has no plain form; the message names it and what to do."""


def plain(value: Any, *, strict: bool = False, most: int | None = None) -> Any:
    """`value` as None, bool, int, float, str, bytes, list or dict of such.

    Where `strict`, what has no such form raises NotPlain; otherwise it becomes its `str`. Values nested too deep (or inside
    themselves) and, with `most`, more than so many values, raise NotPlain in either case.
    """
    return _Walk(strict, most).plain(value, 0)


class _Walk:
    """One conversion: it counts the values, and knows how deep it is."""

    def __init__(self, strict: bool, most: int | None) -> None:
        self._strict = strict
        self._most = most
        self._count = 0

    def plain(self, value: Any, level: int) -> Any:
        kind = type(value)
        if kind in _TEXTS:
            # A text of a hundred million characters is as heavy as a hundred thousand numbers.
            self._add(1 + len(value) // 1_000)
            return value
        self._add(1)
        if value is None or kind in _EXACT:
            return value
        if level > MOST_LEVELS:
            raise NotPlain(f"it is nested more than {MOST_LEVELS} levels deep, or holds itself: give something flatter")
        if isinstance(value, Enum):
            return self.plain(value.value, level + 1)
        if kind in (list, tuple):
            return [self.plain(item, level + 1) for item in value]
        if kind is dict or isinstance(value, Mapping):
            return self._mapping(value, level)
        foreign = _foreign(value)
        if foreign is not None:
            self._expect(value)
            return self._converted(foreign, value, level)
        return self._own(value, level)

    def _own(self, value: Any, level: int) -> Any:
        """The kinds that Python itself and our own dependencies have."""
        for base, exact in _SUBCLASSES:
            if isinstance(value, base):
                return exact(value)
        if isinstance(value, (bytes, bytearray, memoryview)):
            return self.plain(bytes(value), level)
        if isinstance(value, _SEQUENCES):
            return [self.plain(item, level + 1) for item in value]
        if isinstance(value, (set, frozenset)):
            return _sorted([self.plain(item, level + 1) for item in value])
        if (dump := _model_dump(value)) is not None:
            return self._converted(dump, value, level)
        if not isinstance(value, type):
            names = _field_names(value)
            if names is not None:
                return {name: self.plain(getattr(value, name), level + 1) for name in names if hasattr(value, name)}
        if isinstance(value, Iterator) and not isinstance(value, io.IOBase):  # generators, map, zip
            return self._items(value, level)
        return self._leaf(value)

    def _leaf(self, value: Any) -> Any:
        if isinstance(value, _AS_TEXT):
            return str(value)
        if isinstance(value, (date, time, datetime, timedelta)):
            return _as_json(value)
        if isinstance(value, (complex, BaseException, type, io.IOBase)) or callable(value):
            return self._refused(value)
        try:
            return _as_json(value)
        except (ValueError, TypeError, RecursionError):  # pydantic's own error is a ValueError
            return self._refused(value)

    def _mapping(self, value: Mapping[Any, Any], level: int) -> dict[Any, Any]:
        converted: dict[Any, Any] = {}
        for key, item in value.items():
            name = self._key(key, level)
            if name in converted:
                raise NotPlain(f"two keys of a {type(value).__name__} become the same key {name!r:.80}: rename one")
            converted[name] = self.plain(item, level + 1)
        return converted

    def _key(self, key: Any, level: int) -> Any:
        if key is None or type(key) in (str, int, float, bool):
            return key
        name = self.plain(key, level + 1)
        if name is None or type(name) in (str, int, float, bool):
            return name
        if self._strict:
            raise NotPlain(f"a value of type {_name(key)} cannot be a key of a dict here: use text or numbers as keys")
        return str(key)

    def _items(self, value: Iterable[Any], level: int) -> list[Any]:
        """What an iterator gives, without waiting for one that never ends."""
        items = value if self._most is None else islice(value, self._most + 1)
        try:
            return [self.plain(item, level + 1) for item in items]
        finally:
            if isinstance(value, Generator):
                value.close()

    def _converted(self, convert: Callable[[Any], Any], value: Any, level: int) -> Any:
        try:
            converted = convert(value)
        except NotPlain:
            raise
        except Exception as error:
            if not self._strict:
                return str(value)
            raise NotPlain(
                f"a value of type {_name(value)} could not be made plain data ({type(error).__name__}: {error})"
            ) from error
        if type(converted) is type(value):
            return self._leaf(converted)
        return self.plain(converted, level + 1)

    def _refused(self, value: Any) -> Any:
        if self._strict:
            raise NotPlain(
                f"a value of type {_name(value)} is not plain data: give text, numbers, bytes, lists or dicts of them "
                "(dataclasses and pydantic models are taken apart)"
            )
        return str(value)

    def _expect(self, value: Any) -> None:
        """Refuse an array that is too large before anything is built from it."""
        size = getattr(value, "size", None)
        if callable(size):  # torch
            size = getattr(value, "numel", lambda: None)()
        if isinstance(size, int) and self._most is not None and size + self._count > self._most:
            raise NotPlain(
                f"{_name(value)} of {size:,} values is too large (at most {self._most:,}): give a part of it"
            )

    def _add(self, count: int) -> None:
        self._count += count
        if self._most is not None and self._count > self._most:
            raise NotPlain(f"it is too large (more than {self._most:,} values): give a part of it")


_TEXTS = frozenset({str, bytes})
_EXACT = frozenset({bool, int, float})
_SUBCLASSES: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (str, str.__str__),
    (int, int.__pos__),
    (float, float.__pos__),
)
"""The value itself of a subclass, whatever methods of its own it has."""


def _model_dump(value: Any) -> Callable[[Any], Any] | None:
    """How a pydantic model becomes plain; None for other values, which all are where pydantic is not imported."""
    if "pydantic" not in sys.modules:
        return None
    from pydantic import BaseModel

    return BaseModel.model_dump if isinstance(value, BaseModel) else None


def _as_json(value: Any) -> Any:
    from pydantic_core import to_jsonable_python  # slow to import, and few need it

    return to_jsonable_python(value)


def _field_names(value: Any) -> list[str] | None:
    """The fields of a dataclass, of a class of attrs, of a struct of msgspec."""
    if is_dataclass(value):
        return [field.name for field in fields(value)]
    attributes = getattr(type(value), "__attrs_attrs__", None)
    if attributes is not None:
        return [attribute.name for attribute in attributes]
    struct = getattr(type(value), "__struct_fields__", None)
    return None if struct is None else list(struct)


def _foreign(value: Any) -> Callable[[Any], Any] | None:
    """How a value of another library becomes plain; None where it is no such value."""
    kind = type(value)
    root = kind.__module__.partition(".")[0]
    if root in ("builtins", "collections"):
        return None
    if kind.__name__ in ("NaTType", "NAType"):  # pandas: a datetime that is none, a value that is none
        return lambda _: None
    if root == "pandas" and hasattr(kind, "to_dict"):
        return _frame if hasattr(value, "columns") else _series
    if root == "pandas" and isinstance(value, (datetime, timedelta)):
        return lambda stamp: stamp.isoformat()
    if isinstance(value, date | time | timedelta) or is_dataclass(value) or _model_dump(value) is not None:
        return None
    if hasattr(kind, "dtype") and hasattr(kind, "tolist"):
        return _array
    for name in ("to_pylist", "to_dicts", "tolist", "to_list", "as_py"):
        if callable(getattr(kind, name, None)):
            return getattr(kind, name)  # type: ignore[no-any-return]
    if callable(getattr(kind, "to_dict", None)) and not isinstance(value, type):
        return _own_dict
    return None


def _array(value: Any) -> Any:
    """An array, tensor or scalar of numpy, torch, jax and alike."""
    if (
        type(value).__module__.partition(".")[0] == "pandas"
    ):  # its dtypes have the letters of numpy, its values are its own
        return value.tolist()
    kind = getattr(value.dtype, "kind", None)
    names = getattr(value.dtype, "names", None)
    if names:  # records: their fields have names
        if getattr(value, "ndim", 0):
            return [_array(item) for item in value]
        return {name: _array(value[name]) if hasattr(value[name], "dtype") else value[name] for name in names}
    if kind == "M":  # a datetime: its own ISO text, since `tolist` gives whole numbers of nanoseconds
        return _without_nat(value.astype(str).tolist())
    if kind == "m":
        return _without_nat(value.astype("timedelta64[us]").tolist())
    converted = value.tolist()
    if type(converted) is type(value):  # a number that Python has no kind for
        return complex(converted) if kind == "c" else float(converted)
    return converted


def _without_nat(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_nat(item) for item in value]
    return None if value == "NaT" else value


def _frame(value: Any) -> Any:
    """A table of pandas as its rows; an index that says something is a column of them."""
    if getattr(value.columns, "nlevels", 1) > 1:
        raise NotPlain("a DataFrame with several levels of columns is not a table of rows: flatten the columns first")
    if not value.columns.is_unique:
        raise NotPlain("a DataFrame with two columns of one name would lose one: rename it")
    table = value if _is_plain_index(value.index) else value.reset_index()
    return table.to_dict(orient="records")


def _series(value: Any) -> Any:
    if _is_plain_index(value.index):
        return value.tolist()
    if not value.index.is_unique:
        raise NotPlain("a Series whose index holds one label twice would lose a value: use reset_index() or tolist()")
    return value.to_dict()


def _is_plain_index(index: Any) -> bool:
    """Whether an index only counts from 0."""
    if type(index).__name__ == "RangeIndex":
        return index.name is None and index.start == 0 and index.step == 1
    return index.name is None and index.nlevels == 1 and index.tolist() == list(range(len(index)))


def _own_dict(value: Any) -> Any:
    converted = value.to_dict()
    if not isinstance(converted, Mapping):
        raise TypeError(f"to_dict() gave a {type(converted).__name__}")
    return converted


def _sorted(items: list[Any]) -> list[Any]:
    """A set in an order that does not change from run to run."""
    try:
        return sorted(items)
    except TypeError:
        return sorted(items, key=repr)


def _name(value: Any) -> str:
    kind = type(value)
    module = "" if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}."
    return f"{module}{kind.__qualname__}"
