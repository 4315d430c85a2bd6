"""Runs as OpenTelemetry traces, while they go on (`OpenTelemetry`) and from their records (`export_trace`).

Spans are made from the events of a run, the same for both: see `mapper`. Needs the extra `rao[otel]`.
"""

try:
    import opentelemetry.sdk.trace  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"OpenTelemetry needs more packages: pip install 'rao[otel]' ({error.name} is missing)", name=error.name
    ) from error

from .export import export_trace
from .live import OpenTelemetry
from .setup import telemetry

__all__ = ["OpenTelemetry", "export_trace", "telemetry"]
