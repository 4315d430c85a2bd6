"""The module `re` of agents: the library's functions, which keep patterns, flags and templates in caches, take exact ones.

`re` compares its arguments with the keys of its caches; an agent's class could claim to be equal to a key of another's.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator
from typing import Any

from .exact import exact, exact_text, plain_keywords, takes_exact
from .reads import allow, allow_public, substitute

# -- flags -----------------------------------------------------------------------------------------------------------


class RegexFlag(int):
    """A flag of `re`, or several. The library's own class keeps every combination under whatever number it was made of."""

    __slots__ = ()

    @property
    def value(self) -> int:
        """The plain number."""
        return int.__int__(self)

    @property
    def name(self) -> str | None:
        """`IGNORECASE`, or `IGNORECASE|MULTILINE` of several."""
        return re.RegexFlag(self.value).name

    def __repr__(self) -> str:
        return repr(re.RegexFlag(self.value))

    __str__ = __repr__

    def __format__(self, spec: str, /) -> str:
        return format(repr(self), spec)

    def __hash__(self) -> int:
        return int.__hash__(self)

    def __eq__(self, other: object) -> Any:
        return int.__eq__(self, other)

    def __iter__(self) -> Iterator[RegexFlag]:
        return (RegexFlag(flag.value) for flag in re.RegexFlag(self.value))

    def __len__(self) -> int:
        return self.value.bit_count()

    def __bool__(self) -> bool:
        return self.value != 0

    def __contains__(self, other: object) -> bool:
        return isinstance(other, int) and int.__and__(self, other) == int.__int__(other)

    def __or__(self, other: Any) -> Any:
        return _flags(int.__or__(self, other))

    def __and__(self, other: Any) -> Any:
        return _flags(int.__and__(self, other))

    def __xor__(self, other: Any) -> Any:
        return _flags(int.__xor__(self, other))

    __ror__, __rand__, __rxor__ = __or__, __and__, __xor__

    def __invert__(self) -> RegexFlag:
        return RegexFlag((~re.RegexFlag(self.value)).value)


RegexFlag.__module__ = "re"


def _flags(number: Any) -> Any:
    return number if number is NotImplemented else RegexFlag(number)


_NAMES = "A ASCII I IGNORECASE M MULTILINE S DOTALL X VERBOSE U UNICODE NOFLAG"
FLAGS = {name: RegexFlag(getattr(re, name).value) for name in _NAMES.split()}
allow(RegexFlag, ("name", "value"))

# -- functions -------------------------------------------------------------------------------------------------------


def _pattern(value: Any) -> Any:
    return value if type(value) is re.Pattern else exact_text(value, "pattern")


def _replacement(value: Any) -> Any:
    return value if callable(value) else exact_text(value, "replacement")


def _number(flags: Any) -> int:
    return int(operator.index(flags))


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "pattern": _pattern,
    "repl": _replacement,
    "flags": _number,
    "template": lambda value: exact_text(value, "template"),
}
"""Parameters by name that reach a cache. The string that is searched reaches none."""


def _checked(function: Callable[..., Any], names: list[str]) -> Callable[..., Any]:
    """`function`, whose positional parameters are called `names`, for agents."""
    checks = [_CHECKS.get(name, exact if name in ("count", "maxsplit") else None) for name in names]

    def checked(*args: Any, **options: Any) -> Any:
        values = [value if check is None else check(value) for value, check in zip(args, checks, strict=False)]
        values.extend(args[len(checks) :])  # too many: the function says so
        for name in plain_keywords(options):
            if name in _CHECKS:
                options[name] = _CHECKS[name](options[name])
        return function(*values, **options)

    return checked


def _of_module(name: str, parameters: str) -> Callable[..., Any]:
    function = _checked(getattr(re, name), parameters.split())
    function.__name__ = function.__qualname__ = name
    return function


_PARAMETERS = {
    "compile": "pattern flags",
    **dict.fromkeys(("match", "search", "fullmatch", "findall", "finditer"), "pattern string flags"),
    "split": "pattern string maxsplit flags",
    **dict.fromkeys(("sub", "subn"), "pattern repl string count flags"),
}
"""As they are called by position. Signatures do not tell: later versions of Python take the last ones as `*args`."""
FUNCTIONS = {name: _of_module(name, parameters) for name, parameters in _PARAMETERS.items()}
FUNCTIONS["escape"] = takes_exact(re.escape)

# -- methods ---------------------------------------------------------------------------------------------------------


def _method(cls: type, name: str, *names: str) -> None:
    """Read in the place of a method of the library's: one that checks what reaches a cache."""
    unbound = _checked(getattr(cls, name), ["self", *names])

    def of_class(owner: type) -> Callable[..., Any]:
        return lambda self, /, *args, **options: unbound(self, *args, **options)

    def of_instance(value: Any) -> Callable[..., Any]:
        return lambda *args, **options: unbound(value, *args, **options)

    substitute(cls, name, of_instance, of_class)


allow_public(re.Match, "expand")
allow_public(re.Pattern, "scanner", "groupindex", "sub", "subn")
substitute(re.Pattern, "groupindex", lambda value: dict(value.groupindex))
_method(re.Match, "expand", "template")
_method(re.Pattern, "sub", "repl", "string", "count")
_method(re.Pattern, "subn", "repl", "string", "count")
