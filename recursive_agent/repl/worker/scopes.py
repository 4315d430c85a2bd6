"""Which names of a function nothing but the function itself can bind: its own variables, as far as that is plain to see.

Other code can run between any two steps of a cell: garbage collection ends generators. It could give another object to a
variable of the cell, or to one that an inner function binds (`nonlocal`).
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

_SCOPES = (
    *(ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef),
    *(ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp),
)


def own_variables(function: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> frozenset[str]:
    """The parameters of a function and the variables that it assigns, without those that others may bind too."""
    parameters = function.args
    own = {arg.arg for arg in (*parameters.posonlyargs, *parameters.args, *parameters.kwonlyargs)}
    own |= {arg.arg for arg in (parameters.vararg, parameters.kwarg) if arg is not None}
    body = function.body if isinstance(function.body, list) else [function.body]
    own.update(_bound(body))
    for node in (inner for statement in body for inner in ast.walk(statement)):
        if isinstance(node, ast.Global | ast.Nonlocal):
            own.difference_update(node.names)
        elif isinstance(node, ast.NamedExpr):  # in a generator expression it binds from there
            own.discard(node.target.id)
    return frozenset(own)


def targets(generators: Iterable[ast.comprehension]) -> frozenset[str]:
    """The variables that a comprehension binds."""
    return frozenset(_bound(generator.target for generator in generators))


def _bound(nodes: Iterable[ast.AST]) -> Iterator[str]:
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif not isinstance(node, _SCOPES):
            waiting.extend(ast.iter_child_nodes(node))
