"""Supplies the `import` of a well-known name that code uses and nobody has bound."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Collection
from importlib import import_module

from .code_checks import Syntax

_MODULES = frozenset(
    {"bisect", "calendar", "collections", "copy", "decimal", "fractions", "functools", "heapq", "itertools", "json", "math",
     "operator", "random", "re", "statistics", "string", "textwrap"}
)  # fmt: skip
_NAMES = {
    "collections": ("Counter", "OrderedDict", "defaultdict", "deque", "namedtuple"),
    "dataclasses": ("dataclass",),
    "datetime": ("timedelta",),
    "decimal": ("Decimal",),
    "fractions": ("Fraction",),
    "functools": ("cmp_to_key", "lru_cache", "reduce"),
    "itertools": ("accumulate", "combinations", "groupby", "islice", "permutations", "zip_longest"),
    "math": ("ceil", "comb", "factorial", "floor", "gcd", "isclose", "isqrt", "lcm", "log10", "log2", "sqrt"),
    "statistics": ("mean", "median", "pstdev", "stdev"),
}
"""Names that mean one thing wherever they stand."""
_HOMES = {name: module for module, names in _NAMES.items() for name in names}
_BUILTINS = frozenset(dir(builtins))
_IN_DATETIME = frozenset({"date", "datetime", "time", "timedelta", "timezone", "UTC"})


def missing_imports(syntax: Syntax, bound: Collection[str]) -> dict[str, str]:
    """The imports that the code lacks: statements, by the name that each binds. `bound` are the names that the agent has."""
    here = {*bound, *_BUILTINS, *syntax.bound}
    attributes: dict[str, set[str]] = {}
    loaded: dict[str, int] = {}
    for node in syntax.nodes:
        if isinstance(node, ast.Name) and node.id not in here:
            loaded[node.id] = loaded.get(node.id, 0) + 1
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            attributes.setdefault(node.value.id, set()).add(node.attr)
    found: dict[str, str] = {}
    for name in loaded:
        if name in _HOMES:
            found[name] = f"from {_HOMES[name]} import {name}"
        elif name in _MODULES and name in attributes and attributes[name] <= vars(import_module(name)).keys():
            found[name] = f"import {name}"
        elif name == "datetime":
            whole = attributes.get(name, set()) & _IN_DATETIME
            found[name] = "import datetime" if whole else "from datetime import datetime"
    return found
