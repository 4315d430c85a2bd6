"""One attempt at a task: the repository that all agents share, the tools on it, and the ledger that says who patched what."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import anyio

from recursive_agent.tools import ToolContext

from ..base import ScoredNode
from .goals import MOST_CASES, Goal, parse_goal
from .repository import Case, Function, Repository
from .sandboxed import Job, Outcome, Workshop, problem_of
from .values import form_of, value_of

MOST_TESTS = 8
"""Tests of one call of `run_tests`."""
MOST_SOURCES = 200
"""Versions of one call of `try_function`."""
_MOST_SHOWN = 3
_AT_A_TIME = 4
"""Sandboxes that the agents of one tree use at the same time."""


class Ledger:
    """Who patched what, in order. A node is credited with its own patches and those of its descendants."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, str, str]] = []
        """(node, function, source) of every patch."""

    def patches(self, node: str | None = None) -> dict[str, str]:
        """The last source of each function that `node` and its descendants patched; None: that anybody did."""
        return {
            name: source for by, name, source in self.entries if node is None or by == node or by.startswith(f"{node}.")
        }


class RepairSession:
    """The state of one tree. Each agent works on a branch of its own: the repository as it was found, with the patches of
    the agent and its descendants. So what it sees and how it is scored depend on no sibling, and the root has all patches.
    """

    def __init__(self, repository: Repository, workshop: Workshop) -> None:
        self.repository = repository
        self.ledger = Ledger()
        self.unparsed: set[str] = set()
        """Ids of the nodes whose goal broke the grammar, as far as they were scored."""
        self._workshop = workshop
        self._known: dict[str, list[Outcome]] = {}
        self.tools: Sequence[Callable[..., Any]] = (
            self.list_files,
            self.read_function,
            self.read_test,
            self.run_tests,
            self.test_alone,
            self.try_function,
            self.write_patch,
        )

    # -- tools -------------------------------------------------------------------------------------------------------

    async def list_files(self) -> dict[str, list[str]]:
        """The files of the repository: file to the names of its functions. The test of fold_clay is test_fold_clay."""
        return {file: list(names) for file, names in self.repository.files.items()}

    async def read_function(self, name: str, *, ctx: ToolContext) -> str:
        """The source of a function on your branch. Its docstring says exactly what it should do."""
        return self._branch(ctx)[self._function(name).name]

    async def read_test(self, test: str) -> list[list[Any]]:
        """The cases of a test: [arguments, expected result] each."""
        return [[case.arguments, case.result] for case in self._tested(test).visible]

    async def run_tests(self, tests: list[str], *, ctx: ToolContext) -> dict[str, str]:
        """Run up to 8 tests on your branch. Returns the tests that fail, with the first failure of each."""
        if len(tests) > MOST_TESTS:
            raise ValueError(f"run at most {MOST_TESTS} tests at a time, not {len(tests)}")
        functions = [self._tested(test) for test in tests]
        branch = self._branch(ctx)
        outcomes = await self._run([_job(branch, function.name, function.visible) for function in functions])
        failed = {
            f"test_{function.name}": _failures(function.visible, row)
            for function, row in zip(functions, outcomes, strict=True)
        }
        return {test: _sentence(test[5:], *failures[0]) for test, failures in failed.items() if failures}

    async def test_alone(self, names: list[str], *, ctx: ToolContext) -> dict[str, list[list[Any]]]:
        """Test up to 8 functions of your branch, each while all others are those of the last release, which had no mistakes.

        Returns the functions that fail, with up to three failures each: [arguments, expected result, what came instead].
        """
        if len(names) > MOST_TESTS:
            raise ValueError(f"test at most {MOST_TESTS} functions at a time, not {len(names)}")
        functions = [self._function(name) for name in dict.fromkeys(names)]
        branch = self._branch(ctx)
        rows = await self._run([self._alone(one, branch[one.name], one.visible) for one in functions])
        failed = {one.name: _failures(one.visible, row)[:_MOST_SHOWN] for one, row in zip(functions, rows, strict=True)}
        return {
            name: [[case.arguments, case.result, got] for case, got in failures]
            for name, failures in failed.items()
            if failures
        }

    async def try_function(self, name: str, sources: list[str]) -> list[list[bool]]:
        """Test up to 200 versions of a function, each with the others of the last release; the repository stays as it is.

        Returns for each version which cases of its test pass, in their order; none does for one that is not this function.
        """
        function = self._function(name)
        if len(sources) > MOST_SOURCES:
            raise ValueError(f"try at most {MOST_SOURCES} versions at a time, not {len(sources)}")
        rows = [[False] * len(function.visible) for _ in sources]
        valid = [index for index, source in enumerate(sources) if self._problem(function, source) is None]
        outcomes = await self._run([self._alone(function, sources[index], function.visible) for index in valid])
        for index, row in zip(valid, outcomes, strict=True):
            rows[index] = _passes(function.visible, row)
        return rows

    async def write_patch(self, name: str, source: str, *, ctx: ToolContext) -> str:
        """Put a new source in the place of a function, on your branch: this one function, with the same parameters."""
        problem = self._problem(self._function(name), source)
        if problem is not None:
            raise ValueError(problem)
        self.ledger.entries.append((ctx.node, name, source))
        return f"Patched {name}"

    # -- scores ------------------------------------------------------------------------------------------------------

    async def score(self, node: ScoredNode) -> float | None:
        """1.0 where the node met its own goal, else 0.0; None where something outside stopped it.

        A patch counts for the node that wrote it and for those above it, never for a sibling.
        """
        goal = parse_goal(node.goal)
        if goal is None or any(name not in self.repository.functions for name in (goal.name, goal.test) if name):
            self.unparsed.add(node.id)
            return 0.0
        if node.status.external:
            return None
        if not node.status.finished:
            return 0.0
        try:
            return float(await self._met(goal, node))
        except RecursionError:  # a result of many levels
            return 0.0

    async def _met(self, goal: Goal, node: ScoredNode) -> bool:
        functions = self.repository.functions
        match goal.kind:
            case "repair":
                return await self._is_repaired(node.id) and (
                    goal.name is None or await self._are_tests(functions[goal.name], node.result)
                )
            case "find":
                assert goal.test is not None
                return _is_set(node.result, self.repository.broken & self.repository.reached(goal.test))
            case "explain":
                assert goal.name is not None
                assert goal.test is not None
                reached = goal.name in self.repository.reached(goal.test)
                return reached and await self._is_explained(functions[goal.name], node.result)
            case "mend":
                assert goal.name is not None
                return await self._is_mended(functions[goal.name], self.ledger.patches(node.id).get(goal.name))
            case "test":
                assert goal.name is not None
                return await self._are_tests(functions[goal.name], node.result)

    async def _is_repaired(self, node: str) -> bool:
        sources = {**self.repository.found, **self.ledger.patches(node)}
        functions = list(self.repository.functions.values())
        cases = [(*function.visible, *function.hidden) for function in functions]
        rows = await self._run(
            [_job(sources, function.name, tested) for function, tested in zip(functions, cases, strict=True)]
        )
        return all(all(_passes(tested, row)) for tested, row in zip(cases, rows, strict=True))

    async def _is_mended(self, function: Function, patch: str | None) -> bool:
        if patch is None or not function.broken:
            return False
        cases = (*function.visible, *function.hidden)
        (row,) = await self._run([self._alone(function, patch, cases)])
        return all(_passes(cases, row))

    async def _is_explained(self, function: Function, result: Any) -> bool:
        if not isinstance(result, dict) or set(result) != {"input", "output"}:
            return False
        if not function.broken or not _are_arguments(function, result["input"]):
            return False
        (right,), (wrong,) = await self._run(
            [
                Job(self._with(function, source), function.name, [result["input"]])
                for source in (function.reference, function.source)
            ]
        )
        return right.error is None and right.form == form_of(result["output"]) and wrong != right

    async def _are_tests(self, function: Function, result: Any) -> bool:
        if not isinstance(result, list | tuple) or not 1 <= len(result) <= MOST_CASES:
            return False
        pairs = [pair for pair in result if isinstance(pair, list | tuple) and len(pair) == 2]
        if len(pairs) < len(result) or not all(_are_arguments(function, pair[0]) for pair in pairs):
            return False
        calls = [list(pair[0]) for pair in pairs]
        forms = [form_of(pair[1]) for pair in pairs]
        versions = (function.reference, *self.repository.mutants_of(function.name))
        rows = await self._run([Job(self._with(function, source), function.name, calls) for source in versions])
        passed = [
            all(one.error is None and one.form == form for one, form in zip(row, forms, strict=True)) for row in rows
        ]
        return passed[0] and not any(passed[1:])

    # -- inside ------------------------------------------------------------------------------------------------------

    def _branch(self, ctx: ToolContext) -> dict[str, str]:
        return {**self.repository.found, **self.ledger.patches(ctx.node)}

    @cached_property
    def _slots(self) -> anyio.CapacityLimiter:
        return anyio.CapacityLimiter(_AT_A_TIME)

    async def _run(self, jobs: Sequence[Job]) -> list[list[Outcome]]:
        """The outcomes of each job. The same functions give the same results, so no job is run twice in a tree."""
        keys = [job.key() for job in jobs]
        async with self._slots:
            fresh = {key: job for key, job in zip(keys, jobs, strict=True) if key not in self._known}
            if fresh:
                self._known.update(zip(fresh, await self._workshop.run(list(fresh.values())), strict=True))
        return [self._known[key] for key in keys]

    def _with(self, function: Function, source: str) -> Mapping[str, str]:
        return {**self.repository.reference, function.name: source}

    def _alone(self, function: Function, source: str, cases: Sequence[Case]) -> Job:
        return _job(self._with(function, source), function.name, cases)

    def _function(self, name: str) -> Function:
        try:
            return self.repository.functions[name]
        except KeyError:
            raise ValueError(f"there is no function {name!r:.60}; list_files() shows all") from None

    def _tested(self, test: str) -> Function:
        if not test.startswith("test_"):
            raise ValueError(f"there is no test {test!r:.60}: the test of fold_clay is test_fold_clay")
        return self._function(test.removeprefix("test_"))

    @staticmethod
    def _problem(function: Function, source: str) -> str | None:
        return problem_of(function.name, source, [parameter.name for parameter in function.parameters])


def _job(sources: Mapping[str, str], name: str, cases: Sequence[Case]) -> Job:
    return Job(sources, name, [case.arguments for case in cases])


def _passes(cases: Sequence[Case], row: Sequence[Outcome]) -> list[bool]:
    return [one.error is None and one.form == case.form for case, one in zip(cases, row, strict=True)]


def _failures(cases: Sequence[Case], row: Sequence[Outcome]) -> list[tuple[Case, Any]]:
    """The cases that fail, and what came instead of the result."""
    return [
        (case, f"<{one.error}>" if one.error is not None else _shown(one.form))
        for case, one, passed in zip(cases, row, _passes(cases, row), strict=True)
        if not passed
    ]


def _shown(form: Any) -> Any:
    """The value of a form that came out of a sandbox, in which an agent's code may have changed anything."""
    try:
        return value_of(form)
    except (TypeError, ValueError, RecursionError):
        return "<something else>"


def _sentence(name: str, case: Case, got: Any) -> str:
    arguments = ", ".join(map(repr, case.arguments))
    return f"{name}({arguments}) gave {got!r:.100}, not {case.result!r:.100}"[:300]


def _is_set(result: Any, gold: frozenset[str]) -> bool:
    if not isinstance(result, list | tuple) or not all(isinstance(name, str) for name in result):
        return False
    return len(result) == len(set(result)) and set(result) == gold


def _are_arguments(function: Function, arguments: Any) -> bool:
    required = len([parameter for parameter in function.parameters if not parameter.optional])
    return isinstance(arguments, list | tuple) and required <= len(arguments) <= len(function.parameters)
