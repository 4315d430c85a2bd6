"""The tools of a repository to repair, and the verifier of each kind of goal, with values worked out by hand."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import anyio
import pytest

from rao_rl.envs.repair import Goal, RepairSession, Repository, families, sandboxed
from rao_rl.envs.repair.families import Parameter, draw_arguments, fill
from rao_rl.envs.repair.repository import Case, Function
from rao_rl.envs.repair.sandboxed import Job, Workshop
from rao_rl.envs.repair.trusted import Program
from rao_rl.envs.repair.values import form_of
from recursive_agent import Status
from recursive_agent.errors import SandboxError
from recursive_agent.repl import Sandbox, make_sandbox
from recursive_agent.tools import ToolContext

pytestmark = pytest.mark.anyio

TOTAL = '''def sum_salt(values: list[int]) -> int:
    """The sum of the values."""
    total = 0
    for value in values:
        total += value
    return total
'''
LEAST = '''def pick_reed(values: list[int], least: int = 3) -> list[int]:
    """The values of at least `least`, by default 3."""
    return [value for value in values if value >= least]
'''
BOTH = '''def join_oak(values: list[int]) -> int:
    """`sum_salt` of what `pick_reed` gives for the values."""
    return sum_salt(pick_reed(values))
'''
WRONG_TOTAL = TOTAL.replace("total = 0", "total = 1")
WRONG_LEAST = LEAST.replace(">=", ">")
VALUES = Parameter("values", "ints", False)


def function(
    name: str, reference: str, source: str, cases: dict[str, Any], calls: tuple[str, ...] = (), optional: bool = False
) -> Function:
    """A function whose first two cases are visible; `cases` maps arguments, as text, to results."""
    made = [Case(list(eval(f"({arguments},)")), result, form_of(result)) for arguments, result in cases.items()]
    parameters = (VALUES, Parameter("least", "int", True)) if optional else (VALUES,)
    kind = None if source == reference else "operator"
    return Function(name, name, reference, source, parameters, calls, tuple(made[:2]), tuple(made[2:]), kind)


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """One for the whole test: every call has a fresh worker all the same."""
    async with make_sandbox("process") as sandbox:
        yield sandbox


def small_session(sandbox: Sandbox | str = "process") -> RepairSession:
    """Three functions: `join_oak`, which is right, calls `sum_salt` and `pick_reed`, which are broken."""
    functions = (
        function("sum_salt", TOTAL, WRONG_TOTAL, {"[1, 2]": 3, "[]": 0, "[5]": 5, "[-1, 1]": 0}),
        function("pick_reed", LEAST, WRONG_LEAST, {"[3, 4]": [3, 4], "[1]": [], "[2, 3]": [3]}, optional=True),
        function("join_oak", BOTH, BOTH, {"[3, 4]": 7, "[1]": 0, "[5]": 5}, ("sum_salt", "pick_reed")),
    )
    files = {"yard.py": ("sum_salt", "join_oak"), "pier.py": ("pick_reed",)}
    return RepairSession(Repository({one.name: one for one in functions}, files, None), Workshop(sandbox))


def caller(node: str = "0") -> ToolContext:
    return ToolContext("run", node, node.rpartition(".")[0] or None, node.count("."), "goal")


@dataclass(frozen=True)
class Ended:
    """A node as scoring reads it."""

    goal: str
    result: Any = None
    id: str = "0"
    status: Status = Status.FINISHED


async def test_files_functions_and_tests_are_shown_as_they_were_found() -> None:
    session = small_session()
    assert await session.list_files() == {"yard.py": ["sum_salt", "join_oak"], "pier.py": ["pick_reed"]}
    assert await session.read_function("sum_salt", ctx=caller()) == WRONG_TOTAL
    assert await session.read_test("test_sum_salt") == [[[[1, 2]], 3], [[[]], 0]]


async def test_tests_run_on_the_branch_and_alone_with_the_last_release(sandbox: Sandbox) -> None:
    session = small_session(sandbox)
    assert await session.run_tests(["test_sum_salt", "test_pick_reed", "test_join_oak"], ctx=caller()) == {
        "test_sum_salt": "sum_salt([1, 2]) gave 4, not 3",
        "test_pick_reed": "pick_reed([3, 4]) gave [4], not [3, 4]",
        "test_join_oak": "join_oak([3, 4]) gave 5, not 7",
    }
    assert await session.test_alone(["join_oak", "sum_salt"], ctx=caller()) == {
        "sum_salt": [[[[1, 2]], 3, 4], [[[]], 0, 1]]
    }


async def test_versions_are_tried_without_changing_anything(sandbox: Sandbox) -> None:
    session = small_session(sandbox)
    tried = [TOTAL, WRONG_TOTAL, TOTAL.replace("+=", "-="), "def other(values):\n    return 0", "no Python ("]
    assert await session.try_function("sum_salt", tried) == [
        *([True, True], [False, False], [False, True], [False, False], [False, False])
    ]
    assert await session.read_function("sum_salt", ctx=caller()) == WRONG_TOTAL


async def test_an_agent_sees_its_own_patches_and_those_of_its_descendants_only(sandbox: Sandbox) -> None:
    session = small_session(sandbox)
    await session.write_patch("sum_salt", TOTAL, ctx=caller("0.1.0"))
    for node, source in {"0": TOTAL, "0.1": TOTAL, "0.1.0": TOTAL, "0.2": WRONG_TOTAL, "0.10": WRONG_TOTAL}.items():
        assert await session.read_function("sum_salt", ctx=caller(node)) == source
    assert list(await session.run_tests(["test_sum_salt"], ctx=caller("0.1"))) == []
    assert list(await session.run_tests(["test_sum_salt"], ctx=caller("0.2"))) == ["test_sum_salt"]


@pytest.mark.parametrize(
    ("name", "source", "complaint"),
    [
        ("sum_salt", TOTAL + "\nfinish(1)\n", "must be one function and nothing else"),
        ("sum_salt", "import os\n" + TOTAL, "must be one function and nothing else"),
        ("sum_salt", "@print\n" + TOTAL, "must be one function and nothing else"),
        ("sum_salt", "async " + TOTAL, "must be one function and nothing else"),
        ("sum_salt", TOTAL.replace("sum_salt", "pick_reed"), r"must be called sum_salt and take \(values\)"),
        ("sum_salt", TOTAL.replace("values: list[int]", "*values"), r"must be called sum_salt and take \(values\)"),
        ("sum_salt", TOTAL.replace("values: list[int]", "values, more=1"), "must be called sum_salt and take"),
        ("sum_salt", "def sum_salt(values) return 1", "is not valid Python"),
        ("sum_salt", "def sum_salt(values):\n    return " + "-" * 3900 + "1", "is not valid Python"),
        ("sum_salt", TOTAL + "#" * 4000, "must be a text of at most 4,000 characters"),
        ("fold_clay", TOTAL, "there is no function 'fold_clay'"),
    ],
)
async def test_what_is_no_patch_is_refused_in_words(name: str, source: str, complaint: str) -> None:
    session = small_session()
    with pytest.raises(ValueError, match=complaint):
        await session.write_patch(name, source, ctx=caller())
    assert session.ledger.entries == []


async def test_tools_name_what_they_do_not_know_and_how_much_they_take() -> None:
    session = small_session()
    with pytest.raises(ValueError, match="there is no test 'sum_salt': the test of fold_clay is test_fold_clay"):
        await session.read_test("sum_salt")
    with pytest.raises(ValueError, match="run at most 8 tests at a time, not 9"):
        await session.run_tests(["test_sum_salt"] * 9, ctx=caller())
    with pytest.raises(ValueError, match="test at most 8 functions at a time"):
        await session.test_alone(["sum_salt"] * 9, ctx=caller())
    with pytest.raises(ValueError, match="try at most 200 versions at a time"):
        await session.try_function("sum_salt", [TOTAL] * 201)


# -- scores ----------------------------------------------------------------------------------------------------------


MENDS = [
    (TOTAL, 1.0),
    ("def sum_salt(values):\n    return sum(values)", 1.0),
    (WRONG_TOTAL, 0.0),
    ("def sum_salt(values):\n    return {2: 3, 0: 0}[len(values)]", 0.0),  # the visible cases by heart
    ("def sum_salt(values):\n    return float(sum(values))", 0.0),
    ("def sum_salt(values):\n    while True:\n        pass", 0.0),
    ("def sum_salt(values):\n    return sum_salt(values)", 0.0),
    ("def sum_salt(values):\n    finish([[True, ['int', 3]]] * 4)", 0.0),
    ("def sum_salt(values):\n    global outcomes\n    outcomes = outcomes * 2\n    return sum(values)", 0.0),
    ("def sum_salt(values):\n    return open('/etc/passwd').read()", 0.0),
    ("def sum_salt(values):\n    import os\n    return sum(values)", 0.0),
    ("def sum_salt(values):\n    return [[0] * 10**8 for _ in range(8)]", 0.0),
]


async def test_a_mend_is_right_where_hidden_tests_pass(sandbox: Sandbox) -> None:
    for source, score in MENDS:
        session = small_session(sandbox)
        await session.write_patch("sum_salt", source, ctx=caller("0.1"))
        assert (source, await session.score(Ended("Mend sum_salt", id="0.1"))) == (source, score)


async def test_a_function_that_hangs_in_c_costs_its_time_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandboxed, "_LIMITS", sandboxed.ReplLimits(cell_timeout=0.2, memory_mb=128))
    hanging = "def sum_salt(values):\n    return sum(range(10**12))"
    session = small_session()
    with anyio.fail_after(30):
        assert await session.try_function("sum_salt", [hanging, TOTAL, *[hanging + f" + {i}" for i in range(150)]]) == [
            *([False, False], [True, True], *[[False, False]] * 150)
        ]


async def test_a_siblings_patch_changes_nobodys_score(sandbox: Sandbox) -> None:
    session = small_session(sandbox)
    await session.write_patch("sum_salt", TOTAL, ctx=caller("0.0"))
    await session.write_patch("sum_salt", WRONG_TOTAL, ctx=caller("0.1"))
    await session.write_patch("pick_reed", LEAST, ctx=caller("0.2"))
    await session.write_patch("join_oak", BOTH.replace("sum_salt(", "len("), ctx=caller("0.3"))
    goals = ["Mend sum_salt", "Mend sum_salt", "Mend pick_reed", "Mend sum_salt"]
    assert [await session.score(Ended(goal, id=f"0.{index}")) for index, goal in enumerate(goals)] == [
        1.0,
        0.0,
        1.0,
        0.0,
    ]


async def test_a_function_without_mistake_cannot_be_mended() -> None:
    session = small_session()
    await session.write_patch("join_oak", BOTH, ctx=caller())
    assert await session.score(Ended("Mend join_oak")) == 0.0


async def test_the_repository_is_repaired_where_all_patches_below_make_all_hidden_tests_pass(sandbox: Sandbox) -> None:
    session = small_session(sandbox)
    goal = str(Goal("repair"))
    assert await session.score(Ended(goal)) == 0.0
    await session.write_patch("sum_salt", TOTAL, ctx=caller("0.0"))
    assert await session.score(Ended(goal)) == 0.0
    await session.write_patch("pick_reed", LEAST, ctx=caller("0.1.0"))
    assert await session.score(Ended(goal)) == 1.0
    assert await session.score(Ended(goal, id="0.1")) == 0.0
    await session.write_patch("join_oak", BOTH.replace("sum_salt(", "len("), ctx=caller("0.2"))
    assert await session.score(Ended(goal)) == 0.0


FINDS = [
    ("join_oak", ["pick_reed", "sum_salt"], 1.0),
    ("join_oak", ["sum_salt", "pick_reed"], 1.0),
    ("join_oak", ["sum_salt"], 0.0),
    ("join_oak", ["sum_salt", "pick_reed", "join_oak"], 0.0),
    ("join_oak", ["sum_salt", "pick_reed", "sum_salt"], 0.0),
    ("join_oak", {"sum_salt": 1, "pick_reed": 2}, 0.0),
    ("join_oak", "sum_salt", 0.0),
    ("join_oak", [["sum_salt"], "pick_reed"], 0.0),
    ("join_oak", None, 0.0),
    ("sum_salt", ["sum_salt"], 1.0),
    ("sum_salt", ["sum_salt", "pick_reed"], 0.0),
]


async def test_the_broken_functions_that_a_test_reaches_are_found() -> None:
    for test, result, score in FINDS:
        goal = str(Goal("find", test=test))
        assert (result, await small_session().score(Ended(goal, result))) == (result, score)


EXPLANATIONS = [
    ("pick_reed", "pick_reed", {"input": [[3]], "output": [3]}, 1.0),
    ("pick_reed", "join_oak", {"input": [[9, 3]], "output": [9, 3]}, 1.0),
    ("pick_reed", "join_oak", {"input": [[9, 7], 7], "output": [9, 7]}, 1.0),
    ("pick_reed", "pick_reed", {"input": [[4]], "output": [4]}, 0.0),  # both give it
    ("pick_reed", "pick_reed", {"input": [[3]], "output": []}, 0.0),  # what the broken one gives
    ("pick_reed", "pick_reed", {"input": [3], "output": [3]}, 0.0),  # fails in both
    ("pick_reed", "pick_reed", {"input": [], "output": None}, 0.0),
    ("pick_reed", "pick_reed", {"input": [[3], 3, 3], "output": [3]}, 0.0),
    ("pick_reed", "pick_reed", {"input": [[3]], "output": [3.0]}, 0.0),
    ("pick_reed", "pick_reed", {"input": [[3]]}, 0.0),
    ("pick_reed", "pick_reed", [[[3]], [3]], 0.0),
    ("pick_reed", "sum_salt", {"input": [[3]], "output": [3]}, 0.0),  # that test does not reach it
    ("join_oak", "join_oak", {"input": [[3]], "output": 3}, 0.0),  # it is not broken itself
]


async def test_an_explanation_is_an_input_that_tells_the_mistake(sandbox: Sandbox) -> None:
    for name, test, result, score in EXPLANATIONS:
        goal = str(Goal("explain", name, test))
        assert (result, await small_session(sandbox).score(Ended(goal, result))) == (result, score)


WRITTEN = [
    ([[[[3, 2]], [3]], [[[4, 5], 5], [5]]], 1.0),
    ([([[3, 2]], [3]), ([[4, 5], 5], [5])], 1.0),
    ([[[[9]], [9]], [[[1]], []]], 0.0),  # right, but tells no mutant
    ([[[[3, 2]], [3]], [[[4, 5], 5], [4, 5]]], 0.0),  # one is wrong
    ([], 0.0),
    ([[[[index, 3, 2]], [3]] for index in range(-6, 1)], 0.0),  # seven
    ([[[3, 2], [3]]], 0.0),
    ([[[[3, 2]]]], 0.0),
    ("[[[[3, 2]], [3]]]", 0.0),
    (None, 0.0),
]


async def test_written_tests_pass_on_the_reference_and_fail_every_mutant(sandbox: Sandbox) -> None:
    session = small_session(sandbox)
    assert WRONG_LEAST in session.repository.mutants_of("pick_reed")
    for result, score in WRITTEN:
        assert (result, await session.score(Ended(str(Goal("test", "pick_reed")), result))) == (result, score)


async def test_a_root_that_is_asked_for_tests_must_return_them(sandbox: Sandbox) -> None:
    session = small_session(sandbox)
    await session.write_patch("sum_salt", TOTAL, ctx=caller())
    await session.write_patch("pick_reed", LEAST, ctx=caller())
    goal = str(Goal("repair", "sum_salt"))
    assert await session.score(Ended(goal, [[[[1, 2]], 3]])) == 1.0
    assert await session.score(Ended(goal, "all tests pass")) == 0.0


async def test_who_did_not_finish_scores_nothing_and_who_was_stopped_is_not_scored(sandbox: Sandbox) -> None:
    session = small_session(sandbox)
    await session.write_patch("sum_salt", TOTAL, ctx=caller())
    await session.write_patch("pick_reed", LEAST, ctx=caller())
    for goal in (Goal("mend", "sum_salt"), Goal("repair"), Goal("find", test="sum_salt")):
        ends = (Status.FINISHED, Status.STEP_LIMIT, Status.TREE_BUDGET, Status.INFRA_ERROR)
        scores = [await session.score(Ended(str(goal), ["sum_salt"], status=status)) for status in ends]
        assert scores == [1.0, 0.0, 0.0, None]


@pytest.mark.parametrize("goal", ["mend sum_salt", "Mend sum_salt.", "Fix sum_salt", "Mend fold_clay", ""])
async def test_goals_outside_the_grammar_or_the_repository_score_nothing(goal: str) -> None:
    session = small_session()
    await session.write_patch("sum_salt", TOTAL, ctx=caller())
    assert await session.score(Ended(goal)) == 0.0
    assert session.unparsed == {"0"}


async def test_a_sandbox_that_cannot_start_is_an_error_and_no_score(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed:
        async def __aenter__(self) -> Any:
            raise SandboxError("no kernel")

        async def __aexit__(self, *exc: object) -> None: ...

    monkeypatch.setattr(Workshop, "_fresh", lambda self: Closed())
    session = small_session()
    await session.write_patch("sum_salt", TOTAL, ctx=caller())
    with pytest.raises(SandboxError, match="no kernel"):
        await session.score(Ended("Mend sum_salt"))


async def test_the_sandbox_runs_every_function_of_the_library_as_the_host_does() -> None:
    rng = random.Random(1)
    jobs, expected = [], []
    for family in families():
        if family.holes:
            continue
        source = fill(family.source, {"NAME": "try_it"})
        calls = [draw_arguments(rng, family.parameters) for _ in range(3)]
        program = Program({"try_it": source})
        expected.append([program.outcome("try_it", call) for call in calls])
        jobs.append(Job({"try_it": source}, "try_it", calls))
    outcomes = await Workshop().run(jobs)
    assert [[one.form for one in row] for row in outcomes] == expected
