"""What answers hold: native tool calls in every dialect, what goes back with them, usage that cannot be true."""

import json
from typing import Any

import pytest

from recursive_agent.model import Message, ToolCall
from recursive_agent.model.bill import reported_usage
from recursive_agent.usage import Usage

from .conftest import USER
from .raw import USAGE, answering, chat, delta, events, http, last, model_at, refusal

TOOL = {"type": "function", "function": {"name": "python", "parameters": {"type": "object", "properties": {}}}}
CODE = json.dumps({"code": "1"})


async def talk(model: Any, *, tools: Any = (TOOL,), streamed: bool = False, turns: int = 1) -> Any:
    """A conversation that goes on after each answer; gives the last completion."""
    conversation = model.conversation(tools=tools)
    conversation.add(Message("system", "Be brief."), USER)
    completion = None
    for _ in range(turns):
        completion = await conversation.complete(max_tokens=40, on_text=(lambda _: None) if streamed else None)
        calls = completion.tool_calls
        conversation.add(
            *([Message("tool", "seen", tool_call_id=call.id) for call in calls] or [Message("user", "Go on.")])
        )
    return completion


def calling(*calls: Any, content: Any = None, **more: Any) -> bytes:
    return chat(
        message={"role": "assistant", "content": content, "tool_calls": list(calls), **more}, finish="tool_calls"
    )


def call(arguments: Any = CODE, *, name: Any = "python", **more: Any) -> dict[str, Any]:
    return {"id": "c1", "type": "function", "function": {"name": name, "arguments": arguments}, **more}


CALLS = {
    "OpenAI": calling(call()),
    "object arguments": calling(call({"code": "1"})),
    "legacy function_call": chat(message={"content": None, "function_call": {"name": "python", "arguments": CODE}}),
    "flat": calling({"id": "c1", "name": "python", "arguments": CODE}),
    "Anthropic's input": calling({"id": "c1", "name": "python", "input": {"code": "1"}}),
    "Llama's parameters": calling({"id": "c1", "function": {"name": "python", "parameters": {"code": "1"}}}),
    "no list": chat(message={"content": None, "tool_calls": call()}),
    "no id": calling({"function": {"name": "python", "arguments": CODE}}),
}


@pytest.mark.anyio
@pytest.mark.parametrize("name", CALLS)
async def test_native_calls_are_read_in_every_dialect(name: str) -> None:
    with answering(CALLS[name]) as server:
        async with model_at(server.base_url) as model:
            completion = await talk(model)
    (made,) = completion.tool_calls
    assert made.id
    assert (made.name, json.loads(made.arguments)) == ("python", {"code": "1"})
    assert completion.no_answer is None


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["functions.python", "python", "repo_browser.open_file"])
async def test_bare_code_and_other_names_come_through_as_they_were_and_go_back_as_names(name: str) -> None:
    with answering(lambda body, n: calling(call("print(1)", name=name)) if n == 0 else chat("ok")) as server:
        async with model_at(server.base_url) as model:
            conversation = model.conversation(tools=[TOOL])
            conversation.add(USER)
            first = await conversation.complete(max_tokens=40)
            assert first.tool_calls == (ToolCall("c1", name, "print(1)"),)
            conversation.add(Message("tool", "1", tool_call_id="c1"))
            await conversation.complete(max_tokens=40)
    sent = server.bodies[1]["messages"][1]["tool_calls"][0]["function"]
    assert sent == {"name": name.replace(".", "_"), "arguments": "print(1)"}


@pytest.mark.anyio
async def test_ids_that_are_missing_or_the_same_are_made_different_in_the_whole_conversation() -> None:
    answers = [calling(call(id=None), call(id=""), call(id="x"), call(id="x")), calling(call(id=None))]
    with answering(lambda body, n: answers[n] if n < 2 else chat("ok")) as server:
        async with model_at(server.base_url) as model:
            await talk(model, turns=3)
    ids = [made["id"] for message in server.bodies[2]["messages"] for made in message.get("tool_calls", ())]
    assert len(set(ids)) == len(ids) == 5
    assert all(made == "x" or (len(made) == 9 and made.isalnum()) for made in ids), "as Mistral wants them"
    assert ids == [message["tool_call_id"] for message in server.bodies[2]["messages"] if message["role"] == "tool"]


def piece(arguments: str = "", **more: Any) -> dict[str, Any]:
    name = more.pop("name", None)
    function = {"arguments": arguments} | ({"name": name} if name is not None else {})
    return delta(tool_calls=[{"function": function, **more}])


STREAMS = {
    "OpenAI": [piece(index=0, id="a", name="python"), piece('{"code"', index=0), piece(': "1"}', index=0)],
    "without index": [piece(id="a", name="python"), piece('{"code"'), piece(': "1"}')],
    "with the name repeated": [
        piece('{"code"', index=0, id="a", name="python"),
        piece(': "1"}', index=0, name="python"),
    ],
    "with id and name repeated": [piece('{"code"', id="a", name="python"), piece(': "1"}', id="a", name="python")],
    "with the name in pieces": [piece(index=0, id="a", name="py"), piece(index=0, name="thon"), piece(CODE, index=0)],
    "in one piece": [piece(CODE, index=0, id="a", name="python")],
    "legacy": [
        delta(function_call={"name": "python", "arguments": '{"code"'}),
        delta(function_call={"arguments": ': "1"}'}),
    ],
}


@pytest.mark.anyio
@pytest.mark.parametrize("name", STREAMS)
async def test_calls_that_stream_are_put_together(name: str) -> None:
    with answering(events(*STREAMS[name], last("tool_calls"))) as server:
        async with model_at(server.base_url) as model:
            completion = await talk(model, streamed=True)
    assert [(made.name, json.loads(made.arguments)) for made in completion.tool_calls] == [("python", {"code": "1"})]


@pytest.mark.anyio
@pytest.mark.parametrize("numbered", ["by index", "not at all", "all the same", "by id"])
async def test_two_calls_that_stream_stay_two(numbered: str) -> None:
    def index(position: int) -> dict[str, Any]:
        return {"by index": {"index": position}, "all the same": {"index": 0}}.get(numbered, {})

    pieces = []
    for position, identity in enumerate("ab"):
        pieces.append(piece('{"code"', id=identity, name="python", **index(position)))
        again = {"id": identity} if numbered == "by id" else {}
        pieces.append(piece(f': "{identity}"}}', **again, **index(position)))
    with answering(events(*pieces, last("tool_calls"))) as server:
        async with model_at(server.base_url) as model:
            completion = await talk(model, streamed=True)
    assert [(made.id, made.arguments) for made in completion.tool_calls] == [
        ("a", '{"code": "a"}'),
        ("b", '{"code": "b"}'),
    ]


@pytest.mark.anyio
async def test_of_several_choices_that_stream_the_first_is_read() -> None:
    other = {"choices": [{"index": 1, "delta": {"content": "no"}}]}
    first = [{"choices": [{"index": 0, "delta": {"content": text}}]} for text in ("ye", "s")]
    with answering(events(other, first[0], other, first[1], last("stop"))) as server:
        async with model_at(server.base_url) as model:
            completion = await talk(model, streamed=True)
    assert completion.text == "yes"


@pytest.mark.anyio
async def test_calls_of_tools_that_were_never_offered_do_not_go_back() -> None:
    """Endpoints refuse messages with calls where a request has no tools."""

    def answer(body: Any, n: int) -> bytes:
        return calling(call("{}", name="search"), content="```python\n1\n```" if n else None) if n < 2 else chat("ok")

    with answering(answer) as server:
        async with model_at(server.base_url) as model:
            conversation = model.conversation()
            conversation.add(USER)
            for _ in range(3):
                completion = await conversation.complete(max_tokens=40)
                conversation.add(Message("tool", "not run", tool_call_id="c1") if completion.tool_calls else USER)
    roles = [(message["role"], message["content"]) for message in server.bodies[2]["messages"]]
    assert roles == [
        ("user", "Say hello.\n\nnot run"),
        ("assistant", "```python\n1\n```"),
        ("user", "not run"),
    ], "the first answer had no text: what stood around it is one message"
    assert all(
        "tool_call_id" not in message and "tool_calls" not in message for message in server.bodies[2]["messages"]
    )


EXTRAS = {
    "reasoning_content": {"reasoning_content": "I think"},
    "reasoning_details": {"reasoning_details": [{"type": "reasoning.encrypted", "data": "abc"}]},
    "thinking_blocks": {"thinking_blocks": [{"type": "thinking", "thinking": "hm", "signature": "sig"}]},
    "something new": {"opaque_state": {"a": [1, 2]}},
}


@pytest.mark.anyio
@pytest.mark.parametrize("name", EXTRAS)
@pytest.mark.parametrize("streamed", [False, True])
async def test_what_came_with_a_call_goes_back_with_it(name: str, streamed: bool) -> None:
    extra = EXTRAS[name]
    signed = {"extra_content": {"google": {"thought_signature": "abc"}}}

    def answer(body: Any, n: int) -> bytes:
        if n:
            return events(delta(content="ok"), last()) if streamed else chat("ok")
        if not streamed:
            return calling(call(**signed), **extra)
        return events(
            delta(role="assistant", **extra), delta(tool_calls=[{"index": 0, **call(), **signed}]), last("tool_calls")
        )

    with answering(answer) as server:
        async with model_at(server.base_url) as model:
            await talk(model, streamed=streamed, turns=2)
    back = server.bodies[1]["messages"][2]
    assert {key: back[key] for key in extra} == extra
    assert back["tool_calls"][0]["extra_content"] == signed["extra_content"]


@pytest.mark.anyio
async def test_reasoning_does_not_go_back_with_plain_answers_unless_it_is_demanded() -> None:
    def answer(body: Any, n: int) -> bytes:
        return chat(message={"content": f"answer {n}", "reasoning_content": "hm"})

    with answering(answer) as server:
        async with model_at(server.base_url) as model:
            await talk(model, tools=(), turns=2)
    assert "reasoning_content" not in server.bodies[1]["messages"][2]

    def demanding(body: Any, n: int) -> bytes:
        if any(message["role"] == "assistant" and "reasoning_content" not in message for message in body["messages"]):
            return refusal("The reasoning_content in the thinking mode must be passed back to the API.")
        return answer(body, n)

    with answering(demanding) as server:
        async with model_at(server.base_url) as model:
            await talk(model, tools=(), turns=3)
    assert len(server.bodies) == 4, "learnt once"


@pytest.mark.anyio
@pytest.mark.parametrize(
    "said",
    [
        "property 'messages.2.reasoning_content' is unsupported",
        "messages.2.reasoning_content: Extra inputs are not permitted",
        "Unknown parameter: 'messages[2].reasoning_content'.",
    ],
)
async def test_reasoning_that_is_refused_is_left_out_from_then_on(said: str) -> None:
    def answer(body: Any, n: int) -> bytes:
        if any("reasoning_content" in message for message in body["messages"]):
            return refusal(said)
        return calling(call(id=f"c{n}"), reasoning_content="hm")

    with answering(answer) as server:
        async with model_at(server.base_url) as model:
            await talk(model, turns=4)
    assert len(server.bodies) == 5, "learnt once"


@pytest.mark.anyio
async def test_arguments_that_are_no_json_are_sent_as_json_where_that_is_demanded() -> None:
    def answer(body: Any, n: int) -> bytes:
        for message in body["messages"]:
            for made in message.get("tool_calls", ()):
                try:
                    json.loads(made["function"]["arguments"])
                except ValueError:
                    return refusal("Expecting value: line 1 column 1 (char 0)", "500 Internal Server Error")
        return calling(call("print(1)")) if n == 0 else chat("ok")

    with answering(answer) as server:
        async with model_at(server.base_url) as model:
            assert (await talk(model, turns=2)).text == "ok"
    assert json.loads(server.bodies[-1]["messages"][2]["tool_calls"][0]["function"]["arguments"]) == {
        "code": "print(1)"
    }


@pytest.mark.anyio
@pytest.mark.parametrize("text", ["", " \n\t"])
async def test_an_empty_answer_is_never_sent_back(text: str) -> None:
    with answering(lambda body, n: chat(text if n < 2 else "ok")) as server:
        async with model_at(server.base_url) as model:
            await talk(model, tools=(), turns=3)
    sent = server.bodies[2]["messages"]
    assert [message["role"] for message in sent] == ["system", "user"]
    assert sent[1]["content"] == "Say hello.\n\nGo on.\n\nGo on."


REFUSED_SYSTEM = [
    ("400 B", "System role not supported"),
    ("500 I", "System role not supported"),
    ("400 B", "Developer instruction is not enabled for models/gemma-3-27b-it"),
    ("400 B", "Only user and assistant roles are supported!"),
    ("400 B", "Unsupported value: 'messages[0].role' does not support 'system' with this model."),
    ("422 U", "This model does not support system messages"),
]


@pytest.mark.anyio
@pytest.mark.parametrize(("status", "said"), REFUSED_SYSTEM)
async def test_a_system_role_that_is_refused_opens_the_users_message_from_then_on(status: str, said: str) -> None:
    def answer(body: Any, n: int) -> bytes:
        return refusal(said, status) if body["messages"][0]["role"] == "system" else chat("ok")

    with answering(answer) as server:
        async with model_at(server.base_url) as model:
            for _ in range(2):
                assert (await talk(model, tools=())).text == "ok"
    assert len(server.bodies) == 3, "learnt once, for all conversations"
    assert server.bodies[2]["messages"] == [{"role": "user", "content": "Be brief.\n\nSay hello."}]


@pytest.mark.anyio
@pytest.mark.parametrize("system", [True, False])
async def test_roles_that_must_alternate_do(system: bool) -> None:
    said = "Conversation roles must alternate user/assistant/user/assistant/..."

    def answer(body: Any, n: int) -> bytes:
        roles = [message["role"] for message in body["messages"] if not (system and message["role"] == "system")]
        wrong = any(role != ("user", "assistant")[place % 2] for place, role in enumerate(roles))
        return refusal(said, "500 I" if system else "400 B") if wrong else chat("ok")

    with answering(answer) as server:
        async with model_at(server.base_url) as model:
            conversation = model.conversation()
            conversation.add(Message("system", "Be brief."), USER, USER)
            assert (await conversation.complete(max_tokens=16)).text == "ok"
    assert server.bodies[-1]["messages"][-1]["content"].endswith("Say hello.\n\nSay hello.")


PARAMETERS = [
    ("seed", "Unrecognized request argument supplied: seed"),
    ("seed", "property 'seed' is unsupported"),
    ("seed", "seed: Extra inputs are not permitted"),
    ("seed", 'Invalid JSON payload received. Unknown name "seed": Cannot find field.'),
    (
        "temperature",
        "Unsupported value: 'temperature' does not support 0.3 with this model. Only the default is supported.",
    ),
    ("temperature", "`temperature` and `top_p` cannot both be specified for this model. Please use only one."),
    ("temperature", "`temperature` is deprecated for this model."),
    ("stop", "Unsupported parameter: 'stop' is not supported with this model."),
    ("stream_options", "stream_options is not supported"),
    ("stream_options", "Unknown parameter: 'stream_options'."),
]


@pytest.mark.anyio
@pytest.mark.parametrize(("name", "said"), PARAMETERS)
async def test_a_setting_that_is_refused_by_name_is_left_out_from_then_on(name: str, said: str) -> None:
    sampling = {"temperature": 0.3, "top_p": 0.9, "stop": "END"}

    def answer(body: Any, n: int) -> bytes:
        return refusal(said) if name in body else events(delta(content="ok"), last())

    with answering(answer) as server:
        async with model_at(server.base_url, sampling=sampling) as model:
            for _ in range(2):
                conversation = model.conversation()
                conversation.add(USER)
                completion = await conversation.complete(max_tokens=16, seed=3, on_text=lambda _: None)
                assert (completion.text, completion.attempts) == ("ok", 1)
    assert len(server.bodies) == 3, "learnt once"
    assert {"temperature", "top_p", "stop", "seed", "stream_options"} - server.bodies[2].keys() == {name}


@pytest.mark.anyio
@pytest.mark.parametrize(
    "said", ["tools is not supported by this model", "temperature must be at most 1", "no such thing"]
)
async def test_what_matters_is_never_left_out_in_silence(said: str) -> None:
    with answering(refusal(said)) as server:
        async with model_at(server.base_url, sampling={"temperature": 1.5}) as model:
            with pytest.raises(Exception, match=said):
                await talk(model)
    assert len(server.bodies) == 1


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("old", "new"), [("max_tokens", "max_completion_tokens"), ("max_completion_tokens", "max_tokens")]
)
async def test_the_answers_limit_is_sent_under_the_name_that_is_taken(old: str, new: str) -> None:
    said = f"Unsupported parameter: '{old}' is not supported with this model. Use '{new}' instead."
    with answering(lambda body, n: refusal(said) if old in body else chat("ok")) as server:
        async with model_at(server.base_url) as model:
            model._limit_name = old
            assert (await talk(model)).text == "ok"
    assert new in server.bodies[-1]


@pytest.mark.parametrize(
    ("usage", "counted"),
    [
        ({"prompt_tokens": 10, "completion_tokens": 5}, (10, 5, 0)),
        ({"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110, "prompt_tokens_details": {"cached_tokens": 9000}},
         (100, 10, 100)),
        ({"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 9110,
          "prompt_tokens_details": {"cached_tokens": 9000}}, (9100, 10, 9000)),
        ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 315}, (10, 305, 0)),
        ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 3}, (10, 5, 0)),
        ({"prompt_tokens": 10, "completion_tokens": 5, "completion_tokens_details": {"reasoning_tokens": 300}}, (10, 305, 0)),
        ({"prompt_tokens": 10, "completion_tokens": 305, "completion_tokens_details": {"reasoning_tokens": 300}}, (10, 305, 0)),
        ({"input_tokens": 10, "output_tokens": 5}, (10, 5, 0)),
        ({"prompt_tokens": 10.0, "completion_tokens": "5"}, (10, 5, 0)),
        ({"total_tokens": 15, "completion_tokens": 5}, (10, 5, 0)),
        ({"prompt_tokens": 10, "completion_tokens": 5, "prompt_cache_hit_tokens": 4}, (10, 5, 4)),
        ({"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": -4}}, (10, 5, 0)),
    ],
)  # fmt: skip
def test_usage_is_read_as_far_as_it_can_be_true(usage: dict[str, Any], counted: tuple[int, int, int]) -> None:
    read = reported_usage({"usage": usage})
    assert read is not None
    assert (read.prompt_tokens, read.completion_tokens, read.cached_tokens) == counted


FALSE = {
    "zero": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
    "no prompt": {"completion_tokens": 5},
    "no answer": {"prompt_tokens": 50},
    "negative": {"prompt_tokens": -10, "completion_tokens": -5},
    "a negative answer": {"prompt_tokens": 50, "completion_tokens": -5},
    "huge": {"prompt_tokens": 10**30, "completion_tokens": 5},
    "text": {"prompt_tokens": "many", "completion_tokens": "few"},
    "truth": {"prompt_tokens": True, "completion_tokens": True},
    "infinite": {"prompt_tokens": float("inf"), "completion_tokens": 5},
    "missing": None,
    "a list": [],
}


@pytest.mark.anyio
@pytest.mark.parametrize("name", FALSE)
@pytest.mark.parametrize("streamed", [False, True])
async def test_what_cannot_be_true_counts_as_the_most_it_can_have_been(name: str, streamed: bool) -> None:
    answer = events(delta(content="hello"), last(usage=FALSE[name])) if streamed else chat("hello", usage=FALSE[name])
    with answering(answer) as server:
        async with model_at(server.base_url) as model:
            conversation = model.conversation()
            conversation.add(USER)
            bound = await conversation.prompt_tokens() + 40
            completion = await conversation.complete(max_tokens=40, on_text=(lambda _: None) if streamed else None)
    usage = completion.usage
    assert usage.total_tokens + usage.unconfirmed == bound
    if isinstance(FALSE[name], dict):
        assert usage.prompt_tokens >= 1
        assert usage.completion_tokens >= 1
    else:
        assert usage == Usage(calls=1, unconfirmed=bound)


@pytest.mark.anyio
async def test_usage_of_a_stream_is_cumulative_whatever_its_last_chunk_leaves_out() -> None:
    chunks = [
        delta(content="a") | {"usage": {"prompt_tokens": 50, "completion_tokens": 1, "total_tokens": 51}},
        delta(content="b") | {"usage": {"prompt_tokens": 50, "completion_tokens": 2, "total_tokens": 52}},
        last(usage={"completion_tokens": 3, "prompt_tokens": 0}),
    ]
    with answering(events(*chunks)) as server:
        async with model_at(server.base_url) as model:
            completion = await talk(model, streamed=True)
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (50, 3)


@pytest.mark.anyio
async def test_half_characters_are_made_whole_or_replaced() -> None:
    body = b'{"choices": [{"message": {"content": "\\ud83d\\ude00 \\ud800 x"}, "finish_reason": "stop"}], "usage": %b}'
    with answering(http(body % json.dumps(USAGE).encode())) as server:
        async with model_at(server.base_url) as model:
            assert (await talk(model, tools=())).text == "😀 \ufffd x"
    halves = [delta(content="\ud83d"), delta(content="\ude00"), last()]
    with answering(events(*halves)) as server:
        async with model_at(server.base_url) as model:
            assert (await talk(model, tools=(), streamed=True)).text == "😀"
