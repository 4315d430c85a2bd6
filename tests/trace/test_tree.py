from pathlib import Path

import pytest
from hypothesis import given

from recursive_agent.errors import TraceError
from recursive_agent.model.base import Message
from recursive_agent.status import Status
from recursive_agent.trace.schema import HostCalled, RunEnded, Scored
from recursive_agent.trace.store import TraceWriter
from recursive_agent.trace.tree import ExecutionTree, TreeBuilder
from recursive_agent.usage import Usage

from .events import cell_ran, model_called, node_ended, node_started, run_started, runs


def _launch(node: str, step: int, call: int, child: str | None, started: float, time: float) -> HostCalled:
    return HostCalled(
        time=time,
        node=node,
        step=step,
        call=call,
        started=started,
        name="launch_subagent",
        child=child,
        error=None if child else "refused",
    )


def test_a_tree_has_parents_depths_steps_and_launch_points() -> None:
    call = _launch("0", 1, 7, "0.0", 1.0, 3.0)
    tree = ExecutionTree.from_events(
        [
            run_started(group="g", seed=3, limits={"max_depth": 2}, settings={"a": 1}),
            node_started("0", context={"x": 1}, returns={"type": "integer"}, max_steps=4, max_tokens=90),
            model_called("0", 1, 0.0, 1.0),
            node_started("0.0", 1.0, step=1, call=7),
            model_called("0.0", 1, 1.0, 2.0),
            node_ended("0.0", 3.0, result=5, usage=Usage(calls=1, prompt_tokens=10)),
            call,
            cell_ran("0", 1, 1.0, 3.5),
            model_called("0", 2, 3.5, 4.0),
        ]
    )
    root, child = tree.root, tree.nodes["0.0"]
    assert (tree.run, tree.group, tree.seed, tree.limits, tree.settings) == ("r1", "g", 3, {"max_depth": 2}, {"a": 1})
    assert (root.parent, root.depth, root.context, root.max_steps, root.max_tokens) == (None, 0, {"x": 1}, 4, 90)
    assert root.children == [child]
    assert (child.parent, child.depth, child.launched_at, child.result) == ("0", 1, (1, 7), 5)
    assert [step.number for step in root.steps] == [1, 2]
    assert root.steps[0].calls == [call]
    assert root.steps[0].cell is not None
    assert root.steps[1].cell is None
    assert (tree.max_depth, tree.launches, tree.refused_launches) == (1, 1, 0)
    assert list(tree.walk()) == [root, child]


def test_a_node_without_end_is_running_and_counts_the_calls_seen_so_far() -> None:
    tree = ExecutionTree.from_events([run_started(), node_started(time=1.0), model_called(time=4.0)])
    assert tree.root.status is Status.RUNNING
    assert tree.root.running
    assert not tree.complete
    assert tree.root.usage == Usage(calls=1, prompt_tokens=10, completion_tokens=5)
    assert tree.root.duration == 3.0


def test_usage_of_an_ended_node_is_what_its_end_says_and_totals_add_up() -> None:
    tree = ExecutionTree.from_events(
        [
            run_started(),
            node_started("0"),
            model_called("0"),
            node_started("0.0"),
            node_ended("0.0", usage=Usage(calls=1, prompt_tokens=3, unconfirmed=9)),
            node_started("0.1"),
            node_ended("0.1", usage=Usage(calls=2, completion_tokens=4)),
            node_ended("0", usage=Usage(calls=1, prompt_tokens=10, completion_tokens=5)),
        ]
    )
    total = Usage(calls=4, prompt_tokens=13, completion_tokens=9, unconfirmed=9)
    assert tree.usage == tree.root.total_usage == total
    assert tree.nodes["0.1"].total_usage == Usage(calls=2, completion_tokens=4)


def test_the_last_score_counts_and_is_no_part_of_the_time() -> None:
    tree = ExecutionTree.from_events(
        [
            run_started(),
            node_started(),
            node_ended(time=2.0),
            RunEnded(time=2.5, status=Status.FINISHED, usage=Usage()),
            Scored(time=90.0, node="0", score=0.5),
            Scored(time=99.0, node="0", score=None, status="judge_error", source="judge"),
        ]
    )
    assert (tree.root.score, tree.root.score_status, tree.root.score_source) == (None, "judge_error", "judge")
    assert tree.duration == 2.5
    assert tree.complete
    assert tree.scored() == []


def test_a_conversation_holds_what_was_said_by_both_sides_in_order() -> None:
    first, second = Message("system", "be brief"), Message("user", "observation")
    tree = ExecutionTree.from_events(
        [
            run_started(),
            node_started(),
            model_called(step=1, messages=(first,), text="one"),
            model_called(step=2, messages=(second,), text="two"),
        ]
    )
    assert tree.root.conversation() == [first, Message("assistant", "one"), second, Message("assistant", "two")]


def test_refused_launches_are_counted_apart() -> None:
    tree = ExecutionTree.from_events([run_started(), node_started(), _launch("0", 1, 1, None, 0.0, 0.0)])
    assert (tree.launches, tree.refused_launches) == (0, 1)


@pytest.mark.parametrize(
    ("events", "complaint"),
    [
        ([], "empty"),
        ([node_started()], "begins with a node_started"),
        ([run_started(), run_started()], "Two runs"),
        ([run_started(), node_started("0"), node_started("0")], "started twice"),
        ([run_started(), node_started("0.0")], "node 0, which never started"),
        ([run_started(), cell_ran("0")], "node 0, which never started"),
    ],
)
def test_events_that_make_no_tree_are_refused(events: list, complaint: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(TraceError, match=complaint):
        ExecutionTree.from_events(events)


def test_a_run_without_any_node_has_no_root_but_can_be_looked_at() -> None:
    tree = ExecutionTree.from_events([run_started()])
    assert list(tree.walk()) == []
    assert tree.usage == Usage()
    with pytest.raises(TraceError, match="stopped before its first agent"):
        _ = tree.root


def test_a_loading_error_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    with TraceWriter(path) as writer:
        writer.append(run_started())
        writer.append(cell_ran())
    with pytest.raises(TraceError, match=r"t\.jsonl: .*never started"):
        ExecutionTree.load(path)


@given(runs())
def test_a_live_tree_agrees_with_the_finished_one_at_every_event(events) -> None:  # type: ignore[no-untyped-def]
    builder = TreeBuilder()
    for count, event in enumerate(events, start=1):
        live = builder.add(event).tree
        assert live is not None
        again = ExecutionTree.from_events(events[:count])
        assert list(live.nodes) == list(again.nodes)
        assert live.usage == again.usage
        assert live.duration == again.duration


# --- timing ---


def test_children_that_ran_together_count_once_on_the_critical_path() -> None:
    #  root: model 0-1, cell 1-8 with children 0.0 (1.5-4) and 0.1 (1.5-7), model 8-10
    tree = ExecutionTree.from_events(
        [
            run_started(),
            node_started("0"),
            model_called("0", 1, 0.0, 1.0),
            node_started("0.0", 1.5, step=1, call=1),
            node_started("0.1", 1.5, step=1, call=2),
            model_called("0.0", 1, 1.5, 4.0),
            node_ended("0.0", 4.0),
            model_called("0.1", 1, 3.0, 7.0),  # waited 1.5 s for a slot, which does not count
            node_ended("0.1", 7.0),
            cell_ran("0", 1, 1.0, 8.0),
            model_called("0", 2, 8.0, 10.0),
            node_ended("0", 10.0),
        ]
    )
    path = tree.critical_path
    assert path.seconds == pytest.approx(1.0 + 0.5 + 4.0 + 1.0 + 2.0)
    assert [node.id for node in path.nodes] == ["0", "0.1"]
    assert tree.concurrent_share == 1.0


def test_children_awaited_one_after_the_other_all_count() -> None:
    tree = ExecutionTree.from_events(
        [
            run_started(),
            node_started("0"),
            node_started("0.0", 0.0, step=1, call=1),
            model_called("0.0", 1, 0.0, 2.0),
            node_ended("0.0", 2.0),
            node_started("0.1", 2.0, step=1, call=2),
            model_called("0.1", 1, 2.0, 5.0),
            node_ended("0.1", 5.0),
            cell_ran("0", 1, 0.0, 5.0),
            node_ended("0", 5.0),
        ]
    )
    assert tree.critical_path.seconds == pytest.approx(5.0)
    assert [node.id for node in tree.critical_path.nodes] == ["0", "0.0", "0.1"]
    assert tree.concurrent_share == 0.0


def test_a_child_in_the_background_competes_with_the_steps_it_overlaps() -> None:
    tree = ExecutionTree.from_events(
        [
            run_started(),
            node_started("0"),
            node_started("0.0", 0.0, step=1, call=1),
            cell_ran("0", 1, 0.0, 0.0),
            model_called("0.0", 1, 0.0, 9.0),
            model_called("0", 2, 0.0, 3.0),
            node_ended("0.0", 9.0),
            node_ended("0", 9.0),
        ]
    )
    assert tree.critical_path.seconds == pytest.approx(9.0)


@given(runs())
def test_critical_steps_are_no_more_than_the_calls_of_all_agents(events) -> None:  # type: ignore[no-untyped-def]
    tree = ExecutionTree.from_events(events)
    calls = [sum(step.model is not None for step in node.steps) for node in tree.nodes.values()]
    assert 0 <= tree.critical_steps <= sum(calls)


def test_one_agent_alone_takes_as_many_critical_steps_as_calls() -> None:
    calls = [model_called("0", step, float(step), step + 1.0) for step in range(1, 4)]
    tree = ExecutionTree.from_events([run_started(), node_started("0"), *calls, node_ended("0", 9.0)])
    assert tree.critical_steps == 3


def test_the_concurrent_share_counts_launches_that_overlap_a_sibling() -> None:
    spans = {"0.0": (0.0, 2.0), "0.1": (1.0, 3.0), "0.2": (3.0, 4.0), "0.3": (4.0, 5.0)}
    events = [run_started(), node_started("0")]
    events += [node_started(node, start) for node, (start, _) in spans.items()]
    events += [node_ended(node, end) for node, (_, end) in spans.items()]
    assert ExecutionTree.from_events(events).concurrent_share == 0.5


@given(runs())
def test_the_critical_path_lies_between_the_longest_node_and_the_wall_time(events) -> None:  # type: ignore[no-untyped-def]
    tree = ExecutionTree.from_events(events)
    seconds, nodes = tree.critical_path
    assert seconds <= tree.root.duration + 1e-6
    models = max(
        (step.model.time - step.model.started for n in tree.walk() for step in n.steps if step.model), default=0
    )
    assert seconds >= models - 1e-6
    assert nodes[0] is tree.root
    assert all(node.parent in {other.id for other in nodes} for node in nodes[1:])
    assert 0.0 <= tree.concurrent_share <= 1.0


def test_a_chain_of_thousands_of_agents_needs_no_recursion() -> None:
    names = [".".join(["0"] * n) for n in range(1, 3000)]
    tree = ExecutionTree.from_events([run_started(), *[node_started(name) for name in names]])
    assert tree.max_depth == 2998
    assert tree.critical_path.seconds == 0.0
    assert len(list(tree.walk())) == 2999
