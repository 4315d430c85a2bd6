"""The promise, tested with a real process that is really killed: no recorded call is ever made again."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from recursive_agent import ExecutionTree
from recursive_agent.testing import Request, ScriptedEndpoint
from tests.waiting import PATIENCE

from . import sixty

_REQUESTS = 3 + 3 * sixty.MIDDLES + 2 * sixty.LEAVES
"""Of a run that is not killed."""


class _World:
    """The endpoint, which kills the process that asks when it is asked for the so-many-eth time."""

    def __init__(self, folder: Path) -> None:
        self.traces = folder / "traces"
        self.calls = folder / "calls.txt"
        self.calls.touch()
        self.requests: Counter[str] = Counter()
        self.process: subprocess.Popen[str] | None = None
        self.left = -1
        self.after = 0.0

    def answer(self, request: Request) -> str:
        goal = next(line for line in request.first.splitlines() if any(key in line for key in sixty.SCRIPT))
        self.requests[f"{goal} {request.step}"] += 1
        self.left -= 1
        if self.left == 0 and self.process is not None:
            threading.Timer(self.after, self.process.kill).start()
        script = sixty.ROOT if "everything" in goal else sixty.MIDDLE if "middle" in goal else sixty.LEAF
        return script[request.step]

    def run(self, url: str, *, kill_at: int = -1, after: float = 0.0) -> subprocess.CompletedProcess[str]:
        """Run the program until it ends or is killed; the trace goes on where there is one."""
        self.left, self.after = kill_at, after
        command = [sys.executable, "-m", "tests.resume.sixty", url, str(self.traces), str(self.calls)]
        self.process = subprocess.Popen(
            command + [str(self.trace)] * bool(self.trace), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        out, err = self.process.communicate(timeout=PATIENCE)
        return subprocess.CompletedProcess(command, self.process.returncode, out, err)

    @property
    def trace(self) -> Path | None:
        return next(iter(self.traces.glob("*.jsonl")), None) if self.traces.is_dir() else None

    @property
    def tool_calls(self) -> Counter[str]:
        return Counter(self.calls.read_text().splitlines())


def _recorded(trace: Path | None) -> tuple[set[str], set[str]]:
    """What the trace holds: model calls by goal and step, calls of the tool by their text."""
    tree = ExecutionTree.load(trace) if trace is not None and trace.stat().st_size else None
    steps = [(node, step) for node in (tree.walk() if tree is not None else ()) for step in node.steps]
    model = {f"{node.goal} {step.number - 1}" for node, step in steps if step.model is not None}
    return model, {call.args[0] for _, step in steps for call in step.calls if call.name == "note"}


@dataclass
class Counts:
    """What a tree that was killed again and again cost; `again` is what had been recorded, `in_flight` what had not."""

    kills: int = 0
    requests: int = 0
    requests_again: int = 0
    requests_in_flight: int = 0
    tool_calls: int = 0
    tool_calls_again: int = 0
    tool_calls_in_flight: int = 0


def kill_and_resume(folder: Path, seed: int, kills: int) -> Counts:
    """Run a tree of 60 agents, killing its process so often, and resume it until it ends."""
    draw = random.Random(seed)
    world = _World(folder)
    counts = Counts()
    with ScriptedEndpoint(world.answer) as endpoint:
        while True:
            requests, calls = world.requests.copy(), world.tool_calls
            model, tool = _recorded(world.trace)
            last = counts.kills == kills
            # Spread over the run, but for an end that no kill must reach: a process that has ended cannot be killed.
            most = (_REQUESTS - len(model)) // (kills - counts.kills + 2)
            at, after = draw.randint(1, max(1, most)), draw.choice([0, draw.random() / 20])
            ended = world.run(endpoint.base_url, kill_at=-1 if last else at, after=after)
            counts.requests_again += sum((world.requests - requests)[key] for key in model)
            counts.tool_calls_again += sum((world.tool_calls - calls)[key] for key in tool)
            if ended.returncode == 0:
                break
            assert ended.returncode == -9, ended.stderr
            counts.kills += 1
    assert ended.stdout.startswith(f"finished [{sixty.RESULT}, "), ended.stdout
    assert world.trace is not None
    tree = ExecutionTree.load(world.trace)
    assert tree.complete
    assert len(tree.nodes) == sixty.AGENTS
    assert len(world.requests) == _REQUESTS
    counts.requests, counts.tool_calls = world.requests.total(), world.tool_calls.total()
    counts.requests_in_flight = counts.requests - len(world.requests) - counts.requests_again
    counts.tool_calls_in_flight = counts.tool_calls - len(world.tool_calls) - counts.tool_calls_again
    return counts


def _check(counts: Counts) -> None:
    assert counts.requests_again == 0
    assert counts.tool_calls_again == 0
    # At most what the slots of the tree hold can be under way at each kill.
    assert counts.requests_in_flight <= 16 * counts.kills
    assert counts.tool_calls_in_flight <= sixty.AGENTS * counts.kills


def test_killed_and_resumed(tmp_path: Path) -> None:
    _check(kill_and_resume(tmp_path, seed=1, kills=3))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_killed_at_sixty_instants(tmp_path: Path, seed: int) -> None:
    counts = kill_and_resume(tmp_path, seed=100 + seed, kills=10)
    _check(counts)
    assert counts.kills == 10
