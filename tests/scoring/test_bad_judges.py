"""Judges that answer badly, refuse or are slow, over real HTTP: a retry, or no score with a count and a reason, and never 0."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import anyio
import pytest

from rao_rl.errors import JudgeFailed
from rao_rl.rollouts.failures import is_recorded
from rao_rl.scoring.attempts import AttemptJudge, Question
from rao_rl.scoring.calibration import Agreement, Calibration
from recursive_agent import Agent
from recursive_agent.errors import AuthenticationFailed, EndpointUnavailable, ModelNotFound
from recursive_agent.status import Status
from recursive_agent.testing import Answer, Fault, FaultKind, Reply, Request, ScriptedEndpoint, replies
from recursive_agent.trace.folder import trace_files
from recursive_agent.trace.schema import Scored
from recursive_agent.trace.tree import ExecutionTree, Node

from ..data.trees import leaf, tree
from .test_judge import FAIL, KEY, PASS, judging

anyio_test = pytest.mark.anyio


class Mute:
    """A session that knows no score."""

    tools = ()

    async def score(self, node: Node) -> float | None:
        return None


class Verified:
    """A session that knows every score, and who must not be trained."""

    tools = ()
    scores: ClassVar = {"0": 1.0, "0.0": 0.0, "0.1": 1.0, "0.2": 0.0, "0.1.0": 0.5}

    async def score(self, node: Node) -> float | None:
        return self.scores[node.id]

    def trainable(self, node: Node) -> bool:
        return node.id != "0.1"


def attempt() -> Node:
    return tree(
        {"id": "0", "goal": "whole"},
        {"id": "0.0", "goal": "first"},
        {"id": "0.1", "goal": "second"},
        {"id": "0.2", "goal": "late", "status": Status.STEP_LIMIT},
        {"id": "0.1.0", "goal": "third"},
    ).root


@anyio_test
@pytest.mark.parametrize(
    "answer",
    [
        "",
        "banana banana",
        PASS[:-9],
        '{"reason": "fine", "success": 7}',
        '{"reason": "fine", "success": -1}',
        '{"reason": "fine", "success": "one"}',
        '{"reason": "fine", "success": "about nine out of ten"}',
        '{"score": 0.9}',
        "[1, 2, 3]",
        f"{PASS}\n{FAIL}",
        Reply(None),
        Reply(PASS[:20], finish_reason="length"),
        Fault(FaultKind.NULL_CONTENT),
    ],
    ids=repr,
)
async def test_an_answer_that_is_no_verdict_is_asked_for_once_more(answer: Answer) -> None:
    """A second answer is taken; two such answers are no score."""
    async with judging(replies([answer, PASS])) as (endpoint, judge):
        assert (await judge.assess(leaf())).score == 1.0
        assert len(endpoint.requests) == 2
        assert not judge.failures
    async with judging(answer) as (endpoint, judge):
        event = await judge.assess(leaf())
        assert (event.score, event.status) == (None, "judge_error")
        assert judge.failures == Counter(no_verdict=1)
        assert len(endpoint.requests) == 2


@anyio_test
@pytest.mark.parametrize(("written", "score"), [("1", 1.0), ("1.0", 1.0), ("0", 0.0), ("0.0", 0.0)])
async def test_a_verdict_may_be_a_number(written: str, score: float) -> None:
    async with judging(f'{{"reason": "", "success": {written}}}') as (endpoint, judge):
        assert await judge(leaf()) == score
        assert len(endpoint.requests) == 1


@anyio_test
@pytest.mark.parametrize("status", [429, 500, 503])
async def test_an_endpoint_that_is_busy_or_broken_for_a_moment_is_asked_again(status: int) -> None:
    async with judging(replies([Fault.http(status), FAIL])) as (endpoint, judge):
        assert await judge(leaf()) == 0.0
        assert len(endpoint.requests) == 2
        assert not judge.failures


@anyio_test
@pytest.mark.parametrize("hanging", [Fault(FaultKind.HANG), Reply(PASS, delay=60.0)], ids=["hang", "slow"])
async def test_a_judge_that_is_slow_costs_the_one_agent_its_score(hanging: Answer) -> None:
    def script(request: Request) -> Answer:
        return hanging if "slow goal" in request.text("user") else PASS

    async with judging(script, timeout=0.3) as (_, judge):
        event = await judge.assess(leaf(goal="slow goal"))
        judge.timeout = 60.0
        assert (event.score, event.status) == (None, "judge_error")
        assert event.source == "JudgeTooSlow: scripted gave no verdict within 0.3 seconds"
        assert await judge(leaf(goal="another")) == 1.0
        assert judge.failures == Counter(too_slow=1)


@anyio_test
@pytest.mark.parametrize(
    ("script", "settings", "kind", "reason"),
    [
        (PASS, {"api_key": "another"}, AuthenticationFailed, "refused"),
        (PASS, {"model": "unknown"}, ModelNotFound, "refused"),
        (Fault.http(500), {}, EndpointUnavailable, "unavailable"),
    ],
    ids=["key", "model", "down"],
)
async def test_a_judge_that_fails_every_call_ends_the_work_by_name_and_is_not_asked_again(
    script: Answer, settings: dict[str, Any], kind: type[Exception], reason: str
) -> None:
    async with judging(script, **settings) as (endpoint, judge):
        asked = AttemptJudge(judge, secrets=[KEY])
        events = await scores(asked, Mute())
        finished = [event for name, event in events.items() if name != "0.2"]
        assert {(event.score, event.status) for event in finished} == {(None, "judge_error")}
        assert events["0.2"].score == 0.0, "it did not finish, which needs no judge"
        assert set(judge.failures) == {reason}
        asked_before = len(endpoint.requests)
        with pytest.raises(kind, match=r"the judge .* cannot be asked") as failed:
            asked.check()
        assert KEY not in str(failed.value)
        assert not any(KEY in event.source for event in events.values())
        await scores(asked, Mute())
        assert len(endpoint.requests) == asked_before


@anyio_test
async def test_a_judge_that_answered_once_and_then_speaks_nonsense_ends_the_work_after_so_many_verdicts() -> None:
    async with judging(replies([PASS], then="banana")) as (_, judge):
        asked = AttemptJudge(judge, max_failures=3)
        assert (await asked.judged(leaf(goal="0"), unknown(), Question())).score == 1.0
        for number in range(1, 4):
            asked.check()
            await asked.judged(leaf(goal=str(number)), unknown(), Question())
        with pytest.raises(
            JudgeFailed, match=r"3 verdicts in a row of the judge scripted failed \(in all: 3 no verdict\)"
        ):
            asked.check()


@anyio_test
async def test_failures_that_are_not_in_a_row_end_nothing() -> None:
    def script(request: Request) -> Answer:
        return PASS if request.text("user").split("\n")[1] in ("| 2", "| 5") else "banana"

    async with judging(script) as (_, judge):
        asked = AttemptJudge(judge, max_failures=3)
        for number in range(6):
            await asked.judged(leaf(goal=str(number)), unknown(), Question())
        asked.check()
        assert judge.failures == Counter(no_verdict=4)


@anyio_test
async def test_calibration_judges_what_is_known_and_changes_no_score() -> None:
    def script(request: Request) -> Answer:
        return {"| whole": PASS, "| first": PASS, "| second": FAIL, "| third": "?"}[request.text("user").split("\n")[1]]

    async with judging(script) as (_, judge):
        calibration = Calibration()
        events = await scores(AttemptJudge(judge, calibration=calibration), Verified())
    assert {name: event.score for name, event in events.items()} == Verified.scores
    assert {name for name, event in events.items() if not event.trainable} == {"0.1"}, "a role that is never trained"
    assert calibration.roots == Agreement(both=1)
    assert calibration.depths == {
        0: Agreement(both=1),
        1: Agreement(judge_only=1, verifier_only=1),
        2: Agreement(unjudged=1),
    }
    assert calibration.sub_agents == Agreement(judge_only=1, verifier_only=1, unjudged=1)
    assert calibration.all.accuracy == pytest.approx(1 / 3)


@anyio_test
async def test_a_session_whose_verifier_hangs_has_its_own_time_and_what_it_said_counts() -> None:
    class Hangs(Mute):
        async def score(self, node: Node) -> float | None:
            if node.id == "0.1":
                await anyio.sleep_forever()
            return 0.25

    async with judging(PASS) as (endpoint, judge):
        scorer = AttemptJudge(judge).scorer(Hangs(), timeout=0.05)
        events = {node.id: await scorer(node) for node in attempt().walk()}
    assert endpoint.requests == []
    assert [events[name].score for name in ("0", "0.0")] == [0.25, 0.25]
    assert {events[name].status for name in ("0.1", "0.1.0", "0.2")} == {"judge_error"}
    assert "the time of the run was used up" in events["0.1"].source


def unknown() -> Scored:
    return Scored(time=0.0, node="0", score=None, status="unknown")


async def scores(judge: AttemptJudge, session: Any) -> dict[str, Scored]:
    score = judge.scorer(session)
    return {node.id: await score(node) for node in attempt().walk()}


@anyio_test
async def test_a_run_that_is_stopped_while_it_is_judged_has_no_score_and_is_not_taken_for_recorded(
    tmp_path: Path,
) -> None:
    asked = threading.Event()

    def script(request: Request) -> Answer:
        asked.set()
        return Fault(FaultKind.HANG)

    async with judging(script) as (_, judge), ScriptedEndpoint("```python\nfinish(1)\n```") as endpoint:
        agent = Agent(model="scripted", base_url=endpoint.base_url, trace_dir=tmp_path)
        async with anyio.create_task_group() as group:

            async def solve() -> None:
                await agent.solve("one", score=AttemptJudge(judge).scorer(Mute()))

            group.start_soon(solve)
            await anyio.to_thread.run_sync(asked.wait, 30.0)
            group.cancel_scope.cancel()
    (path,) = trace_files(tmp_path)
    stopped = ExecutionTree.load(path)
    assert {node.score_status for node in stopped.walk()} == {"judge_error"}
    assert not is_recorded(stopped)
