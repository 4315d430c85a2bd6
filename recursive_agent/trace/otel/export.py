"""`export_trace`: a recorded run as a trace of OpenTelemetry."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from ..._version import __version__
from ...errors import TraceError
from ..schema import Event, HostCalled, RunResumed, Scored
from ..store import read_events
from ..tree import TreeBuilder
from . import names
from .content import Content, wanted
from .ids import recorded_caller
from .mapper import SpanMapper
from .sender import Sender
from .span import SpanData

_BATCH = 512
"""Spans that are sent at once."""


def spans_of(events: Iterable[Event], content: Content | None = None) -> list[SpanData]:
    """All spans of a recorded run, each after its children. Raises TraceError for events that form no run."""
    events = list(events)
    scores = {event.node: event.score for event in events if isinstance(event, Scored) and event.score is not None}
    mapper, builder = SpanMapper(content or Content(False), scores, _first_calls(events)), TreeBuilder()
    spans: list[SpanData] = []
    for event in events:
        if isinstance(event, RunResumed) and builder.tree is not None:
            spans += mapper.close(builder.tree)
        builder.add(event)
        spans += mapper.add(event)
    return [*spans, *mapper.close(builder.tree)]


def _first_calls(events: Iterable[Event]) -> dict[tuple[int, str, int], float]:
    """When the first call of each step began, by segment, agent and step."""
    found: dict[tuple[int, str, int], float] = {}
    segment = 0
    for event in events:
        if isinstance(event, RunResumed):
            segment += 1
        elif isinstance(event, HostCalled):
            place = (segment, event.node, event.step)
            found[place] = min(event.started, found.get(place, event.started))
    return found


def export_trace(
    path: str | Path, exporter: SpanExporter, *, content: bool | None = None, resource: Resource | None = None
) -> int:
    """Send a trace file as spans, and return how many there are.

    Their ids follow from the run, so that sending it again changes nothing. If the run was watched while it went on and started
    under a caller's span, its first trace stands there again. Goals, messages, code and results are sent only if `content` says
    so, or OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT. Raises TraceError if the file is no trace, ConnectionError if the
    collector does not take the spans.
    """
    spans = readable_spans(read_events(path), content=content, resource=resource)
    if not spans:
        raise TraceError(f"{path}: the run stopped before its first agent was started")
    for first in range(0, len(spans), _BATCH):
        if exporter.export(spans[first : first + _BATCH]) is not SpanExportResult.SUCCESS:
            raise ConnectionError(
                f"{path}: the collector did not take all spans; see the message above, then send it again"
            )
    return len(spans)


def readable_spans(
    events: Iterable[Event], *, content: bool | None = None, resource: Resource | None = None
) -> Sequence[ReadableSpan]:
    """A recorded run as finished spans of the SDK. Raises TraceError."""
    events = list(events)
    mapped = spans_of(events, Content(wanted(content)))
    if not mapped:
        return []
    start = TreeBuilder().add(events[0]).tree
    assert start is not None
    collected = _Collected()
    provider = TracerProvider(sampler=ALWAYS_ON, resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(collected)
    caller = recorded_caller(start.settings)
    senders: dict[int, Sender] = {}
    for span in mapped:
        segment = span.key.segment
        if segment not in senders:
            here = Context()
            if caller is not None and segment == 0:
                here = trace.set_span_in_context(trace.NonRecordingSpan(caller), here)
            senders[segment] = Sender(provider.get_tracer(names.SCOPE, __version__), start.run, here, caller)
        senders[segment].end(span)
    return collected.spans


class _Collected(SpanProcessor):
    """Keeps the spans that end."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        """Keep it."""
        self.spans.append(span)
