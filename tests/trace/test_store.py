import errno
import fcntl
import json
import os
import random
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from recursive_agent.errors import TraceError
from recursive_agent.status import Status
from recursive_agent.trace import store
from recursive_agent.trace.folder import trace_files
from recursive_agent.trace.schema import Event, RunEnded, Scored
from recursive_agent.trace.store import TraceWriter, append_events, in_progress, read_events
from recursive_agent.trace.tree import ExecutionTree
from recursive_agent.usage import Usage

from .events import cell_ran, model_called, node_ended, node_started, run_started

RUN: list[Event] = [
    run_started(1.0),
    node_started("0", 1.0, context={"doc": "é" * 5000}),
    model_called(prompt_token_ids=[1, 2, 3], token_ids=[4, 5], logprobs=[-0.5, -0.25], text="é" * 5000),
    cell_ran(output="line\n" * 3),
    node_ended(time=2.0, result={"a": "é" * 5000}),
    RunEnded(time=2.0, status=Status.FINISHED, usage=Usage(calls=1)),
]
SCORE = Scored(time=3.0, node="0", score=1.0)


def _write(path: Path, events: list[Event] = RUN) -> Path:
    with TraceWriter(path) as writer:
        for event in events:
            writer.append(event)
    return path


def test_a_run_comes_back_from_its_file(tmp_path: Path) -> None:
    path = _write(tmp_path / "new" / "folder" / "t.jsonl")
    assert list(read_events(path)) == RUN
    tree = ExecutionTree.load(path)
    assert (tree.complete, tree.root.status, len(tree.nodes)) == (True, Status.FINISHED, 1)


def test_every_event_is_in_the_file_as_soon_as_it_was_appended(tmp_path: Path) -> None:
    with TraceWriter(tmp_path / "t.jsonl") as writer:
        for count, event in enumerate(RUN, start=1):
            writer.append(event)
            assert list(read_events(writer.path)) == RUN[:count]


def test_only_the_owner_may_read_a_trace(tmp_path: Path) -> None:
    path = _write(tmp_path / "t.jsonl")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_first_line_names_the_schema_version(tmp_path: Path) -> None:
    first = json.loads(_write(tmp_path / "t.jsonl").read_bytes().splitlines()[0])
    assert (first["schema_version"], first["kind"]) == (1, "run_started")


def test_an_existing_file_is_never_written_over(tmp_path: Path) -> None:
    path = _write(tmp_path / "t.jsonl")
    with pytest.raises(TraceError, match="File exists"):
        TraceWriter(path)
    assert list(read_events(path)) == RUN


def test_a_trace_begins_with_the_start_of_a_run_and_ends_with_close(tmp_path: Path) -> None:
    writer = TraceWriter(tmp_path / "t.jsonl")
    with pytest.raises(TraceError, match="begins with the start"):
        writer.append(node_started())
    writer.close()
    writer.close()
    with pytest.raises(TraceError, match="closed"):
        writer.append(run_started())


def test_a_file_cut_at_any_byte_gives_the_events_before_the_cut(tmp_path: Path) -> None:
    """The exhaustive form of kill -9: a file holds what was written before, and a piece of the last line."""
    small = [*RUN[:1], node_started("0", context={"doc": "é" * 2100}), *RUN[3:]]
    data = _write(tmp_path / "whole.jsonl", small).read_bytes()
    cut = tmp_path / "cut.jsonl"
    ends = [0]
    for event in small:  # where each event ends, found from the events that a file of that size gives
        ends.append(data.index(b"\n", data.index(b'{"kind":"' + event.kind.encode(), ends[-1]) if ends[-1] else 0) + 1)
    for size in [*range(0, len(data) + 1, 7), *ends, *(end - 1 for end in ends if end)]:
        cut.write_bytes(data[:size])
        expected = sum(end - 1 <= size for end in ends[1:])  # a line that lacks nothing but its newline is whole
        assert list(read_events(cut)) == small[:expected], size


def test_scores_are_appended_to_a_file_cut_at_any_byte(tmp_path: Path) -> None:
    small = [RUN[0], node_started("0", goal="é"), RUN[3], node_ended(time=2.0)]
    data = _write(tmp_path / "whole.jsonl", small).read_bytes()
    cut = tmp_path / "cut.jsonl"
    for size in range(data.index(b"\n") + 1, len(data) + 1):
        cut.write_bytes(data[:size])
        before = list(read_events(cut))
        append_events(cut, [SCORE])
        assert list(read_events(cut)) == [*before, SCORE], size
        assert cut.read_bytes().startswith(data[: data.rfind(b"\n", 0, size) + 1])


_NURSERY = """
import os, random, select, signal, sys
from pathlib import Path
from recursive_agent.trace.store import TraceWriter
from tests.trace.endless import endless

folder, count, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
chance = random.Random(seed)
for number in range(count):
    ready, begun = os.pipe()
    writer = os.fork()
    if writer == 0:
        trace = TraceWriter(folder / f"{number:03}.jsonl")
        for event in endless():
            trace.append(event)
            os.write(begun, b".")
    os.close(begun)
    for _ in range(chance.randrange(1, 12)):  # an instant: some events on, then some microseconds
        os.read(ready, 1)
    select.select([], [], [], chance.random() * 0.02)
    os.kill(writer, signal.SIGKILL)
    os.waitpid(writer, 0)
    os.close(ready)
"""


def test_writers_killed_at_many_instants_leave_readable_files(tmp_path: Path) -> None:
    from .endless import endless

    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])}
    environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", _NURSERY, str(tmp_path), "60", "7"], check=True, env=environment, cwd=root)
    files = trace_files(tmp_path)
    assert len(files) == 60
    sizes = set()
    for path in files:
        sizes.add(path.stat().st_size)
        events = list(read_events(path))
        assert events
        assert events == [event for event, _ in zip(endless(), events, strict=False)]
        assert not in_progress(path)
        assert not ExecutionTree.load(path).complete
        append_events(path, [SCORE])
        assert list(read_events(path)) == [*events, SCORE]
    assert len(sizes) >= 8  # they really died at different instants


def test_a_malformed_line_is_named(tmp_path: Path) -> None:
    path = _write(tmp_path / "t.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)
    for number in range(2, len(lines) + 1):
        path.write_bytes(b"".join([*lines[: number - 1], lines[number - 1][: len(lines[number - 1]) // 2] + b"\n"]))
        with pytest.raises(TraceError, match=rf"t\.jsonl, line {number}: not a line of JSON"):
            list(read_events(path))


@pytest.mark.parametrize(
    ("contents", "complaint"),
    [
        (b"hello\n", "line 1: not a trace of rao"),
        (b'{"kind":"run_started"}\n', "line 1: not a trace of rao"),
        (b'{"kind":"run_started"}', "line 1: not a trace of rao"),
        (b"[1]\n", "line 1: not a trace of rao"),
        (b'{"schema_version":2,"kind":"anything"}\n', "line 1: .*schema version 2.*update rao"),
    ],
)
def test_a_file_that_is_no_trace_is_refused_for_reading_and_writing(
    tmp_path: Path, contents: bytes, complaint: str
) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes(contents)
    with pytest.raises(TraceError, match=complaint):
        list(read_events(path))
    with pytest.raises(TraceError, match=complaint if contents.endswith(b"\n") else "not a trace"):
        append_events(path, [SCORE])
    assert path.read_bytes() == contents


def test_a_file_with_lines_of_several_versions_is_refused(tmp_path: Path) -> None:
    path = _write(tmp_path / "t.jsonl")
    path.write_bytes(path.read_bytes() + b'{"schema_version":2,"kind":"scored"}\n')
    with pytest.raises(TraceError, match=r"line \d+: .*schema version 2"):
        list(read_events(path))


def test_a_missing_file_and_a_folder_are_refused_in_a_sentence(tmp_path: Path) -> None:
    for path in (tmp_path / "none.jsonl", tmp_path):
        with pytest.raises(TraceError, match="cannot be read"):
            list(read_events(path))
        with pytest.raises(TraceError, match="cannot be written"):
            append_events(path, [SCORE])
    with pytest.raises(TraceError, match="cannot be written"):
        TraceWriter("/dev/null/t.jsonl")


def test_a_run_under_way_takes_no_scores_from_others(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    with TraceWriter(path) as writer:
        for event in RUN[:3]:
            writer.append(event)
        assert in_progress(path)
        with pytest.raises(TraceError, match="still going on"):
            append_events(path, [SCORE])
        writer.append(RUN[3])
    assert not in_progress(path)
    append_events(path, [SCORE])
    assert list(read_events(path)) == [*RUN[:4], SCORE]


def test_secrets_stay_out_of_appended_scores(tmp_path: Path) -> None:
    path = _write(tmp_path / "t.jsonl")
    append_events(path, [Scored(time=3.0, node="0", score=0.0, source="judge sk-secret-1")], secrets=["sk-secret-1"])
    assert b"sk-secret" not in path.read_bytes()


def test_a_full_disk_ends_the_trace_with_its_last_whole_event(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """/dev/full cannot be truncated, so the disk fills up inside os.write: half a line gets out, the rest does not."""
    real, room = os.write, [40]

    def write(fd: int, data: bytes) -> int:
        if room[0] == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = real(fd, bytes(data)[: room[0]])
        room[0] -= written
        return written

    with TraceWriter(tmp_path / "t.jsonl") as writer:
        writer.append(RUN[0])
        monkeypatch.setattr(os, "write", write)
        with pytest.raises(TraceError, match="No space left"):
            writer.append(RUN[1])
        with pytest.raises(TraceError, match="No space left"):  # whoever meets it later learns the cause too
            writer.append(RUN[2])
    monkeypatch.undo()
    assert (tmp_path / "t.jsonl").read_bytes().endswith(b"\n")
    assert list(read_events(tmp_path / "t.jsonl")) == RUN[:1]


def test_a_file_system_without_locks_still_takes_traces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(fd: int, kind: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    path = _write(tmp_path / "t.jsonl")
    append_events(path, [SCORE])
    assert list(read_events(path)) == [*RUN, SCORE]
    assert not in_progress(path)


@pytest.mark.parametrize("seed", range(5))
def test_mending_finds_the_last_line_wherever_chunks_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    chance = random.Random(seed)
    monkeypatch.setattr(store, "_CHUNK", chance.randrange(1, 50))
    path = _write(tmp_path / "t.jsonl", [RUN[0], node_started("0", goal="g" * chance.randrange(200))])
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"kind":"scored","no' + b"x" * chance.randrange(100))
    append_events(path, [SCORE])
    assert path.read_bytes().startswith(whole + b'{"kind":"scored","time"')
