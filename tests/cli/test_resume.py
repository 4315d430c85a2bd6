"""`rao resume` and `rao run --resume-from` as processes against the scripted endpoint."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from recursive_agent.testing import ScriptedEndpoint, by_goal

from .command import KEY, environment, rao


def cell(code: str) -> str:
    return f"```python\n{code}\n```"


SCRIPT = by_goal({"count": [cell("x = 1\nprint(x)"), cell("x += 1\nprint(x)"), cell("finish(x)")]})


def _at(endpoint: ScriptedEndpoint) -> dict[str, str]:
    return environment(OPENAI_BASE_URL=endpoint.base_url, OPENAI_API_KEY=KEY, RAO_MODEL="scripted")


@pytest.fixture
def cut(tmp_path: Path) -> Path:
    """A folder with the trace of a run that hit its limit of steps."""
    with ScriptedEndpoint(SCRIPT) as endpoint:
        done = rao("run", "count", "--max-steps", "2", cwd=tmp_path, env=_at(endpoint))
        assert done.returncode == 1, done.stderr
    return tmp_path


def test_a_run_goes_on_with_a_larger_limit(cut: Path) -> None:
    with ScriptedEndpoint(SCRIPT) as endpoint:
        done = rao("resume", "traces", "--max-steps", "5", "--json", cwd=cut, env=_at(endpoint))
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["output"] == 2
        assert len(endpoint.requests) == 1
        again = rao("resume", "traces", cwd=cut, env=_at(endpoint))
        assert (again.returncode, again.stdout) == (0, "2\n"), again.stderr
        assert len(endpoint.requests) == 1
    assert len(list((cut / "traces").iterdir())) == 1
    shown = rao("trace", "show", "traces", cwd=cut)
    assert "resumed once" in shown.stdout


def test_a_fork_gets_a_trace_of_its_own(cut: Path) -> None:
    with ScriptedEndpoint(SCRIPT) as endpoint:
        arguments = ["--resume-from", "traces", "--step", "2", "--edit", "Think again.", "--max-steps", "4"]
        done = rao("run", *arguments, cwd=cut, env=_at(endpoint))
        assert (done.returncode, done.stdout) == (0, "2\n"), done.stderr
        assert len(endpoint.requests) == 2
        assert endpoint.requests[0].last == "Think again."
    assert len(list((cut / "traces").iterdir())) == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["resume", "nowhere"], "nowhere"),
        (["resume", "traces", "--on-divergence", "perhaps"], "diverged"),
        (["run", "--resume-from", "traces", "--at", "0.9"], "no agent '0.9'"),
        (["run", "count", "--resume-from", "traces"], "leave out GOAL"),
        (["run", "count", "--step", "2"], "--resume-from"),
    ],
)
def test_wrong_use_is_one_sentence(cut: Path, arguments: list[str], words: str) -> None:
    with ScriptedEndpoint(SCRIPT) as endpoint:
        done = rao(*arguments, cwd=cut, env=_at(endpoint))
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
