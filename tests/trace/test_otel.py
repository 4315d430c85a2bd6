"""From events to spans: pure, and the same however often."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import StatusCode

from recursive_agent import Status, TraceError, Usage
from recursive_agent.model.base import Message, ToolCall
from recursive_agent.trace.otel import export_trace, names
from recursive_agent.trace.otel.content import LONGEST, Content, wanted
from recursive_agent.trace.otel.export import readable_spans, spans_of
from recursive_agent.trace.otel.setup import service, span_exporter, traces_url
from recursive_agent.trace.otel.span import SpanData
from recursive_agent.trace.schema import (
    ApprovalAnswered,
    Event,
    HostCalled,
    NodeResumed,
    NodeStarted,
    RunEnded,
    RunResumed,
    Scored,
    Steered,
)
from recursive_agent.trace.store import TraceWriter
from recursive_agent.trace.tree import ExecutionTree

from .events import cell_ran, model_called, node_ended, node_started, run_started, runs
from .spans import billed, faults, tokens

ENDED = RunEnded(time=9.0, status=Status.FINISHED, usage=Usage())


def of(spans: list[SpanData], path: str, segment: int = 0) -> SpanData:
    (found,) = [span for span in spans if span.key == (segment, path)]
    return found


def launched(happened: list[Event]) -> list[Event]:
    """The run with its launches as they are recorded: numbered within an agent, and named by the agents that they start."""
    calls = {each.child: each for each in happened if isinstance(each, HostCalled)}
    number = {child: place for place, child in enumerate(calls, 1)}
    found: list[Event] = []
    for event in happened:
        if isinstance(event, HostCalled):
            event = replace(event, call=number[event.child])
        elif isinstance(event, NodeStarted) and event.node in calls:
            event = replace(event, step=calls[event.node].step, call=number[event.node])
        found.append(event)
    return found


trees = runs().map(launched)


def called(name: str, *, time: float, started: float, call: int = 1, **more: Any) -> HostCalled:
    return HostCalled(**{"node": "0", "step": 1, "name": name, "time": time, "started": started, "call": call, **more})


# -- every run --------------------------------------------------------------------------------------------------------


@given(trees)
def test_a_run_is_one_trace_whose_model_calls_alone_have_its_usage(happened: list[Event]) -> None:
    spans = spans_of(happened)
    assert not list(faults(spans))
    usage = sum((event.usage for event in happened if event.kind == "model_called"), Usage())  # type: ignore[attr-defined]
    assert tokens(spans) == billed(usage)
    tree = ExecutionTree.from_events(happened)
    agents = [span for span in spans if span.attributes[names.OPERATION] == names.INVOKE_AGENT]
    assert {span.attributes["rao.node"] for span in agents} == set(tree.nodes)
    for span in agents:
        node = tree.nodes[str(span.attributes["rao.node"])]
        assert (span.started, span.ended) == (node.started, node.end)
        if node.parent is not None:
            assert span.parent is not None
            launch = next(each for each in spans if each.key == span.parent)
            assert launch.name == "execute_tool launch_subagent"
            assert launch.attributes["rao.node"] == node.parent


@given(trees, st.data())
def test_a_run_that_was_killed_at_any_event_is_a_whole_trace_too(happened: list[Event], data: st.DataObject) -> None:
    cut = happened[: data.draw(st.integers(2, len(happened)))]
    spans = spans_of(cut)
    assert not list(faults(spans))
    killed = {event.node for event in cut if event.kind == "node_started"} - {  # type: ignore[attr-defined]
        event.node  # type: ignore[attr-defined]
        for event in cut
        if event.kind == "node_ended"
    }
    shown = {span.attributes["rao.node"] for span in spans if span.attributes.get("rao.status") == "running"}
    assert shown == killed
    assert all(of(spans, node).error == "interrupted" for node in killed)


@given(trees)
def test_the_same_run_has_the_same_ids_and_another_has_others(happened: list[Event]) -> None:
    first, second = readable_spans(happened), readable_spans(happened)
    ids = [(span.context.trace_id, span.context.span_id) for span in first if span.context]
    assert ids == [(span.context.trace_id, span.context.span_id) for span in second if span.context]
    assert len(set(ids)) == len(ids)
    other = readable_spans([run_started(1.0, run="r2"), *happened[1:]])
    assert not {trace for trace, _ in ids} & {span.context.trace_id for span in other if span.context}


# -- what spans say ---------------------------------------------------------------------------------------------------


def whole_run() -> list[Event]:
    return [
        run_started(0.0, settings={"provider": "mistral_ai", "temperature": 0.5, "max_tokens": 100, "stop": ["##"]}),
        node_started("0", 0.1, goal="SECRET goal", max_steps=7),
        model_called(
            "0",
            1,
            0.2,
            1.0,
            text="SECRET answer",
            messages=(Message("user", "SECRET prompt"),),
            usage=Usage(calls=1, prompt_tokens=10, completion_tokens=5, cached_tokens=4, cost=0.25),
            version="v3",
            tool_calls=(ToolCall("c1", "python", "SECRET"),),
        ),
        called("search", started=1.2, time=1.5, args=("SECRET argument",), result="SECRET result"),
        called("search", started=1.5, time=1.6, call=2, error="ToolError: search() raised SECRET"),
        cell_ran(
            "0", 1, 1.1, 2.0, code="SECRET code", output="SECRET output", status="error", error="x\nKeyError: 'SECRET'"
        ),
        node_ended("0", 3.0, status=Status.STEP_LIMIT, reason="SECRET reason"),
        ENDED,
    ]


def test_spans_have_the_attributes_of_the_conventions() -> None:
    spans = spans_of(whole_run())
    chat = of(spans, "0/1/chat")
    assert chat.name == "chat m"
    assert chat.client
    assert {
        names.OPERATION: "chat",
        names.PROVIDER_NAME: "mistral_ai",
        names.REQUEST_MODEL: "m",
        names.RESPONSE_MODEL: "m",
        names.REQUEST_TEMPERATURE: 0.5,
        names.REQUEST_MAX_TOKENS: 100,
        names.REQUEST_STOP: ["##"],
        names.FINISH_REASONS: ["stop"],
        names.INPUT_TOKENS: 10,
        names.OUTPUT_TOKENS: 5,
        names.CACHED_TOKENS: 4,
        names.AGENT_NAME: "rao",
        names.AGENT_ID: "r1/0",
        names.CONVERSATION: "r1",
        "rao.cost": 0.25,
    }.items() <= dict(chat.attributes).items()
    cell = of(spans, "0/1/cell")
    assert (cell.name, cell.error) == ("execute_tool python", "KeyError")
    good, bad = of(spans, "0/1/call/1"), of(spans, "0/1/call/2")
    assert good.name == "execute_tool search"
    assert good.attributes[names.TOOL_NAME] == "search"
    assert (good.parent, good.error, bad.error) == (cell.key, None, "ToolError")
    agent = of(spans, "0")
    assert agent.name == "invoke_agent rao"
    assert (agent.error, agent.attributes[names.ERROR_TYPE], agent.attributes["rao.status"]) == ("step_limit",) * 3
    assert (agent.attributes["rao.limits.max_steps"], agent.attributes["rao.steps"]) == (7, 1)
    root = readable_spans(whole_run())[-1]
    assert (root.status.status_code, root.status.description) == (StatusCode.ERROR, "step_limit")


def test_content_is_there_only_for_those_who_ask_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not any("SECRET" in span.to_json() for span in readable_spans(whole_run()))
    shown = "".join(span.to_json() for span in readable_spans(whole_run(), content=True))
    for what in ("goal", "answer", "prompt", "argument", "result", "code", "output", "reason"):
        assert f"SECRET {what}" in shown
    for value, on in (
        ("", False),
        ("NO_CONTENT", False),
        ("EVENT_ONLY", False),
        ("span_only", True),
        ("SPAN_AND_EVENT", True),
    ):
        monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", value)
        assert wanted() is on
        assert wanted(False) is False
        assert any("SECRET" in span.to_json() for span in readable_spans(whole_run())) is on


@given(st.text(st.characters(exclude_categories=()), max_size=50), st.text("ab", min_size=8, max_size=12))
def test_content_is_json_without_secrets_that_can_be_encoded(text: str, secret: str) -> None:
    content = Content(True, [secret])
    said = json.loads(content.messages([Message("user", f"{text}{secret}{text}", (ToolCall("i", "n", secret),))]))
    assert secret not in json.dumps(said)
    assert said[0]["role"] == "user"
    assert secret not in content.value({"a": [text, secret], "b": b"1"})
    events = [run_started(0.0), node_started("0", 0.0, goal=text + secret), node_ended("0", 1.0, result=text)]
    for span in readable_spans(events, content=True):
        for value in (span.attributes or {}).values():
            str(value).encode()


def test_long_texts_are_shortened_before_they_are_spelled() -> None:
    content = Content(True)
    assert len(content.text("x" * 10**6)) < LONGEST + 20
    assert len(content.value({"doc": "x" * 10**6, "more": ["y" * 10**6] * 3})) <= LONGEST + 20


def test_scores_stand_on_their_agents_and_as_evaluations_on_the_root() -> None:
    scored = [
        Scored(time=9.5, node="0", score=0.25),
        Scored(time=9.6, node="0", score=0.75, source="judge"),
        Scored(time=9.7, node="0", score=None, status="judge_error"),
    ]
    assert of(spans_of([*whole_run(), scored[0], scored[1]]), "0").attributes["rao.score"] == 0.75
    root = of(spans_of([*whole_run(), *scored]), "0")
    (evaluation,) = root.moments
    assert evaluation.name == names.EVALUATION
    assert evaluation.attributes[names.EVALUATION_LABEL] == "judge_error"


def test_what_the_caller_did_meanwhile_is_an_event_and_an_approval_an_attribute() -> None:
    answer = ApprovalAnswered(time=1.4, node="0", step=1, call=1, name="search", started=1.25, allowed=True)
    events = whole_run()
    events[3:3] = [Steered(time=1.0, action="tell", node="0", text="SECRET"), answer]
    spans = spans_of(events)
    assert [moment.name for moment in of(spans, "0").moments] == ["rao.steered"]
    assert "SECRET" not in repr(of(spans, "0").moments)
    assert of(spans, "0/1/call/1").attributes["rao.approval.allowed"] is True
    assert of(spans, "0/1/call/1").attributes["rao.approval.seconds"] == pytest.approx(0.15)


# -- runs that go on --------------------------------------------------------------------------------------------------


def resumed_run() -> list[Event]:
    """Killed in the cell in which the root waits for its sub-agent, and resumed an hour later."""
    return [
        run_started(0.0),
        node_started("0", 0.1),
        model_called("0", 1, 0.2, 1.0),
        node_started("0.0", 1.1, step=1, call=3),
        RunResumed(time=1.5, at=3601.5, usage=Usage(), model="m"),
        NodeResumed(time=1.5, node="0", step=1),
        NodeResumed(time=1.6, node="0.0", step=1),
        model_called("0.0", 1, 1.7, 1.9),
        node_ended("0.0", 2.0),
        called("launch_subagent", started=1.6, time=2.0, call=3, child="0.0"),
        cell_ran("0", 1, 1.55, 2.1),
        node_ended("0", 2.2),
        ENDED,
    ]


def test_a_resumed_run_is_a_trace_for_each_process_that_links_to_the_one_before() -> None:
    spans = spans_of(resumed_run())
    assert not list(faults(spans))
    assert {span.key.segment for span in spans} == {0, 1}
    before, after = of(spans, "0"), of(spans, "0", 1)
    assert (before.error, before.ended, after.error) == ("interrupted", 1.1, None)
    assert after.links == [("r1", before.key)]
    assert (after.started, after.ended) == (3601.5, pytest.approx(3602.2))
    readable = {span.name: span for span in readable_spans(resumed_run()) if span.parent is None and span.links}
    link = readable["invoke_agent rao"].links[0].context
    first = next(span for span in readable_spans(resumed_run()) if span.parent is None and not span.links)
    assert first.context is not None
    assert (link.trace_id, link.span_id) == (first.context.trace_id, first.context.span_id)


def test_a_fork_links_to_the_run_it_begins_with() -> None:
    events = [run_started(0.0, origin="r0"), node_started("0", 0.1), node_ended("0", 1.0), ENDED]
    (root,) = spans_of(events)
    assert root.links == [("r0", (0, "0"))]
    assert root.attributes["rao.origin"] == "r0"


def test_steps_that_are_done_anew_have_spans_of_their_own() -> None:
    events = [
        run_started(0.0),
        node_started("0", 0.1),
        model_called("0", 1, 0.2, 0.5),
        called("search", started=0.6, time=0.7),
        cell_ran("0", 1, 0.55, 0.8),
        NodeResumed(time=1.0, node="0", step=1),
        model_called("0", 1, 1.1, 1.5),
        called("search", started=1.6, time=1.7),
        cell_ran("0", 1, 1.55, 1.8),
        node_ended("0", 2.0),
        ENDED,
    ]
    spans = spans_of(events)
    assert not list(faults(spans))
    assert [span.parent for span in spans if span.name == "execute_tool search"] == [(0, "0/1/cell"), (0, "0/1/cell#1")]


def test_what_outlasts_its_cell_or_its_agent_still_has_its_parent() -> None:
    events = [
        run_started(0.0),
        node_started("0", 0.1),
        node_started("0.0", 0.5, step=1, call=1),
        cell_ran("0", 1, 0.4, 0.6),
        called("search", started=0.55, time=2.0, call=2),
        node_ended("0.0", 2.5),
        called("launch_subagent", started=0.5, time=2.5, child="0.0"),
        node_ended("0", 3.0),
        called("late", started=0.5, time=4.0, call=9),
        ENDED,
    ]
    spans = spans_of(events)
    assert not list(faults(spans))
    assert of(spans, "0/1/call/2").parent == of(spans, "0/1/cell").key


def test_a_cell_without_an_end_begins_no_later_than_its_calls() -> None:
    events = [
        run_started(0.0),
        node_started("0", 0.1),
        node_started("0.0", 0.7, step=1, call=1),
        node_ended("0.0", 0.9, status=Status.CANCELLED),
        called("launch_subagent", started=0.5, time=0.9, child="0.0", error="cancelled"),
        node_ended("0", 1.0, status=Status.CANCELLED),
        ENDED,
    ]
    spans = spans_of(events)
    assert not list(faults(spans))
    cell = of(spans, "0/1/cell")
    assert (cell.started, cell.ended, cell.error) == (0.5, 1.0, "cancelled")


# -- sending ----------------------------------------------------------------------------------------------------------


class Refusing(SpanExporter):
    def export(self, spans: Any) -> SpanExportResult:
        return SpanExportResult.FAILURE


def test_a_collector_that_takes_nothing_and_a_trace_without_an_agent_are_errors(tmp_path: Path) -> None:
    for name, events, kind in (
        ("whole", whole_run(), ConnectionError),
        ("empty", [run_started(0.0)], TraceError),
    ):
        writer = TraceWriter(tmp_path / f"{name}.jsonl")
        for event in events:
            writer.append(event)
        writer.close()
        with pytest.raises(kind, match=name):
            export_trace(tmp_path / f"{name}.jsonl", Refusing())


@pytest.mark.parametrize(
    ("given_url", "url"),
    [
        ("http://localhost:4318", "http://localhost:4318/v1/traces"),
        ("http://localhost:4318/", "http://localhost:4318/v1/traces"),
        ("https://host/otlp", "https://host/otlp/v1/traces"),
        ("https://host/otlp/v1/traces", "https://host/otlp/v1/traces"),
    ],
)
def test_a_collector_is_named_by_its_url(given_url: str, url: str) -> None:
    assert traces_url(given_url) == url


def test_settings_that_cannot_be_kept_are_refused_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="such as http://localhost:4318"):
        traces_url("localhost:4318")
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "zipkin")
    with pytest.raises(ValueError, match="OTEL_TRACES_EXPORTER must be otlp, console or none"):
        span_exporter()
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    assert span_exporter() is None
    monkeypatch.delenv("OTEL_TRACES_EXPORTER")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    with pytest.raises(ValueError, match="http/protobuf"):
        span_exporter()


def test_the_service_is_rao_unless_the_environment_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert service().attributes["service.name"] == "rao"
    monkeypatch.setenv("OTEL_SERVICE_NAME", "research")
    assert service().attributes["service.name"] == "research"
