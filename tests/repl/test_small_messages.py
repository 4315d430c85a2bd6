"""Short cuts for small messages: they give what the long way gives, and keep every bound."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import anyio
import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recursive_agent.repl.answers import _CANCELLED
from recursive_agent.repl.base import HostRequest
from recursive_agent.repl.link import Worker
from recursive_agent.repl.messages import Call, read
from recursive_agent.repl.protocol import (
    BIG_INT,
    HEADER,
    MAX_DEPTH,
    MESSAGE_BYTES,
    MESSAGE_OBJECTS,
    ProtocolError,
    counted,
    is_harmless,
    unpack,
)
from recursive_agent.repl.worker.cell_loop import _TASKS, CellLoop
from recursive_agent.repl.worker.outgoing import Outgoing

from .test_hostile_worker import ENDED, frame, repl_on

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=9)
    | st.binary(max_size=9)
)
nested = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=4),
    max_leaves=25,
)
heads = st.sampled_from(
    [0x80, 0x81, 0x90, 0x91, 0x92, 0xDC, 0xDD, 0xDE, 0xDF, 0xC1, 0xC7, 0xC8, 0xD4, 0xD6, 0xD7, 0xFF, 1, 0]
)


def _size(value: Any) -> tuple[int, int]:
    """Values and levels of plain data; anything else is a failure."""
    if isinstance(value, dict):
        parts = [_size(part) for pair in value.items() for part in pair]
    elif isinstance(value, list | tuple):
        parts = [_size(part) for part in value]
    else:
        assert value is None or type(value) in (bool, int, float, str, bytes)
        return 1, 0
    return 1 + sum(values for values, _ in parts), 1 + max((levels for _, levels in parts), default=0)


@settings(max_examples=500)
@given(
    st.binary(max_size=120)
    | st.lists(heads, max_size=60).map(bytes)
    | st.lists(nested, max_size=5).map(lambda values: bytes(msgpack.packb(["finish", *values], default=str)))
)
def test_what_is_harmless_by_its_bytes_decodes_to_plain_data_within_the_limits(data: bytes) -> None:
    body = b"\x92\xa6finish" + data
    for part in (data, body):
        if not is_harmless(part, 100, 20):
            continue
        try:
            message = unpack(part, errors="strict")
        except ProtocolError:
            continue
        values, levels = _size(message)
        assert values <= 100
        assert levels <= 20


def test_deep_or_long_bodies_and_types_of_msgpack_are_not_harmless_by_their_bytes() -> None:
    assert is_harmless(msgpack.packb(["done", "x" * 2000]), MESSAGE_OBJECTS, MAX_DEPTH)
    assert not is_harmless(b"\x91" * (MAX_DEPTH + 1), MESSAGE_OBJECTS, MAX_DEPTH)
    assert not is_harmless(msgpack.packb(["é" * 100]), MESSAGE_OBJECTS, MAX_DEPTH)
    assert not is_harmless(msgpack.packb([msgpack.Timestamp(1)]), MESSAGE_OBJECTS, MAX_DEPTH)
    assert not is_harmless(msgpack.packb([1, 2, 3]), 3, MAX_DEPTH)
    assert not is_harmless(b"x" * 5000, MESSAGE_OBJECTS, MAX_DEPTH)


@given(st.lists(nested, max_size=4), st.dictionaries(st.text(max_size=5), nested, max_size=4))
def test_a_small_call_is_as_large_as_its_headers_say(args: list[Any], kwargs: dict[str, Any]) -> None:
    try:
        body = msgpack.packb(["call", 7, "tool", args, kwargs, 2])
    except OverflowError:  # a whole number of more than 64 bits
        return
    call = read(body)
    assert isinstance(call, Call)
    values, containers = counted(body, MESSAGE_OBJECTS, MAX_DEPTH + 4)
    assert call.size == len(body) + 32 * values + 64 * containers


@given(
    st.lists(scalars, max_size=4), st.dictionaries(st.text(max_size=5), scalars, max_size=4), st.integers(1, 2**32 - 1)
)
def test_a_call_of_plain_values_leaves_as_any_other(args: list[Any], kwargs: dict[str, Any], number: int) -> None:
    outgoing = Outgoing([], MESSAGE_BYTES, MESSAGE_OBJECTS)
    made = outgoing.call("tool", args, kwargs, 3)
    assert made == outgoing._body("tool", ["tool", args, kwargs, 3])
    framed = outgoing.numbered(made, number)
    assert HEADER.unpack_from(framed) == (len(framed) - HEADER.size,)
    said = read(framed[HEADER.size :])
    assert isinstance(said, HostRequest)
    assert (said.id, said.name, len(said.args), said.kwargs.keys(), said.cell) == (
        number,
        "tool",
        len(args),
        kwargs.keys(),
        3,
    )


def test_what_cannot_be_sent_is_refused_on_the_short_way_too() -> None:
    outgoing = Outgoing([], 1000, 20)
    with pytest.raises(ValueError, match="limit of 1,000"):
        outgoing.call("tool", ["x" * 1001], {}, 1)
    with pytest.raises(ValueError, match="22 values are more than the 20"):
        outgoing.call("tool", [1] * 17, {}, 1)
    with pytest.raises(TypeError, match="not valid text"):
        outgoing.call("tool", ["\ud800"], {}, 1)
    large = outgoing.call("tool", [2**70], {}, 1)
    assert msgpack.unpackb(large)[1] == [msgpack.ExtType(BIG_INT, (2**70).to_bytes(9, "little"))]


class _Lying(list[int]):
    def __iter__(self) -> Any:
        return iter(range(50))


def test_a_class_that_lies_about_its_length_sends_nothing_malformed() -> None:
    try:
        body = Outgoing([], 1000, 20).call("tool", [_Lying([1, 2])], {}, 1)
    except ValueError:
        return
    assert len(msgpack.unpackb(body)) == 4


@pytest.mark.anyio
async def test_answers_that_are_ready_together_arrive_together_and_in_order() -> None:
    ours, theirs = socket.socketpair()
    worker = Worker(ours, None, 0)
    frames = [frame("reply", number, True, "x" * (number % 50)) for number in range(300)]
    async with anyio.create_task_group() as tasks:
        for one in frames[:3]:
            worker.send(one, tasks, more=True)
        assert worker.unsent_bytes == sum(map(len, frames[:3]))
        worker.send(frames[3], tasks)
        assert worker.unsent_bytes == 0
        assert theirs.recv(1 << 16) == b"".join(frames[:4])
        for one in frames[4:]:
            worker.send(one, tasks, more=True)  # and nothing after them
        theirs.setblocking(False)
        got = b""
        while len(got) < sum(map(len, frames[4:])):
            await anyio.wait_readable(theirs)
            got += theirs.recv(1 << 16)
        assert got == b"".join(frames[4:])
    assert worker.unsent_bytes == 0
    worker.kill()
    theirs.close()


@pytest.mark.anyio
async def test_held_answers_wait_for_a_worker_that_does_not_read() -> None:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    worker = Worker(ours, None, 0)
    frames = [frame("reply", number, True, "x" * 100_000) for number in range(40)]
    async with anyio.create_task_group() as tasks:
        for number, one in enumerate(frames):
            worker.send(one, tasks, more=bool(number % 3))
        assert worker.unsent_bytes
        expected, got = b"".join(frames), bytearray()
        while len(got) < len(expected):
            await anyio.wait_readable(theirs)
            got += theirs.recv(1 << 20)
        assert got == expected
    assert worker.unsent_bytes == 0
    worker.kill()
    theirs.close()


def test_an_ended_worker_is_noticed_whatever_it_left_unread() -> None:
    for said in (b"", b"words"):
        ours, theirs = socket.socketpair()
        worker = Worker(ours, None, 0)
        assert not worker.ended()
        theirs.sendall(said)
        assert not worker.ended()
        theirs.close()
        assert worker.ended() is not bool(said)  # without a process only reading it shows the end
        worker.kill()
        assert worker.ended()


@pytest.mark.anyio
async def test_many_calls_are_cancelled_a_few_at_a_time() -> None:
    turn, ended = 0, list[int]()

    async def call(request: HostRequest) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(turn)

    async def beat() -> None:
        nonlocal turn
        while True:
            turn += 1
            await anyio.lowlevel.checkpoint()

    said = b"".join(frame("call", number, "tool", [], {}, 1) for number in range(1, 1001))
    async with anyio.create_task_group() as tasks, repl_on(said + ENDED, call) as (repl, _):
        result = await repl.run("1")
        assert result.status == "ok"
        tasks.start_soon(beat)
        await anyio.sleep(0)
        await repl.aclose()
        tasks.cancel_scope.cancel()
        assert len(ended) == 1000
        assert max(ended.count(number) for number in set(ended)) <= 2 * _CANCELLED


def test_tasks_that_are_gone_are_forgotten() -> None:
    loop = CellLoop()

    async def nothing() -> None:
        return None

    async def many() -> None:
        for _ in range(5 * _TASKS):
            await loop.create_task(nothing())

    async def failing() -> None:
        raise ValueError("seen")

    async def leave() -> list[asyncio.Task[None]]:
        return [loop.create_task(failing()) for _ in range(3)]

    loop.run_until_complete(many())
    assert len(loop._tasks) <= 2 * _TASKS
    kept = loop.run_until_complete(leave())
    loop.run_until_complete(nothing())
    failures, unlisted = loop.take_failures()
    assert [str(failure) for failure in failures] == ["seen"] * len(kept)
    assert unlisted == 0
    assert loop.take_failures() == ([], 0)
    assert not loop._tasks
    loop.close()
