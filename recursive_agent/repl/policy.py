"""The language of a cell: RestrictedPython with our policy, compiled so that safe code runs at the speed of Python.

Names are checked in the source, once; what cannot be decided there (a name that starts with one underscore, `format`,
writing an attribute) becomes a call of a guard. Loops, items, calls and most attributes compile to what Python makes of them.
"""

from __future__ import annotations

import ast
from typing import Any, cast

from RestrictedPython.transformer import RestrictingNodeTransformer

from . import names

_FUTURE = "__future__"


class PolicyError(SyntaxError):
    """The cell uses something that the policy does not allow; the message says what, and the line."""


class CellPolicy(RestrictingNodeTransformer):
    """What may stand in a cell."""

    def __init__(self) -> None:
        super().__init__()
        self.first_error: tuple[int, str] | None = None
        self._class_bodies: list[ast.AST] = []

    def error(self, node: ast.AST, info: str) -> None:
        """Remember the first error with its line."""
        super().error(node, info)
        if self.first_error is None:
            self.first_error = (getattr(node, "lineno", 1), info)

    # -- names -------------------------------------------------------------------------------------------------------

    def check_name(self, node: ast.AST, name: str | None, allow_magic_methods: bool = False) -> None:
        """Refuse names of guards and of Python's own."""
        if name is None or not names.is_special(name):
            return
        if allow_magic_methods and name in names.METHODS and self._class_bodies:
            return
        self.error(node, f'the name "{name}" is reserved')

    def visit_Name(self, node: ast.Name) -> ast.AST:
        """Allow `__name__` to be read."""
        loading = isinstance(node.ctx, ast.Load)
        if loading and node.id == "__name__":
            return node
        if node.id == "super" and not loading:
            self.error(node, '"super" cannot be rebound')
        self.check_name(node, node.id)
        return node

    def _checked_contents(self, node: ast.AST, *found: str | None) -> ast.AST:
        for name in found:
            self.check_name(node, name)
        return self.node_contents_visit(node)

    def visit_Global(self, node: ast.Global) -> ast.AST:
        """Check the names."""
        return self._checked_contents(node, *node.names)

    def visit_Nonlocal(self, node: ast.Nonlocal) -> ast.AST:
        """Check the names."""
        return self._checked_contents(node, *node.names)

    def visit_alias(self, node: ast.alias) -> ast.AST:
        """Check the name that an import binds."""
        if "*" in node.name:
            self.error(node, '"import *" is not allowed: name what you need')
        return self._checked_contents(node, node.asname or node.name)

    def visit_Import(self, node: ast.Import) -> ast.AST:
        """Check the names; which modules there are is decided when the import runs."""
        return self._checked_contents(node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST:
        """Check the names. `from __future__ import …` is accepted and means nothing."""
        if node.module == _FUTURE:
            return ast.copy_location(ast.Pass(), node)
        return self._checked_contents(node)

    # -- attributes and items ----------------------------------------------------------------------------------------

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        """Check the name; guard what the name alone does not decide."""
        attr, value = node.attr, node.value
        if isinstance(node.ctx, ast.Load):
            if _is_super_call(value) and attr in names.SUPER_METHODS:
                return self._checked_contents(node)
            self._check_attribute(node, attr)
            node = self.node_contents_visit(node)
            if not names.is_guarded(attr):
                return node
            return _call(names.GET, node, node.value, ast.Constant(attr))
        if names.is_special(attr):
            self.error(node, f'the attribute "{attr}" cannot be set')
        else:
            self._check_attribute(node, attr)
        node = self.node_contents_visit(node)
        node.value = _call(names.WRITE, node, node.value, ast.Constant(attr))
        return node

    def _check_attribute(self, node: ast.AST, attr: str) -> None:
        problem = names.attribute_error(attr)
        if problem is not None:
            self.error(node, problem)

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        """Items are plain data's own business."""
        return self._checked_contents(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST:
        """`x += 1` as it stands; on an attribute the target is checked for reading and for writing."""
        target = node.target
        if isinstance(target, ast.Attribute) and names.is_guarded(target.attr):
            # Reading goes through the guard too, so write it out: owner._x = guard(owner, "_x") + value
            reading = ast.copy_location(ast.Attribute(target.value, target.attr, ast.Load()), target)
            if not isinstance(target.value, ast.Name):
                self.error(node, f'write "x._y = x._y + …" with a plain variable x to change "{target.attr}"')
            total = ast.copy_location(ast.BinOp(reading, node.op, node.value), node)
            return cast(ast.AST, self.visit(ast.copy_location(ast.Assign([target], total), node)))
        return self._checked_contents(node)

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        """Unpacking needs no guard; a class may assign a few special names."""
        target = node.targets[0]
        if self._class_bodies and isinstance(target, ast.Name) and target.id in names.CLASS_VARIABLES:
            if target.id == "__match_args__":
                self._check_match_args(node.value)
            node.value = self.visit(node.value)
            node.targets = [target, *(self.visit(other) for other in node.targets[1:])]
            return node
        return self._checked_contents(node)

    def _check_match_args(self, value: ast.expr) -> None:
        items = value.elts if isinstance(value, ast.Tuple) else [value]
        for item in items:
            name = item.value if isinstance(item, ast.Constant) else None
            if not isinstance(name, str) or names.attribute_error(name) is not None or names.is_guarded(name):
                self.error(item, "__match_args__ must be a tuple of plain attribute names")

    # -- calls -------------------------------------------------------------------------------------------------------

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """Calls as they stand, starred or not."""
        return self._checked_contents(node)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        """Check the names; the body is no class body."""
        self.check_name(node, node.name, allow_magic_methods=True)
        self.check_function_argument_names(node)
        outer, self._class_bodies = self._class_bodies, []
        node = cast(ast.FunctionDef, self.node_contents_visit(node))
        self._class_bodies = outer
        return node

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        """Check the names of the arguments."""
        self.check_function_argument_names(node)
        return self._checked_contents(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        """Classes are made by a guard, which decides what may be subclassed."""
        self.check_name(node, node.name)
        if any(keyword.arg in (None, "metaclass") for keyword in node.keywords):
            self.error(node, "a class takes no metaclass and no ** arguments")
        self._class_bodies.append(node)
        node = self.node_contents_visit(node)
        self._class_bodies.pop()
        guard = ast.copy_location(ast.Name(names.CLASS, ast.Load()), node)
        node.keywords.append(ast.copy_location(ast.keyword("metaclass", guard), node))
        return node

    # -- statements --------------------------------------------------------------------------------------------------

    def visit_Module(self, node: ast.Module) -> ast.AST:
        """The cell itself."""
        return self._checked_contents(node)

    def visit_Try(self, node: ast.Try) -> ast.AST:
        """`finish` and limits pass every handler, a bare `except:` and `except BaseException` too."""
        node = self.node_contents_visit(node)
        if node.handlers:
            first = node.handlers[0]
            body: list[ast.stmt] = [ast.copy_location(ast.Raise(), first)]
            name = ast.copy_location(ast.Name(names.EXIT, ast.Load()), first)
            node.handlers.insert(0, ast.copy_location(ast.ExceptHandler(type=name, name=None, body=body), first))
        return node

    def visit_With(self, node: ast.AST) -> list[ast.AST]:
        """What can swallow the end of a cell (`suppress(BaseException)`, say) is followed by a check for it."""
        check = ast.copy_location(ast.Expr(_call(names.CHECK, node)), node)
        return [self._checked_contents(node), check]

    visit_AsyncWith = visit_TryStar = visit_With

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> ast.AST:
        """Check the name that the exception is bound to."""
        return self._checked_contents(node, node.name)

    # -- iteration needs no guard ------------------------------------------------------------------------------------

    def _contents(self, node: ast.AST) -> ast.AST:
        return self._checked_contents(node)

    visit_For = visit_AsyncFor = visit_comprehension = _contents
    visit_withitem = _contents
    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _contents
    visit_Await = visit_Yield = visit_YieldFrom = visit_NamedExpr = visit_AnnAssign = _contents
    visit_TypeAlias = visit_JoinedStr = visit_FormattedValue = _contents

    def visit_TypeVar(self, node: ast.AST) -> ast.AST:
        """Check the name of a type parameter."""
        return self._checked_contents(node, cast(Any, node).name)

    visit_ParamSpec = visit_TypeVarTuple = visit_TypeVar

    # -- match -------------------------------------------------------------------------------------------------------

    visit_Match = visit_match_case = visit_MatchValue = visit_MatchSingleton = _contents
    visit_MatchSequence = visit_MatchOr = _contents

    def visit_MatchClass(self, node: ast.MatchClass) -> ast.AST:
        """Attribute patterns read attributes without a guard, so only plain names."""
        for attr in node.kwd_attrs:
            if names.is_guarded(attr) or names.attribute_error(attr) is not None:
                self.error(node, f'the attribute "{attr}" cannot be matched on')
        return self._checked_contents(node)

    def visit_MatchAs(self, node: ast.MatchAs | ast.MatchStar) -> ast.AST:
        """Check the name that is bound."""
        return self._checked_contents(node, node.name)

    visit_MatchStar = visit_MatchAs

    def visit_MatchMapping(self, node: ast.MatchMapping) -> ast.AST:
        """Check the name that takes the rest."""
        return self._checked_contents(node, node.rest)


def _is_super_call(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "super"


def _call(guard: str, where: ast.AST, *arguments: ast.expr) -> ast.Call:
    call = ast.Call(ast.Name(guard, ast.Load()), list(arguments), [])
    for part in (call, call.func, *arguments[1:]):
        ast.copy_location(part, where)
    return call


def compile_cell(source: str, filename: str, *, restricted: bool = True) -> Any:
    """Code object of a cell whose last expression is shown. Raises SyntaxError (PolicyError for what is not allowed)."""
    tree = compile(source, filename, "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    if restricted:
        policy = CellPolicy()
        tree = policy.visit(tree)
        if policy.first_error is not None:
            line, message = policy.first_error
            lines = source.splitlines()
            text = lines[line - 1] if 0 < line <= len(lines) else None
            raise PolicyError(message, (filename, line, None, text))
    if tree.body and isinstance(tree.body[-1], ast.Expr):
        last = tree.body[-1]
        call = ast.Call(ast.copy_location(ast.Name(names.ECHO, ast.Load()), last), [last.value], [])
        last.value = ast.copy_location(call, last.value)
    return compile(tree, filename, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
