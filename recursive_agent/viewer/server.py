"""A server on this machine alone for one page, which follows traces while they are written.

It listens on the loopback interface, under a path that nobody can guess, and answers only requests that name it by a
loopback address: other users, other machines and other pages in the browser cannot read it. It runs in a thread with an
event loop of its own, so that it serves programs of every kind, and a run that is watched is held up as little as possible.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Self, TypeVar

from aiohttp import web
from anyio import CapacityLimiter, move_on_after, to_thread

from ..errors import ConfigurationError
from .live_folder import FolderSite
from .page import page_pieces
from .site import HEADERS, PAGE_HEADERS, RunSite, Site
from .streaming import events

HOST = "127.0.0.1"
ENDED = "The server of this page has ended."
_TICKET_SECONDS = 60.0
_THREADS = 4
_STREAMS = 32
"""Pages that may follow at once."""
_LAST_STATE = 3.0
"""Seconds that pages have to take in the last state when the server ends."""
_T = TypeVar("_T")
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ViewServer:
    """Serves a trace file, a folder of them, or any `Site`, while a `with` block lasts.

    The file may not be there yet. Nothing is read before a page asks. Entering raises ConfigurationError for a port that is
    taken.
    """

    def __init__(self, shown: str | Path | Site, *, port: int = 0) -> None:
        """`port` 0 takes a free one."""
        self._site = _site_of(shown)
        self._port = port
        self._token = secrets.token_urlsafe(24)
        self._tickets: dict[str, float] = {}
        self._streams = 0
        self._served = 0
        self._reason: str | None = None
        self._failure: Exception | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None

    def __enter__(self) -> Self:
        listener = _listen(self._port)
        self._port = listener.getsockname()[1]
        up = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(listener, up), name="rao viewer", daemon=True)
        self._thread.start()
        up.wait()
        if self._failure is not None:
            raise self._failure
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        """Address of the page. Whoever knows it can read the traces."""
        return f"http://{HOST}:{self._port}/{self._token}/"

    def ticket(self) -> str:
        """An address that leads to the page once, within a minute: for the command line of a browser, which others can see."""
        name = secrets.token_urlsafe(24)
        self._tickets[name] = time.monotonic() + _TICKET_SECONDS
        return f"http://{HOST}:{self._port}/open/{name}"

    @property
    def watched(self) -> bool:
        """Whether a page follows it now."""
        return self._streams > 0

    @property
    def was_opened(self) -> bool:
        """Whether anybody has opened the page yet."""
        return self._served > 0

    def close(self, reason: str = ENDED) -> None:
        """End the server. Pages that follow it get the last state and the reason, and stay readable. Safe to call twice."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._reason = reason
        loop, stop = self._loop, self._stop
        if loop is not None and stop is not None:
            loop.call_soon_threadsafe(stop.set)
        thread.join()

    def _serve(self, listener: socket.socket, up: threading.Event) -> None:
        try:
            asyncio.run(self._main(listener, up))
        except Exception as error:  # raised by who starts the server
            self._failure = error
        finally:
            up.set()
            listener.close()

    async def _main(self, listener: socket.socket, up: threading.Event) -> None:
        self._loop, self._stop, self._idle = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
        self._idle.set()
        self._limiter = CapacityLimiter(_THREADS)
        app = web.Application(middlewares=[self._guard])
        app.router.add_get("/open/{ticket}", self._open)
        app.router.add_get("/{token}/", self._page)
        app.router.add_get("/{token}/events", self._events)
        app.router.add_get("/{token}/run/{run}.json", self._run)
        app.router.add_get("/{token}/compare/{left}/{right}.json", self._compare)
        runner = web.AppRunner(
            app, handler_cancellation=True, access_log=None, handle_signals=False, shutdown_timeout=0.5
        )
        await runner.setup()
        try:
            await web.SockSite(runner, listener).start()
            up.set()
            await self._stop.wait()
            with move_on_after(_LAST_STATE):
                await self._idle.wait()
        finally:
            connections = [] if runner.server is None else [each.transport for each in runner.server.connections]
            await runner.cleanup()
            for transport in connections:  # one whose browser reads no more would be left open
                if transport is not None:
                    transport.abort()
            await asyncio.sleep(0)

    @web.middleware
    async def _guard(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        """Refuse whoever is not a browser with the address of the page; then headers for what is answered."""
        try:
            self._check(request)
            response = await handler(request)
        except web.HTTPException as error:
            response = web.Response(status=error.status, text=f"{error.text or error.reason}\n", headers=error.headers)
        if not response.prepared:
            for name, value in HEADERS.items():
                response.headers.setdefault(name, value)
        return response

    def _check(self, request: web.Request) -> None:
        # A page under a name of its own that leads to this machine (DNS rebinding) sends that name.
        if request.headers.get("Host") not in (f"{HOST}:{self._port}", f"localhost:{self._port}"):
            raise web.HTTPForbidden(text="This server answers only under 127.0.0.1 and localhost.")
        if request.method not in ("GET", "HEAD"):
            raise web.HTTPMethodNotAllowed(request.method, ["GET", "HEAD"])
        token = request.match_info.get("token")
        if token is not None and not hmac.compare_digest(token.encode(), self._token.encode()):
            raise web.HTTPNotFound(text="There is no such page.")
        # A link may lead to the page from elsewhere; its data are for the page itself.
        asked_by = request.headers.get("Sec-Fetch-Site", "none")
        if asked_by not in ("none", "same-origin") and request.headers.get("Sec-Fetch-Mode") != "navigate":
            raise web.HTTPForbidden(text="Other pages cannot read this one.")

    async def _open(self, request: web.Request) -> web.StreamResponse:
        until = self._tickets.pop(request.match_info["ticket"], None)
        if until is None or time.monotonic() > until:
            raise web.HTTPNotFound(text="This address works once and for a minute. Use the one in the terminal.")
        raise web.HTTPSeeOther(f"/{self._token}/")

    async def _page(self, request: web.Request) -> web.StreamResponse:
        self._served += 1
        data = await self._in_thread(self._site.data)
        text = await self._in_thread(lambda: "".join(page_pieces(data)).encode())
        return web.Response(body=text, content_type="text/html", charset="utf-8", headers=PAGE_HEADERS)

    async def _events(self, request: web.Request) -> web.StreamResponse:
        if self._streams >= _STREAMS:
            raise web.HTTPServiceUnavailable(text=f"{_STREAMS} pages follow this server already; close one of them.")
        sources = self._site.sources(request.query.getall("run", []))
        if sources is None:
            raise web.HTTPNotFound(text="There is no such run.")
        response = web.StreamResponse(
            headers={**HEADERS, "Content-Type": "text/event-stream", "X-Accel-Buffering": "no"}
        )
        self._streams += 1
        self._idle.clear()
        try:
            await response.prepare(request)
            if request.method == "HEAD":
                return response
            stream = events(
                sources,
                request.headers.get("Last-Event-ID"),
                ending=lambda: self._reason,
                limiter=self._limiter,
            )
            async with aclosing(stream):
                async for event in stream:
                    await response.write(event)  # waits until the page has room
            await response.write_eof()
        except ConnectionError:
            pass  # the page is gone
        finally:
            self._streams -= 1
            if not self._streams:
                self._idle.set()
        return response

    async def _run(self, request: web.Request) -> web.StreamResponse:
        return await self._json(lambda: self._site.run(request.match_info["run"]), "There is no such run.")

    async def _compare(self, request: web.Request) -> web.StreamResponse:
        left, right = request.match_info["left"], request.match_info["right"]
        return await self._json(lambda: self._site.compare(left, right), "One of these runs is not there.")

    async def _json(self, make: Callable[[], str | None], missing: str) -> web.StreamResponse:
        text = await self._in_thread(make)
        if text is None:
            raise web.HTTPNotFound(text=missing)
        return web.Response(text=text, content_type="application/json")

    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        return await to_thread.run_sync(work, limiter=self._limiter)


def _site_of(shown: str | Path | Site) -> Site:
    if not isinstance(shown, str | Path):
        return shown
    place = Path(shown)
    return FolderSite(place) if place.is_dir() else RunSite(place)


def _listen(port: int) -> socket.socket:
    """A socket on the loopback interface. Raises ConfigurationError."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        listener.listen(128)
        listener.setblocking(False)
    except (OSError, OverflowError) as error:
        listener.close()
        reason = error.strerror if isinstance(error, OSError) else "a port lies between 0 and 65535"
        raise ConfigurationError(
            f"the viewer cannot listen on port {port} ({reason}); choose another one, or 0 for any that is free"
        ) from None
    return listener
