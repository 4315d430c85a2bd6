"""How long a cell has lasted, on a machine that does not always have a CPU for its worker.

The kernel counts how long a thread was ready to run and waited for a CPU. That is nothing the cell did, so its limit leaves
it out. Worker and host both count in this way: the worker stops a cell, the host kills a worker that does not.
"""

from __future__ import annotations

import os

MOST = 5.0
"""So many times its limit a cell may last on the wall clock, however little CPU the machine gives its worker."""


def counted(wall: float, starved: float) -> float:
    """Seconds that count against the limit of a cell: those on the wall, without those its worker waited for a CPU."""
    return max(wall - starved, wall / MOST)


def open_own() -> int | None:
    """A descriptor for `starved_seconds` of the main thread of this process; None where the kernel does not count them."""
    return _open("self")


def starved_of(pid: int) -> float:
    """Seconds that the main thread of a process has waited for a CPU; 0 where it has ended or the kernel does not count."""
    file = _open(str(pid))
    if file is None:
        return 0.0
    try:
        return starved_seconds(file)
    finally:
        os.close(file)


def starved_seconds(file: int) -> float:
    """The same, by the descriptor of its `schedstat`."""
    try:
        return int(os.pread(file, 100, 0).split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0


def _open(process: str) -> int | None:
    try:
        return os.open(f"/proc/{process}/schedstat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
