"""Ids that follow from the run and the place in its tree: what is sent twice, live and from the record, is one trace."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace import Tracer
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from .span import Key

_PROPAGATOR = TraceContextTextMapPropagator()


def trace_id(run: str, segment: int) -> int:
    """The id of the trace of a segment that has no caller."""
    return _number(f"rao/{run}/{segment}", 16)


def span_id(run: str, key: Key) -> int:
    """The id of a span."""
    return _number(f"rao/{run}/{key.segment}/{key.path}", 8)


def span_context(run: str, key: Key, trace_number: int | None = None) -> trace.SpanContext:
    """The context of a span by its key alone; `trace_number` is the id of its trace, where that is the caller's."""
    trace_number = trace_id(run, key.segment) if trace_number is None else trace_number
    flags = trace.TraceFlags(trace.TraceFlags.SAMPLED)
    return trace.SpanContext(trace_number, span_id(run, key), is_remote=True, trace_flags=flags)


def recorded_caller(settings: Mapping[str, Any]) -> trace.SpanContext | None:
    """The span under which a run was started, as its trace says; None if there was none."""
    watched = settings.get("otel")
    parent = watched.get("traceparent") if isinstance(watched, Mapping) else None
    if not isinstance(parent, str):
        return None
    found = trace.get_current_span(_PROPAGATOR.extract({"traceparent": parent})).get_span_context()
    return found if found.is_valid else None


def traceparent(context: trace.SpanContext) -> str:
    """A span's context in W3C form."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier, trace.set_span_in_context(trace.NonRecordingSpan(context)))
    return carrier["traceparent"]


class RunIds(IdGenerator):
    """Gives the next span the ids of a key; all others those of another generator."""

    def __init__(self, run: str, other: IdGenerator) -> None:
        self._run = run
        self._other = other
        self.next: Key | None = None
        """The key of the span that is started now."""

    def generate_span_id(self) -> int:
        """The id of the next span."""
        return self._other.generate_span_id() if self.next is None else span_id(self._run, self.next)

    def generate_trace_id(self) -> int:
        """The id of the trace that it begins."""
        return self._other.generate_trace_id() if self.next is None else trace_id(self._run, self.next.segment)


def with_run_ids(tracer: trace.Tracer, run: str) -> RunIds | None:
    """Let a tracer, which must serve this run alone, use a run's ids; None if it is not one of the SDK."""
    if not isinstance(tracer, Tracer):
        return None
    ids = tracer.id_generator = RunIds(run, tracer.id_generator)
    return ids


def _number(text: str, size: int) -> int:
    return int.from_bytes(sha256(text.encode("utf-8", "replace")).digest()[:size], "big") or 1
