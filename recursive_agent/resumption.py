"""An interrupted run that goes on, as its tree takes it over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from .limits import Account
from .trace.journal import Past
from .trace.tree import ExecutionTree

Diverged = Literal["stop", "redo", "keep"]
"""What to do when an agent's code does not do again what is recorded of it: end the run, so that nothing more is spent; do
the agent's steps anew from there; or go on with the recorded conversation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumption:
    """An interrupted run that goes on."""

    record: ExecutionTree
    past: Past
    """What the root had done."""
    diverged: Diverged
    question: str | None = None
    """The next question to a root that had finished, where it is asked now."""
    returns: Any = None
    """JSON schema of its answer, or None."""
    account: Account
    """The root's, with what all agents have spent so far."""
    edits: Mapping[tuple[str, int], str | Callable[[str], str]] = field(default_factory=dict)
    """Other texts, or functions of the text, for what an agent (its id) reads before a step."""
