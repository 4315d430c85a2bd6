"""What the embedded engine refuses over HTTP, and what it survives."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import anyio
import openai
import pytest

from recursive_agent.model.embedded import SHIPPED
from tests.waiting import until

from .engines import MESSAGES, NAME, Served, served

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(
        not (SHIPPED / "agent.json").is_file(), reason="this checkout ships no policy; `rao train` makes it"
    ),
]

# What is refused

CHAT: dict[str, Any] = {"messages": MESSAGES}
TEXT: dict[str, Any] = {"prompt": "a"}
REFUSED: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    (CHAT, {"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
    (CHAT, {"response_format": {"type": "json_object"}}, "response_format"),
    (CHAT, {"top_logprobs": 2}, "top_logprobs"),
    (CHAT, {"n": 0}, "n"),
    (CHAT, {"n": 129}, "n"),
    (CHAT, {"n": True}, "n"),
    (CHAT, {"temperature": -1}, "temperature"),
    (CHAT, {"temperature": "1"}, "temperature"),
    (CHAT, {"top_p": 0}, "top_p"),
    (CHAT, {"top_p": 1.1}, "top_p"),
    (CHAT, {"seed": 2**63}, "seed"),
    (CHAT, {"seed": 1.5}, "seed"),
    (CHAT, {"max_tokens": 0}, "max_tokens"),
    (CHAT, {"max_tokens": 3000}, "max_tokens"),
    (CHAT, {"stop": ""}, "stop"),
    (CHAT, {"stop": ["a", 1]}, "stop"),
    (CHAT, {"stream": "yes"}, "stream"),
    (CHAT, {"stream_options": {"include_usage": True}}, ""),
    (CHAT, {"frequency_penalty": 0.5}, "frequency_penalty"),
    (CHAT, {"logit_bias": {"5": 1}}, "logit_bias"),
    (CHAT, {"guided_json": {}}, "guided_json"),
    (CHAT, {"messages": []}, "messages"),
    (
        CHAT,
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
        "messages.0",
    ),
    (CHAT, {"messages": [{"role": "god", "content": "a"}]}, "messages.0.role"),
    (
        CHAT,
        {"messages": [{"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": ""}}]}]},
        "messages.0.tool_calls",
    ),
    (TEXT, {"logprobs": 2}, "logprobs"),
    (TEXT, {"echo": True}, "echo"),
    (TEXT, {"suffix": "b"}, "suffix"),
    (TEXT, {"best_of": 2}, "best_of"),
    (TEXT, {"top_k": 5}, "top_k"),
    (TEXT, {"min_p": 0.1}, "min_p"),
    (TEXT, {"ignore_eos": True}, "ignore_eos"),
    (TEXT, {"prompt_logprobs": 1}, "prompt_logprobs"),
    (TEXT, {"prompt": ""}, "prompt"),
    (TEXT, {"prompt": []}, "prompt"),
    (TEXT, {"prompt": [[]]}, "prompt"),
    (TEXT, {"prompt": [1, "a"]}, "prompt"),
    (TEXT, {"prompt": [-1]}, "prompt"),
    (TEXT, {"prompt": [544]}, "prompt"),
    (TEXT, {"prompt": [True]}, "prompt"),
    (TEXT, {"prompt": [5] * 2048}, "prompt"),
    (TEXT, {"max_tokens": 2049}, "max_tokens"),
    (CHAT, {"stop_token_ids": "a"}, "stop_token_ids"),
    (TEXT, {"prompt": ["a"] * 65, "n": 2}, "n"),
    (TEXT, {"stop_token_ids": [2**40]}, "stop_token_ids"),
]


async def test_what_it_cannot_do_is_refused_by_name(engine: Served) -> None:
    for base, change, param in REFUSED:
        path = "/v1/chat/completions" if base is CHAT else "/v1/completions"
        for stream in (False, True):
            if stream and "stream_options" in change:
                continue  # which then is in order
            response = await engine.post(path, **{"stream": stream, **base, **change})
            assert response.status_code == 400, (change, response.text)
            error = response.json()["error"]
            assert (error["param"] or "").startswith(param), (change, error)
    assert engine.model.pending == 0


async def test_settings_that_ask_for_nothing_special_pass(engine: Served) -> None:
    neutral = {
        "frequency_penalty": 0.0, "presence_penalty": 0, "logit_bias": {}, "user": "u", "metadata": {"a": "b"},
        "store": False, "service_tier": "auto", "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "n": 1,
        "stop": None, "max_tokens": 3, "stream": False,
    }  # fmt: skip
    chat = {
        "tools": [],
        "tool_choice": "auto",
        "response_format": {"type": "text"},
        "logprobs": False,
        "top_logprobs": 0,
    }
    assert (await engine.post("/v1/chat/completions", **CHAT, **neutral, **chat)).status_code == 200
    assert (await engine.post("/v1/completions", **TEXT, **neutral, echo=False, best_of=1)).status_code == 200


async def test_an_answer_may_be_sent_back_as_it_came(engine: Served) -> None:
    answer = await engine.openai.chat.completions.create(model=NAME, messages=MESSAGES, max_tokens=5)
    said = answer.choices[0].message.model_dump()
    again = [*MESSAGES, said, {"role": "user", "content": "go on"}]
    assert (await engine.post("/v1/chat/completions", messages=again, max_tokens=3)).status_code == 200


# Going away, and failing


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_goes_ends_the_sampling(stream: bool) -> None:
    async with served() as engine:
        submitted: list[Any] = []
        submit = engine.model.engine.submit
        engine.model.engine.submit = lambda request: (submitted.append(request), submit(request))  # type: ignore[method-assign, assignment, func-returns-value]
        engine.model.engine.run = lambda seconds: time.sleep(0.001)  # type: ignore[method-assign]  # a long answer
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: engine.complete(n=3, stream=stream))
            await until(lambda: engine.model.pending == 3)
            group.cancel_scope.cancel()
        await until(lambda: engine.model.pending == 0)
        assert all(request.cancelled for request in submitted)


async def test_a_failure_of_the_engine_is_told_and_survived(engine: Served, caplog: Any) -> None:
    whole = engine.model.engine.forward

    def broken(step: Any, cache: Any) -> Any:
        raise MemoryError("a private matter")

    engine.model.engine.forward = broken  # type: ignore[method-assign]
    response = await engine.post("/v1/completions", prompt="a", n=2)
    assert response.status_code == 500
    assert response.json()["error"]["code"] == "engine_failed"
    with pytest.raises(openai.APIError, match="engine failed"):
        async for _ in await engine.openai.chat.completions.create(model=NAME, messages=MESSAGES, stream=True):
            pass
    assert "private" not in response.text
    assert "a private matter" in caplog.text
    engine.model.engine.forward = whole  # type: ignore[method-assign]
    await engine.complete()


async def test_keys_and_limits_hold_for_the_engine_too() -> None:
    async with served(api_keys=("k",), max_body_bytes=500) as engine:
        assert (await engine.post("/v1/completions", prompt="a")).status_code == 401
        engine.http.headers["authorization"] = "Bearer k"
        assert (await engine.post("/v1/completions", prompt="a")).status_code == 200
        assert (await engine.post("/v1/completions", prompt="a" * 500)).status_code == 413


# The document


async def test_the_document_is_true(tmp_path: Path) -> None:
    async with served(api_keys=("k",)) as engine:
        command = [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{engine.url}/openapi.json"),
            *(
                "--header",
                "Authorization: Bearer k",
                "--seed",
                "1",
                "--max-examples",
                "15",
                "--phases",
                "coverage,fuzzing",
            ),
            # Whether a prompt and its answer fit the context window is nothing that a schema can say.
            *("--exclude-checks", "positive_data_acceptance", "--generation-database", "none", "--no-color"),
        ]
        done = await anyio.run_process(command, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stdout.decode()
    assert b"Tested: 7" in done.stdout
