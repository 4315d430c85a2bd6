"""One finished span, as the mapper gives it: plain data, without OpenTelemetry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from ..schema import SUMMARY

Attribute: TypeAlias = str | bool | int | float | Sequence[str]
Attributes: TypeAlias = Mapping[str, Attribute]


class Key(NamedTuple):
    """Names a span within its run, the same whenever and by whom it is made."""

    segment: int
    """0 for the run's first process, n after its n-th resumption: each has a trace of its own."""
    path: str


class Beginning(NamedTuple):
    """A span that has begun."""

    key: Key
    parent: Key | None
    name: str
    client: bool
    started: float
    attributes: Attributes
    links: Sequence[tuple[str, Key]]


class Moment(NamedTuple):
    """An event within a span."""

    name: str
    time: float
    attributes: Attributes


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanData:
    """A span that has ended. Times are seconds since the epoch."""

    key: Key
    parent: Key | None
    """None for the first span of a segment."""
    name: str
    client: bool = False
    """Whether it is a call of another service."""
    started: float
    ended: float
    attributes: Attributes
    error: str | None = None
    """Why it failed; None if it did not."""
    moments: Sequence[Moment] = ()
    links: Sequence[tuple[str, Key]] = ()
    """Spans of the same or another run that this one goes on from: the run's id, and the span's key."""

    @property
    def beginning(self) -> Beginning:
        """The span as it began."""
        return Beginning(self.key, self.parent, self.name, self.client, self.started, self.attributes, self.links)

    @property
    def seconds(self) -> float:
        """How long it took."""
        return max(0.0, self.ended - self.started)


def node_path(node: str) -> str:
    """The key's path of an agent."""
    return node


def chat_path(node: str, step: int, purpose: str) -> str:
    """The key's path of a model call."""
    return f"{node}/{step}/{'summary' if purpose == SUMMARY else 'chat'}"


def cell_path(node: str, step: int) -> str:
    """The key's path of a cell."""
    return f"{node}/{step}/cell"


def call_path(node: str, step: int, call: int) -> str:
    """The key's path of a call of a tool or of a launch."""
    return f"{node}/{step}/call/{call}"
