"""`rao` as a real process, as users and scripts start it."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from rao_cli.main import main

from .forked import run_forked

RAO = [sys.executable, "-m", "rao_cli"]
KEY = "sk-test-0123456789abcdef"


def environment(**more: str) -> dict[str, str]:
    """The environment of a user who has configured nothing but a key."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "RAO_"))}
    return {**kept, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error::ResourceWarning", **more}


def run_here(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, str, str]:
    """Run it in this process, which is faster; exit status, stdout and stderr."""
    monkeypatch.setattr("sys.argv", ["rao", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    captured = capsys.readouterr()
    assert isinstance(stopped.value.code, int)
    return stopped.value.code, captured.out, captured.err


def rao(
    *arguments: str, cwd: Path, env: Mapping[str, str] | None = None, input: str = "", timeout: float = 300, **more: Any
) -> subprocess.CompletedProcess[str]:
    """Run it to its end, in `cwd`."""
    env = dict(env or environment())
    if not more and "PYTHONPATH" not in env.keys() - os.environ.keys():  # which is for what the server has imported too
        return run_forked(arguments, cwd=cwd, env=env, input=input, timeout=timeout)
    return subprocess.run(
        [*RAO, *arguments],
        cwd=cwd,
        env=env,
        **({} if "stdin" in more else {"input": input}),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        **more,
    )
