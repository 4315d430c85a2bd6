"""What a worker says is one of a closed set of messages, or it is refused; nothing is built from it before it was measured."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recursive_agent.repl.base import CellStatus
from recursive_agent.repl.messages import Call, Cancel, Done, Failed, Finish, Opened, Ready, read
from recursive_agent.repl.protocol import (
    BIG_INT,
    HEADER,
    MAX_DEPTH,
    MESSAGE_TUPLE_KEYS,
    NotPlainData,
    ProtocolError,
    TooLarge,
    measure,
    pack,
)
from recursive_agent.sizes import held_bytes

DONE: dict[str, Any] = {
    "status": "ok",
    "output": "hi",
    "error": None,
    "refused": None,
    "unawaited": ["tool"],
    "running": [],
    "wall": 0.5,
    "cpu": 1,
}


def body(*message: Any) -> bytes:
    return msgpack.packb(list(message))


def done_with(**fields: Any) -> bytes:
    """The end of a cell, with other fields."""
    return body("done", *(DONE | fields).values())


def test_every_message_of_the_set_is_read() -> None:
    assert read(body("ready", ["seccomp", "rlimits", "process", "made up"])) == Ready(frozenset({"seccomp", "rlimits"}))
    assert read(body("failed", "no")) == Failed("no")
    assert read(body("opened")) == Opened()
    call = body("call", 1, "tool", [1, "a"], {"k": None}, 2)
    read_call = read(call)
    assert isinstance(read_call, Call)
    assert read_call == Call(id=1, name="tool", args=(1, "a"), kwargs={"k": None}, cell=2, size=read_call.size)
    assert read(body("cancel", 7)) == Cancel(7)
    assert read(body("finish", {"a": [1.5]})) == Finish({"a": [1.5]})
    done = read(done_with(), text=10)
    assert isinstance(done, Done)
    assert (done.status, done.output, done.unawaited, done.cpu) == (CellStatus.OK, "hi", ("tool",), 1.0)


def test_a_call_is_as_large_as_what_it_becomes_in_memory() -> None:
    """An empty dict is one byte of a message and 64 bytes of memory."""
    for value in ([{} for _ in range(50_000)], list(range(1000, 50_000)), [[] for _ in range(50_000)], "x" * 10**6):
        call = read(body("call", 1, "tool", [value], {}, 1))
        assert isinstance(call, Call)
        assert held_bytes(call.args) / 2 < call.size < 2 * held_bytes(call.args)


MALFORMED = {
    "no_array": msgpack.packb({"kind": "done"}),
    "empty": msgpack.packb([]),
    "kind_no_text": body(1),
    "kind_unknown": body("eval", "1"),
    "kind_of_the_host": body("run", "1"),
    "trailing": body("opened") + b"\x00",
    "cut": body("failed", "no")[:-1],
    "nothing": b"",
    "unused_byte": b"\x91\xc1",
    "opened_with_more": body("opened", 1),
    "ready_no_list": body("ready", "seccomp"),
    "ready_numbers": body("ready", [1]),
    "ready_many": body("ready", ["x"] * 2000),
    "failed_no_text": body("failed", ["no"]),
    "call_id_bool": body("call", True, "tool", [], {}, 1),
    "call_id_zero": body("call", 0, "tool", [], {}, 1),
    "call_id_negative": body("call", -1, "tool", [], {}, 1),
    "call_id_float": body("call", 1.0, "tool", [], {}, 1),
    "call_id_text": body("call", "1", "tool", [], {}, 1),
    "call_id_huge": body("call", 2**63, "tool", [], {}, 1),
    "call_id_list": body("call", [1], "tool", [], {}, 1),
    "call_name_bytes": body("call", 1, b"tool", [], {}, 1),
    "call_name_long": body("call", 1, "t" * 1000, [], {}, 1),
    "call_args_dict": body("call", 1, "tool", {}, {}, 1),
    "call_kwargs_list": body("call", 1, "tool", [], [], 1),
    "call_kwargs_keys": body("call", 1, "tool", [], {1: 2}, 1),
    "call_cell_bool": body("call", 1, "tool", [], {}, True),
    "call_short": body("call", 1, "tool", [], {}),
    "launch_by_position": body("call", 1, "launch_subagent", ["goal"], {}, 1),
    "launch_unknown_argument": body("call", 1, "launch_subagent", [], {"goal": "x", "colour": "red"}, 1),
    "cancel_text": body("cancel", "1"),
    "finish_nothing": body("finish"),
    "finish_two": body("finish", 1, 2),
    "done_list": body("done", [1]),
    "done_dict": body("done", DONE),
    "done_missing": body("done", "ok"),
    "done_more": done_with(extra=1),
    "done_status": done_with(status="great"),
    "done_killed": done_with(status="killed"),
    "done_status_list": done_with(status=["ok"]),
    "done_output_bytes": done_with(output=b"x"),
    "done_error_list": done_with(error=[]),
    "done_refused_number": done_with(refused=1),
    "done_nan": done_with(cpu=float("nan")),
    "done_infinity": done_with(wall=float("inf")),
    "done_negative": done_with(wall=-1.0),
    "done_time_bool": done_with(cpu=True),
    "done_time_huge": done_with(cpu=2**64 - 1),
    "done_time_ext": done_with(cpu=msgpack.ExtType(BIG_INT, b"\xff" * 100 + b"\x7f")),
    "done_names_text": done_with(running="abc"),
    "done_names_nested": done_with(running=[["a"]]),
    "done_names_many": done_with(unawaited=["x"] * 5000),
    "invalid_text": b"\x92\xa6finish\xa2\xc3\x28",
    "surrogate": b"\x92\xa6finish\xa3\xed\xa0\x80",
    "extension": body("finish", msgpack.ExtType(77, b"")),
    "extension_timestamp": b"\x92\xa6finish\xd6\xff\x00\x00\x00\x01",
    "reference_without_texts": body("finish", msgpack.ExtType(3, b"\x00")),
    "huge_whole_number": body("finish", msgpack.ExtType(BIG_INT, b"\x01" * 200_000)),
}  # fmt: skip


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_message_is_refused(name: str) -> None:
    with pytest.raises(ProtocolError):
        read(MALFORMED[name])


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=40)
    | st.binary(max_size=40),
    lambda inner: (
        st.lists(inner, max_size=6)
        | st.dictionaries(st.text(max_size=5) | st.integers(-5, 2**64 - 1), inner, max_size=6)
    ),
    max_leaves=30,
)
kinds = st.sampled_from(["ready", "failed", "opened", "call", "cancel", "finish", "done", "run"])


@given(kinds, st.lists(values, max_size=6), st.randoms(use_true_random=False))
def test_any_message_however_damaged_is_read_or_refused(kind: str, fields: list[Any], rng: random.Random) -> None:
    data = bytearray(body(kind, *fields))
    for _ in range(rng.randrange(4)):
        data[rng.randrange(len(data))] = rng.randrange(256)
    del data[rng.randrange(len(data)) + 1 :]
    try:
        message = read(bytes(data), objects=1000, text=50)
    except ProtocolError:
        return
    assert isinstance(message, Ready | Failed | Opened | Call | Cancel | Finish | Done)


def _count(value: Any) -> int:
    if isinstance(value, list):
        return 1 + sum(map(_count, value))
    if isinstance(value, dict):
        return 1 + sum(_count(key) + _count(item) for key, item in value.items())
    return 1


@given(values)
def test_measuring_counts_what_decoding_would_build(value: Any) -> None:
    data = msgpack.packb(value)
    assert measure(data) == _count(value)
    with pytest.raises(TooLarge):
        measure(msgpack.packb([value]), _count(value))


@settings(max_examples=300)
@given(st.binary(max_size=300))
def test_measuring_is_safe_for_any_bytes_and_passes_what_can_be_decoded(data: bytes) -> None:
    try:
        measure(data, 10_000)
    except ProtocolError:
        return
    try:
        msgpack.unpackb(data, strict_map_key=False, raw=True)
    except (TypeError, ValueError):  # keys that are lists; timestamps out of range
        return


def test_what_would_take_minutes_or_gigabytes_is_refused_from_its_headers() -> None:
    lists = b"\xdc\x0f\xa0" + b"\x90" * 4000
    bombs = [
        b"\x92\xa6finish\xdc\x0f\xa0" + lists * 4000,  # 16 MB that would become 16 million lists
        b"\x92\xa6finish\xdd\xff\xff\xff\xff",  # an array of 4 billion
        b"\x92\xa6finish\xdf\xff\xff\xff\xff",
        b"\x92\xa6finish" + b"\x91" * 1_000_000,  # deeper than any stack
        body("finish", {i * (2**61 - 1): 1 for i in range(8)})[:8] + _one_hash(50_000),
    ]
    started = time.process_time()
    for bomb in bombs:
        with pytest.raises(ProtocolError):
            read(bomb)
    assert time.process_time() - started < 5


def _one_hash(count: int) -> bytes:
    """A dict whose keys are all different and all have the same hash."""
    keys = b"".join(
        msgpack.packb(msgpack.ExtType(BIG_INT, (i * (2**61 - 1)).to_bytes(12, "little"))) + b"\x01"
        for i in range(count)
    )
    return b"\xdf" + count.to_bytes(4, "big") + keys


def test_few_tuples_may_be_keys_and_many_may_not() -> None:
    def keyed(count: int) -> bytes:
        return (
            b"\x92\xa6finish\xdf"
            + count.to_bytes(4, "big")
            + b"".join(msgpack.packb([i, i]) + b"\x01" for i in range(count))
        )

    message = read(keyed(3))
    assert message == Finish({(0, 0): 1, (1, 1): 1, (2, 2): 1})
    with pytest.raises(TooLarge):
        read(keyed(MESSAGE_TUPLE_KEYS + 1))


def test_depth_is_bounded_on_the_way_in() -> None:
    nested: Any = 1
    for _ in range(MAX_DEPTH):
        nested = [nested]
    assert read(body("finish", nested)) == Finish(nested)
    for _ in range(10):
        nested = [nested]
    with pytest.raises(TooLarge, match="nested"):
        read(body("finish", nested))


def test_a_number_too_large_to_receive_is_refused_where_it_is_sent() -> None:
    largest = 1 << 1_000_000
    assert read(pack(["finish", largest])[HEADER.size :]) == Finish(largest)
    with pytest.raises(NotPlainData, match="bits"):
        pack(["finish", 1 << 2_000_000])


def test_nothing_of_a_message_is_evaluated(tmp_path: Path) -> None:
    mark = tmp_path / "evaluated"
    code = f"__import__('pathlib').Path({str(mark)!r}).touch()"
    read(body("call", 1, "launch_subagent", [], {"goal": code, "returns": code}, 1))
    read(body("finish", code))
    assert not mark.exists()
