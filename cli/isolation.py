"""`--sandbox` and `--require`: the options of every command that runs agents, and what is said of the sandbox."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from recursive_agent.errors import ConfigurationError
from recursive_agent.repl import UNSET, Require, Unset
from recursive_agent.repl.kernel import KERNEL_LAYERS
from recursive_agent.repl.registry import check_sandbox

from .text import clean

SandboxOption = Annotated[
    str, typer.Option("--sandbox", help="Where code runs: process, namespaces.", metavar="NAME", hidden=True)
]
RequireOption = Annotated[
    str | None, typer.Option("--require", help="none: run even if not locked in.", metavar="WHAT")
]
LAYERS = ("process", "rlimits", "no_new_privs", "pdeathsig", "landlock", "seccomp", "namespaces", "policy")
"""Layers by the order in which they are shown."""


def parse_require(text: str | None, sandbox: str = "process") -> Require | Unset:
    """What `--require` says, checked with the sandbox it is for. Raises ConfigurationError."""
    if text not in (None, "kernel", "none"):
        raise ConfigurationError(f"--require takes kernel or none, not {text!r}")
    require: Require | Unset = UNSET if text is None else "kernel" if text == "kernel" else None
    check_sandbox(sandbox, require)
    return require


def layers(settings: Mapping[str, Any]) -> tuple[str, bool] | None:
    """What held the agents of a run, in a line, and whether that was all of the kernel's layers; None where unknown."""
    recorded = settings.get("enforced")
    if not isinstance(recorded, list):
        return None
    held = [name for name in LAYERS if name in recorded] + sorted(str(name) for name in set(recorded) - set(LAYERS))
    missing = sorted(KERNEL_LAYERS - set(recorded))
    line = f"sandbox: {', '.join(held) or 'none'}"
    if missing:
        line = f"sandbox NOT LOCKED, missing {', '.join(missing)} · it has {', '.join(held) or 'nothing'}"
    if settings.get("as_root"):
        line += " · as root"
    return line, not missing


class _Stderr(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        """Print it as everything else of `rao` is printed; stderr is whatever it is at the time."""
        print(f"rao: {clean(record.getMessage())}", file=sys.stderr, flush=True)


def show_warnings() -> None:
    """Print the SDK's warnings, of a sandbox that is not locked above all, also with --quiet.

    That this is root is left to `rao doctor` and the live tree: it is no news to whoever works as root.
    """
    log = logging.getLogger("recursive_agent")
    if not any(isinstance(handler, _Stderr) for handler in log.handlers):
        handler = _Stderr(logging.WARNING)
        handler.addFilter(lambda record: record.name != "recursive_agent.root")
        log.addHandler(handler)
        log.propagate = False
