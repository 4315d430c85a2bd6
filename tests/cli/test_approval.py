"""`--approve`: questions on the terminal, and what is refused before a run starts."""

import json
import os
import pty
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from rao_cli.approval import parse_approve, question

from recursive_agent import PendingCall, Usage
from recursive_agent.errors import ConfigurationError
from recursive_agent.testing import ScriptedEndpoint, by_goal

from .command import RAO, environment, rao

ROOT = """```python
answers = []
for n in range(3):
    try:
        answers.append(await launch_subagent(f'child {n}'))
    except LaunchRefused as error:
        answers.append(str(error).rpartition(': ')[2])
finish(answers)
```"""
SCRIPT = by_goal({"root": ROOT, "child": "```python\nfinish('done')\n```"})


def on_a_terminal(
    arguments: Sequence[str], answers: Sequence[str], where: Path, env: dict[str, str]
) -> tuple[bytes, str]:
    """What a run prints on stdout, and what the terminal shows; each question gets the next answer."""
    ours, theirs = pty.openpty()
    waiting = list(answers)
    with subprocess.Popen(
        [*RAO, "run", *arguments], cwd=where, env=env, stdin=theirs, stdout=subprocess.PIPE, stderr=theirs
    ) as process:
        os.close(theirs)
        screen, answered = b"", 0
        try:
            while piece := os.read(ours, 65536):
                screen += piece
                if screen.count(b"reason to refuse] ") > answered:
                    answered += 1
                    os.write(ours, waiting.pop(0).encode() + b"\n")
        except OSError:  # Linux says EIO when the other side has closed
            pass
        os.close(ours)
        assert process.stdout is not None
        return process.stdout.read(), screen.decode()


def test_each_launch_is_asked_about_and_the_answer_decides(tmp_path: Path) -> None:
    with ScriptedEndpoint(SCRIPT) as endpoint:
        env = environment(OPENAI_BASE_URL=endpoint.base_url, RAO_MODEL="scripted", TERM="xterm")
        answers = ["y", "", "too dear"]
        output, screen = on_a_terminal(["root", "--approve", "launches"], answers, tmp_path, env)
    assert json.loads(output) == ["done", "the operator of this run did not approve this call", "too dear"]
    assert "Agent 0 (root) wants to launch a sub-agent; the run has used" in screen
    assert '"child 0"' in screen
    assert "\x1b[2K" not in screen  # no tree is drawn over the questions


def test_without_a_terminal_it_is_refused_before_the_run(tmp_path: Path) -> None:
    done = rao("run", "root", "--approve", "launches", cwd=tmp_path, stdin=subprocess.DEVNULL)
    assert done.returncode == 2
    assert "--approve asks on the terminal" in done.stderr


def test_serve_takes_it_with_an_agent_only(tmp_path: Path) -> None:
    done = rao("serve", "m", "--approve", "launches", cwd=tmp_path)
    assert done.returncode == 2
    assert "--approve works only with --agent" in done.stderr


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("launches", {"tools": [], "launches": True}),
        ("tools", {"tools": True, "launches": False}),
        ("send_mail, launches", {"tools": ["send_mail"], "launches": True}),
    ],
)
def test_what_it_names(text: str, meant: dict[str, Any]) -> None:
    assert parse_approve(text) == meant


@pytest.mark.parametrize("text", ["", ",", "a b", "send-mail"])
def test_what_names_nothing(text: str) -> None:
    with pytest.raises(ConfigurationError, match="--approve takes launches, tools, or names of tools"):
        parse_approve(text)


def test_a_question_is_safe_to_show() -> None:
    call = PendingCall(
        run="r", node="0.1", depth=1, goal="evil \x1b[2J goal", step=1, call=3, kind="tool", name="send", usage=Usage(),
        arguments={"text": "\x1b]0;" + "x" * 5_000}, run_usage=Usage(calls=2, prompt_tokens=1_500, cost=0.25),
    )  # fmt: skip
    shown = question(call)
    assert "\x1b" not in shown
    assert "1,500 tokens in 2 calls, cost 0.25" in shown
    assert "characters)" in shown
    assert len(shown) < 2_500
