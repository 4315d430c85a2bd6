"""The wire: whatever arrives, it is a message or a ProtocolError; whatever is plain data comes back equal."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recursive_agent.repl.files import Files
from recursive_agent.repl.protocol import (
    HEADER,
    LARGE_STRING,
    FrameReader,
    NotPlainData,
    ProtocolError,
    pack,
    read_file,
    sealed_file,
    unpack,
)

plain_data = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text() | st.integers(), inner, max_size=5),
    max_leaves=20,
)


@given(plain_data)
def test_plain_data_survives_the_journey(value: Any) -> None:
    frame = pack(["x", value])
    assert unpack(frame[HEADER.size :]) == ["x", value]


@given(st.lists(plain_data, max_size=5), st.integers(min_value=1, max_value=50))
def test_frames_are_cut_right_however_they_arrive(values: list[Any], step: int) -> None:
    stream = b"".join(pack(["x", value]) for value in values)
    reader = FrameReader(1 << 20)
    bodies = [body for start in range(0, len(stream), step) for body in reader.feed(stream[start : start + step])]
    assert [unpack(body)[1] for body in bodies] == values


@given(st.binary(max_size=200))
def test_garbage_is_a_protocol_error_and_nothing_else(body: bytes) -> None:
    try:
        message = unpack(body)
    except ProtocolError:
        return
    assert isinstance(message[0], str)


def test_a_frame_above_the_limit_is_refused_before_it_is_taken_in() -> None:
    frame = pack(["x", b"y" * 100])
    size = len(frame) - HEADER.size
    assert len(FrameReader(size).feed(frame)) == 1
    with pytest.raises(ProtocolError, match="limit"):
        FrameReader(size - 1).feed(frame[: HEADER.size])


@pytest.mark.parametrize("value", [object(), {1, 2}, print, 1j], ids=["object", "set", "function", "complex"])
def test_what_is_no_plain_data_is_refused(value: object) -> None:
    with pytest.raises(NotPlainData):
        pack(["x", value])


def test_a_sealed_file_cannot_be_changed_and_is_read_back() -> None:
    text = "aé\U0001f600" * 1000
    fd, size = sealed_file(text)
    try:
        assert size == len(text.encode())
        assert read_file(fd, size) == text
        with pytest.raises(PermissionError):
            os.pwrite(fd, b"x", 0)
        with pytest.raises(PermissionError):
            os.ftruncate(fd, 0)
    finally:
        os.close(fd)


def test_a_string_is_written_once_and_closed_with_its_last_user() -> None:
    files = Files()
    text = "x" * LARGE_STRING
    (first, first_texts) = files.encode({"a": [text, "small"], "b": text})
    (_, second_texts) = files.encode(text)
    assert first_texts == second_texts == [text]
    assert files.descriptors(first_texts) == files.descriptors(second_texts)
    assert first["a"][0] == first["b"]
    assert first["a"][1] == "small"
    (fd,) = files.descriptors(first_texts)
    files.release(first_texts)
    os.fstat(fd)
    files.release(second_texts)
    assert len(files) == 0
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(fd)


def test_a_string_below_the_size_goes_inline() -> None:
    assert Files().encode(["x" * (LARGE_STRING - 1)]) == (["x" * (LARGE_STRING - 1)], [])
