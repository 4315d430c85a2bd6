"""The servers of the tests, and agents that use them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2

from recursive_agent import MCPServer
from recursive_agent.testing import Script, replies
from tests.waiting import until

SERVED = str(Path(__file__).with_name("served.py"))
SECRET = "tok-6c1f0e9a7b"


def counting(*fault: str, **options: Any) -> MCPServer:
    """The server of `served.py` as a process."""
    options = {"name": "counting", "env": {"API_TOKEN": SECRET}, **options}
    return MCPServer.stdio(sys.executable, [SERVED, "stdio", *fault], **options)


@asynccontextmanager
async def listening(kind: str = "http", port: int = 0) -> AsyncIterator[tuple[str, int]]:
    """The same server at a URL, and its process id."""
    port = port or free_port()
    process = subprocess.Popen([sys.executable, SERVED, kind, str(port)], stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        async with httpx2.AsyncClient() as client:

            async def up() -> bool:
                try:
                    await client.get(f"{url}/nothing")
                except httpx2.TransportError:
                    return False
                return True

            await until(up)
        yield f"{url}/{'mcp' if kind == 'http' else 'sse'}", process.pid
    finally:
        process.kill()
        process.wait()


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


def is_running(pid: int) -> bool:
    """Whether a process runs."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


async def gone(pid: int) -> None:
    """Wait until a process has ended."""
    await until(lambda: not is_running(pid))


def marked(mark: str) -> list[int]:
    """The processes whose command line has a mark."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if mark.encode() in (entry / "cmdline").read_bytes() and is_running(int(entry.name)):
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def steps(*answers: str) -> Script:
    """A script of these answers, in order."""
    return replies(answers)
