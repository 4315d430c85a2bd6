"""A lean HTTP/1.1 transport under the SDK, for plain HTTP without a proxy: the endpoint next door, called all the time.

What httpx's own transport costs in host time is most of a call, and host time is what bounds the calls that one process
can have under way. TLS and proxies stay with httpx's own transport.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import anyio
import httpx2
from anyio.abc import SocketAttribute, SocketStream

from .endpoint import Endpoint, show_url

_MAX_HEAD = 128 * 1024
_READ = 128 * 1024
_PROXY_VARIABLES = ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")


def serves(endpoint: Endpoint) -> bool:
    """Whether `DirectTransport` can reach the endpoint."""
    if urlsplit(endpoint.base_url).scheme != "http":
        return False
    return endpoint.is_loopback or not any(os.environ.get(name) for name in _PROXY_VARIABLES)


class DirectTransport(httpx2.AsyncBaseTransport):
    """Plain HTTP/1.1 over as many connections as there are requests; idle ones are used again, the latest first.

    `keepalive` is how long an idle connection may be used again, in seconds. Of httpx's timeouts only `connect` is
    heeded: whoever calls bounds the whole attempt.
    """

    def __init__(self, *, keepalive: float) -> None:
        self._keepalive = keepalive
        self._idle: list[_Connection] = []
        """In the order in which they became idle."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send the request, read the answer's head; the body is read as it is asked for."""
        if request.url.scheme != "http":  # a redirect: the key must not go there in the clear
            raise httpx2.UnsupportedProtocol(
                f"it redirects to {show_url(str(request.url))}, which base_url should name"
            )
        body = await request.aread()
        connection = await self._reusable() or await self._connect(request)
        try:
            with _errors_of("write"):
                await connection.stream.send(_head(request) + body)
            with _errors_of("read"):
                status, headers = await connection.read_head()
            answer = _Body(self, connection, request.method, status, headers)
        except BaseException:
            await connection.kill()
            raise
        return httpx2.Response(status, headers=headers, stream=answer, extensions={"http_version": b"HTTP/1.1"})

    async def aclose(self) -> None:
        """Close the idle connections; those in use are closed with their answers."""
        self._keepalive = 0.0
        while self._idle:
            await self._idle.pop().kill()

    async def release(self, connection: _Connection) -> None:
        """Take a connection back whose answer was read to its end."""
        if not self._keepalive:
            await connection.kill()
            return
        connection.idle_since = time.monotonic()
        self._idle.append(connection)
        # The oldest is first: one look at each release keeps what is no longer needed from piling up.
        if self._idle[0].idle_since + self._keepalive < connection.idle_since:
            await self._idle.pop(0).kill()

    async def _reusable(self) -> _Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if time.monotonic() - connection.idle_since < self._keepalive and not connection.readable():
                return connection
            await connection.kill()
        return None

    @staticmethod
    async def _connect(request: httpx2.Request) -> _Connection:
        timeout = request.extensions.get("timeout", {}).get("connect")
        try:
            with anyio.fail_after(timeout):
                return _Connection(
                    await anyio.connect_tcp(request.url.raw_host.decode("ascii"), request.url.port or 80)
                )
        except TimeoutError:
            raise httpx2.ConnectTimeout(f"no connection within {timeout:g} s", request=request) from None
        except OSError as error:
            raise httpx2.ConnectError(str(error), request=request) from error


class _Connection:
    """One connection and what was read from it but not used yet."""

    def __init__(self, stream: SocketStream) -> None:
        self.stream = stream
        self.buffer = bytearray()
        self.idle_since = 0.0
        self._socket = stream.extra(SocketAttribute.raw_socket)

    def readable(self) -> bool:
        """Whether there is something to read: on an idle connection, its end."""
        poll = select.poll()
        try:
            poll.register(self._socket.fileno(), select.POLLIN)
        except ValueError:
            return True
        return bool(poll.poll(0))

    async def receive(self) -> None:
        """Read some more into the buffer. Raises EndOfStream."""
        self.buffer += await self.stream.receive(_READ)

    async def line(self) -> bytes:
        """Take one line from the buffer, its end left out."""
        while (end := self.buffer.find(b"\r\n")) < 0:
            if len(self.buffer) > _MAX_HEAD:
                raise httpx2.RemoteProtocolError("the answer holds a line that does not end")
            await self.receive()
        line = bytes(self.buffer[:end])
        del self.buffer[: end + 2]
        return line

    async def read_head(self) -> tuple[int, list[tuple[bytes, bytes]]]:
        """Status and headers of the answer; interim answers (1xx) are passed over."""
        while True:
            while (end := self.buffer.find(b"\r\n\r\n")) < 0:
                if len(self.buffer) > _MAX_HEAD:
                    raise httpx2.RemoteProtocolError("the answer's head does not end")
                await self.receive()
            first, *lines = bytes(self.buffer[:end]).split(b"\r\n")
            del self.buffer[: end + 4]
            version, _, rest = first.partition(b" ")
            code = rest[:3]
            if not version.startswith(b"HTTP/1.") or not code.isdigit():
                raise httpx2.RemoteProtocolError("the answer is no HTTP/1.1")
            if not code.startswith(b"1"):
                break
        headers = [(b"connection", b"close")] if version == b"HTTP/1.0" else []
        for line in lines:
            name, colon, value = line.partition(b":")
            if not colon or not name or name != name.strip():
                raise httpx2.RemoteProtocolError("the answer holds a malformed header")
            headers.append((name, value.strip()))
        return int(code), headers

    async def kill(self) -> None:
        """Close at once, whatever is under way."""
        with anyio.CancelScope(shield=True):
            await anyio.aclose_forcefully(self.stream)


class _Body(httpx2.AsyncByteStream):
    """The body of one answer; gives its connection back when it was read to its end."""

    def __init__(
        self,
        transport: DirectTransport,
        connection: _Connection,
        method: str,
        status: int,
        headers: list[tuple[bytes, bytes]],
    ) -> None:
        named = httpx2.Headers(headers)
        self._transport = transport
        self._connection: _Connection | None = connection
        self._chunked = "chunked" in named.get("transfer-encoding", "").lower()
        self._keep = "close" not in named.get("connection", "").lower()
        self._length: int | None = None
        if method == "HEAD" or status in (204, 304):
            self._length, self._chunked = 0, False
        elif not self._chunked and "content-length" in named:
            length = named["content-length"].split(",")[0].strip()
            if not length.isdigit():
                raise httpx2.RemoteProtocolError("the answer's length is no number")
            self._length = int(length)

    async def __aiter__(self) -> AsyncGenerator[bytes]:
        connection = self._connection
        if connection is None:
            raise httpx2.ReadError("the connection is closed")
        with _errors_of("read"):
            if self._chunked:
                async for piece in self._chunks(connection):
                    yield piece
            elif self._length is not None:
                async for piece in self._exactly(connection, self._length):
                    yield piece
            else:
                self._keep = False
                async for piece in self._until_closed(connection):
                    yield piece
        self._connection = None
        if self._keep and not connection.buffer:
            await self._transport.release(connection)
        else:
            await connection.kill()

    async def aclose(self) -> None:
        """Close the connection unless the body was read to its end."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.kill()

    @staticmethod
    async def _exactly(connection: _Connection, length: int) -> AsyncGenerator[bytes]:
        while length > 0:
            if not connection.buffer:
                await connection.receive()
            piece = bytes(connection.buffer[:length])
            del connection.buffer[:length]
            length -= len(piece)
            yield piece

    async def _chunks(self, connection: _Connection) -> AsyncGenerator[bytes]:
        while True:
            size = (await connection.line()).partition(b";")[0].strip()
            try:
                length = int(size, 16)
            except ValueError:
                raise httpx2.RemoteProtocolError("the answer holds a chunk without a size") from None
            if length == 0:
                while await connection.line():
                    pass  # trailers
                return
            async for piece in self._exactly(connection, length):
                yield piece
            if await connection.line():
                raise httpx2.RemoteProtocolError("the answer holds a chunk longer than its size")

    @staticmethod
    async def _until_closed(connection: _Connection) -> AsyncGenerator[bytes]:
        while True:
            if connection.buffer:
                yield bytes(connection.buffer)
                connection.buffer.clear()
            try:
                await connection.receive()
            except anyio.EndOfStream:
                return


def _head(request: httpx2.Request) -> bytes:
    lines = [b"%b %b HTTP/1.1" % (request.method.encode("ascii"), request.url.raw_path)]
    lines += [b"%b: %b" % header for header in request.headers.raw]
    return b"\r\n".join(lines) + b"\r\n\r\n"


@contextmanager
def _errors_of(doing: str) -> Iterator[None]:
    try:
        yield
    except anyio.EndOfStream:
        raise httpx2.RemoteProtocolError("the connection was closed before the answer was whole") from None
    except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError) as error:
        kind = httpx2.WriteError if doing == "write" else httpx2.ReadError
        raise kind(str(error) or "the connection broke") from error
