"""`--otel`: runs as OpenTelemetry traces."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from .extras import needs

if TYPE_CHECKING:
    from recursive_agent import Observer

OtelOption = Annotated[
    bool,
    typer.Option(
        "--otel",
        metavar="",
        help="Send the run as an OpenTelemetry trace to the collector that OTEL_EXPORTER_OTLP_ENDPOINT names. Default: port "
        "4318 of this machine.",
        rich_help_panel="Output",
    ),
]


@contextmanager
def observing(otel: bool) -> Iterator[list[Observer]]:
    """The observers for a run; what they hold is sent when the block ends. Raises ConfigurationError."""
    if not otel:
        yield []
        return
    with needs("otel", "--otel"):
        from recursive_agent.trace.otel import telemetry
    with telemetry() as observer:
        yield [observer]
