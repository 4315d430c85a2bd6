"""The chat interface: answers, streams, tool calls, and counts equal to the endpoint's own."""

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recursive_agent.errors import ContextOverflow
from recursive_agent.model import Message, Model, Sampling, ToolCall, connect, resolve_endpoint
from recursive_agent.model.base import Conversation
from recursive_agent.testing import Fault, FaultKind, Reply, Request, ScriptedEndpoint, ScriptedTokenizer, replies

from .conftest import USER, serving

TOOL = {
    "type": "function",
    "function": {"name": "python", "description": "Run code.", "parameters": {"type": "object", "properties": {}}},
}


@pytest.mark.anyio
async def test_an_answer_comes_with_its_text_and_the_endpoints_own_usage() -> None:
    async with serving(Reply("Hello!", cached_tokens=3), fingerprint="v7") as (endpoint, model):
        conversation = model.conversation()
        conversation.add(Message("system", "Be brief."), USER)
        completion = await conversation.complete(max_tokens=50, seed=11)
        assert (completion.text, completion.finish_reason, completion.attempts) == ("Hello!", "stop", 1)
        assert (completion.model, completion.version) == ("scripted", "v7")
        assert conversation.messages[-1] == Message("assistant", "Hello!")
        usage, ledger = completion.usage, endpoint.ledger
        assert (usage.prompt_tokens, usage.completion_tokens) == (ledger.prompt_tokens, ledger.completion_tokens)
        assert (usage.calls, usage.cached_tokens, usage.unconfirmed, usage.cost) == (1, 3, 0, 0.0)
        assert completion.latency > 0
        assert endpoint.requests[0].seed == 11


@pytest.mark.anyio
async def test_both_interfaces_fulfil_the_contract(interface: str) -> None:
    async with serving("x", interface=interface) as (_, model):
        assert isinstance(model, Model)
        conversation = model.conversation()
        assert isinstance(conversation, Conversation)
        assert conversation.exact == (interface == "tokens")
        assert model.interface == interface


@pytest.mark.anyio
async def test_usage_equals_the_ledger_over_a_long_conversation(interface: str) -> None:
    async with serving(replies([f"answer {i} 🌍 über" for i in range(8)]), interface=interface) as (endpoint, model):
        conversation = model.conversation()
        total = prompt = 0
        for turn in range(8):
            conversation.add(Message("user", f"observation {turn} → ```x```"))
            completion = await conversation.complete(max_tokens=100, on_text=(lambda _: None) if turn % 2 else None)
            total += completion.usage.total_tokens
            prompt += completion.usage.prompt_tokens
        assert total == endpoint.ledger.total_tokens
        assert prompt == endpoint.ledger.prompt_tokens
        assert endpoint.requests[-1].messages[-2]["content"] == "answer 6 🌍 über"


@pytest.mark.anyio
async def test_sampling_settings_and_unknown_ones_reach_the_endpoint(interface: str) -> None:
    sampling = {"temperature": 0.3, "top_p": 0.9, "stop": "END", "max_tokens": 7, "min_p": 0.1}
    async with serving("a b c", interface=interface, sampling=sampling) as (endpoint, model):
        conversation = model.conversation()
        conversation.add(USER)
        await conversation.complete(max_tokens=1000)
        body = endpoint.requests[0].body
        assert (body["temperature"], body["top_p"], body["stop"], body["min_p"]) == (0.3, 0.9, ["END"], 0.1)
        assert endpoint.requests[0].max_tokens == 7


@pytest.mark.anyio
async def test_streaming_gives_the_same_completion_as_not_streaming(interface: str) -> None:
    async with serving("one two three, four five — six", interface=interface) as (endpoint, model):
        whole, streamed = model.conversation(), model.conversation()
        pieces: list[str] = []
        whole.add(USER)
        streamed.add(USER)
        first = await whole.complete(max_tokens=100)
        second = await streamed.complete(max_tokens=100, on_text=pieces.append)
        assert "".join(pieces) == first.text == second.text
        assert len(pieces) > 2
        assert (second.usage, second.finish_reason, second.token_ids, second.logprobs) == (
            first.usage,
            first.finish_reason,
            first.token_ids,
            first.logprobs,
        )
        assert [request.stream for request in endpoint.requests] == [False, True]


@pytest.mark.anyio
async def test_an_answer_longer_than_allowed_is_cut_and_says_so(interface: str) -> None:
    async with serving("x" * 100, interface=interface) as (_, model):
        conversation = model.conversation()
        conversation.add(USER)
        completion = await conversation.complete(max_tokens=5)
        assert (completion.finish_reason, completion.text, completion.usage.completion_tokens) == ("length", "xxxxx", 5)


@pytest.mark.anyio
@pytest.mark.parametrize("streamed", [False, True])
async def test_native_tool_calls_come_through_raw_and_go_back(streamed: bool) -> None:
    calls = (ToolCall("c1", "python", '{"code": "1"}'), ToolCall("c2", "python", "{not json"))
    async with serving(replies([Reply("", tool_calls=calls), "done"])) as (endpoint, model):
        conversation = model.conversation(tools=[TOOL])
        conversation.add(USER)
        on_text = (lambda _: None) if streamed else None
        completion = await conversation.complete(max_tokens=200, on_text=on_text)
        assert completion.tool_calls == calls
        assert completion.finish_reason == "tool_calls"
        conversation.add(Message("tool", "1", tool_call_id="c1"), Message("tool", "error", tool_call_id="c2"))
        bound = await conversation.prompt_tokens()
        done = await conversation.complete(max_tokens=200)
        assert done.usage.prompt_tokens <= bound
        sent = endpoint.requests[1].messages
        assert sent[1]["tool_calls"][1]["function"]["arguments"] == "{not json"
        assert sent[2]["tool_call_id"] == "c1"
        assert endpoint.requests[1].body["tools"] == [TOOL]


@pytest.mark.anyio
@pytest.mark.parametrize("kind", [FaultKind.NO_CHOICES, FaultKind.NULL_CONTENT])
@pytest.mark.parametrize("streamed", [False, True])
async def test_an_empty_completion_is_an_answer_without_text(kind: FaultKind, streamed: bool, interface: str) -> None:
    async with serving(replies([Fault(kind), "fine"]), interface=interface) as (endpoint, model):
        conversation = model.conversation()
        conversation.add(USER)
        completion = await conversation.complete(max_tokens=20, on_text=(lambda _: None) if streamed else None)
        assert (completion.text, completion.attempts) == ("", 1)
        assert completion.usage.total_tokens == endpoint.ledger.total_tokens > 0
        conversation.add(Message("user", "again"))
        assert (await conversation.complete(max_tokens=20)).text == "fine"


@pytest.mark.anyio
async def test_a_missing_usage_counts_as_unconfirmed_upper_bound() -> None:
    async with serving(Fault(FaultKind.NO_USAGE, reply="hello")) as (endpoint, model):
        conversation = model.conversation()
        conversation.add(USER)
        bound = await conversation.prompt_tokens()
        completion = await conversation.complete(max_tokens=30)
        assert (completion.text, completion.usage.total_tokens) == ("hello", 0)
        assert completion.usage.unconfirmed == bound + 30 >= endpoint.ledger.lost_tokens > 0
        conversation.add(USER)
        bound = await conversation.prompt_tokens()
        await conversation.complete(max_tokens=30)
        assert bound >= endpoint.ledger.entries[1].prompt_tokens


@pytest.mark.anyio
async def test_the_context_window_is_what_the_endpoint_says(interface: str) -> None:
    async with serving("x", interface=interface, max_model_len=777) as (endpoint, model):
        assert await model.context_length() == 777
        endpoint.max_model_len = 5
        assert await model.context_length() == 777, "asked once"
    async with serving("x", interface=interface) as (_, model):
        assert await model.context_length() is None


@pytest.mark.anyio
async def test_an_answer_too_long_for_the_window_is_shortened_instead_of_refused(interface: str) -> None:
    async with serving("x" * 500, interface=interface, max_model_len=100) as (endpoint, model):
        conversation = model.conversation()
        conversation.add(USER)
        completion = await conversation.complete(max_tokens=4000)
        # In chat the prompt's size is not known, so the limit is found by halving.
        assert (100 if interface == "tokens" else 50) <= completion.usage.total_tokens <= 100
        assert (completion.attempts, completion.usage.unconfirmed, endpoint.ledger.calls) == (1, 0, 1)


@pytest.mark.anyio
async def test_once_the_window_is_known_answers_are_shortened_beforehand() -> None:
    async with serving("x" * 500, max_model_len=400) as (endpoint, model):
        conversation = model.conversation()
        conversation.add(USER)
        first = await conversation.complete(max_tokens=350)
        assert first.usage.completion_tokens == 350
        conversation.add(Message("user", "Again."))
        with pytest.raises(ContextOverflow):
            await conversation.complete(max_tokens=350)
        short = model.conversation()
        short.add(USER)
        await short.complete(max_tokens=100)
        short.add(USER)
        refused = len(endpoint.refused)
        assert (await short.complete(max_tokens=350)).usage.total_tokens >= 300
        assert len(endpoint.refused) == refused


@pytest.mark.anyio
async def test_an_endpoint_that_wants_the_new_name_of_the_limit_gets_it() -> None:
    def script(request: Request) -> Fault | str:
        if "max_tokens" in request.body:
            message = "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead."
            return Fault.http(400, message, type="invalid_request_error", code="unsupported_parameter")
        return "ok"

    async with serving(script) as (endpoint, model):
        for _ in range(2):
            conversation = model.conversation()
            conversation.add(USER)
            assert (await conversation.complete(max_tokens=9)).text == "ok"
        assert len(endpoint.requests) == 3, "learned once"
        assert endpoint.requests[-1].body["max_completion_tokens"] == 9


texts = st.text(max_size=60) | st.sampled_from(["", "    ", "🙂" * 20, "the launch_subagent", "<|im_start|>", "\ud800"])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(turns=st.lists(st.tuples(texts, texts), min_size=1, max_size=5), tools=st.booleans())
def test_the_prompt_bound_is_never_below_what_is_billed(
    turns: list[tuple[str, str]], tools: bool, shared_endpoint: ScriptedEndpoint
) -> None:
    answers = iter([answer for _, answer in turns])
    shared_endpoint.script = lambda _: Reply(next(answers).encode("utf-8", "replace").decode())

    async def converse() -> None:
        model = connect(resolve_endpoint("scripted", shared_endpoint.base_url))
        conversation = model.conversation(tools=[TOOL] if tools else [])
        for observation, _ in turns:
            conversation.add(Message("user", observation))
            bound = await conversation.prompt_tokens()
            completion = await conversation.complete(max_tokens=500)
            assert completion.usage.prompt_tokens <= bound
            assert completion.usage.unconfirmed == 0
        await model.aclose()

    anyio.run(converse)


@pytest.fixture(scope="module")
def shared_endpoint():  # type: ignore[no-untyped-def]
    with ScriptedEndpoint("x") as endpoint:
        yield endpoint


@pytest.mark.anyio
async def test_the_bound_tightens_to_what_was_billed() -> None:
    async with serving("y" * 400) as (_, model):
        conversation = model.conversation()
        conversation.add(Message("user", "the " * 1000))
        first = await conversation.complete(max_tokens=1000)
        assert first.usage.prompt_tokens < 1100, "the text is 4,000 bytes and 1,000 tokens"
        conversation.add(Message("user", "go on"))
        bound = await conversation.prompt_tokens()
        second = await conversation.complete(max_tokens=1000)
        assert second.usage.prompt_tokens <= bound <= second.usage.prompt_tokens + 40


def test_sampling_that_would_break_the_accounts_is_refused() -> None:
    with pytest.raises(ValueError, match="sampling must not set n"):
        connect(resolve_endpoint("m", "http://localhost:1/v1"), sampling=Sampling.of({"n": 4}))


def test_the_scripted_tokenizer_needs_at_most_one_token_a_byte() -> None:
    tokenizer = ScriptedTokenizer()
    assert len(tokenizer.encode("é🙂")) <= len("é🙂".encode())
