"""A real pseudo-terminal with an emulator behind it: what a user sees."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from select import select
from typing import IO

import pyte
from rich.console import Console, ConsoleDimensions

from tests.waiting import PATIENCE


class Terminal:
    """A screen of so many columns and lines; `file` is its other side, for a program to write to."""

    def __init__(self, columns: int, lines: int) -> None:
        self.screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self.screen)
        self._ours, self.theirs = pty.openpty()
        self.received = b""
        self.console: Console | None = None
        self._written = 0
        self.resize(columns, lines)

    def resize(self, columns: int, lines: int) -> None:
        """Make the window this large."""
        fcntl.ioctl(self.theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.screen.resize(lines, columns)
        if self.console is not None:  # which asks this process's own terminal
            self.console.size = ConsoleDimensions(columns, lines)

    def read(self, timeout: float = 0.0) -> bool:
        """Take what was written so far; whether the other side is still open."""
        while select([self._ours], [], [], timeout)[0]:
            try:
                piece = os.read(self._ours, 65536)
            except OSError:  # Linux says EIO when the other side has closed
                return False
            self.received += piece
            self._stream.feed(piece)
        return True

    def settle(self, file: IO[str]) -> None:
        """Take all that was written to `file`, our other side: the last of it is a title that nothing else sets."""
        self._written += 1
        file.write(f"\x1b]2;{self._written}\x07")
        file.flush()
        until = time.monotonic() + PATIENCE
        while self.screen.title != str(self._written):
            assert time.monotonic() < until, "what was written never came"
            self.read(0.01)

    @property
    def lines(self) -> list[str]:
        """What stands on the screen, without what is empty below it."""
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip().split("\n")

    @property
    def sane(self) -> bool:
        """Whether the cursor is to be seen, and lines wrap."""
        return not self.screen.cursor.hidden and pyte.modes.DECAWM in self.screen.mode

    def close(self) -> None:
        """Close our side."""
        os.close(self._ours)


@contextmanager
def terminal(columns: int, lines: int) -> Iterator[tuple[Terminal, Console]]:
    """A terminal, and the console of a program in this process that writes to it."""
    shown = Terminal(columns, lines)
    file: IO[str]
    with os.fdopen(shown.theirs, "w", encoding="utf-8") as file:
        shown.console = Console(file=file, force_terminal=True, _environ={"TERM": "xterm-256color"})
        shown.resize(columns, lines)
        yield shown, shown.console
        shown.settle(file)
    shown.close()
