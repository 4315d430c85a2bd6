"""Patterns as conditions: a `match` statement whose patterns read attributes becomes `if … elif … else`.

Python's own class patterns read attributes of the subject, whatever the class says they are called; here every read
goes through the guard. Statements whose patterns read none are left to Python.
"""

from __future__ import annotations

import ast
from collections.abc import Callable

from . import names

Rewrite = Callable[[ast.expr], ast.expr]


def reads_attributes(statement: ast.Match) -> bool:
    """Whether a pattern of the statement reads an attribute: a class pattern with parts, or a dotted name."""
    return any(
        isinstance(node, ast.Attribute) or (isinstance(node, ast.MatchClass) and (node.patterns or node.kwd_patterns))
        for case in statement.cases
        for node in ast.walk(case.pattern)
    )


class PatternCompiler:
    """Compiles the patterns of one `match` statement. `rewrite` applies the language to the expressions in them."""

    def __init__(self, new_name: Callable[[], str], rewrite: Rewrite) -> None:
        self._new_name = new_name
        self._rewrite = rewrite
        self.temporaries: list[str] = []

    def temporary(self) -> str:
        """A new variable of the statement's own."""
        name = self._new_name()
        self.temporaries.append(name)
        return name

    def condition(self, pattern: ast.pattern, subject: str) -> ast.expr:
        """An expression that is true where the pattern matches the variable `subject`, and binds its names then."""
        captured: dict[str, str] = {}
        parts = self._test(pattern, subject, captured)
        parts.extend(_bind(name, _load(temporary)) for name, temporary in captured.items())
        return _all(parts)

    def _test(self, pattern: ast.pattern, subject: str, captured: dict[str, str]) -> list[ast.expr]:
        match pattern:
            case ast.MatchValue(value=value):
                return [ast.Compare(_load(subject), [ast.Eq()], [self._rewrite(value)])]
            case ast.MatchSingleton(value=constant):
                return [ast.Compare(_load(subject), [ast.Is()], [ast.Constant(constant)])]
            case ast.MatchAs(pattern=inner, name=name):
                parts = [] if inner is None else self._test(inner, subject, captured)
                return parts if name is None else [*parts, self._capture(name, _load(subject), captured)]
            case ast.MatchOr(patterns=alternatives):
                return [ast.BoolOp(ast.Or(), [_all(self._test(one, subject, captured)) for one in alternatives])]
            case ast.MatchSequence(patterns=items):
                return self._sequence(items, subject, captured)
            case ast.MatchMapping(keys=keys, patterns=values, rest=rest):
                key_tuple = ast.Tuple([self._rewrite(key) for key in keys], ast.Load())
                arguments: list[ast.expr] = [key_tuple, ast.Constant(rest is not None)]
                last = [] if rest is None else [ast.MatchAs(pattern=None, name=rest)]
                return self._parts(names.MATCH_MAPPING, subject, arguments, [*values, *last], captured)
            case ast.MatchClass(cls=cls, patterns=positional, kwd_attrs=attributes, kwd_patterns=by_name):
                keywords = ast.Tuple([ast.Constant(name) for name in attributes], ast.Load())
                arguments = [self._rewrite(cls), ast.Constant(len(positional)), keywords]
                return self._parts(names.MATCH_CLASS, subject, arguments, [*positional, *by_name], captured)
        raise SyntaxError(f"{type(pattern).__name__} patterns are not available")

    def _sequence(self, items: list[ast.pattern], subject: str, captured: dict[str, str]) -> list[ast.expr]:
        star = next((index for index, item in enumerate(items) if isinstance(item, ast.MatchStar)), None)
        plain = [ast.MatchAs(pattern=None, name=i.name) if isinstance(i, ast.MatchStar) else i for i in items]
        arguments: list[ast.expr] = [ast.Constant(len(items)), ast.Constant(star)]
        return self._parts(names.MATCH_SEQUENCE, subject, arguments, plain, captured)

    def _parts(
        self,
        question: str,
        subject: str,
        arguments: list[ast.expr],
        patterns: list[ast.pattern],
        captured: dict[str, str],
    ) -> list[ast.expr]:
        """The question whether the subject has such parts, and then the patterns of the parts."""
        answer = self.temporary()
        asked = ast.NamedExpr(_store(answer), ast.Call(_load(question), [_load(subject), *arguments], []))
        tests: list[ast.expr] = [ast.Compare(asked, [ast.IsNot()], [ast.Constant(None)])]
        for index, inner in enumerate(patterns):
            if isinstance(inner, ast.MatchAs) and inner.pattern is None and inner.name is None:
                continue
            part = self.temporary()
            tests.append(_bind(part, ast.Subscript(_load(answer), ast.Constant(index), ast.Load())))
            tests.extend(self._test(inner, part, captured))
        return tests

    def _capture(self, name: str, value: ast.expr, captured: dict[str, str]) -> ast.expr:
        if name not in captured:  # the alternatives of an or-pattern bind the same names
            captured[name] = self.temporary()
        return _bind(captured[name], value)


def _load(name: str) -> ast.Name:
    return ast.Name(name, ast.Load())


def _store(name: str) -> ast.Name:
    return ast.Name(name, ast.Store())


def _bind(name: str, value: ast.expr) -> ast.expr:
    """An expression that binds a name and is true."""
    return ast.Tuple([ast.NamedExpr(_store(name), value)], ast.Load())


def _all(parts: list[ast.expr]) -> ast.expr:
    if not parts:
        return ast.Constant(True)
    return parts[0] if len(parts) == 1 else ast.BoolOp(ast.And(), parts)


def as_conditions(
    statement: ast.Match,
    compiler: PatternCompiler,
    rewrite: Rewrite,
    rewrite_body: Callable[[list[ast.stmt]], list[ast.stmt]],
) -> list[ast.stmt]:
    """The statements that do what `statement` does. What it needed for itself is let go before a body runs."""
    subject = compiler.temporary()
    first: ast.stmt = ast.Assign([_store(subject)], rewrite(statement.subject))
    branches: list[tuple[ast.match_case, ast.expr, list[ast.stmt]]] = []
    for case in statement.cases:
        condition = compiler.condition(case.pattern, subject)
        if case.guard is not None:
            condition = ast.BoolOp(ast.And(), [condition, rewrite(case.guard)])
        branches.append((case, condition, rewrite_body(case.body)))

    def let_go() -> ast.stmt:
        return ast.Assign([_store(name) for name in compiler.temporaries], ast.Constant(None))

    rest: list[ast.stmt] = [ast.copy_location(let_go(), statement)]
    for case, condition, body in reversed(branches):
        branch = ast.If(
            ast.copy_location(condition, case.pattern), [ast.copy_location(let_go(), case.pattern), *body], rest
        )
        rest = [ast.copy_location(branch, case.pattern)]
    statements = [ast.copy_location(first, statement), *rest]
    for one in statements:
        ast.fix_missing_locations(one)
    return statements
