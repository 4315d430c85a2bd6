"""The client metrics of the GenAI conventions: tokens and duration of each model call."""

from __future__ import annotations

from opentelemetry.metrics import Meter

from . import names
from .span import Attribute, SpanData

_TOKENS = [4**power for power in range(14)]
_SECONDS = [0.01 * 2**power for power in range(14)]
"""The boundaries that the conventions name."""
_KEPT = (names.OPERATION, names.PROVIDER_NAME, names.REQUEST_MODEL, names.RESPONSE_MODEL)


class ClientMetrics:
    """Counts the model calls of all runs."""

    def __init__(self, meter: Meter) -> None:
        self._tokens = meter.create_histogram(
            names.TOKEN_USAGE,
            unit="{token}",
            description="Number of input and output tokens used.",
            explicit_bucket_boundaries_advisory=_TOKENS,
        )
        self._seconds = meter.create_histogram(
            names.OPERATION_DURATION,
            unit="s",
            description="GenAI operation duration.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )

    def count(self, span: SpanData) -> None:
        """Take in a span; those of model calls count."""
        if span.attributes.get(names.OPERATION) != names.CHAT:
            return
        about: dict[str, Attribute] = {name: span.attributes[name] for name in _KEPT if name in span.attributes}
        if span.error is not None:
            self._seconds.record(span.seconds, {**about, names.ERROR_TYPE: span.error})
            return
        self._seconds.record(span.seconds, about)
        for kind, name in (("input", names.INPUT_TOKENS), ("output", names.OUTPUT_TOKENS)):
            tokens = span.attributes.get(name)
            if isinstance(tokens, int):
                self._tokens.record(tokens, {**about, names.TOKEN_TYPE: kind})
