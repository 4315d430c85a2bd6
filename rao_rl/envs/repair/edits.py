"""The small search of the reference solver: every edit of one token of a function, and a base case added in front.

It is the code of a cell, which an agent runs in its own sandbox. The generator runs the same code, to be sure that the visible
tests tell every wrong edit from a right one.
"""

from __future__ import annotations

from typing import Any, cast

SEARCH = '''import re
swaps = {'<': '<= >', '<=': '<', '>': '>= <', '>=': '>', '==': '!=', '!=': '==', '+': '- *', '-': '+', '*': '+', '//': '%',
    '%': '//', '+=': '-=', '-=': '+=', 'and': 'or', 'or': 'and', 'min': 'max', 'max': 'min', 'True': 'False', 'False': 'True',
    'if': 'if~not', 'in': 'not~in', 'not': '~'}
def edits(source):
    start, end = source.find('"""'), source.rfind('"""') + 3
    made = []
    for m in re.finditer(r'->|\\w+|//=?|[<>=!]=|[-+*]=?|[<>%]', source):
        word = m[0]
        new = [str(int(word) + 1), str(int(word) - 1)] if word.isdigit() else swaps.get(word, '').split()
        if not start < m.start() < end:
            made += [source[:m.start()] + n.replace('~', ' ') + source[m.end():] for n in new]
    for m in re.finditer(r'\\((\\w+), (\\w+)', source):
        made.append(source[:m.start()] + f'({m[2]}, {m[1]}' + source[m.end():])
    first = re.search(r'\\((\\w+)', source)[1]
    for value in ('0', '[]', "''", '{}', '1'):
        made.append(source[:end] + f'\\n    if not {first}:\\n        return {value}' + source[end:])
    return made
'''
"""Defines `edits(source)`."""

CHOOSE = """def choose(cases, rows):
    left = [row for row in rows if not all(row)]
    chosen = []
    while left and len(chosen) < 6:
        best = max(range(len(cases)), key=lambda i: len([row for row in left if not row[i]]))
        chosen.append(cases[best])
        left = [row for row in left if row[best]]
    return chosen
"""
"""Defines `choose(cases, rows)`: at most six cases that together fail as many of the mutants as they can, greedily."""

_scope: dict[str, Any] = {}
exec(SEARCH + CHOOSE, _scope)


def edits(source: str) -> list[str]:
    """Every source that is one small edit away. Many are no Python, or do the same."""
    return cast(list[str], _scope["edits"](source))


def choose(cases: list[Any], rows: list[list[bool]]) -> list[Any]:
    """The cases that the reference solver hands in as tests; a row says which cases one mutant passes."""
    return cast(list[Any], _scope["choose"](cases, rows))
