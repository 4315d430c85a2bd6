"""A checkpoint behind a vLLM server of its own, for campaigns that sample an open model."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def served(folder: Path, *options: str, port: int, log: Path, engine: Sequence[str] = ()) -> Iterator[tuple[str, str]]:
    """Serve a checkpoint by `rao serve` with these options, and give its base URL and the name of its model.

    `engine` is what vLLM gets. Ends the program with a message if the server does.
    """
    address = f"http://127.0.0.1:{port}"
    line = ["serve", str(folder), f"--port={port}", *options, "--", *engine]
    print(time.strftime("%H:%M:%S"), "rao", shlex.join(line), flush=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "VLLM_SERVER_DEV_MODE": "1"}
    with log.open("a") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", "rao_cli", *line], stdout=output, stderr=output, env=environment
        )
    try:
        while (model := _name_of_model(address)) is None:
            if server.poll() is not None:
                sys.exit(f"the server ended with status {server.returncode}; see {log}")
            time.sleep(1)
        yield f"{address}/v1", model
    finally:
        server.terminate()
        server.wait()


def _name_of_model(address: str) -> str | None:
    """The name of the model that a server has; None if it does not answer yet."""
    try:
        with urllib.request.urlopen(f"{address}/v1/models", timeout=5) as answer:
            return str(json.load(answer)["data"][0]["id"])
    except (OSError, ValueError, LookupError):
        return None


def weights(folder: Path, copy: Path) -> Path:
    """A copy of a checkpoint without what its training keeps beside it, which a server may overwrite."""
    shutil.copytree(
        folder, copy, ignore=shutil.ignore_patterns("checkpoints", "demonstrations", "traces"), dirs_exist_ok=True
    )
    return copy
