"""The language of a cell: RestrictedPython with our rules, compiled so that safe code runs at the speed of Python.

Names are checked in the source, once. Methods of plain data (`text.split`, `items.append`) are read as Python reads them;
every other attribute is read by a guard, which knows what each type may give out, and so are the attributes that
patterns read. Loops, items and calls compile to what Python makes of them.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

from RestrictedPython.transformer import RestrictingNodeTransformer

from . import names, patterns, scopes
from .parsing import parse
from .tolerance import await_runs

_FUTURE = "__future__"


class LanguageError(SyntaxError):
    """The cell uses something that cells may not use; the message says what, and the line."""


class CellLanguage(RestrictingNodeTransformer):
    """What may stand in a cell."""

    def __init__(self) -> None:
        super().__init__()
        self.first_error: tuple[int, str] | None = None
        self._class_bodies: list[ast.AST] = []
        self._own: frozenset[str] = frozenset()
        """Variables of the function that is being visited, which no other code can bind."""
        self._temporaries = 0

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
        return self._checked_contents(node, node.asname, node.name)

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
                node = self.node_contents_visit(node)
                return _call(names.SUPER, node, node.value, ast.Constant(attr))
            self._check_attribute(node, attr)
            node = self.node_contents_visit(node)
            if attr in names.SAFE_ATTRIBUTES:
                return node
            return self._read(node, node.value, attr)
        if names.is_special(attr):
            self.error(node, f'the attribute "{attr}" cannot be set')
        else:
            self._check_attribute(node, attr)
        node = self.node_contents_visit(node)
        deleted = [ast.Constant(True)] if isinstance(node.ctx, ast.Del) else []
        node.value = _call(names.WRITE, node, node.value, ast.Constant(attr), *deleted)
        return node

    def _read(self, where: ast.AST, owner: ast.expr, attr: str) -> ast.expr:
        """A guarded read. Of a variable whose type is known to give the attribute out, at nearly the speed of Python.

        Only of a variable that no other code can bind between the question for its type and the read.
        """
        place = {
            key: getattr(where, key)
            for key in ("lineno", "col_offset", "end_lineno", "end_col_offset")
            if hasattr(where, key)
        }
        name = ast.Constant(attr, **place)
        if names.is_special(attr):
            return ast.Call(ast.Name(names.SPECIAL, _LOAD, **place), [owner, name], [], **place)
        source: ast.expr = ast.Call(ast.Name(names.GET, _LOAD, **place), [owner, name], [], **place)
        if isinstance(owner, ast.Name) and owner.id in self._own:
            again = ast.Name(owner.id, _LOAD, **place)
            kind = ast.Call(ast.Name(names.TYPE, _LOAD, **place), [again], [], **place)
            types = ast.Subscript(ast.Name(names.TYPES, _LOAD, **place), name, _LOAD, **place)
            source = ast.IfExp(ast.Compare(kind, [ast.In()], [types], **place), again, source, **place)
        return ast.Attribute(source, attr, _LOAD, **place)

    def _check_attribute(self, node: ast.AST, attr: str) -> None:
        problem = names.attribute_error(attr)
        if problem is not None:
            self.error(node, problem)

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        """Items are plain data's own business."""
        return self._checked_contents(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST | Sequence[ast.AST]:
        """`x += 1` as it stands; an attribute is read by one guard and written by another."""
        target = node.target
        if not isinstance(target, ast.Attribute):
            return self._checked_contents(node)
        if names.is_special(target.attr):
            self.error(node, f'the attribute "{target.attr}" cannot be set')
        self._check_attribute(node, target.attr)
        owner, value = self._temporary(), self._temporary()
        written = _call(names.WRITE, target, _name(owner), ast.Constant(target.attr))
        statements: list[ast.stmt] = [
            ast.Assign([_name(owner, ast.Store())], self.visit(target.value)),
            ast.Assign([_name(value, ast.Store())], self._read(target, _name(owner), target.attr)),
            ast.AugAssign(_name(value, ast.Store()), node.op, self.visit(node.value)),
            ast.Assign([ast.Attribute(written, target.attr, ast.Store())], _name(value)),
            ast.Assign([_name(owner, ast.Store()), _name(value, ast.Store())], ast.Constant(None)),
        ]
        return [ast.fix_missing_locations(ast.copy_location(statement, node)) for statement in statements]

    def _temporary(self) -> str:
        self._temporaries += 1
        return names.temporary(self._temporaries)

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
            if not isinstance(name, str) or names.attribute_error(name) is not None or name.startswith("_"):
                self.error(item, "__match_args__ must be a tuple of plain attribute names")

    # -- calls -------------------------------------------------------------------------------------------------------

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """Calls as they stand, starred or not."""
        return self._checked_contents(node, *(keyword.arg for keyword in node.keywords))

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        """Check the names; the body is no class body."""
        self.check_name(node, node.name, allow_magic_methods=True)
        self.check_function_argument_names(node)
        outer, self._class_bodies = self._class_bodies, []
        self._visit_function(node)
        self._class_bodies = outer
        return node

    def _visit_function(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> None:
        """Its body has variables of its own; defaults, decorators and annotations stand outside."""
        own = scopes.own_variables(node)
        for field, value in ast.iter_fields(node):
            with self._variables(own if field == "body" else frozenset()):
                setattr(node, field, self._visited(value))

    @contextmanager
    def _variables(self, own: frozenset[str]) -> Iterator[None]:
        outer, self._own = self._own, own
        yield
        self._own = outer

    def _visited(self, value: Any) -> Any:
        if isinstance(value, list):
            return [part for item in value for part in _several(self._visited(item))]
        return self.visit(value) if isinstance(value, ast.AST) else value

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        """Check the names of the arguments."""
        self.check_function_argument_names(node)
        self._visit_function(node)
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        """Classes are made by a guard, which decides what may be subclassed."""
        self.check_name(node, node.name)
        for keyword in node.keywords:
            if keyword.arg is None or keyword.arg == "metaclass" or keyword.arg.startswith("_"):
                self.error(node, "a class takes no metaclass, no ** arguments and none that start with an underscore")
        self._class_bodies.append(node)
        with self._variables(frozenset()):
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

    def visit_ListComp(self, node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp) -> ast.AST:
        """The element is made of variables of the comprehension's own."""
        own = scopes.targets(node.generators)
        for field, value in ast.iter_fields(node):
            with self._variables(frozenset() if field == "generators" else own):
                setattr(node, field, self._visited(value))
        return node

    visit_SetComp = visit_DictComp = visit_GeneratorExp = visit_ListComp
    visit_Await = visit_Yield = visit_YieldFrom = visit_NamedExpr = visit_AnnAssign = _contents
    visit_TypeAlias = visit_JoinedStr = visit_FormattedValue = _contents

    def visit_TypeVar(self, node: ast.AST) -> ast.AST:
        """Check the name of a type parameter."""
        return self._checked_contents(node, cast(Any, node).name)

    visit_ParamSpec = visit_TypeVarTuple = visit_TypeVar

    # -- match -------------------------------------------------------------------------------------------------------

    def visit_Match(self, node: ast.Match) -> ast.AST | Sequence[ast.AST]:
        """Where patterns read attributes, the statement is compiled to conditions that read them through the guard."""
        if not patterns.reads_attributes(node):
            return self._checked_contents(node)
        for case in node.cases:
            for part in ast.walk(case.pattern):
                self._check_pattern(part)
        compiler = patterns.PatternCompiler(self._temporary, self._rewrite)
        return patterns.as_conditions(node, compiler, self._rewrite, self._rewrite_body)

    def _check_pattern(self, part: ast.AST) -> None:
        if isinstance(part, ast.MatchClass):
            for attr in part.kwd_attrs:
                if names.attribute_error(attr) is not None or names.is_special(attr):
                    self.error(part, f'the attribute "{attr}" cannot be matched on')
        elif isinstance(part, ast.MatchAs | ast.MatchStar):
            self.check_name(part, part.name)
        elif isinstance(part, ast.MatchMapping):
            self.check_name(part, part.rest)

    def _rewrite(self, value: ast.expr) -> ast.expr:
        return cast(ast.expr, self.visit(value))

    def _rewrite_body(self, body: list[ast.stmt]) -> list[ast.stmt]:
        rewritten: list[ast.stmt] = []
        for statement in body:
            visited = self.visit(statement)
            rewritten.extend(visited if isinstance(visited, list) else [visited])
        return rewritten

    visit_match_case = visit_MatchValue = visit_MatchSingleton = visit_MatchClass = _contents
    visit_MatchSequence = visit_MatchOr = _contents

    def visit_MatchAs(self, node: ast.MatchAs | ast.MatchStar) -> ast.AST:
        """Check the name that is bound."""
        return self._checked_contents(node, node.name)

    visit_MatchStar = visit_MatchAs

    def visit_MatchMapping(self, node: ast.MatchMapping) -> ast.AST:
        """Check the name that takes the rest."""
        return self._checked_contents(node, node.rest)


def _is_super_call(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "super"


def _several(visited: Any) -> list[Any]:
    return visited if isinstance(visited, list) else [visited]


_LOAD = ast.Load()


def _name(name: str, context: ast.expr_context = _LOAD) -> ast.Name:
    return ast.Name(name, context)


def _call(guard: str, where: ast.AST, *arguments: ast.expr) -> ast.Call:
    call = ast.Call(_name(guard), list(arguments), [])
    for part in (call, call.func, *arguments[1:]):
        ast.copy_location(part, where)
    return call


def compile_cell(source: str, filename: str, *, restricted: bool = True, hints: list[str] | None = None) -> Any:
    """Code object of a cell whose last expression is shown. Raises SyntaxError (LanguageError for what is not allowed).

    `hints` takes hints for the agent on the form of its code.
    """
    tree = parse(source, filename, ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    hint = await_runs(tree, source)
    if hint is not None and hints is not None:
        hints.append(hint)
    if restricted:
        language = CellLanguage()
        tree = language.visit(tree)
        if language.first_error is not None:
            line, message = language.first_error
            lines = source.splitlines()
            text = lines[line - 1] if 0 < line <= len(lines) else None
            raise LanguageError(message, (filename, line, None, text))
    if tree.body and isinstance(tree.body[-1], ast.Expr):
        last = tree.body[-1]
        call = ast.Call(ast.copy_location(ast.Name(names.ECHO, ast.Load()), last), [last.value], [])
        last.value = ast.copy_location(call, last.value)
    return compile(tree, filename, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
