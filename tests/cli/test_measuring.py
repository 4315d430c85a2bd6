"""`rao eval`, `rao rollout` and `rao plot` as users start them, killed ones included."""

import io
import json
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import rao_cli.main
from rao_cli.table import tables
from rich.console import Console

import rao_rl.evaluation
from rao_rl.envs import Mode
from rao_rl.evaluation.outcome import Attempt
from recursive_agent.testing import Fault, FaultKind, Request, ScriptedEndpoint
from recursive_agent.trace.folder import trace_files
from recursive_agent.trace.tree import ExecutionTree

from .command import RAO, environment, rao

ANSWER = "```python\nfinish('nothing was crafted')\n```"


class Script:
    """Answers at once, but hangs from request `hang_at` (from 0) on; `hung` tells when that one has come."""

    def __init__(self) -> None:
        self.hang_at: int | None = None
        self.asked = 0
        self.hung = threading.Event()

    def __call__(self, request: Request) -> str | Fault:
        self.asked += 1
        if self.hang_at is not None and self.asked > self.hang_at:
            self.hung.set()
            return Fault(FaultKind.HANG)
        return ANSWER


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def endpoint(script: Script) -> Iterator[ScriptedEndpoint]:
    with ScriptedEndpoint(script) as endpoint:
        yield endpoint


def kill_when_it_hangs(script: Script, command: list[str], cwd: Path) -> None:
    """Start it, wait for the request that gets no answer, and kill it as a power cut would."""
    script.hang_at = script.asked + 2
    with subprocess.Popen([*RAO, *command], cwd=cwd, env=environment(), stderr=subprocess.DEVNULL) as process:
        assert script.hung.wait(300)
        process.send_signal(signal.SIGKILL)
    script.hang_at = None


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    monkeypatch.setattr("sys.argv", ["rao", *arguments])
    with pytest.raises(SystemExit) as stopped:
        rao_cli.main.main()
    captured = capsys.readouterr()
    assert isinstance(stopped.value.code, int)
    return stopped.value.code, captured.out, captured.err


def test_a_killed_evaluation_goes_on_and_repeats_nothing(
    script: Script,
    endpoint: ScriptedEndpoint,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = ["eval", "textcraft", "--model", "scripted", "--base-url", endpoint.base_url, "--difficulty", "easy"]
    command += ["--tasks", "2", "--concurrency", "1", "--attempts", "attempts.jsonl"]
    kill_when_it_hangs(script, command, tmp_path)
    attempts = tmp_path / "attempts.jsonl"
    before = attempts.read_text().splitlines()
    assert len(before) == 3  # what was measured, and the two that had ended
    done = rao(*command, "--out", "new/all.json", "--plots", "pictures", cwd=tmp_path, env=environment(COLUMNS="80"))
    assert done.returncode == 0, done.stderr
    assert script.asked == 5  # two attempts, the one that was lost, the other two
    lines = attempts.read_text().splitlines()
    assert lines[:3] == before
    made = Counter((row["mode"], row["task"]) for row in map(json.loads, lines[1:]))
    assert sorted(made.values()) == [1, 1, 1, 1]
    told = json.loads((tmp_path / "new" / "all.json").read_text())
    assert (told["model"], told["split"], told["concurrency"]) == ("scripted", "test", 1)
    assert {(row["mode"], row["task"]) for row in told["attempts"]} == set(made)
    assert [(row["mode"], row["tasks"], row["success"]) for row in told["summary"]] == [
        ("single", 2, 0.0),
        ("recursive", 2, 0.0),
    ]
    table = done.stdout.splitlines()
    assert max(map(len, table)) <= 80
    assert "easy single 2 0.000 (0.00–0.66)" in " ".join(done.stdout.split())
    assert "0 of 2" in done.stdout
    assert "textcraft test 4/4" in done.stderr
    assert {path.name for path in (tmp_path / "pictures").iterdir()} == {
        f"{name}.{kind}" for name in ("success", "tokens_per_solved") for kind in ("png", "svg")
    }
    monkeypatch.chdir(tmp_path)
    code, out, err = run(monkeypatch, capsys, *command, "--json", "--quiet")
    assert (code, err, script.asked) == (0, "", 5)
    assert json.loads(out) == told


def test_an_evaluation_keeps_to_its_limits_and_goes_on_only_with_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def script(request: Request) -> str:
        return "```python\nawait launch_subagent('more')\n```" if request.step == 0 else "```python\n1\n```"

    monkeypatch.chdir(tmp_path)
    with ScriptedEndpoint(script) as endpoint:
        command = ["eval", "textcraft", "--model", "scripted", "--base-url", endpoint.base_url, "--level", "easy"]
        command += ["--tasks", "1", "--mode", "recursive", "--attempts", "a.jsonl", "--quiet", "--json"]
        limits = ["--max-steps", "2", "--max-agents", "3", "--timeout", "120"]
        code, out, err = run(monkeypatch, capsys, *command, *limits)
        assert (code, err) == (0, "")
        (attempt,) = json.loads(out)["attempts"]
        assert (attempt["status"], attempt["agents"], attempt["steps"]) == ("step_limit", 3, 6)
        assert json.loads(out)["max_agents"] == 3
        code, _, err = run(monkeypatch, capsys, *command, *limits[:-1], "60")
        assert code == 2
        assert "timeout" in err


def test_a_killed_recording_goes_on_and_repeats_nothing(
    script: Script,
    endpoint: ScriptedEndpoint,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = ["rollout", "textcraft", "--model", "scripted", "--base-url", endpoint.base_url, "--difficulty", "easy"]
    command += ["--tasks", "2", "--group", "2", "--concurrency", "1", "--seed", "5", "--out", "traces"]
    kill_when_it_hangs(script, command, tmp_path)
    done = rao(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert script.asked == 5
    assert done.stdout.splitlines() == [
        "4 rollouts in traces → 4 scored → 0 solved (2 recorded earlier)",
        "2 groups, 0 of them with different scores to learn from",
    ]
    trees = [tree for tree in map(ExecutionTree.load, trace_files(tmp_path / "traces")) if tree.complete]
    assert Counter(tree.group for tree in trees) == {
        "textcraft/train/textcraft/words/train/5/easy/0": 2,
        "textcraft/train/textcraft/words/train/5/easy/1": 2,
    }
    assert len({(tree.group, tree.seed) for tree in trees}) == 4
    calls = [step.model for tree in trees for node in tree.walk() for step in node.steps]
    assert all(call is not None and call.token_ids and call.logprobs for call in calls)
    monkeypatch.chdir(tmp_path)
    again = json.loads(run(monkeypatch, capsys, *command, "--json")[1])
    assert (again["wanted"], again["found"], again["rollouts"], script.asked) == (4, 4, 4, 5)


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        rows = [{"step": step, "eval/success/easy": 0.1 * step, "loss": 0.5} for step in range(4)]
        (tmp_path / name / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def test_plot_draws_folders_and_files_and_says_where(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Imitation generates no tokens, so there is one picture only.
    assert run(monkeypatch, capsys, "plot", "a", "b/metrics.jsonl", "--out", "new") == (
        *(0, "new/learning_steps.png\n", ""),
    )
    assert (runs / "new" / "learning_steps.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (runs / "new" / "learning_steps.svg").read_text()
    with (runs / "a" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "rao/generated_tokens": 900}\n')
    _, out, _ = run(monkeypatch, capsys, "plot", "a", "b", "--label", "one", "--out", "new")
    assert out.splitlines() == ["new/learning_steps.png", "new/learning_tokens.png"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["eval", "--mode", "alone"], "takes single and recursive, not 'alone'"),
        (["eval", "--difficulty", "easy,absurd"], "no level 'absurd'"),
        (["eval", "--split", "nowhere"], "no split 'nowhere'"),
        (["eval", "elsewhere"], "no environment 'elsewhere'"),
        (["eval", "--max-steps", "0"], "--max-steps must be at least 1: 0"),
        (["eval", "--timeout", "-1"], "--timeout must be"),
        (["rollout", "--max-agents", "0"], "--max-agents must be at least 1: 0"),
        (["eval", "--tasks", "1", "--attempts", "a/metrics.jsonl"], "is not a file of `rao eval --attempts`"),
        (["rollout", "--mode", "single,recursive"], "must be single or recursive, not 'single,recursive'"),
        (["rollout", "--interface", "telepathy"], "must be chat or tokens, not 'telepathy'"),
        (["plot", "nowhere", "--out", "p"], "cannot be read"),
        (["plot", "a", "b", "a", "--label", "x", "--label", "y", "--out", "p"], "2 times for 3 runs"),
    ],
)
def test_what_makes_no_sense_is_one_sentence(
    runs: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    complaint: str,
) -> None:
    code, out, err = run(monkeypatch, capsys, *arguments)
    assert (code, out) == (2, "")
    assert complaint in err
    assert err.count("\n") == 1


def test_without_matplotlib_pictures_are_refused_before_anything_is_attempted(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for name in [name for name in sys.modules if name.startswith("rao_rl.evaluation.plots")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(rao_rl.evaluation, "plots", raising=False)
    monkeypatch.setattr("rao_cli.commands.eval.open_model", None)
    for command in (["eval", "--plots", "p"], ["plot", "a", "--out", "p"]):
        code, out, err = run(monkeypatch, capsys, *command)
        assert (code, out) == (2, "")
        assert "pip install 'rao[train]' (matplotlib is missing)" in err
        assert err.count("\n") == 1


def test_the_command_line_starts_without_matplotlib_and_torch() -> None:
    code = "import sys, rao_cli.main; print(sorted({'matplotlib', 'torch', 'PIL'} & set(sys.modules)))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_the_table_fits_80_columns_whatever_is_measured() -> None:
    def attempt(mode: Mode, score: float, number: int) -> Attempt:
        return Attempt(
            task=f"t{number}",
            level="extreme",
            mode=mode,
            status="finished",
            score=score,
            agents=4096,
            depth=9 + number % 4,
            steps=12000,
            completion_tokens=123456,
            prompt_tokens=9,
            seconds=1234.5,
            concurrent_share=0.9,
            launches=4095,
        )

    made = [attempt(mode, float(number > 8), number) for mode in get_args(Mode) for number in range(1000)]
    made.append(replace(attempt("recursive", 0.0, 1000), level="hard", score=None, status="infra_error"))
    console = Console(width=80, file=io.StringIO())
    with console.capture() as capture:
        console.print(*tables(made, "textcraft test, a-policy", concurrency=8), sep="\n")
    shown = capture.get()
    assert "…" not in shown
    assert max(map(len, shown.splitlines())) <= 80
    words = " ".join(shown.split())
    assert "extreme recursive 1000 0.991 (0.98–1.00) 12000.0 – 123465" in words
    assert "extreme recursive 4096.0 9–12, 10.5 4095000 0.90 124586" in words
    assert "991 of 1000 12000.0 – 123465 1234.5" in words
    assert "without a score, and not counted: 1" in words
