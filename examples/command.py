"""Runs the commands of a campaign: each is one `rao …`, printed as it would be typed."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path


def rao(*arguments: str, log: Path | None = None) -> int:
    """Run `rao` with these arguments; its output goes to `log`, where it is given. Its exit status."""
    print(shlex.join(["rao", *arguments]), flush=True)
    command = [sys.executable, "-m", "rao_cli", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if log is None:
        return subprocess.run(command, env=environment, check=False).returncode
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as output:
        return subprocess.run(command, stdout=output, stderr=output, env=environment, check=False).returncode


def resumed(folder: Path) -> list[str]:
    """The option that continues the training run in a folder; none where it has not begun."""
    return ["--resume"] if (folder / "training.json").is_file() else []
