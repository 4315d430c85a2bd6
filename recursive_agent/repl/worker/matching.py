"""What the patterns of a `match` statement ask at run time; `patterns` compiles them to these questions."""

from __future__ import annotations

import enum
from typing import Any

from .names import is_special
from .reads import MISSING, is_agents, read

_SEQUENCE, _MAPPING, _MATCHES_ITSELF = 1 << 5, 1 << 6, 1 << 22  # flags of types, as in CPython's object.h


def match_sequence(subject: Any, length: int, star: int | None = None, /) -> list[Any] | None:
    """The items of a sequence of so many items; with a star, those for the name at position `star` in a list."""
    if not type(subject).__flags__ & _SEQUENCE:
        return None
    size = len(subject)
    if size != length if star is None else size < length - 1:
        return None
    items = list(subject)
    if star is None:
        return items if len(items) == length else None
    after = len(items) - (length - 1 - star)
    return [*items[:star], items[star:after], *items[after:]]


def match_mapping(subject: Any, keys: tuple[Any, ...], rest: bool = False, /) -> list[Any] | None:
    """The values of these keys, and with `rest` a dict of the other items."""
    if not type(subject).__flags__ & _MAPPING or len(subject) < len(keys):
        return None
    values = []
    for key in keys:
        value = subject.get(key, MISSING)
        if value is MISSING:
            return None
        values.append(value)
    if rest:
        others = dict(subject)
        for key in keys:
            del others[key]
        values.append(others)
    return values


def match_class(subject: Any, cls: Any, positional: int = 0, keywords: tuple[str, ...] = (), /) -> list[Any] | None:
    """The attributes of an instance of `cls` that the pattern names, each read through the guard."""
    if not isinstance(cls, type):
        raise TypeError("called match pattern must be a class")
    if not isinstance(subject, cls):
        return None
    found: list[Any] = []
    if positional:
        names = _positional_names(cls)
        if names is None:  # int(x): the subject itself
            if positional > 1:
                raise TypeError(f"{cls.__name__}() accepts 1 positional sub-pattern ({positional} given)")
            found.append(subject)
            names = ()
        elif positional > len(names):
            raise TypeError(f"{cls.__name__}() accepts {len(names)} positional sub-patterns ({positional} given)")
        keywords = (*names[:positional], *keywords)
        if len(set(keywords)) < len(keywords):
            raise TypeError(f"{cls.__name__}() got multiple sub-patterns for one attribute")
    try:
        found.extend([read(subject, name) for name in keywords])
    except AttributeError:
        return None
    return found


def _positional_names(cls: type) -> tuple[str, ...] | None:
    for base in cls.__mro__:
        if "__match_args__" in base.__dict__:
            found = base.__dict__["__match_args__"]
            if (
                is_agents(base)
                and type(found) is tuple
                and all(type(name) is str and not is_special(name) for name in found)
            ):
                return found
            break
    if not issubclass(cls, enum.Enum) and cls.__flags__ & _MATCHES_ITSELF:
        return None
    return ()
