"""Supplies the `import` of a well-known name that code uses and nobody has bound."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Collection
from importlib import import_module

from .code_checks import bound_names
from .fences import parsed

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
_IN_DATETIME = frozenset({"date", "datetime", "time", "timedelta", "timezone", "UTC"})


def missing_imports(code: str, bound: Collection[str]) -> list[str]:
    """The imports that the code lacks, as statements. `bound` are the names that the agent has already."""
    tree = parsed(code)
    if tree is None:
        return []
    here = {*bound, *dir(builtins), *bound_names(tree)}
    attributes: dict[str, set[str]] = {}
    loaded: dict[str, int] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id not in here:
            loaded[node.id] = loaded.get(node.id, 0) + 1
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            attributes.setdefault(node.value.id, set()).add(node.attr)
    found = []
    for name in loaded:
        if name in _HOMES:
            found.append(f"from {_HOMES[name]} import {name}")
        elif name in _MODULES and name in attributes and attributes[name] <= vars(import_module(name)).keys():
            found.append(f"import {name}")
        elif name == "datetime":
            whole = attributes.get(name, set()) & _IN_DATETIME
            found.append("import datetime" if whole else "from datetime import datetime")
    return found
