"""A run that is followed while its trace is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recursive_agent.trace.schema import Event, RunResumed
from recursive_agent.trace.store import TraceWriter
from recursive_agent.trace.tree import ExecutionTree
from recursive_agent.usage import Usage
from recursive_agent.viewer import follow
from recursive_agent.viewer.follow import LiveRun
from recursive_agent.viewer.payload import run_data

from ..trace.events import model_called, node_ended, node_started, run_started, runs
from .sse import Page
from .trees import Did, record


def _ask(live: LiveRun, page: Page) -> int:
    """Give the page what it lacks; how many agents that were."""
    cursor, messages = live.since(page.last_id)
    page.last_id = cursor
    for message in messages:
        page.take(message.event, json.loads(message.data))
    return sum(len(json.loads(message.data)["nodes"]) for message in messages)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(events=runs(), asked=st.lists(st.lists(st.booleans(), min_size=2, max_size=2), max_size=40))
def test_pages_that_ask_now_and_then_end_with_the_whole_run(
    tmp_path: Path, events: list[Event], asked: list[list[bool]]
) -> None:
    path = tmp_path / "run.jsonl"
    path.unlink(missing_ok=True)
    live, pages = LiveRun(path), (Page(), Page())
    with TraceWriter(path) as writer:
        for at, event in enumerate(events):
            writer.append(event)
            for page, asks in zip(pages, asked[at] if at < len(asked) else (), strict=False):
                if asks:
                    _ask(live, page)
    tree = ExecutionTree.load(path)
    full = json.loads(json.dumps(run_data(tree, file=str(path), state="complete")))
    for page in pages:
        _ask(live, page)
        assert page.nodes == {node["id"]: node for node in full["nodes"]}
        assert page.head == {name: value for name, value in full.items() if name != "nodes"}
        assert _ask(live, page) == 0


def test_only_agents_that_changed_are_given(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    live, page = LiveRun(path), Page()
    assert _ask(live, page) == 0
    assert page.head is None
    with TraceWriter(path) as writer:
        writer.append(run_started())
        assert (_ask(live, page), (page.head or {})["id"]) == (0, "r1")
        writer.append(node_started("0"))
        for n in range(50):
            writer.append(node_started(f"0.{n}", step=1, call=n))
        assert _ask(live, page) == 51
        writer.append(model_called("0.7"))
        writer.append(model_called("0.9"))
        assert _ask(live, page) == 2
        assert len(page.nodes["0.7"]["steps"]) == 1
        assert _ask(live, page) == 0


def test_a_page_with_an_unknown_cursor_gets_the_whole_run(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with TraceWriter(path) as writer:
        for event in record(Did(below=[Did("sum")])):
            writer.append(event)
    live = LiveRun(path)
    now = live.since(None)[0]
    for cursor in (None, "", "x", "0.0", "abc.-1", f"{now}9", f"{now}{'9' * 5000}", f"{now[:-1]}٣"):
        _, messages = live.since(cursor)
        data = json.loads(messages[0].data)
        assert (data["whole"], len(data["nodes"])) == (True, 2)


def test_a_resumed_run_goes_on_in_the_page(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    events = record(Did("plan", ("one",), 1))
    with TraceWriter(path) as writer:
        for event in events[:-2]:
            writer.append(event)
    live, page = LiveRun(path), Page()
    _ask(live, page)
    assert page.nodes["0"]["status"] == "running"
    writer, _ = TraceWriter.reopen(path)
    with writer:
        writer.append(RunResumed(time=50, at=50, usage=Usage(), model="m"))
        writer.append(node_ended("0", 51, result=7))
        _ask(live, page)
    assert page.head is not None
    assert (page.nodes["0"]["status"], len(page.head["resumptions"])) == ("finished", 1)


def test_a_file_that_is_replaced_takes_the_place_of_what_the_page_had(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    live, page = LiveRun(path), Page()
    for run, below in (("r1", [Did("sum"), Did("find")]), ("r2", [])):
        path.unlink(missing_ok=True)
        with TraceWriter(path) as writer:
            for event in record(Did(below=below), run=run):
                writer.append(event)
        _ask(live, page)
        assert page.head is not None
        assert (page.head["id"], len(page.nodes)) == (run, 1 + len(below))
    path.unlink()
    assert _ask(live, page) == 0
    assert page.nodes  # what was read stands


def test_a_killed_run_is_told_from_one_that_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "_SILENCE", 0.0)
    path = tmp_path / "run.jsonl"
    live, page = LiveRun(path), Page()
    writer = TraceWriter(path)
    for event in record(Did(below=[Did("sum")]))[:-3]:
        writer.append(event)
    _ask(live, page)
    _ask(live, page)
    assert page.head is not None
    assert (page.head["state"], page.writing) == ("in_progress", True)
    writer.close()
    _ask(live, page)
    assert (page.head["state"], page.writing) == ("cut_off", False)


def test_a_malformed_file_is_named_and_what_came_before_stays(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with TraceWriter(path) as writer:
        for event in record(Did(below=[Did("sum")])):
            writer.append(event)
    with path.open("ab") as file:
        file.write(b'{"kind": "node_started", "time": 1, "node": "0", "parent": null, "depth": 0, "goal": "twice"}\n')
    live, page = LiveRun(path), Page()
    _ask(live, page)
    assert len(page.nodes) == 2
    assert page.problem is not None
    assert "Node 0 started twice" in page.problem
    assert _ask(live, page) == 0
