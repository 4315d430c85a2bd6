"""A worker gone bad, at the other end of a real socket: it says what a string of bytes tells it to.

Used by the test suite with hypothesis, and by `python -m tests.repl.fuzz`, which looks for new ways through the host's code.
"""

from __future__ import annotations

import contextlib
import json
import socket
import time
from array import array
from collections.abc import Callable, Sequence
from math import isfinite
from typing import Any

import anyio
import msgpack

from recursive_agent.errors import SandboxError
from recursive_agent.launch import LaunchRequest
from recursive_agent.limits import CallBudget
from recursive_agent.prompts import describe_data
from recursive_agent.repl.base import (
    CellResult,
    CellStatus,
    HostCallError,
    HostFunction,
    HostRequest,
    Recording,
    Replay,
    ReplLimits,
)
from recursive_agent.repl.files import Files
from recursive_agent.repl.link import Worker
from recursive_agent.repl.protocol import HEADER, MOST_CLOCK, FrameReader
from recursive_agent.repl.worker_repl import WorkerRepl
from recursive_agent.returns import Returns
from recursive_agent.status import Status
from recursive_agent.trace.codec import Encoder
from recursive_agent.trace.redact import Redactor
from recursive_agent.trace.schema import CellRan, ClockRead, HostCalled, NodeEnded

LIMITS = ReplLimits(cell_timeout=5.0, message_bytes=1 << 20, message_objects=20_000, output_chars=500, most_calls=300)
CONTEXT = {"text": "x" * (1 << 20), "numbers": [1, 2, 3]}
KINDS = (
    *("ready", "failed", "opened", "call", "cancel", "finish", "done", "run", "reply", "open", ""),
    *("clock", "live", "diverged", "absent"),
)
DONE: dict[str, Any] = {
    "status": "ok",
    "output": "",
    "error": None,
    "refused": None,
    "unawaited": [],
    "running": [],
    "wall": 0.1,
    "cpu": 0.1,
}
"""The end of a cell by the names of its fields, in the order in which they are sent."""
_TAGS = (
    0x90,
    0x80,
    0x9F,
    0x8F,
    0xDC,
    0xDD,
    0xDE,
    0xDF,
    0xC1,
    0xC6,
    0xC9,
    0xDB,
    0xD4,
    0xD8,
    0xC7,
    0xA0,
    0xBF,
    0xCF,
    0xD3,
)


class Choices:
    """Decisions, read off a string of bytes; zeros where it is used up."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def more(self) -> bool:
        return self._at < len(self._data)

    def byte(self) -> int:
        value = self._data[self._at] if self.more else 0
        self._at += 1
        return value

    def number(self, below: int) -> int:
        return (self.byte() << 8 | self.byte()) % below

    def of(self, options: Any) -> Any:
        return options[self.byte() % len(options)]

    def bytes(self, most: int) -> bytes:
        size = min(self.byte(), most)
        found = self._data[self._at : self._at + size]
        self._at += size
        return found

    def value(self, depth: int = 0) -> Any:
        kind = self.byte() % (16 if depth < 6 else 10)
        simple: list[Callable[[], Any]] = [
            lambda: None,
            lambda: bool(self.byte() & 1),
            lambda: self.byte(),
            lambda: -self.byte(),
            lambda: self.of([2**31, 2**53, 2**63 - 1, 2**64 - 1, -(2**63), 0, 1]),
            lambda: self.of([0.5, -0.0, 1e308, float("inf"), float("nan"), 1e-320]),
            lambda: self.bytes(40).decode("latin-1"),
            lambda: self.bytes(40),
            lambda: msgpack.ExtType(self.byte() % 6, self.bytes(30)),
            lambda: self.of(["", "goal", "__class__", "x" * 1000, "\x00", "{0.__class__}", "$blob", "é漢😀"]),
        ]
        if kind < 10:
            return simple[kind]()
        if kind < 12:
            return [self.value(depth + 1) for _ in range(self.byte() % 5)]
        if kind == 12:
            return [self.value(6)] * self.number(3000)
        if kind == 13:
            nested: Any = []
            for _ in range(self.byte()):
                nested = [nested]
            return nested
        with contextlib.suppress(TypeError):
            return {self.key(): self.value(depth + 1) for _ in range(self.byte() % 5)}
        return {}

    def key(self) -> Any:
        return self.of(
            ["a", "goal", "context", "returns", "max_steps", 1, 1.5, True, None, b"k", (1, 2), "$dict", 2**63]
        )


def _frame(body: bytes) -> bytes:
    return HEADER.pack(len(body)) + body


def _packed(value: Any) -> bytes:
    try:
        return msgpack.packb(value)
    except (ValueError, TypeError, OverflowError):
        return b"\xc0"


class HostileWorker:
    """Talks to a `WorkerRepl` as `choices` has it."""

    def __init__(self, choices: Choices) -> None:
        self.choices = choices
        self.ours, theirs = socket.socketpair()
        self.ours.setblocking(False)
        self.worker = Worker(theirs, None, 0)
        self._next = 1

    def _action(self) -> bytes:
        choose = self.choices
        kind = choose.byte() % 16
        if kind == 0:
            return choose.bytes(60)
        if kind == 1:
            return _frame(choose.bytes(255))
        if kind == 2:
            return _frame(_packed([choose.of(KINDS), *(choose.value() for _ in range(choose.byte() % 7))]))
        if kind in (3, 4):
            name = choose.of(["tool", "launch_subagent", "hang", "boom", "nobody", "launch_subagent"])
            kwargs = {
                choose.of(["goal", "context", "returns", "max_steps", "max_tokens", "other"]): choose.value()
                for _ in range(choose.byte() % 5)
            }
            if name == "launch_subagent" and choose.byte() & 1:
                kwargs = {"goal": "x"} | {key: value for key, value in kwargs.items() if key != "other"}
            args = [] if name == "launch_subagent" else [choose.value() for _ in range(choose.byte() % 3)]
            number = self._next if choose.byte() & 7 else choose.value()
            self._next += 1
            return _frame(_packed(["call", number, name, args, kwargs, 1]))
        if kind == 5:
            done = DONE | ({choose.of(list(DONE)): choose.value()} if choose.byte() & 1 else {})
            return _frame(_packed(["done", *done.values()]))
        if kind == 6:
            return _frame(_packed(["finish", choose.value()]))
        if kind == 7:
            return _frame(_packed(["cancel", choose.byte() if choose.byte() & 1 else choose.value()]))
        if kind == 8:
            return HEADER.pack(choose.number(65536) * 64) + choose.bytes(30)
        if kind == 9:
            return _frame(_packed(["cancel", 1])) * choose.number(2000)
        if kind == 10:
            head = choose.of([b"\x92\xa6finish", b"\x96\xa4call\x01\xa4tool\x90\x80", b"\x92\xa4done"])
            return _frame(head + bytes(choose.of(_TAGS) for _ in range(choose.byte())) * (1 + choose.byte()))
        if kind == 11:
            return _frame(_packed(["finish", [msgpack.ExtType(3, bytes([choose.byte() % 3]))] * choose.number(5000)]))
        if kind == 12:
            return _frame(_packed(["finish", {choose.key(): i for i in range(choose.byte())}]))
        if kind == 13:
            numbers = [choose.of([0.5, 1.0, 1e308, float("nan"), float("inf"), -1.0]) for _ in range(choose.byte())]
            body = array("d", numbers * choose.of([1, 1, 1, 200])).tobytes()
            return _frame(_packed(["clock", body + choose.bytes(3) if choose.byte() & 1 else body]))
        if kind == 14:
            return _frame(_packed(choose.of([["live"], ["diverged", "x" * 5000]]))) * (1 + choose.byte() % 3)
        size = choose.number(65536) * 16
        return _frame(
            b"\x92\xa6finish\xdb" + size.to_bytes(4, "big") + choose.of([b"x", b"\xc3", b"\xff", b"\x80"]) * size
        )

    async def misbehave(self) -> None:
        """Say it all, reading now and then, and hang up."""
        reader = FrameReader(1 << 30)
        with self.ours:
            try:
                await self._read(reader)
                await self._say(_frame(_packed(["opened"])) if self.choices.byte() & 15 else self._action())
                while self.choices.more:
                    await self._say(self._action())
                    if self.choices.byte() & 1:
                        await self._read(reader)
            except (OSError, anyio.ClosedResourceError):
                pass

    async def _say(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[self.ours.send(view) :]
            except BlockingIOError:
                with anyio.move_on_after(0.2) as patience:
                    await anyio.wait_writable(self.ours)
                if patience.cancelled_caught:
                    return  # the host has stopped to listen

    async def _read(self, reader: FrameReader) -> None:
        with contextlib.suppress(BlockingIOError):
            reader.feed(self.ours.recv(1 << 16))
        await anyio.sleep(0)


class Host:
    """What a node does with the calls of its worker, without the model: admission, trace, prompt."""

    def __init__(self) -> None:
        self.budget = CallBudget(200, 8, "your calls")
        self._encoder = Encoder(Redactor(["sk-not-a-real-secret"]))
        self.effects = 0
        self.logged = 0
        """Numbers of the log of the cell that runs."""

    def log(self, values: Sequence[float]) -> None:
        self.logged += len(values)
        assert self.logged <= MOST_CLOCK
        assert all(map(isfinite, values))
        self._record(ClockRead(time=time.time(), node="0", step=1, values=values))

    async def call(self, request: HostRequest) -> Any:
        if (reason := self.budget.refusal(request.size)) is not None:
            raise HostCallError("ToolError", reason)
        result: Any = None
        try:
            if request.name == "hang":
                await anyio.sleep_forever()
            if request.name == "boom":
                raise KeyError("boom")
            if request.name == "launch_subagent":
                launch = LaunchRequest.read(request.kwargs)
                returns = Returns.elsewhere(launch.returns)
                json.dumps(returns.schema)
                describe_data(launch.context)
                result = launch.context
            else:
                result = list(request.args)
            return result
        finally:
            self._record(HostCalled(
                time=time.time(), node="0", step=1, call=request.id, started=time.time(), name=request.name,
                args=list(request.args), kwargs=dict(request.kwargs), result=result,
            ))  # fmt: skip

    def take(self, cell: CellResult) -> None:
        assert isinstance(cell.status, CellStatus)
        now = time.time()
        self._record(
            CellRan(
                time=now,
                node="0",
                step=1,
                started=now,
                code="",
                status=cell.status,
                output=cell.output,
                error=cell.error,
                cpu=cell.cpu,
            )
        )
        if cell.status is CellStatus.FINISHED:
            describe_data(cell.value)
            with contextlib.suppress(ValueError):  # a value nested too deeply is refused, as a node refuses it
                self._record(
                    NodeEnded(time=now, node="0", status=Status.FINISHED, result=Returns(None).plain(cell.value))
                )

    def _record(self, event: Any) -> None:
        line = self._encoder.encode(event)
        for part in line.splitlines():
            json.loads(part)


async def session(data: bytes, cells: int = 3) -> float:
    """Run a REPL against a hostile worker; the longest time in seconds that the event loop stood still meanwhile."""
    choices, host, files = Choices(data), Host(), Files()
    longest = 0.0

    async def heartbeat() -> None:
        nonlocal longest
        while True:
            before = time.perf_counter()
            await anyio.sleep(0)
            longest = max(longest, time.perf_counter() - before)

    async with anyio.create_task_group() as peers, anyio.create_task_group() as tasks:

        async def take(dead: Worker | None = None) -> Worker:
            peer = HostileWorker(choices)
            peers.start_soon(peer.misbehave)
            return peer.worker

        tasks.start_soon(heartbeat)
        repl = WorkerRepl(
            take,
            tasks,
            files,
            anyio.CapacityLimiter(1),
            call=host.call,
            functions=[HostFunction(name) for name in ("tool", "hang", "boom")],
            context=CONTEXT,
            launcher=True,
            returns=None,
            limits=LIMITS,
            on_close=lambda repl: None,
            recording=Recording(seed=1, on_clock=host.log),
        )
        with anyio.fail_after(60):
            for number in range(cells):
                replay = [None, Replay(clock=[1.0, 0.0, 0.0, 1.0], complete=False), Replay()][number % 3]
                host.logged = 0
                with contextlib.suppress(SandboxError):
                    host.take(await repl.run("1", replay))
            await repl.aclose()
        tasks.cancel_scope.cancel()
        peers.cancel_scope.cancel()
    files.close()
    assert len(files) == 0
    return longest
