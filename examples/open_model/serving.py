"""Which server runs a model, and its URL: llama.cpp for a GGUF file, `rao serve` for a checkpoint."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from socket import socket
from typing import Literal

from .models import ModelUnavailable

Engine = Literal["auto", "llama.cpp", "vllm", "embedded"]
VLLM_PYTHON = "RAO_VLLM_PYTHON"
LLAMA_PYTHON = "RAO_LLAMA_PYTHON"
"""Names the interpreter that xllamacpp is installed for, where it is not this one."""
_SERVER = Path(__file__).with_name("llama_server.py")
_PATIENCE = 600.0
"""Seconds that a server may take to load its model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A running server: its base URL, and the name of the model there."""

    url: str
    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """Settings that all servers have."""

    port: int = 0
    """0: any free one."""
    window: int = 8192
    """Tokens of one conversation."""
    parallel: int = 4
    """Conversations at a time (llama.cpp; vLLM takes as many as fit into its memory)."""
    threads: int = max(1, (os.cpu_count() or 2) - 1)


def llama_python() -> str | None:
    """An interpreter that has xllamacpp; None if there is none."""
    python = os.environ.get(LLAMA_PYTHON) or sys.executable
    done = subprocess.run([python, "-c", "import xllamacpp"], capture_output=True, check=False)
    return python if done.returncode == 0 else None


def has_vllm() -> bool:
    """Whether `rao serve` finds a vLLM."""
    python = os.environ.get(VLLM_PYTHON) or sys.executable
    code = "import importlib.util, sys; sys.exit(importlib.util.find_spec('vllm') is None)"
    return subprocess.run([python, "-c", code], check=False).returncode == 0


@contextmanager
def llama_cpp(gguf: Path, settings: ServerSettings, python: str | None = None) -> Iterator[Server]:
    """A llama.cpp server of a GGUF file, while the block lasts. Raises ModelUnavailable if it cannot be had."""
    python = python or llama_python()
    if python is None:
        raise ModelUnavailable("llama.cpp is not installed for this Python: pip install xllamacpp")
    port, name = settings.port or _free_port(), gguf.stem
    command = [python, str(_SERVER), str(gguf), "--name", name, "--port", str(port), "--window", str(settings.window)]
    command += ["--parallel", str(settings.parallel), "--threads", str(settings.threads), "--with-parent"]
    # Threads that wait by spinning are many times slower beside other work.
    threads = {"OMP_NUM_THREADS": str(settings.threads), "OMP_WAIT_POLICY": "passive"}
    log = gguf.parent / f"llama.cpp-{port}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env={**os.environ, **threads})
    try:
        _wait_for(process, f"http://127.0.0.1:{port}/health", log)
        yield Server(url=f"http://127.0.0.1:{port}/v1", model=name)
    finally:
        _end(process)
    log.unlink(missing_ok=True)


@contextmanager
def rao_serve(checkpoint: Path, settings: ServerSettings, engine: Engine = "auto") -> Iterator[Server]:
    """`rao serve` of a checkpoint, while the block lasts. Raises ModelUnavailable if it ends before it is ready."""
    if engine == "auto":
        engine = "vllm" if has_vllm() else "embedded"
    port = str(settings.port or _free_port())
    command = [sys.executable, "-m", "rao_cli", "serve", str(checkpoint), "--engine", engine, "--port", port]
    if engine == "vllm":
        command += ["--", "--max-model-len", str(settings.window)]
    threads = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(settings.threads))}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **threads})
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        if not url:
            raise ModelUnavailable(f"`{' '.join(command[1:])}` ended before it was ready; its reason is above")
        yield Server(url=url, model=_first_model(url))
    finally:
        _end(process)


def _free_port() -> int:
    with socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _wait_for(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not _answers(url):
        if process.poll() is not None:
            raise ModelUnavailable(f"llama.cpp ended with status {process.returncode}; see {log}")
        if time.monotonic() > deadline:
            raise ModelUnavailable(f"llama.cpp was not ready within {_PATIENCE:.0f} s; see {log}")
        time.sleep(0.1)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:  # refused, or 503 while the model is loaded
        return False


def _first_model(url: str) -> str:
    with urllib.request.urlopen(f"{url}/models", timeout=30) as answer:
        cards: Sequence[dict[str, str]] = json.load(answer)["data"]
    return cards[0]["id"]


def _end(process: subprocess.Popen[bytes] | subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
