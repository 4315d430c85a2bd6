"""Running an application under uvicorn: it drains before it ends."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import anyio
import uvicorn
from fastapi import FastAPI

from recursive_agent.errors import ConfigurationError
from recursive_agent.sizes import rare_collections

from .settings import ServerSettings, check_exposure, reached_at
from .traffic import Traffic

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_BACKLOG = 2048


async def serve(app: FastAPI, settings: ServerSettings, *, ready: Callable[[str], object] | None = None) -> None:
    """Run an application (of `make_app`) until SIGTERM or SIGINT, then let the requests under way end, and return.

    `ready` gets the URL (without /v1) once requests are taken; a second signal ends those under way at once. Call it in
    the main thread. Raises ConfigurationError where the address is taken, or open to others without a key.
    """
    async with _running(app, settings) as server:
        with server.heeding_signals(), _quiet_heap():
            if ready is not None:
                ready(server.url)
            await server.ended.wait()


@contextmanager
def _quiet_heap() -> Iterator[None]:
    """What the process has loaded stays out of collections of garbage, each of which would go over all of it."""
    gc.collect()
    gc.freeze()
    try:
        with rare_collections():
            yield
    finally:
        gc.unfreeze()


@asynccontextmanager
async def serving(app: FastAPI, settings: ServerSettings) -> AsyncIterator[str]:
    """Run an application within a program, while the block lasts; gives the URL. Raises as `serve`."""
    async with _running(app, settings) as server:
        yield server.url


@asynccontextmanager
async def _running(app: FastAPI, settings: ServerSettings) -> AsyncIterator[_Server]:
    check_exposure(settings)
    # The socket first: nothing is loaded for an address that cannot be had. The lifespan here rather than in uvicorn,
    # which would turn its errors into a bare exit.
    with _listen(settings) as listener:
        async with app.router.lifespan_context(app):
            server = _Server(app, settings, listener)
            ended = asyncio.create_task(server.serve())
            try:
                await server.up.wait()
                yield server
            finally:
                server.should_exit = True
                with anyio.CancelScope(shield=True):
                    await ended


class _Server(uvicorn.Server):
    """uvicorn, which in its own way of ending refuses connections instead of telling those who come when to try again."""

    def __init__(self, app: FastAPI, settings: ServerSettings, listener: socket.socket) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                lifespan="off",
                ws="none",
                server_header=False,
                backlog=_BACKLOG,
                timeout_keep_alive=settings.keep_alive_seconds,
                timeout_graceful_shutdown=1,
            )
        )
        host, port = listener.getsockname()[:2]
        self.url = f"http://{reached_at(host)}:{port}"
        self._traffic: Traffic = app.state.traffic
        self._drain_seconds = settings.drain_seconds
        self._listener = listener
        self.up = asyncio.Event()
        self.ended = asyncio.Event()

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Run until `should_exit`, and to the end of what is under way."""
        try:
            await super().serve([self._listener])
        finally:
            self.up.set()
            self.ended.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Take requests from now on."""
        await super().startup(sockets)
        self.up.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain, then close."""
        await self._traffic.drain(self._drain_seconds)
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Nothing: uvicorn's way raises the signal once more in the end, so that a graceful end looks like a crash."""
        yield

    @contextmanager
    def heeding_signals(self) -> Iterator[None]:
        """End on SIGTERM and SIGINT, at once on the second one."""
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._stop)
        try:
            yield
        finally:
            for number in _SIGNALS:
                loop.remove_signal_handler(number)

    def _stop(self) -> None:
        if self.should_exit:
            self._traffic.hurry()
        self.should_exit = True


def _listen(settings: ServerSettings) -> socket.socket:
    """A socket bound to the address, which takes no connection yet."""
    if not settings.host:
        raise ConfigurationError("The host is empty; give 127.0.0.1, or 0.0.0.0 for all addresses of this machine.")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
    except OSError as error:
        raise _cannot_listen(settings, error) from None
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise _cannot_listen(settings, error) from None
    return bound


def _cannot_listen(settings: ServerSettings, error: OSError) -> ConfigurationError:
    return ConfigurationError(
        f"Cannot listen on {settings.host} port {settings.port} ({error.strerror}); choose another host or port."
    )
