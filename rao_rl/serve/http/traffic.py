"""What every request passes on its way in: counting, draining, keys. Plain ASGI, so that streams pass untouched."""

from __future__ import annotations

import hmac
import time
from collections.abc import Sequence
from typing import Any

import anyio
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .errors import INTERNAL, ApiError
from .gate import Gate
from .settings import ServerSettings, is_loopback

OPEN_PATHS = frozenset({"/health"})
"""Asked without a key."""
SIGNED = "/view/"
"""Beginning of the paths that are asked without a key, because they hold a signature of the server, which the route checks."""
_WATCHED_PATHS = frozenset({"/health", "/metrics"})
"""Answered while the server drains, too."""
_RETRY_AFTER = 5
"""Seconds; for those who come while the server drains."""
_BUCKETS = (0.005, 0.02, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800)


class Traffic:
    """The requests under way in one server, and their metrics for Prometheus."""

    def __init__(self, registry: CollectorRegistry, gate: Gate) -> None:
        self.draining = False
        self._scopes: set[anyio.CancelScope] = set()
        self._idle = anyio.Event()
        self._patience: anyio.CancelScope | None = None
        self._hurried = False
        self._requests = Counter("rao_http_requests", "Requests answered.", ["route", "status"], registry=registry)
        self._seconds = Histogram(
            "rao_http_request_seconds",
            "Seconds from a request to the end of its answer.",
            ["route"],
            registry=registry,
            buckets=_BUCKETS,
        )
        for name, text, value in (
            ("rao_http_requests_in_flight", "Requests not yet answered.", lambda: len(self._scopes)),
            ("rao_requests_running", "Requests that the gate let in.", lambda: gate.running),
            ("rao_requests_queued", "Requests that wait at the gate.", lambda: gate.queued),
        ):
            Gauge(name, text, registry=registry).set_function(value)

    @property
    def in_flight(self) -> int:
        """Requests not yet answered."""
        return len(self._scopes)

    async def drain(self, seconds: float) -> None:
        """Take no more requests; let those under way end, and cancel those that have not after `seconds`."""
        self.draining = True
        with anyio.move_on_after(0 if self._hurried else seconds) as self._patience:
            await self._until_idle()
        for scope in self._scopes:
            scope.cancel()
        await self._until_idle()

    def hurry(self) -> None:
        """Let `drain` wait no longer."""
        self._hurried = True
        if self._patience is not None:
            self._patience.cancel()

    async def _until_idle(self) -> None:
        while self._scopes:
            self._idle = anyio.Event()
            await self._idle.wait()

    def begin(self, scope: anyio.CancelScope) -> None:
        """A request has come; cancelling `scope` ends it."""
        self._scopes.add(scope)

    def end(self, scope: anyio.CancelScope, *, route: str, status: int, seconds: float) -> None:
        """A request was answered. `route` is the path's pattern, never the path: that has endless values."""
        self._scopes.discard(scope)
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)
        if not self._scopes:
            self._idle.set()


class TrafficMiddleware:
    """Tells `Traffic` of every request, and refuses those that come while the server drains."""

    def __init__(self, app: ASGIApp, traffic: Traffic) -> None:
        self._app = app
        self._traffic = traffic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        traffic, started, status = self._traffic, time.monotonic(), 0

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        cancel = anyio.CancelScope()
        if traffic.draining and scope["path"] not in _WATCHED_PATHS:
            await stopping().response()(scope, receive, note)
            return
        traffic.begin(cancel)
        try:
            with cancel:
                await self._app(scope, receive, note)
            if cancel.cancelled_caught and not status:
                await stopping().response()(scope, receive, note)
        except ClientDisconnect:
            status = 499  # as nginx writes it; the client is gone
        except Exception:
            if not status:  # here rather than in Starlette, whose answer would lack the headers for pages in a browser
                await JSONResponse(INTERNAL, 500)(scope, receive, note)
            status = 500
            raise
        finally:
            traffic.end(cancel, route=_route(scope), status=status, seconds=time.monotonic() - started)


class HeadMiddleware:
    """Answers HEAD as GET, whose body uvicorn then leaves out: load balancers ask in this way."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "http" and scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}
        await self._app(scope, receive, send)


class KeyMiddleware:
    """Lets only requests with a key pass.

    Where there are no keys, only those sent to a loopback name: a web page in a browser on this machine, under a name of its
    own that leads here, would otherwise reach the server.
    """

    def __init__(self, app: ASGIApp, settings: ServerSettings) -> None:
        self._app = app
        self._keys: Sequence[bytes] = [key.encode() for key in settings.api_keys]
        self._local = settings.is_loopback

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "http" and scope["path"] not in OPEN_PATHS:
            headers = Headers(scope=scope)
            refusal = self._refusal(headers, signed=scope["path"].startswith(SIGNED))
            if refusal is not None:
                await refusal.response()(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _refusal(self, headers: Headers, *, signed: bool) -> ApiError | None:
        if not self._keys:
            host = headers.get("host", "")
            name = host if host.endswith("]") else host.rpartition(":")[0] or host
            if self._local and not is_loopback(name):
                return ApiError(
                    403,
                    "Without an API key this server answers only under localhost or a loopback address; to reach it under "
                    "another name, or through a proxy that passes one on, start it with a key.",
                )
            return None
        if signed:
            return None
        scheme, _, sent = headers.get("authorization", "").partition(" ")
        key = sent.strip().encode("latin-1") if scheme.lower() == "bearer" else b""
        # Every key is compared, so that the time says nothing about which one it is.
        if sum(hmac.compare_digest(key, known) for known in self._keys):
            return None
        message = "This API key is unknown." if key else "An API key is needed: send Authorization: Bearer KEY."
        return ApiError(401, message, code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"})


def stopping() -> ApiError:
    """What those get whom the server has no more time for."""
    return ApiError(
        503,
        "The server is shutting down; try again later.",
        code="shutting_down",
        retry_after=_RETRY_AFTER,
        headers={"Connection": "close"},
    )


def _route(scope: Scope) -> str:
    route: Any = scope.get("route")
    return str(getattr(route, "path", "other"))
