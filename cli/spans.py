"""Recorded runs for a collector of OpenTelemetry. Needs the extra `otel`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from recursive_agent.errors import ConfigurationError, EndpointUnavailable, TraceError
from recursive_agent.trace.folder import TraceState, read_trace, traces_below
from recursive_agent.trace.otel import export_trace
from recursive_agent.trace.otel.setup import service, span_exporter

from .messages import say
from .text import count


def send(place: Path, *, endpoint: str | None, content: bool | None) -> None:
    """Send a trace file, or those of a folder and its sub-folders, and print how many runs were sent.

    Raises ConfigurationError, TraceError if there is nothing to send, EndpointUnavailable if the collector does not take it.
    """
    exporter = span_exporter(endpoint)
    if exporter is None:
        raise ConfigurationError(
            "OTEL_TRACES_EXPORTER is none, so nothing can be sent; unset it, or pass --otel-endpoint"
        )
    files = [place] if place.is_file() else traces_below(place)
    left: Counter[str] = Counter()
    runs = spans = 0
    resource = service()
    try:
        for path in files:
            file = read_trace(path)
            if file.state is TraceState.IN_PROGRESS:
                left["still running"] += 1
            elif file.tree is None or not file.tree.nodes:
                left["unreadable"] += 1
            else:
                spans += export_trace(path, exporter, content=content, resource=resource)
                runs += 1
    except ConnectionError as error:
        raise EndpointUnavailable(str(error)) from error
    finally:
        exporter.shutdown()
    reasons = ", ".join(f"{number:,} {reason}" for reason, number in left.items())
    if not runs:
        raise TraceError(f"no run in {place} can be sent{f': {reasons}' if reasons else ''}")
    say(f"{count(spans, 'span')}{f'; left out: {reasons}' if reasons else ''}")
    print(f"{count(runs, 'run')} sent")
