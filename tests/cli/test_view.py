import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rao_cli.text import one_line
from rao_cli.view import render, rows, state
from rich.cells import cell_len
from rich.console import Console

from recursive_agent.status import Activity, Status
from recursive_agent.trace.schema import ApprovalAnswered, ApprovalAsked, Event, RunEnded, Waiting
from recursive_agent.trace.tree import ExecutionTree
from recursive_agent.usage import Usage
from tests.trace.events import cell_ran, model_called, node_ended, node_started, run_started, runs


def _drawn(tree: ExecutionTree, height: int = 20, width: int = 100, **more: Any) -> list[str]:
    console = Console(width=width, height=height, force_terminal=False)
    with console.capture() as capture:
        console.print(render(tree, height, **more))
    return capture.get().rstrip("\n").split("\n")


def _wide(children: int, ended: int, failed: tuple[int, ...] = ()) -> ExecutionTree:
    events: list[Event] = [run_started(), node_started("0")]
    events += [node_started(f"0.{i}", 1.0) for i in range(children)]
    for i in range(ended):
        status = Status.STEP_LIMIT if i in failed else Status.FINISHED
        events.append(node_ended(f"0.{i}", 2.0, status=status, usage=Usage(prompt_tokens=10)))
    return ExecutionTree.from_events(events)


@given(runs(), st.integers(2, 12))
def test_a_tree_is_folded_into_the_lines_there_are_and_no_agent_is_forgotten(events: Any, height: int) -> None:
    tree = ExecutionTree.from_events(events)
    drawn = rows(tree.root, height)
    assert len(drawn) <= height
    seen: list[str] = []
    for row in drawn:
        seen += [node.id for child in (*row.hidden, *row.done) for node in child.walk()]
        seen += [] if row.hidden else [row.node.id]
        assert not any(node.running for child in row.done for node in child.walk())
    assert sorted(seen) == sorted(tree.nodes)
    if len(tree.nodes) <= height:
        assert [row.node.id for row in drawn] == [node.id for node in tree.walk()]


def test_agents_at_work_are_shown_before_those_that_are_done() -> None:
    shown = [row.node.id for row in rows(_wide(300, 298).root, 6) if not row.hidden]
    assert {"0.298", "0.299"} <= set(shown)


def test_failures_are_shown_before_successes() -> None:
    shown = [row.node.id for row in rows(_wide(300, 300, failed=(150,)).root, 4) if not row.hidden]
    assert "0.150" in shown


def test_an_agent_deep_down_is_shown_with_its_whole_line() -> None:
    events: list[Event] = [run_started(), node_started("0")]
    events += [e for i in range(50) for e in (node_started(f"0.{i}"), node_ended(f"0.{i}"))]
    events += [node_started("0.7.0"), node_started("0.7.0.0")]
    shown = [row.node.id for row in rows(ExecutionTree.from_events(events).root, 8) if not row.hidden]
    assert shown[:1] == ["0"]
    assert [name for name in shown if name.startswith("0.7")] == ["0.7", "0.7.0", "0.7.0.0"]


def test_hidden_agents_are_summarised_with_their_tokens() -> None:
    (line,) = [line for line in _drawn(_wide(300, 298, failed=(0,))) if "…" in line]
    assert "more agents" in line
    assert "finished" in line
    assert "tok" in line


def test_lines_say_goal_state_step_tokens_and_time() -> None:
    tree = ExecutionTree.from_events(
        [
            run_started(),
            node_started("0", goal="write a poem", max_steps=20),
            model_called("0", 1, 0.0, 2.0),
            node_started("0.0", 2.0, goal="find a rhyme"),
        ]
    )
    head, root, child = _drawn(tree)
    assert all(part in head for part in ("2 agents (2 running)", "depth 1", "1 model call", "15 tokens", "2.0 s"))
    assert all(part in root for part in ("○ write a poem", "waits for 1 sub-agent", "step 1/20", "15 tok"))
    assert all(part in child for part in ("└ ● find a rhyme", "model call 0.0 s", "step 0"))


def test_states_follow_what_the_agent_is_doing() -> None:
    tree = ExecutionTree.from_events([run_started(), node_started()])
    assert state(tree.root, tree).startswith("model call ")
    tree.apply(model_called(step=1))
    assert state(tree.root, tree).startswith("runs code ")
    tree.apply(cell_ran(step=1))
    assert state(tree.root, tree).startswith("model call ")
    tree.apply(RunEnded(time=1.0, status=Status.RUNNING, usage=Usage()))
    assert state(tree.root, tree) == "never ended"
    tree.apply(node_ended(status=Status.TOKEN_LIMIT))
    assert state(tree.root, tree) == "token limit"


def test_what_agents_write_neither_breaks_lines_nor_styles_them() -> None:
    goal = "[bold]one\ntwo\x1b[31m[/bold]" + "w" * 500
    lines = _drawn(ExecutionTree.from_events([run_started(), node_started(goal=goal)]))
    assert len(lines) == 2
    assert "[bold]one two\\x1b[31m[/bold]www" in lines[1]
    assert all(len(line) <= 100 for line in lines)


def test_a_run_without_agents_yet_can_be_drawn() -> None:
    assert _drawn(ExecutionTree.from_events([run_started()])) == [
        "0 agents · depth 0 · 0 model calls · 0 tokens · 0.0 s"
    ]


def _waiting(activity: Activity, node: str | None = "0", time: float = 1.0, **more: Any) -> Waiting:
    return Waiting(time=time, reason="a reason", node=node, activity=activity, **more)


@pytest.mark.parametrize(
    ("activity", "words"),
    [
        (Activity.MODEL, "model call 2.0 s"),
        (Activity.SLOT, "waits for a slot 2.0 s"),
        (Activity.RATE_LIMIT, "waits for rate limit 2.0 s"),
        (Activity.RETRY, "waits to retry 2.0 s"),
        (Activity.BUDGET, "waits for budget 2.0 s"),
        (Activity.PAUSED, "paused 2.0 s"),
    ],
)
def test_an_agent_that_waits_says_for_what_and_how_long(activity: Activity, words: str) -> None:
    tree = ExecutionTree.from_events([run_started(), node_started(), _waiting(activity)])
    (_, line) = _drawn(tree, now=3.0)
    assert words in line
    assert ("○" in line) == activity.waits
    tree.apply(model_called(step=1))  # the wait is over, whatever it was
    assert state(tree.root, tree).startswith("runs code")


def test_a_call_that_needs_approval_is_what_its_agent_waits_for_until_it_is_answered() -> None:
    asked = ApprovalAsked(time=1.0, node="0", step=1, call=0, name="send_mail")
    tree = ExecutionTree.from_events([run_started(), node_started(), model_called(step=1, time=1.0), asked])
    assert state(tree.root, tree).startswith("waits for approval")
    tree.apply(ApprovalAnswered(time=2.0, node="0", step=1, call=0, name="send_mail", started=1.0, allowed=True))
    assert state(tree.root, tree).startswith("runs code")


def test_an_agent_whose_sub_agents_go_on_in_the_background_is_in_its_own_model_call() -> None:
    events = [run_started(), node_started(), model_called(step=1), node_started("0.0"), cell_ran(step=1)]
    tree = ExecutionTree.from_events(events)
    assert state(tree.root, tree).startswith("model call")


def test_ended_agents_are_counted_in_the_line_of_their_parent_with_their_tokens() -> None:
    events: list[Event] = [run_started(), node_started("0"), node_started("0.0"), node_started("0.1")]
    events += [node_started(f"0.0.{i}") for i in range(30)]
    events += [node_ended(f"0.0.{i}", usage=Usage(prompt_tokens=100)) for i in range(30)]
    lines = _drawn(ExecutionTree.from_events(events), 6)
    assert len(lines) <= 6
    (line,) = [line for line in lines if "+✓ 29" in line]  # and one has a line of its own
    assert "2.9k tok" in line
    assert not any("more agents" in line for line in lines)


def test_the_headline_of_a_folded_tree_counts_what_waits_for_what() -> None:
    tree = _wide(40, 20, failed=(3,))
    for i in range(20, 35):
        tree.apply(_waiting(Activity.SLOT, f"0.{i}"))
    tree.apply(_waiting(Activity.BUDGET, "0.35"))
    counts = next(line for line in _drawn(tree, 10, 120) if "working" in line)
    assert counts.strip() == "5 working · 16 waiting: slot 15, budget 1 · 19 finished · 1 failed: step limit 1"


@given(runs(), st.integers(1, 30), st.integers(10, 120), st.booleans())
def test_no_picture_is_larger_than_the_terminal(events: Any, height: int, width: int, results: bool) -> None:
    lines = render(ExecutionTree.from_events(events), height, results=results).lines(width)
    assert 1 <= len(lines) <= height
    assert all(cell_len(line.plain) <= width for line in lines)


def test_a_terminal_without_unicode_gets_marks_in_ascii() -> None:
    with io.TextIOWrapper(io.BytesIO(), encoding="ascii") as file:
        console = Console(file=file, width=80, force_terminal=False)
        console.print(render(_wide(30, 20, failed=(1,)), 12))
        file.flush()
        shown = file.buffer.getvalue().decode()  # type: ignore[attr-defined]
    assert "* goal" in shown or "o goal" in shown
    assert "` ~ " in shown


def test_signs_without_a_width_of_their_own_are_left_out() -> None:
    goal = "a\u200db \u2764\ufe0f e" + "\u0301" * 40 + " \u202ehidden"
    assert one_line(goal) == "ab \u2764 e" + "\u0301" * 3 + " \\x202ehidden"
