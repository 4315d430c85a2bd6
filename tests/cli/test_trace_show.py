"""`rao trace show` on large trees, and on runs to which something was done from outside."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from recursive_agent.status import Status
from recursive_agent.trace.folder import trace_path
from recursive_agent.trace.schema import (
    ApprovalAnswered,
    ApprovalAsked,
    Event,
    NodeResumed,
    RunEnded,
    RunResumed,
    Steered,
)
from recursive_agent.trace.store import TraceWriter
from recursive_agent.usage import Usage
from tests.trace.events import cell_ran, model_called, node_ended, node_started, run_started
from tests.waiting import wait_until

from .command import RAO, environment
from .command import run_here as run
from .terminal import Terminal

Fixtures = tuple[pytest.MonkeyPatch, pytest.CaptureFixture[str]]


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Fixtures:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    return monkeypatch, capsys


def write(events: Sequence[Event]) -> None:
    with TraceWriter(trace_path(Path("traces"), "r1", 0.0)) as writer:
        for event in events:
            writer.append(event)


def lines(here: Fixtures, *arguments: str) -> list[str]:
    code, out, err = run(*here, "trace", "show", "traces", *arguments)
    assert (code, err) == (0, "")
    return out.splitlines()


def ended(status: Status = Status.FINISHED, time: float = 50.0) -> RunEnded:
    return RunEnded(time=time, status=status, usage=Usage())


def crowd() -> list[Event]:
    """300 agents that finished but for number 150."""
    events: list[Event] = [run_started(), node_started("0", goal="survey"), model_called("0", 1, 0.0, 1.0)]
    events += [node_started(f"0.{i}", 1.0, goal=f"part {i}") for i in range(299)]
    for i in range(299):
        failed: dict[str, Any] = {"status": Status.STEP_LIMIT, "reason": "20 steps were used"} if i == 150 else {}
        events.append(node_ended(f"0.{i}", 2.0, usage=Usage(prompt_tokens=100), **failed))
    return [*events, node_ended("0", 40.0), ended()]


# --- folding ---


def test_a_large_tree_is_folded_and_says_how_all_of_it_is_shown(here: Fixtures) -> None:
    write(crowd())
    shown = lines(here)
    assert len(shown) <= 104
    assert any("✗ part 150" in line and "20 steps were used" in line and "step limit" in line for line in shown)
    assert any(line.startswith("299 finished · 1 failed: step limit 1") for line in shown)
    (folded,) = [line for line in shown if "more agents" in line]
    assert "(--all shows them)" in folded
    assert folded.endswith("tok")


def test_all_of_a_large_tree_has_a_line_an_agent_in_launch_order(here: Fixtures) -> None:
    write(crowd())
    shown = [line for line in lines(here, "--all") if "part " in line]
    assert [int(line.split("part ")[1].split()[0]) for line in shown] == list(range(299))
    assert not any("more agents" in line for line in lines(here, "--all"))


def test_a_small_tree_is_shown_whole(here: Fixtures) -> None:
    write([*crowd()[:9], ended()])
    assert not any("more agents" in line or "--all" in line for line in lines(here))


def test_on_a_terminal_a_tree_fills_one_screen(here: Fixtures, tmp_path: Path) -> None:
    told = Steered(time=1.0, action="tell", node="0", text="a message of two lines " * 6)
    write([*crowd()[:3], told, *crowd()[3:]])
    screen = Terminal(80, 30)
    env = environment(TERM="xterm-256color")
    env.pop("COLUMNS", None)
    with subprocess.Popen(
        [*RAO, "trace", "show", "traces"], cwd=tmp_path, env=env, stdout=screen.theirs, stderr=screen.theirs
    ) as process:
        wait_until(lambda: (screen.read(0.02), process.poll())[1] is not None)
    screen.read(0.02)
    assert process.returncode == 0
    assert screen.lines[0].startswith("run r1"), "nothing has scrolled away"
    assert len(screen.lines) <= 29
    assert any("✗ part 150" in line for line in screen.lines)
    assert "(--all shows them)" in screen.lines[-1]
    screen.close()


# --- what was done to a run ---


def steered_run() -> list[Event]:
    asked: dict[str, Any] = {"node": "0", "step": 1, "name": "send_mail"}
    return [
        run_started(),
        node_started("0", goal="write to all"),
        model_called("0", 1, 0.0, 1.0, text="first thought"),
        node_started("0.0", 2.0, goal="find addresses", step=1, call=1),
        ApprovalAsked(time=3.0, call=2, **asked),
        ApprovalAnswered(time=5.0, call=2, started=3.0, allowed=True, arguments={"to": "a\x1b[2Jb"}, **asked),
        ApprovalAsked(time=6.0, call=3, **asked),
        ApprovalAnswered(time=6.5, call=3, started=6.0, allowed=False, reason="not to him", **asked),
        Steered(time=7.0, action="pause"),
        Steered(time=8.0, action="resume"),
        RunResumed(time=9.0, at=1_700_000_000.0, usage=Usage(calls=1, prompt_tokens=1200), model="m2"),
        NodeResumed(time=9.0, node="0", step=1),
        Steered(time=10.0, action="cancel", node="0.0", text="too\nslow"),
        node_ended("0.0", 10.0, status=Status.CANCELLED, reason="too slow"),
        cell_ran("0", 1, 1.0, 11.0, code="x = 1"),
        Steered(time=12.0, action="tell", node="0", text="be \x1b[31mbrief"),
        model_called("0", 2, 13.0, 14.0, text="second thought"),
        Steered(time=15.0, action="tell", node="0", text="one more"),
        node_ended("0", 16.0),
        Steered(time=16.0, action="unread", node="0"),
        ended(time=16.0),
    ]


def test_what_was_done_to_a_run_has_lines_in_order(here: Fixtures) -> None:
    write(steered_run())
    found = [line.strip() for line in lines(here) if line.startswith("[")]
    assert [line.split("] ")[0].strip("[ ") for line in found] == [
        *("5.0 s", "6.5 s", "7.0 s", "8.0 s", "9.0 s", "10 s", "12 s", "15 s", "16 s")
    ]
    words = [line.split("] ", 1)[1] for line in found]
    assert words[0] == (
        'agent 0: send_mail was approved after 2.0 s, with other arguments: {"to": "a\\u001b[2Jb"} (step 1, call 2)'
    )
    assert words[1] == "agent 0: send_mail was refused after 0.5 s: not to him (step 1, call 3)"
    assert words[2:4] == ["the run was paused", "the run went on"]
    assert words[4].startswith("the run was resumed (2023-11-1")
    assert words[4].endswith(", m2, 1,200 tokens used before)")
    assert words[5:] == [
        "agent 0.0: cancelled by the operator: too slow",
        "agent 0: message from the operator: be \\x1b[31mbrief",
        "agent 0: message from the operator: one more",
        "agent 0: ended before it read the last message from the operator",
    ]


def test_a_call_that_still_waits_for_approval_says_so(here: Fixtures) -> None:
    events = steered_run()[:5]
    with TraceWriter(trace_path(Path("traces"), "r1", 0.0)) as writer:
        for event in events:
            writer.append(event)
        shown = lines(here)
    assert any("agent 0: send_mail waits for approval (step 1, call 2)" in line for line in shown)
    assert any("○ write to all" in line and "waits for approval" in line for line in shown)


def test_of_many_such_lines_the_middle_is_left_out_unless_all_are_asked_for(here: Fixtures) -> None:
    told = [Steered(time=2.0 + i, action="tell", node="0", text=f"message {i}") for i in range(50)]
    write([run_started(), node_started("0"), *told, node_ended("0", 60.0), ended(time=60.0)])
    shown = [line for line in lines(here) if "message " in line]
    assert [line.rpartition("message ")[2] for line in shown] == [str(i) for i in (*range(10), *range(40, 50))]
    assert any("… 30 more events (--all shows them)" in line for line in lines(here))
    assert sum("message " in line for line in lines(here, "--all")) == 50


def position(shown: list[str], words: str) -> int:
    (found,) = [i for i, line in enumerate(shown) if words in line]
    return found


def test_one_agent_shows_what_was_done_to_it_at_its_place_among_its_steps(here: Fixtures) -> None:
    write(steered_run())
    shown = lines(here, "--node", "0")
    order = (
        *("first thought", "x = 1", "send_mail was approved", "send_mail was refused"),
        *("be \\x1b[31mbrief", "second thought", "one more", "ended before it read", "result"),
    )
    places = [position(shown, words) for words in order]
    assert places == sorted(places)
    assert position(shown, "the run was resumed") < position(shown, "second thought")
    assert not any("0.0: cancelled" in line or "too slow" in line for line in shown), "that was another agent"
    assert not any(sign in line for line in shown for sign in "\x1b\x07")


def test_an_agent_below_a_cancelled_one_shows_who_cancelled_it(here: Fixtures) -> None:
    events = [
        *(run_started(), node_started("0"), node_started("0.1"), node_started("0.1.2", 1.0), node_started("0.2")),
        Steered(time=3.0, action="cancel", node="0.1", text="enough"),
        *(node_ended(name, 3.0, status=Status.CANCELLED) for name in ("0.1.2", "0.1")),
        *(node_ended("0.2", 4.0), node_ended("0", 5.0), ended(time=5.0)),
    ]
    write(events)
    assert any("cancelled by the operator: enough" in line for line in lines(here, "--node", "0.1.2"))
    assert not any("cancelled by" in line for line in lines(here, "--node", "0.2"))


def test_the_same_is_in_the_data(here: Fixtures) -> None:
    write(steered_run())
    _, out, _ = run(*here, "trace", "show", "traces", "--json")
    data = json.loads(out)
    assert [each["action"] for each in data["steered"]] == ["pause", "resume", "cancel", "tell", "tell", "unread"]
    assert [(each["call"], each["allowed"]) for each in data["approvals"]] == [(2, True), (3, False)]
    (resumption,) = data["resumptions"]
    assert (resumption["model"], resumption["usage"]["prompt_tokens"]) == ("m2", 1200)
    _, out, _ = run(*here, "trace", "show", "traces", "--json", "--node", "0.0")
    data = json.loads(out)
    assert [each["text"] for each in data["steered"]] == ["too\nslow"]
    assert data["approvals"] == []
    assert data["status"] == "cancelled"
