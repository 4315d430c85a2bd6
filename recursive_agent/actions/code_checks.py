"""What a piece of text is as Python: code that does something, a comment, data, or code that is cut off."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

from ..repl.worker.parsing import parse
from .fences import blocks, is_code, mended, parsed


def plausible(code: str) -> bool:
    """Whether this is Python that does something, and not prose that happens to parse (`Yes`, `42`, `Paris (France)`)."""
    tree = parsed(code)
    if tree is None:
        return False
    lines = code.encode().split(b"\n")
    return any(isinstance(node, _STATEMENTS) or _is_call(node, lines) for node in ast.walk(tree))


_STATEMENTS = (
    ast.Import, ast.ImportFrom, ast.Assign, ast.AugAssign, ast.NamedExpr, ast.Await, ast.For, ast.AsyncFor, ast.While,
    ast.With, ast.AsyncWith, ast.Try, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Match,
)  # fmt: skip


def _is_call(node: ast.AST, lines: list[bytes]) -> bool:
    """Whether a bracket stands right behind a name, as in code and not as in a sentence."""
    if not isinstance(node, ast.Call) or node.func.end_lineno is None or node.func.end_col_offset is None:
        return False
    return lines[node.func.end_lineno - 1][node.func.end_col_offset :][:1] == b"("


def calls_something(code: str) -> bool:
    """Whether this is Python that does something, and calls a function."""
    tree = parsed(code)
    return tree is not None and plausible(code) and any(isinstance(node, ast.Call) for node in ast.walk(tree))


def is_data(code: str) -> bool:
    """Whether a block is JSON: a value, and no code."""
    if not code.lstrip().startswith(("{", "[")):
        return False
    try:
        json.loads(code, strict=False)
    except (ValueError, RecursionError):
        return False
    return True


def is_comment(code: str) -> bool:
    """Whether code is Python without a statement."""
    tree = parsed(code)
    return tree is not None and not tree.body


def unwrapped(code: str) -> str:
    """Code that stands in a fence although it needed none."""
    fenced = blocks(code) if re.match(r"\s*(?:`{3}|~{3})", code) else []
    if fenced and not is_code(code):
        return fenced[0].code
    return mended(code).strip("\n")


def is_unended(code: str) -> bool:
    """Whether the code stops inside a string or a bracket."""
    if parsed(code) is not None:
        return False
    try:
        parse(code[:100_000])
    except SyntaxError as error:
        return any(part in str(error.msg) for part in ("unterminated triple-quoted", "was never closed"))
    except (ValueError, RecursionError, MemoryError):
        pass
    return False


@dataclass(frozen=True, slots=True)
class Syntax:
    """Python code, parsed and walked once for all that look at it."""

    code: str
    tree: ast.Module
    nodes: tuple[ast.AST, ...]
    bound: frozenset[str]
    """Every name that the code binds itself."""

    @classmethod
    def of(cls, code: str) -> Syntax | None:
        """None where the code is no Python (or too long to judge)."""
        tree = parsed(code)
        if tree is None:
            return None
        nodes = tuple(ast.walk(tree))
        return cls(code, tree, nodes, frozenset(_bound_names(nodes)))


def _bound_names(nodes: Iterable[ast.AST]) -> set[str]:
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store | ast.Del):
            names.add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, ast.alias):
            names.add((node.asname or node.name).partition(".")[0])
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
            names.add(node.name)
    return names
