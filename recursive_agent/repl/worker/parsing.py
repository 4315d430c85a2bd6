"""Source to syntax tree, by one thread at a time."""

from __future__ import annotations

import ast
import threading
from typing import Any

_turn = threading.RLock()
"""A finalizer that Python runs within a parse may parse too."""


def parse(source: str, filename: str = "<unknown>", flags: int = 0) -> Any:
    """The syntax tree of a module, as `ast.parse` makes it, and with the same errors.

    CPython counts the nesting of all trees that it builds in one place, so threads that build one each at the same time can
    make each other fail: SystemError, "AST constructor recursion depth mismatch" (3.11), for code without a fault.
    """
    with _turn:
        return compile(source, filename, "exec", flags | ast.PyCF_ONLY_AST, dont_inherit=True)
