"""A worker that has left every rule, at the other end of the socket: the host goes on, in bounded time and memory."""

from __future__ import annotations

import random
import socket
import time
import tracemalloc
from array import array
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recursive_agent.repl.base import DEFAULT_LIMITS, HostFunction, HostRequest, Recording, Replay, ReplLimits
from recursive_agent.repl.files import Files
from recursive_agent.repl.link import Pace, Worker
from recursive_agent.repl.protocol import HEADER, MOST_CLOCK
from recursive_agent.repl.worker_repl import WorkerRepl
from tests.waiting import PATIENCE, until

from .hostile import DONE, session


def frame(*message: Any) -> bytes:
    body = msgpack.packb(list(message))
    return HEADER.pack(len(body)) + body


OPENED, ENDED = frame("opened"), frame("done", *DONE.values())


@asynccontextmanager
async def repl_on(
    said: bytes,
    call: Callable[[HostRequest], Any],
    limits: ReplLimits = DEFAULT_LIMITS,
    context: Any = None,
    log: Callable[[Sequence[float]], None] | None = None,
) -> AsyncIterator[tuple[WorkerRepl, socket.socket]]:
    """A REPL whose worker says `said` whatever it is sent; and the worker's end of the socket."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    files = Files()

    async def speak() -> None:
        view = memoryview(OPENED + said)
        try:
            while view:
                try:
                    view = view[ours.send(view) :]
                except BlockingIOError:
                    await anyio.wait_writable(ours)
        except (OSError, anyio.ClosedResourceError):
            pass

    async def take(dead: Worker | None = None) -> Worker:
        return Worker(theirs, None, 0)

    async with anyio.create_task_group() as tasks:
        repl = WorkerRepl(
            take,
            tasks,
            files,
            anyio.CapacityLimiter(1),
            call=call,
            functions=[HostFunction("tool")],
            context=context,
            launcher=True,
            returns=None,
            limits=limits,
            on_close=lambda repl: None,
            recording=None if log is None else Recording(seed=1, on_clock=log),
        )
        tasks.start_soon(speak)
        try:
            await repl.start()
            yield repl, ours
        finally:
            await repl.aclose()
            tasks.cancel_scope.cancel()
            ours.close()
            files.close()


async def nothing(request: HostRequest) -> None:
    return None


@pytest.mark.parametrize("seconds", [3.0, pytest.param(60.0, marks=pytest.mark.slow)])
def test_an_hour_of_fuzzing_in_small(seconds: float) -> None:
    """Random sessions under a time bound; `python -m tests.repl.fuzz` does the same guided by coverage."""
    rng = random.Random(20_261_126)
    started = time.monotonic()
    longest = sessions = 0.0
    while sessions <= 10 or time.monotonic() - started < seconds:
        longest = max(longest, anyio.run(session, rng.randbytes(rng.choice((30, 200, 800, 3000)))))
        sessions += 1
    assert longest < PATIENCE  # a bound that holds on any machine; `benchmarks.heartbeat` has the figure


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=600))
def test_no_session_raises_or_leaves_anything(data: bytes) -> None:
    anyio.run(session, data)


@pytest.mark.anyio
async def test_a_call_number_is_used_once_and_in_order() -> None:
    for numbers in ((1, 1), (2, 1), (5, 5)):
        said = b"".join(frame("call", number, "tool", [], {}, 1) for number in numbers) + ENDED
        async with repl_on(said, nothing) as (repl, _):
            result = await repl.run("1")
            assert result.status == "killed"
            assert "does not follow" in str(result.error)


@pytest.mark.anyio
async def test_only_functions_that_it_was_given_can_be_called() -> None:
    async with repl_on(frame("call", 1, "eval", ["1"], {}, 1) + ENDED, nothing) as (repl, _):
        assert "may not call" in str((await repl.run("1")).error)


@pytest.mark.anyio
async def test_a_result_and_a_refusal_of_it_do_not_go_together() -> None:
    for said in (
        frame("finish", 1) + frame("done", *(DONE | {"status": "finished", "refused": "no"}).values()),
        frame("finish", 1) + frame("done", *DONE.values()),
        frame("done", *(DONE | {"status": "finished"}).values()),
    ):
        async with repl_on(said, nothing) as (repl, _):
            assert (await repl.run("1")).status in ("killed", "finished")
    async with repl_on(frame("done", *(DONE | {"refused": "value is no list"}).values()), nothing) as (repl, _):
        result = await repl.run("1")
        assert (result.status, result.refused) == ("ok", "value is no list")


@pytest.mark.anyio
async def test_calls_of_a_worker_are_bounded_in_all() -> None:
    seen = []

    async def count(request: HostRequest) -> None:
        seen.append(request.id)

    said = b"".join(frame("call", number, "tool", [], {}, 1) for number in range(1, 1000))
    async with repl_on(said + ENDED, count, ReplLimits(most_calls=50)) as (repl, _):
        result = await repl.run("1")
        assert "more calls than allowed" in str(result.error)
        await until(lambda: not repl._answers._answering)
        assert len(seen) <= 50


def clock(*values: float) -> bytes:
    return frame("clock", array("d", values).tobytes())


LOG = (1.0, 0.0, 0.0, 5.0)
WRONG_LOGS = {
    "NaN": clock(*LOG, float("nan")),
    "infinite": clock(*LOG, float("inf")),
    "empty": frame("clock", b""),
    "short": clock(1.0),
    "no whole numbers": frame("clock", b"x" * 33),
    "text": frame("clock", "x" * 32),
    "a list": frame("clock", [1.0] * 4),
    "more fields": frame("clock", b"x" * 32, 1),
    "too long": clock(*[1.0] * (MOST_CLOCK + 1)),
    "too many": clock(*[1.0] * (MOST_CLOCK // 2 + 1)) * 2,
    "live without a replay": frame("live"),
    "diverged without a replay": frame("diverged", "x"),
    "absent": frame("absent", 1),
}


@pytest.mark.anyio
@pytest.mark.parametrize("said", WRONG_LOGS.values(), ids=list(WRONG_LOGS))
async def test_a_log_that_is_wrong_or_out_of_place_ends_the_worker(said: bytes) -> None:
    seen: list[float] = []
    async with repl_on(said + ENDED, nothing, log=seen.extend) as (repl, _):
        assert (await repl.run("1")).status == "killed"
    assert len(seen) <= MOST_CLOCK


@pytest.mark.anyio
async def test_a_log_is_taken_only_where_one_is_kept() -> None:
    seen: list[float] = []
    async with repl_on(clock(*LOG) + ENDED, nothing, log=seen.extend) as (repl, _):
        assert (await repl.run("1")).status == "ok"
    assert seen == list(LOG)
    async with repl_on(clock(*LOG) + ENDED, nothing) as (repl, _):
        assert "nobody asked for" in str((await repl.run("1")).error)
    seen.clear()
    for complete, said in ((True, b""), (True, frame("live")), (False, b""), (False, frame("live") * 2)):
        async with repl_on(said + clock(*LOG) + ENDED, nothing, log=seen.extend) as (repl, _):
            assert "nobody asked for" in str((await repl.run("1", Replay(complete=complete))).error)
    assert seen == []
    async with repl_on(frame("live") + clock(*LOG) + ENDED, nothing, log=seen.extend) as (repl, _):
        assert (await repl.run("1", Replay(complete=False))).status == "ok"
    assert seen == list(LOG)


@pytest.mark.anyio
async def test_a_flood_of_small_messages_is_taken_at_a_pace_and_lets_others_run() -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await anyio.sleep(0)
            turns += 1

    flood = frame("cancel", 1) * int(Pace.BURST + Pace.RATE / 4)
    async with anyio.create_task_group() as group:
        group.start_soon(others)
        async with repl_on(flood + ENDED, nothing) as (repl, _):
            started = anyio.current_time()
            assert (await repl.run("1")).status == "ok"
            assert anyio.current_time() - started >= 0.2  # a quarter of a second above the burst
            assert turns > 5
        group.cancel_scope.cancel()


@pytest.mark.anyio
async def test_what_a_worker_says_of_its_cell_is_no_more_than_can_be() -> None:
    """Names go into the next prompt, which the whole tree pays for; times into reports."""
    names = ["tool", "launch_subagent", "x" * 200, "a\nfinish() was refused"] * 250
    said = frame("done", *(DONE | {"unawaited": names, "running": names, "wall": 9e8, "cpu": 9e8}).values())
    async with repl_on(said, nothing) as (repl, _):
        result = await repl.run("1")
    assert result.unawaited == result.running == ("tool", "launch_subagent") * 50
    assert 0 <= result.cpu <= result.wall < PATIENCE


def test_a_worker_pays_for_what_reading_its_messages_takes() -> None:
    pace, light = Pace(), Pace()
    pace.spend(2.0)
    assert pace.pause() > 2.5  # four seconds, but for the burst
    assert light.pause() == 0


def test_many_workers_above_their_burst_go_no_faster_than_two_together() -> None:
    late = [Pace() for _ in range(40)]
    for _ in range(2):
        pauses = []
        for pace in late:
            pace.spend(1.0)
            pauses.append(pace.pause())
    assert min(pauses) > 20  # it is three seconds for one alone
    assert Pace().pause() == 0
    Pace._late.clear()


@pytest.mark.anyio
async def test_a_message_that_comes_byte_by_byte_is_taken_at_the_pace_of_messages() -> None:
    async with repl_on(b"", nothing) as (repl, worker):
        async with anyio.create_task_group() as group:
            group.start_soon(repl.run, "1")
            host = repl._worker
            assert host is not None
            worker.send(HEADER.pack(1 << 20))
            await until(lambda: len(host._reader._buffer) == 4)
            host._pace.spend(
                (host._pace._tokens + Pace.RATE / 4) / Pace.RATE / Pace.SHARE
            )  # a quarter of a second late
            started = anyio.current_time()
            for count in (5, 6):
                worker.send(b"x")
                await until(lambda count=count: len(host._reader._buffer) == count)
            assert anyio.current_time() - started >= 0.2
            group.cancel_scope.cancel()


@pytest.mark.anyio
async def test_an_answer_larger_than_the_interpreter_takes_in_becomes_an_error_that_says_so() -> None:
    async def large(request: HostRequest) -> bytes:
        return b"x" * (20 << 20)

    said = frame("call", 1, "tool", [], {}, 1)
    async with repl_on(said, large, ReplLimits(memory_mb=64)) as (repl, worker):
        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as group:
                group.start_soon(repl.run, "1")
                kind, number, good, error = await _reply(worker)
                group.cancel_scope.cancel()
    assert (kind, number, good, error["kind"]) == ("reply", 1, False, "ToolError")
    assert "20.0 MiB" in error["message"]


async def _reply(worker: socket.socket) -> Any:
    """The first reply that a worker is sent."""
    data = b""
    while True:
        try:
            data += worker.recv(1 << 20)
        except BlockingIOError:
            await anyio.wait_readable(worker)
            continue
        while len(data) >= 4 and len(data) >= 4 + int.from_bytes(data[:4], "little"):
            size = int.from_bytes(data[:4], "little")
            message = msgpack.unpackb(data[4 : 4 + size], strict_map_key=False, ext_hook=lambda code, data: data)
            data = data[4 + size :]
            if message[0] == "reply":
                return message


@pytest.mark.anyio
async def test_an_answer_that_holds_one_text_many_times_is_refused_before_it_is_spelt_out() -> None:
    text = "x" * (20 << 20)
    frames = []

    async def many(request: HostRequest) -> list[str]:
        return [text] * 1_000

    said = frame("call", 1, "tool", [], {}, 1)
    tracemalloc.start()
    try:
        async with repl_on(said, many) as (repl, worker):
            with anyio.fail_after(PATIENCE):
                async with anyio.create_task_group() as group:
                    group.start_soon(repl.run, "1")
                    frames.append(await _reply(worker))
                    group.cancel_scope.cancel()
        assert tracemalloc.get_traced_memory()[1] < 100 << 20  # of 20,000 MiB
    finally:
        tracemalloc.stop()
    assert "20,000.0 MiB" in frames[0][3]["message"]


@pytest.mark.anyio
async def test_answers_that_a_worker_does_not_read_are_dropped_beyond_a_bound() -> None:
    async def large(request: HostRequest) -> bytes:
        return b"x" * (15 << 20)

    said = b"".join(frame("call", number, "tool", [], {}, 1) for number in range(1, 31))
    async with repl_on(said, large, ReplLimits(memory_mb=64)) as (repl, _):
        async with anyio.create_task_group() as group:
            group.start_soon(repl.run, "1")
            await until(lambda: repl._answers._total == 30 and not repl._answers._answering)
            worker = repl._worker
            assert worker is not None
            assert worker.unsent_bytes <= 80 << 20  # of 450
            group.cancel_scope.cancel()


@pytest.mark.anyio
async def test_shared_texts_cannot_be_multiplied() -> None:
    text = "x" * (2 << 20)
    once = frame("finish", [msgpack.ExtType(3, b"\x00")] * 3) + frame("done", *(DONE | {"status": "finished"}).values())
    async with repl_on(once, nothing, context=text) as (repl, _):
        assert (await repl.run("1")).value == [text] * 3
    often = frame("finish", [msgpack.ExtType(3, b"\x00")] * 10_000)
    async with repl_on(often, nothing, context=text) as (repl, _):
        assert "too often" in str((await repl.run("1")).error)


@pytest.mark.anyio
async def test_a_large_message_does_not_stop_the_event_loop() -> None:
    longest = 0.0

    async def heartbeat() -> None:
        nonlocal longest
        while True:
            before = time.perf_counter()
            await anyio.sleep(0)
            longest = max(longest, time.perf_counter() - before)

    rows = [{"a": i, "b": "é"} for i in range(19_000)]
    said = frame("finish", rows) + frame("done", *(DONE | {"status": "finished"}).values())
    async with anyio.create_task_group() as group:
        async with repl_on(said, nothing) as (repl, _):
            group.start_soon(heartbeat)
            assert (await repl.run("1")).value == rows
            group.cancel_scope.cancel()
    assert longest < 5.0  # on any machine; it is a few milliseconds on an idle one (`benchmarks.heartbeat`)
