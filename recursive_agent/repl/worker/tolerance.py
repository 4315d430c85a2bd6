"""Habits of models that mean no harm: `asyncio.run(main())` where a loop runs already, `return` at the top of a cell.

What can be understood is run as it was meant, and the agent is shown the form to write next time. Nothing is allowed here
that the language refuses: the rewritten program is judged like any other.
"""

from __future__ import annotations

import ast

_SHOWN = 200
_RUNNERS = frozenset({"run", "run_until_complete"})


class _Runs(ast.NodeTransformer):
    """Makes `asyncio.run(x)` and `loop.run_until_complete(x)` into `await x`, where `await` may stand."""

    def __init__(self, imported: frozenset[str]) -> None:
        self._imported = imported
        self.first: ast.Await | None = None

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """Rewrite the call, from the inside out."""
        self.generic_visit(node)
        if not self._is_run(node.func) or not node.args or isinstance(node.args[0], ast.Starred):
            return node
        awaited = ast.copy_location(ast.Await(node.args[0]), node)
        self.first = self.first or awaited
        return awaited

    def _is_run(self, func: ast.expr) -> bool:
        if isinstance(func, ast.Name):
            return func.id in self._imported
        if not isinstance(func, ast.Attribute) or func.attr not in _RUNNERS:
            return False
        return func.attr == "run_until_complete" or (isinstance(func.value, ast.Name) and func.value.id == "asyncio")

    def _leave(self, node: ast.AST) -> ast.AST:
        """A plain function, or a generator, cannot await."""
        return node

    visit_FunctionDef = visit_Lambda = visit_GeneratorExp = visit_ClassDef = _leave


def await_runs(tree: ast.Module, source: str) -> str | None:
    """Rewrite `asyncio.run(…)` in place; the hint for the agent, None where there was nothing to do."""
    if "run" not in source or not ("asyncio" in source or "run_until_complete" in source):
        return None
    imported = frozenset(
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module == "asyncio"
        for alias in node.names
        if alias.name == "run"
    )
    runs = _Runs(imported)
    runs.visit(tree)
    if runs.first is None:
        return None
    awaited = ast.get_source_segment(source, runs.first.value) or ""
    shown = f"await {awaited}"
    if not awaited or "\n" in awaited or len(shown) > _SHOWN:
        shown = "await …"
    return f"An event loop runs here already, so asyncio.run(…) was taken as `{shown}`: write it like that."


def advice_on(error: SyntaxError, source: str) -> str | None:
    """What to write instead of what is no Python at the top of a cell; None where Python's own message says enough."""
    message, lines = str(error.msg), source.split("\n")
    number = error.lineno or 0
    line = lines[number - 1].strip() if 0 < number <= len(lines) else ""
    if "'return' outside function" in message:
        line = next((line.strip() for line in lines if line.startswith("return")), "")
        value = line.removeprefix("return").strip() or "None"
        if value.startswith("finish("):
            return f"A cell is no function: `{value:.{_SHOWN}}` alone ends your work."
        shown = f"finish({value})" if len(value) <= _SHOWN and value.count("(") == value.count(")") else "finish(value)"
        return f"A cell is no function: give the result with `{shown}`."
    if line.startswith(("%", "!")) or line.endswith("?"):
        return "There is no shell and no IPython here (nothing can be installed): only Python runs."
    if line.startswith(("```", "~~~")):
        return "A fence of Markdown stands in the code: write the code alone between one opening and one closing fence."
    return None
