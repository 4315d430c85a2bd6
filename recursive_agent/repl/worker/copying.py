"""`copy.copy`, `copy.deepcopy`, `dataclasses.asdict` and `astuple` of agents: plain data and the agent's own objects.

The library's functions follow whatever protocol an object claims (`__reduce_ex__` and alike). These copy what they know,
call no hook but a `__copy__` or `__deepcopy__` that stands in a class of the agent's own, and refuse the rest.
"""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import functools
import re
import types
from collections.abc import Callable, Iterator
from typing import Any, cast

from . import chance
from .classes import SimpleNamespace
from .ordered import OrderedDict
from .reads import MISSING, is_agents
from .regular import RegexFlag

Part = Callable[[Any], Any]

_ATOMS = frozenset(
    {
        *(int, float, complex, bool, str, bytes, range, slice, type(None), type(Ellipsis), type(NotImplemented)),
        *(datetime.date, datetime.datetime, datetime.time, datetime.timedelta, datetime.timezone),
        *(decimal.Decimal, fractions.Fraction, re.Pattern, re.Match, RegexFlag, property, object),
        *(types.FunctionType, types.BuiltinFunctionType, types.MethodType, functools.partial),
    }
)
_IMMUTABLE: dict[type, Callable[[type, Any, Part], Any]] = {
    int: lambda cls, value, part: int.__new__(cls, int.__int__(value)),
    float: lambda cls, value, part: float.__new__(cls, float.__float__(value)),
    str: lambda cls, value, part: str.__new__(cls, str.__str__(value)),
    bytes: lambda cls, value, part: bytes.__new__(cls, bytes.__getitem__(value, slice(None))),
    tuple: lambda cls, value, part: tuple.__new__(cls, [part(item) for item in tuple.__iter__(value)]),
    frozenset: lambda cls, value, part: frozenset.__new__(cls, [part(item) for item in frozenset.__iter__(value)]),
}


def _fill_list(new: Any, old: Any, part: Part) -> None:
    for item in list.__iter__(old):
        list.append(new, part(item))


def _fill_set(new: Any, old: Any, part: Part) -> None:
    for item in list(set.__iter__(old)):
        set.add(new, part(item))


def _fill_dict(new: Any, old: Any, part: Part) -> None:
    for key, value in list(dict.items(old)):
        dict.__setitem__(new, part(key), part(value))


def _fill_default(new: Any, old: Any, part: Part) -> None:
    kind: Any = collections.defaultdict
    kind.__init__(new, kind.default_factory.__get__(old))
    _fill_dict(new, old, part)


def _fill_deque(new: Any, old: Any, part: Part) -> None:
    kind: Any = collections.deque
    kind.__init__(new, (), kind.maxlen.__get__(old))
    for item in list(collections.deque.__iter__(old)):
        collections.deque.append(new, part(item))


def _fill_bytes(new: Any, old: Any, part: Part) -> None:
    bytearray.extend(new, bytes(old))


def _fill_chain(new: Any, old: Any, part: Part) -> None:
    new.maps = [part(mapping) for mapping in old.maps]


_MUTABLE: dict[type, Callable[[Any, Any, Part], None]] = {
    list: _fill_list,
    set: _fill_set,
    collections.defaultdict: _fill_default,
    dict: _fill_dict,
    collections.deque: _fill_deque,
    bytearray: _fill_bytes,
    collections.ChainMap: _fill_chain,
}
_KINDS: tuple[type, ...] = (*_IMMUTABLE, *_MUTABLE)
_EXACT = frozenset(
    {*_KINDS, OrderedDict, collections.Counter, collections.UserDict, collections.UserList, SimpleNamespace}
)


def copy(value: Any, /) -> Any:
    """A shallow copy."""
    return _rebuilt(value, lambda part: part, lambda new: None, "__copy__", ())


def deepcopy(value: Any, memo: dict[int, Any] | None = None, /) -> Any:
    """A deep copy; functions, classes and other immutable objects are shared."""
    memo = {} if memo is None else memo
    key = id(value)
    known = memo.get(key, MISSING)
    if known is not MISSING:
        return known

    def remember(new: Any) -> None:
        memo[key] = new
        memo.setdefault(id(memo), []).append(value)  # kept, so that its id stays its own

    new = _rebuilt(value, lambda part: deepcopy(part, memo), remember, "__deepcopy__", (memo,))
    if new is not value and key not in memo:
        remember(new)
    if type(value) in (tuple, frozenset) and all(a is b for a, b in zip(value, new, strict=True)):
        return value
    return new


def _rebuilt(value: Any, part: Part, remember: Callable[[Any], None], hook: str, arguments: tuple[Any, ...]) -> Any:
    cls = type(value)
    if cls in _ATOMS or isinstance(value, (type, enum.Enum)):
        return value
    if is_agents(cls):
        own = next((base.__dict__[hook] for base in cls.__mro__ if hook in base.__dict__), None)
        if type(own) is types.FunctionType:
            return own(value, *arguments)
    elif cls is chance.Random:
        new = chance.Random(0)
        new.setstate(value.getstate())
        return new
    elif cls not in _EXACT:
        raise TypeError(
            f"a {cls.__name__} cannot be copied here: copy takes plain data and objects of your own classes"
        )
    kind = next((base for base in cls.__mro__ if base in _KINDS), None)
    if kind in _IMMUTABLE:
        new = _IMMUTABLE[kind](cls, value, part)
        remember(new)
    elif kind is not None:
        new = cast(Any, kind).__new__(cls)
        remember(new)
        _MUTABLE[kind](new, value, part)
        if kind is collections.ChainMap:
            return new
    elif issubclass(cls, BaseException):
        base = next(base for base in cls.__mro__ if not is_agents(base))
        new = cast(Any, base).__new__(cls, *value.args)
        remember(new)
        BaseException.args.__set__(new, part(value.args))  # type: ignore[attr-defined]
    else:
        new = object.__new__(cls)
        remember(new)
    _copy_state(new, value, part)
    return new


def _copy_state(new: Any, old: Any, part: Part) -> None:
    """The attributes, whether in a dictionary or in slots, without a `__setattr__` of the class."""
    state = _dictionary(old)
    if state:
        target = _dictionary(new)
        for name, value in list(state.items()):
            target[name] = part(value)
    for base in type(old).__mro__:
        if is_agents(base):
            for slot in list(base.__dict__.values()):
                if type(slot) is types.MemberDescriptorType:
                    try:
                        slot.__set__(new, part(slot.__get__(old)))
                    except AttributeError:
                        continue  # it is not set


def _dictionary(value: Any) -> dict[str, Any]:
    try:
        return cast("dict[str, Any]", object.__getattribute__(value, "__dict__"))
    except AttributeError:
        return {}


# -- dataclasses -----------------------------------------------------------------------------------------------------


def fields(class_or_instance: Any, /) -> tuple[dataclasses.Field[Any], ...]:
    """dataclasses.fields."""
    cls = class_or_instance if isinstance(class_or_instance, type) else type(class_or_instance)
    if not (is_agents(cls) and dataclasses.is_dataclass(cls)):
        raise TypeError("fields() takes your own dataclass or an instance of one")
    return dataclasses.fields(cls)


def _fields(instance: Any) -> Iterator[tuple[str, Any]]:
    for field in dataclasses.fields(instance):
        yield field.name, getattr(instance, field.name)


def _is_own_dataclass(value: Any) -> bool:
    return is_agents(type(value)) and dataclasses.is_dataclass(value)


def asdict(obj: Any, /, *, dict_factory: Callable[[list[tuple[str, Any]]], Any] = dict) -> Any:
    """dataclasses.asdict."""
    if not _is_own_dataclass(obj):
        raise TypeError("asdict() takes an instance of your own dataclass")
    return _inner(obj, lambda value, inner: dict_factory([(name, inner(part)) for name, part in _fields(value)]))


def astuple(obj: Any, /, *, tuple_factory: Callable[[list[Any]], Any] = tuple) -> Any:
    """dataclasses.astuple."""
    if not _is_own_dataclass(obj):
        raise TypeError("astuple() takes an instance of your own dataclass")
    return _inner(obj, lambda value, inner: tuple_factory([inner(part) for _, part in _fields(value)]))


def _inner(value: Any, make: Callable[[Any, Part], Any]) -> Any:
    def inner(part: Any) -> Any:
        return _inner(part, make)

    cls = type(value)
    if _is_own_dataclass(value):
        return make(value, inner)
    if cls in (list, tuple, set, frozenset):
        return cls([inner(part) for part in value])
    if is_agents(cls) and issubclass(cls, tuple):
        return tuple.__new__(cls, [inner(part) for part in tuple.__iter__(value)])
    if cls is dict:
        return {inner(key): inner(part) for key, part in value.items()}
    return deepcopy(value)
