"""What proxies, load balancers and clients at the edge of HTTP rely on, over plain sockets."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx2
import pytest
from anyio.streams.buffered import BufferedByteReceiveStream

from rao_rl.serve.http import ServerSettings, serving, sse
from rao_rl.serve.http.settings import reached_at
from rao_rl.serve.http.streams import EventChannel
from recursive_agent.errors import ConfigurationError
from tests.waiting import until

from .applications import JSON, KEY, Server, error_of

pytestmark = pytest.mark.anyio

ASK = b"GET /things/a HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Connection:
    """One connection, and what comes on it."""

    def __init__(self, stream: anyio.abc.SocketStream) -> None:
        self._stream = stream
        self._answers = BufferedByteReceiveStream(stream)

    async def send(self, data: bytes) -> None:
        await self._stream.send(data)

    async def head(self) -> str:
        """The next status line with its headers, in small letters."""
        with anyio.fail_after(60):
            return (await self._answers.receive_until(b"\r\n\r\n", 65_536)).decode("latin-1").lower()

    async def answer(self) -> tuple[int, bytes]:
        """The next answer: its status and its body."""
        head = await self.head()
        headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:])
        return int(head.split()[1]), await self._answers.receive_exactly(int(headers.get("content-length", 0)))

    async def ended(self) -> bool:
        """Waits until the server ends the connection; False where something else comes."""
        try:
            with anyio.fail_after(60):
                await self._answers.receive(1)
        except anyio.EndOfStream:
            return True
        return False


@asynccontextmanager
async def connected(server: Server) -> AsyncIterator[Connection]:
    async with serving(server.app, server.settings) as url:
        host, port = url.removeprefix("http://").split(":")
        async with await anyio.connect_tcp(host, int(port)) as stream:
            yield Connection(stream)


# Connections


async def test_an_idle_connection_is_kept_as_long_as_the_setting_says() -> None:
    assert ServerSettings().keep_alive_seconds > 60, "nginx and Amazon's load balancers keep theirs for 60 s"
    async with connected(Server(keep_alive_seconds=1)) as connection:
        for _ in range(2):
            await connection.send(ASK)
            assert (await connection.answer())[0] == 200
        begun = anyio.current_time()
        assert await connection.ended()
        assert anyio.current_time() - begun > 0.9


@pytest.mark.parametrize("seconds", [0, -1])
def test_a_keep_alive_that_makes_no_sense_is_refused(seconds: int) -> None:
    with pytest.raises(ConfigurationError, match="keep_alive_seconds must be at least 1"):
        ServerSettings(keep_alive_seconds=seconds)


async def test_requests_in_a_row_are_answered_in_their_order() -> None:
    async with connected(Server()) as connection:
        await connection.send(ASK + ASK.replace(b"/a", b"/b") + ASK.replace(b"/a", b"/c"))
        assert [(await connection.answer())[1] for _ in range(3)] == [b'"a"', b'"b"', b'"c"']


@pytest.mark.parametrize(
    "request_",
    [ASK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), b"GET /health HTTP/1.0\r\n\r\n"],
    ids=["closing", "HTTP/1.0"],
)
async def test_a_connection_that_is_to_be_closed_is_closed(request_: bytes) -> None:
    async with connected(Server()) as connection:
        await connection.send(request_)
        assert (await connection.answer())[0] == 200
        assert await connection.ended()


async def test_a_client_that_asks_before_it_sends_its_body_is_told_to_go_on_or_refused() -> None:
    body = json.dumps({"text": "a"}).encode()
    head = b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nExpect: 100-continue\r\n"
    head += b"Authorization: Bearer %b\r\nContent-Length: %d\r\n\r\n"
    async with connected(Server(api_keys=(KEY,))) as connection:
        await connection.send(head % (KEY.encode(), len(body)))
        assert (await connection.head()).startswith("http/1.1 100")
        await connection.send(body)
        assert (await connection.answer())[0] == 200
    async with connected(Server(api_keys=(KEY,))) as connection:
        await connection.send(head % (b"another", len(body)))
        assert (await connection.answer())[0] == 401
    async with connected(Server(api_keys=(KEY,))) as connection:
        await connection.send(head % (KEY.encode(), 1 << 40))
        assert (await connection.answer())[0] == 413


@pytest.mark.parametrize(
    ("host", "name"),
    [("0.0.0.0", "127.0.0.1"), ("::", "[::1]"), ("::1", "[::1]"), ("fe80::1%eth0", "[fe80::1%25eth0]"), ("a.b", "a.b")],
)
def test_the_url_that_is_told_can_be_asked(host: str, name: str) -> None:
    assert reached_at(host) == name


async def test_a_server_on_all_addresses_is_told_under_one_of_them() -> None:
    server = Server(host="0.0.0.0", api_keys=(KEY,))
    async with serving(server.app, server.settings) as url:
        assert url.startswith("http://127.0.0.1:")


# Paths and methods


@pytest.mark.parametrize(
    ("path", "method", "allow"),
    [
        ("/health", "POST", "GET, HEAD"),
        ("/health", "OPTIONS", "GET, HEAD"),
        ("/echo", "GET", "POST"),
        ("/echo", "PUT", "POST"),
    ],
)
async def test_a_wrong_method_is_told_the_right_ones(path: str, method: str, allow: str) -> None:
    async with Server().client() as client:
        refused = await client.request(method, path)
    assert (refused.status_code, refused.headers["allow"]) == (405, allow)
    assert error_of(refused)["message"] == f"This path takes no {method}, only {allow}."


@pytest.mark.parametrize(
    ("path", "near"),
    [
        ("/v1/v1/models", "/v1/models"),
        ("/models", "/v1/models"),
        ("/v1//models", "/v1/models"),
        ("/models/", "/v1/models"),
        ("/v1/health", "/health"),
        ("/api/v1/models", "/v1/models"),
        ("/nowhere", None),
    ],
)
async def test_a_base_url_with_too_much_or_too_little_is_told_the_path(path: str, near: str | None) -> None:
    server = Server()
    server.app.get("/v1/models")(lambda: "all")
    async with server.client() as client:
        said = error_of(await client.get(path))["message"]
    assert said == ("There is no such path." if near is None else f"There is no such path; try {near}.")


# Bodies


async def test_what_windows_puts_before_a_text_is_passed_over() -> None:
    async with Server().client() as client:
        response = await client.post("/echo", content=b'\xef\xbb\xbf{"text": "a"}', headers=JSON)
    assert response.json()["text"] == "a"


@pytest.mark.parametrize("content", [b"", b"[]", b'"a"', b"null", b"7"])
async def test_a_body_that_is_no_object_is_said_so(content: bytes) -> None:
    async with Server().client() as client:
        response = await client.post("/echo", content=content, headers=JSON)
    assert response.status_code == 400
    assert "must be a JSON object" in error_of(response)["message"]


async def test_an_encoding_may_be_said_in_two_headers_and_stand_on_another() -> None:
    body = json.dumps({"text": "a"}).encode()
    headers: Any = [*JSON.items(), ("content-encoding", "identity"), ("content-encoding", "gzip")]
    async with Server().client() as client:
        assert (await client.post("/echo", content=gzip.compress(body), headers=headers)).status_code == 200
        twice = {**JSON, "content-encoding": "gzip, gzip"}
        assert (
            await client.post("/echo", content=gzip.compress(gzip.compress(body)), headers=twice)
        ).status_code == 200
        often = {**JSON, "content-encoding": ", ".join(["gzip"] * 9)}
        assert (await client.post("/echo", content=body, headers=often)).status_code == 415


async def test_a_body_of_very_many_empty_parts_is_refused_before_they_are_read() -> None:
    server = Server()
    async with server.client() as client:
        with anyio.fail_after(30):  # reading them all took minutes, in which the server answered nobody
            response = await client.post(
                "/echo", content=gzip.compress(b"") * 200_000, headers={**JSON, "content-encoding": "gzip"}
            )
    assert response.status_code == 400
    assert "more than 64 parts" in error_of(response)["message"]


# Streams


def test_an_event_is_one_line_to_every_client() -> None:
    event = sse({"text": "a\u2028b\u2029c\x85d\ne\x0bf\x1cg ü"}).decode()
    assert len(event.splitlines()) == 2
    assert json.loads(event.removeprefix("data: "))["text"] == "a\u2028b\u2029c\x85d\ne\x0bf\x1cg ü"


async def test_nothing_comes_into_the_middle_of_an_event() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    channel = EventChannel(send, headers=[], ping_seconds=60)
    between = [channel.between_events]
    for part in (b"data: a", b"b\n", b"\n", b"data: c\r\n", b"\r", b"\n", b"data", b": d\n\ndata: e\n\n"):
        await channel.send(part)
        between.append(channel.between_events)
    assert between == [True, False, False, True, False, False, True, False, True]


@pytest.mark.parametrize("text", ["held", "pinged"])
async def test_a_stream_that_the_server_ends_says_why(text: str) -> None:
    server = Server(drain_seconds=0)
    lines: list[str] = []

    async def ask(url: str) -> None:
        async with httpx2.AsyncClient(base_url=url, timeout=60) as client:
            async with client.stream("POST", "/stream", json={"text": text}) as response:
                lines.extend([line async for line in response.aiter_lines() if line and line != ": ping"])

    async with anyio.create_task_group() as group:
        async with serving(server.app, server.settings) as url:
            group.start_soon(ask, url)
            await until(lambda: server.begun)
    assert server.ended == [text]
    assert json.loads(lines[-1].removeprefix("data: "))["error"]["code"] == "shutting_down"
