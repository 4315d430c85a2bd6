"""A raw socket that answers every request with given bytes, and models on it."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from recursive_agent.model import Retries, Sampling, resolve_endpoint
from recursive_agent.model.chat import ChatModel
from recursive_agent.model.tokens import TokensModel

Answering = Callable[[Mapping[str, Any], int], bytes]


class RawServer:
    """`answer(body, n)` gives the bytes that go out after request `n` was read; then the connection is closed.

    `requests` holds the heads and the bodies that came.
    """

    def __init__(
        self,
        answer: Answering | bytes,
        *,
        host: str = "127.0.0.1",
        until_closed: bool = False,
        gets: bytes | None = None,
    ) -> None:
        self.answer: Answering = answer if callable(answer) else lambda body, n: answer
        self.requests: list[tuple[str, Any]] = []
        self.times: list[float] = []
        self._until_closed = until_closed
        self._gets = gets or http({"object": "list", "data": [{"id": "m"}]})
        self._socket = socket.create_server((host, 0), backlog=512)
        self.port: int = self._socket.getsockname()[1]
        self.base_url = f"http://{host}:{self.port}/v1"
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    @property
    def bodies(self) -> list[Any]:
        return [body for head, body in self.requests if head.startswith("POST")]

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(5)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client:
            client.settimeout(20)
            data = b""
            while b"\r\n\r\n" not in data:
                if not (more := client.recv(65536)):
                    return
                data += more
            head, _, body = data.partition(b"\r\n\r\n")
            length = next(
                (
                    int(line.split(b":")[1])
                    for line in head.split(b"\r\n")
                    if line.lower().startswith(b"content-length")
                ),
                0,
            )
            while len(body) < length:
                body += client.recv(65536)
            with self._lock:
                count = len(self.bodies)
                self.requests.append((head.decode("latin-1"), json.loads(body) if body else None))
                self.times.append(time.monotonic())
            if head.startswith(b"GET"):
                client.sendall(self._gets)
                return
            answer = self.answer(self.requests[-1][1] or {}, count)
            client.sendall(answer)
            while self._until_closed:
                client.sendall(answer)


@contextmanager
def answering(answer: Answering | bytes, **settings: Any) -> Iterator[RawServer]:
    server = RawServer(answer, **settings)
    try:
        yield server
    finally:
        server.close()


@asynccontextmanager
async def model_at(
    base_url: str, *, interface: str = "chat", key: str | None = None, **settings: Any
) -> AsyncIterator[Any]:
    make: Callable[..., Any] = TokensModel if interface == "tokens" else ChatModel
    settings.setdefault("retries", Retries(limit=1, base=0.0))
    settings["sampling"] = Sampling.of(settings.get("sampling"))
    model = make(resolve_endpoint("m", base_url, key), **settings)
    try:
        yield model
    finally:
        await model.aclose()


def http(
    body: Any, status: str = "200 OK", *, kind: str = "application/json", headers: Mapping[str, str] | None = None
) -> bytes:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status}", f"content-type: {kind}", f"content-length: {len(raw)}", "connection: close"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode() + raw


def refusal(message: str, status: str = "400 Bad Request", **more: Any) -> bytes:
    return http({"error": {"message": message, **more}}, status)


USAGE = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}


def chat(
    text: str | None = None, *, usage: Any = USAGE, finish: Any = "stop", message: Any = None, **choice: Any
) -> bytes:
    message = {"role": "assistant", "content": text} if message is None else message
    body: dict[str, Any] = {"id": "x", "object": "chat.completion", "created": 1, "model": "m"}
    body["choices"] = [{"index": 0, "message": message, "finish_reason": finish, **choice}]
    return http(body | ({} if usage is None else {"usage": usage}))


def events(*data: Any, ending: str = "\n\n", done: bool = True) -> bytes:
    """A stream of server-sent events."""
    lines = [f"data: {item if isinstance(item, str) else json.dumps(item)}" for item in data]
    text = ending.join([*lines, *(["data: [DONE]"] if done else [])]) + ending
    return http(text.encode(), kind="text/event-stream; charset=utf-8")


def delta(**fields: Any) -> dict[str, Any]:
    return {"id": "x", "model": "m", "choices": [{"index": 0, "delta": fields, "finish_reason": None}]}


def last(finish: str = "stop", usage: Any = USAGE) -> dict[str, Any]:
    return {"id": "x", "model": "m", "choices": [{"index": 0, "delta": {}, "finish_reason": finish}], "usage": usage}
