"""`OpenTelemetry`: the runs of an agent as traces, while they go on."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pickle import PicklingError
from typing import Any

from opentelemetry import context as contexts
from opentelemetry import metrics, propagate, trace
from opentelemetry.context import Context

from ..._version import __version__
from ..observer import INCOMING, Work
from ..schema import Event, NodeResumed, NodeStarted, RunResumed
from ..tree import ExecutionTree
from . import names
from .content import Content, wanted
from .ids import recorded_caller, traceparent
from .mapper import SpanMapper
from .metrics import ClientMetrics
from .sender import Sender
from .span import Key, SpanData


class OpenTelemetry:
    """Sends the runs of an agent as OpenTelemetry traces: `Agent(observers=[OpenTelemetry()])`.

    Spans and metrics go to these providers, by default to the global ones of the process. The current span when the run
    starts becomes the parent. Spans have no messages, goals, code or results, unless `content` is True or the variable
    OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT says so. `agent_name` tells several agents of a program apart.
    """

    def __init__(
        self,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
        *,
        content: bool | None = None,
        agent_name: str = names.AGENT,
    ) -> None:
        self._tracers = tracer_provider
        self._meters = meter_provider
        self._content = content
        self._agent_name = agent_name
        self._metrics: ClientMetrics | None = None

    def watch(self, *, run: str, secrets: Sequence[str], resumptions: int | None = None) -> _Run:
        """The observer of one run; see `Observer`."""
        provider = self._tracers or trace.get_tracer_provider()
        if self._metrics is None:
            meters = self._meters or metrics.get_meter_provider()
            self._metrics = ClientMetrics(meters.get_meter(names.SCOPE, __version__))
        return _Run(
            provider.get_tracer(names.SCOPE, __version__),
            self._metrics,
            Content(wanted(self._content), secrets),
            run,
            agent_name=self._agent_name,
            resumptions=resumptions,
        )

    def __getstate__(self) -> dict[str, Any]:
        """Another process has global providers of its own."""
        if self._tracers is not None or self._meters is not None:
            raise PicklingError(
                "OpenTelemetry with a provider cannot be pickled: set the provider globally in each process"
            )
        return {**self.__dict__, "_metrics": None}


class _Run:
    """Watches one run."""

    def __init__(
        self,
        tracer: trace.Tracer,
        metrics: ClientMetrics,
        content: Content,
        run: str,
        *,
        agent_name: str,
        resumptions: int | None,
    ) -> None:
        self._tracer = tracer
        self._metrics = metrics
        self._run = run
        self._agent_name = agent_name
        self._caller = _callers_context()
        self._mapper = SpanMapper(content)
        self._sender: Sender | None = None
        self._before = 0 if resumptions is None else resumptions + 1
        """Resumptions to come, until what comes is new: what was before was sent by an earlier process."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """What a span from the record must know to be the same span."""
        caller = trace.get_current_span(self._caller).get_span_context()
        about = {} if self._agent_name == names.AGENT else {"agent_name": self._agent_name}
        if caller.is_valid:
            about["traceparent"] = traceparent(caller)
        return {"otel": about} if about else {}

    def event(self, event: Event) -> None:
        """End the spans that this event ends, and start that of an agent."""
        ended = self._mapper.add(event)
        if self._before:
            if not isinstance(event, RunResumed):
                return
            self._before -= 1
            ended = []
        self._end(ended)
        if isinstance(event, NodeStarted | NodeResumed) and not self._before:
            key = self._mapper.node_key(event.node)
            if key is not None:
                self._start(key)

    def doing(self, work: Work) -> AbstractContextManager[None]:
        """Start the span of work and make it the current one of the task that does it."""
        return self._within(work)

    def close(self, record: ExecutionTree | None) -> None:
        """End what is left."""
        if self._before:
            return
        try:
            self._end(self._mapper.close(record))
        finally:
            if self._sender is not None:
                self._sender.end_all()

    @contextmanager
    def _within(self, work: Work) -> Iterator[None]:
        key = None if self._before else self._mapper.key_of(work)
        if key is None:
            yield
            return
        context = self._start(key)
        token = contexts.attach(context)
        try:
            yield
        except BaseException as error:
            kind = type(error).__name__ if isinstance(error, Exception) else "cancelled"
            self._mapper.failed(work, kind, time.time())
            raise
        finally:
            if contexts.get_current() is context:  # not where a coroutine is thrown away in another task
                contexts.detach(token)

    def _start(self, key: Key) -> Context:
        sender = self._sender
        if sender is None:
            start = self._mapper.about.start
            sender = self._sender = Sender(self._tracer, self._run, self._caller, recorded_caller(start.settings))
        if not sender.has(key) and (begun := self._mapper.begun(key)) is not None:
            if begun.parent is not None and not sender.has(begun.parent):
                self._start(begun.parent)
            return sender.start(begun)
        return sender.context(key)

    def _end(self, ended: Sequence[SpanData]) -> None:
        for span in ended:
            self._metrics.count(span)
            if span.parent is not None:
                self._start(span.parent)
            if self._sender is None:
                self._start(span.key)
            if self._sender is not None:
                self._sender.end(span)


def _callers_context() -> Context:
    """The context of the caller; if that has no span, of the request that the run answers."""
    current = contexts.get_current()
    if trace.get_current_span(current).get_span_context().is_valid:
        return current
    headers = INCOMING.get()
    return current if headers is None else propagate.extract(headers, current)
