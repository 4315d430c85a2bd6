"""`rao eval --list`: every environment of this machine, without making any of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from rao_rl.envs import BUILT_IN, environment_names
from rao_rl.envs.registry import about
from rao_rl.scoring.needs import unscored_agents
from recursive_agent.errors import ConfigurationError

from .text import clean


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """What an environment says of itself."""

    name: str
    built_in: bool
    summary: str | None
    """None if it has no `about`."""
    splits: Mapping[str, int | None]
    """Number of tasks of each split; None where more are generated for as long as one asks."""
    levels: Sequence[str]
    data: str | None
    """What must be on this machine and how to get it; None where nothing must be."""
    needs_judge: str | None = None
    """The agents that have no score without a judge; None where every agent has a verifier, or nothing is said of it."""
    error: str | None = None
    """Why it cannot be loaded."""


def listed(names: Sequence[str] = ()) -> list[Listed]:
    """The environments of these names; all that are built in or installed, if none is named.

    One that cannot be loaded is listed with its error; a name that was given raises ConfigurationError instead.
    """
    found = []
    for name in names or environment_names():
        built_in = name in BUILT_IN
        try:
            said = about(name)
        except ConfigurationError as error:
            if names:
                raise
            found.append(
                Listed(name=name, built_in=False, summary=None, splits={}, levels=(), data=None, error=str(error))
            )
            continue
        found.append(
            Listed(
                name=name,
                built_in=built_in,
                summary=None if said is None else said.summary,
                splits={} if said is None else dict(said.sizes),
                levels=() if said is None else list(said.levels),
                data=None if said is None else said.data,
                needs_judge=None if said is None else unscored_agents(said.needs_judge),
            )
        )
    return found


def listing_table(environments: Sequence[Listed]) -> Table:
    """The environments in words."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 1, 0), show_header=False)
    table.add_column(no_wrap=True, style="bold")
    table.add_column()
    for item in environments:
        table.add_row(item.name, _details(item))
    return table


def _details(item: Listed) -> Any:
    if item.error is not None:
        return clean(item.error)
    if item.summary is None:
        return f"no description; see the package that registers it, or try rao eval {item.name} --tasks 1"
    lines = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), show_header=False)
    lines.add_column(no_wrap=True, style="dim")
    lines.add_column()
    lines.add_row("agents", clean(item.summary))
    lines.add_row("splits", ", ".join(f"{name} {_size(size)}" for name, size in item.splits.items()))
    lines.add_row("levels", ", ".join(item.levels) or "–")
    lines.add_row("data", "none: every task is generated" if item.data is None else clean(item.data))
    if item.needs_judge is not None:
        lines.add_row("judge", f"needed for {item.needs_judge} (--judge MODEL); without one these have no score")
    return lines


def _size(size: int | None) -> str:
    return "(any number)" if size is None else f"({size:,})"
