"""`rao` as a process of its own that starts in milliseconds: a server has imported it once, and forks for every command.

Importing takes ten times as long as most commands do. Arguments, directory, environment, standard streams and exit status
are the child's own, and it ends as every Python does. What Python reads of the environment as it starts is the server's,
and there is a server for each.
"""

from __future__ import annotations

import atexit
import functools
import importlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
_READ_AT_START = ("PYTHON", "LC_", "LANG", "OMP_", "LD_", "MALLOC_")
_NEEDED = (
    *("aiohttp", "anyio._backends._asyncio", "jsonschema", "openai", "rich.live", "tokenizers"),
    *("rao_rl.envs.textcraft", "rao_rl.evaluation.run"),
)
"""What commands import when they first need it. Not onnxruntime, which starts a thread at once."""
_BYTES = 1 << 20
_lock = threading.Lock()


def run_forked(
    arguments: Sequence[str], *, cwd: Path, env: Mapping[str, str], input: str, timeout: float
) -> subprocess.CompletedProcess[str]:
    """Run `rao` with these arguments to its end."""
    with _lock, tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        given.write(input.encode())
        given.seek(0)
        server = _server(tuple((name, env[name]) for name in sorted(env) if name.startswith(_READ_AT_START)))
        request = json.dumps([list(arguments), str(cwd), dict(env)]).encode()
        try:
            socket.send_fds(server, [request], [given.fileno(), out.fileno(), err.fileno()])
            process = int(server.recv(_BYTES))
        except (OSError, ValueError):
            _server.cache_clear()  # it has ended, and said why: another one may not
            raise
        server.settimeout(timeout)
        try:
            status = int(server.recv(_BYTES))
        except TimeoutError:
            os.kill(process, signal.SIGKILL)
            server.settimeout(None)
            server.recv(_BYTES)
            raise subprocess.TimeoutExpired(["rao", *arguments], timeout) from None
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode())
        return subprocess.CompletedProcess(["rao", *arguments], status, *texts)


@functools.cache
def _server(env: tuple[tuple[str, str], ...]) -> socket.socket:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [sys.executable, "-m", "tests.cli.forked", str(theirs.fileno())]
    process = subprocess.Popen(command, cwd=ROOT, env=dict(env), pass_fds=[theirs.fileno()])
    theirs.close()

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


def _serve(server: socket.socket) -> None:
    """Fork for each request; returns in a child, which has become what was asked for."""
    while True:
        request, fds, _, _ = socket.recv_fds(server, _BYTES, 3)
        if not request:
            sys.exit()
        assert len(list(Path("/proc/self/task").iterdir())) == 1, "a process with threads is not forked"
        process = os.fork()
        if not process:
            break
        for fd in fds:
            os.close(fd)
        server.send(str(process).encode())
        server.send(str(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])).encode())
    server.close()
    arguments, cwd, env = json.loads(request)
    for standard, fd in enumerate(fds):
        os.dup2(fd, standard)
        os.close(fd)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.path[0] = cwd
    sys.argv = ["rao", *arguments]
    random.seed()


if __name__ == "__main__":
    for name in _NEEDED:
        importlib.import_module(name)
    from rao_cli.main import main

    _serve(socket.socket(fileno=int(sys.argv[1])))
    main()
