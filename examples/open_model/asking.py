"""Ask a served model about a document, with sub-agents over its parts."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from recursive_agent import Agent, Limits, NodeEnded, NodeStarted

from .serving import Server

_LONGEST_PART = 6_000
"""Characters; some 1,500 tokens of English."""


def parts_of(document: str, longest: int = _LONGEST_PART) -> list[str]:
    """The parts of a text that begin with a headline (`# …`); longer ones are cut between paragraphs, lines or words."""
    sections = [part.strip() for part in re.split(r"^(?=# )", document, flags=re.MULTILINE) if part.strip()]
    return [piece for section in sections for piece in _cut(section, longest)]


def _cut(text: str, longest: int) -> list[str]:
    pieces = []
    while len(text) > longest:
        ends = (text.rfind(mark, 1, longest) for mark in ("\n\n", "\n", " "))
        end = next((end for end in ends if end > 0), longest)
        pieces.append(text[:end].strip())
        text = text[end:].strip()
    return [*pieces, text]


async def ask(server: Server, goal: str, parts: Sequence[str], *, seed: int, traces: Path | None) -> int:
    """Print the answer on stdout and the tree's progress on stderr; returns the exit status of `rao run`."""
    agent = Agent(
        server.model,
        server.url,
        limits=Limits(
            max_depth=1, max_agents=2 * len(parts) + 1, max_children=2 * len(parts), max_steps=8, timeout=3600
        ),
        sampling={"temperature": 0.3, "max_tokens": 400},
        trace_dir=traces,
    )
    async with agent.stream(goal, context=list(parts), seed=seed) as stream:
        async for event in stream:
            if isinstance(event, NodeStarted):
                _say(f"{'  ' * event.depth}agent {event.node}: {' '.join(event.goal.split())[:90]}")
            elif isinstance(event, NodeEnded):
                _say(f"agent {event.node} {event.status}")
    result = stream.result
    usage, tree = result.usage, result.tree
    _say(f"{result.status}: {len(tree.nodes)} agents, {usage.total_tokens:,} tokens, {tree.duration:.0f} s")
    if not result.status.finished:
        _say(f"no answer: {result.reason}")
        return 1
    print(json.dumps(result.output, ensure_ascii=False, default=str))
    return 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
