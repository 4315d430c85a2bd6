"""`benchmarks.peers`: our own adapter on the scripted endpoint, and the tables. Needs no other package."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.peers import measure as measuring
from benchmarks.peers.measure import PEERS, NotMeasured, Peer, Process, Solve, measure, tree_cpu, tree_memory
from benchmarks.peers.scripts import DIALECTS, answer
from benchmarks.peers.table import Row, fan_out, steps
from recursive_agent.testing import Request


def request(model: str, *contents: str) -> Request:
    """A conversation of a package: the goal, then answers and observations by turns."""
    roles = ("user", "assistant")
    messages = tuple({"role": roles[n % 2], "content": content} for n, content in enumerate(contents))
    return Request(index=0, kind="chat", model=model, messages=messages, prompt_token_ids=(), prompt="", max_tokens=100)


def test_a_package_that_is_not_installed_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "HOME", tmp_path)
    with pytest.raises(NotMeasured, match=r"run scripts/peers\.sh"):
        measure(Peer("rlms", "rlms"), "fan_out", 2, "http://localhost:1/v1")


def test_a_package_that_fails_gives_its_last_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / "rlms" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\necho a line >&2\necho the reason >&2\nexit 1\n")
    python.chmod(0o755)
    monkeypatch.setattr(measuring, "HOME", tmp_path)
    with pytest.raises(NotMeasured, match="failed: the reason"):
        measure(Peer("rlms", "rlms"), "fan_out", 2, "http://localhost:1/v1")


def test_cpu_and_memory_count_a_child_that_runs_and_one_that_ended() -> None:
    burn = "import time\nwhile time.process_time() < 0.2: pass"
    program = (
        f"import subprocess, sys\nburn = {burn!r}\nsubprocess.run([sys.executable, '-c', burn])\n"
        "child = subprocess.Popen([sys.executable, '-c', burn + '\\nprint(1, flush=True)\\ninput()'], stdin=subprocess.PIPE)\n"
        "input()\nchild.communicate(b'x')"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    assert tree_cpu(process.pid) >= 0.38  # two children of 0.2 s each, to the clock's ticks
    assert tree_memory(process.pid) > 2**20
    process.communicate(b"x")
    assert tree_memory(process.pid) == 0


@pytest.mark.parametrize("name", DIALECTS)
def test_each_package_gets_the_same_work_in_its_own_words(name: str) -> None:
    leaf, root = answer(request(name, "leaf")), answer(request(name, "New task: fan out 7"))
    assert isinstance(leaf, str)
    assert isinstance(root, str)
    assert "'1'" in leaf
    assert "'done'" not in leaf
    assert "7" in root
    assert "'done'" in root
    goal = ["steps 3", "x", "0", "x", "1"]
    taken = [answer(request(name, *goal[: 1 + 2 * step])) for step in range(3)]
    assert ["'done'" in str(each) for each in taken] == [False, False, True]


def test_tool_calls_are_made_at_once_and_then_finished() -> None:
    first = answer(request("smolagents", "tool calls 3"))
    second = answer(request("smolagents", "tool calls 3", "calls"))
    assert not isinstance(first, str)
    assert not isinstance(second, str)
    assert [call.name for call in first.tool_calls] == ["child_0", "child_1", "child_2"]
    assert [call.name for call in second.tool_calls] == ["final_answer"]


def process(first: float, second: float, peak: int = 0) -> Process:
    return Process("1.0", (Solve(first, 2 * first, 5), Solve(second, 2 * second, 5)), peak)


def test_the_table_has_medians_and_their_ratios_to_the_first_row() -> None:
    ours = Row(PEERS[0], {4: [process(0.5, 0.2), process(0.4, 0.1), process(9.0, 0.3)]}, {4: process(1, 1, 2**20)}, {})
    theirs = Row(Peer("other, threads", "other"), {4: [process(1.0, 0.1)]}, {4: process(1, 1, 3 * 2**20)}, {})
    lines = fan_out([ours, theirs], [4])
    assert lines[2] == "| rao 1.0 | 0.50 / 0.20 s | 1.00 / 0.40 s | 1 MiB |"
    assert (
        lines[3] == "| other 1.0, threads | 1.00 / 0.10 s (×2.0 / ×0.5) | 2.00 / 0.20 s (×2.0 / ×0.5) | 3 MiB (×3.0) |"
    )
    # 200 ms for 4 steps are 50 ms a step.
    assert steps([ours, theirs], 4)[2:] == [
        "| rao 1.0 | 50.0 ms | 100.0 ms |",
        "| other 1.0 | 25.0 ms (×0.5) | 50.0 ms (×0.5) |",
    ]


def test_a_package_without_figures_is_a_row_that_says_why() -> None:
    ours = Row(PEERS[0], {4: [process(0.5, 0.2)]}, {}, {})
    theirs = Row(Peer("other", "other"), {}, {}, {4: "not installed"})
    assert fan_out([ours, theirs], [4])[3] == "| other | not installed | not installed | not installed |"
    assert steps([ours, theirs], 4)[3] == "| other | not installed |  |"


def test_the_benchmark_runs_with_what_is_installed(tmp_path: Path) -> None:
    """rao solves twice in a process and makes the calls that it should; all other packages are rows that say why not."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.peers", "--counts", "2", "--steps", "2", "--runs", "1"],
        env={"RAO_PEERS": str(tmp_path), "PATH": "/usr/bin:/bin"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    assert (
        sum("not installed" in row for row in rows)
        == sum(peer.adapter != "ours" and not peer.slow for peer in PEERS) + 3
    )
    fanned, stepped = (row for row in rows if row.startswith("| rao "))
    assert fanned.count(" s |") == 2
    assert "MiB" in fanned
    assert stepped.count(" ms |") == 2
