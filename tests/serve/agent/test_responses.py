"""The agent behind /v1/responses, asked by the official client."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from recursive_agent.testing import Fault, Request
from tests.agent.helpers import py

from .agents import AGENT, served
from .test_chat import TREE

pytestmark = pytest.mark.anyio


class Total(BaseModel):
    total: int


async def test_an_answer_is_a_message_with_the_usage_of_the_tree(tmp_path: Path) -> None:
    async with served(TREE, tmp_path) as server:
        answer = await server.client.responses.create(
            model=AGENT,
            input="add up",
            instructions="Be exact.",
            max_output_tokens=500,
            temperature=0.5,
            metadata={"a": "b"},
            extra_body={"context": [1, 2], "seed": 3},
        )
        [tree] = server.trees()
        request = server.endpoint.requests[0]
    assert answer.output_text == "30"
    assert answer.status == "completed"
    assert (answer.instructions, answer.metadata, answer.model) == ("Be exact.", {"a": "b"}, AGENT)
    assert answer.usage is not None
    assert answer.usage.total_tokens == tree.usage.total_tokens
    assert answer.model_dump()["rao"]["agents"] == 3
    assert "Be exact." in request.text("system")
    assert (request.body["max_tokens"], request.body["temperature"]) == (500, 0.5)
    assert tree.seed == 3


async def test_items_are_a_conversation_and_answers_go_back_as_they_came(tmp_path: Path) -> None:
    async with served(py("finish(context['conversation'])"), tmp_path) as server:
        first = await server.client.responses.create(
            model=AGENT, input=[{"role": "user", "content": "one"}, {"role": "user", "content": "two"}]
        )
        items: list[Any] = [
            {"role": "developer", "content": "Be exact."},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "one"}]},
            *[item.model_dump(exclude_none=True) for item in first.output],
            {"type": "reasoning", "id": "rs_1", "summary": []},
            {"role": "user", "content": "and now?"},
        ]
        answer = await server.client.responses.create(model=AGENT, input=items)
    assert [turn["role"] for turn in json.loads(answer.output_text)] == ["user", "assistant"]
    assert json.loads(answer.output_text)[1]["content"] == first.output_text


async def test_structured_output_is_parsed(tmp_path: Path) -> None:
    async with served(py("finish({'total': 5})"), tmp_path) as server:
        answer = await server.client.responses.parse(model=AGENT, input="x", text_format=Total)
        assert answer.output_parsed == Total(total=5)
        async with server.client.responses.stream(model=AGENT, input="x", text_format=Total) as stream:
            assert (await stream.get_final_response()).output_parsed == Total(total=5)


async def test_a_stream_has_the_official_sequence_of_events(tmp_path: Path) -> None:
    async with served(TREE, tmp_path) as server:
        async with server.client.responses.stream(
            model=AGENT, input="add up", extra_body={"context": [1, 2]}
        ) as stream:
            events = [event async for event in stream]
            final = await stream.get_final_response()
        [tree] = server.trees()
    kinds = [event.type.removeprefix("response.") for event in events]
    merged = [kind for at, kind in enumerate(kinds) if at == 0 or kind != kinds[at - 1]]
    assert merged == [
        *("created", "in_progress"),
        *("output_item.added", "reasoning_summary_part.added", "reasoning_summary_text.delta"),
        *("reasoning_summary_text.done", "reasoning_summary_part.done", "output_item.done"),
        *("output_item.added", "content_part.added", "output_text.delta"),
        *("output_text.done", "content_part.done", "output_item.done"),
        "completed",
    ]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    reasoning, message = final.output
    assert reasoning.type == "reasoning"
    assert message.type == "message"
    lines = reasoning.summary[0].text.splitlines()
    assert lines[0] == "agent 0 started: add up"
    assert "".join(event.delta for event in events if event.type == "response.reasoning_summary_text.delta") == (
        reasoning.summary[0].text
    )
    assert final.output_text == "30"
    assert final.usage is not None
    assert final.usage.total_tokens == tree.usage.total_tokens


async def test_events_are_named_and_the_last_one_ends_the_stream(tmp_path: Path) -> None:
    async with served(TREE, tmp_path) as server:
        body = {"model": AGENT, "input": "say", "stream": True}
        text = (await server.http.post("/v1/responses", json=body)).text
    events = [event.split("\n") for event in text.strip().split("\n\n")]
    for name, data in events:
        assert name.removeprefix("event: ") == json.loads(data.removeprefix("data: "))["type"]
    assert events[-1][0] == "event: response.completed"


async def test_a_limit_makes_an_incomplete_answer(tmp_path: Path) -> None:
    limits: dict[str, Any] = {"limits": {"max_steps": 1}}
    async with served(TREE, tmp_path) as server:
        whole = await server.client.responses.create(model=AGENT, input="endless", extra_body=limits)
        stream = await server.client.responses.create(model=AGENT, input="endless", extra_body=limits, stream=True)
        last = [event async for event in stream][-1]
    assert last.type == "response.incomplete"
    for answer in (whole, last.response):
        assert answer.status == "incomplete"
        assert answer.incomplete_details is not None
        assert answer.output_text == "still at it"
        assert answer.model_dump()["rao"]["status"] == "step_limit"


async def test_a_failure_in_mid_stream_is_a_failed_response(tmp_path: Path) -> None:
    def script(request: Request) -> Any:
        return py("1 + 1") if request.step == 0 else Fault.http(401, "no longer")

    async with served(script, tmp_path) as server:
        stream = await server.client.responses.create(model=AGENT, input="x", stream=True)
        last = [event async for event in stream][-1]
    assert last.type == "response.failed"
    assert last.response.status == "failed"
    assert last.response.error is not None
    assert "refused the API key" in last.response.error.message


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"background": True}, "background"),
        ({"store": True}, "store"),
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"reasoning": {"effort": "high"}}, "reasoning.effort"),
        ({"input": []}, "input"),
        ({"input": ""}, "input"),
        ({"input": [{"type": "reasoning", "summary": []}]}, "input"),
        ({"limits": {"max_agents": "many"}}, "limits.max_agents"),
        ({"text": {"format": {"type": "json_schema", "name": "a", "schema": {"$ref": "http://x/"}}}}, "text.format"),
    ],
    ids=lambda value: json.dumps(value)[:60],
)
async def test_what_the_agent_cannot_honour_is_refused_by_name(
    tmp_path: Path, fields: dict[str, Any], param: str
) -> None:
    async with served(TREE, tmp_path) as server:
        answer = await server.http.post("/v1/responses", json={"model": AGENT, "input": "say", **fields})
        assert server.endpoint.requests == []
    assert answer.status_code == 400
    assert answer.json()["error"]["param"].startswith(param)


async def test_an_earlier_answer_by_id_is_refused_with_the_way_out(tmp_path: Path) -> None:
    async with served(TREE, tmp_path) as server:
        with pytest.raises(openai.BadRequestError, match="keeps no conversations"):
            await server.client.responses.create(model=AGENT, input="say", previous_response_id="resp_1")


@pytest.mark.parametrize(
    ("items", "said"),
    [
        (
            [{"role": "user", "content": "a"}, {"type": "function_call_output", "call_id": "1", "output": "x"}],
            "item 1 is of the type 'function_call_output', which is not read: the agent runs its tools itself",
        ),
        (
            [{"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"}],
            "item 0 is of the type 'function_call'",
        ),
        ([{"type": "item_reference", "id": "x"}], "item 0 is of the type 'item_reference', which is not read"),
        (["a"], "item 0 must be a message"),
        ([], "input must be a text, or a list of messages that is not empty"),
        (7, "input must be a text, or a list of messages that is not empty"),
        (
            [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}],
            "part 0 of the content is an image",
        ),
        ([{"role": "user"}], "input.0.content: this field is required"),
    ],
)
async def test_an_item_that_is_not_read_is_named_in_one_sentence(items: Any, said: str, tmp_path: Path) -> None:
    async with served("x", tmp_path) as server:
        answer = await server.http.post("/v1/responses", json={"model": AGENT, "input": items})
    message = answer.json()["error"]["message"]
    assert answer.status_code == 400
    assert said in message
    assert "Input should be" not in message
    assert answer.json()["error"]["param"].startswith("input")
