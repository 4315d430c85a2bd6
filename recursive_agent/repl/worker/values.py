"""What the variables of a failing line held."""

from __future__ import annotations

import ast
import inspect
import linecache
from collections.abc import Iterator
from itertools import islice
from types import TracebackType
from typing import Any, TypeVar

from .parsing import parse

_Node = TypeVar("_Node", bound=ast.expr)
_MOST = 3
"""Variables that are shown."""
_ITEMS = 3
_KEYS = 6
_TEXT = 60
_NESTING = 3
_WHOLE = 10**_TEXT
_NAME: Any = type.__dict__["__name__"]  # whatever an agent's metaclass says it is
DATA = (str, int, float, complex, bool, bytes, type(None), list, tuple, dict, set, frozenset)


def values_there(error: BaseException, prefix: str) -> list[str]:
    """A line `Here NAME = VALUE` for each variable in the line of a cell (of a file that `prefix` begins) that failed last.

    Only data is shown, and of large values their beginning, which is no Python then: models copy what they see. Runs none of
    the agent's code.
    """
    last = last_of_a_cell(error, prefix)
    if last is None:
        return []
    frame = last.tb_frame
    # What a class body writes into may be a mapping of the agent's (`__prepare__`).
    scopes = (frame.f_locals, frame.f_globals) if frame.f_code.co_flags & inspect.CO_OPTIMIZED else (frame.f_globals,)
    held: dict[str, Any] = {}
    for name in _names(frame.f_code.co_filename, last.tb_lineno):
        for scope in scopes:
            if name in scope:
                held.setdefault(name, scope[name])
    data = [(name, value) for name, value in held.items() if type(value) in DATA]
    return [f"Here {name} = {_short(value)}" for name, value in data[:_MOST]]


def last_of_a_cell(error: BaseException, prefix: str) -> TracebackType | None:
    """The innermost line of a cell (of a file that `prefix` begins) in which an error was raised."""
    last: TracebackType | None = None
    part = error.__traceback__
    while part is not None:
        if part.tb_frame.f_code.co_filename.startswith(prefix):
            last = part
        part = part.tb_next
    return last


def nodes_in(file: str, line: int, kind: type[_Node]) -> list[_Node]:
    """The expressions of one kind that begin in a line of a cell; none where its code cannot be read."""
    try:
        tree = parse("".join(linecache.getlines(file)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    return [node for node in ast.walk(tree) if isinstance(node, kind) and node.lineno == line]


def _names(file: str, line: int) -> Iterator[str]:
    """The variables that a line of a cell reads, from left to right."""
    names = nodes_in(file, line, ast.Name)
    for node in sorted(names, key=lambda node: node.col_offset):
        if isinstance(node.ctx, ast.Load):
            yield node.id


def _short(value: Any, level: int = 0) -> str:
    kind = type(value)
    if kind is str or kind is bytes:
        unit = "characters" if kind is str else "bytes"
        return repr(value) if len(value) <= _TEXT else f"{value[:_TEXT]!r}… ({len(value):,} {unit})"
    if kind is dict:
        if level == _NESTING:
            return f"<a dict of {len(value):,} keys>"
        inside = ", ".join(
            f"{_short(key, _NESTING)}: {_short(item, level + 1)}" for key, item in _first(value.items(), _KEYS)
        )
        return f"{{{inside}{_more(value, _KEYS)}}}"
    if kind in (list, tuple, set, frozenset):
        if level == _NESTING:
            return f"<a {kind.__name__} of {len(value):,} items>"
        inside = ", ".join(_short(item, level + 1) for item in _first(value, _ITEMS))
        start, end = "[]" if kind is list else "()" if kind is tuple else "{}"
        return f"{start}{inside}{_more(value, _ITEMS)}{end}"
    if kind is int and not -_WHOLE < value < _WHOLE:  # Python refuses to spell the longest ones
        return f"<a whole number of {value.bit_length():,} bits>"
    if kind in DATA:
        return repr(value)
    return f"<{_NAME.__get__(kind)}>"  # without its `__repr__`, which is the agent's code


def _first(values: Any, most: int) -> list[Any]:
    return list(islice(values, most))


def _more(values: Any, shown: int) -> str:
    return f", … {len(values):,} in all" if len(values) > shown else ""
