"""What compiled cells call at run time, and the builtins that the agent's code sees."""

from __future__ import annotations

import builtins
import decimal
from collections.abc import Callable, Container
from typing import Any, NoReturn

from . import formatting, names  # noqa: F401 (formatting puts its own `format` in the place of str's)
from .classes import ANSWERED_BY_PYTHON, SimpleNamespace, is_own_function, make_class
from .kinds import BUILTIN_ERRORS
from .matching import match_class, match_mapping, match_sequence
from .reads import (
    SafeType,
    Types,
    guarded_getattr,
    guarded_hasattr,
    is_agents,
    is_in_cell,
    make_guard,
    read_special,
    read_super,
    reveal,
    variables_of,
)

_SETTABLE: dict[type, frozenset[str]] = {
    decimal.Context: frozenset({"prec", "rounding", "Emin", "Emax", "capitals", "clamp"}),
}
"""Attributes that may be set on objects of the library."""

_SETTABLE_OF_ERRORS = frozenset(
    ("args", "value", "code", "name", "path", "msg", "errno", "strerror", "filename", "filename2")
)
"""Attributes of the library's exceptions that may be set. C code relies on the types of others (`UnicodeError.object`)."""


def guarded_write(value: Any, name: str, deleted: bool = False) -> Any:
    """`value` itself, where its attribute `name` may be set or deleted: only on what the agent's code made.

    What the library's part of an exception holds is never deleted: C code relies on its being there.
    """
    cls = value if isinstance(value, type) else type(value)
    own = is_in_cell(cls) or type(value) is SimpleNamespace
    allowed = own or (not name.startswith("_") and _may_set(value, name))
    if allowed and not (issubclass(cls, BaseException) and name in _held_back_of_error(cls, deleted)):
        return value
    raise AttributeError(f"the attribute {name!r} of {type(value).__name__!r} objects cannot be set here")


def _may_set(value: Any, name: str) -> bool:
    return isinstance(value, BaseException) or is_own_function(value) or name in _SETTABLE.get(type(value), ())


def _held_back_of_error(cls: type[BaseException], deleted: bool) -> Container[str]:
    """The names that the library's part of an exception defines, without those that may be set; `split` and alike."""
    held = {name for base in cls.__mro__ if not is_agents(base) for name in base.__dict__}
    return (held if deleted else held - _SETTABLE_OF_ERRORS) | ANSWERED_BY_PYTHON


def _writing(value: Any, name: Any, deleted: bool = False) -> Any:
    if type(name) is not str:
        raise TypeError("attribute names must be plain strings")
    problem = names.attribute_error(name)
    if problem is not None or names.is_special(name):
        raise AttributeError(problem or f"the attribute {name!r} cannot be set")
    return guarded_write(value, name, deleted)


def guarded_setattr(value: Any, name: Any, new: Any, /) -> None:
    """`setattr` of cells."""
    setattr(_writing(value, name), name, new)


def guarded_delattr(value: Any, name: Any, /) -> None:
    """`delattr` of cells."""
    delattr(_writing(value, name, deleted=True), name)


# -- builtins --------------------------------------------------------------------------------------------------------


def _unavailable(name: str, why: str) -> Callable[..., NoReturn]:
    def function(*args: Any, **kwargs: Any) -> NoReturn:
        raise PermissionError(f"{name}() is not available in this sandbox: {why}")

    function.__name__ = function.__qualname__ = name
    return function


_PLAIN = [
    "abs",
    "aiter",
    "all",
    "anext",
    "any",
    "ascii",
    "bin",
    "bool",
    "bytearray",
    "bytes",
    "callable",
    "chr",
    "classmethod",
    "complex",
    "dict",
    "divmod",
    "enumerate",
    "filter",
    "float",
    "format",
    "frozenset",
    "hash",
    "hex",
    "id",
    "int",
    "isinstance",
    "issubclass",
    "iter",
    "len",
    "list",
    "map",
    "max",
    "memoryview",
    "min",
    "next",
    "object",
    "oct",
    "ord",
    "pow",
    "property",
    "range",
    "repr",
    "reversed",
    "round",
    "set",
    "slice",
    "sorted",
    "staticmethod",
    "str",
    "sum",
    "super",
    "tuple",
    "zip",
    "True",
    "False",
    "None",
    "Ellipsis",
    "NotImplemented",
    "__build_class__",
]


def make_builtins(variables: dict[str, Any], importer: Callable[..., Any]) -> dict[str, Any]:
    """The builtins of one REPL whose global variables are `variables`."""

    def visible() -> dict[str, Any]:
        return {k: v for k, v in variables.items() if not names.is_special(k)}

    def guarded_dir(*value: Any) -> list[str]:
        if not value:
            return sorted(visible())
        return sorted(name for name in dir(*value) if type(name) is str and not name.startswith("_"))

    found: dict[str, Any] = {name: getattr(builtins, name) for name in _PLAIN}
    found.update(BUILTIN_ERRORS)
    found.update(
        getattr=guarded_getattr,
        hasattr=guarded_hasattr,
        setattr=guarded_setattr,
        delattr=guarded_delattr,
        type=SafeType,
        vars=variables_of,
        dir=guarded_dir,
        globals=visible,
        locals=visible,
        open=_unavailable("open", "there are no files; your input is in your variables"),
        input=_unavailable("input", "nobody is there to answer"),
        eval=_unavailable("eval", "write the expression itself"),
        exec=_unavailable("exec", "write the code itself"),
        compile=_unavailable("compile", "write the code itself"),
        exit=_unavailable("exit", "call finish(value) to end"),
        quit=_unavailable("quit", "call finish(value) to end"),
        __import__=importer,
    )
    found.update(_GUARDS)
    known = found[names.TYPES] = Types()
    found[names.GET] = make_guard(known)
    return found


_GUARDS: dict[str, Any] = {
    names.TYPE: type,
    names.SPECIAL: read_special,
    names.SUPER: read_super,
    names.WRITE: guarded_write,
    names.CLASS: make_class,
    names.MATCH_SEQUENCE: match_sequence,
    names.MATCH_MAPPING: match_mapping,
    names.MATCH_CLASS: match_class,
}
for _offered in (*(getattr(builtins, name) for name in _PLAIN), type(None), type(...), type(NotImplemented)):
    if isinstance(_offered, type):
        reveal(_offered)
