"""The live tree on a real pseudo-terminal, as an emulator shows it; plain lines elsewhere."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest
from rao_cli.watching import _Lines, _LiveTree, watch
from rich.console import Console

from recursive_agent.status import Activity, Status
from recursive_agent.testing import Fault, FaultKind, Reply, Request, ScriptedEndpoint, by_goal
from recursive_agent.trace.schema import Event, RunEnded, Waiting
from recursive_agent.trace.tree import TreeBuilder
from recursive_agent.usage import Usage
from tests.agent.helpers import py
from tests.trace.events import model_called, node_ended, node_started, run_started
from tests.waiting import PATIENCE

from .command import RAO, environment
from .terminal import Terminal, terminal

GOALS = ("要約する 日本語の文章", "👨‍👩‍👧 ❤️ family", "שלום עולם", "e" + "\u0301" * 9, "red \x1b[31m\x1b[2J\nnext")


def crowd(agents: int) -> list[Event]:
    """Half of the agents have ended, 8 are in their model call, one waits for the rate limit, the rest for a slot."""
    events: list[Event] = [run_started(), node_started("0", goal="survey"), model_called("0", 1, 0.0, 1.0)]
    for i in range(agents - 1):
        events.append(node_started(f"0.{i}", 2.0, goal=f"part {i} {GOALS[i % len(GOALS)]}"))
    for i in range(agents - 1):
        if i < agents // 2:
            status = Status.STEP_LIMIT if i == 7 else Status.FINISHED
            events.append(node_ended(f"0.{i}", 3.0, status=status, usage=Usage(prompt_tokens=100)))
        else:
            place = i - agents // 2
            activity = Activity.MODEL if place < 8 else Activity.RATE_LIMIT if place == 8 else Activity.SLOT
            events.append(Waiting(time=4.0, node=f"0.{i}", activity=activity, reason="a reason"))
    return events


def shown(view: _LiveTree, events: list[Event], screen: Terminal) -> list[str]:
    builder = TreeBuilder()
    for event in events:
        tree = builder.add(event).tree
        assert tree is not None
        view.event(event, tree)
    view._now._ahead = None  # the time of the last event, so that the screen is the same each time
    view._draw()
    screen.settle(view._console.file)
    return screen.lines


def test_three_agents_on_80_columns() -> None:
    with terminal(80, 24) as (screen, console), _LiveTree(console) as view:
        lines = shown(view, crowd(3), screen)
    assert lines == [
        "3 agents (2 running) · depth 1 · 1 model call · 115 tokens · 3.0 s",
        "○ survey                              waits for 1 sub-agent step 1  15 tok 3.0 s",
        "├ ✓ part 0 要約する 日本語の文章                   finished step 0 100 tok 1.0 s",
        "└ ● part 1 👨👩👧 ❤ family                 model call 0.0 s step 0   0 tok 1.0 s",
    ]


def test_three_hundred_agents_on_80_columns() -> None:
    with terminal(80, 24) as (screen, console), _LiveTree(console) as view:
        lines = shown(view, crowd(300), screen)
        assert len(lines) <= 22
        assert lines[0].startswith("300 agents (150 running) · depth 1")
        assert lines[1] == "● 8 ○ 142: slot 140, sub-agents 1, rate limit 1 ✓ 149 ✗ 1"
        assert re.match(r"○ survey +waits for 149 sub-agents +15 tok", lines[2])
        assert all(re.match(r"├ ● part 1\d\d ", line) for line in lines[3:11]), "what runs stands first"
        assert re.match(r"├ ○ part 158 .*waits for rate limit", lines[11])
        assert any(re.match(r"├ ✗ part 7 .*step limit", line) for line in lines)
        assert re.match(r"└ … 28\d more agents: 13\d waiting: slot 13\d · 149 finished +14,900 tok$", lines[-1])
        assert "\x1b[2J" not in "\n".join(lines)
        assert any("\\x1b[31m\\x1b[2J ne" in line for line in lines)
    screen_is_sane(screen)


@pytest.mark.parametrize("agents", [3, 300, 2000])
@pytest.mark.parametrize(("columns", "lines"), [(80, 24), (40, 10), (20, 4), (10, 3)])
def test_a_picture_never_leaves_its_lines_however_small_the_terminal(agents: int, columns: int, lines: int) -> None:
    with terminal(columns, lines) as (screen, console), _LiveTree(console) as view:
        first = shown(view, crowd(agents), screen)
        for _ in range(3):
            view._draw()
        screen.settle(console.file)
        assert screen.lines == first, "each picture stands in the place of the one before"
        assert len(first) <= max(1, lines - 2)
        assert first[0].startswith(f"{agents:,}"[:9])


def test_at_a_resize_nothing_of_the_old_picture_stays() -> None:
    with terminal(80, 24) as (screen, console), _LiveTree(console) as view:
        shown(view, crowd(300), screen)
        for columns, lines in ((40, 10), (100, 30), (80, 24)):
            screen.resize(columns, lines)
            view._draw()
            screen.settle(console.file)
            assert len(screen.lines) <= lines - 2
            assert sum(line.startswith("300 agents") for line in screen.lines) == 1
    screen_is_sane(screen)


def screen_is_sane(screen: Terminal) -> None:
    assert screen.sane
    assert b"\x1b[?1049" not in screen.received  # the lines above are left alone


def test_without_colour_the_marks_and_words_say_it_all() -> None:
    with terminal(80, 24) as (screen, console):
        plain = Console(
            file=console.file, width=80, height=24, force_terminal=True, _environ={"TERM": "xterm", "NO_COLOR": "1"}
        )
        with _LiveTree(plain) as view:
            assert any("● part" in line for line in shown(view, crowd(30), screen))
        assert not re.search(rb"\x1b\[[\d;]*3\d[;m]", screen.received)


def test_a_dumb_terminal_gets_plain_lines() -> None:
    with terminal(80, 24) as (_, console):
        dumb = Console(file=console.file, force_terminal=True, _environ={"TERM": "dumb"})
        assert isinstance(watch(dumb, quiet=False), _Lines)


# --- plain lines ---


def plain_lines(events: list[Event], capsys: pytest.CaptureFixture[str]) -> list[str]:
    lines, builder = _Lines(), TreeBuilder()
    for event in events:
        tree = builder.add(event).tree
        assert tree is not None
        lines.event(event, tree)
    return capsys.readouterr().err.splitlines()


def test_of_a_small_tree_each_start_and_end_has_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    lines = plain_lines([*crowd(9), node_ended("0", 9.0)], capsys)
    assert sum(" started: " in line for line in lines) == 9
    assert "[ 3.0 s] agent 0.0 finished (0 steps, 100 tokens)" in lines
    assert not any("\x1b" in line for line in lines)


def test_of_a_huge_tree_there_are_few_lines_with_its_failures_and_a_last_count(
    capsys: pytest.CaptureFixture[str],
) -> None:
    end = RunEnded(time=9.0, status=Status.FINISHED, usage=Usage())
    lines = plain_lines([*crowd(2000), node_ended("0", 9.0), end], capsys)
    assert len(lines) < 70
    assert any("more than 50 agents" in line for line in lines)
    assert any("agent 0.7 step limit" in line for line in lines)
    assert any("agent 0 finished" in line for line in lines)
    assert "2,000 agents:" in lines[-1]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.anyio
async def test_a_run_that_is_silent_says_what_it_waits_for(capsys: pytest.CaptureFixture[str]) -> None:
    lines, builder = _Lines(silence=0.0, tick=0.001), TreeBuilder()
    for event in crowd(5):
        tree = builder.add(event).tree
        assert tree is not None
        lines.event(event, tree)
    capsys.readouterr()
    printed = ""
    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lines.refresh)
            while "longest: agent 0.2 model call" not in printed:
                await anyio.sleep(0.001)
                printed += capsys.readouterr().err
            tasks.cancel_scope.cancel()
    assert "5 agents: 2 working · 1 waiting: sub-agents 1 · 2 finished" in printed


def test_a_storm_of_refusals_has_one_line_and_its_end_another(capsys: pytest.CaptureFixture[str]) -> None:
    storm: list[Event] = [Waiting(time=1.0, reason="HTTP 429", seconds=2.0) for _ in range(50)]
    lines = plain_lines([run_started(), *storm, Waiting(time=5.0, reason=None)], capsys)
    assert [line.split("] ")[1] for line in lines] == [
        "waiting 2.0 s for the endpoint: HTTP 429",
        "the endpoint takes calls again",
    ]


# --- whole runs ---


@dataclass
class Crowd:
    """24 sub-agents of 2 teams, more than there are slots; their calls are held, then refused, for as long as it is set."""

    endpoint: ScriptedEndpoint
    held: bool = True
    refused: bool = True

    async def kid(self, _: Request) -> Reply | Fault:
        while self.held:  # for as long as the test waits for the screen
            await anyio.sleep(0.01)
        if self.refused:
            return Fault.http(429, "slow down", headers={"Retry-After": "2"})
        return Reply(py("finish(1)"))


@pytest.fixture
def crowded() -> Iterator[Crowd]:
    crowd = "import asyncio\nfinish(sum(await asyncio.gather(*[launch_subagent(f'team {i}') for i in range(2)])))"
    code = "import asyncio\nfinish(sum(await asyncio.gather(*[launch_subagent(f'kid {i}') for i in range(12)])))"
    hang = "import asyncio\nfinish(await asyncio.gather(*[launch_subagent(f'stuck {i}') for i in range(16)]))"
    answers: dict[str, Any] = {"crowd": py(crowd), "team": py(code), "hang": py(hang), "stuck": Fault(FaultKind.HANG)}
    answers["kid"] = lambda request: kids.kid(request)
    with ScriptedEndpoint(by_goal(answers)) as running:
        kids = Crowd(running)
        yield kids


@contextmanager
def started(
    endpoint: ScriptedEndpoint, screen: Terminal, folder: Path, goal: str, *, shell: bool = True
) -> Iterator[subprocess.Popen[bytes]]:
    """`rao run` on that terminal; it has ended afterwards, one way or the other. `shell`: this process could continue it."""
    env = environment(
        OPENAI_BASE_URL=endpoint.base_url, OPENAI_API_KEY="x", RAO_MODEL="scripted", TERM="xterm-256color"
    )
    env.pop("COLUMNS", None)
    ours = screen.theirs
    process = subprocess.Popen(
        [*RAO, "run", goal],
        cwd=folder,
        env=env,
        stdin=ours,
        stdout=ours,
        stderr=ours,
        start_new_session=not shell,
        process_group=0 if shell else None,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        os.close(ours)
        screen.close()


def see(screen: Terminal, condition: Callable[[], object]) -> None:
    """Follow the screen until the condition holds."""
    deadline = time.monotonic() + 3 * PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "\n".join(["the screen never showed it; it shows:", *screen.lines])
        screen.read(0.02)


def test_a_real_run_shows_slots_and_the_rate_limit(crowded: Crowd, tmp_path: Path) -> None:
    screen = Terminal(80, 24)

    def shown(*words: str) -> bool:
        return all(any(word in line for line in screen.lines) for word in words)

    with started(crowded.endpoint, screen, tmp_path, "crowd") as process:
        see(screen, lambda: shown("27 agents", "16 working", "slot 8", "model call"))
        crowded.held = False
        see(screen, lambda: shown("rate limit: calls go on", "slow down", "waits for rate limit"))
        crowded.refused = False
        see(screen, lambda: process.poll() is not None)
        screen.read(0.02)
        assert process.returncode == 0
        assert screen.lines[-1] == "24"
        screen_is_sane(screen)


def test_a_resize_and_then_ctrl_c_leave_a_sane_terminal(crowded: Crowd, tmp_path: Path) -> None:
    screen = Terminal(80, 24)
    with started(crowded.endpoint, screen, tmp_path, "hang") as process:
        see(screen, lambda: sum("● stuck" in line for line in screen.lines) == 16)
        assert screen.screen.cursor.hidden
        screen.resize(50, 12)
        see(screen, lambda: len(screen.lines) <= 10 and screen.lines[0].startswith("17 agents"))
        process.send_signal(signal.SIGINT)
        see(screen, lambda: process.poll() is not None)
        screen.read(0.02)
        assert process.returncode == 130
        assert any("rao: interrupted" in line for line in screen.lines)
        screen_is_sane(screen)


def test_a_run_that_is_stopped_by_ctrl_z_gives_the_cursor_back_and_goes_on_below(
    crowded: Crowd, tmp_path: Path
) -> None:
    screen = Terminal(80, 24)
    with started(crowded.endpoint, screen, tmp_path, "hang") as process:
        see(screen, lambda: sum("● stuck" in line for line in screen.lines) == 16)
        for _ in range(2):
            process.send_signal(signal.SIGTSTP)
            see(screen, lambda: os.WIFSTOPPED(os.waitpid(process.pid, os.WUNTRACED | os.WNOHANG)[1]))
            screen.read(0.02)
            screen_is_sane(screen)
            os.write(screen.theirs, b"\x1b[2J\x1b[Hthe shell's own line\r\n")
            process.send_signal(signal.SIGCONT)
            see(screen, lambda: screen.screen.cursor.hidden and any("● stuck" in line for line in screen.lines))
            assert screen.lines[0] == "the shell's own line"
            assert sum(line.startswith("17 agents") for line in screen.lines) == 1


def test_a_run_that_no_shell_could_continue_is_not_stopped_by_ctrl_z(crowded: Crowd, tmp_path: Path) -> None:
    screen = Terminal(80, 24)
    with started(crowded.endpoint, screen, tmp_path, "hang", shell=False) as process:
        see(screen, lambda: sum("● stuck" in line for line in screen.lines) == 16)
        process.send_signal(signal.SIGTSTP)
        see(screen, lambda: screen.received.count(b"\x1b[?25l") == 2)  # it draws on below
        process.send_signal(signal.SIGINT)
        see(screen, lambda: process.poll() is not None)
        screen.read(0.02)
        assert process.returncode == 130
        screen_is_sane(screen)
