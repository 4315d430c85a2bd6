"""Runs as traces while they go on: the same spans as from the record, and never an orphan."""

from __future__ import annotations

import logging
import pickle
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from recursive_agent import (
    Agent,
    ConfigurationError,
    Event,
    ExecutionTree,
    ModelError,
    NodeStarted,
    OpenTelemetry,
    Status,
    Work,
)
from recursive_agent.testing import Fault, ScriptedEndpoint, by_goal, replies
from recursive_agent.trace.otel import names
from recursive_agent.trace.otel.export import readable_spans
from recursive_agent.trace.store import read_events
from tests.trace.spans import comparable, in_memory

from .helpers import agent_on, py

pytestmark = pytest.mark.anyio

TREE = {
    "root": [
        py("import asyncio\nprint(await asyncio.gather(launch_subagent('one'), launch_subagent('two')))"),
        py("1/0"),
        py("finish('x')"),
    ],
    "one": [py("finish(await look('a'))")],
    "two": [py("finish(2)")],
}


async def look(word: str) -> str:
    """Look a word up; other libraries make spans of their own meanwhile."""
    with trace.get_tracer("library", tracer_provider=PROVIDERS[-1]).start_as_current_span("GET"):
        return word


def look_in_thread(word: str) -> str:
    """The same in a thread."""
    with trace.get_tracer("library", tracer_provider=PROVIDERS[-1]).start_as_current_span("GET"):
        return word


PROVIDERS: list[TracerProvider] = []


@pytest.fixture
def telemetry() -> Iterator[tuple[TracerProvider, InMemorySpanExporter]]:
    provider, memory = in_memory()
    PROVIDERS.append(provider)
    yield provider, memory
    PROVIDERS.remove(provider)


def ours(spans: Sequence[ReadableSpan]) -> list[ReadableSpan]:
    return [span for span in spans if span.instrumentation_scope and span.instrumentation_scope.name == names.SCOPE]


def parents(spans: Sequence[ReadableSpan]) -> dict[int, ReadableSpan]:
    return {span.context.span_id: span for span in spans if span.context}


def recorded(path: Path | None) -> list[ReadableSpan]:
    assert path is not None
    return list(readable_spans(read_events(path)))


async def test_live_and_recorded_spans_are_the_same(telemetry: Any, tmp_path: Path) -> None:
    provider, memory = telemetry
    async with ScriptedEndpoint(by_goal(TREE)) as endpoint:
        agent = agent_on(endpoint, tools=(look,), trace_dir=tmp_path, observers=[OpenTelemetry(provider)])
        result = await agent.solve("root", score=lambda node: 0.5)
    assert result.status is Status.FINISHED
    live = ours(memory.get_finished_spans())
    assert len(live) == 17
    assert comparable(live) == comparable(recorded(result.trace_path))
    root = next(span for span in live if span.parent is None)
    assert root.attributes
    assert root.attributes["rao.score"] == 0.5
    assert root.attributes["rao.agents"] == 3
    assert root.attributes["rao.critical_path.seconds"] == result.tree.critical_path.seconds
    assert (
        sum(span.attributes.get(names.INPUT_TOKENS, 0) for span in live if span.attributes)
        == result.usage.prompt_tokens
    )  # type: ignore[misc]


@pytest.mark.parametrize("tool", [look, look_in_thread])
async def test_spans_of_a_tool_stand_under_its_call_and_the_run_under_the_callers(tool: Any, telemetry: Any) -> None:
    provider, memory = telemetry
    async with ScriptedEndpoint(replies([py(f"finish(await {tool.__name__}('a'))")])) as endpoint:
        agent = agent_on(endpoint, tools=(tool,), observers=[OpenTelemetry(provider)])
        with trace.get_tracer("app", tracer_provider=provider).start_as_current_span("request") as request:
            await agent.solve("goal")
            assert trace.get_current_span() is request
    spans = memory.get_finished_spans()
    by_id = parents(spans)
    up, line = next(span for span in spans if span.name == "GET"), []
    while up.parent is not None:
        up = by_id[up.parent.span_id]
        line.append(up.name)
    assert line == [f"execute_tool {tool.__name__}", "execute_tool python", "invoke_agent rao", "request"]
    assert {span.context.trace_id for span in spans if span.context} == {request.get_span_context().trace_id}


async def test_the_record_remembers_the_callers_span(telemetry: Any, tmp_path: Path) -> None:
    provider, memory = telemetry
    async with ScriptedEndpoint(replies([py("finish(1)")])) as endpoint:
        agent = agent_on(endpoint, trace_dir=tmp_path, observers=[OpenTelemetry(provider, agent_name="billing")])
        with trace.get_tracer("app", tracer_provider=provider).start_as_current_span("request"):
            result = await agent.solve("goal")
    live = ours(memory.get_finished_spans())
    assert comparable(live) == comparable(recorded(result.trace_path))
    assert "invoke_agent billing" in {span.name for span in live}


async def test_a_cancelled_agent_ends_all_it_had_begun(telemetry: Any, tmp_path: Path) -> None:
    provider, memory = telemetry
    tree = {"root": [py("finish(await launch_subagent('slow'))")], "slow": [py("await wait()")]}

    async def wait() -> None:
        """Wait for ever."""
        await anyio.sleep_forever()

    async with ScriptedEndpoint(by_goal(tree)) as endpoint:
        agent = agent_on(endpoint, tools=(wait,), trace_dir=tmp_path, observers=[OpenTelemetry(provider)])
        started = anyio.Event()

        async def run() -> None:
            async with agent.stream("root") as stream:
                async for event in stream:
                    if isinstance(event, NodeStarted) and event.node == "0.0":
                        started.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            await started.wait()
            while not any("chat" in span.name for span in memory.get_finished_spans()[1:]):
                await anyio.sleep(0.01)
            assert all(span.parent is not None for span in memory.get_finished_spans())
            tasks.cancel_scope.cancel()
    spans = memory.get_finished_spans()
    agents = [span for span in spans if span.name == "invoke_agent rao"]
    assert [span.status.description for span in agents] == ["cancelled", "cancelled"]
    by_id = parents(spans)
    assert sum(span.parent is None for span in spans) == 1
    assert all(span.parent is None or span.parent.span_id in by_id for span in spans)
    (path,) = tmp_path.glob("*.jsonl")
    unseen = comparable(spans).keys() - comparable(recorded(path)).keys()
    assert {by_id[each].name.split()[0] for each in unseen} <= {
        "chat",
        "execute_tool",
    }  # those that never came to an end


async def test_a_failing_endpoint_is_an_error_of_its_model_call_and_of_the_run(telemetry: Any) -> None:
    provider, memory = telemetry
    reader = InMemoryMetricReader()
    meters = MeterProvider([reader], shutdown_on_exit=False)
    async with ScriptedEndpoint(replies([Fault.http(401, "the key SECRET is wrong")])) as endpoint:
        agent = agent_on(endpoint, observers=[OpenTelemetry(provider, meters)])
        with pytest.raises(ModelError):
            await agent.solve("goal")
    chat, root = memory.get_finished_spans()
    assert (chat.name, chat.status.description) == ("chat scripted", "AuthenticationFailed")
    assert (root.name, root.status.description) == ("invoke_agent rao", "infra_error")
    assert not any("SECRET" in span.to_json() for span in (chat, root))
    data = reader.get_metrics_data()
    assert data is not None
    (metric,) = data.resource_metrics[0].scope_metrics[0].metrics
    assert metric.name == "gen_ai.client.operation.duration"


async def test_model_calls_are_counted_as_metrics(telemetry: Any) -> None:
    provider, _ = telemetry
    reader = InMemoryMetricReader()
    async with ScriptedEndpoint(by_goal(TREE)) as endpoint:
        observer = OpenTelemetry(provider, MeterProvider([reader], shutdown_on_exit=False))
        result = await agent_on(endpoint, tools=(look,), observers=[observer]).solve("root")
    data = reader.get_metrics_data()
    assert data is not None
    found = {metric.name: metric.data.data_points for metric in data.resource_metrics[0].scope_metrics[0].metrics}
    sums = {point.attributes[names.TOKEN_TYPE]: point.sum for point in found[names.TOKEN_USAGE]}  # type: ignore[index,union-attr]
    assert sums == {"input": result.usage.prompt_tokens, "output": result.usage.completion_tokens}
    (durations,) = found[names.OPERATION_DURATION]
    assert durations.count == result.usage.calls  # type: ignore[union-attr]


async def test_content_is_opted_into_and_never_holds_the_key(telemetry: Any) -> None:
    provider, memory = telemetry
    script = [py("print('sk-secret-of-the-test')"), py("finish('the result')")]
    for content in (None, True):
        memory.clear()
        async with ScriptedEndpoint(replies(script)) as endpoint:
            await agent_on(endpoint, observers=[OpenTelemetry(provider, content=content)]).solve("the goal")
        shown = "".join(span.to_json() for span in memory.get_finished_spans())
        assert ("the goal" in shown, "the result" in shown) == (bool(content), bool(content))
        assert "sk-secret-of-the-test" not in shown


async def test_a_resumed_run_goes_on_in_a_linked_trace(telemetry: Any, tmp_path: Path) -> None:
    provider, memory = telemetry
    async with ScriptedEndpoint(replies([py("print(1)"), py("print(2)"), py("finish(3)")])) as endpoint:
        observers = [OpenTelemetry(provider)]
        first = await agent_on(endpoint, trace_dir=tmp_path, observers=observers, max_steps=1).solve("goal")
        assert first.status is Status.STEP_LIMIT
        assert first.trace_path is not None
        second = await agent_on(endpoint, trace_dir=tmp_path, observers=observers, max_steps=5).resume(first.trace_path)
    assert second.output == 3
    live = memory.get_finished_spans()
    roots = [span for span in live if span.parent is None]
    assert [root.status.description for root in roots] == ["step_limit", None]
    assert roots[0].context is not None
    (link,) = roots[1].links
    assert (link.context.trace_id, link.context.span_id) == (roots[0].context.trace_id, roots[0].context.span_id)
    assert sum(span.name.startswith("chat") for span in live) == second.usage.calls
    assert comparable(live) == comparable(recorded(second.trace_path))


async def test_runs_at_the_same_time_are_traces_of_their_own(telemetry: Any) -> None:
    provider, memory = telemetry
    async with ScriptedEndpoint(by_goal({"a": [py("finish(1)")], "b": [py("finish(2)")]})) as endpoint:
        agent = agent_on(endpoint, observers=[OpenTelemetry(provider)])
        async with anyio.create_task_group() as tasks:
            for goal in ("a", "b"):
                tasks.start_soon(agent.solve, goal)
    by_trace: dict[int, set[str]] = {}
    for span in memory.get_finished_spans():
        assert span.context is not None
        by_trace.setdefault(span.context.trace_id, set()).add(str((span.attributes or {})["rao.run"]))
    assert sorted(map(len, by_trace.values())) == [1, 1]


# -- observers --------------------------------------------------------------------------------------------------------


class Broken:
    """An observer all of whose methods fail."""

    settings: dict[str, Any] = {}  # noqa: RUF012

    def watch(self, **about: Any) -> Broken:
        return self

    def event(self, event: Event) -> None:
        raise RuntimeError("event")

    def doing(self, work: Work) -> AbstractContextManager[None]:
        @contextmanager
        def fail() -> Iterator[None]:
            if work.kind == "cell":
                raise RuntimeError("cell")
            yield
            raise RuntimeError("after")

        return fail()

    def close(self, record: ExecutionTree | None) -> None:
        raise RuntimeError("close")


class Absent(Broken):
    """An observer that cannot even begin."""

    def watch(self, **about: Any) -> Broken:
        raise RuntimeError("watch")


async def test_an_observer_that_fails_ends_no_run(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, logger="recursive_agent"):
        async with ScriptedEndpoint(replies([py("finish(1)")])) as endpoint:
            result = await agent_on(endpoint, observers=[Absent(), Broken()]).solve("goal")
    assert result.output == 1


def test_what_is_no_observer_is_refused() -> None:
    for wrong in (["otel"], [OpenTelemetry], OpenTelemetry):
        with pytest.raises(ConfigurationError, match="observers must be a list of observers"):
            Agent("m", "http://localhost:1/v1", observers=wrong)  # type: ignore[arg-type]


def test_an_observer_of_global_providers_goes_along_to_another_process() -> None:
    agent = Agent("m", "http://localhost:1/v1", observers=[OpenTelemetry(content=True)])
    assert len(pickle.loads(pickle.dumps(agent)).observers) == 1
    with pytest.raises(pickle.PicklingError, match="set the provider globally"):
        pickle.dumps(OpenTelemetry(in_memory()[0]))


def test_without_observers_nothing_of_opentelemetry_is_imported() -> None:
    code = """
import sys
import recursive_agent
recursive_agent.Agent("m", "http://localhost:1/v1")
print(sorted(name for name in sys.modules if name.startswith("opentelemetry") or "otel" in name))
"""
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_without_its_packages_the_message_says_what_to_install() -> None:
    code = "import sys; sys.modules['opentelemetry'] = None\nfrom recursive_agent import OpenTelemetry"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "pip install 'rao[otel]'" in done.stderr
