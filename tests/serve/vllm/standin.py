"""A program with the command line, the log and the ends of vLLM's server, and no model: for tests of what surrounds it.

What needs a model is tested with vLLM itself, in tests/vllm.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from tests.waiting import wait_until

SERVER = """
import argparse, http.server, json, os, pathlib, signal, subprocess, sys, threading, time

folder, manner = pathlib.Path(os.environ["STANDIN"]), os.environ.get("STANDIN_MANNER", "")
parser = argparse.ArgumentParser(allow_abbrev=False)
parser.add_argument("--model")
parser.add_argument("--host")
parser.add_argument("--port", type=int)
parser.add_argument("--served-model-name", nargs="+", default=[])
parser.add_argument("--lora-modules", nargs="+", default=[])
given, _ = parser.parse_known_args()
helper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
signals = []


def tell():
    names = {name: value for name, value in os.environ.items() if name.startswith(("VLLM_", "HF_"))}
    told = {"pids": [os.getpid(), helper.pid], "arguments": sys.argv[1:], "environment": names, "signals": signals}
    scratch = folder / "told.partial"
    scratch.write_text(json.dumps(told))
    scratch.replace(folder / "told.json")


def end(number, frame):
    signals.append(number)
    tell()
    if manner != "stubborn" or len(signals) == 2:
        print("the server stops", flush=True)
        helper.kill()
        os._exit(len(signals) - 1)


for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, end)
tell()
print("INFO loading weights\\rINFO weights are loaded", flush=True)
if manner == "fails":
    sys.exit("ValueError: no room for the KV cache")
while manner == "slow":
    time.sleep(0.1)
names = ["another"] if manner == "renamed" else [*given.served_model_name, *(m.partition("=")[0] for m in given.lora_modules)]


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        key = os.environ.get("VLLM_API_KEY")
        allowed = self.path == "/health" or key is None or self.headers["Authorization"] == f"Bearer {key}"
        body = json.dumps({"data": [{"id": name} for name in names]} if self.path == "/v1/models" else {}).encode()
        self.send_response(200 if allowed else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        print("INFO asked", flush=True)


http.server.ThreadingHTTPServer((given.host, given.port), Handler).serve_forever()
"""


class StandIn:
    """The program, installed for an interpreter of its own; what it says about itself while it runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        package = folder / "site" / "vllm" / "entrypoints" / "openai"
        package.mkdir(parents=True)
        for place in (package, package.parent, package.parent.parent):
            (place / "__init__.py").touch()
        (package / "api_server.py").write_text(SERVER, encoding="utf-8")
        self.python = folder / "python"
        self.python.write_text(
            f'#!/bin/sh\nexport PYTHONPATH="{folder / "site"}" STANDIN="{folder}"\nexec "{sys.executable}" "$@"\n'
        )
        self.python.chmod(0o755)

    @property
    def told(self) -> dict[str, Any]:
        """Its process numbers, arguments, environment and signals; once it has started."""
        wait_until(lambda: (self.folder / "told.json").is_file())
        return json.loads((self.folder / "told.json").read_bytes())  # type: ignore[no-any-return]

    def gone(self) -> bool:
        """Whether neither it nor its helper runs any more."""
        return not any(is_running(pid) for pid in self.told["pids"])


def is_running(pid: int) -> bool:
    """Whether a process is there and no zombie (nobody may be left to wait for it)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def kill(pid: int, number: int) -> None:
    """Send a signal."""
    os.kill(pid, number)
