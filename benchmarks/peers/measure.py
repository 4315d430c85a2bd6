"""Runs an adapter as a process of its own and measures it from outside: wall time, CPU and memory of the whole process tree."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
HOME = Path(os.environ.get("RAO_PEERS", ROOT / ".envs" / "peers"))


class NotMeasured(Exception):
    """A row without figures: its sentence says why."""


@dataclass(frozen=True)
class Peer:
    """A package, the name of its adapter (and of its model at the endpoint), and how it does the work."""

    name: str
    adapter: str
    fan_out: str = "fan_out"
    """The work that the adapter is asked for."""
    root_calls: int = 1
    """Model calls of the root."""
    slow: bool = False
    """Takes minutes: measured with `--all` only."""

    @property
    def python(self) -> str:
        """The interpreter of its environment. Raises NotMeasured."""
        if self.adapter == "ours":
            return sys.executable
        found = HOME / self.adapter / "bin" / "python"
        if not found.exists():
            raise NotMeasured("not installed: run scripts/peers.sh")
        return str(found)


PEERS = (
    Peer("rao", "ours"),
    Peer("rlms", "rlms"),
    Peer("rlms, plain calls", "rlms", "plain_calls"),
    Peer("rlmflow", "rlmflow"),
    Peer("rlmflow, plain calls", "rlmflow", "plain_calls"),
    Peer("rlmflow, workspace on disk", "rlmflow", "on_disk", slow=True),
    Peer("smolagents, threads in a cell", "smolagents"),
    Peer("smolagents, tool calls", "smolagents", "tool_calls", root_calls=2),
)


@dataclass(frozen=True)
class Solve:
    """One solve: wall seconds, CPU seconds of the process and all below it, and model calls at the endpoint."""

    wall: float
    cpu: float
    calls: int


@dataclass(frozen=True)
class Process:
    """One process of an adapter: the version of its package, its solves, and the most memory that it and all below it had.

    `peak` is a PSS in bytes: pages that several processes share count once. 0 where memory was not sampled.
    """

    version: str
    solves: tuple[Solve, ...]
    peak: int = 0


@contextmanager
def endpoint(latency: float) -> Iterator[str]:
    """The scripted endpoint in a process of its own; gives its base URL. Its listen backlog is 4,096."""
    command = [sys.executable, "-m", "recursive_agent.testing", "--script", "benchmarks.peers.scripts:answer"]
    for name in sorted({peer.adapter for peer in PEERS}):
        command += ["--model", name]
    process = subprocess.Popen(
        [*command, "--latency", str(latency), "--until-eof"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield json.loads(process.stdout.readline())["base_url"]
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()


def measure(
    peer: Peer, work: str, count: int, base_url: str, *, solves: int = 2, memory: bool = False, timeout: float = 300.0
) -> Process:
    """Let a package solve the same task `solves` times in a new process. With `memory` its memory is sampled, which slows it.

    Raises NotMeasured where the package is missing, fails, makes other calls than the task needs, or takes longer than
    `timeout` seconds.
    """
    command = [peer.python, "-W", "ignore", "-m", f"benchmarks.peers.adapters.{peer.adapter}"]
    command += ["--base-url", base_url, "--model", peer.adapter, "--work", work, "--count", str(count)]
    command += ["--solves", str(solves)]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    # A package may write as much as it likes to stderr: nobody may wait for a full pipe.
    errors: list[bytes] = []
    assert process.stderr is not None
    reader = threading.Thread(target=lambda: errors.extend(process.stderr or ()), daemon=True)
    reader.start()
    timer = threading.Timer(timeout, process.kill)
    timer.start()
    peak = Peak(process.pid) if memory else None
    if peak is not None:
        peak.start()
    began = time.monotonic()
    try:
        version = _next(process)["version"]
        expected = count if work == "steps" else count + peer.root_calls
        done: list[Solve] = []
        spent, billed = tree_cpu(process.pid), calls(base_url)
        for _ in range(solves):
            _acknowledge(process)
            line = _next(process)
            now, billed_now = tree_cpu(process.pid), calls(base_url)
            done.append(Solve(wall=float(line["wall"]), cpu=now - spent, calls=billed_now - billed))
            if line["answer"] != "done" or done[-1].calls != expected:
                raise NotMeasured(f"answered {str(line['answer'])[:60]!r} in {done[-1].calls} calls, not {expected}")
            spent, billed = now, billed_now
        _acknowledge(process)
        process.wait()
        return Process(str(version), tuple(done), peak.bytes if peak is not None else 0)
    except EOFError:
        process.wait()
        reader.join(5)
        if time.monotonic() - began >= timeout:
            raise NotMeasured(f"took longer than {timeout:.0f} s") from None
        last = b"".join(errors).decode(errors="replace").strip().splitlines()[-1:] or ["no answer"]
        raise NotMeasured(f"failed: {last[0][:120]}") from None
    finally:
        timer.cancel()
        if peak is not None:
            peak.stop()
        process.kill()
        process.wait()
        reader.join(5)
        for pipe in (process.stdin, process.stdout, process.stderr):
            assert pipe is not None
            pipe.close()


def _next(process: subprocess.Popen[bytes]) -> dict[str, str | float]:
    """The next line of the adapter; what the package itself prints is passed over. Raises EOFError where it ended."""
    assert process.stdout is not None
    for line in process.stdout:
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict):
            return found
    raise EOFError


def _acknowledge(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.write(b"\n")
    process.stdin.flush()


def calls(base_url: str) -> int:
    """Answers that the endpoint has given so far."""
    with urllib.request.urlopen(base_url.removesuffix("/v1") + "/ledger") as answer:
        return int(json.load(answer)["calls"])


def tree_cpu(pid: int) -> float:
    """CPU seconds of a process and of all below it: of those that run, and of those that ended and were waited for."""
    total = 0.0
    for process in _tree(pid):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


def tree_memory(pid: int) -> int:
    """PSS of a process and of all below it, in bytes: pages that several share count once."""
    total = 0
    for process in _tree(pid):
        try:
            total += process.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return total


def _tree(pid: int) -> list[psutil.Process]:
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


class Peak(threading.Thread):
    """The most memory that a process tree had, looked at every 20 ms."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.bytes = 0
        self._pid = pid
        self._stopped = threading.Event()

    def run(self) -> None:
        while not self._stopped.wait(0.02):
            self.bytes = max(self.bytes, tree_memory(self._pid))

    def stop(self) -> None:
        self._stopped.set()
        self.join()
