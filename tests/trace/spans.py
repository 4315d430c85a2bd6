"""What holds of the spans of every run, and how live and recorded ones are compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from recursive_agent.trace.otel import names
from recursive_agent.trace.otel.span import SpanData
from recursive_agent.usage import Usage

USAGE = (names.INPUT_TOKENS, names.OUTPUT_TOKENS, names.CACHED_TOKENS, "rao.cost", "rao.unconfirmed_tokens")
SLACK = 1e-5
"""Seconds by which times that were added up may differ."""


def faults(spans: Sequence[SpanData], *, shared: bool = False) -> Iterator[str]:
    """What is wrong with the spans of a run. With `shared`, sub-agents may outlast who launched them."""
    by_key = {span.key: span for span in spans}
    yield from (f"{key} twice" for key, number in Counter(span.key for span in spans).items() if number > 1)
    for segment in {span.key.segment for span in spans}:
        roots = [span for span in spans if span.key.segment == segment and span.parent is None]
        if len(roots) != 1 or not roots[0].name.startswith("invoke_agent"):
            yield f"{len(roots)} roots in segment {segment}: {[span.name for span in roots]}"
    for span in spans:
        operation = span.attributes[names.OPERATION]
        if span.ended < span.started:
            yield f"{span.key} ends before it starts"
        if operation != names.CHAT and (used := [name for name in USAGE if name in span.attributes]):
            yield f"{span.key} is no model call and has {used}"
        if (span.error is None) != (names.ERROR_TYPE not in span.attributes):
            yield f"{span.key} has the error {span.error!r} and other attributes"
        if span.parent is None:
            continue
        parent = by_key.get(span.parent)
        if parent is None:
            yield f"the parent {span.parent} of {span.key} is not there"
            continue
        if span.started < parent.started - SLACK:
            yield f"{span.key} starts before its parent"
        outlasts = "/call/" in span.key.path or (shared and "/" not in span.key.path)
        if span.ended > parent.ended + SLACK and not outlasts:
            yield f"{span.key} ends after its parent"


def tokens(spans: Iterable[SpanData]) -> tuple[int, int, int]:
    """Prompt, completion and cached tokens of all spans."""
    found = [[int(span.attributes.get(name, 0)) for name in USAGE[:3]] for span in spans]  # type: ignore[arg-type]
    prompt, completion, cached = (sum(column) for column in zip(*found, strict=True)) if found else (0, 0, 0)
    return prompt, completion, cached


def billed(usage: Usage) -> tuple[int, int, int]:
    """The same of a usage."""
    return usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens


def in_memory() -> tuple[TracerProvider, InMemorySpanExporter]:
    """A provider of the SDK, and where its spans go."""
    memory = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(memory))
    return provider, memory


def comparable(spans: Iterable[ReadableSpan], *, only_live: Iterable[str] = ()) -> dict[int, Any]:
    """Spans by id, as far as live and recorded ones agree: in all but the scores of sub-agents, which come too late for live
    spans. `only_live` are classes of errors of spans that a record does not hold."""
    left_out = set(only_live)
    found = {}
    for span in spans:
        attributes: Mapping[str, Any] = span.attributes or {}
        if attributes.get(names.ERROR_TYPE) in left_out:
            continue
        assert span.context is not None
        kept = {name: value for name, value in attributes.items() if name != "rao.score" or span.parent is None}
        moments = [(event.name, event.timestamp, dict(event.attributes or {})) for event in span.events]
        found[span.context.span_id] = (
            span.name,
            span.context.trace_id,
            None if span.parent is None else span.parent.span_id,
            span.kind,
            (span.start_time, span.end_time),
            (span.status.status_code, span.status.description),
            kept,
            moments,
            [(link.context.trace_id, link.context.span_id) for link in span.links],
        )
    return found
