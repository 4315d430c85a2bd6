"""A tree as data of a page: sums, times and ids are those of the tree; what is not known is null; texts are bounded."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recursive_agent.messages import Message
from recursive_agent.status import Status
from recursive_agent.trace.schema import (
    ApprovalAnswered,
    Event,
    HostCalled,
    NodeResumed,
    RunEnded,
    RunResumed,
    Scored,
    Steered,
)
from recursive_agent.trace.tree import ExecutionTree
from recursive_agent.usage import Usage
from recursive_agent.viewer.page import json_text
from recursive_agent.viewer.payload import run_data
from recursive_agent.viewer.texts import SHORT, WHOLE, bounded, spelled
from tests.trace.events import cell_ran, model_called, node_ended, node_started, run_started, runs, values


def data_of(*events: Event) -> dict[str, Any]:
    """What a browser reads."""
    found = json.loads(json_text(run_data(ExecutionTree.from_events(events))))
    assert isinstance(found, dict)
    return found


@given(runs())
def test_ids_times_and_sums_are_those_of_the_tree(events: list[Event]) -> None:
    tree = ExecutionTree.from_events(events)
    data = data_of(*events)
    assert [node["id"] for node in data["nodes"]] == [node.id for node in tree.walk()]
    assert data["usage"]["total"] == sum(node["usage"]["total"] for node in data["nodes"]) == tree.usage.total_tokens
    assert data["usage"]["calls"] == tree.usage.calls
    for node in data["nodes"]:
        own = tree.nodes[node["id"]]
        assert node["started"] == pytest.approx(own.started - tree.started, abs=1e-6)
        assert node["ended"] == pytest.approx((own.ended or 0) - tree.started, abs=1e-6)
        assert [step["number"] for step in node["steps"]] == [step.number for step in own.steps]
    path = data["critical_path"]
    assert path["seconds"] == pytest.approx(tree.critical_path.seconds, abs=1e-6)
    assert math.fsum(part["end"] - part["start"] for part in path["parts"]) == pytest.approx(path["seconds"], abs=1e-3)
    starts = [part["start"] for part in path["parts"]]
    assert starts == sorted(starts)


@given(runs(), st.integers(0, 40))
def test_the_trace_of_a_killed_run_is_data_too(events: list[Event], kept: int) -> None:
    data = data_of(*events[: max(1, min(kept, len(events) - 1))])
    assert not data["complete"]
    assert all(node["ended"] is None or node["status"] != "running" for node in data["nodes"])


@given(values, values, values)
def test_any_value_becomes_text_of_a_bounded_size(context: Any, argument: Any, result: Any) -> None:
    data = data_of(
        run_started(0.0, settings={"extra": argument}, limits={"most": math.inf, "nan": math.nan}, seed=2**60),
        node_started("0", 0.0, context=context, returns={"const": argument}),
        model_called("0", 1, 0.0, 1.0),
        HostCalled(time=2.0, node="0", step=1, call=1, started=1.0, name="f", args=(argument,), kwargs={"k": argument}),
        node_ended("0", 3.0, result=result),
        RunEnded(time=3.0, status=Status.FINISHED, usage=Usage()),
    )
    (node,) = data["nodes"]
    assert data["limits"] == {"most": "inf", "nan": "nan"}
    assert data["seed"] == str(2**60)
    assert node["context"] is None or len(node["context"]) < 10 * SHORT
    assert isinstance(node["result"], str)
    assert len(node["steps"][0]["calls"][0]["args"]) < 10 * SHORT


def test_a_long_text_says_how_long_it_was() -> None:
    assert bounded("a" * WHOLE) == "a" * WHOLE
    cut = bounded("a" * WHOLE + "b" * WHOLE)
    assert "\n[… 100,000 of 200,000 characters are left out …]\n" in cut
    assert cut.startswith("a" * 75_000 + "\n")
    assert cut.endswith("\n" + "b" * 25_000)
    assert spelled({"doc": "x" * 10_000, "more": 1}, 100).endswith(
        '… [10,000 characters in all]", "…": "[2 keys in all]"}'
    )
    assert spelled(list(range(10_000)), 50).endswith('[10,000 items in all]"]')
    assert spelled(b"\xff" * 3) == '"\\\\xff\\\\xff\\\\xff"'
    assert "a whole number of 4,000,001 bits" in spelled(1 << 4_000_000, 100)


def test_numbers_that_are_not_known_are_null_and_no_0() -> None:
    usage = Usage(calls=1, prompt_tokens=10, completion_tokens=5)
    data = data_of(run_started(), node_started(), model_called(usage=usage), node_ended(usage=usage))
    assert data["usage"] == {
        "prompt": 10,
        "cached": None,
        "completion": 5,
        "reasoning": None,
        "total": 15,
        "unconfirmed": 0,
        "calls": 1,
        "cost": None,
    }
    (node,) = data["nodes"]
    assert node["score"] is None
    assert node["steps"][0]["model"][0]["usage"]["cost"] is None


def test_costs_are_known_by_model() -> None:
    settings = {"models": {"big": {"model": "b", "prices": {"prompt": 1.0}}, "small": {"model": "s", "prices": None}}}
    priced = Usage(calls=1, prompt_tokens=1, cost=0.25, cached_tokens=1)
    free = Usage(calls=1, prompt_tokens=1)
    data = data_of(
        run_started(settings=settings),
        node_started("0", model="big"),
        node_started("0.0", model="small"),
        node_started("0.1", model="big"),
        node_ended("0.0", usage=free),
        node_ended("0.1", usage=free),
        node_ended("0", usage=priced),
    )
    assert [node["usage"]["cost"] for node in data["nodes"]] == [0.25, None, 0.0]
    assert data["usage"]["cost"] is None  # that of `small` is not known
    assert data["usage_by_model"]["big"]["cost"] == 0.25
    assert data["usage"]["cached"] == 1


def test_a_conversation_that_was_compacted_has_its_summary_first() -> None:
    data = data_of(
        run_started(),
        node_started(),
        model_called("0", 1, 0.0, 1.0, text="one"),
        model_called("0", 2, 1.0, 2.0, text="the summary", purpose="summary"),
        model_called("0", 2, 2.0, 3.0, text="two", restart=True, messages=(Message("user", "again"),)),
    )
    second = data["nodes"][0]["steps"][1]
    assert [(call["purpose"], call["restart"], call["text"]) for call in second["model"]] == [
        ("summary", False, "the summary"),
        ("step", True, "two"),
    ]


def test_what_a_caller_did_and_how_a_run_went_on() -> None:
    data = data_of(
        run_started(100.0, origin="before", group="g"),
        node_started("0", 100.0),
        model_called("0", 1, 100.0, 101.0, attempts=2, reasoning="hm"),
        Steered(time=101.5, action="tell", node="0", text="hurry"),
        ApprovalAnswered(
            time=103.0,
            node="0",
            step=1,
            call=1,
            name="pay",
            started=102.0,
            allowed=False,
            reason="no",
            arguments={"a": 1},
        ),
        HostCalled(time=103.0, node="0", step=1, call=2, started=103.0, name="f", error="refused", refused=True),
        HostCalled(time=103.0, node="0", step=1, call=1, started=102.0, name="g", result={"a": 1}),
        cell_ran("0", 1, 101.0, 104.0),
        RunResumed(time=104.0, at=500.0, usage=Usage(), model="m", question="and then?"),
        NodeResumed(time=104.0, node="0", step=1),
        Scored(time=105.0, node="0", score=0.5, source="judge"),
    )
    assert (data["origin"], data["group"], data["complete"]) == ("before", "g", False)
    assert data["steered"] == [{"time": 1.5, "action": "tell", "node": "0", "text": "hurry"}]
    (approval,) = data["approvals"]
    assert (approval["start"], approval["end"], approval["allowed"]) == (2.0, 3.0, False)
    assert (approval["reason"], approval["arguments"]) == ("no", '{"a": 1}')
    (resumed,) = data["resumptions"]
    assert (resumed["time"], resumed["at"], resumed["question"]) == (4.0, 500.0, "and then?")
    (step,) = data["nodes"][0]["steps"]
    assert step["cell"] is None  # it is run anew
    assert [call["call"] for call in step["calls"]] == [1, 2]
    assert [call["result"] for call in step["calls"]] == ['{"a": 1}', None]
    assert (step["model"][0]["attempts"], step["model"][0]["reasoning"]) == (2, "hm")
    assert (data["nodes"][0]["score"], data["nodes"][0]["score_source"]) == (0.5, "judge")


def test_on_the_critical_path_a_cell_that_waits_for_a_tool_is_a_call() -> None:
    data = data_of(
        run_started(),
        node_started(),
        model_called("0", 1, 0.0, 1.0),
        HostCalled(time=3.0, node="0", step=1, call=1, started=2.0, name="search"),
        cell_ran("0", 1, 1.0, 4.0),
        node_ended("0", 4.0),
    )
    parts = [(part["kind"], part["start"], part["end"]) for part in data["critical_path"]["parts"]]
    assert parts == [("model", 0, 1), ("cell", 1, 2), ("call", 2, 3), ("cell", 3, 4)]


def test_a_run_that_stopped_before_its_first_agent_is_shown() -> None:
    data = data_of(run_started())
    assert (data["nodes"], data["status"], data["critical_path"], data["usage"]["total"]) == ([], "running", None, 0)


def test_times_that_are_no_numbers_are_null() -> None:
    data = data_of(run_started(0.0), node_started("0", math.nan), node_ended("0", math.inf))
    assert data["nodes"][0]["started"] is None
    assert data["nodes"][0]["ended"] is None
