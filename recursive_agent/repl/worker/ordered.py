"""`collections.OrderedDict` of agents: a dict, which has an order anyway.

The library's own, in C, keeps a list of its keys beside the dict, and loses its place in it when the `__eq__` of a key
changes the dict while a key is looked up.
"""

from __future__ import annotations

import sys
import typing
from typing import Any

_END: Any = object()


class OrderedDict(dict[Any, Any]):
    """A dict whose items can be moved to its ends, and which is equal to another one in the same order alone."""

    def move_to_end(self, key: Any, last: bool = True) -> None:
        """Move an item to the end, or to the beginning."""
        value = dict.pop(self, key)
        if last:
            dict.__setitem__(self, key, value)
            return
        items = list(dict.items(self))
        dict.clear(self)
        dict.__setitem__(self, key, value)
        dict.update(self, items)

    def popitem(self, last: bool = True) -> tuple[Any, Any]:
        """Remove and return the last item, or the first one."""
        key = next(dict.__reversed__(self) if last else dict.__iter__(self), _END)
        if key is _END:
            raise KeyError("dictionary is empty")
        return key, dict.pop(self, key)

    def copy(self) -> OrderedDict:
        """A shallow copy."""
        return type(self)(self)

    def __eq__(self, other: object) -> Any:
        if isinstance(other, OrderedDict):
            return dict.__eq__(self, other) and list(dict.keys(self)) == list(dict.keys(other))
        return dict.__eq__(self, other)

    def __ne__(self, other: object) -> Any:
        equal = self == other
        return equal if equal is NotImplemented else not equal

    __hash__ = None

    def __or__(self, other: Any) -> Any:
        if not isinstance(other, dict):
            return NotImplemented
        merged = type(self)(self)
        merged.update(other)
        return merged

    def __ror__(self, other: Any) -> Any:
        if not isinstance(other, dict):
            return NotImplemented
        merged = type(self)(other)
        merged.update(self)
        return merged

    def __ior__(self, other: Any) -> Any:
        self.update(other)
        return self

    def __repr__(self) -> str:
        if not self:
            return f"{type(self).__name__}()"
        items: Any = dict(self.items()) if sys.version_info >= (3, 12) else list(self.items())
        return f"{type(self).__name__}({items!r})"


OrderedDict.__module__ = "collections"
ALIAS: Any = typing._alias(OrderedDict, 2)  # type: ignore[attr-defined]
"""What typing has under this name."""
