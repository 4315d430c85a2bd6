"""Gives the spans of one run to a tracer."""

from __future__ import annotations

from collections.abc import Mapping

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode

from .ids import span_context, with_run_ids
from .span import Attribute, Attributes, Beginning, Key, SpanData


class Sender:
    """Starts and ends the spans of one run. `tracer` serves this run alone.

    `caller` is the context in which the run's spans stand; `earlier` is the span under which its first segment ran, where that
    is known: spans of it are linked to.
    """

    def __init__(
        self, tracer: trace.Tracer, run: str, caller: Context, earlier: trace.SpanContext | None = None
    ) -> None:
        self.tracer = tracer
        self._run = run
        self._caller = caller
        self._earlier = earlier
        self._ids = with_run_ids(tracer, run)
        self._trace: int | None = None
        """Id of the trace, once a span has begun."""
        self._spans: dict[Key, Span] = {}
        """Those that have begun."""
        self._contexts: dict[str, dict[Key, Context]] = {}
        """By agent: the contexts of its spans, for what begins within them."""

    def start(self, beginning: Beginning) -> Context:
        """Start a span; the context in which it is the current one."""
        key = beginning.key
        links = [Link(self._linked(run, target)) for run, target in beginning.links]
        if self._ids is not None:
            self._ids.next = key
        try:
            span = self.tracer.start_span(
                beginning.name,
                context=self.context(beginning.parent),
                kind=SpanKind.CLIENT if beginning.client else SpanKind.INTERNAL,
                attributes=_clean(beginning.attributes),
                links=links,
                start_time=_nanoseconds(beginning.started),
            )
        finally:
            if self._ids is not None:
                self._ids.next = None
        self._trace = self._trace or span.get_span_context().trace_id
        context = trace.set_span_in_context(span, self._caller)
        self._spans[key] = span
        self._contexts.setdefault(_agent(key), {})[key] = context
        return context

    def context(self, key: Key | None) -> Context:
        """The context of a span of this run; of one that never began here, by its id."""
        if key is None:
            return self._caller
        context = self._contexts.get(_agent(key), {}).get(key)
        if context is not None:
            return context
        found = span_context(self._run, key, self._trace or self._callers_trace)
        return trace.set_span_in_context(trace.NonRecordingSpan(found), self._caller)

    def has(self, key: Key) -> bool:
        """Whether a span has begun."""
        return key in self._contexts.get(_agent(key), {})

    def end(self, data: SpanData) -> None:
        """End a span, which is started here where it was not seen to begin."""
        if data.key not in self._spans:
            self.start(data.beginning)
        span = self._spans.pop(data.key)
        span.set_attributes(_clean(data.attributes))
        for moment in data.moments:
            span.add_event(moment.name, _clean(moment.attributes), _nanoseconds(moment.time))
        if data.error is not None:
            span.set_status(Status(StatusCode.ERROR, _text(data.error)))
        span.end(_nanoseconds(data.ended))
        if "/" not in data.key.path:
            self._contexts.pop(_agent(data.key), None)

    def end_all(self) -> None:
        """End what is left, after a fault."""
        for span in self._spans.values():
            span.end()
        self._spans.clear()
        self._contexts.clear()

    @property
    def _callers_trace(self) -> int | None:
        return trace.get_current_span(self._caller).get_span_context().trace_id or None

    def _linked(self, run: str, key: Key) -> trace.SpanContext:
        earlier = self._earlier if run == self._run and key.segment == 0 else None
        return span_context(run, key, None if earlier is None else earlier.trace_id)


def _agent(key: Key) -> str:
    return key.path.partition("/")[0]


def _nanoseconds(seconds: float) -> int:
    # By way of microseconds: a double has no more of a time since 1970.
    return round(seconds * 1_000_000) * 1_000


def _clean(attributes: Attributes) -> Mapping[str, Attribute]:
    return {_text(name): _value(value) for name, value in attributes.items()}


def _value(value: Attribute) -> Attribute:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**63 else str(value)
    return [_text(each) for each in value]


def _text(text: str) -> str:
    """A text that can be encoded: agents write surrogates too."""
    return text.encode("utf-8", "replace").decode("utf-8")
