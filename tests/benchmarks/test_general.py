"""The general tasks: every reference solution passes, wrong answers do not, results are counted and compared rightly."""

from __future__ import annotations

import json
from argparse import Namespace
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.general.__main__ import main, parser, run_suite
from benchmarks.general.case import KINDS, Case, matches
from benchmarks.general.environment import General
from benchmarks.general.report import by_task, comparison, delegations, read, table
from rao_rl.evaluation.outcome import Attempt
from recursive_agent.model import connect, resolve_endpoint
from recursive_agent.testing import Request, ScriptedEndpoint

pytestmark = pytest.mark.anyio

GENERAL = General()
CASES = [*GENERAL.cases("dev"), *GENERAL.cases("test")]


def references(request: Request) -> str:
    """What solves the task whose goal opens the conversation; sub-agents give the cell of the task that has one."""
    goal = request.first.removeprefix("Goal: ")
    case = next((case for case in CASES if goal.startswith(case.goal)), None)
    if case is not None:
        return f"```python\n{case.reference[min(request.step, len(case.reference) - 1)]}\n```"
    parents = [case for case in CASES if any(goal.split("\n")[0] in cell for cell in case.reference)]
    return f"```python\n{parents[0].child}\n```"


def arguments(*words: str) -> Namespace:
    return parser().parse_args(["--model", "scripted", *words])


def test_there_are_enough_tasks_of_every_kind() -> None:
    assert len(CASES) >= 60
    assert len(GENERAL.cases("test")) >= 24
    for split in GENERAL.splits:
        assert {case.kind for case in GENERAL.cases(split)[: len(KINDS)]} == set(KINDS)
    assert len({case.goal for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_the_right_answer_passes_and_a_wrong_one_does_not(case: Case) -> None:
    assert case.passes(case.gold, case.launches)
    assert not case.passes(case.wrong, case.launches)
    assert not case.passes(None, case.launches)
    if case.launches:
        assert not case.passes(case.gold, case.launches - 1)


@pytest.mark.parametrize("split", GENERAL.splits)
async def test_the_reference_of_every_task_solves_it(split: str, tmp_path: Path) -> None:
    args = arguments("--split", split, "--out", str(tmp_path / "a.jsonl"), "--concurrency", "4")
    with ScriptedEndpoint(references) as endpoint:
        model = connect(resolve_endpoint("scripted", endpoint.base_url, "key"))
        attempts = await run_suite(model, args)
        asked = len(endpoint.ledger.entries)
        again = await run_suite(model, args)
        await model.aclose()
    assert [attempt.task for attempt in attempts if not attempt.solved] == []
    assert again == attempts
    assert len(endpoint.ledger.entries) == asked
    assert by_task(read(tmp_path / "a.jsonl")) == by_task(attempts)


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        (5, [5, 5.0, "5", " 5 "], [6, True, None, "five", [5]]),
        (3665, ["3,665"], ["3.665"]),
        (True, [True], [1, "True"]),
        ("Mira Stell", ["mira stell.", "'Mira  Stell'"], ["Mira", 5, None]),
        ([1, 2], [[1, 2], [1.0, "2"]], [[2, 1], [1], "12", None]),
        ({"a": 1}, [{"a": 1}], [{"a": 2}, {}, {"a": 1, "b": 2}, [1]]),
    ],
)
def test_what_counts_as_the_same_answer(gold: Any, right: list[Any], wrong: list[Any]) -> None:
    assert all(matches(gold, value) for value in right)
    assert not any(matches(gold, value) for value in wrong)


def attempt(task: str, score: float | None) -> Attempt:
    return Attempt(
        task=task, level="lists", mode="recursive", status="finished", score=score, agents=1, depth=0, steps=2,
        completion_tokens=10, prompt_tokens=100, seconds=1.0, concurrent_share=0.0, launches=0,
    )  # fmt: skip


def test_launches_are_counted_where_they_were_asked_for() -> None:
    attempts = [replace(attempt(f"delegation/a@{n}", 1), launches=n) for n in range(4)]
    text = delegations([*attempts, attempt("lists/b@0", 1)], {"delegation/a": 2, "lists/b": 0})
    assert text.endswith("2 of 4 attempts")


def test_two_results_are_paired_by_task() -> None:
    before = [attempt("lists/a@0", 0), attempt("lists/a@1", 1), attempt("lists/b@0", 1), attempt("lists/c@0", 0)]
    after = [attempt("lists/a@0", 1), attempt("lists/a@1", 1), attempt("lists/b@0", 1), attempt("lists/d@0", 1)]
    text = comparison(before, after)
    assert "3 attempts at 2 tasks: 0.750 -> 1.000" in text
    assert "change +0.250 (95 %: -0.600 to +0.850), p = 1.0000" in text
    assert "better on 1 tasks, worse on 0: p = 1.0000" in text


def test_the_table_counts_tasks_and_leaves_out_what_was_lost() -> None:
    rows = table([attempt("lists/a@0", 1), attempt("lists/b@0", 0), attempt("lists/c@0", None)]).splitlines()
    assert rows[-1].split()[:4] == ["all", "3", "0.50", "0.09-0.91"]


def test_the_command_compares_two_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, score in (("a", 0), ("b", 1)):
        rows = [json.dumps({"about": {}}), json.dumps(asdict(attempt("lists/a@0", score)))]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(rows) + "\n")
    assert main(["--compare", str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")]) == 0
    assert "0.000 -> 1.000" in capsys.readouterr().out
