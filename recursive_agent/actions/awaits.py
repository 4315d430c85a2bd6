"""Supplies the `await` that a call of the host lacks, where the code can only mean its result.

A call that is not awaited in its cell never runs, so it lacks the `await` where nothing in the cell could await it later. Where
something could (`asyncio.gather(*calls)`, `await call`), only a call that is used at once gets one: `finish(f())`, `f() + 1`.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator

from .code_checks import Syntax
from .fences import parsed

_USERS = frozenset(
    {"print", "finish", "len", "int", "float", "str", "sum", "max", "min", "round", "abs", "bool", "repr", "any", "all"}
)
"""Plain functions that can do nothing with a call that is still to be awaited."""
_HOLDERS = frozenset({"list", "dict", "set", "tuple", "enumerate", "zip", "sorted"})
"""Plain functions that may hold calls, and await none."""
_FILLERS = frozenset({"append", "add", "insert", "extend", "setdefault", "update"})
"""Methods of the same kind."""
_GATHER = "asyncio.gather"
_AWAITERS = frozenset(
    {"gather", "create_task", "ensure_future", "wait", "wait_for", "as_completed", "run", "shield", "TaskGroup", "Task"}
)  # fmt: skip


def supply_awaits(syntax: Syntax, hosts: Collection[str]) -> tuple[str, list[str]]:
    """The code with `await` before the calls of `hosts` that need one beyond doubt, and their names; no line is added."""
    code = syntax.code
    if not any(name in code for name in hosts):
        return code, []
    finder = _Finder(set(hosts) - syntax.bound, syntax)
    body = syntax.tree.body
    for statement in body:
        finder.statement(statement, last=statement is body[-1])
    if not finder.names:
        return code, []
    edited = _edited(code, finder.edits)
    if parsed(edited) is None:
        return code, []
    return edited, list(dict.fromkeys(finder.names))


class _Finder:
    """Goes through statements; `needed` is whether the value of an expression is needed where it stands."""

    def __init__(self, hosts: set[str], syntax: Syntax) -> None:
        self.edits: list[tuple[int, int, str]] = []
        """Line (from 0), column in bytes, and what is inserted there."""
        self.names: list[str] = []
        self._hosts = hosts
        self._code = syntax.code
        nodes = syntax.nodes
        self._awaited_later = any(
            isinstance(node, ast.Await) and not isinstance(node.value, ast.Call) for node in nodes
        )
        self._later = self._awaited_later or any(
            (isinstance(node, ast.Name) and node.id in _AWAITERS)
            or (isinstance(node, ast.Attribute) and node.attr in _AWAITERS)
            for node in nodes
        )
        self._held = {name for node in nodes for name in _held_names(node, hosts)}
        self._loaded = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}

    def statement(self, node: ast.stmt, *, last: bool) -> None:
        """Look at a statement and those inside it. Functions and classes are left alone."""
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            return
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets: list[ast.expr] = [*node.targets] if isinstance(node, ast.Assign) else [node.target]
            if node.value is not None:
                self._expression(node.value, needed=self._used_as_value(targets, last=last), whole=True)
            return
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.stmt):
                self.statement(child, last=last and child is _last_statement(node))
            elif isinstance(child, ast.expr):
                self._expression(child, needed=True, whole=isinstance(node, ast.Expr))
            elif isinstance(child, ast.ExceptHandler | ast.match_case):
                for inner in child.body:
                    self.statement(inner, last=False)
            elif isinstance(child, ast.withitem):
                self._expression(child.context_expr, needed=False)

    def _used_as_value(self, targets: list[ast.expr], *, last: bool) -> bool:
        if not self._later:
            return True
        names = {name for target in targets for name in _names(target)}
        return not self._awaited_later and not names & self._held and (last or bool(names & self._loaded))

    def _expression(self, node: ast.expr, *, needed: bool, whole: bool = False) -> None:
        if isinstance(node, ast.Lambda | ast.GeneratorExp):
            return
        if isinstance(node, ast.Await):
            if isinstance(node.value, ast.Call):  # what is awaited is right; its arguments may not be
                self._arguments(node.value, needed=self._name(node.value) in self._hosts)
        elif isinstance(node, ast.Call):
            self._call(node, needed=needed, whole=whole)
        elif isinstance(node, ast.List | ast.Tuple | ast.Set | ast.Dict | ast.Starred | ast.IfExp | ast.NamedExpr):
            for child in ast.iter_child_nodes(node):
                if isinstance(child, ast.expr):
                    self._expression(child, needed=needed)
        elif isinstance(node, ast.ListComp | ast.SetComp | ast.DictComp):
            self._comprehension(node, needed=needed)
        else:
            for child in ast.iter_child_nodes(node):
                if isinstance(child, ast.expr):
                    self._expression(child, needed=True)

    def _call(self, node: ast.Call, *, needed: bool, whole: bool) -> None:
        name = self._name(node)
        host = name in self._hosts
        gathers = name == _GATHER and not self._awaited_later
        if needed and (host or gathers) and self._is_placed(node):
            self._insert(node, "await " if whole else "(await ", "" if whole else ")")
            self.names.append(name)
        if host or name in _USERS:
            self._arguments(node, needed=True)
        elif name in _HOLDERS or (isinstance(node.func, ast.Attribute) and node.func.attr in _FILLERS):
            self._arguments(node, needed=not self._later)
        else:  # it may await what it takes
            self._arguments(node, needed=False)
        if isinstance(node.func, ast.Attribute) and name != _GATHER:
            self._expression(node.func.value, needed=True)
        if (name in _USERS or name in _HOLDERS) and len(node.args) >= 1 and isinstance(node.args[0], ast.GeneratorExp):
            self._generator(node.args[0], needed=name in _USERS or not self._later)

    def _generator(self, node: ast.GeneratorExp, *, needed: bool) -> None:
        """A generator that awaits cannot be gone through by a plain function: a list can."""
        found = len(self.edits)
        self._comprehension(node, needed=needed)
        if len(self.edits) > found:
            assert node.end_lineno is not None
            assert node.end_col_offset is not None
            # Its brackets belong to it, also where they are those of the call.
            self.edits.insert(found, (node.lineno - 1, node.col_offset + 1, "["))
            self.edits.append((node.end_lineno - 1, node.end_col_offset - 1, "]"))

    def _comprehension(
        self, node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp, *, needed: bool
    ) -> None:
        for part in [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]:
            self._expression(part, needed=needed)
        for loop in node.generators:
            for part in (loop.iter, *loop.ifs):
                self._expression(part, needed=True)

    def _arguments(self, call: ast.Call, *, needed: bool) -> None:
        for argument in (*call.args, *(keyword.value for keyword in call.keywords)):
            self._expression(argument, needed=needed)

    def _insert(self, node: ast.expr, before: str, after: str) -> None:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        self.edits.append((node.lineno - 1, node.col_offset, before))
        if after:
            self.edits.append((node.end_lineno - 1, node.end_col_offset, after))

    def _is_placed(self, call: ast.Call) -> bool:
        """Whether the call stands where its position says, which older Pythons get wrong inside f-strings."""
        segment = ast.get_source_segment(self._code, call)
        tree = None if segment is None else parsed(segment)
        return tree is not None and len(tree.body) == 1 and ast.unparse(tree) == ast.unparse(call)

    def _name(self, call: ast.Call) -> str:
        if isinstance(call.func, ast.Name):
            return call.func.id
        return ast.unparse(call.func) if isinstance(call.func, ast.Attribute) else ""


def _held_names(node: ast.AST, hosts: set[str]) -> Iterator[str]:
    """Names that stand where something to be awaited may stand."""
    if isinstance(node, ast.Await):
        inner = node.value
        if isinstance(inner, ast.Call) and isinstance(inner.func, ast.Name) and inner.func.id in hosts:
            return  # the arguments of a host call are values
        yield from _names(inner)
    elif isinstance(node, ast.Starred):
        yield from _names(node.value)
    elif isinstance(node, ast.Call):
        plain = isinstance(node.func, ast.Name) and node.func.id in _USERS | _HOLDERS | hosts
        if not plain:
            for argument in (*node.args, *(keyword.value for keyword in node.keywords)):
                yield from _names(argument)
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        yield from _names(node)


def _names(node: ast.AST) -> set[str]:
    return {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}


def _last_statement(node: ast.stmt) -> ast.stmt | None:
    body = getattr(node, "orelse", None) or getattr(node, "body", None)
    return body[-1] if body else None


def _edited(code: str, edits: list[tuple[int, int, str]]) -> str:
    """The code with all insertions. At one place, what closes comes before what opens, and the outer opens first."""
    lines = [line.encode() for line in code.split("\n")]
    opening = [edit for edit in edits if edit[2] not in (")", "]")]
    closing = [edit for edit in edits if edit[2] in (")", "]")]
    ordered = sorted([(*edit[:2], 1, edit[2]) for edit in opening] + [(*edit[:2], 0, edit[2]) for edit in closing],
                     key=lambda edit: edit[:3])  # fmt: skip
    for line, column, _, text in reversed(ordered):
        lines[line] = lines[line][:column] + text.encode() + lines[line][column:]
    return b"\n".join(lines).decode()
