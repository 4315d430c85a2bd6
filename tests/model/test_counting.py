"""The endpoint's own tokenizer: asked for the size of a prompt where there is one, once where there is none, never trusted
beyond what is billed.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from recursive_agent import Agent, Limits, Status
from recursive_agent.model import Message, ToolCall, counting
from recursive_agent.testing import Answer, Fault, Reply, Request, ScriptedTokenizer, replies
from recursive_agent.trace.folder import trace_files
from recursive_agent.trace.tree import ExecutionTree

from .conftest import USER, serving

pytestmark = pytest.mark.anyio

LONG = Message("user", "the launch_subagent and the python " * 60)
TOOL = {"type": "function", "function": {"name": "python", "description": "Run code.", "parameters": {}}}
Answering = Callable[[Any, dict[str, Any]], Any]


@asynccontextmanager
async def tokenizing(
    answer: Answering | None, script: Any = "x", **settings: Any
) -> AsyncIterator[tuple[Any, Any, Any]]:
    """An endpoint whose paths beside /v1 do what `answer` says (None: what they always do); counts what is asked there."""
    async with serving(script, **settings) as (endpoint, model):
        handle, asked = endpoint._server.handler, Counter[str]()

        async def handler(exchange: Any) -> None:
            if exchange.path.startswith("/v1/"):
                await handle(exchange)
                return
            asked[exchange.path] += 1
            if answer is None:
                await handle(exchange)
            elif not exchange.answered:
                await answer(exchange, json.loads(exchange.body))

        endpoint._server.handler = handler
        yield endpoint, model, asked


@pytest.mark.parametrize(("limits", "counts"), [({"max_tokens": None}, False), ({}, True)])
async def test_the_prompts_of_an_agent_are_counted_only_where_tokens_are_limited(limits: Any, counts: bool) -> None:
    async with tokenizing(None, "```python\nfinish(1)\n```") as (_, model, asked):
        result = await Agent(model, limits=Limits(**limits)).solve("one")
    assert result.output == 1
    assert bool(asked) is counts


async def absent(exchange: Any, body: dict[str, Any]) -> None:
    exchange.send_json(404, {"detail": "Not Found"})


async def llama_cpp(exchange: Any, body: dict[str, Any]) -> None:
    """As llama.cpp's server does it: /tokenize looks for `content` alone."""
    tokenizer = ScriptedTokenizer()
    if exchange.path == "/apply-template":
        ids = tokenizer.render(body["messages"], tools=body.get("tools") or ())
        exchange.send_json(200, {"prompt": "".join(chr(token) for token in ids)})
    else:
        exchange.send_json(200, {"tokens": [ord(sign) for sign in body.get("content", "")]})


@pytest.mark.parametrize("answer", [None, llama_cpp], ids=["vllm", "llama.cpp"])
async def test_a_prompt_is_held_at_what_it_costs(answer: Answering | None) -> None:
    calls = (ToolCall("c1", "python", '{"code": "1"}'),)
    async with tokenizing(answer, replies([Reply("", tool_calls=calls), "two", "three"])) as (_, model, _asked):
        conversation = model.conversation(tools=[TOOL])
        conversation.add(Message("system", "Be brief 🙂"), LONG)
        for turn in range(3):
            bound = await conversation.prompt_tokens()
            assert bound == await conversation.prompt_tokens()
            completion = await conversation.complete(max_tokens=50)
            assert bound == completion.usage.prompt_tokens + (16 if turn == 0 else 0), "until a bill confirms it"
            conversation.add(Message("tool", "1", tool_call_id="c1") if turn == 0 else LONG)


async def test_an_endpoint_without_a_tokenizer_is_asked_once_by_all_its_calls() -> None:
    async with tokenizing(absent) as (endpoint, model, asked):

        async def converse() -> None:
            conversation = model.conversation()
            for _ in range(3):
                conversation.add(LONG)
                bound = await conversation.prompt_tokens()
                assert bound >= (await conversation.complete(max_tokens=5)).usage.prompt_tokens

        async with anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(converse)
        assert asked == {"/tokenize": 1}
        assert endpoint.ledger.calls == 24


@pytest.mark.parametrize(
    "answer",
    [{"count": True}, {"count": "9"}, {"count": -1}, {"count": 0}, {"count": 10**12}, {"tokens": [1]}, {}, [], "no", 7],
)
async def test_a_tokenizer_that_answers_nonsense_is_none(answer: Any) -> None:
    async def nonsense(exchange: Any, body: dict[str, Any]) -> None:
        exchange.send_json(200, answer)

    async with tokenizing(nonsense) as (_, model, asked):
        for _ in range(3):
            conversation = model.conversation()
            conversation.add(LONG)
            bound = await conversation.prompt_tokens()
            assert bound >= (await conversation.complete(max_tokens=5)).usage.prompt_tokens
        assert asked == {"/tokenize": 1}


async def test_a_tokenizer_that_once_counts_too_few_is_not_asked_again(caplog: pytest.LogCaptureFixture) -> None:
    async def another(exchange: Any, body: dict[str, Any]) -> None:
        exchange.send_json(200, {"count": 30, "tokens": []})

    async with tokenizing(another) as (_, model, asked):
        conversation = model.conversation()
        conversation.add(LONG)
        assert await conversation.prompt_tokens() == 46
        await conversation.complete(max_tokens=5)
        assert "counts 46 tokens where" in caplog.text
        conversation.add(USER)
        bound = await conversation.prompt_tokens()
        assert bound >= (await conversation.complete(max_tokens=5)).usage.prompt_tokens
        assert asked == {"/tokenize": 1}


async def test_a_count_that_is_a_little_too_low_keeps_its_margin() -> None:
    """A tokenizer that leaves out the first token of a prompt, say."""

    async def one_less(exchange: Any, body: dict[str, Any]) -> None:
        exchange.send_json(200, {"count": len(ScriptedTokenizer().render(body["messages"])) - 1})

    async with tokenizing(one_less) as (_, model, _asked):
        conversation = model.conversation()
        for _ in range(3):
            conversation.add(LONG)
            bound = await conversation.prompt_tokens()
            assert bound == (await conversation.complete(max_tokens=5)).usage.prompt_tokens + 15


async def test_an_endpoint_without_a_system_role_is_asked_again_as_it_wants_conversations() -> None:
    refusal = "System role not supported"

    async def template(exchange: Any, body: dict[str, Any]) -> None:
        if body["messages"][0]["role"] == "system":
            exchange.send_json(400, {"error": {"message": refusal}})
        else:
            exchange.send_json(200, {"count": len(ScriptedTokenizer().render(body["messages"]))})

    def script(request: Request) -> Answer:
        return Fault.http(400, refusal) if request.messages[0]["role"] == "system" else "x"

    async with tokenizing(template, script) as (_, model, _asked):
        conversation = model.conversation()
        conversation.add(Message("system", "Be brief."), LONG)
        for turn in range(3):
            bound = await conversation.prompt_tokens()
            actual = (await conversation.complete(max_tokens=5)).usage.prompt_tokens
            assert bound >= actual
            assert turn == 0 or bound <= actual + 16
            conversation.add(LONG)


async def test_a_tokenizer_that_does_not_answer_holds_up_one_call_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "_TIMEOUT", 0.2)

    async def silent(exchange: Any, body: dict[str, Any]) -> None:
        exchange.answered = True

    async with tokenizing(silent) as (_, model, asked):
        for _ in range(2):
            conversation = model.conversation()
            conversation.add(USER)
            assert await conversation.prompt_tokens() >= 200
        assert asked == {"/tokenize": 1}


async def test_a_tokenizer_that_is_overloaded_is_asked_again_a_few_times() -> None:
    async def busy(exchange: Any, body: dict[str, Any]) -> None:
        exchange.send_json(503, {"error": {"message": "overloaded"}})

    async with tokenizing(busy) as (_, model, asked):
        for _ in range(5):
            conversation = model.conversation()
            conversation.add(USER)
            await conversation.prompt_tokens()
        assert asked == {"/tokenize": 3}


async def test_settings_that_change_the_template_go_along() -> None:
    bodies: list[dict[str, Any]] = []

    async def recorded(exchange: Any, body: dict[str, Any]) -> None:
        bodies.append(body)
        exchange.send_json(200, {"count": 9})

    thinking = {"chat_template_kwargs": {"enable_thinking": False}, "min_p": 0.1}
    async with tokenizing(recorded, sampling=thinking) as (_, model, _asked):
        conversation = model.conversation()
        conversation.add(USER)
        await conversation.prompt_tokens()
    assert bodies == [
        {
            "add_generation_prompt": True,
            "model": "scripted",
            "messages": [{"role": "user", "content": USER.content}],
            "chat_template_kwargs": {"enable_thinking": False},
        }
    ]


@pytest.mark.parametrize(("answer", "finishes"), [(None, True), (absent, False)], ids=["counted", "not counted"])
async def test_a_small_budget_is_enough_where_prompts_are_counted(answer: Answering | None, finishes: bool) -> None:
    """Neither overspends; without a tokenizer the first prompt is held at a token a byte."""
    async with tokenizing(answer, "```python\nfinish(1)\n```") as (endpoint, model, _asked):
        limits = Limits(max_depth=0, max_tokens=1_900)
        agent = Agent(model, prompt_style="minimal", limits=limits, sampling={"max_tokens": 50})
        result = await agent.solve(LONG.content)
        assert result.status is (Status.FINISHED if finishes else Status.TOKEN_LIMIT)
        assert endpoint.ledger.total_tokens <= 1_900


async def test_where_a_bill_tells_nearly_as_much_the_tokenizer_is_not_asked() -> None:
    """Agents of one kind have nearly the same first prompt, and an observation is short."""
    script = lambda request: "```python\n1\n```" if request.step == 0 else "```python\nfinish(1)\n```"  # noqa: E731
    async with tokenizing(None, script) as (endpoint, model, asked):
        agent = Agent(model)
        for goal in ("Say 1.", "Say one.", "Say 1, please."):
            assert (await agent.solve(goal)).status is Status.FINISHED
        assert asked == {"/tokenize": 1}
        assert (await agent.solve(LONG.content)).status is Status.FINISHED
        assert asked == {"/tokenize": 2}, "a goal of 2,000 letters may have very few tokens or very many"
        assert endpoint.ledger.calls == 8


@pytest.mark.parametrize(
    "settings",
    [{"limits": Limits(max_tokens=20_000)}, {"context_limit": 30_000}, {"sampling": {"max_tokens": 20}}],
    ids=["a small budget", "a window", "short answers"],
)
async def test_where_a_few_tokens_matter_the_tokenizer_is_asked_for_every_prompt(settings: dict[str, Any]) -> None:
    async with tokenizing(None, "```python\nfinish(1)\n```") as (_, model, asked):
        for goal in ("Say 1.", "Say one.", "Say 1, please."):
            assert (await Agent(model, **settings).solve(goal)).status is Status.FINISHED
        assert asked == {"/tokenize": 3}


async def test_a_bound_without_a_question_is_never_too_low() -> None:
    async with tokenizing(None) as (_, model, asked):
        for words in (5, 40, 5, 1, 40):
            conversation = model.conversation()
            conversation.add(LONG, Message("user", "word " * words))
            bound = conversation.prompt_bound(300)
            assert (bound is None) == (words == 5 and not model.answered)
            bound = bound or await conversation.prompt_tokens()
            billed = (await conversation.complete(max_tokens=5)).usage.prompt_tokens
            assert billed <= bound <= billed + 300
        assert asked == {"/tokenize": 1}


class Plain(ScriptedTokenizer):
    """Writes a text in bytes, although the model samples whole words."""

    def encode(self, text: str) -> list[int]:
        return list(text.encode())


async def test_an_answer_may_be_written_in_more_tokens_than_were_sampled() -> None:
    (word,) = ScriptedTokenizer().encode("launch_subagent")
    async with tokenizing(absent, Reply("", token_ids=[word] * 20), tokenizer=Plain()) as (_, model, _asked):
        conversation = model.conversation()
        for _ in range(4):
            conversation.add(USER)
            bound = await conversation.prompt_tokens()
            usage = (await conversation.complete(max_tokens=50)).usage
            assert usage.completion_tokens < 25
            assert bound >= usage.prompt_tokens


async def test_cached_tokens_are_in_the_result_and_in_the_trace(tmp_path: Path) -> None:
    async with serving(Reply("```python\nfinish(1)\n```", cached_tokens=7)) as (_, model):
        result = await Agent(model, trace_dir=tmp_path).solve("Say 1.")
        (path,) = trace_files(tmp_path)
        assert result.usage.cached_tokens == ExecutionTree.load(path).usage.cached_tokens == 7


@pytest.mark.parametrize(
    ("card", "asks"),
    [
        ({}, False),
        ({"owned_by": "somebody"}, False),
        ({"owned_by": "llamacpp"}, True),
        ({"owned_by": "vllm", "max_model_len": 4096}, True),
        ({"max_model_len": 4096}, True),
    ],
)
async def test_only_servers_that_look_like_one_with_a_tokenizer_are_asked(card: dict[str, Any], asks: bool) -> None:
    async with tokenizing(absent) as (endpoint, model, asked):
        handle = endpoint._server.handler

        async def handler(exchange: Any) -> None:
            if exchange.path == "/v1/models":
                exchange.send_json(200, {"object": "list", "data": [{"id": model.name, "object": "model", **card}]})
            else:
                await handle(exchange)

        endpoint._server.handler = handler
        conversation = model.conversation()
        conversation.add(USER)
        await conversation.prompt_tokens()
        assert bool(asked) == asks


@pytest.mark.parametrize(("status", "most"), [(200, 1), (404, 1), (500, 3)])
async def test_the_list_of_models_is_not_asked_for_with_every_prompt(status: int, most: int) -> None:
    async with tokenizing(absent) as (endpoint, model, _asked):
        handle, listed = endpoint._server.handler, 0

        async def handler(exchange: Any) -> None:
            nonlocal listed
            if exchange.path == "/v1/models":
                listed += 1
                exchange.send_json(status, {"object": "list", "data": [{"id": model.name}]})
            else:
                await handle(exchange)

        endpoint._server.handler = handler

        async def talk() -> None:
            conversation = model.conversation()
            conversation.add(USER)
            await conversation.prompt_tokens()

        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(talk)
        assert 1 <= listed <= most
