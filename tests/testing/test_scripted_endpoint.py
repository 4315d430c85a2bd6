"""The scripted endpoint against the `openai` SDK itself: it has to be what other clients expect."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import anyio
import httpx2
import openai
import pytest

from recursive_agent.testing import (
    Fault,
    FaultKind,
    Reply,
    Request,
    ScriptedEndpoint,
    ScriptedTokenizer,
    by_goal,
    replies,
)
from tests.waiting import PATIENCE, until

HELLO = [{"role": "user", "content": "hello"}]


def client(endpoint: ScriptedEndpoint, key: str = "k") -> openai.OpenAI:
    return openai.OpenAI(base_url=endpoint.base_url, api_key=key, max_retries=0)


@pytest.fixture
def endpoint() -> Iterator[ScriptedEndpoint]:
    with ScriptedEndpoint("hello to you, too", max_model_len=200) as endpoint:
        yield endpoint


def test_chat_answers_as_the_sdk_expects(endpoint: ScriptedEndpoint) -> None:
    with client(endpoint) as sdk:
        answer = sdk.chat.completions.create(model="scripted", messages=HELLO, logprobs=True)  # type: ignore[call-overload]
    assert answer.choices[0].message.content == "hello to you, too"
    assert answer.usage.total_tokens == endpoint.ledger.total_tokens
    assert len(answer.choices[0].logprobs.content) == answer.usage.completion_tokens


def test_streams_answer_as_the_sdk_expects(endpoint: ScriptedEndpoint) -> None:
    with client(endpoint) as sdk:
        options = {"include_usage": True}
        chunks = list(
            sdk.chat.completions.create(  # type: ignore[call-overload]
                model="scripted", messages=HELLO, stream=True, stream_options=options
            )
        )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == "hello to you, too"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage.total_tokens == endpoint.ledger.total_tokens


def test_completions_take_text_or_ids_and_give_ids_and_log_probs(endpoint: ScriptedEndpoint) -> None:
    ids = endpoint.tokenizer.encode("count: ")
    with client(endpoint) as sdk:
        for prompt in ("count: ", ids):
            answer = sdk.completions.create(
                model="scripted", prompt=prompt, logprobs=1, extra_body={"return_token_ids": True}
            )
            choice = answer.choices[0].model_dump()
            assert choice["prompt_token_ids"] == ids
            assert endpoint.tokenizer.decode(choice["token_ids"]) == choice["text"] == "hello to you, too"
            assert len(choice["logprobs"]["token_logprobs"]) == len(choice["token_ids"])
            assert answer.usage is not None
            assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (len(ids), len(choice["token_ids"]))


def test_without_being_asked_it_gives_neither_ids_nor_log_probs(endpoint: ScriptedEndpoint) -> None:
    with client(endpoint) as sdk:
        choice = sdk.completions.create(model="scripted", prompt="x").choices[0].model_dump()
    assert choice["logprobs"] is None
    assert "token_ids" not in choice


def test_the_stop_string_ends_an_answer_as_in_vllm(endpoint: ScriptedEndpoint) -> None:
    with client(endpoint) as sdk:
        answer = sdk.completions.create(
            model="scripted", prompt="x", stop=[" you"], logprobs=1, extra_body={"return_token_ids": True}
        )
    choice = answer.choices[0].model_dump()
    assert (choice["text"], choice["finish_reason"], choice["stop_reason"]) == ("hello to", "stop", " you")
    assert endpoint.tokenizer.decode(choice["token_ids"]) == "hello to you", "what was sampled holds the stop string"


def test_max_tokens_cuts_and_n_multiplies() -> None:
    with ScriptedEndpoint("abcdefgh") as endpoint, client(endpoint) as sdk:
        answer = sdk.chat.completions.create(model="scripted", messages=HELLO, max_tokens=3, n=2)  # type: ignore[call-overload]
        assert [(c.message.content, c.finish_reason) for c in answer.choices] == [("abc", "length")] * 2
        assert answer.usage.completion_tokens == endpoint.ledger.completion_tokens == 6


def test_tokenize_models_and_health(endpoint: ScriptedEndpoint) -> None:
    root = endpoint.base_url.removesuffix("/v1")
    with httpx2.Client() as http:
        ids = http.post(f"{root}/tokenize", json={"messages": HELLO}).json()
        assert ids["tokens"] == endpoint.tokenizer.render(HELLO)
        assert (ids["count"], ids["max_model_len"]) == (len(ids["tokens"]), 200)
        assert http.post(f"{root}/tokenize", json={"prompt": "hi"}).json()["tokens"] == endpoint.tokenizer.encode("hi")
        assert http.get(f"{endpoint.base_url}/models").json()["data"][0]["max_model_len"] == 200
        assert http.get(f"{root}/health").status_code == 200
        assert http.get(f"{root}/ledger").json() == endpoint.ledger.summary()
        assert http.get(f"{root}/nothing").status_code == 404


def test_refusals_are_those_of_a_real_endpoint() -> None:
    with ScriptedEndpoint("x", api_key="right", max_model_len=50) as endpoint:
        with client(endpoint, "wrong") as sdk, pytest.raises(openai.AuthenticationError):
            sdk.models.list()
        with client(endpoint, "right") as sdk:
            with pytest.raises(openai.NotFoundError, match="does not exist"):
                sdk.completions.create(model="other", prompt="x")
            with pytest.raises(openai.BadRequestError, match="maximum context length is 50"):
                sdk.completions.create(model="scripted", prompt="x" * 51)
            with pytest.raises(openai.BadRequestError, match="requested 50 output"):
                sdk.completions.create(model="scripted", prompt="x", max_tokens=50)
            sdk.completions.create(model="scripted", prompt="x", max_tokens=49)
    assert endpoint.ledger.calls == len(endpoint.ledger.entries) == 1


@pytest.mark.parametrize("kind", [FaultKind.DROP, FaultKind.CUT, FaultKind.GARBLED, FaultKind.HTML])
def test_faults_fail_in_the_client_and_stand_apart_in_the_ledger(kind: FaultKind) -> None:
    with ScriptedEndpoint(Fault(kind, reply="costly")) as endpoint, httpx2.Client() as http:
        with pytest.raises((httpx2.HTTPError, ValueError)):
            http.post(f"{endpoint.base_url}/completions", json={"model": "scripted", "prompt": "x"}).json()
        assert (endpoint.ledger.calls, endpoint.ledger.total_tokens) == (0, 0)
        assert (endpoint.ledger.lost_tokens > 0) == (kind is not FaultKind.HTML)
        assert endpoint.ledger.entries[0].fault == kind


def test_a_status_fault_carries_its_headers() -> None:
    with (
        ScriptedEndpoint(Fault.http(429, "slow down", headers={"Retry-After": "7"})) as endpoint,
        httpx2.Client() as http,
    ):
        answer = http.post(f"{endpoint.base_url}/completions", json={"model": "scripted", "prompt": "x"})
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")
        assert answer.json()["error"]["message"] == "slow down"
        assert endpoint.ledger.lost_tokens == 0


def test_replies_run_out_loudly() -> None:
    with ScriptedEndpoint(replies(["one"])) as endpoint, client(endpoint) as sdk:
        sdk.completions.create(model="scripted", prompt="x")
        with pytest.raises(openai.BadRequestError, match="1 replies and this is request 2"):
            sdk.completions.create(model="scripted", prompt="x")


def test_a_script_that_raises_is_told_to_client_and_test() -> None:
    def script(request: Request) -> str:
        raise KeyError("goal")

    with ScriptedEndpoint(script) as endpoint, client(endpoint) as sdk:
        with pytest.raises(openai.BadRequestError, match="KeyError"):
            sdk.completions.create(model="scripted", prompt="x")
        assert isinstance(endpoint.script_errors[0], KeyError)


def test_scripts_by_goal_answer_by_step_whoever_asks_first() -> None:
    script = by_goal({"cake": ["mix", "bake"], "cake shop": "open", "ask": lambda r: r.last}, otherwise=Reply("?"))

    def ask(*messages: tuple[str, str]) -> object:
        dicts = tuple({"role": role, "content": content} for role, content in messages)
        request = Request(index=9, kind="chat", model="m", messages=dicts, prompt_token_ids=(), prompt="", max_tokens=1)
        return script(request)

    assert ask(("system", "ask"), ("user", "make a cake")) == "mix"
    assert ask(("user", "make a cake"), ("assistant", "mix"), ("user", "mixed")) == "bake"
    assert ask(("user", "cake"), *[("assistant", "")] * 5) == "bake"
    assert ask(("user", "run a cake shop")) == "open"
    assert ask(("user", "ask this")) == "ask this"
    assert ask(("user", "else")) == Reply("?")


@pytest.mark.anyio
async def test_async_scripts_answer_concurrently_and_the_ledger_saw_it() -> None:
    everybody = asyncio.Barrier(8)

    async def script(request: Request) -> str:
        async with asyncio.timeout(PATIENCE):
            await everybody.wait()
        return "x"

    async with ScriptedEndpoint(script) as endpoint, httpx2.AsyncClient() as http:

        async def ask() -> None:
            body = {"model": "scripted", "prompt": "x"}
            answer = await http.post(f"{endpoint.base_url}/completions", json=body, timeout=PATIENCE)
            assert answer.status_code == 200

        async with anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(ask)
        assert endpoint.ledger.max_concurrency == 8
        assert endpoint.ledger.running == 0


def test_stopping_ends_answers_under_way_and_frees_the_port() -> None:
    endpoint = ScriptedEndpoint(Fault(FaultKind.HANG)).start()
    port = int(endpoint.base_url.rsplit(":", 1)[1].removesuffix("/v1"))
    with httpx2.Client(timeout=PATIENCE) as http:
        with ThreadPoolExecutor() as threads:
            body = {"model": "scripted", "prompt": "x"}
            asked = threads.submit(http.post, f"{endpoint.base_url}/completions", json=body)
            anyio.run(until, lambda: endpoint.ledger.running == 1)
            endpoint.stop()
            assert isinstance(asked.exception(PATIENCE), httpx2.RemoteProtocolError)
        endpoint.stop()
        with pytest.raises(httpx2.ConnectError):
            http.get(f"{endpoint.base_url}/models")
    with ScriptedEndpoint("x", port=port) as again:
        assert again.base_url == endpoint.base_url
        with pytest.raises(OSError, match="in use"):
            ScriptedEndpoint("x", port=port).start()


def test_the_tokenizer_is_reversible_and_its_special_tokens_cannot_be_typed() -> None:
    tokenizer = ScriptedTokenizer()
    for text in ("", "launch_subagent", "naïve 🌍\n\n    x = ```python", "<|im_end|>"):
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert tokenizer.end_of_turn not in ids
    messages = [{"role": "system", "content": "a\nb"}, {"role": "user", "content": ""}]
    assert tokenizer.parse(tokenizer.render(messages)) == messages


def test_it_runs_as_a_process_of_its_own() -> None:
    command = [sys.executable, "-m", "recursive_agent.testing", "--text", "hi", "--model", "m", "--until-eof"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        url = json.loads(process.stdout.readline())["base_url"]
        with openai.OpenAI(base_url=url, api_key="k") as sdk:
            assert sdk.completions.create(model="m", prompt="x").choices[0].text == "hi"
        process.stdin.close()
        assert json.loads(process.stdout.readline())["calls"] == 1
        assert process.wait(timeout=PATIENCE) == 0


def test_a_script_of_ones_own_runs_in_the_process(tmp_path: Path) -> None:
    (tmp_path / "own_script.py").write_text("def answer(request):\n    return request.last.upper()\n")
    command = [sys.executable, "-m", "recursive_agent.testing", "--script", "own_script:answer"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        assert process.stdout is not None
        url = json.loads(process.stdout.readline())["base_url"]
        with openai.OpenAI(base_url=url, api_key="k") as sdk:
            assert sdk.completions.create(model="scripted", prompt="shout").choices[0].text == "SHOUT"
        process.send_signal(signal.SIGTERM)
        assert json.loads(process.stdout.readline())["calls"] == 1
        assert process.wait(timeout=PATIENCE) == 0


def test_a_script_that_does_not_exist_is_one_sentence() -> None:
    command = [sys.executable, "-m", "recursive_agent.testing", "--script", "no_such_module:script"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.strip() == "--script no_such_module:script: No module named 'no_such_module'"
