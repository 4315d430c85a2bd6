"""Small mistakes in a function, one at a time: each is found in its syntax tree and made in its text."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from recursive_agent.repl.worker.parsing import parse

_COMPARISONS: Mapping[type[ast.cmpop], tuple[str, tuple[str, ...]]] = MappingProxyType(
    {
        ast.Lt: ("<", ("<=", ">")),
        ast.LtE: ("<=", ("<",)),
        ast.Gt: (">", (">=", "<")),
        ast.GtE: (">=", (">",)),
        ast.Eq: ("==", ("!=",)),
        ast.NotEq: ("!=", ("==",)),
        ast.In: ("in", ("not in",)),
        ast.NotIn: ("not in", ("in",)),
    }
)
_OPERATORS: Mapping[type[ast.operator], tuple[str, tuple[str, ...]]] = MappingProxyType(
    {
        ast.Add: ("+", ("-",)),
        ast.Sub: ("-", ("+",)),
        ast.Mult: ("*", ("+",)),
        ast.FloorDiv: ("//", ("%",)),
        ast.Mod: ("%", ("//",)),
    }
)
_EXTREMES: Mapping[str, str] = MappingProxyType({"min": "max", "max": "min"})


@dataclass(frozen=True, slots=True)
class Mutant:
    """A function with one mistake."""

    kind: str
    source: str


def mutants(source: str) -> list[Mutant]:
    """Every mistake of the kinds known here that the function could have, in the order of its text."""
    text = _Text(source)
    (function,) = parse(source).body
    assert isinstance(function, ast.FunctionDef)
    found: list[Mutant] = []
    defaults = {id(default) for default in function.args.defaults}
    for node in [*function.args.defaults, *(part for statement in function.body[1:] for part in ast.walk(statement))]:
        for kind, start, end, new in _edits(text, node):
            kind = "default" if id(node) in defaults else kind
            found.append(Mutant(kind, source[:start] + new + source[end:]))
    return found + list(_base_cases(text, function))


class _Text:
    """A source, and where the nodes of its tree stand in it (ASCII only, so that columns are characters)."""

    def __init__(self, source: str) -> None:
        self.source = source
        self._lines = [0]
        for line in source.splitlines(keepends=True):
            self._lines.append(self._lines[-1] + len(line))

    def start(self, node: ast.expr | ast.stmt) -> int:
        return self._lines[node.lineno - 1] + node.col_offset

    def end(self, node: ast.expr | ast.stmt) -> int:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self._lines[node.end_lineno - 1] + node.end_col_offset

    def line(self, number: int) -> int:
        """Where line `number`, from 1, begins."""
        return self._lines[number - 1]


def _edits(text: _Text, node: ast.AST) -> Iterator[tuple[str, int, int, str]]:
    """(kind of mistake, from, to, new text)."""
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        old, new = _COMPARISONS[type(node.ops[0])]
        yield from _between(text, node.left, node.comparators[0], old, new, "comparison")
    elif isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        yield from _between(text, node.left, node.right, *_OPERATORS[type(node.op)], "operator")
    elif isinstance(node, ast.AugAssign) and type(node.op) in _OPERATORS:
        old, new = _OPERATORS[type(node.op)]
        yield from _between(text, node.target, node.value, f"{old}=", tuple(f"{one}=" for one in new), "operator")
    elif isinstance(node, ast.BoolOp):
        old, other = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        yield from _between(text, node.values[0], node.values[1], old, (other,), "connective")
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield "negation", text.start(node), text.start(node.operand), ""
    elif isinstance(node, ast.Constant) and type(node.value) is int:
        for value in (node.value + 1, node.value - 1):
            if value >= 0:
                yield "off by one", text.start(node), text.end(node), str(value)
    elif isinstance(node, ast.Constant) and type(node.value) is bool:
        yield "flag", text.start(node), text.end(node), str(not node.value)
    elif isinstance(node, ast.Name) and node.id in _EXTREMES:
        yield "extreme", text.start(node), text.end(node), _EXTREMES[node.id]
    elif isinstance(node, ast.Call) and len(node.args) > 1 and all(isinstance(a, ast.Name) for a in node.args[:2]):
        first, second = (text.source[text.start(a) : text.end(a)] for a in node.args[:2])
        yield "swapped arguments", text.start(node.args[0]), text.end(node.args[1]), f"{second}, {first}"


def _between(
    text: _Text, left: ast.expr, right: ast.expr, old: str, new: tuple[str, ...], kind: str
) -> Iterator[tuple[str, int, int, str]]:
    """An operator has no place of its own in the tree: it stands somewhere between its operands."""
    start = text.end(left)
    pattern = rf"(?<![\w]){re.escape(old)}(?![\w=])" if not old.isalpha() else rf"\b{re.escape(old)}\b"
    match = re.search(pattern, text.source[start : text.start(right)])
    if match is not None:
        for other in new:
            yield kind, start + match.start(), start + match.end(), other


def _base_cases(text: _Text, function: ast.FunctionDef) -> Iterator[Mutant]:
    """The function without `if …: return …` at its beginning."""
    first = function.body[1]
    if (
        isinstance(first, ast.If)
        and len(first.body) == 1
        and isinstance(first.body[0], ast.Return)
        and not first.orelse
    ):
        assert first.end_lineno is not None
        cut = text.source[: text.line(first.lineno)] + text.source[text.line(first.end_lineno + 1) :]
        if len(function.body) > 2:
            yield Mutant("missing base case", cut)
