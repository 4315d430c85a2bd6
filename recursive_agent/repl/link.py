"""The host's end of the socket to one worker: whole frames in and out, at a bounded pace."""

from __future__ import annotations

import array
import contextlib
import os
import select
import signal
import socket
from collections import deque
from collections.abc import Sequence
from itertools import islice
from time import monotonic
from typing import ClassVar

import anyio
import anyio.abc
import anyio.lowlevel

from ..errors import SandboxError
from .messages import Failed, Ready, read
from .protocol import CHUNK, FrameReader, ProtocolError

_READY_BYTES = 64 * 1024
_TURN = 0.002
"""Seconds after which others get their turn, while messages of one worker are waiting."""
_TOGETHER = 64
"""Frames that one system call sends at most."""
_PIECE = 1024
"""Bytes from which a part of a message is worth its while."""
_buffer = memoryview(bytearray(CHUNK))


class WorkerGone(Exception):
    """The worker has ended or has broken the protocol; the message says which."""


class Pace:
    """What a worker's messages may cost this process: a burst, then at a rate.

    A message counts one, and more where reading it takes more: a second of it as many as come in `SHARE` seconds. Of many
    workers that are above their burst, all together go no faster than two.
    """

    RATE = BURST = 16384.0
    SHARE = 2.0
    _late: ClassVar[dict[Pace, float]] = {}
    """Those above their burst, and until when."""

    def __init__(self) -> None:
        self._tokens = self.BURST
        self._seen = monotonic()

    def pause(self, cost: float = 1.0) -> float:
        """Count a message; seconds to wait before it is taken."""
        now = monotonic()
        late, rate = self._late, self.RATE
        if late:
            for pace in [pace for pace, until in late.items() if until < now]:
                del late[pace]
            if self._tokens < 0:
                rate = self.RATE / max(1.0, len(late) / 2)
        self._tokens = min(self.BURST, self._tokens + (now - self._seen) * rate) - cost
        self._seen = now
        if self._tokens >= 0:
            return 0.0
        wait = -self._tokens / rate
        late[self] = now + wait + 1.0
        return wait

    def spend(self, seconds: float) -> None:
        """Count the time that reading a message took."""
        self._tokens -= seconds * self.SHARE * self.RATE


class Worker:
    """A worker process: its socket, its pidfd. Sending never waits; what the socket does not take is sent later."""

    def __init__(self, sock: socket.socket, pidfd: int | None, pid: int, *, generation: int = 0) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.pid = pid
        self.generation = generation
        """For its sandbox: how often that had thrown all its spares away when this one came."""
        self.gone = False
        self.reason: str | None = None
        """Why we killed it, where it was for something it did."""
        self.watched = pidfd is not None
        """Whether it is a process of its own."""
        self._pidfd = pidfd
        self._news = select.poll()
        """Of its socket and of its end."""
        self._news.register(sock, select.POLLIN)
        if pidfd is not None:
            self._news.register(pidfd, select.POLLIN)
        self._reader = FrameReader(_READY_BYTES)
        self._pace = Pace()
        self._turn = 0.0
        self._unsent: deque[memoryview] = deque()
        self.unsent_bytes = 0
        self._sending = False
        """Whether a task sees to what is unsent."""
        self._layers: frozenset[str] | None = None

    async def ready(self) -> frozenset[str]:
        """The layers that hold for this worker, once it is locked. Raises SandboxError when it failed."""
        if self._layers is None:
            try:
                message = read(await self.receive())
            except (WorkerGone, ProtocolError) as error:
                raise SandboxError(f"a worker ended before it was ready ({error})") from error
            if not isinstance(message, Ready):
                reason = message.reason if isinstance(message, Failed) else "its first message was of another kind"
                raise SandboxError(f"a worker could not be locked: {reason}")
            self._layers = message.layers
        return self._layers

    def allow(self, message_bytes: int) -> None:
        """From here on it may send messages up to this size."""
        self._reader.limit = message_bytes

    def spend(self, seconds: float) -> None:
        """Reading its last message took so long: it pays for that before its next one is taken."""
        self._pace.spend(seconds)

    async def receive(self) -> bytes:
        """The next message. Raises WorkerGone, ProtocolError."""
        pieces = size = 0
        while (body := self._reader.next()) is None:
            if (
                pieces and size < _PIECE
            ):  # else a worker could send a message byte by byte, and wake this process for each
                await self._keep_pace()
            try:
                size = self.sock.recv_into(_buffer)
            except BlockingIOError:
                await self._wait()
                continue
            except OSError as error:
                raise WorkerGone(self.reason or "it was killed or crashed") from error
            if size == 0:
                raise WorkerGone(self.reason or "it was killed or crashed")
            self._reader.add(_buffer[:size])
            pieces += 1
        await self._keep_pace()
        return body

    async def _keep_pace(self) -> None:
        if pause := self._pace.pause():
            await anyio.sleep(pause)
            self._turn = monotonic()
        elif monotonic() - self._turn > _TURN:
            await anyio.lowlevel.checkpoint()
            self._turn = monotonic()

    async def _wait(self) -> None:
        try:
            await anyio.wait_readable(self.sock)
        except (OSError, anyio.ClosedResourceError) as error:
            raise WorkerGone(self.reason or "it was closed") from error
        self._turn = monotonic()

    def ended(self) -> bool:
        """Whether the worker has ended while nobody was looking."""
        if self.gone:
            return True
        news = self._news.poll(0)
        if not news:
            return False
        if any(fd == self._pidfd for fd, _ in news):
            return True  # its last messages may still wait in the socket
        try:
            return self.sock.recv(1, socket.MSG_PEEK) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True

    def send(self, frame: bytes, tasks: anyio.abc.TaskGroup, fds: Sequence[int] = (), *, more: bool = False) -> None:
        """Send a frame (with descriptors). One for a worker that is gone is dropped: `receive` tells.

        With `more`, others may follow before the event loop's next turn: all are sent together.
        """
        if self.gone:
            return
        sent = 0
        if not self._unsent and not more:
            try:
                if fds:
                    passed = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
                    sent = self.sock.sendmsg([frame], passed)
                else:
                    sent = self.sock.send(frame)
            except BlockingIOError:
                pass
            except OSError:
                return
        if sent < len(frame):
            self._unsent.append(memoryview(frame)[sent:])
            self.unsent_bytes += len(frame) - sent
            if not more and len(self._unsent) > 1:
                with contextlib.suppress(OSError):
                    self._send_some()
            if self._unsent and not self._sending:
                self._sending = True
                tasks.start_soon(self._send_rest)

    def _send_some(self) -> None:
        """Send what the socket takes at once. Raises OSError."""
        sent = self.sock.sendmsg(list(islice(self._unsent, _TOGETHER)))
        self.unsent_bytes -= sent
        while sent:
            first = self._unsent[0]
            if sent < len(first):
                self._unsent[0] = first[sent:]
                return
            sent -= len(first)
            self._unsent.popleft()

    async def _send_rest(self) -> None:
        try:
            while self._unsent and not self.gone:
                with contextlib.suppress(BlockingIOError):
                    self._send_some()
                if self._unsent:
                    await anyio.wait_writable(self.sock)
        except (OSError, anyio.ClosedResourceError):
            self._unsent.clear()
            self.unsent_bytes = 0
        finally:
            self._sending = False

    def kill(self, reason: str | None = None) -> None:
        """SIGKILL, and close the descriptors."""
        if self.gone:
            return
        self.gone = True
        self.reason = reason
        if self._pidfd is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            os.close(self._pidfd)
        with contextlib.suppress(Exception):  # outside an event loop there is nobody to tell
            anyio.notify_closing(self.sock)
        self.sock.close()
