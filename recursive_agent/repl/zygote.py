"""The zygote: a fresh, preloaded Python that forks a worker whenever the host asks for one.

It is started isolated (`helper.ISOLATED`) from a few lines that make this directory importable under a name of its own, so that
neither the package above it nor anything of the host's process comes along.
"""

from __future__ import annotations

import array
import errno
import gc
import os
import select
import signal
import socket
import struct
import sys
import types
import warnings

REQUEST = struct.Struct("<H")
"""The number of workers that the host asks for."""
BORN = struct.Struct("<i")
"""Process id of a worker (its socket and its pidfd come along), or the negative error number where there is none."""

BOOT = """\
import sys, types
directory, paths, fd, host, language = sys.argv[1:]
sys.path += paths.split(":")
sys.modules.update(dict.fromkeys(("ssl", "_ssl", "_hashlib", "readline")))
package = types.ModuleType("rao_repl")
package.__path__ = [directory]
sys.modules["rao_repl"] = package
from rao_repl.zygote import main
main(int(fd), int(host), language == "restricted")
"""
"""The program of `python -c`. ssl and OpenSSL's hashes stay out: nobody may use them and they are half of the memory."""


def _preload() -> None:
    """Import and call once whatever opens a file at its first use."""
    import _strptime  # type: ignore[import-not-found]
    import asyncio
    import collections.abc
    import encodings.idna
    import encodings.latin_1
    import encodings.utf_16
    import time

    time.strptime("2000", "%Y")
    time.localtime()
    asyncio.run(asyncio.sleep(0))
    "".encode("idna")
    _ = (collections.abc, encodings.latin_1, encodings.utf_16, _strptime)


_REHEARSAL = """
import asyncio, json
class A:
    def __init__(self, x): self._x = x
    def y(self): return [self._x + i for i in range(3) if i]
def f(a, *b, **c):
    try: return {"k": A(a).y()[0], **c}
    except KeyError as e: raise ValueError(str(e)) from e
print(f"{f(1)!r}", "{0}".format(json.dumps([1.5])))
first, second = await asyncio.gather(tool(1), tool(2, k="v"))
x = await launch_subagent("goal", returns=list[int])
x
"""


def rehearse(restricted: bool) -> None:
    """Run some cells before the first fork: what Python sets up at first use is then shared by all workers."""
    import linecache

    from .protocol import HEADER, pack, unpack
    from .worker.cell import Cell
    from .worker.interpreter import Interpreter
    from .worker.main import make_loop

    loop = make_loop()

    class NoLimiter:
        cell: Cell | None = None

        def allow(self, memory: int, cpu: float | None = None) -> None: ...
        def starved(self) -> float:
            return 0.0

        def start(self, seconds: float, used: float) -> None: ...
        def relax(self) -> None: ...
        def tighten(self) -> bool:
            return False

        def hurry(self) -> None: ...
        def stop(self, used: float) -> None: ...

    def answer(frame: bytes) -> None:
        kind, *fields = unpack(frame[HEADER.size :])
        if kind == "call":
            loop.call_soon(interpreter.calls.deliver, fields[0], True, [1])

    settings = {
        "functions": [["tool", ""]],
        "launcher": True,
        "cell_timeout": 9.0,
        "output_chars": 999,
        "message_bytes": 9999,
    }
    for _ in range(4):
        interpreter = Interpreter(loop, answer, NoLimiter(), restricted=restricted)
        interpreter.open(settings, {}, [])
        for code in (_REHEARSAL, "x = 1\nx", "1 / 0", "import os", "finish({'a': [1, None]})") * 3:
            pack(["done", *interpreter.run_cell(code)])
    loop.close()
    linecache.clearcache()


def main(fd: int, host_pidfd: int, restricted: bool) -> None:
    """Serve the host until it goes away, then end; every worker ends with it (PDEATHSIG).

    The host is gone when its end of the socket is closed, and also when the process of `host_pidfd` has ended: a fork of
    the host may keep the socket open for ever.
    """
    from . import kernel
    from .worker import caches, unicode_errors
    from .worker import main as worker

    kernel.offer_to_oom_killer(kernel.ZYGOTE_OOM_SCORE)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    host = socket.socket(fileno=fd)
    sys.argv[1:] = []
    _preload()
    kernel.own_program()
    rehearse(restricted)
    if restricted:
        caches.keep_plain_keys()  # now that all that the library imports when it is first used is there
        unicode_errors.check_positions()
    warnings.simplefilter("default")
    sys.modules["__main__"] = types.ModuleType("__main__")
    os.chdir("/")
    signal.signal(signal.SIGCHLD, _reap)
    me = os.getpid()
    waiting = select.poll()
    waiting.register(host, select.POLLIN)
    waiting.register(host_pidfd, select.POLLIN)
    gc.collect()
    gc.freeze()
    while True:
        if any(ready == host_pidfd for ready, _ in waiting.poll()):
            os._exit(0)
        request = host.recv(REQUEST.size)
        if len(request) != REQUEST.size:
            os._exit(0)
        for _ in range(REQUEST.unpack(request)[0]):
            try:
                _fork_worker(host, me, restricted, worker)
            except OSError as error:  # no process, no memory or no descriptor left: the host will ask again
                _tell(host, -(error.errno or errno.EAGAIN))


def _fork_worker(host: socket.socket, me: int, restricted: bool, worker: types.ModuleType) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGCHLD,))
        try:
            pid = os.fork()
            if pid == 0:
                _become_worker(theirs, me, restricted, worker)
            pidfd = os.pidfd_open(pid)  # before it can be reaped, so the number is its own
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGCHLD,))
        try:
            _tell(host, pid, (ours.fileno(), pidfd))
        finally:
            os.close(pidfd)


def _tell(host: socket.socket, number: int, fds: tuple[int, ...] = ()) -> None:
    passed = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    try:
        host.sendmsg([BORN.pack(number)], passed)
    except (BrokenPipeError, ConnectionResetError):
        os._exit(0)


def _become_worker(sock: socket.socket, parent: int, restricted: bool, worker: types.ModuleType) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGCHLD,))
    own = 3
    os.dup2(sock.detach(), own, inheritable=False)
    os.closerange(own + 1, 1 << 20)
    worker.main(socket.socket(fileno=own), parent, restricted=restricted)


def _reap(number: int, frame: object) -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
