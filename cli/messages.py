"""Lines for people: on stderr, after `rao:`."""

from __future__ import annotations

import logging
import sys

from .text import clean


def say(line: str) -> None:
    """Print a line on stderr; stderr is whatever it is at the time."""
    print(f"rao: {clean(line)}", file=sys.stderr, flush=True)


_SHOWN = (
    ("recursive_agent", logging.WARNING),
    ("rao_rl.train", logging.INFO),
    ("rao_rl.weights", logging.INFO),
    ("rao_rl.evaluation", logging.WARNING),
    ("rao_rl.rollouts", logging.WARNING),
    ("opentelemetry", logging.WARNING),
)
"""Loggers whose records are printed, and from which level on."""


class _Said(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        say(record.getMessage())


def show_warnings() -> None:
    """Print the SDK's warnings, above all of a sandbox that is not locked, also with --quiet; and what training chose.

    The warning about root is left to `rao doctor` and the live tree: a user who works as root knows it.
    """
    for name, level in _SHOWN:
        log = logging.getLogger(name)
        if not any(isinstance(handler, _Said) for handler in log.handlers):
            handler = _Said(level)
            handler.addFilter(lambda record: record.name != "recursive_agent.root")
            log.addHandler(handler)
            log.propagate = False
            log.setLevel(min(level, logging.WARNING))
