"""Whatever is written can be read, whatever is read raises nothing but TraceError, and no clock breaks a trace."""

from __future__ import annotations

import dataclasses
import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recursive_agent.errors import TraceError
from recursive_agent.trace.codec import Decoder, Detail, Encoder
from recursive_agent.trace.folder import TraceSummary
from recursive_agent.trace.redact import Redactor
from recursive_agent.trace.schema import Event, HostCalled, RunEnded
from recursive_agent.trace.store import TraceWriter, read_events
from recursive_agent.trace.tree import ExecutionTree
from recursive_agent.trace.values import PIECE

from .events import model_called, node_ended, node_started, run_started, runs
from .hostile import damaged, hostile_event

_seeds = st.lists(st.integers(0, 2**32), max_size=4)


def _decoded(data: bytes) -> list[Event]:
    decoder = Decoder()
    return [event for line in data.splitlines() if (event := decoder.decode(line)) is not None]


@settings(max_examples=100)
@given(_seeds, st.sampled_from(Detail), st.booleans())
def test_whatever_is_encoded_can_be_decoded(seeds: list[int], detail: Detail, heavy: bool) -> None:
    given = [hostile_event(random.Random(seed)) for seed in seeds]
    encoder = Encoder(Redactor(["a secret of some length"]))
    data = b"".join(b"".join(encoder.pieces(event, detail, heavy=heavy)) for event in given)
    kept = [
        event
        for event in given
        if detail is not Detail.OUTLINE or event.kind not in ("model_called", "host_called", "cell_ran")
    ]
    assert [event.kind for event in _decoded(data)] == [event.kind for event in kept]


@settings(max_examples=40)
@given(_seeds, st.lists(st.booleans(), min_size=4, max_size=4))
def test_an_event_that_was_not_written_leaves_no_trace_in_those_that_were(seeds: list[int], lost: list[bool]) -> None:
    given = [hostile_event(random.Random(seed)) for seed in seeds]
    encoder, other = Encoder(), Encoder()
    for event, gone in zip(given, lost, strict=False):
        pieces = encoder.pieces(event)
        if gone:
            encoder.undo()
        else:
            assert b"".join(pieces) == other.encode(event)


def test_a_call_id_that_is_a_bool_is_read_as_a_number() -> None:
    event = HostCalled(time=0.0, node="0", step=1, call=True, started=0.0, name="f")
    (back,) = _decoded(Encoder().encode(event))
    assert isinstance(back, HostCalled)
    assert (back.call, type(back.call)) == (1, int)


@pytest.mark.parametrize("char", ["x", "é", "😀", "\ud800", '"', "\n"])
def test_large_texts_and_bytes_come_back_as_they_were_written_in_pieces(char: str) -> None:
    text = char * (PIECE * 2 + 17)
    data = text.encode("utf-8", "surrogatepass")
    event = node_ended(result={"text": text, "bytes": data, "more": [text, {"n": data + b"!"}]})
    encoder = Encoder(Redactor(["a secret of some length"]))
    pieces = encoder.pieces(event, heavy=True)
    assert max(map(len, pieces)) <= 12 * PIECE  # an escape of one character is up to six bytes long
    assert _decoded(b"".join(pieces)) == [event]


SECRET = "sk-live/42-secret+xyz"


@pytest.mark.parametrize("at", [0, 1, PIECE - 5, PIECE, PIECE * 2 - len(SECRET), PIECE * 2 + 5 - len(SECRET)])
@pytest.mark.parametrize("kind", [str, bytes])
def test_a_secret_is_found_wherever_the_pieces_end(at: int, kind: type) -> None:
    filler = "y" * (PIECE * 2 + 5 - len(SECRET))
    hidden = filler[:at] + SECRET + filler[at:]
    value: Any = hidden if kind is str else hidden.encode()
    (back,) = _decoded(Encoder(Redactor([SECRET])).encode(node_ended(result=value)))
    spelled = back.result if kind is str else back.result.decode()  # type: ignore[attr-defined]
    assert spelled == filler[:at] + "[redacted]" + filler[at:]


def test_prompts_after_one_that_was_not_written_are_still_exact() -> None:
    encoder = Encoder()
    first, lost, last = (
        model_called(step=step, prompt_token_ids=list(range(step * 10)), token_ids=[7]) for step in (1, 2, 3)
    )
    data = encoder.encode(first)
    encoder.pieces(lost)
    encoder.undo()
    data += encoder.encode(last)
    assert _decoded(data) == [first, last]


# -- damaged files ---------------------------------------------------------------------------------------------------


def _whole(path: Path) -> bytes:
    events = [
        run_started(1.0, settings={"a": [1, None]}),
        node_started("0", 1.0, context={"doc": "é" * 5000, 3: (1, {2})}),
        model_called(prompt_token_ids=[1, 2, 3], token_ids=[4], logprobs=[-0.5], text="é" * 5000),
        node_started("0.0", 1.5, step=1, call=1),
        model_called("0.0", prompt_token_ids=[9]),
        HostCalled(time=2.0, node="0", step=1, call=2, started=1.0, name="f", args=(1, b"x"), kwargs={"k": 2**70}),
        node_ended("0.0", 2.0),
        node_ended(time=2.0, result={"a": "é" * 5000}),
        RunEnded(time=2.0, status=node_ended().status, usage=model_called().usage),
    ]
    with TraceWriter(path) as writer:
        for event in events:
            writer.append(event)
    return path.read_bytes()


@pytest.mark.parametrize("seed", range(8))
def test_a_damaged_file_raises_nothing_but_a_trace_error(tmp_path: Path, seed: int) -> None:
    data = _whole(tmp_path / "whole.jsonl")
    chance = random.Random(seed)
    path = tmp_path / "damaged.jsonl"
    read = 0
    for _ in range(60):
        path.write_bytes(damaged(data, chance))
        try:
            tree = ExecutionTree.load(path)
        except TraceError:
            assert TraceSummary.of(path).problem
            continue
        read += 1
        _look_at(tree)
    assert read  # some damage is harmless, or the test would say nothing of what can be read


def _look_at(tree: ExecutionTree) -> None:
    """Everything a viewer asks a tree."""
    assert tree.duration >= 0
    assert 0 <= tree.concurrent_share <= 1
    assert tree.refused_launches >= 0
    repr(tree)
    if "0" in tree.nodes:
        assert tree.critical_path.seconds >= 0
        assert tree.usage == tree.root.total_usage or len(tree.nodes) > len(list(tree.walk()))
        for node in tree.walk():
            assert node.duration >= 0
            node.conversation()


# -- clocks ----------------------------------------------------------------------------------------------------------


@given(runs(), st.randoms(use_true_random=False), st.sampled_from([10.0, 1e6, 1e11]))
def test_a_clock_that_jumps_breaks_no_tree(run: list[Event], chance: random.Random, width: float) -> None:
    jumped = []
    for event in run:
        changes = {"time": event.time + chance.uniform(-width, width)}
        if hasattr(event, "started"):
            changes["started"] = event.started + chance.uniform(-width, width)
        jumped.append(dataclasses.replace(event, **changes))
    tree = ExecutionTree.from_events(_decoded(b"".join(map(Encoder().encode, jumped))))
    _look_at(tree)


def test_a_trace_read_while_its_file_shrinks_or_is_no_file(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none", Path("/dev/null")):
        with suppress(TraceError):
            list(read_events(path))
    with pytest.raises(TraceError):
        ExecutionTree.load("a\0b")
