"""What happened to a recorded run from outside, in lines: resumptions, steering, approvals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

from rich.text import Text

from recursive_agent.trace.schema import ApprovalAnswered, ApprovalAsked, RunResumed, Steered
from recursive_agent.trace.tree import ExecutionTree, Node

from .text import count, one_line, seconds

_MOST = 20
"""Lines about a run, unless all are wanted."""
_WIDTH = 160


class Happening(NamedTuple):
    """Something that was done to a run, at `time` (seconds since the epoch), in words."""

    time: float
    words: str
    node: str | None = None
    step: int | None = None
    call: int | None = None
    """Of the call that it was about."""


def happenings(tree: ExecutionTree) -> list[Happening]:
    """All that was done to a run, in order."""
    found = [Happening(each.time, _resumption(each)) for each in tree.resumptions]
    found += [Happening(each.time, _steering(each), each.node) for each in tree.steered]
    found += [_answer(each) for each in tree.approvals]
    found += [_question(each) for asked in tree.asked.values() for each in asked]
    return sorted(found, key=lambda each: each.time)


def happenings_to(node: Node, tree: ExecutionTree) -> list[Happening]:
    """Those that concern one agent: its own, what was done to agents above it, and what was done to the run in its life."""
    above = {".".join(node.id.split(".")[:length]) for length in range(1, node.id.count(".") + 1)}
    cancelled = {(each.time, each.node) for each in tree.steered if each.action == "cancel"}
    return [
        each
        for each in happenings(tree)
        if each.node == node.id
        or (
            node.started <= each.time <= node.end
            and (each.node is None or (each.node in above and (each.time, each.node) in cancelled))
        )
    ]


def happening_lines(tree: ExecutionTree, *, all_lines: bool) -> Iterator[Text]:
    """The lines about a run; the ones in the middle are left out where there are many."""
    found = happenings(tree)
    hidden = 0 if all_lines or len(found) <= _MOST else len(found) - _MOST
    for each in found[: _MOST // 2] if hidden else found:
        yield happening_line(each, tree)
    if hidden:
        yield Text(f"         … {count(hidden, 'more event')} (--all shows them)", style="dim italic")
        for each in found[-_MOST // 2 :]:
            yield happening_line(each, tree)


def happening_line(each: Happening, tree: ExecutionTree, *, alone: bool = False) -> Text:
    """One line; `alone` leaves out which agent it is about."""
    at = seconds(max(0.0, each.time - tree.started))
    who = "" if alone or each.node is None else f"agent {one_line(each.node, 80)}: "
    return Text.assemble((f"[{at:>6}] ", "dim"), (f"{who}{each.words}", "yellow"))


def _resumption(event: RunResumed) -> str:
    when = datetime.fromtimestamp(event.at).strftime("%Y-%m-%d %H:%M:%S")
    words = f"the run was resumed ({when}, {one_line(event.model, 80)}, {count(event.usage.total_tokens, 'token')} used before)"
    return words if event.question is None else f"{words} with the question: {one_line(event.question, _WIDTH)}"


def _steering(event: Steered) -> str:
    text = None if event.text is None else one_line(event.text, _WIDTH)
    match event.action:
        case "pause":
            return "the run was paused"
        case "resume":
            return "the run went on"
        case "cancel":
            return "cancelled by the operator" + (f": {text}" if text else "")
        case "tell":
            return f"message from the operator: {text or ''}"
        case "unread":
            return "ended before it read the last message from the operator"
        case other:
            return one_line(f"{other} {text or ''}", _WIDTH)


def _answer(event: ApprovalAnswered) -> Happening:
    took = seconds(max(0.0, event.time - event.started))
    words = f"{one_line(event.name, 80)} {'was approved' if event.allowed else 'was refused'} after {took}"
    if event.arguments is not None:
        words += f", with other arguments: {one_line(event.arguments, _WIDTH)}"
    if event.reason:
        words += f": {one_line(event.reason, _WIDTH)}"
    if event.error:
        words += f" ({one_line(event.error, _WIDTH)})"
    return Happening(event.time, f"{words} (step {event.step}, call {event.call})", event.node, event.step, event.call)


def _question(event: ApprovalAsked) -> Happening:
    words = f"{one_line(event.name, 80)} waits for approval (step {event.step}, call {event.call})"
    return Happening(event.time, words, event.node, event.step, event.call)


def between(found: Sequence[Happening], since: float, until: float) -> Iterator[Happening]:
    """Those in an interval of time, its end left out."""
    yield from (each for each in found if since <= each.time < until)
