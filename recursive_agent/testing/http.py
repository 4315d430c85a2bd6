"""A small HTTP/1.1 server in a thread of its own: what the scripted endpoint needs, and control over its failures."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

_REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 429: "Too Many Requests"}
_MAX_HEAD = 64 * 1024


class Exchange:
    """One request and the means to answer it, well or badly."""

    def __init__(
        self, transport: asyncio.Transport, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> None:
        self.method, self.path, self.headers, self.body = method, path, headers, body
        self._transport = transport
        self.answered = False

    def send(
        self,
        status: int,
        body: bytes,
        *,
        content_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
        only: int | None = None,
    ) -> None:
        """Answer; with `only`, declare the whole body and send just that many bytes of it."""
        head = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Status')}", f"content-type: {content_type}"]
        head += [f"{name}: {value}" for name, value in (headers or {}).items()]
        head += [f"content-length: {len(body)}", "", ""]
        self.answered = True
        self._transport.write("\r\n".join(head).encode("latin-1") + body[:only])

    def send_json(self, status: int, data: Any, *, headers: Mapping[str, str] | None = None) -> None:
        """Answer with JSON (NaN is written as Python writes it, which no standard parser must accept)."""
        self.send(status, json.dumps(data, separators=(",", ":")).encode(), headers=headers)

    def start_events(self) -> None:
        """Begin a stream of server-sent events."""
        self.answered = True
        self._transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n"
            b"transfer-encoding: chunked\r\n\r\n"
        )

    def send_event(self, data: str) -> None:
        """One event of a stream."""
        payload = f"data: {data}\n\n".encode()
        self._transport.write(b"%x\r\n%b\r\n" % (len(payload), payload))

    def end_events(self) -> None:
        """The regular end of a stream."""
        self._transport.write(b"0\r\n\r\n")

    def drop(self) -> None:
        """Close the connection now; what was written before still goes out."""
        self.answered = True
        self._transport.close()


Handler = Callable[[Exchange], Awaitable[None]]


class _Connection(asyncio.Protocol):
    """Requests of one connection, one after the other."""

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        if self._server.refuse > 0:
            self._server.refuse -= 1
            transport.abort()
            return
        self._transport = transport
        self._server.connections.add(self)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._task is None:
            self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(self)
        self._transport = None
        if self._task is not None:
            self._task.cancel()

    def close(self) -> asyncio.Task[None] | None:
        if self._transport is not None:
            self._transport.abort()
        return self._task

    def _next(self) -> None:
        end = self._buffer.find(b"\r\n\r\n")
        if self._transport is None or self._transport.is_closing():
            return
        if end < 0:
            if len(self._buffer) > _MAX_HEAD:
                self._transport.abort()
            return
        start, *lines = self._buffer[:end].decode("latin-1").split("\r\n")
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        length = int(headers.get("content-length", "0"))
        if len(self._buffer) < end + 4 + length:
            return
        method, path, _ = start.split(" ", 2)
        exchange = Exchange(self._transport, method, path, headers, bytes(self._buffer[end + 4 : end + 4 + length]))
        del self._buffer[: end + 4 + length]
        self._task = asyncio.get_running_loop().create_task(self._handle(exchange))

    async def _handle(self, exchange: Exchange) -> None:
        try:
            await self._server.handler(exchange)
        finally:
            self._task = None
        self._next()


class HttpServer:
    """Serves `handler` from a background thread with its own event loop.

    `refuse` connections are closed as soon as they are made, before anything is read.
    """

    def __init__(self, handler: Handler, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self.handler = handler
        self.host = host
        self.port = port
        self.refuse = 0
        self.connections: set[_Connection] = set()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._started = threading.Event()
        self._error: BaseException | None = None

    def start(self) -> None:
        """Listen. Raises OSError where the port is taken, RuntimeError where it already runs."""
        if self._thread is not None:
            raise RuntimeError("the endpoint is already running")
        self._started.clear()
        self._error = None
        self._thread = threading.Thread(target=self._run, name="scripted-endpoint", daemon=True)
        self._thread.start()
        self._started.wait()
        self._raise_error()

    def stop(self) -> None:
        """Close every connection and the port, and wait for the thread. Safe to call twice."""
        if self._thread is None:
            return
        if self._loop is not None and self._loop.is_running() and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._thread = None

    def _raise_error(self) -> None:
        if self._error is not None:
            self.stop()
            raise self._error

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            self._error = error
        finally:
            self._started.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        server = await self._loop.create_server(lambda: _Connection(self), self.host, self.port, backlog=4096)
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        try:
            await self._stop.wait()
        finally:
            server.close()
            tasks = [task for connection in list(self.connections) if (task := connection.close()) is not None]
            # Losing its connection cancels a handler; asyncio.run would cancel it too, but noisily.
            await asyncio.gather(*tasks, return_exceptions=True)
