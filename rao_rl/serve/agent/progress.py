"""What a client is shown of a tree at work: one short line for each thing that happens."""

from __future__ import annotations

import re

from recursive_agent.trace.schema import ApprovalAsked, CellRan, Event, HostCalled, NodeEnded, NodeStarted, Steered

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_URL = re.compile(r"https?://\S+")
_GOAL = 160
_REST = 100


def progress(event: Event) -> str | None:
    """One line about an event, or None where it is nothing to watch."""
    match event:
        case NodeStarted():
            return f"agent {event.node} started: {_line(event.goal, _GOAL)}"
        case CellRan():
            lines = len(event.code.strip().splitlines())
            said = _line(event.error or event.output, _REST)
            return f"agent {event.node} ran {lines} line{'' if lines == 1 else 's'}: {said or event.status}"
        case HostCalled(child=None):
            failed = "" if event.error is None else f": {_line(event.error, _REST)}"
            return f"agent {event.node} called {event.name}{failed}"
        case ApprovalAsked():
            return f"agent {event.node} waits for approval of {event.name} ({event.node}:{event.call})"
        case Steered(action="pause" | "resume"):
            return f"run {'paused' if event.action == 'pause' else 'resumed'}"
        case Steered(action="tell"):
            return f"agent {event.node} was sent a message: {_line(event.text or '', _REST)}"
        case NodeEnded():
            why = "" if event.reason is None else f": {_line(without_address(event.reason), _REST)}"
            usage = event.usage
            return f"agent {event.node} {event.status} ({usage.calls} calls, {usage.total_tokens:,} tokens){why}"
        case _:
            return None


def without_address(reason: str) -> str:
    """Why something failed, without where the model is: that is not the business of those who are shown it."""
    return _URL.sub("the model's endpoint", reason)


def _line(text: str, width: int) -> str:
    line = " ".join(_CONTROLS.sub(" ", text[: 4 * width]).split())
    return line if len(line) <= width else line[: width - 1] + "…"
