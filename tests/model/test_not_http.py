"""Endpoints that do not speak HTTP, or lie in it: always a ModelError with a sentence, or an answer."""

import gzip
import json
import zlib
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recursive_agent import Agent, Limits
from recursive_agent.errors import EndpointUnavailable, ModelError, RaoError
from recursive_agent.model import Retries
from recursive_agent.model.base import Completion
from recursive_agent.model.wire import LARGEST

from .conftest import USER
from .raw import RawServer, answering, chat, events, http, model_at

OK = b"HTTP/1.1 200 OK\r\n"
DEEP = b"[" * 100_000 + b"]" * 100_000

NO_HTTP = {
    "a TLS alert": b"\x15\x03\x03\x00\x02\x02\x46",
    "a TLS handshake": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(64)),
    "an SSH banner": b"SSH-2.0-OpenSSH_9.2\r\n",
    "an SMTP banner": b"220 mail.example ESMTP\r\n",
    "redis": b"-ERR unknown command 'POST'\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "nothing": b"",
    "zeros": bytes(4096),
    "half a status line": b"HTTP/1.1 20",
    "half a header": OK + b"content-len",
    "no status": b"HELLO 200\r\n\r\n",
    "a status of no number": b"HTTP/1.1 abc OK\r\n\r\n",
    "a chunk of no size": OK + b"transfer-encoding: chunked\r\n\r\nzz\r\n",
    "a chunk without its end": OK + b"transfer-encoding: chunked\r\n\r\n5\r\nab",
    "a negative length": OK + b"content-length: -5\r\n\r\n{}",
    "two lengths": OK + b"content-length: 2\r\ncontent-length: 9\r\n\r\n{}",
    "more than was sent": OK + b"content-length: 900\r\n\r\n{}",
    "a huge header": OK + b"x: " + b"y" * 300_000 + b"\r\n\r\n{}",
    "many headers": OK + b"".join(b"x%d: y\r\n" % n for n in range(20_000)) + b"\r\n{}",
    "a header with NUL": OK + b"x\0: y\r\n\r\n{}",
    "no gzip": OK + b"content-encoding: gzip\r\ncontent-length: 2\r\n\r\n{}",
    "half of gzip": OK + b"content-encoding: gzip\r\n\r\n" + gzip.compress(b"x" * 1000)[:30],
    "an encoding nobody asked for": OK + b"content-encoding: br\r\ncontent-length: 2\r\n\r\n{}",
    "100 only": b"HTTP/1.1 100 Continue\r\n\r\n",
    "many times 100": b"HTTP/1.1 100 Continue\r\n\r\n" * 5000,
    "101": b"HTTP/1.1 101 Switching\r\n\r\n",
    "204": b"HTTP/1.1 204 No\r\n\r\n",
    "999": b"HTTP/1.1 999 X\r\ncontent-length: 0\r\n\r\n",
    "deep JSON": http(DEEP),
    "an error of deep JSON": http(DEEP, "500 X"),
    "a web page": http(b"<html>captive portal</html>", kind="text/html"),
    "half a JSON": http(b'{"choices": [{"mess'),
    "JSON of no UTF-8": http(b'{"choices": "\xff\xfe\x80"}'),
    "a huge number": http(b'{"choices": ' + b"9" * 5000 + b"}"),
    "a stream of nonsense": http(b"data: {nonsense\n\n", kind="text/event-stream"),
    "a stream of nothing": http(b"", kind="text/event-stream"),
    "a number": http(b"5"),
    "to another scheme": b"HTTP/1.1 302 F\r\nlocation: file:///etc/passwd\r\ncontent-length: 0\r\n\r\n",
    "to no URL": b"HTTP/1.1 307 F\r\nlocation: http://[::bad\r\ncontent-length: 0\r\n\r\n",
    "to no scheme": b"HTTP/1.1 308 F\r\nlocation: gopher://x/\r\ncontent-length: 0\r\n\r\n",
    "to nowhere": b"HTTP/1.1 307 F\r\ncontent-length: 0\r\n\r\n",
}  # fmt: skip


async def ask(model: Any, *, streamed: bool = False) -> Completion:
    conversation = model.conversation()
    conversation.add(USER)
    on_text = (lambda _: None) if streamed else None
    completion: Completion = await conversation.complete(max_tokens=20, on_text=on_text)
    return completion


@pytest.mark.anyio
@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("kind", NO_HTTP)
async def test_what_is_no_answer_is_an_unavailable_endpoint(kind: str, streamed: bool) -> None:
    with answering(NO_HTTP[kind]) as server:
        async with model_at(server.base_url, timeout=20) as model:
            with pytest.raises(EndpointUnavailable) as caught:
                await ask(model, streamed=streamed)
    said = str(caught.value)
    assert said.startswith(server.base_url)
    assert said.isprintable()
    assert len(said) < 700


@pytest.mark.parametrize("kind", ["a TLS alert", "deep JSON", "a chunk of no size", "nothing", "a huge number"])
def test_solve_raises_nothing_else(kind: str) -> None:
    async def solve(server: RawServer) -> None:
        async with model_at(server.base_url, timeout=20) as model:
            agent = Agent(model, limits=Limits(max_steps=2, timeout=60))
            with pytest.raises(EndpointUnavailable) as caught:
                await agent.solve("x")
            assert caught.value.result is not None

    with answering(NO_HTTP[kind]) as server:
        anyio.run(solve, server)


heads = st.sampled_from(
    [b"", OK, OK + b"\r\n", b"HTTP/1.1 ", b"HTTP/1.1 429 X\r\n", OK + b"content-type: text/event-stream\r\n\r\ndata: ",
     OK + b"content-encoding: gzip\r\n\r\n", OK + b"transfer-encoding: chunked\r\n\r\n", OK + b"content-length: 3\r\n\r\n",
     b"HTTP/1.1 500 X\r\n\r\n{\"error\": ", b"HTTP/1.1 307 X\r\nlocation: "]
)  # fmt: skip


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(head=heads, rest=st.binary(max_size=120), streamed=st.booleans())
def test_any_bytes_are_an_answer_or_a_model_error(
    backend: str, shared: RawServer, head: bytes, rest: bytes, streamed: bool
) -> None:
    shared.answer = lambda body, n: head + rest
    anyio.run(_answer_or_error, shared.base_url, streamed, backend=backend)


numbers = st.integers() | st.floats() | st.sampled_from([10**30, -1, 2**31, True])
leaves = (
    st.none() | numbers | st.text(max_size=8) | st.sampled_from(["stop", "python", "{}", "\ud800", "</think>", "error"])
)
keys = st.sampled_from(
    ["choices", "message", "delta", "content", "tool_calls", "function", "name", "arguments", "id", "index", "usage", "text",
     "prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details", "cached_tokens", "error", "code", "type",
     "metadata", "raw", "reasoning_content", "reasoning_details", "refusal", "finish_reason", "function_call", "detail",
     "logprobs", "token_logprobs", "token_ids", "prompt_token_ids", "model", "system_fingerprint", "object", "data",
     "content_filter_results", "filtered", "completion_tokens_details", "reasoning_tokens", "retryDelay", "headers"]
)  # fmt: skip
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=5), max_leaves=14
)
choices = st.fixed_dictionaries({"message": st.dictionaries(keys, values, max_size=5)}) | st.dictionaries(keys, values)
bodies = values | st.fixed_dictionaries(
    {"choices": st.lists(choices, max_size=2)}, optional={"usage": values, "model": values}
)
statuses = st.sampled_from(["200 OK"] * 6 + ["400 X", "403 X", "404 X", "429 X", "500 X", "503 X"])


@pytest.mark.parametrize("backend", ["asyncio"])
@settings(
    max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(body=bodies, status=statuses, streamed=st.booleans(), tokens=st.booleans())
def test_any_json_is_an_answer_or_a_model_error(
    backend: str, shared: RawServer, body: Any, status: str, streamed: bool, tokens: bool
) -> None:
    raw = json.dumps(body).encode()
    if streamed and status.startswith("200"):
        answer = http(b"data: " + raw + b"\n\ndata: [DONE]\n\n", kind="text/event-stream")
    else:
        answer = http(raw, status)
    shared.answer = lambda body, n: answer
    interface = "tokens" if tokens else "chat"
    anyio.run(_answer_or_error, shared.base_url, streamed, interface, backend=backend)


async def _answer_or_error(base_url: str, streamed: bool, interface: str = "chat") -> None:
    once = Retries(limit=0)
    async with model_at(base_url, timeout=20, retries=once, interface=interface) as model:
        try:
            completion = await ask(model, streamed=streamed)
        except ModelError as error:
            said = str(error)
        else:
            said = ""
            _check(completion)
    assert said.isprintable()


def _check(completion: Completion) -> None:
    for text in (completion.text, completion.finish_reason, completion.model, completion.version, completion.reasoning):
        assert text is None or text.encode() is not None
    assert 0 <= completion.usage.cached_tokens <= completion.usage.prompt_tokens < 10**10
    assert 0 <= completion.usage.completion_tokens < 10**10
    assert completion.usage.unconfirmed >= 0


@pytest.fixture(scope="module")
def shared() -> Any:
    with answering(b"") as server:
        yield server


@pytest.mark.anyio
async def test_a_small_body_that_stands_for_a_gigabyte_is_refused() -> None:
    packer = zlib.compressobj(9, wbits=31)
    million = bytes(2**20)
    bomb = b"".join([*(packer.compress(million) for _ in range(LARGEST // 2**20 + 1)), packer.flush()])
    assert len(bomb) < 200_000
    with answering(http(bomb, headers={"content-encoding": "gzip"})) as server:
        async with model_at(server.base_url) as model:
            with pytest.raises(EndpointUnavailable, match="larger than 64 MiB"):
                await ask(model)


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["application/json", "text/event-stream"])
async def test_an_answer_without_end_is_cut_off(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recursive_agent.model.wire.LARGEST", 2**20)
    head = OK + f"content-type: {kind}\r\n\r\n".encode()
    endless = head + b": a comment\n" * 10_000
    with answering(endless, until_closed=True) as server:
        async with model_at(server.base_url) as model:
            with pytest.raises(EndpointUnavailable, match="larger than"):
                await ask(model, streamed=True)


@pytest.mark.anyio
@pytest.mark.parametrize("encoding", ["gzip", "deflate", "raw deflate"])
async def test_compressed_answers_are_read(encoding: str) -> None:
    plain = chat("packed").partition(b"\r\n\r\n")[2]
    packers = {
        "gzip": zlib.compressobj(wbits=31),
        "deflate": zlib.compressobj(),
        "raw deflate": zlib.compressobj(wbits=-15),
    }
    packed = packers[encoding].compress(plain) + packers[encoding].flush()
    with answering(http(packed, headers={"content-encoding": encoding.split()[-1]})) as server:
        async with model_at(server.base_url) as model:
            assert (await ask(model)).text == "packed"


@pytest.mark.anyio
@pytest.mark.parametrize("status", ["307 Temporary", "308 Permanent"])
async def test_a_redirect_that_keeps_the_request_is_followed_without_the_key_to_other_hosts(status: str) -> None:
    with answering(chat("there")) as there:
        leading = http(b"", status, headers={"location": f"{there.base_url}/chat/completions"})
        with answering(leading) as here:
            async with model_at(here.base_url, key="sk-a-real-secret-key") as model:
                assert (await ask(model)).text == "there"
        assert "sk-a-real-secret-key" in here.requests[0][0]
        assert "sk-a-real-secret-key" not in there.requests[0][0]


@pytest.mark.anyio
async def test_a_redirect_that_would_lose_the_request_names_the_base_url_to_use() -> None:
    answer = http(b"", "301 Moved", headers={"location": "https://api.example.com/v1/chat/completions"})
    with answering(answer) as server:
        async with model_at(server.base_url) as model:
            with pytest.raises(EndpointUnavailable, match=r"https://api\.example\.com/v1\); use that as the base URL"):
                await ask(model)
        assert len(server.requests) == 1


@pytest.mark.anyio
async def test_redirects_in_a_circle_end() -> None:
    with answering(b"") as server:
        server.answer = lambda body, n: http(b"", "307 T", headers={"location": f"{server.base_url}/chat/completions"})
        async with model_at(server.base_url) as model:
            with pytest.raises(EndpointUnavailable, match="leads elsewhere"):
                await ask(model)
        assert len(server.requests) <= 6


@pytest.mark.anyio
@pytest.mark.parametrize(
    "ending", ["\n\n", "\r\n\r\n", "\r\r", "\n", "\r\n", "\n: a comment\nid: 7\nretry: 9\n\nnonsense\n"]
)
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
async def test_streams_are_read_however_their_lines_end(ending: str, bom: bytes) -> None:
    parts = ["one", " two", " three"]
    chunks = [json.dumps({"choices": [{"delta": {"content": part}, "finish_reason": None}]}) for part in parts]
    chunks.append(json.dumps({"choices": [{"delta": {}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 9}}))
    text = ending.join([*(f"data: {chunk}" for chunk in chunks), "data: [DONE]"])
    with answering(http(bom + text.encode(), kind="text/event-stream")) as server:
        async with model_at(server.base_url) as model:
            assert (await ask(model, streamed=True)).text == "one two three"


@pytest.mark.anyio
async def test_data_over_several_lines_is_one_event() -> None:
    whole = json.dumps({"choices": [{"delta": {"content": "hi"}, "finish_reason": "stop"}]}, indent=1)
    lines = "\n".join(f"data: {line}" for line in whole.splitlines())
    with answering(http(f"{lines}\n\ndata: [DONE]\n\n".encode(), kind="text/event-stream")) as server:
        async with model_at(server.base_url) as model:
            assert (await ask(model, streamed=True)).text == "hi"


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["text/event-stream", "application/json", "text/plain"])
async def test_a_stream_that_nobody_asked_for_is_read(kind: str) -> None:
    stream = events({"choices": [{"delta": {"content": "hi"}, "finish_reason": "stop"}]}).partition(b"\r\n\r\n")[2]
    for streamed in (False, True):
        with answering(http(stream, kind=kind)) as server:
            async with model_at(server.base_url) as model:
                assert (await ask(model, streamed=streamed)).text == "hi"


def test_the_errors_of_solve_are_a_closed_tree() -> None:
    assert issubclass(ModelError, RaoError)
    assert {cls.__name__ for cls in ModelError.__subclasses__()} == {
        "AuthenticationFailed", "ModelNotFound", "BadRequest", "ContextOverflow", "CapabilityMissing", "EndpointUnavailable",
    }  # fmt: skip
