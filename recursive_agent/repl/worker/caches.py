"""The library's caches in a worker: they keep and compare plain keys alone.

A `functools.lru_cache` before a function of the library (`typing`'s, say, where even an operator reaches it: `List[int] |
x`) hashes and compares whatever it is called with. An agent's class could lie to it, and so change what other code gets.
In a worker such calls go past the cache.
"""

from __future__ import annotations

import functools
import gc
import re
import sys
import types
import typing
from collections.abc import Callable
from typing import Any

from .exact import exact
from .reads import is_agents

_PLAIN: frozenset[type] = frozenset({int, str, bytes, float, bool, complex, type(None), type(...)})
_LRU: type = type(functools.lru_cache(len))


def is_plain(key: Any) -> bool:
    """Whether hashing and comparing `key` runs no code of an agent's."""
    cls: Any = type(key)
    if cls in _PLAIN or isinstance(key, type):
        return True
    if cls is tuple:
        return all(map(is_plain, key))
    if cls is re.Pattern:
        return type(key.pattern) in _PLAIN
    by_identity = cls.__hash__ is object.__hash__ and cls.__eq__ is object.__eq__
    return by_identity and not is_agents(cls)


def past_the_cache(cached: Any) -> Callable[..., Any]:
    """`cached`, an `lru_cache`, where all arguments are plain; otherwise the function that it stands before."""
    function = cached.__wrapped__

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if all(map(is_plain, args)) and all(map(is_plain, kwargs.values())):
            return cached(*args, **kwargs)
        return function(*args, **kwargs)

    for name in ("cache_info", "cache_clear", "cache_parameters"):
        setattr(call, name, getattr(cached, name))
    return call


def keep_plain_keys() -> None:
    """Do so in this process, for good: in variables of modules, in tables there, and in functions that hold a cache."""
    cells: list[Any] = [found for found in gc.get_objects() if type(found) is types.CellType]
    for cell in cells:
        try:
            value: Any = cell.cell_contents
        except ValueError:  # it is empty
            continue
        if type(value) is _LRU:
            cell.cell_contents = past_the_cache(value)
    for module in list(sys.modules.values()):
        if type(module) is types.ModuleType:
            _keep_plain_keys_in(module)
    _refuse_objects_as_types()


def _keep_plain_keys_in(module: types.ModuleType) -> None:
    for name, value in list(vars(module).items()):
        if type(value) is _LRU:
            setattr(module, name, past_the_cache(value))
        elif type(value) is dict and name != "__builtins__":
            for key, inner in list(value.items()):
                if type(inner) is _LRU:
                    value[key] = past_the_cache(inner)


def _refuse_objects_as_types() -> None:
    """`Optional[x]` where x is an object of an agent's class: typing would ask its `__eq__` about classes of its own."""
    module: Any = typing
    check = module._type_check

    @functools.wraps(check)
    def type_check(arg: Any, msg: Any, *args: Any, **kwargs: Any) -> Any:
        arg = exact(arg)
        if is_agents(type(arg)) or type(arg).__module__ == "__main__":  # the latter while its class is being made
            raise TypeError(f"{msg} Write a class, not an object of the class {type(arg).__name__!r}.")
        return check(arg, msg, *args, **kwargs)

    module._type_check = type_check
