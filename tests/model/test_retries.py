"""Failures of the endpoint: what is retried, how long it waits, and what lost answers may have cost."""

import random
import time
from email.utils import formatdate
from typing import Any

import anyio
import pytest

from recursive_agent.errors import EndpointUnavailable, ModelError
from recursive_agent.model import Message, Retries
from recursive_agent.model.retry import retry_after
from recursive_agent.testing import Answer, Fault, FaultKind, Reply, Request, replies
from tests.waiting import PATIENCE, until

from .conftest import KEY, USER, serving

LOST = [FaultKind.DROP, FaultKind.CUT, FaultKind.GARBLED, FaultKind.HTML]


async def ask(model: Any, **arguments: Any) -> Any:
    conversation = model.conversation()
    conversation.add(USER)
    return await conversation.complete(max_tokens=40, **arguments)


@pytest.mark.anyio
@pytest.mark.parametrize("status", [408, 409, 429, 499, 500, 502, 503, 504, 529])
async def test_these_statuses_are_retried_and_cost_nothing(status: int) -> None:
    lost: list[int] = []

    async def on_lost(bound: int) -> None:
        lost.append(bound)

    async with serving(replies([Fault.http(status), Fault.http(status), "there"])) as (endpoint, model):
        completion = await ask(model, on_lost=on_lost)
        assert (completion.text, completion.attempts, completion.usage.calls) == ("there", 3, 1)
        assert completion.usage.unconfirmed == 0
        assert lost == []
        assert completion.usage.total_tokens == endpoint.ledger.total_tokens


@pytest.mark.anyio
@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 413, 422])
async def test_these_statuses_are_not_retried(status: int) -> None:
    async with serving(Fault.http(status)) as (endpoint, model):
        with pytest.raises(ModelError):
            await ask(model)
        assert len(endpoint.requests) == 1


@pytest.mark.anyio
@pytest.mark.parametrize("kind", LOST)
@pytest.mark.parametrize("streamed", [False, True])
async def test_a_lost_answer_is_retried_and_counted_as_unconfirmed(
    kind: FaultKind, streamed: bool, interface: str
) -> None:
    reported: list[int] = []

    async def on_lost(bound: int) -> None:
        reported.append(bound)

    faults = [Fault(kind, reply="a lost answer, long enough to be cut")] * 2
    async with serving(replies([*faults, "there"]), interface=interface) as (endpoint, model):
        conversation = model.conversation()
        conversation.add(USER)
        bound = await conversation.prompt_tokens() + 40
        on_text = (lambda _: None) if streamed else None
        completion = await conversation.complete(max_tokens=40, on_lost=on_lost, on_text=on_text)
        assert (completion.text, completion.attempts) == ("there", 3)
        assert reported == [bound, bound]
        assert completion.usage.unconfirmed == 2 * bound >= endpoint.ledger.lost_tokens
        assert completion.usage.total_tokens == endpoint.ledger.total_tokens


@pytest.mark.anyio
async def test_a_stream_that_ends_before_its_answer_is_a_lost_answer(interface: str) -> None:
    cut = Fault(FaultKind.TRUNCATED, reply="one two three four five six seven")
    async with serving(replies([cut, "whole"]), interface=interface) as (_, model):
        completion = await ask(model, on_text=lambda _: None)
        assert (completion.text, completion.attempts) == ("whole", 2)
        assert completion.usage.unconfirmed > 0


@pytest.mark.anyio
async def test_an_answer_that_takes_too_long_is_a_lost_answer(interface: str) -> None:
    script = replies([Fault(FaultKind.HANG)], then="there")
    patient = Retries(limit=20, base=0.0)  # on a busy machine another answer may take too long as well
    async with serving(script, interface=interface, timeout=0.3, retries=patient) as (endpoint, model):
        completion = await ask(model)
        await until(lambda: endpoint.ledger.running == 0)
        assert completion.text == "there"
        assert completion.attempts >= len(endpoint.requests) >= 2
        assert completion.usage.unconfirmed >= endpoint.ledger.lost_tokens > 0


@pytest.mark.anyio
async def test_a_refused_connection_is_retried_and_cost_nothing() -> None:
    async with serving("x") as (endpoint, model):
        endpoint.stop()
        with pytest.raises(EndpointUnavailable, match="4 attempts") as caught:
            await ask(model)
        assert caught.value.unconfirmed == 0
        assert isinstance(caught.value, ConnectionError)


@pytest.mark.anyio
async def test_a_connection_closed_before_it_was_read_is_retried() -> None:
    async with serving("there") as (endpoint, model):
        endpoint.refuse_connections(2)
        completion = await ask(model)
        assert completion.text == "there"
        assert completion.attempts == 3


@pytest.mark.anyio
async def test_the_error_after_the_last_attempt_carries_what_may_have_been_billed() -> None:
    async with serving(Fault(FaultKind.DROP)) as (endpoint, model):
        conversation = model.conversation()
        conversation.add(USER)
        bound = await conversation.prompt_tokens() + 40
        with pytest.raises(EndpointUnavailable) as caught:
            await conversation.complete(max_tokens=40)
        assert caught.value.unconfirmed == 4 * bound >= endpoint.ledger.lost_tokens
        assert conversation.messages == [USER], "no answer, so none is recorded"


@pytest.mark.anyio
async def test_a_budget_that_allows_no_further_attempt_stops_the_retries() -> None:
    class BudgetUsedUp(Exception):
        pass

    async def on_lost(bound: int) -> None:
        raise BudgetUsedUp

    async with serving(Fault(FaultKind.DROP)) as (endpoint, model):
        with pytest.raises(BudgetUsedUp):
            await ask(model, on_lost=on_lost)
        assert len(endpoint.requests) == 1


@pytest.mark.anyio
@pytest.mark.parametrize("header", ["seconds", "date", "milliseconds"])
async def test_retry_after_is_waited_for(header: str) -> None:
    def script(request: Request) -> Answer:
        if request.index:
            return "there"
        value = {"seconds": "0.4", "date": formatdate(time.time() + 2, usegmt=True), "milliseconds": "400"}[header]
        return Fault.http(429, headers={"Retry-After-Ms" if header == "milliseconds" else "Retry-After": value})

    async with serving(script) as (_, model):
        started = time.perf_counter()
        assert (await ask(model)).text == "there"
        assert time.perf_counter() - started >= 0.4


def test_retry_after_is_read_in_all_its_forms() -> None:
    now = 1_000_000_000.0
    assert retry_after({"retry-after": "7"}) == 7
    assert retry_after({"retry-after": formatdate(now + 30, usegmt=True)}, now=now) == 30
    assert retry_after({"retry-after": formatdate(now - 30, usegmt=True)}, now=now) == 0
    assert retry_after({"retry-after-ms": "250", "retry-after": "9"}) == 0.25
    for nonsense in ("", "soon", "-3", "nan", "inf"):
        assert retry_after({"retry-after": nonsense}) == 0


def test_backoff_grows_is_jittered_over_the_full_range_and_capped() -> None:
    retries = Retries(base=1.0, cap=8.0, retry_after_cap=60.0, rng=random.Random(1))
    for attempt, bound in [(1, 1), (2, 2), (3, 4), (4, 8), (5, 8), (500, 8)]:
        delays = [retries.delay(attempt) for _ in range(300)]
        assert 0 <= min(delays) < 0.1 * bound
        assert 0.9 * bound < max(delays) <= bound
    assert 5 <= retries.delay(1, asked=5.0) <= 6
    assert retries.delay(1, asked=86_400.0) <= 61
    assert Retries(rng=random.Random(3)).delay(4) == Retries(rng=random.Random(3)).delay(4)


@pytest.mark.anyio
@pytest.mark.parametrize("value", [-9999.0, -1e5, 2.0])
async def test_numbers_that_are_no_log_probs_of_sampled_tokens_are_refused_like_nan(value: float) -> None:
    """vLLM writes -9999.0 for minus infinity."""
    odd = Reply("certain", logprobs=[-0.5, *[value] * 30])
    async with serving(replies([odd, "fine"]), interface="tokens") as (_, model):
        completion = await ask(model)
        assert (completion.text, completion.attempts) == ("fine", 2)
    async with serving(odd, interface="tokens") as (endpoint, model):
        with pytest.raises(ModelError, match="log-prob"):
            await ask(model)
        assert len(endpoint.requests) == 2


@pytest.mark.anyio
async def test_log_probs_that_are_no_numbers_are_tried_once_more() -> None:
    nan = Fault(FaultKind.NAN_LOGPROBS, reply="certain")
    async with serving(replies([nan, "fine"]), interface="tokens") as (endpoint, model):
        completion = await ask(model)
        assert (completion.text, completion.attempts) == ("fine", 2)
        assert completion.usage.unconfirmed == endpoint.ledger.lost_tokens, "what it cost is known exactly"
    async with serving(nan, interface="tokens") as (endpoint, model):
        with pytest.raises(ModelError, match="log-prob") as caught:
            await ask(model)
        assert caught.value.unconfirmed == endpoint.ledger.lost_tokens
        assert len(endpoint.requests) == 2


@pytest.mark.anyio
async def test_an_error_in_an_answer_with_status_200_is_retried() -> None:
    body = b'{"error": {"message": "upstream of key %b failed", "code": 502}}' % KEY.encode()

    async with serving("there") as (endpoint, model):
        handle, calls = endpoint._server.handler, []

        async def failing(exchange: Any) -> None:
            calls.append(exchange.path)
            if len(calls) < 3:
                exchange.send(200, body)
            else:
                await handle(exchange)

        endpoint._server.handler = failing
        assert (await ask(model)).attempts == 3
        calls.clear()
        endpoint._server.handler = lambda exchange: _send(exchange, body)
        with pytest.raises(EndpointUnavailable, match="upstream") as caught:
            await ask(model)
        assert KEY not in str(caught.value)


async def _send(exchange: Any, body: bytes) -> None:
    exchange.send(200, body)


@pytest.mark.anyio
async def test_waiting_for_a_retry_can_be_cancelled() -> None:
    waiting = anyio.Event()

    class Told(random.Random):
        """Asked for the length of the wait that begins now."""

        def random(self) -> float:
            waiting.set()
            return 0.5

    told = Retries(base=1.0, rng=Told())
    with anyio.fail_after(PATIENCE):
        async with serving(Fault.http(429, headers={"Retry-After": "100"}), retries=told) as (endpoint, model):
            async with anyio.create_task_group() as group:
                group.start_soon(ask, model)
                await waiting.wait()
                group.cancel_scope.cancel()
            assert len(endpoint.requests) == 1


@pytest.mark.anyio
async def test_a_conversation_goes_on_after_a_failed_call(interface: str) -> None:
    answers = [Fault.http(400), Reply("better")]
    async with serving(replies(answers), interface=interface) as (endpoint, model):
        conversation = model.conversation()
        conversation.add(USER)
        with pytest.raises(ModelError):
            await conversation.complete(max_tokens=10)
        conversation.add(Message("user", "Please."))
        assert (await conversation.complete(max_tokens=10)).text == "better"
        assert [m["content"] for m in endpoint.requests[-1].messages] == ["Say hello.", "Please."]
