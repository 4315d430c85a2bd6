from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from rao_cli.view import render, rows, state
from rich.console import Console

from recursive_agent.status import Status
from recursive_agent.trace.schema import Event, RunEnded
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
        seen += [node.id for child in row.hidden for node in child.walk()] if row.hidden else [row.node.id]
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
    assert all(part in root for part in ("write a poem", "waits for 1", "step 1/20", "15 tok"))
    assert all(part in child for part in ("└ ● find a rhyme", "thinks", "step 0"))


def test_states_follow_what_the_agent_is_doing() -> None:
    tree = ExecutionTree.from_events([run_started(), node_started()])
    assert state(tree.root, tree) == "thinks"
    tree.apply(model_called(step=1))
    assert state(tree.root, tree) == "runs code"
    tree.apply(cell_ran(step=1))
    assert state(tree.root, tree) == "thinks"
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
