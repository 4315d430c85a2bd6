"""Rate limits: one gate for all calls, waits that are honoured, no storm, no blame for the URL."""

import random
import time
from itertools import pairwise
from typing import Any

import anyio
import pytest
import trio
import trio.testing

from recursive_agent.errors import EndpointUnavailable
from recursive_agent.model import Retries, Throttled, Waiting
from recursive_agent.model.gate import Gate, Listeners
from recursive_agent.model.waits import asked_wait, span
from recursive_agent.testing import Answer, Fault, Request

from .conftest import USER, serving

NOW = 1_800_000_000.0


async def ask(model: Any) -> Any:
    conversation = model.conversation()
    conversation.add(USER)
    return await conversation.complete(max_tokens=40)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "1m30s"}, 90),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"x-ratelimit-reset-requests": "6m0s", "x-ratelimit-remaining-requests": "0"}, 360),
        (
            {"x-ratelimit-reset-requests": "6m0s", "x-ratelimit-remaining-requests": "3", "x-ratelimit-reset-tokens": "900ms",
             "x-ratelimit-remaining-tokens": "0"},
            0.9,
        ),
        ({"x-ratelimit-reset": str(int(NOW) + 12)}, 12),
        ({"x-ratelimit-reset": str((int(NOW) + 12) * 1000)}, 12),
        ({"x-ratelimit-reset": "12"}, 12),
        ({"ratelimit-reset": "5"}, 5),
        ({"anthropic-ratelimit-requests-reset": "2027-01-15T08:00:20Z", "anthropic-ratelimit-requests-remaining": "0"}, 20),
        ({"x-ratelimit-reset": "soon"}, 0),
        ({"x-ratelimit-reset": str(int(NOW) - 9)}, 0),
        ({"retry-after": "-1"}, 0),
        ({"retry-after": "nan"}, 0),
        ({"retry-after": "9" * 50}, 0),
        ({}, 0),
    ],
)  # fmt: skip
def test_waits_are_read_from_headers(headers: dict[str, str], seconds: float) -> None:
    assert asked_wait(headers, now=NOW) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("message", "seconds"),
    [
        ("Please try again in 7 s", 7),
        (
            "Rate limit reached for m on tokens per min (TPM): Limit 1000, Used 900, Requested 300. Try again in 7.5s.",
            7.5,
        ),
        ("try again in 1m2s", 62),
        ("Please try again in 6m0s. Visit https://example.com", 360),
        ("Please retry in 34.074824224s.", 34.074824224),
        ("try again in 120ms", 0.12),
        ("Too many requests, please wait 5 seconds before retrying", 5),
        ("Please retry after 2 minutes and 3 seconds", 123),
        ("Requests to the API have exceeded the limit. Please retry after 17 seconds.", 17),
        ("the limit resets in 1h", 3600),
        ("retry-after: 4", 4),
        ("You sent 20 requests in 5 seconds", 0),
        ("Rate limit exceeded", 0),
    ],
)
def test_waits_are_read_from_words(message: str, seconds: float) -> None:
    assert asked_wait({}, {"error": {"message": message}}, message) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("body", "seconds"),
    [
        (
            [{"error": {"details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.5s"}]}}],
            34.5,
        ),
        ({"error": {"metadata": {"headers": {"X-RateLimit-Reset": str((int(NOW) + 8) * 1000)}}}}, 8),
        ({"error": {"retry_after": 3}}, 3),
        ({"estimated_time": 20.0, "error": "Model is loading"}, 20),
        ({"error": {"retry_after": True, "retryDelay": None}}, 0),
        ([[[[[[]]]]]], 0),
    ],
)
def test_waits_are_read_from_bodies(body: Any, seconds: float) -> None:
    assert asked_wait({}, body, now=NOW) == pytest.approx(seconds)


def test_spans_are_read_in_all_their_forms() -> None:
    assert [span(text) for text in ("7", "7.5s", "6m0s", "1h2m3s", "2 days", "x", "7 apples", "")] == [
        7, 7.5, 360, 3723, 172_800, 0, 0, 0,
    ]  # fmt: skip


@pytest.mark.anyio
async def test_a_refusal_holds_all_calls_back_and_lets_a_trickle_through() -> None:
    """200 siblings at a limit of 20 calls each 0.4 s: what is refused stays a small part of what is asked."""
    window: list[float] = []
    refused: list[float] = []

    def script(request: Request) -> Answer:
        now = time.monotonic()
        window[:] = [moment for moment in window if now - moment < 0.4]
        if len(window) >= 20:
            refused.append(now)
            return Fault.http(429, "Rate limit exceeded")
        window.append(now)
        return "done"

    retries = Retries(limit=3, base=0.1, cap=0.5)
    async with serving(script, retries=retries, latency=0.01) as (endpoint, model):
        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                for _ in range(200):
                    group.start_soon(ask, model)
        assert endpoint.ledger.calls == 200
        # Some 180 are the first storm, which was under way already; then each window costs a handful.
        assert len(refused) < 400
        assert model.waiting is None


@pytest.mark.anyio
async def test_while_the_gate_is_closed_nobody_goes_and_then_one_probe() -> None:
    arrived: list[float] = []

    def script(request: Request) -> Answer:
        arrived.append(time.monotonic())
        return Fault.http(429, headers={"Retry-After": "0.5"}) if len(arrived) <= 12 else "done"

    async with serving(script, retries=Retries(base=0.0)) as (_, model):
        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(ask, model)
    gaps = [later - earlier for earlier, later in pairwise(arrived[9:])]
    assert gaps[0] >= 0.45, "ten were under way, then all were told to wait"
    assert gaps[1] >= 0.45, "the eleventh was the only probe"
    assert gaps[2] >= 0.45, "and so was the twelfth"
    assert sum(gaps[3:]) < 2


@pytest.mark.parametrize(
    "fault",
    [
        Fault.http(429),
        Fault.http(529, "Overloaded", type="overloaded_error"),
        Fault.http(503, "The model is overloaded. Please try again later."),
        Fault.http(503, headers={"Retry-After": "0.01"}),
        Fault.http(500, "Server is busy, too many requests"),
    ],
)
@pytest.mark.anyio
async def test_an_endpoint_that_is_too_busy_is_waited_for_longer_than_a_failing_one(fault: Fault) -> None:
    def script(request: Request) -> Answer:
        return fault if request.index < 9 else "at last"

    async with serving(script, retries=Retries(limit=2, base=0.001)) as (_, model):
        completion = await ask(model)
        assert (completion.text, completion.attempts) == ("at last", 10)
        assert completion.usage.unconfirmed == 0


@pytest.mark.anyio
@pytest.mark.parametrize("status", [500, 502, 504])
async def test_a_failing_server_is_given_up_after_a_number_of_attempts(status: int) -> None:
    async with serving(Fault.http(status), retries=Retries(limit=2, base=0.0)) as (endpoint, model):
        with pytest.raises(EndpointUnavailable, match="3 attempts"):
            await ask(model)
        assert len(endpoint.requests) == 3


@pytest.mark.anyio
async def test_patience_ends_and_the_message_speaks_of_the_limit_and_not_of_the_url() -> None:
    fault = Fault.http(429, "Rate limit exceeded: 3 requests a minute")
    async with serving(fault, retries=Retries(base=0.01, patience=0.2)) as (_, model):
        with pytest.raises(EndpointUnavailable) as caught:
            await ask(model)
    said = str(caught.value)
    assert "3 requests a minute" in said
    assert "max_concurrency" in said
    assert "URL" not in said


@pytest.mark.anyio
async def test_no_retries_means_none_at_all() -> None:
    async with serving(Fault.http(429), retries=Retries(limit=0)) as (endpoint, model):
        with pytest.raises(EndpointUnavailable):
            await ask(model)
        assert len(endpoint.requests) == 1


@pytest.mark.anyio
async def test_waits_are_told_and_their_end_too() -> None:
    told: list[Waiting | None] = []

    def script(request: Request) -> Answer:
        return Fault.http(429, "slow down", headers={"Retry-After": "0.2"}) if request.index == 0 else "done"

    async with serving(script, retries=Retries(base=0.0)) as (_, model):
        assert isinstance(model, Throttled)
        assert model.waiting is None
        with model.on_wait(told.append):
            await ask(model)
        await ask(model)
    first, end = told
    assert first is not None
    assert "slow down" in str(first)
    assert 0.1 < first.seconds <= 0.25
    assert first.calls == 1
    assert end is None


@pytest.mark.anyio
async def test_a_call_that_waits_can_be_cancelled_and_the_others_go_on() -> None:
    def script(request: Request) -> Answer:
        return Fault.http(429, headers={"Retry-After": "0.3"}) if request.index == 0 else "done"

    answers: list[str] = []

    async def note(model: Any) -> None:
        answers.append((await ask(model)).text)

    async with serving(script, retries=Retries(base=0.0)) as (_, model):
        async with anyio.create_task_group() as group:
            closed = anyio.Event()
            with model.on_wait(lambda _: closed.set()):
                async with anyio.create_task_group() as first:
                    first.start_soon(ask, model)
                    await closed.wait()
                    for _ in range(4):
                        group.start_soon(note, model)
                    await anyio.wait_all_tasks_blocked()
                    first.cancel_scope.cancel()
        assert answers == ["done"] * 4
        assert model.gate.under_way == 0


@pytest.mark.anyio
async def test_when_all_who_wait_are_cancelled_nobody_waits() -> None:
    told: list[Waiting | None] = []
    fault = Fault.http(429, headers={"Retry-After": "100"})
    async with serving(fault, retries=Retries(base=0.0)) as (_, model):
        closed = anyio.Event()

        def note(waiting: Waiting | None) -> None:
            told.append(waiting)
            closed.set()

        with model.on_wait(note):
            async with anyio.create_task_group() as group:
                group.start_soon(ask, model)
                await closed.wait()
                await anyio.wait_all_tasks_blocked()
                group.cancel_scope.cancel()
        assert model.waiting is None
        assert told[-1] is None


def test_on_a_virtual_clock_recovery_is_additive_and_no_turn_is_lost() -> None:
    """An endpoint that takes 5 calls a second from 60 siblings, for minutes: few are refused, all are answered."""
    rng = random.Random(4)
    retries = Retries(rng=rng)
    taken: list[float] = []
    refused = answered = 0

    async def call(gate: Gate) -> None:
        nonlocal refused, answered
        again = False
        while True:
            entered = await gate.enter(again=again)
            now = trio.current_time()
            recent = [moment for moment in taken if now - moment < 1]
            await trio.sleep(0.2 + rng.random() / 10)
            if len(recent) >= 5:
                refused += 1
                gate.refused(entered, retries.pause, "too many")
                again = True
            else:
                taken.append(now)
                answered += 1
                gate.answered()
                return

    async def agent(gate: Gate) -> None:
        for _ in range(10):
            await call(gate)

    async def main() -> float:
        gate = Gate(Listeners())
        started = trio.current_time()
        async with trio.open_nursery() as nursery:
            for _ in range(60):
                nursery.start_soon(agent, gate)
        assert gate.under_way == 0
        assert gate.waiting is None
        return trio.current_time() - started

    took = trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert answered == 600
    assert refused - 60 < 300, (
        "60 are the first storm; then fewer are refused than answered, though even one at a time is too many"
    )
    assert took < 600, "600 calls at 5 a second take two minutes at best"
