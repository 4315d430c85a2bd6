"""Limits that a process cannot lift again, so each is tried in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from recursive_agent.testing import ScriptedEndpoint, by_goal
from tests.waiting import PATIENCE

CHILD = """
import json, resource, sys
from recursive_agent import Agent, ExecutionTree, Limits, RaoError
url, folder, name, size, when = sys.argv[1:]
kind = getattr(resource, name)
def tighten(*_):
    resource.setrlimit(kind, (int(size), int(size)))
if when == "from the start":
    tighten()
agent = Agent("scripted", url, tools=[tighten], trace_dir=folder, limits=Limits(timeout=60.0, max_steps=5))
error = result = None
try:
    result = agent.solve_sync("top")
except BaseException as caught:
    error = caught
    result = getattr(caught, "result", None)
print(json.dumps({
    "documented": error is None or isinstance(error, RaoError),
    "error": None if error is None else f"{type(error).__module__}.{type(error).__name__}: {error}",
    "running": [] if result is None else [n.id for n in result.tree.nodes.values() if n.status == "running"],
    "result": result is not None,
    "called": None if result is None else result.usage.calls,
}))
"""
SCRIPT = {
    "top": [
        "```python\nawait tighten()\n```",
        "```python\nprint(await asyncio.gather(*(launch_subagent(f'kid {n}') for n in range(4)), return_exceptions=True))\n```",
        "```python\nfinish('done')\n```",
    ],
    "kid": ["```python\nprint('x' * 5000)\n```", "```python\nfinish('y' * 5000)\n```"],
}


@pytest.fixture(scope="module")
def endpoint() -> Iterator[ScriptedEndpoint]:
    with ScriptedEndpoint(by_goal(SCRIPT)) as endpoint:
        yield endpoint


@pytest.mark.parametrize(
    ("name", "size", "when"),
    [
        pytest.param("RLIMIT_NOFILE", 10, "from the start", marks=pytest.mark.slow),
        pytest.param("RLIMIT_NOFILE", 20, "from the start", marks=pytest.mark.slow),
        ("RLIMIT_NOFILE", 20, "in the middle"),
        pytest.param("RLIMIT_NOFILE", 40, "in the middle", marks=pytest.mark.slow),
        pytest.param("RLIMIT_FSIZE", 2000, "from the start", marks=pytest.mark.slow),
        ("RLIMIT_FSIZE", 2000, "in the middle"),
    ],
)
def test_a_limit_that_nobody_can_lift_is_a_documented_failure_or_none(
    endpoint: ScriptedEndpoint, tmp_path: Path, name: str, size: int, when: str
) -> None:
    before = len(endpoint.ledger.entries)
    command = [sys.executable, "-c", CHILD, endpoint.base_url, str(tmp_path), name, str(size), when]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE * 2)
    assert ran.stdout.strip(), f"the process ended without a word, status {ran.returncode}: {ran.stderr[-2000:]}"
    seen = json.loads(ran.stdout)
    assert seen["documented"], seen["error"]
    assert not seen["running"]
    if len(endpoint.ledger.entries) > before:
        assert seen["result"], f"paid for and lost: {seen['error']}"
    assert "Traceback" not in ran.stderr, ran.stderr[-2000:]
