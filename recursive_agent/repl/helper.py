"""Starts the zygote, the helper process that forks the workers, and waits for its end."""

from __future__ import annotations

import importlib.util
import math
import os
import resource
import socket
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import anyio

from ..errors import SandboxError
from . import zygote

WORKER_PACKAGES = ("msgpack", "RestrictedPython")
"""What a worker imports besides Python and this directory."""

ISOLATED = ("-s", "-P", "-S")
"""Options of Python that keep the user's files and the current folder out, as `-I` does, which is deaf to `ENVIRONMENT`."""
ENVIRONMENT = {"PYTHONHASHSEED": "0"}
"""All variables of the zygote. Sets of texts have the same order in every one of them."""


def start(
    command: Callable[[list[str]], list[str]], *, restricted: bool
) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start a zygote: the process, and our end of its socket. Raises SandboxError.

    `command` makes the command line out of the arguments of Python. Unless `restricted`, cells are plain Python.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:  # two descriptors for each REPL; the usual soft limit of 1,024 would end at 500
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    paths = {str(Path(place).parent) for name in WORKER_PACKAGES for place in _locations(name)}
    with ExitStack() as stack:
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            stack.enter_context(theirs)
            stack.callback(ours.close)
            ours.setblocking(False)
            # So that it notices our end even where a fork of ours keeps the other end of its socket open.
            host = os.pidfd_open(os.getpid())
            stack.callback(os.close, host)
            process = subprocess.Popen(
                command(
                    [
                        *(*ISOLATED, "-X", "utf8", "-c", zygote.BOOT),
                        *(str(Path(__file__).parent), ":".join(sorted(paths)), str(theirs.fileno()), str(host)),
                        "restricted" if restricted else "raw",
                    ]
                ),
                env=ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), host),
                start_new_session=True,
            )
        except OSError as error:
            raise SandboxError(f"the sandbox's helper process cannot be started ({error.strerror})") from error
        stack.pop_all()
        theirs.close()
        os.close(host)
    return process, ours


def _locations(package: str) -> list[str]:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.submodule_search_locations is None:
        raise SandboxError(f"the package {package} is missing: pip install {package}")
    return list(spec.submodule_search_locations)


async def wait(process: subprocess.Popen[bytes]) -> None:
    """Wait for the zygote, which ends by itself when its socket is closed."""
    for seconds in (5.0, math.inf):
        with anyio.move_on_after(seconds):
            while process.poll() is None:
                await _ended(process)
            return
        process.kill()


async def _ended(process: subprocess.Popen[bytes]) -> None:
    try:
        fd = os.pidfd_open(process.pid)
    except OSError:  # no descriptor left
        await anyio.sleep(0.01)
        return
    try:
        await anyio.wait_readable(fd)
    finally:
        os.close(fd)
