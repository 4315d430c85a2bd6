"""Runs the generator's own functions and their mutants on the host. Nothing that an agent wrote comes here.

A mutant may loop for ever, so every round of a loop costs a step, and steps are limited.
"""

from __future__ import annotations

import ast
import copy
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from recursive_agent.repl.worker.parsing import parse

from .values import form_of

MOST_STEPS = 5_000
MOST_TEXT = 400
"""Characters of a result as text: a function with a longer one is not used."""
Outcome = list[Any] | None
"""The form of what a call gave; None where it failed."""


class OutOfSteps(Exception):
    """A loop went on for too long."""


def counted(source: str) -> ast.Module:
    """The tree of a source in which each function call and each round of a loop calls `spend()` first.

    Raises SyntaxError, ValueError, RecursionError or MemoryError where it is no Python.
    """
    with quiet():
        tree: ast.Module = parse(source)
    spend = parse("spend()").body
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.While | ast.For):
            node.body = [*spend, *node.body]
    return ast.fix_missing_locations(tree)


class Program:
    """Functions that may call one another, ready to be called."""

    def __init__(self, sources: Mapping[str, str]) -> None:
        self._steps = _Steps()
        self._scope: dict[str, Any] = {"spend": self._steps.spend}
        for source in sources.values():
            self._define(source)

    def outcome(self, name: str, arguments: list[Any]) -> Outcome:
        """What the function gives for these arguments, which stay as they are."""
        self._steps.left = MOST_STEPS
        try:
            value = self._scope[name](*copy.deepcopy(arguments))
        except Exception:  # mutants fail in every way
            return None
        return form_of(value)

    def with_source(self, source: str) -> Program | None:
        """The same program with another version of one function; None where that is no Python."""
        changed = copy.copy(self)
        changed._scope = dict(self._scope)
        try:
            # The functions that stay read their own scope, and so call one another as they were.
            changed._define(source)
        except (SyntaxError, ValueError, RecursionError):
            return None
        return changed

    def _define(self, source: str) -> None:
        with quiet():
            code = compile(counted(source), "<function>", "exec")
        exec(code, self._scope)


class _Steps:
    """How many steps the call that runs may still take."""

    def __init__(self) -> None:
        self.left = 0

    def spend(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise OutOfSteps


@contextmanager
def quiet() -> Iterator[None]:
    """Python's warnings about a source are nobody's business: whether it is right is tested."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
