"""Host functions an agent may call: typed Python functions, sync or async."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ToolContext:
    """Who calls: a tool with a parameter annotated `ToolContext` is given this (agents neither see nor pass it).

    `node` is a path of launch order ("0.2.1" is a child of "0.2"), unique in its run.
    """

    run: str
    node: str
    parent: str | None
    depth: int
    goal: str
