"""Repositories: functions that call one another, their tests, and the mistakes made in some of them."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from types import MappingProxyType
from typing import Any

from .edits import choose, edits
from .families import Family, Parameter, Split, draw_arguments, families, fill
from .mutants import Mutant, mutants
from .names import deal
from .trusted import MOST_TEXT, Program
from .values import value_of

VISIBLE = 5
"""Cases of a function's test, before those are added that its mistakes call for."""
MOST_VISIBLE = 9
HIDDEN = 14
_DRAWS = 80
"""Inputs drawn for one function."""
_FILE = (3, 6)
"""Fewest and most functions of a file."""


@dataclass(frozen=True, slots=True)
class Case:
    """A call of a function, and the result of the reference."""

    arguments: list[Any]
    result: Any
    form: list[Any]


@dataclass(frozen=True, slots=True)
class Level:
    """Size of a repository, how many of its functions have a mistake, and whether new tests are asked for."""

    functions: tuple[int, int]
    broken: tuple[int, int]
    write_tests: bool


LEVELS: Mapping[str, Level] = MappingProxyType(
    {
        "small": Level((4, 6), (1, 2), write_tests=False),
        "medium": Level((8, 14), (2, 3), write_tests=True),
        "large": Level((20, 30), (3, 5), write_tests=True),
    }
)


@dataclass(frozen=True, slots=True)
class Function:
    """A function of a repository."""

    name: str
    family: str
    reference: str
    """Its source without mistakes: never leaves the host except into a sandbox that runs it."""
    source: str
    """Its source as agents find it."""
    parameters: tuple[Parameter, ...]
    calls: tuple[str, ...]
    visible: tuple[Case, ...]
    hidden: tuple[Case, ...]
    kind: str | None = None
    """The kind of its mistake; None where it has none."""

    @property
    def broken(self) -> bool:
        """Whether it has a mistake."""
        return self.kind is not None


@dataclass(frozen=True)
class Repository:
    """Functions by name, and the files that they stand in."""

    functions: Mapping[str, Function]
    files: Mapping[str, tuple[str, ...]]
    tested: str | None
    """The function that the root is asked to write tests for."""

    @cached_property
    def reference(self) -> Mapping[str, str]:
        """The sources without mistakes."""
        return {name: function.reference for name, function in self.functions.items()}

    @cached_property
    def found(self) -> Mapping[str, str]:
        """The sources as agents find them."""
        return {name: function.source for name, function in self.functions.items()}

    @cached_property
    def broken(self) -> frozenset[str]:
        """The functions with a mistake."""
        return frozenset(name for name, function in self.functions.items() if function.broken)

    def reached(self, name: str) -> frozenset[str]:
        """The function and all that it calls, directly or not."""
        seen: set[str] = set()
        todo = [name]
        while todo:
            seen.add(one := todo.pop())
            todo += [called for called in self.functions[one].calls if called not in seen]
        return frozenset(seen)

    @cached_property
    def _mutants(self) -> dict[str, tuple[str, ...]]:
        return {}

    def mutants_of(self, name: str) -> tuple[str, ...]:
        """Up to eight mutants of a function that a good choice of its visible cases tells from the reference, all at once."""
        if name not in self._mutants:
            function = self.functions[name]
            program = Program(self.reference)
            rows = {
                mutant.source: row
                for mutant in mutants(function.reference)
                if (row := _row(program, name, mutant.source, function.visible)) is not None and not all(row)
            }
            chosen = choose(list(range(len(function.visible))), list(rows.values()))
            killed = [source for source, row in rows.items() if not all(row[index] for index in chosen)]
            random.Random(f"mutants/{name}").shuffle(killed)
            self._mutants[name] = tuple(killed[:8])
        return self._mutants[name]


class _Unusable(Exception):
    """The draw led nowhere: the next one may."""


@lru_cache(maxsize=128)
def make_repository(split: Split, seed: str, level: str) -> Repository:
    """The repository of a seed; the same on every machine. Kept for the next time."""
    for attempt in range(100):
        try:
            return _draw(random.Random(f"repair/{split}/{seed}/{level}/{attempt}"), split, LEVELS[level])
        except _Unusable:
            continue
    raise RuntimeError(f"no repository can be drawn for {split}/{seed}/{level}")


def _draw(rng: random.Random, split: Split, level: Level) -> Repository:
    size = rng.randint(*level.functions)
    chosen = _compose(rng, split, size)
    names, files = deal(rng, size, -(-size // _FILE[0]))
    functions: dict[str, Function] = {}
    for name, (family, holes) in zip(names, chosen, strict=True):
        places = {hole: names[index] for hole, index in holes.items()}
        source = fill(family.source, {"NAME": name, **places})
        functions[name] = Function(
            name, family.id, source, source, family.parameters, tuple(dict.fromkeys(places.values())), (), ()
        )
    program = Program({name: function.reference for name, function in functions.items()})
    for name, function in functions.items():
        visible, hidden = _cases(rng, program, function)
        functions[name] = replace(function, visible=visible, hidden=hidden)
    _break(rng, program, functions, rng.randint(*level.broken))
    repository = Repository(MappingProxyType(functions), MappingProxyType(_deal_files(rng, names, files)), None)
    if not level.write_tests:
        return repository
    whole = [name for name in names if not functions[name].broken]
    for name in rng.sample(whole, len(whole)):
        if _can_be_tested(repository, program, name):
            return replace(repository, tested=name)
    raise _Unusable


def _compose(rng: random.Random, split: Split, size: int) -> list[tuple[Family, dict[str, int]]]:
    """Families in an order in which each calls only earlier ones, with the place of the function that fills each hole."""
    mine = [family for family in families() if family.split == split]
    leaves = [family for family in mine if not family.holes]
    shapes = [family for family in mine if family.holes]
    count = min(len(leaves), size - max(1, size * 2 // 5))
    chosen: list[tuple[Family, dict[str, int]]] = [(leaf, {}) for leaf in rng.sample(leaves, count)]
    heights = [0] * count
    for _ in range(200):
        if len(chosen) == size:
            return chosen
        shape = rng.choice(shapes)
        holes: dict[str, int] = {}
        for hole, signature in shape.holes.items():
            fitting = [
                index
                for index, (family, _) in enumerate(chosen)
                if family.signature == signature and heights[index] < 3 and index not in holes.values()
            ]
            if fitting:
                holes[hole] = rng.choice(fitting)
        if len(holes) == len(shape.holes) and (shape, holes) not in chosen:
            chosen.append((shape, holes))
            heights.append(1 + max(heights[index] for index in holes.values()))
    raise _Unusable


def _deal_files(rng: random.Random, names: Sequence[str], files: Iterable[str]) -> dict[str, tuple[str, ...]]:
    left = rng.sample(names, len(names))
    dealt: dict[str, tuple[str, ...]] = {}
    for file in files:
        if left:
            size = rng.randint(*_FILE)
            dealt[file], left = tuple(left[:size]), left[size:]
    return dealt


def _cases(rng: random.Random, program: Program, function: Function) -> tuple[tuple[Case, ...], tuple[Case, ...]]:
    """Different calls with short results: those of the visible test, and the hidden ones."""
    found: dict[str, Case] = {}
    for _ in range(_DRAWS):
        arguments = draw_arguments(rng, function.parameters)
        form = program.outcome(function.name, arguments)
        if form is None or len(str(form)) > MOST_TEXT:
            continue
        found.setdefault(repr(arguments), Case(arguments, value_of(form), form))
        if len(found) == VISIBLE + HIDDEN:
            break
    cases = list(found.values())
    if len(cases) < VISIBLE + 3 or len({repr(case.form) for case in cases}) < 2:
        raise _Unusable
    return tuple(cases[:VISIBLE]), tuple(cases[VISIBLE:])


def _break(rng: random.Random, program: Program, functions: dict[str, Function], count: int) -> None:
    """Give `count` functions a mistake that the visible test shows and that one small edit mends."""
    broken = 0
    for name in rng.sample(list(functions), len(functions)):
        if broken == count:
            return
        for mutant in _mixed(rng, mutants(functions[name].reference))[:6]:
            changed = _with_mistake(rng, program, functions[name], mutant.kind, mutant.source)
            if changed is not None:
                functions[name] = changed
                broken += 1
                break
    if broken < count:
        raise _Unusable


def _mixed(rng: random.Random, options: Sequence[Mutant]) -> list[Mutant]:
    """The mutants in an order in which every kind is as likely to come first: there are many more of some than of others."""
    by_kind: dict[str, list[Mutant]] = {}
    for mutant in rng.sample(options, len(options)):
        by_kind.setdefault(mutant.kind, []).append(mutant)
    rounds = [rng.sample(list(by_kind), len(by_kind)) for _ in range(max(map(len, by_kind.values()), default=0))]
    return [by_kind[kind].pop() for kinds in rounds for kind in kinds if by_kind[kind]]


def _with_mistake(rng: random.Random, program: Program, function: Function, kind: str, source: str) -> Function | None:
    """The function with a mistake, and with visible cases that fail it and every wrong edit of it; None if there are none."""
    cases = [*function.visible, *function.hidden]
    wrong = _row(program, function.name, source, cases)
    if wrong is None or all(wrong):
        return None
    rows = [row for edit in edits(source) if (row := _row(program, function.name, edit, cases)) is not None]
    if not any(map(all, rows)):
        return None
    visible = list(range(len(function.visible)))
    for row in [wrong, *rows]:
        if not all(row) and all(row[index] for index in visible):
            visible.append(rng.choice([index for index, passed in enumerate(row) if not passed]))
    if len(visible) > MOST_VISIBLE:
        return None
    return replace(
        function,
        source=source,
        kind=kind,
        visible=tuple(cases[index] for index in visible),
        hidden=tuple(case for index, case in enumerate(cases) if index not in visible),
    )


def _can_be_tested(repository: Repository, program: Program, name: str) -> bool:
    """Whether there are mutants to find, and the reference solver finds them all."""
    targets = repository.mutants_of(name)
    if len(targets) < 3:
        return False
    function = repository.functions[name]
    made = [_row(program, name, edit, function.visible) for edit in edits(function.reference)]
    chosen = choose(list(function.visible), [row or [False] * len(function.visible) for row in made])
    return all(not all(_row(program, name, target, chosen) or ()) for target in targets)


def _row(program: Program, name: str, source: str, cases: Sequence[Case]) -> list[bool] | None:
    """Which cases another version of a function passes, the others as they are; None where it is no Python."""
    changed = program.with_source(source)
    if changed is None:
        return None
    return [changed.outcome(name, case.arguments) == case.form for case in cases]
