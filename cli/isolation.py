"""The sandbox of a command that runs agents: its options, and what to print about what locks the agents in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import typer

from recursive_agent.repl import UNSET, Require, Unset
from recursive_agent.repl.kernel import KERNEL_LAYERS
from recursive_agent.repl.registry import check_sandbox

_PANEL = "Sandbox"

SandboxOption = Annotated[
    str,
    typer.Option(
        "--sandbox",
        metavar="NAME",
        help="Where the agents' code runs: process, namespaces (stronger; needs user namespaces), one that you installed "
        "(rao doctor lists all), or module:Class.",
        rich_help_panel=_PANEL,
    ),
]
RequireOption = Annotated[
    Literal["kernel", "none"] | None,
    typer.Option(
        "--require",
        help="kernel: start only if the kernel can isolate the agents' code. none: start anyway; use it only for goals, "
        "models and data that you trust. Default: kernel, but none for --sandbox inprocess.",
        rich_help_panel=_PANEL,
    ),
]
LAYERS = ("process", "rlimits", "no_new_privs", "pdeathsig", "landlock", "seccomp", "namespaces", "policy")
"""Layers by the order in which they are shown."""


def parse_require(option: Literal["kernel", "none"] | None, sandbox: str = "process") -> Require | Unset:
    """`--require` as the argument of an `Agent`. Raises ConfigurationError where the sandbox does not go with it."""
    require: Require | Unset = UNSET if option is None else "kernel" if option == "kernel" else None
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
