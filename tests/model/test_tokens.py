"""The tokens interface: what is trained is what was sampled, so prompts only ever grow."""

import itertools
import json
from typing import Any

import pytest

from recursive_agent.errors import CapabilityMissing, EndpointUnavailable
from recursive_agent.model import Message
from recursive_agent.testing import Reply, Request, ScriptedTokenizer, replies

from .conftest import USER, serving

TOKENIZER = ScriptedTokenizer()


@pytest.mark.anyio
async def test_each_prompt_starts_with_the_previous_one_and_what_was_sampled() -> None:
    spelled = list(b"the end")  # byte by byte, as `encode` would never spell it
    answers = [Reply("plain"), Reply(token_ids=[*spelled, TOKENIZER.end_of_turn]), Reply("x" * 50), Reply("last")]
    async with serving(replies(answers), interface="tokens") as (endpoint, model):
        conversation = model.conversation()
        conversation.add(Message("system", "Work."), USER)
        completions = []
        for step in range(4):
            expected = await conversation.prompt_tokens()
            completion = await conversation.complete(max_tokens=20)
            assert len(completion.prompt_token_ids) == expected == completion.usage.prompt_tokens
            assert len(completion.token_ids) == len(completion.logprobs) == completion.usage.completion_tokens
            completions.append(completion)
            conversation.add(Message("user", f"observation {step} 🌍"))
        for before, after in itertools.pairwise(completions):
            sampled = (*before.prompt_token_ids, *before.token_ids)
            assert after.prompt_token_ids[: len(sampled)] == sampled
        assert completions[1].token_ids == (*spelled, TOKENIZER.end_of_turn)
        assert completions[1].text == "the end"
        assert completions[2].finish_reason == "length"
        assert [request.prompt_token_ids for request in endpoint.requests] == [c.prompt_token_ids for c in completions]


@pytest.mark.anyio
async def test_the_end_of_turn_stands_exactly_once_whether_sampled_or_not() -> None:
    answers = [Reply("done"), Reply("x" * 50), Reply("a STOP b"), Reply("end")]
    async with serving(replies(answers), interface="tokens", sampling={"stop": ["STOP"]}) as (endpoint, model):
        conversation = model.conversation()
        conversation.add(USER)
        texts = []
        for _ in range(4):
            texts.append((await conversation.complete(max_tokens=10)).text)
            conversation.add(Message("user", "on"))
        assert texts == ["done", "x" * 10, "a ", "end"]
        turns = TOKENIZER.render([USER_DICT, said("done"), ON, said("x" * 10), ON])
        assert list(endpoint.requests[2].prompt_token_ids) == turns
        # What was sampled stays, the stop string included; only the end of the turn is added.
        assert [m["content"] for m in endpoint.requests[3].messages if m["role"] == "assistant"][-1] == "a STOP"
        last = endpoint.requests[3].prompt_token_ids
        assert last.count(TOKENIZER.end_of_turn) == 7, "seven whole turns"


USER_DICT = {"role": "user", "content": USER.content}
ON = {"role": "user", "content": "on"}


def said(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


@pytest.mark.anyio
async def test_a_conversation_goes_on_even_without_an_observation() -> None:
    async with serving(replies(["one", "two"]), interface="tokens") as (endpoint, model):
        conversation = model.conversation()
        conversation.add(USER)
        await conversation.complete(max_tokens=10)
        await conversation.complete(max_tokens=10)
        assert list(endpoint.requests[1].prompt_token_ids) == TOKENIZER.render([USER_DICT, said("one")])


@pytest.mark.anyio
async def test_messages_added_after_counting_are_counted_too() -> None:
    async with serving("one", interface="tokens") as (endpoint, model):
        conversation = model.conversation()
        conversation.add(Message("system", "s"))
        await conversation.prompt_tokens()
        conversation.add(USER)
        completion = await conversation.complete(max_tokens=10)
        assert completion.usage.prompt_tokens == endpoint.ledger.prompt_tokens
        assert [m["role"] for m in endpoint.requests[0].messages] == ["system", "user"]


@pytest.mark.anyio
async def test_log_probs_and_ids_are_those_of_the_endpoint() -> None:
    logprobs = [-0.25, -1.5, 0.0]
    ids = [*b"hi", TOKENIZER.end_of_turn]
    async with serving(Reply(token_ids=ids, logprobs=logprobs), interface="tokens") as (_, model):
        for on_text in (None, lambda _: None):
            conversation = model.conversation()
            conversation.add(USER)
            completion = await conversation.complete(max_tokens=10, on_text=on_text)
            assert (completion.token_ids, completion.logprobs) == (tuple(ids), tuple(logprobs))


@pytest.mark.anyio
async def test_the_end_of_turn_also_stops_models_whose_configuration_forgot_it() -> None:
    async with serving("x", interface="tokens") as (endpoint, model):
        conversation = model.conversation()
        conversation.add(USER)
        await conversation.complete(max_tokens=10)
        assert endpoint.requests[0].body["stop_token_ids"] == [TOKENIZER.end_of_turn]


class _Tampering:
    """Changes answers on their way out, as an endpoint that only pretends would."""

    def __init__(self, endpoint: Any, change: Any) -> None:
        self._handle, self._change = endpoint._server.handler, change

    async def __call__(self, exchange: Any) -> None:
        send, change = exchange.send, self._change

        def tampered(status: int, body: bytes, **settings: Any) -> None:
            send(status, change(body) if exchange.path == "/v1/completions" else body, **settings)

        exchange.send = tampered
        await self._handle(exchange)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda body: body.replace(b'"prompt_token_ids":[', b'"prompt_token_ids":[1,'), "another prompt"),
        (lambda body: body.replace(b'"token_logprobs":[', b'"token_logprobs":[-1.0,'), "belong together"),
        (lambda body: body.replace(b'"token_ids":[', b'"token_ids":["a",'), "ignores return_token_ids"),
        (lambda body: body.replace(b'"token_logprobs"', b'"nothing"'), "no log-probs"),
    ],
)
async def test_an_answer_with_status_200_is_not_trusted(change: Any, says: str) -> None:
    async with serving("hello", interface="tokens") as (endpoint, model):
        endpoint._server.handler = _Tampering(endpoint, change)
        conversation = model.conversation()
        conversation.add(USER)
        with pytest.raises(CapabilityMissing, match=says) as caught:
            await conversation.complete(max_tokens=10)
        assert caught.value.unconfirmed == endpoint.ledger.total_tokens
        assert conversation.messages == [USER]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda body: body.replace(b'"prompt_token_ids":[', b'"prompt_token_ids":[1,'), "another prompt"),
        (lambda body: body.replace(b'"token_logprobs":[', b'"token_logprobs":[-1.0,'), "belong together"),
        (lambda body: body.replace(b'"token_ids":[', b'"token_ids":["a",'), "ignores return_token_ids"),
        (lambda body: body.replace(b'"token_logprobs"', b'"nothing"'), "no log-probs"),
    ],
)
@pytest.mark.parametrize("bad", [1, 2])
async def test_of_an_endpoint_that_gave_exact_answers_an_inexact_one_fails_no_other_call(
    change: Any, says: str, bad: int
) -> None:
    left = 0

    def some(body: bytes) -> bytes:
        nonlocal left
        left -= 1
        return change(body) if left >= 0 else body  # type: ignore[no-any-return]

    async with serving("hello", interface="tokens") as (endpoint, model):
        endpoint._server.handler = _Tampering(endpoint, some)
        first, second, third = (model.conversation() for _ in range(3))
        for conversation in (first, second, third):
            conversation.add(USER)
        await first.complete(max_tokens=10)
        left = bad
        if bad == 1:
            completion = await second.complete(max_tokens=10)
            assert (completion.text, completion.attempts) == ("hello", 2)
            spent = completion.usage.total_tokens + completion.usage.unconfirmed
            assert spent == 2 * endpoint.ledger.total_tokens // 3
        else:
            with pytest.raises(EndpointUnavailable, match=says) as caught:
                await second.complete(max_tokens=10)
            assert not caught.value.fatal
            assert caught.value.unconfirmed == 2 * endpoint.ledger.total_tokens // 3
        assert (await third.complete(max_tokens=10)).text == "hello"


@pytest.mark.anyio
async def test_without_usage_the_counts_come_from_the_ids() -> None:
    async with serving("hello", interface="tokens") as (endpoint, model):
        endpoint._server.handler = _Tampering(endpoint, lambda body: body.replace(b'"usage"', b'"nothing"'))
        conversation = model.conversation()
        conversation.add(USER)
        completion = await conversation.complete(max_tokens=10)
        assert completion.usage.total_tokens == endpoint.ledger.total_tokens
        assert completion.usage.unconfirmed == 0


@pytest.mark.anyio
async def test_an_endpoint_without_tokenize_is_told_apart() -> None:
    async with serving("x", interface="tokens") as (endpoint, model):
        handle = endpoint._server.handler

        async def without(exchange: Any) -> None:
            if exchange.path == "/tokenize":
                exchange.send_json(404, {"detail": "Not Found"})
            else:
                await handle(exchange)

        endpoint._server.handler = without
        conversation = model.conversation()
        conversation.add(USER)
        with pytest.raises(CapabilityMissing, match="/tokenize"):
            await conversation.prompt_tokens()


@pytest.mark.anyio
async def test_scripts_see_the_conversation_in_either_interface(interface: str) -> None:
    def script(request: Request) -> str:
        assert request.first == USER.content
        return f"step {request.step} after {request.last}"

    async with serving(script, interface=interface) as (endpoint, model):
        conversation = model.conversation()
        conversation.add(Message("system", "s"), USER)
        await conversation.complete(max_tokens=50)
        conversation.add(Message("user", "thing"))
        assert (await conversation.complete(max_tokens=50)).text == "step 1 after thing"
        assert endpoint.script_errors == []


@pytest.mark.anyio
async def test_the_whole_distribution_is_asked_for_unless_the_caller_bends_it() -> None:
    """A server's defaults may be those of a generation_config.json, with a top_k and a penalty."""
    for own, sent in (({}, (0, 1.0)), ({"top_k": 5}, (5, 1.0))):
        async with serving("hello", interface="tokens", sampling=own) as (endpoint, model):
            handle, bodies = endpoint._server.handler, []

            async def watched(exchange: Any, handle: Any = handle, bodies: Any = bodies) -> None:
                if exchange.path == "/v1/completions":
                    bodies.append(json.loads(exchange.body))
                await handle(exchange)

            endpoint._server.handler = watched
            conversation = model.conversation()
            conversation.add(USER)
            await conversation.complete(max_tokens=10)
            assert (bodies[0]["top_k"], bodies[0]["repetition_penalty"]) == sent
