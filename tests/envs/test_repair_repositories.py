"""Repositories to repair: the same everywhere, disjoint by split, with mistakes that tests show and one small edit mends."""

from __future__ import annotations

import ast
import hashlib
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rao_rl.envs import UnknownGoal, make
from rao_rl.envs.repair import LEVELS, Goal, Repair, Repository, families, make_repository, parse_goal
from rao_rl.envs.repair.edits import choose, edits
from rao_rl.envs.repair.families import SPLITS, Split
from rao_rl.envs.repair.mutants import mutants
from rao_rl.envs.repair.trusted import Program
from rao_rl.envs.repair.values import form_of, value_of
from recursive_agent import ConfigurationError

REPOSITORIES = st.builds(
    make_repository, st.sampled_from(SPLITS), st.integers(0, 10**6).map(str), st.sampled_from(sorted(LEVELS))
)
SOURCE = '''def fold_clay(values: list[int], least: int = 2) -> int:
    """How many."""
    if not values:
        return 0
    total = 0
    for value in values:
        if value >= least and value % 2 == 1:
            total += 1
    return max(total, least)
'''


def called(source: str, arguments: list[Any]) -> Any:
    """What a function gives, without any of the generator's code: "failed" where it raises."""
    scope: dict[str, Any] = {}
    exec(source, scope)
    name = re.findall(r"^def (\w+)", source, re.MULTILINE)[-1]
    try:
        return scope[name](*arguments)
    except Exception:
        return "failed"


def test_tasks_are_the_same_on_every_machine() -> None:
    environment = make("repair")
    digest = hashlib.sha256()
    for split in environment.splits:
        for task in environment.tasks(split, 3, limit=4):
            repository = make_repository(task.data["split"], task.data["place"], task.data["level"])
            cases = [(one.visible, one.hidden) for one in repository.functions.values()]
            digest.update(f"{task.id} {task.goal} {dict(repository.found)} {dict(repository.files)} {cases}".encode())
    assert digest.hexdigest()[:16] == "1ed49d65577c8a16"


def test_sizes_are_those_of_the_level() -> None:
    for level, size in LEVELS.items():
        for index in range(3):
            repository = make_repository("train", str(index), level)
            assert size.functions[0] <= len(repository.functions) <= size.functions[1]
            assert size.broken[0] <= len(repository.broken) <= size.broken[1]
            assert (repository.tested is not None) == size.write_tests
            assert sorted(name for names in repository.files.values() for name in names) == sorted(repository.functions)


def test_no_family_is_in_two_splits_and_mistakes_are_of_many_kinds() -> None:
    split_of = {family.id: family.split for family in families()}
    assert len(split_of) == len(families()) > 80
    kinds: dict[str, set[str]] = {}
    for split in SPLITS:
        for index in range(6):
            for function in make_repository(split, str(index), "medium").functions.values():
                assert split_of[function.family] == split
                if function.kind is not None:
                    kinds.setdefault(split, set()).add(function.kind)
    assert {"off by one", "comparison", "operator"} <= set.intersection(*kinds.values())
    assert {"default", "flag", "extreme", "negation"} <= set.union(*kinds.values())


@settings(max_examples=5, deadline=None)
@given(REPOSITORIES)
def test_mistakes_are_seen_by_tests_and_mended_by_edits_that_pass_them(repository: Repository) -> None:
    for name, function in repository.functions.items():
        program = Program(repository.reference)
        cases = [*function.visible, *function.hidden]
        assert [program.outcome(name, case.arguments) for case in cases] == [case.form for case in cases]
        assert function.broken == (function.source != function.reference)
        if not function.broken:
            continue
        wrong = program.with_source(function.source)
        assert wrong is not None
        assert any(wrong.outcome(name, case.arguments) != case.form for case in function.visible)
        mended = [
            edited
            for source in edits(function.source)
            if (edited := program.with_source(source)) is not None
            and all(edited.outcome(name, case.arguments) == case.form for case in function.visible)
        ]
        assert mended
        for edited in mended:
            assert all(edited.outcome(name, case.arguments) == case.form for case in function.hidden)


@settings(max_examples=5, deadline=None)
@given(REPOSITORIES)
def test_what_a_test_reaches_is_what_its_function_names(repository: Repository) -> None:
    names = {
        name: {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}
        & set(repository.functions)
        for name, source in repository.found.items()
    }
    for name in names:
        reached = {name}
        while (more := reached.union(*(names[one] for one in reached))) != reached:
            reached = more
        assert repository.reached(name) == reached


@settings(max_examples=5, deadline=None)
@given(REPOSITORIES)
def test_mutants_for_written_tests_differ_from_the_reference_on_visible_cases(repository: Repository) -> None:
    if repository.tested is None:
        return
    function = repository.functions[repository.tested]
    assert not function.broken
    program = Program(repository.reference)
    killed = []
    for source in repository.mutants_of(function.name):
        changed = program.with_source(source)
        assert changed is not None
        killed.append([changed.outcome(function.name, case.arguments) != case.form for case in function.visible])
    assert 3 <= len(killed) <= 8
    assert all(map(any, killed))


def test_every_kind_of_mistake_is_made_where_it_should_be() -> None:
    made = {(mutant.kind, line) for mutant in mutants(SOURCE) for line in changed_lines(mutant.source)}
    assert made == {
        ("default", "def fold_clay(values: list[int], least: int = 3) -> int:"),
        ("default", "def fold_clay(values: list[int], least: int = 1) -> int:"),
        ("negation", "    if values:"),
        ("off by one", "        return 1"),
        ("off by one", "    total = 1"),
        ("connective", "        if value >= least or value % 2 == 1:"),
        ("comparison", "        if value > least and value % 2 == 1:"),
        ("comparison", "        if value >= least and value % 2 != 1:"),
        ("operator", "        if value >= least and value // 2 == 1:"),
        ("off by one", "        if value >= least and value % 3 == 1:"),
        ("off by one", "        if value >= least and value % 1 == 1:"),
        ("off by one", "        if value >= least and value % 2 == 2:"),
        ("off by one", "        if value >= least and value % 2 == 0:"),
        ("operator", "            total -= 1"),
        ("off by one", "            total += 2"),
        ("off by one", "            total += 0"),
        ("extreme", "    return min(total, least)"),
        ("swapped arguments", "    return max(least, total)"),
    }
    assert [mutant.kind for mutant in mutants(SOURCE) if "if not values" not in mutant.source] == [
        "negation",
        "missing base case",
    ]


def changed_lines(source: str) -> list[str]:
    return [line for line in source.splitlines() if line not in SOURCE.splitlines()]


@pytest.mark.parametrize("mutant", mutants(SOURCE), ids=lambda mutant: mutant.kind)
def test_some_edit_undoes_every_mistake(mutant: Any) -> None:
    cases = [[[1, 3, 5, 2, 2]], [[]], [[2, 3, 3, 9, 4], 3], [[1], 1], [[3, 5, 7, 9, 11], 3], [[2, 2], 1], [[], 3]]
    wanted = [called(SOURCE, case) for case in cases]
    undone = []
    for edit in edits(mutant.source):
        try:
            compile(edit, "edit", "exec")
        except SyntaxError:
            continue
        undone.append([called(edit, case) for case in cases] == wanted)
    assert any(undone)


def test_a_mutant_that_loops_for_ever_just_fails() -> None:
    program = Program({"spin": "def spin(n):\n    while n > 0:\n        n = n\n    return n\n"})
    assert program.outcome("spin", [0]) == ["int", 0]
    assert program.outcome("spin", [1]) is None
    assert program.outcome("spin", [0]) == ["int", 0]


def test_the_cases_chosen_as_tests_fail_every_mutant_that_some_case_fails() -> None:
    rows = [[True, False, True], [True, False, False], [False, True, True], [True, True, True]]
    assert choose(["a", "b", "c"], rows) == ["b", "a"]


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
)


@given(PLAIN)
def test_a_form_holds_the_value(value: Any) -> None:
    assert value_of(form_of(value)) == value


@given(PLAIN, PLAIN)
def test_forms_are_equal_where_values_and_types_are(first: Any, second: Any) -> None:
    assert (form_of(first) == form_of(second)) == (described(first) == described(second))


def described(value: Any) -> str:
    if isinstance(value, dict):
        return f"{{{sorted((key, described(item)) for key, item in value.items())}}}"
    return f"{list(map(described, value))}" if isinstance(value, list) else repr(value)


def test_true_is_not_one_and_a_tuple_is_not_a_list() -> None:
    assert form_of(True) != form_of(1)
    assert form_of([True]) != form_of([1])
    assert form_of((1, 2)) != form_of([1, 2])
    assert form_of({"a": 1, "b": 2}) == form_of({"b": 2, "a": 1})


@pytest.mark.parametrize(
    "goal",
    [
        Goal("repair"),
        Goal("repair", "fold_clay"),
        Goal("find", test="fold_clay"),
        Goal("explain", "tie_rope", "fold_clay"),
        Goal("mend", "fold_clay"),
        Goal("test", "fold_clay"),
    ],
    ids=str,
)
def test_goals_are_read_as_they_are_written(goal: Goal) -> None:
    assert parse_goal(str(goal)) == goal
    for other in (f"{goal} ", f" {goal}", str(goal).lower(), str(goal).replace(" the ", "  the ") + ".", f"{goal}\n"):
        assert parse_goal(other) is None


def test_goals_from_outside() -> None:
    environment = make("repair")
    repository = make_repository("test", "own/5", "medium")
    name = min(repository.functions)
    task = environment.task(f"Mend {name}", 5)
    assert (task.goal, task.level) == (f"Mend {name}", None)
    with pytest.raises(UnknownGoal, match="a goal reads like 'Repair the repository: make all tests pass'"):
        environment.task("Mend everything")
    with pytest.raises(ConfigurationError, match="there is no function fold_nothing in this repository; it has "):
        environment.task("Mend fold_nothing")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"mode": "both"}, "repair: mode must be one of single, recursive, not 'both'"),
        ({"require": "all"}, "repair: require must be kernel or none, not 'all'"),
        ({"sandbox": "cellar"}, "cellar"),
        ({"level": "small"}, "it takes"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, str], complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        make("repair", **arguments)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("exam",), "repair: split must be one of train, validation, test, not 'exam'"),
        (("test", 0, "huge"), "repair: level must be one of small, medium, large, not 'huge'"),
        (("test", 0, "small", -1), "limit must not be negative"),
    ],
)
def test_wrong_tasks_are_named(arguments: tuple[Any, ...], complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        Repair().tasks(*arguments)


def test_ids_are_unique_and_levels_are_mixed() -> None:
    tasks = list(Repair().tasks("validation", limit=12))
    assert len({task.id for task in tasks}) == 12
    assert len({task.level for task in tasks}) > 1
    assert len({task.id for task in Repair().tasks("test", 0, "small", 66)}) == 66


def test_the_other_splits_have_other_repositories() -> None:
    found: dict[Split, set[str]] = {
        split: {str(dict(make_repository(split, f"0/small/{index}", "small").found)) for index in range(5)}
        for split in SPLITS
    }
    assert len(set.union(*found.values())) == 15
