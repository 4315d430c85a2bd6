"""`rao serve` as a process that runs until it is told to stop."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .command import RAO, environment


class Serving:
    """A running `rao serve`. `lines` are what it has written on stderr so far."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)

    @property
    def errors(self) -> str:
        """All of stderr so far."""
        return "".join(self.lines)

    def url(self) -> str:
        """The first line of stdout, which comes when it is ready ('' where it ends first)."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def stop(self, number: int) -> int:
        """Send it a signal; its exit status."""
        os.kill(self.process.pid, number)
        return self.end()

    def end(self) -> int:
        """Its exit status, once it has ended and all of stderr is read."""
        status = self.process.wait(60)
        self._reader.join(60)
        return status


@contextmanager
def serving(*arguments: str, cwd: Path, **variables: str) -> Iterator[Serving]:
    """Run it while the block lasts."""
    with subprocess.Popen(
        [*RAO, "serve", *arguments],
        cwd=cwd,
        env=environment(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # under nohup it would be ignored
        start_new_session=True,
    ) as process:
        server = Serving(process)
        try:
            yield server
        finally:
            if process.poll() is None:
                process.kill()
            server.end()
