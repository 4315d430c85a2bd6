"""Large values are written without holding up the event loop, in their order, and all of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from recursive_agent.errors import TraceError
from recursive_agent.status import Status
from recursive_agent.trace import recorder as recorders
from recursive_agent.trace.recorder import Recorder
from recursive_agent.trace.schema import Event, HostCalled, RunEnded
from recursive_agent.trace.store import TraceWriter, read_events
from recursive_agent.usage import Usage
from tests.waiting import PATIENCE

from .events import cell_ran, node_ended, node_started, run_started

pytestmark = pytest.mark.anyio

MIB = 1024**2
TOLERANCE = 0.2
"""Seconds; an idle machine needs a twentieth of it. Encoding one of these values in one go takes longer."""


def _deep(width: int) -> Any:
    value: Any = 0
    for _ in range(90):
        value = [value, *range(width)]
    return value


VALUES: dict[str, Callable[[], Any]] = {
    "ascii": lambda: "x" * (16 * MIB),
    "not ascii": lambda: "é\U0001f600" * (4 * MIB),
    "escapes": lambda: '"\n' * (8 * MIB),
    "surrogates": lambda: "\ud800" * (4 * MIB),
    "bytes": lambda: b"\xff" * (16 * MIB),
    "many": lambda: [{"n": n} for n in range(50_000)],
    "keys": lambda: {f"key {n}": n for n in range(100_000)},
    "texts": lambda: ["y" * 150] * 100_000,
    "deep": lambda: _deep(1_000),
    "secret": lambda: "a secret of some length, " * (MIB // 2),
}


async def longest_pause(work: Callable[[], Awaitable[None]]) -> float:
    """Seconds between two turns of a task that asks for every turn, at most, while `work` goes on."""
    longest = 0.0
    over = anyio.Event()

    async def beat() -> None:
        nonlocal longest
        last = time.perf_counter()
        while not over.is_set():
            await anyio.sleep(0)
            now = time.perf_counter()
            longest, last = max(longest, now - last), now

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(beat)
        await anyio.sleep(0)
        await work()
        over.set()
    return longest


async def _record(path: Path, events: list[Event]) -> Recorder:
    recorder = Recorder(TraceWriter(path, secrets=["a secret of some length"]))
    recorder.begin(run_started())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(recorder.run)
        for event in events:
            recorder.put(event)
        await recorder.close()
    return recorder


@pytest.mark.parametrize("name", VALUES)
async def test_a_large_value_does_not_hold_up_the_event_loop(name: str, tmp_path: Path) -> None:
    value = VALUES[name]()
    events = [
        node_started(context=value),
        HostCalled(time=0.0, node="0", step=1, call=1, started=0.0, name="f", args=(value,)),
        cell_ran(),
        node_ended(result=value),
        RunEnded(time=1.0, status=Status.FINISHED, usage=Usage()),
    ]

    async def work() -> None:
        recorder = await _record(tmp_path / "t.jsonl", events)
        assert recorder.problem is None

    with anyio.fail_after(PATIENCE):
        pause = await longest_pause(work)
    print(f"{name}: {1000 * pause:.1f} ms")
    assert pause < TOLERANCE
    back = list(read_events(tmp_path / "t.jsonl"))
    assert [event.kind for event in back] == ["run_started", *(event.kind for event in events)]
    if name not in ("secret", "surrogates"):
        assert back[1].context == value  # type: ignore[attr-defined]
        assert back[4].result == value  # type: ignore[attr-defined]


async def test_events_keep_their_order_whatever_their_weight(tmp_path: Path) -> None:
    events: list[Event] = [node_started()]
    events += [cell_ran(step=step, output="o" * (300_000 if step % 3 == 0 else 3)) for step in range(1, 30)]
    with anyio.fail_after(PATIENCE):
        await _record(tmp_path / "t.jsonl", events)
    assert list(read_events(tmp_path / "t.jsonl"))[1:] == events


async def test_cancelling_who_waits_loses_no_event(tmp_path: Path) -> None:
    large = node_started(context="x" * (4 * MIB))
    recorder = Recorder(TraceWriter(tmp_path / "t.jsonl"))
    recorder.begin(run_started())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(recorder.run)
        recorder.put(large)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await recorder.written()
        tasks.cancel_scope.cancel()
        recorder.put(node_ended())
        await recorder.close()
    assert list(read_events(tmp_path / "t.jsonl"))[1:] == [large, node_ended()]


async def test_a_disk_that_hangs_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    real = TraceWriter.append

    def hang(self: TraceWriter, event: Event, *, heavy: bool | None = None) -> None:
        if heavy:
            release.wait()
        real(self, event, heavy=heavy)

    monkeypatch.setattr(TraceWriter, "append", hang)
    monkeypatch.setattr(recorders, "GRACE", 0.2)
    try:
        with anyio.fail_after(PATIENCE):
            recorder = await _record(tmp_path / "t.jsonl", [node_started(), node_ended(result="x" * MIB), cell_ran()])
        assert "within" in str(recorder.problem)
        assert list(read_events(tmp_path / "t.jsonl")) == [run_started(), node_started()]
    finally:
        release.set()


def test_a_trace_with_a_limit_never_grows_beyond_it(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    with TraceWriter(path, max_bytes=40_000) as writer:
        writer.append(run_started())
        for number in range(60):
            writer.append(node_started(f"0.{number}" if number else "0", context=["c"] * 400))
            writer.append(cell_ran(f"0.{number}" if number else "0", output="o" * 900))
            writer.append(node_ended(f"0.{number}" if number else "0", result="r" * 5000))
        assert path.stat().st_size <= 40_000 + 60 * 250
        assert writer.left_out is not None
    back = list(read_events(path))
    assert sum(event.kind == "node_ended" for event in back) == 60
    assert 0 < sum(event.kind == "cell_ran" for event in back) < 60
    with pytest.raises(TraceError, match="closed"):
        writer.append(cell_ran())
