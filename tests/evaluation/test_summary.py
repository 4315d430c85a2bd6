"""The figures that `rao eval` prints."""

import itertools
import json
from collections.abc import Iterator

import pytest

from rao_rl.envs import Task
from rao_rl.envs.textcraft import TextCraft
from rao_rl.evaluation.outcome import Attempt
from rao_rl.evaluation.run import evaluate
from rao_rl.evaluation.statistics import wilson
from rao_rl.evaluation.summary import Summary, overall, report, summarize
from recursive_agent.model import Model, connect
from recursive_agent.model.endpoint import Endpoint
from recursive_agent.testing import Fault, FaultKind, ScriptedEndpoint

_NUMBERS = itertools.count()


def attempt(**settings: object) -> Attempt:
    """An attempt; at a task of its own, unless it is named."""
    given = {
        "task": f"t{next(_NUMBERS)}",
        "level": "easy",
        "mode": "recursive",
        "status": "finished",
        "score": 1.0,
        "agents": 3,
        "depth": 1,
        "steps": 6,
        "completion_tokens": 100,
        "prompt_tokens": 300,
        "seconds": 1.0,
        "concurrent_share": 0.5,
        "launches": 2,
    }
    return Attempt(**{**given, **settings})  # type: ignore[arg-type]


def test_wilsons_interval_of_a_textbook_case() -> None:
    low, high = wilson(8, 10)
    assert low == pytest.approx(0.4902, abs=1e-4)
    assert high == pytest.approx(0.9433, abs=1e-4)


def test_wilsons_interval_stays_inside_and_says_nothing_of_nothing() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(10, 10)[1] == 1.0
    assert wilson(10, 10)[0] < 1.0
    assert wilson(0, 10)[0] == pytest.approx(0.0)


def summary(rows: list[Summary], level: str, mode: str) -> Summary:
    (found,) = [row for row in rows if (row.level, row.mode) == (level, mode)]
    return found


def test_summaries_are_by_level_and_mode() -> None:
    rows = summarize(
        [
            attempt(score=1.0, launches=2, concurrent_share=0.5),
            attempt(score=0.0, launches=6, concurrent_share=1.0),
            attempt(score=None, status="infra_error"),
            attempt(mode="single", score=0.0, launches=0),
            attempt(level="hard", score=0.0),
        ]
    )
    assert [(row.level, row.mode, row.tasks, row.unscored) for row in rows] == [
        ("easy", "recursive", 3, 1),
        ("easy", "single", 1, 0),
        ("hard", "recursive", 1, 0),
    ]
    assert rows[0].success == 0.5
    assert rows[0].endings == {"finished": 2, "infra_error": 1}
    # Launches weigh: (2 * 0.5 + 6 * 1.0 + 2 * 0.5) / 10
    assert (rows[0].launches, rows[0].concurrent_share) == (10, pytest.approx(0.8))
    assert rows[1].concurrent_share is None


PAIRED = [
    # Both modes solve "a" and "b"; "c" is solved by one of them, "d" by none.
    attempt(task="a", mode="single", steps=5, seconds=1.0, completion_tokens=50, depth=0),
    attempt(task="b", mode="single", steps=9, seconds=2.0, completion_tokens=90, depth=0),
    attempt(task="c", mode="single", score=0.0, steps=25, seconds=9.0, completion_tokens=400, depth=0),
    attempt(task="d", mode="single", score=0.0, steps=25, seconds=9.0, completion_tokens=460, depth=0),
    attempt(task="a", steps=6, seconds=0.5, completion_tokens=60, depth=1),
    attempt(task="b", steps=8, seconds=0.7, completion_tokens=80, depth=2),
    attempt(task="c", steps=40, seconds=4.0, completion_tokens=300, depth=6),
    attempt(task="d", score=0.0, steps=90, seconds=8.0, completion_tokens=760, depth=9),
]


def test_modes_are_compared_on_the_tasks_that_both_solve() -> None:
    rows = summarize(PAIRED)
    single, recursive = summary(rows, "easy", "single"), summary(rows, "easy", "recursive")
    assert (single.common, recursive.common) == (2, 2)
    assert (single.common_steps, single.common_seconds, single.common_tokens) == (7.0, 1.5, 70.0)
    assert (recursive.common_steps, recursive.common_seconds, recursive.common_tokens) == (
        7.0,
        pytest.approx(0.6),
        70.0,
    )
    # The means over all tasks are other figures.
    assert (single.steps, recursive.steps) == (16.0, 36.0)


def test_one_mode_alone_is_described_on_the_tasks_it_solves() -> None:
    (row,) = summarize([item for item in PAIRED if item.mode == "recursive"])
    assert (row.common, row.common_steps) == (3, 18.0)


def test_depth_is_of_solved_trees_and_tokens_are_of_all() -> None:
    row = summary(summarize(PAIRED), "easy", "recursive")
    assert (row.solved, row.solved_depth_low, row.solved_depth_high, row.solved_depth) == (3, 1, 6, 3.0)
    assert (row.total_completion_tokens, row.tokens_per_solved) == (1200, 400.0)


def test_what_no_attempt_tells_is_none() -> None:
    (row,) = summarize([attempt(score=0.0, mode="single", launches=0)])
    assert (row.solved, row.solved_depth, row.solved_depth_low, row.tokens_per_solved) == (0, None, None, None)
    assert (row.common, row.common_steps, row.common_seconds) == (0, None, None)
    (lost,) = summarize([attempt(score=None, status="infra_error")])
    assert (lost.success, lost.low, lost.high) == (None, 0.0, 1.0)
    assert summarize([]) == []


def test_overall_every_task_weighs_the_same() -> None:
    rows = overall([attempt(task="a"), attempt(task="b", level="hard", score=0.0, steps=12)])
    assert [(row.level, row.tasks, row.success, row.steps) for row in rows] == [("all", 2, 0.5, 9.0)]


def test_the_report_is_json_and_holds_everything() -> None:
    told = json.loads(json.dumps(report(PAIRED, model="m", seed=3)))
    assert (told["model"], told["seed"], len(told["attempts"])) == ("m", 3, 8)
    assert [Attempt(**row) for row in told["attempts"]] == PAIRED
    assert [row["common"] for row in told["summary"]] == [2, 2]


@pytest.fixture
def endpoint() -> Iterator[ScriptedEndpoint]:
    with ScriptedEndpoint("```python\nfinish('nothing')\n```") as endpoint:
        yield endpoint


def model_at(endpoint: ScriptedEndpoint, **settings: int) -> Model:
    return connect(Endpoint(model="scripted", base_url=endpoint.base_url, api_key="key"), **settings)  # type: ignore[arg-type]


def easy(count: int) -> list[Task]:
    return list(TextCraft().tasks("test", level="easy", limit=count))


@pytest.mark.anyio
async def test_attempts_that_are_done_are_not_made_again_but_lost_ones_are(endpoint: ScriptedEndpoint) -> None:
    tasks = easy(3)
    done = [
        attempt(task=tasks[0].id, steps=77),
        attempt(task=tasks[1].id, status="infra_error", score=None),
        attempt(task=tasks[2].id, mode="single", steps=88),
    ]
    noted: list[Attempt] = []
    model = model_at(endpoint)
    made = await evaluate(TextCraft(), tasks, model, done=done, on_attempt=noted.append)
    await model.aclose()
    assert [item.task for item in made] == [task.id for task in tasks]
    assert made[0] is done[0]
    assert sorted(item.task for item in noted) == sorted([tasks[1].id, tasks[2].id])
    assert len(endpoint.ledger.entries) == 2
    assert [item.score for item in made] == [1.0, 0.0, 0.0]


@pytest.mark.anyio
async def test_every_task_is_sampled_with_a_seed_of_its_own(endpoint: ScriptedEndpoint) -> None:
    """One for all would make every tree draw the same numbers at the same place: attempts would fail together."""
    model = model_at(endpoint)
    for _ in range(2):
        await evaluate(TextCraft(), easy(4), model, seed=1)
    await model.aclose()
    seeds = [request.seed for request in sorted(endpoint.requests, key=lambda request: request.first)]
    assert seeds[::2] == seeds[1::2]
    assert len(set(seeds)) == 4


@pytest.mark.anyio
async def test_a_failing_endpoint_costs_the_attempt_its_score_and_not_the_policy() -> None:
    tasks = easy(2)
    with ScriptedEndpoint(
        lambda request: (
            Fault(FaultKind.STATUS, status=500)
            if tasks[0].goal in request.first
            else "```python\nfinish('nothing')\n```"
        )
    ) as endpoint:
        model = model_at(endpoint, max_retries=0)
        made = await evaluate(TextCraft(), tasks, model)
        await model.aclose()
    assert [(item.status, item.score, item.lost) for item in made] == [
        ("infra_error", None, True),
        ("finished", 0.0, False),
    ]
