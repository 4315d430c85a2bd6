"""A model at several endpoints: where calls go, and what becomes of them where an endpoint dies."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
import anyio.to_thread
import pytest

from recursive_agent import PoolModel
from recursive_agent.errors import (
    AuthenticationFailed,
    BadRequest,
    ConfigurationError,
    ContextOverflow,
    EndpointUnavailable,
)
from recursive_agent.model import Completion, Conversation, Message, Retries, connect, resolve_endpoints
from recursive_agent.model.chat import ChatModel
from recursive_agent.model.endpoint import Endpoint
from recursive_agent.model.failures import Failure, TooSlow, Unreachable
from recursive_agent.model.pool import tokens_pool
from recursive_agent.model.providers import Session, session_of
from recursive_agent.model.replicas import Replicas, opening_of
from recursive_agent.model.tokens import TokensModel
from recursive_agent.testing import Answer, Fault, Reply, Request, ScriptedEndpoint
from tests.waiting import PATIENCE, until

from .conftest import KEY, NO_WAIT

pytestmark = pytest.mark.anyio

HELLO: Callable[[Request], Answer] = lambda request: f"answer {request.index}"  # noqa: E731


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Pool:
    """Scripted endpoints, and the model that is at all of them."""

    def __init__(self, endpoints: Sequence[ScriptedEndpoint], interface: str, retries: Retries) -> None:
        self.endpoints = list(endpoints)
        self.clock = Clock()
        at = resolve_endpoints("scripted", [endpoint.base_url for endpoint in endpoints], KEY)
        self.model: PoolModel[Any]
        if interface == "tokens":
            exact = [TokensModel(endpoint, retries=retries) for endpoint in at]
            self.model = tokens_pool(exact, replicas=Replicas(exact, clock=self.clock))
        else:
            models = [ChatModel(endpoint, retries=retries) for endpoint in at]
            self.model = PoolModel(models, replicas=Replicas(models, clock=self.clock))

    @property
    def counts(self) -> list[int]:
        return [len(endpoint.requests) for endpoint in self.endpoints]

    def begin(self, goal: str) -> Conversation:
        conversation = self.model.conversation()
        conversation.add(Message("system", "What all agents of a run are told."), Message("user", goal))
        return conversation

    def at(self, completion: Completion) -> ScriptedEndpoint:
        """The endpoint that answered."""
        (found,) = [endpoint for endpoint in self.endpoints if endpoint.base_url == completion.endpoint]
        return found

    def other(self, endpoint: ScriptedEndpoint) -> ScriptedEndpoint:
        (found,) = [each for each in self.endpoints if each is not endpoint]
        return found


@asynccontextmanager
async def pooled(
    *scripts: Any, interface: str = "chat", retries: Retries = NO_WAIT, **server: Any
) -> AsyncIterator[Pool]:
    async with AsyncExitStack() as stack:
        endpoints = [await stack.enter_async_context(ScriptedEndpoint(script, **server)) for script in scripts]
        pool = Pool(endpoints, interface, retries)
        stack.push_async_callback(pool.model.aclose)
        yield pool


async def kill(endpoint: ScriptedEndpoint) -> None:
    await anyio.to_thread.run_sync(endpoint.stop)


async def say(conversation: Conversation) -> Completion:
    completion = await conversation.complete(max_tokens=20)
    conversation.add(Message("user", "go on"))
    return completion


# -- the rule, by numbers -----------------------------------------------------------------------------------------------


def replicas(count: int, **settings: Any) -> Replicas[ChatModel]:
    return Replicas([ChatModel(Endpoint("m", f"http://{n}.test/v1", "none")) for n in range(count)], **settings)


def test_a_goal_always_goes_to_the_same_replica_and_goals_are_spread_evenly() -> None:
    one, two = replicas(4), replicas(4)
    places = [one.all.index(one.place(f"goal {number}")) for number in range(400)]
    assert places == [two.all.index(two.place(f"goal {number}")) for number in range(400)]
    assert all(70 <= places.count(replica) <= 130 for replica in range(4))


def test_only_the_goals_of_a_lost_replica_move() -> None:
    all_four, three = replicas(4), replicas(4)
    three.failed(three.all[2], Unreachable("gone"))
    for number in range(100):
        before = all_four.all.index(all_four.place(f"goal {number}"))
        after = three.all.index(three.place(f"goal {number}"))
        assert after != 2
        assert after == before or before == 2


def test_a_replica_with_more_than_its_share_of_calls_in_flight_takes_no_new_conversation() -> None:
    # Of two: it takes conversations while n ≤ 1.25 × (n + m) / 2 + 4, which with m = 0 holds up to n = 10.
    pair = replicas(2)
    placed = []
    for number in range(40):
        replica = pair.place("the same goal")
        replica.calls.add(number)
        placed.append(pair.all.index(replica))
    first = placed[0]
    assert placed[:11] == [first] * 11
    assert placed[11] == 1 - first
    # 25 ≤ 1.25 × 39 / 2 + 4 = 28.4: by then the first has what the rule allows, and both have work.
    assert placed.count(first) in range(24, 30)


def test_goals_that_begin_alike_go_together_and_what_all_agents_are_told_does_not_count() -> None:
    system = Message("system", "the same for all")
    long = "Read this: " + "word " * 100
    assert opening_of([system, Message("user", long + "a")]) == opening_of([system, Message("user", long + "b")])
    assert opening_of([system, Message("user", "one")]) != opening_of([system, Message("user", "two")])


def test_it_is_put_aside_when_it_cannot_be_reached_or_after_three_failures_in_a_row() -> None:
    clock = Clock()
    pair = replicas(2, clock=clock)
    first, second = pair.all
    for failure in (Failure("HTTP 500"), Failure("HTTP 500")):
        pair.failed(first, failure)
    pair.answered(first)
    for _ in range(2):
        pair.failed(first, Failure("HTTP 500"))
    pair.failed(first, Failure("a bad request", retryable=False))
    assert first.in_use
    pair.failed(first, Failure("HTTP 500"))
    assert not first.in_use
    pair.failed(second, Unreachable("connection refused"))
    assert not second.in_use


def test_the_pauses_until_it_is_asked_again_double_up_to_a_minute() -> None:
    clock = Clock()
    pair = replicas(2, clock=clock)
    replica = pair.all[0]
    pauses = []
    for _ in range(8):
        for _ in range(5):  # all that were in flight fail at once, which is one absence
            pair.failed(replica, Unreachable("gone"))
        assert replica.due is not None
        pauses.append(replica.due - clock.now)
        clock.now = replica.due
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]


def test_endpoints_are_named_once_each_and_there_are_several() -> None:
    with pytest.raises(ConfigurationError, match="same endpoint twice"):
        connect(resolve_endpoints("m", "http://a/v1,http://a/v1/"))
    assert [e.base_url for e in resolve_endpoints("m", "http://a/v1, http://b/v1")] == ["http://a/v1", "http://b/v1"]
    assert [e.base_url for e in resolve_endpoints("m", ["http://a/v1?x=1,2"])] == ["http://a/v1?x=1,2"]
    with pytest.raises(ConfigurationError, match=r"must be an http:// or https:// URL .*not 'b:8001/v1'"):
        resolve_endpoints("m", "http://a/v1,b:8001/v1")


# -- over HTTP ----------------------------------------------------------------------------------------------------------


async def test_all_turns_of_a_conversation_go_to_one_endpoint_and_conversations_are_spread(interface: str) -> None:
    async with pooled(HELLO, HELLO, interface=interface) as pool:
        used = set()
        for number in range(12):
            conversation = pool.begin(f"goal {number}")
            answered = {pool.at(await say(conversation)).base_url for _ in range(3)}
            assert len(answered) == 1
            used |= answered
        assert len(used) == 2
        twice = [pool.at(await say(pool.begin("goal 3"))) for _ in range(2)]
        assert twice[0] is twice[1]


async def test_an_endpoint_that_dies_costs_its_calls_in_flight_and_its_conversations_move(interface: str) -> None:
    async def held(request: Request) -> Answer:
        if request.step == 1:
            await until(released.is_set)
        return "answer"

    released = anyio.Event()
    async with pooled(held, held, interface=interface) as pool:
        conversations = [pool.begin(f"goal {number}") for number in range(8)]
        first = [await say(conversation) for conversation in conversations]
        victim = pool.at(first[0])
        answers: list[Completion] = []
        lost: list[int] = []

        async def lose(tokens: int) -> None:
            lost.append(tokens)

        async def go_on(conversation: Conversation) -> None:
            answers.append(await conversation.complete(max_tokens=20, on_lost=lose))

        async with anyio.create_task_group() as group:
            for conversation in conversations:
                group.start_soon(go_on, conversation)
            await until(lambda: sum(pool.counts) == 16)
            await kill(victim)
            released.set()
        assert len(answers) == 8
        mine = [completion for completion in first if pool.at(completion) is victim]
        assert {completion.endpoint for completion in answers} == {pool.other(victim).base_url}
        # What was billed and answered is counted; what the dead one may have billed is bounded, and told while it happens.
        billed = sum(endpoint.ledger.total_tokens for endpoint in pool.endpoints)
        assert sum(completion.usage.total_tokens for completion in [*first, *answers]) == billed
        unconfirmed = sum(completion.usage.unconfirmed for completion in answers)
        assert sum(lost) == unconfirmed >= victim.ledger.lost_tokens > 0
        assert len(lost) == len(mine)


async def test_a_conversation_that_moves_goes_on_with_the_ids_that_were_sampled() -> None:
    odd = Reply(token_ids=list(b"as no tokenizer spells it"))
    async with pooled(lambda _: odd, lambda _: odd, interface="tokens") as pool:
        conversation = pool.begin("goal")
        before = await say(conversation)
        await kill(pool.at(before))
        after = await say(conversation)
        assert after.endpoint != before.endpoint
        sampled = (*(before.prompt_token_ids or ()), *(before.token_ids or ()))
        assert tuple(after.prompt_token_ids or ())[: len(sampled)] == sampled
        assert pool.at(after).requests[0].prompt_token_ids == after.prompt_token_ids


async def test_an_endpoint_that_comes_back_is_used_again(interface: str) -> None:
    async with pooled(HELLO, HELLO, interface=interface) as pool:
        first = await say(pool.begin("goal"))
        victim = pool.at(first)
        await kill(victim)
        assert pool.at(await say(pool.begin("goal"))) is pool.other(victim)
        pool.clock.now += 1.0  # it is asked, and is not there
        assert pool.at(await say(pool.begin("goal"))) is pool.other(victim)
        victim.start()
        pool.clock.now += 1.9  # not asked yet
        assert pool.at(await say(pool.begin("goal"))) is pool.other(victim)
        pool.clock.now += 0.1
        assert pool.at(await say(pool.begin("goal"))) is victim
        assert victim.ledger.lost_tokens == 0


async def test_a_failed_attempt_is_made_again_elsewhere_and_the_conversation_stays(interface: str) -> None:
    failing = itertools.count()

    def script(request: Request) -> Answer:
        return Fault.http(500) if request.step == 1 and next(failing) == 0 else "answer"

    async with pooled(script, script, interface=interface) as pool:
        conversation = pool.begin("goal")
        answers = [await say(conversation) for _ in range(3)]
        home, other = pool.at(answers[0]), pool.other(pool.at(answers[0]))
        assert [pool.at(completion) for completion in answers] == [home, other, home]
        assert [completion.attempts for completion in answers] == [1, 2, 1]


async def test_endpoints_that_fail_every_call_are_left_alone() -> None:
    async with pooled(lambda _: Fault.http(500), HELLO) as pool:
        for number in range(30):
            await say(pool.begin(f"goal {number}"))
        assert pool.counts == [3, 30]


async def test_a_rate_limit_of_one_endpoint_slows_that_one_only(interface: str) -> None:
    refusals = itertools.count()

    def script(request: Request) -> Answer:
        return Fault.http(429) if request.step == 1 and next(refusals) < 2 else "answer"

    async with pooled(script, script, interface=interface) as pool:
        conversation = pool.begin("goal")
        answers = [await say(conversation) for _ in range(3)]
        home = pool.at(answers[0])
        assert {completion.endpoint for completion in answers} == {home.base_url}
        assert answers[1].attempts == 3
        assert pool.other(home).requests == []
        assert answers[1].usage.unconfirmed == 0


async def test_while_one_endpoint_makes_calls_wait_new_conversations_go_to_others() -> None:
    async def script(request: Request) -> Answer:
        return Fault.http(429, headers={"Retry-After": "3600"}) if request.first == "limited" else "answer"

    async with pooled(script, script, retries=Retries(limit=3, base=0.0, retry_after_cap=3600.0)) as pool:
        async with anyio.create_task_group() as group:
            group.start_soon(say, pool.begin("limited"))
            await until(lambda: pool.model.waiting is not None)
            (busy,) = [endpoint for endpoint in pool.endpoints if endpoint.requests]
            for number in range(6):
                assert pool.at(await say(pool.begin(f"goal {number}"))) is pool.other(busy)
            assert "3600 s" in str(pool.model.waiting)
            group.cancel_scope.cancel()


async def test_where_all_are_down_the_error_names_all_of_them(interface: str) -> None:
    async with pooled(HELLO, HELLO, HELLO, interface=interface) as pool:
        conversation = pool.begin("goal")
        await say(conversation)
        for endpoint in pool.endpoints:
            await kill(endpoint)
        with pytest.raises(EndpointUnavailable, match="None of the 3 endpoints of scripted gave a usable") as raised:
            await say(conversation)
        assert all(endpoint.base_url in str(raised.value) for endpoint in pool.endpoints)
        assert raised.value.unconfirmed == 0
        pool.endpoints[1].start()
        assert pool.at(await say(conversation)) is pool.endpoints[1], (
            "which is seen at once, whenever it would be asked"
        )


async def test_a_wrong_key_at_one_endpoint_is_fatal_and_the_error_names_it(interface: str) -> None:
    async with pooled(HELLO, HELLO, interface=interface) as pool:
        pool.endpoints[1].api_key = "another"
        refused = pool.model.replicas.all[1]
        goal = next(f"goal {n}" for n in range(100) if pool.model.replicas.place(f"goal {n}") is refused)
        with pytest.raises(AuthenticationFailed, match="refused the API key") as raised:
            await say(pool.begin(goal))
        assert pool.endpoints[1].base_url in str(raised.value)
        assert raised.value.fatal


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault.http(400, "temperature must be below 1"), BadRequest),
        (
            Fault.http(400, "This model's maximum context length is 10 tokens", code="context_length_exceeded"),
            ContextOverflow,
        ),
    ],
)
async def test_what_is_the_requests_own_fault_is_not_sent_elsewhere(
    fault: Fault, error: type[Exception], interface: str
) -> None:
    async with pooled(lambda _: fault, lambda _: fault, interface=interface) as pool:
        with pytest.raises(error):
            await say(pool.begin("goal"))
        assert sorted(pool.counts)[0] == 0
        assert len(pool.model.replicas.in_use) == 2


async def test_calls_carry_the_version_and_the_name_of_the_endpoint_they_went_to() -> None:
    async with pooled(HELLO, HELLO, interface="tokens", models=("scripted", "adapter-1", "adapter-2")) as pool:
        for number, model in enumerate(pool.model.models, 1):
            model.version, model.name = str(number), f"adapter-{number}"
        for number in range(10):
            completion = await say(pool.begin(f"goal {number}"))
            assert completion.version == str(1 + pool.endpoints.index(pool.at(completion)))
            assert completion.model == f"adapter-{completion.version}"


async def test_the_window_is_the_smallest_and_a_dead_endpoint_does_not_hide_it(interface: str) -> None:
    async with pooled(HELLO, HELLO, HELLO, interface=interface) as pool:
        pool.endpoints[0].max_model_len, pool.endpoints[1].max_model_len = 4000, 2000
        await kill(pool.endpoints[2])
        assert await pool.model.context_length() == 2000


async def test_an_endpoint_that_hangs_is_not_asked_for_its_window_by_every_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("recursive_agent.model.replicas._ASKED", 0.05)
    asked = []

    async def hang() -> int | None:
        asked.append(pool.clock.now)
        await anyio.sleep_forever()
        return None

    async with pooled(HELLO, HELLO, interface="tokens", max_model_len=2000) as pool:
        first, second = pool.model.models
        assert await first.context_length() == 2000  # which it knows from now on
        monkeypatch.setattr(second, "context_length", hang)
        assert [await pool.model.context_length() for _ in range(4)] == [2000] * 4
        pool.clock.now = 60.0
        assert [await pool.model.context_length() for _ in range(4)] == [2000] * 4
        assert asked == [0.0, 60.0]
        # Where nobody says it, it is worth waiting for.
        pool.model.take_out(first, "its push failed")
        pool.clock.now = 120.0
        assert [await pool.model.context_length() for _ in range(2)] == [None, None]
        assert asked == [0.0, 60.0, 120.0, 120.0]


async def test_an_endpoint_that_was_taken_out_gets_no_calls_until_it_is_brought_back() -> None:
    async with pooled(HELLO, HELLO) as pool:
        conversation = pool.begin("goal")
        home = pool.at(await say(conversation))
        model = pool.model.models[pool.endpoints.index(home)]
        pool.model.take_out(model, "it has old weights")
        assert pool.at(await say(conversation)) is pool.other(home)
        pool.model.bring_back(model)
        assert pool.at(await say(conversation)) is pool.other(home), "where its conversation is cached by now"
        assert pool.at(await say(pool.begin("goal"))) is home


async def test_a_cancelled_call_leaves_no_trace_in_the_count_of_calls() -> None:
    async def never(request: Request) -> Answer:
        await anyio.sleep_forever()
        return ""

    async with pooled(never, never) as pool:
        async with anyio.create_task_group() as group:
            group.start_soon(say, pool.begin("goal"))
            await until(lambda: sum(pool.counts) == 1)
            assert sum(len(replica.calls) for replica in pool.model.replicas.all) == 1
            group.cancel_scope.cancel()
        assert not any(replica.calls for replica in pool.model.replicas.all)


# -- the name of the conversation ---------------------------------------------------------------------------------------


async def test_a_load_balancer_is_told_which_calls_belong_together(
    monkeypatch: pytest.MonkeyPatch, interface: Any
) -> None:
    monkeypatch.setenv("RAO_SESSION_HEADER", "X-Session-ID")
    async with ScriptedEndpoint("x") as endpoint:
        model = connect(resolve_endpoints("scripted", endpoint.base_url, KEY), interface=interface)
        conversations = [model.conversation() for _ in range(2)]
        for conversation in conversations:
            conversation.add(Message("user", "a secret goal"))
            for _ in range(2):
                await say(conversation)
        await model.aclose()
        names = [request.headers.get("x-session-id", "") for request in endpoint.requests]
        assert names[0] == names[1] != names[2] == names[3]
        assert all(len(name) == 32 and name.isalnum() for name in names)


async def test_endpoints_that_are_not_known_to_want_it_are_told_nothing(interface: str) -> None:
    async with pooled(HELLO, HELLO, interface=interface) as pool:
        await say(pool.begin("goal"))
        (request,) = [request for endpoint in pool.endpoints for request in endpoint.requests]
        assert not any("session" in name for name in (*request.headers, *request.body))


def test_providers_are_told_in_their_own_way() -> None:
    assert session_of("https://api.openai.com/v1") == Session(field="prompt_cache_key")
    assert session_of("https://api.fireworks.ai/inference/v1") == Session(header="x-session-affinity")
    assert session_of("http://localhost:8000/v1") == Session()
    assert session_of("https://api.openai.com/v1", "X-Session-ID") == Session(header="X-Session-ID")


def test_a_name_that_is_no_header_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAO_SESSION_HEADER", "X: 1\r\nEvil")
    with pytest.raises(ConfigurationError, match="RAO_SESSION_HEADER must be the name of a header"):
        resolve_endpoints("m", "http://a/v1")


# -- what a push of weights needs ---------------------------------------------------------------------------------------


async def test_calls_in_flight_at_an_endpoint_that_is_taken_out_are_made_again_elsewhere(interface: str) -> None:
    async def script(request: Request) -> Answer:
        if out.is_set():
            return "new"
        await anyio.sleep_forever()
        return "old"

    out = anyio.Event()
    async with pooled(script, script, interface=interface) as pool:
        answers: list[Completion] = []

        async def ask() -> None:
            answers.append(await say(pool.begin("goal")))

        async with anyio.create_task_group() as group:
            group.start_soon(ask)
            await until(lambda: sum(pool.counts) == 1)
            (home,) = [endpoint for endpoint in pool.endpoints if endpoint.requests]
            out.set()
            pool.model.take_out(pool.model.models[pool.endpoints.index(home)], "its push failed")
        (answer,) = answers
        assert (answer.text, pool.at(answer), answer.attempts) == ("new", pool.other(home), 2)
        await until(lambda: home.ledger.lost_tokens > 0)  # once it notices that nobody listens any more
        assert answer.usage.unconfirmed >= home.ledger.lost_tokens


@pytest.mark.parametrize("put_aside", [False, True])
async def test_calls_that_wait_for_a_rate_limit_do_not_wait_for_an_endpoint_that_is_gone(put_aside: bool) -> None:
    async def script(request: Request) -> Answer:
        return Fault.http(429, headers={"Retry-After": "3600"})

    async with pooled(script, HELLO, retries=Retries(limit=3, base=0.0, retry_after_cap=3600.0)) as pool:
        model, replica = pool.model, pool.model.replicas.all[0]
        goal = next(f"goal {n}" for n in range(99) if model.replicas.place(f"goal {n}") is replica)
        answers: list[Completion] = []

        async def ask() -> None:
            answers.append(await say(pool.begin(goal)))

        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as group:
                group.start_soon(ask)
                await until(lambda: replica.model.waiting is not None)
                if put_aside:
                    model.replicas.failed(replica, Unreachable("gone"))
                else:
                    model.take_out(replica.model, "its push failed")
        assert [pool.at(answer) for answer in answers] == [pool.endpoints[1]]
        assert model.waiting is None


async def test_while_an_endpoint_is_held_its_conversations_wait_and_those_of_others_go_on() -> None:
    async with pooled(HELLO, HELLO, interface="tokens") as pool:
        replicas = pool.model.replicas
        mine, other = (next(f"goal {n}" for n in range(99) if replicas.place(f"goal {n}") is r) for r in replicas.all)
        async with anyio.create_task_group() as group:
            with pool.model.holding(pool.model.models[0]):
                group.start_soon(say, pool.begin(mine))
                assert pool.at(await say(pool.begin(other))) is pool.endpoints[1]
                await anyio.wait_all_tasks_blocked()
                assert pool.counts == [0, 1]
        assert pool.counts == [1, 1]


async def test_a_call_that_waits_for_its_turn_does_not_go_to_an_endpoint_that_is_gone_meanwhile(interface: str) -> None:
    """It may have been started anew, and then has other weights."""

    async def script(request: Request) -> Answer:
        if "first" in request.first:
            await anyio.sleep_forever()
        return "answer"

    async with pooled(script, script, interface=interface) as pool:
        home = pool.model.replicas.all[0]
        pool.model.replicas.returns = False
        first, second = (
            next(f"{which} {n}" for n in range(99) if pool.model.replicas.place(f"{which} {n}") is home)
            for which in ("first", "second")
        )
        answers: list[Completion] = []

        under_way = anyio.CancelScope()

        async def ask_first() -> None:
            with under_way:
                await say(pool.begin(first))

        async def ask_second() -> None:
            answers.append(await say(pool.begin(second)))

        async with anyio.create_task_group() as group:
            group.start_soon(ask_first)
            await until(lambda: pool.counts == [1, 0])
            home.model.gate.limit = 1.0  # as after a rate limit
            group.start_soon(ask_second)
            await until(lambda: len(home.calls) == 2)
            await anyio.wait_all_tasks_blocked()
            pool.model.replicas.failed(home, Unreachable("gone"))  # so another call finds
            under_way.cancel()
        (answer,) = answers
        assert (pool.at(answer), answer.usage.unconfirmed) == (pool.endpoints[1], 0)
        assert pool.counts == [1, 1]
        assert home.trouble == "gone"


def test_an_answer_that_takes_too_long_is_no_sign_that_an_endpoint_is_gone() -> None:
    pair = replicas(2, returns=False)
    slow = TooSlow("no whole answer within 600 s", lost=True)
    pair.failed(pair.all[0], slow)
    pair.failed(pair.all[0], slow)
    assert pair.all[0].in_use
    pair.failed(pair.all[0], slow)
    assert not pair.all[0].in_use
