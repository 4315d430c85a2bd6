"""The clocks of the library as the agent's code reads them: through the `Clock` of its REPL.

Not among the files in which no exception may be raised from outside: `sleep` is interrupted at the limit of the cell.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable
from typing import Any

from .clock import MONOTONIC, PROCESS, WALL, here
from .exact import exact


def _time() -> float:
    """Seconds since the epoch."""
    return here.clock.read(WALL)


def _time_ns() -> int:
    """Nanoseconds since the epoch."""
    return int(here.clock.read(WALL) * 1e9)


def _monotonic() -> float:
    """Seconds of a clock that never goes back."""
    return here.clock.read(MONOTONIC)


def _perf_counter() -> float:
    """Seconds of a clock that never goes back."""
    return here.clock.read(MONOTONIC)


def _process_time() -> float:
    """Seconds of CPU used so far."""
    return here.clock.read(PROCESS)


def _sleep(seconds: Any, /) -> None:
    """Wait so long; everything else waits too."""
    seconds = exact(seconds)
    clock = here.clock
    if clock.script is not None:
        time.sleep(seconds * 0)  # raises for what is no number
    if clock.script is None or seconds < 0 or not clock.slept():
        time.sleep(seconds)
        clock.note_slept()


def _gmtime(seconds: Any = None, /) -> time.struct_time:
    """A moment (now, without one) in parts, in UTC."""
    return time.gmtime(_time() if seconds is None else exact(seconds))


def _localtime(seconds: Any = None, /) -> time.struct_time:
    """A moment (now, without one) in parts, in local time."""
    return time.localtime(_time() if seconds is None else exact(seconds))


def _ctime(seconds: Any = None, /) -> str:
    """A moment (now, without one) as text."""
    return time.ctime(_time() if seconds is None else exact(seconds))


_NOW: Any = object()


def _asctime(moment: Any = _NOW, /) -> str:
    """A moment in parts (now, without one) as text."""
    return time.asctime(_localtime() if moment is _NOW else moment)


def _strftime(form: Any, moment: Any = _NOW, /) -> str:
    """A moment in parts (now, without one) as text of this form."""
    return time.strftime(exact(form), _localtime() if moment is _NOW else moment)


FUNCTIONS: dict[str, Any] = {
    "time": _time,
    "time_ns": _time_ns,
    "monotonic": _monotonic,
    "perf_counter": _perf_counter,
    "process_time": _process_time,
    "sleep": _sleep,
    "gmtime": _gmtime,
    "localtime": _localtime,
    "ctime": _ctime,
    "asctime": _asctime,
    "strftime": _strftime,
}
"""What stands in the module `time` in the place of the library's own."""


# -- datetime --------------------------------------------------------------------------------------------------------


def _class_of(value: Any) -> Any:
    return value if isinstance(value, type) else type(value)


def _now(value: Any) -> Callable[..., Any]:
    cls = _class_of(value)

    def now(tz: datetime.tzinfo | None = None) -> Any:
        """The current moment, in local time or that of a zone."""
        return cls.fromtimestamp(_time(), tz)

    return now


def _utcnow(value: Any) -> Callable[[], Any]:
    cls = _class_of(value)

    def utcnow() -> Any:
        """The current moment in UTC, without a zone."""
        return cls.fromtimestamp(_time(), datetime.UTC).replace(tzinfo=None)

    return utcnow


def _today(value: Any) -> Callable[[], Any]:
    cls = _class_of(value)

    def today() -> Any:
        """The current day, or moment, in local time."""
        return cls.fromtimestamp(_time())

    return today


METHODS: dict[tuple[type, str], Callable[[Any], Callable[..., Any]]] = {
    (datetime.datetime, "now"): _now,
    (datetime.datetime, "utcnow"): _utcnow,
    (datetime.date, "today"): _today,
    (datetime.datetime, "today"): _today,
}
"""What is read in the place of methods that read the clock."""
