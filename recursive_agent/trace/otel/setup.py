"""Providers as the OTEL_* variables describe them, for programs of our own: the command line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter

from ...errors import ConfigurationError
from . import names
from .live import OpenTelemetry

_QUEUE = 65_536
"""Spans that wait to be sent: a tree may have thousands, and what does not fit is lost."""
_PATH = "/v1/traces"


@contextmanager
def telemetry(endpoint: str | None = None, *, content: bool | None = None) -> Iterator[OpenTelemetry]:
    """An observer whose spans, and metrics if OTEL_METRICS_EXPORTER is set, are sent as the environment says.

    All is sent when the block ends. `endpoint` is the collector's URL. Raises ConfigurationError.
    """
    resource = service()
    exporter = span_exporter(endpoint)
    tracers = TracerProvider(resource=resource)
    if exporter is not None:
        size = int(os.environ.get("OTEL_BSP_MAX_QUEUE_SIZE") or _QUEUE)
        tracers.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=size))
    kind = _kind("OTEL_METRICS_EXPORTER", "none")
    metric = OTLPMetricExporter() if kind == "otlp" else ConsoleMetricExporter() if kind == "console" else None
    meters = MeterProvider(
        [] if metric is None else [PeriodicExportingMetricReader(metric)], resource=resource, shutdown_on_exit=False
    )
    try:
        yield OpenTelemetry(tracers, meters, content=content)
    finally:
        tracers.shutdown()
        meters.shutdown()


def service() -> Resource:
    """Who sends: `rao`, unless OTEL_SERVICE_NAME or OTEL_RESOURCE_ATTRIBUTES say otherwise."""
    resource = Resource.create()
    named = str(resource.attributes.get(SERVICE_NAME, "unknown_service"))
    return resource.merge(Resource({SERVICE_NAME: names.AGENT})) if named.startswith("unknown_service") else resource


def span_exporter(endpoint: str | None = None) -> SpanExporter | None:
    """Where spans go: to a collector over HTTP, unless OTEL_TRACES_EXPORTER says `console` or `none`.

    `endpoint` is the collector's URL; default: OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, OTEL_EXPORTER_OTLP_ENDPOINT, or port 4318 of
    this machine. Raises ConfigurationError.
    """
    kind = _kind("OTEL_TRACES_EXPORTER", "otlp")
    if kind != "otlp" and endpoint is None:
        return ConsoleSpanExporter() if kind == "console" else None
    protocol = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    if protocol not in (None, "", "http/protobuf"):
        raise ConfigurationError(
            f"traces are sent with the protocol http/protobuf, not {protocol}: set OTEL_EXPORTER_OTLP_PROTOCOL to it, and the "
            "endpoint to the collector's port for HTTP (4318)"
        )
    return OTLPSpanExporter(endpoint=None if endpoint is None else traces_url(endpoint))


def traces_url(endpoint: str) -> str:
    """The URL that takes traces, from the collector's. Raises ConfigurationError."""
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError(
            f"the endpoint of a collector is a URL, such as http://localhost:4318, not {endpoint!r:.200}"
        )
    path = parts.path.rstrip("/")
    return parts._replace(path=path if path.endswith(_PATH) else path + _PATH).geturl()


def _kind(variable: str, default: str) -> str:
    kind = os.environ.get(variable, "").strip().lower() or default
    if kind not in ("otlp", "console", "none"):
        raise ConfigurationError(f"{variable} must be otlp, console or none, not {kind!r:.100}")
    return kind
