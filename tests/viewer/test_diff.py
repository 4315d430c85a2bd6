"""Two runs side by side."""

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from recursive_agent.status import Status
from recursive_agent.trace.events import cuts_before, events_of
from recursive_agent.trace.schema import Event, NodeEnded, NodeResumed, RunEnded, RunResumed
from recursive_agent.trace.tree import ExecutionTree
from recursive_agent.usage import Usage
from recursive_agent.viewer.diff import Comparison, StepPair, compare

from ..trace.events import cell_ran, model_called, node_ended, runs
from .trees import Did, agents, record, shuffled, tree


def _pairs(found: Comparison) -> dict[tuple[str | None, str | None], tuple[str, ...]]:
    return {(pair.left, pair.right): pair.changed for pair in found.pairs}


def _as_set(found: Comparison, *, swapped: bool = False) -> set[Any]:
    pairs: set[Any] = set()
    for pair in found.pairs:
        steps = tuple(StepPair(step.right, step.left, step.changed) if swapped else step for step in pair.steps)
        names = (pair.right, pair.left) if swapped else (pair.left, pair.right)
        pairs.add((*names, pair.changed, steps))
    return pairs


@given(runs())
def test_a_run_is_the_same_as_itself(events: list[Event]) -> None:
    one, other = ExecutionTree.from_events(events), ExecutionTree.from_events(events)
    found = compare(one, other)
    assert found.same
    assert [(pair.left, pair.right) for pair in found.pairs] == [(node.id, node.id) for node in one.walk()]


@given(agents.flatmap(lambda did: st.tuples(st.just(did), shuffled(did))))
def test_launches_in_another_order_are_the_same(both: tuple[Did, Did]) -> None:
    one, other = (tree(did, run=name) for did, name in zip(both, "ab", strict=True))
    found = compare(one, other)
    assert found.same, [pair for pair in found.pairs if not pair.same]
    assert len(found.pairs) == len(one.nodes)


@given(agents, agents)
def test_every_agent_stands_in_one_pair_and_either_order_of_the_runs_gives_the_same(one: Did, other: Did) -> None:
    left, right = tree(one, run="a"), tree(other, run="b")
    found, back = compare(left, right), compare(right, left)
    assert sorted(pair.left for pair in found.pairs if pair.left) == sorted(left.nodes)
    assert sorted(pair.right for pair in found.pairs if pair.right) == sorted(right.nodes)
    assert _as_set(found) == _as_set(back, swapped=True)
    for pair in found.pairs:
        if pair.left and pair.right:
            assert [step.left for step in pair.steps if step.left] == [s.number for s in left.nodes[pair.left].steps]
            assert [step.right for step in pair.steps if step.right] == [
                s.number for s in right.nodes[pair.right].steps
            ]


@given(agents, agents)
def test_a_pair_comes_after_the_pair_of_its_parent(one: Did, other: Did) -> None:
    left, right = tree(one), tree(other)
    shown: set[str] = set()
    for pair in compare(left, right).pairs:
        node = left.nodes[pair.left] if pair.left else right.nodes[pair.right or ""]
        side = "left" if pair.left else "right"
        assert node.parent is None or f"{side} {node.parent}" in shown
        shown |= {f"left {pair.left}", f"right {pair.right}"}


def test_what_differs_is_named() -> None:
    same = Did("sum the list", ("add",), 6)
    left = tree(Did("plan", ("a", "b"), 1, (same, Did("find a name", ("look",), "Ann"))))
    right = tree(Did("plan", ("a", "c"), 1, (Did("find a name", ("look",), "Bob"), same)))
    found = compare(left, right)
    assert _pairs(found) == {("0", "0"): ("steps",), ("0.0", "0.1"): (), ("0.1", "0.0"): ("result",)}
    root = found.pairs[0]
    assert root.steps == (StepPair(1, 1, ("calls",)), StepPair(2, 2, ("answer", "code", "output")))
    assert (root.below, root.same, found.same) == (1, False, False)


def test_the_same_goal_launched_several_times_is_paired_by_what_came_of_it() -> None:
    tries = [Did("try it", (f"way {n}",), n) for n in range(4)]
    left = tree(Did(below=tries))
    right = tree(Did(below=[tries[3], tries[1], Did("try it", ("another way",), 9), tries[0]]), run="other")
    assert _pairs(compare(left, right)) == {
        ("0", "0"): ("steps",),
        ("0.0", "0.3"): (),
        ("0.1", "0.1"): (),
        ("0.2", "0.2"): ("result", "steps"),
        ("0.3", "0.0"): (),
    }


def test_agents_that_only_one_run_has_stand_where_they_were_launched() -> None:
    a, b, c = (Did(name) for name in ("alpha beta", "gamma delta", "epsilon zeta"))
    found = compare(tree(Did(below=[a, c])), tree(Did(below=[a, b, c])))
    assert [(pair.left, pair.right) for pair in found.pairs] == [
        ("0", "0"),
        ("0.0", "0.0"),
        (None, "0.1"),
        ("0.1", "0.2"),
    ]
    assert "children" in found.pairs[0].changed


def test_a_goal_in_other_words_is_paired_and_one_about_something_else_is_not() -> None:
    left = tree(Did(below=[Did("count the words of chapter 3"), Did("draw a map")]))
    right = tree(Did(below=[Did("bake bread"), Did("count all words of chapter 3")]))
    assert _pairs(compare(left, right)) == {
        ("0", "0"): ("steps", "children"),
        ("0.0", "0.1"): ("goal",),
        ("0.1", None): (),
        (None, "0.0"): (),
    }


def test_an_agent_that_another_one_launched_is_found() -> None:
    job = Did("sum the list", ("add",), 6, (Did("add two numbers"),))
    left = tree(Did(below=[job]))
    right = tree(Did(below=[Did("do the rest for me", below=[job])]))
    pairs = _pairs(compare(left, right))
    assert pairs["0.0", "0.0.0"] == ("parent",)
    assert pairs["0.0.0", "0.0.0.0"] == ()
    assert (None, "0.0") in pairs


def test_inputs_types_and_settings_are_compared() -> None:
    def with_child(**more: Any) -> ExecutionTree:
        return tree(Did(below=[Did("sum", more=tuple(more.items()))]), limits={"max_steps": 20})

    plain = with_child(context={"n": 1}, max_steps=20)
    for more, changed in (
        ({"context": {"n": 2}, "max_steps": 20}, "context"),
        ({"context": {"n": 1}, "max_steps": 5}, "settings"),
        ({"context": {"n": 1}, "returns": {"type": "integer"}}, "returns"),
    ):
        assert changed in _pairs(compare(plain, with_child(**more)))["0.0", "0.0"]
    longer = tree(Did(below=[Did("sum", more=(("context", {"n": 1}), ("max_steps", 99)))]), limits={"max_steps": 99})
    assert compare(plain, longer).same  # the agent had the steps of the run, whatever these were


def test_a_fork_has_the_agents_of_its_origin_up_to_where_it_goes_another_way() -> None:
    tries = [Did("try it", ("a", "b"), n) for n in range(3)]
    origin = tree(Did("plan", ("one", "two", "three"), 1, tries), run="first")
    beginning = events_of(origin, "second", cuts_before(origin, "0", 2))
    end = origin.last_time
    fork = ExecutionTree.from_events(
        [
            *beginning,
            model_called("0", 2, end, end + 1, text="another way"),
            cell_ran("0", 2, end, end + 2),
            node_ended("0", end + 3, result=2),
            RunEnded(time=end + 3, status=Status.FINISHED, usage=Usage()),
        ]
    )
    assert fork.origin == "first"
    found = compare(origin, fork)
    pairs = _pairs(found)
    assert pairs["0", "0"] == ("result", "steps")
    assert [pairs[f"0.{n}", f"0.{n}"] for n in range(3)] == [(), (), ()]
    assert [(s.left, s.right, s.same) for s in found.pairs[0].steps] == [(1, 1, True), (2, 2, False), (3, None, False)]


def test_a_resumed_run_is_compared_with_what_it_was_before() -> None:
    events = record(Did("plan", ("one", "two"), 1, (Did("sum", ("add",), 6),)))
    killed = [event for event in events[:-1] if not (isinstance(event, NodeEnded) and event.node == "0")]
    resumed = [
        *killed,
        RunResumed(time=90, at=90, usage=Usage(), model="m"),
        NodeResumed(time=90, node="0", step=3),
        model_called("0", 3, 91, 92, text="three"),
        node_ended("0", 93, result=1),
    ]
    found = compare(ExecutionTree.from_events(killed), ExecutionTree.from_events(resumed))
    assert _pairs(found) == {("0", "0"): ("status", "result", "steps"), ("0.0", "0.0"): ()}
    assert found.pairs[0].steps[-1] == StepPair(None, 3)


def test_steps_are_aligned_by_content() -> None:
    left = tree(Did(answers=("a", "b", "c", "d")))
    right = tree(Did(answers=("a", "x", "b", "c", "d")))
    steps = compare(left, right).pairs[0].steps
    assert [(step.left, step.right) for step in steps] == [(1, 1), (None, 2), (2, 3), (3, 4), (4, 5)]
    assert all(step.changed in ((), ("prompt",)) for step in steps)


def test_a_run_without_agents_can_be_compared() -> None:
    nothing = ExecutionTree.from_events(record(Did())[:1])
    assert compare(nothing, nothing).pairs == ()
    found = compare(nothing, tree(Did(below=[Did()])))
    assert [(pair.left, pair.right) for pair in found.pairs] == [(None, "0"), (None, "0.0")]


def test_plain_data_for_a_page() -> None:
    one = tree(Did("plan", below=[replace(Did(), goal="sum")]))
    data = compare(one, one).as_data()
    assert (data["left"], data["right"]) == ("r1", "r1")
    assert data["pairs"][1] == {
        "left": "0.0",
        "right": "0.0",
        "same": True,
        "changed": [],
        "below": 0,
        "steps": [{"left": 1, "right": 1, "same": True, "changed": []}],
    }
