"""Who asks in ways of their own: pages in a browser, load balancers, and clients that compress what they send."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

import anyio
import pytest

from rao_rl.serve.http import ServerSettings
from recursive_agent.errors import ConfigurationError
from recursive_agent.model.decoding import decoded
from tests.waiting import until

from ..engine.engines import served
from .applications import JSON, KEY, Server, error_of

pytestmark = pytest.mark.anyio

PAGE = "https://chat.example"
ASKS = {
    "Origin": PAGE,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,x-any",
}


async def test_a_page_of_an_allowed_origin_asks_before_it_has_a_key() -> None:
    async with Server(api_keys=(KEY,), allowed_origins=(PAGE,)).client() as client:
        asked = await client.request("OPTIONS", "/echo", headers=ASKS)
        assert asked.status_code == 200
        assert asked.headers["access-control-allow-origin"] == PAGE
        assert "POST" in asked.headers["access-control-allow-methods"]
        assert "x-any" in asked.headers["access-control-allow-headers"]
        refused = await client.post("/echo", json={"text": "a"}, headers={"Origin": PAGE})
        assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, PAGE)
        given = {"Origin": PAGE, "Authorization": f"Bearer {KEY}"}
        answered = await client.post("/echo", json={"text": "a"}, headers=given)
        assert (answered.status_code, answered.headers["access-control-allow-origin"]) == (200, PAGE)
        assert (
            answered.headers["access-control-allow-credentials"] == "true"
        )  # for a proxy with cookies before the server
        assert "Origin" in answered.headers["vary"]
        near = await client.request(
            "OPTIONS", "/echo", headers={**ASKS, "Access-Control-Request-Private-Network": "true"}
        )
        assert near.headers["access-control-allow-private-network"] == "true"
        for origin in ("https://evil.example", "http://chat.example", "https://chat.example.evil", "null"):
            other = await client.request("OPTIONS", "/echo", headers={**ASKS, "Origin": origin})
            assert other.status_code == 400
            assert "access-control-allow-origin" not in other.headers


async def test_every_page_may_ask_where_all_are_allowed_and_none_without_the_setting() -> None:
    async with Server(allowed_origins=("*",)).client() as client:
        asked = await client.request("OPTIONS", "/echo", headers=ASKS)
        assert asked.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in asked.headers
    async with Server(api_keys=(KEY,)).client(key=KEY) as client:
        asked = await client.request("OPTIONS", "/echo", headers=ASKS)
        assert "access-control-allow-origin" not in asked.headers


async def test_a_page_can_read_why_it_is_refused() -> None:
    server = Server(allowed_origins=(PAGE, "null"), max_concurrency=1, max_queue=0)
    async with server.client() as client, anyio.create_task_group() as group:
        group.start_soon(lambda: client.post("/work", json={"text": "first"}))
        await until(lambda: server.begun)
        asked = [
            await client.post("/work", json={"text": "full"}, headers={"Origin": PAGE}),
            await client.get("/nowhere", headers={"Origin": PAGE}),
            await client.get("/things/broken", headers={"Origin": "null"}),
            await client.post("/echo", json={"text": 1}, headers={"Origin": PAGE}),
        ]
        server.app.state.traffic.draining = True
        asked.append(await client.post("/work", json={"text": "late"}, headers={"Origin": PAGE}))
        assert (await client.request("OPTIONS", "/work", headers=ASKS)).status_code == 200
        server.release.set()
    assert [answer.status_code for answer in asked] == [429, 404, 500, 400, 503]
    assert [answer.headers["access-control-allow-origin"] for answer in asked] == [PAGE, PAGE, "null", PAGE, PAGE]
    assert "retry-after" in asked[0].headers["access-control-expose-headers"].lower()


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("https://chat.example/", "https://chat.example"),
        ("HTTPS://Chat.Example", "https://chat.example"),
        ("https://chat.example:443", "https://chat.example"),
        ("http://localhost:80", "http://localhost"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("https://[::1]:8443", "https://[::1]:8443"),
        ("chrome-extension://abc", "chrome-extension://abc"),
        ("app://obsidian.md:443", "app://obsidian.md:443"),
        ("null", "null"),
    ],
)
def test_an_origin_may_be_written_as_people_do(written: str, sent: str) -> None:
    assert ServerSettings(allowed_origins=(written,)).allowed_origins == (sent,)


@pytest.mark.parametrize(
    "origin",
    ["", "chat.example", "https://chat.example/path", "https://", "https://a b", "**", "https://*.example", "localhost:3000",
     "https://a,https://b", "https://a:b"],
)  # fmt: skip
def test_an_origin_that_is_none_is_refused(origin: str) -> None:
    with pytest.raises(ConfigurationError, match="allowed origin"):
        ServerSettings(allowed_origins=(origin,))


async def test_head_is_answered_as_get_without_a_body() -> None:
    async with served() as server:
        for path, status in (("/health", 200), ("/v1/models", 200), ("/v1/models/rao-textcraft", 200), ("/metrics", 200),
                             ("/v1/models/none", 404), ("/nowhere", 404), ("/v1/chat/completions", 405)):  # fmt: skip
            asked = await server.http.head(path)
            assert (asked.status_code, asked.content) == (status, b""), path


async def test_head_needs_a_key_where_get_does() -> None:
    async with Server(api_keys=(KEY,)).client() as client:
        assert (await client.head("/health")).status_code == 200
        assert (await client.head("/metrics")).status_code == 401


BODY = json.dumps({"text": "ä" * 300}).encode()


def raw_deflate(data: bytes) -> bytes:
    made = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return made.compress(data) + made.flush()


PACKED = {
    "gzip": gzip.compress(BODY),
    "GZIP": gzip.compress(BODY),
    "x-gzip": gzip.compress(BODY[:50]) + gzip.compress(BODY[50:]),
    "deflate": zlib.compress(BODY),
    "Deflate": raw_deflate(BODY),
    "identity": BODY,
    "identity, gzip": gzip.compress(BODY),
}


@pytest.mark.parametrize("encoding", PACKED)
async def test_a_compressed_body_is_read(encoding: str) -> None:
    server = Server()
    async with server.client() as client:
        response = await client.post("/echo", content=PACKED[encoding], headers={**JSON, "content-encoding": encoding})
    assert response.status_code == 200, response.text
    assert server.bodies[0].text == "ä" * 300


@pytest.mark.parametrize("encoding", ["br", "zstd", "compress", "gzip, br", "br, gzip", "gzip;q=1", "x" * 500])
async def test_another_encoding_is_named(encoding: str) -> None:
    async with Server().client() as client:
        response = await client.post("/echo", content=BODY, headers={**JSON, "content-encoding": encoding})
    assert response.status_code == 415
    assert response.headers["accept-encoding"] == "gzip, deflate, identity"
    assert encoding[:80] in error_of(response)["message"]


@pytest.mark.parametrize(
    "body",
    [BODY, gzip.compress(BODY)[:-9], gzip.compress(BODY) + b"x", b"\x1f\x8b"],
    ids=["plain", "cut", "followed", "head"],
)
async def test_what_is_no_gzip_is_said_so(body: bytes) -> None:
    async with Server().client() as client:
        response = await client.post("/echo", content=body, headers={**JSON, "content-encoding": "gzip"})
    assert response.status_code == 400
    error = error_of(response)
    assert error["code"] == "invalid_encoding"
    assert "gzip" in error["message"]


@pytest.mark.parametrize("members", [1, 50])
async def test_a_bomb_is_refused_before_it_is_unpacked(members: int) -> None:
    bomb = gzip.compress(b" " * (20_000_000 // members)) * members
    async with Server(max_body_bytes=100_000).client() as client:
        response = await client.post("/echo", content=bomb, headers={**JSON, "content-encoding": "gzip"})
    assert response.status_code == 413
    assert "100000 bytes" in error_of(response)["message"]


def test_an_empty_body_stays_empty() -> None:
    assert decoded(b"", "gzip", 10) == b""


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        ("[::1]", "::1"),
        (" ::1 ", "::1"),
        ("[fe80::1%25eth0]", "fe80::1%eth0"),
        ("fe80::1%eth0", "fe80::1%eth0"),
        ("localhost", "localhost"),
        ("127.0.0.1", "127.0.0.1"),
        ("::", "::"),
    ],
)
def test_a_host_may_be_written_as_in_a_url(given: str, plain: str) -> None:
    assert ServerSettings(host=given).host == plain


@pytest.mark.parametrize(
    "host",
    ["[::1", "::1]", "[::1]:8000", "localhost:8000", "http://localhost", "a b", "[localhost]", "[]", "[127.0.0.1]"],
)
def test_what_is_no_host_is_refused_in_a_sentence(host: str) -> None:
    with pytest.raises(ConfigurationError, match="The host is a name or an address alone"):
        ServerSettings(host=host)


async def test_a_server_in_brackets_answers_there() -> None:
    server = Server(host="[::1]")
    try:
        async with server.client() as client:
            assert str(client.base_url).startswith("http://[::1]:")
            assert (await client.get("/health")).status_code == 200
    except ConfigurationError as error:
        pytest.skip(f"no IPv6 here: {error}")


def body_of(content: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}], "max_tokens": 2}


TEXT = {"type": "text", "text": "a"}


@pytest.mark.parametrize(
    "content",
    [
        [{**TEXT, "cache_control": {"type": "ephemeral"}}],
        [TEXT, {"type": "input_text", "text": "b", "id": 7, "anything": None}],
        [{"type": "output_text", "text": "b", "annotations": [], "logprobs": []}],
    ],
)
async def test_parts_of_text_are_read_whatever_else_they_carry(content: Any) -> None:
    async with served() as server:
        answered = await server.post("/v1/chat/completions", **body_of(content))
        marked = {"role": "user", "content": "a", "cache_control": {"type": "ephemeral"}}
        assert (await server.post("/v1/chat/completions", messages=[marked], max_tokens=2)).status_code == 200
    assert answered.status_code == 200, answered.text


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            [TEXT, {"type": "image_url", "image_url": {"url": "data:x"}}],
            "part 1 of the content is an image (image_url)",
        ),
        ([{"type": "input_image", "image_url": "x"}], "part 0 of the content is an image (input_image)"),
        ([{"type": "input_audio", "input_audio": {}}], "is audio (input_audio)"),
        ([{"type": "file", "file": {}}], "is a file (file)"),
        ([{"type": "{problem}" * 9, "a": 1}], "a part of the type '{problem}"),
        ([{"type": "text"}], "needs a field `text` that is a string"),
        ([{"type": "text", "text": None}], "needs a field `text` that is a string"),
        ([{"text": "a"}], "has no type"),
        (["a"], "must be an object such as"),
        ([None], "must be an object such as"),
        (7, "content must be a text, or a list of parts"),
        ({"type": "text", "text": "a"}, "content must be a text, or a list of parts"),
    ],
)
async def test_a_part_that_is_not_read_is_named_in_one_sentence(content: Any, said: str) -> None:
    async with served() as server:
        error = error_of(await server.post("/v1/chat/completions", **body_of(content)))
    assert error["param"] == "messages.0.content"
    assert said in error["message"]
    assert "Input should be" not in error["message"]
