"""The lean transport against servers that answer in every way HTTP/1.1 allows, and in some that it does not."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

import anyio
import httpx2
import pytest

from recursive_agent.errors import EndpointUnavailable
from recursive_agent.model import Message, connect, resolve_endpoint
from recursive_agent.model.direct import DirectTransport, serves


@contextlib.contextmanager
def answering(*connections: list[bytes | None], step: int = 7) -> Iterator[tuple[str, list[bytes]]]:
    """A server that answers the requests of each connection with these bytes, `step` at a time; None closes it."""
    seen: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        for answers in connections:
            connection, _ = listener.accept()
            with connection:
                for answer in answers:
                    if answer is None:
                        break
                    data = b""
                    while b"\r\n\r\n" not in data or data.count(b"\n") < 2:
                        data += connection.recv(65536)
                    seen.append(data)
                    with contextlib.suppress(OSError):
                        for byte in range(0, len(answer), step):
                            connection.sendall(answer[byte : byte + step])
                else:
                    connection.settimeout(2)
                    with contextlib.suppress(OSError):
                        connection.recv(1)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/x?q=1", seen
    finally:
        listener.close()
        thread.join(5)


def client(keepalive: float = 5.0) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(transport=DirectTransport(keepalive=keepalive), trust_env=False)


OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
ANSWERS = {
    "length": OK,
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;ext=1\r\no\r\n1\r\nk\r\n0\r\nTrailer: x\r\n\r\n",
    "interim": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\n" + OK,
    "no reason": b"HTTP/1.1 200\r\ncontent-length: 2\r\n\r\nok",
}


@pytest.mark.anyio
@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
async def test_every_framing_is_read_and_the_connection_used_again(answer: bytes) -> None:
    with answering([answer, OK]) as (url, seen):
        async with client() as http:
            assert (await http.post(url, content=b"body")).text == "ok"
            assert (await http.get(url)).text == "ok"
        assert seen[0].startswith(b"POST /x?q=1 HTTP/1.1\r\nHost: 127.0.0.1:")
        assert seen[0].endswith(b"\r\n\r\nbody")


@pytest.mark.anyio
@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokay, too much",
    ],
    ids=["close", "http/1.0", "more than it said"],
)
async def test_a_connection_that_cannot_be_used_again_is_not(answer: bytes) -> None:
    with answering([answer], [OK]) as (url, _):
        async with client() as http:
            assert (await http.get(url)).text == "ok"
            assert (await http.get(url)).text == "ok"


@pytest.mark.anyio
async def test_a_body_may_last_until_the_connection_closes() -> None:
    with answering([b"HTTP/1.1 200 OK\r\n\r\nall of it", None]) as (url, _):
        async with client() as http:
            assert (await http.get(url)).text == "all of it"


@pytest.mark.anyio
async def test_an_idle_connection_that_was_closed_or_grew_old_is_not_used() -> None:
    with answering([OK, None], [OK], [OK]) as (url, seen):
        async with client() as http:
            await http.get(url)
            await anyio.sleep(0.05)
            assert (await http.get(url)).text == "ok"
        async with client(keepalive=0.01) as http:
            assert (await http.get(url)).text == "ok"
        assert len(seen) == 3


@pytest.mark.anyio
@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n folded: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nokay\r\n0\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_an_error_not_an_answer(answer: bytes) -> None:
    with answering([answer]) as (url, _):
        async with client() as http:
            with pytest.raises(httpx2.RemoteProtocolError):
                await http.get(url)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 O",
        b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nok",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n",
    ],
)
async def test_an_answer_cut_short_is_an_error(answer: bytes) -> None:
    with answering([answer, None]) as (url, _):
        async with client() as http:
            with pytest.raises((httpx2.RemoteProtocolError, httpx2.ReadError)):
                await http.get(url)


@pytest.mark.anyio
async def test_an_endless_head_is_given_up() -> None:
    with answering([b"HTTP/1.1 200 OK\r\nx: " + b"y" * 300_000], step=10_000) as (url, _):
        async with client() as http:
            with pytest.raises(httpx2.RemoteProtocolError, match="does not end"):
                await http.get(url)


@pytest.mark.anyio
async def test_bodies_of_many_megabytes_go_both_ways() -> None:
    async def serve(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            data = b""
            while b"\r\n\r\n" not in data:
                data += await stream.receive()
            size = len(data) - data.index(b"\r\n\r\n") - 4
            while size < 8_000_000:
                size += len(await stream.receive())
            await stream.send(b"HTTP/1.1 200 OK\r\ncontent-length: 8000000\r\n\r\n" + b"z" * 8_000_000)

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, serve)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        async with client() as http:
            answer = await http.post(f"http://127.0.0.1:{port}/", content=b"a" * 8_000_000)
            assert len(answer.content) == 8_000_000
        group.cancel_scope.cancel()


@pytest.mark.anyio
async def test_nobody_listening_is_a_connection_error() -> None:
    async with client() as http:
        with pytest.raises(httpx2.ConnectError):
            await http.get("http://127.0.0.1:9/")


@pytest.mark.anyio
async def test_a_redirect_to_tls_is_told_and_never_followed_in_the_clear() -> None:
    redirect = b"HTTP/1.1 308 Moved\r\nlocation: https://127.0.0.1:9/v1/x\r\ncontent-length: 0\r\n\r\n"
    with answering([redirect]) as (url, seen):
        model = connect(resolve_endpoint("m", url.removesuffix("/x?q=1") + "/v1", "sk-secret"))
        conversation = model.conversation()
        conversation.add(Message("user", "x"))
        with pytest.raises(EndpointUnavailable, match=r"redirects to https://127\.0\.0\.1:9/v1/x") as caught:
            await conversation.complete(max_tokens=1)
        await model.aclose()
        assert caught.value.unconfirmed == 0
        assert len(seen) == 1, "and not tried again"


def test_it_serves_plain_http_without_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    reaches: Callable[[str], bool] = lambda url: serves(resolve_endpoint("m", url, "k"))  # noqa: E731
    assert reaches("http://gpu-box:8000/v1")
    assert not reaches("https://api.example.com/v1")
    monkeypatch.setenv("HTTP_PROXY", "http://proxy:3128")
    assert not reaches("http://gpu-box:8000/v1")
    assert reaches("http://localhost:8000/v1")
