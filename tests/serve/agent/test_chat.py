"""The agent behind /v1/chat/completions, asked by the official client."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import anyio
import openai
import pytest
from pydantic import BaseModel

from recursive_agent import Limits
from recursive_agent.testing import Fault, Request, by_goal
from tests.agent.helpers import py

from .agents import AGENT, KEY, MODEL, UPSTREAM_KEY, served

pytestmark = pytest.mark.anyio

TREE = by_goal(
    {
        "add up": py(
            """
            parts = await asyncio.gather(*[launch_subagent(f"part {n}", context=n) for n in context])
            finish(sum(parts))
            """
        ),
        "part": py("finish(context * 10)"),
        "say": py("finish('a plain text, ä')"),
        "endless": py("print('still at it')"),
    }
)


def said(text: str) -> Any:
    return [{"role": "user", "content": text}]


class Total(BaseModel):
    total: int
    words: list[str]


async def test_a_goal_is_reached_by_a_tree_and_the_answer_is_its_result(tmp_path: Path) -> None:
    async with served(TREE, tmp_path) as server:
        answer = await server.client.chat.completions.create(
            model=AGENT, messages=said("add up"), extra_body={"context": [1, 2, 3]}
        )
        [tree] = server.trees()
        ledger = server.endpoint.ledger
        metrics = {
            name: await server.metric(name)
            for name in (
                'rao_agent_runs_total{status="finished"}',
                "rao_agent_agents_total",
                'rao_agent_tokens_total{kind="prompt"}',
                "rao_agent_runs_active",
            )
        }
    assert answer.choices[0].message.content == "60"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (ledger.prompt_tokens, ledger.total_tokens)
    assert answer.usage.total_tokens == tree.usage.total_tokens
    extension = answer.model_dump()["rao"]
    assert extension == {"run": tree.run, "status": "finished", "reason": None, "agents": 4, "depth": 1, "score": None}
    assert list(metrics.values()) == [1, 4, ledger.prompt_tokens, 0]


async def test_text_is_given_as_text_and_the_run_is_named_in_a_header(tmp_path: Path) -> None:
    async with served(TREE, tmp_path) as server:
        raw = await server.client.chat.completions.with_raw_response.create(model=AGENT, messages=said("say it"))
        assert raw.parse().choices[0].message.content == "a plain text, ä"
        assert raw.headers["x-rao-run"] == server.trees()[0].run


async def test_a_stream_tells_progress_then_the_answer_then_usage(tmp_path: Path) -> None:
    async with served(TREE, tmp_path) as server:
        stream = await server.client.chat.completions.create(
            model=AGENT,
            messages=said("add up"),
            stream=True,
            stream_options={"include_usage": True},
            extra_body={"context": [4, 5]},
        )
        assert stream.response.headers["x-rao-run"]
        chunks = [chunk async for chunk in stream]
        [tree] = server.trees()
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    assert deltas[0].role == "assistant"
    progress = "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas).splitlines()
    assert progress[0] == "agent 0 started: add up"
    assert {"agent 0.0 started: part 4", "agent 0.1 started: part 5"} < set(progress)
    assert progress[-1].startswith("agent 0 finished (1 calls, ")
    told = [bool(delta.content) for delta in deltas]
    assert told.index(True) > max(i for i, delta in enumerate(deltas) if getattr(delta, "reasoning_content", None))
    assert "".join(delta.content or "" for delta in deltas) == "90"
    last, usage = chunks[-2:]
    assert last.choices[0].finish_reason == "stop"
    assert last.model_dump()["rao"]["run"] == tree.run
    assert usage.choices == []
    assert usage.usage is not None
    assert usage.usage.total_tokens == tree.usage.total_tokens
    assert all(chunk.usage is None for chunk in chunks[:-1])


async def test_a_long_answer_comes_whole_through_a_stream(tmp_path: Path) -> None:
    async with served(py("finish('äß' * 5_000)"), tmp_path) as server:
        stream = await server.client.chat.completions.create(model=AGENT, messages=said("talk"), stream=True)
        pieces = [chunk.choices[0].delta.content or "" async for chunk in stream]
    assert "".join(pieces) == "äß" * 5_000
    assert len([piece for piece in pieces if piece]) > 1


LONG = "words of an earlier turn, which nobody has looked at yet"


async def test_system_messages_instruct_and_earlier_turns_are_data(tmp_path: Path) -> None:
    script = py("finish([context['conversation'], context['data']])")
    async with served(script, tmp_path, instructions="Be brief.") as server:
        answer = await server.client.chat.completions.create(
            model=AGENT,
            messages=[
                {"role": "system", "content": "Speak like a pirate."},
                {"role": "user", "content": [{"type": "text", "text": "SECRET "}, {"type": "text", "text": LONG}]},
                {"role": "assistant", "content": "aye"},
                {"role": "developer", "content": "Swear not."},
                {"role": "user", "content": "go on"},
            ],
            extra_body={"context": "the data"},
        )
        [request] = server.endpoint.requests
        [tree] = server.trees()
    turns = [{"role": "user", "content": f"SECRET {LONG}"}, {"role": "assistant", "content": "aye"}]
    assert json.loads(answer.choices[0].message.content or "") == [turns, "the data"]
    assert "Be brief.\n\nSpeak like a pirate.\n\nSwear not." in request.text("system")
    assert "SECRET" not in request.text()
    assert request.first.startswith("Goal: go on\n\n")
    assert "context['conversation']" in tree.root.goal


async def test_earlier_turns_join_a_mapping(tmp_path: Path) -> None:
    turns = [*said("one"), {"role": "assistant", "content": "two"}, *said("three")]
    async with served(py("finish(sorted(context))"), tmp_path) as server:
        answer = await server.client.chat.completions.create(
            model=AGENT, messages=turns, extra_body={"context": {"a": 1}}
        )
        assert json.loads(answer.choices[0].message.content or "") == ["a", "conversation"]
        with pytest.raises(openai.BadRequestError, match="cannot have this key too") as caught:
            await server.client.chat.completions.create(
                model=AGENT, messages=turns, extra_body={"context": {"conversation": 1}}
            )
    assert caught.value.param == "context"


async def test_structured_output_is_what_finish_must_give(tmp_path: Path) -> None:
    def script(request: Request) -> str:
        good = "finish({'total': 3, 'words': ['a']})"
        return py("finish({'total': 'three'})" if request.step == 0 else good)

    async with served(script, tmp_path) as server:
        answer = await server.client.chat.completions.parse(model=AGENT, messages=said("count"), response_format=Total)
        assert "finish() was refused" in server.endpoint.requests[1].last
    assert answer.choices[0].message.parsed == Total(total=3, words=["a"])


async def test_json_object_asks_for_an_object(tmp_path: Path) -> None:
    def script(request: Request) -> str:
        return py("finish([1])" if request.step == 0 else "finish({'a': float('nan')})")

    async with served(script, tmp_path) as server:
        answer = await server.client.chat.completions.create(
            model=AGENT, messages=said("x"), response_format={"type": "json_object"}
        )
    assert json.loads(answer.choices[0].message.content or "") == {"a": None}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("b'\\xff'", '"_w=="'),
        ("10**5000", "1" + "0" * 5000),
        ("{1: (2, None)}", '{"1":[2,null]}'),
    ],
)
async def test_any_result_can_be_told(tmp_path: Path, value: str, text: str) -> None:
    async with served(py(f"finish({value})"), tmp_path) as server:
        answer = await server.client.chat.completions.create(model=AGENT, messages=said("x"))
    assert answer.choices[0].message.content == text


async def test_a_limit_gives_what_there_was(tmp_path: Path) -> None:
    async with served(TREE, tmp_path) as server:
        answer = await server.client.chat.completions.create(
            model=AGENT, messages=said("endless"), extra_body={"limits": {"max_steps": 2}}
        )
    assert answer.choices[0].finish_reason == "length"
    assert answer.choices[0].message.content == "still at it"
    assert answer.model_dump()["rao"]["status"] == "step_limit"
    assert answer.model_dump()["rao"]["reason"] == "2 steps were used without finish()"


async def test_limits_are_those_of_the_request_up_to_the_ceilings(tmp_path: Path) -> None:
    limits, ceilings = Limits(max_steps=5, max_agents=50), Limits(max_steps=7, max_tokens=1000, timeout=60)
    async with served(TREE, tmp_path, limits=limits, ceilings=ceilings) as server:
        for wanted in ({}, {"max_steps": 3, "timeout": 2.5}, {"max_steps": 100, "max_tokens": 10**9, "timeout": 1e300}):
            await server.client.chat.completions.create(
                model=AGENT, messages=said("say"), extra_body={"limits": wanted}
            )
        found = [tree.limits for tree in server.trees()]
    assert [one["max_steps"] for one in found] == [5, 3, 7]
    assert [one["timeout"] for one in found] == [60, 2.5, 60]
    assert [one["max_tokens"] for one in found] == [1000, 1000, 1000]
    assert all(one["max_agents"] == 50 for one in found)


async def test_sampling_settings_reach_every_call_of_the_model(tmp_path: Path) -> None:
    async with served(TREE, tmp_path) as server:
        for _ in range(2):
            await server.client.chat.completions.create(
                model=AGENT,
                messages=said("add up"),
                temperature=0.25,
                top_p=0.5,
                max_completion_tokens=77,
                seed=5,
                extra_body={"context": [1]},
            )
        bodies = [request.body for request in server.endpoint.requests]
    assert len(bodies) == 4
    assert {(body["temperature"], body["top_p"], body["max_tokens"]) for body in bodies} == {(0.25, 0.5, 77)}
    assert [body["seed"] for body in bodies[:2]] == [body["seed"] for body in bodies[2:]]


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"stop": ["x"]}, "stop"),
    ({"n": 2}, "n"),
    ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
    ({"logprobs": True}, "logprobs"),
    ({"audio": {"voice": "alloy", "format": "mp3"}}, "audio"),
    ({"modalities": ["text", "audio"]}, "modalities"),
    ({"frequency_penalty": 1}, "frequency_penalty"),
    ({"logit_bias": {"5": 1}}, "logit_bias"),
    ({"store": True}, "store"),
    ({"reasoning_effort": "high"}, "reasoning_effort"),
    ({"temperature": -1}, "temperature"),
    ({"temperature": "hot"}, "temperature"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"unheard_of": 1}, "unheard_of"),
    ({"limits": {"max_wishes": 3}}, "limits.max_wishes"),
    ({"limits": {"max_agents": 0}}, "limits.max_agents"),
    ({"limits": {"max_steps": 1.5}}, "limits.max_steps"),
    ({"limits": {"timeout": -3}}, "limits.timeout"),
    ({"limits": {"max_cost": 1}}, "limits"),
    ({"messages": []}, "messages"),
    ({"messages": [{"role": "user", "content": "  "}]}, "messages"),
    ({"messages": [{"role": "system", "content": "x"}]}, "messages"),
    ({"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}, "messages"),
    ({"stream_options": {"include_usage": True}}, ""),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": 1}}}},
        "response_format",
    ),
]


@pytest.mark.parametrize(("fields", "param"), REFUSED, ids=lambda value: json.dumps(value)[:60])
async def test_what_the_agent_cannot_honour_is_refused_by_name(
    refusing: Any, fields: dict[str, Any], param: str
) -> None:
    answer = await refusing.http.post("/v1/chat/completions", json={"model": AGENT, "messages": said("say"), **fields})
    assert answer.status_code == 400
    assert (answer.json()["error"]["param"] or "") == param
    assert refusing.endpoint.requests == []


async def test_pictures_are_refused(refusing: Any) -> None:
    picture = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]
    answer = await refusing.http.post(
        "/v1/chat/completions", json={"model": AGENT, "messages": [{"role": "user", "content": picture}]}
    )
    assert answer.status_code == 400
    assert answer.json()["error"]["param"].startswith("messages.0.content")


@pytest.fixture
async def refusing(tmp_path: Path) -> Any:
    async with served(TREE, tmp_path) as server:
        yield server


async def test_harmless_settings_are_accepted(refusing: Any) -> None:
    answer = await refusing.client.chat.completions.create(
        model=AGENT,
        messages=said("say"),
        user="me",
        metadata={"a": "b"},
        store=False,
        n=1,
        logprobs=False,
        modalities=["text"],
        service_tier="auto",
        safety_identifier="x",
        prompt_cache_key="y",
    )
    assert answer.choices[0].message.content == "a plain text, ä"


async def test_models_are_listed_and_unknown_ones_are_not_found(tmp_path: Path) -> None:
    async with served(TREE, tmp_path) as server:
        assert [model.id async for model in server.client.models.list()] == [AGENT]
        assert (await server.client.models.retrieve(AGENT)).id == AGENT
        for name in (MODEL, "other"):
            with pytest.raises(openai.NotFoundError) as caught:
                await server.client.chat.completions.create(model=name, messages=said("say"))
            assert caught.value.code == "model_not_found"
        with pytest.raises(openai.NotFoundError):
            await server.client.models.retrieve(MODEL)


async def test_a_model_that_fails_is_a_bad_gateway_and_no_secret(tmp_path: Path) -> None:
    async with served(lambda request: Fault.http(401, f"no such key {UPSTREAM_KEY}"), tmp_path) as server:
        answer = await server.http.post("/v1/chat/completions", json={"model": AGENT, "messages": said("x")})
        [tree] = server.trees()
        failed = await server.metric('rao_agent_runs_total{status="infra_error"}')
        assert server.endpoint.base_url not in answer.text
    assert answer.status_code == 502
    assert answer.headers["x-rao-run"] == tree.run
    error = answer.json()["error"]
    assert (error["type"], error["code"]) == ("upstream_error", "model_failed")
    assert "refused the API key" in error["message"]
    assert UPSTREAM_KEY not in answer.text
    assert (tree.status, failed) == ("infra_error", 1)


async def test_a_failure_in_mid_stream_is_an_error_event(tmp_path: Path) -> None:
    def script(request: Request) -> Any:
        return py("1 + 1") if request.step == 0 else Fault.http(401, "no longer")

    async with served(script, tmp_path) as server:
        stream = await server.client.chat.completions.create(model=AGENT, messages=said("x"), stream=True)
        shown = ""

        async def watch() -> None:
            nonlocal shown
            async for chunk in stream:
                shown += getattr(chunk.choices[0].delta, "reasoning_content", None) or ""

        with pytest.raises(openai.APIError, match="refused the API key") as caught:
            await watch()
        assert "agent 0 infra_error (1 calls, " in shown
        assert server.endpoint.base_url not in shown + str(caught.value)


async def test_what_the_model_refuses_is_the_requests_fault(tmp_path: Path) -> None:
    async with served(lambda request: Fault.http(400, "temperature too high"), tmp_path) as server:
        with pytest.raises(openai.BadRequestError, match="temperature too high"):
            await server.client.chat.completions.create(model=AGENT, messages=said("x"), temperature=99)


async def test_a_key_is_needed_everywhere(tmp_path: Path) -> None:
    async with served(TREE, tmp_path) as server:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Bearer {UPSTREAM_KEY}"}):
            for path in ("/v1/chat/completions", "/v1/responses", "/v1/models", "/v1/traces/00", "/metrics"):
                method = "POST" if path.startswith(("/v1/c", "/v1/r")) else "GET"
                request = server.http.build_request(method, path, json={"model": AGENT, "messages": said("say")})
                request.headers.pop("authorization")
                request.headers.update(headers)
                answer = await server.http.send(request)
                assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
        assert server.endpoint.requests == []


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl on this machine")
async def test_curl(tmp_path: Path) -> None:
    body = json.dumps({"model": AGENT, "messages": said("add up"), "context": [7], "stream": True})
    async with served(TREE, tmp_path) as server:
        command = ["curl", "-sS", "--fail-with-body", "-N", f"{server.url}/v1/chat/completions", "-d", body]
        headers = ["-H", f"Authorization: Bearer {KEY}", "-H", "Content-Type: application/json"]
        shown = (await anyio.run_process([*command, *headers])).stdout.decode()
    events = [line.removeprefix("data: ") for line in shown.splitlines() if line]
    assert events[-1] == "[DONE]"
    deltas = [json.loads(event)["choices"][0]["delta"] for event in events[:-1]]
    assert "".join(delta.get("content", "") for delta in deltas) == "70"
