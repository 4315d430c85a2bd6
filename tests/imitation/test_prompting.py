"""What is demonstrated is, to the letter, what agents that do the same are sent: in every style, form and mode."""

from __future__ import annotations

import functools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rao_rl.envs import Demonstration, Mode, Task
from rao_rl.envs.textcraft import TextCraft, demonstrate, parse_goal
from rao_rl.errors import DataError
from rao_rl.imitation.expert import record_demonstrations
from rao_rl.imitation.prompting import Prompting, textcraft_situation
from rao_rl.imitation.recorded import read_successful
from recursive_agent.errors import ConfigurationError
from recursive_agent.messages import Message, ToolCall
from recursive_agent.repl import UNSET
from recursive_agent.status import Status
from recursive_agent.trace.folder import trace_files
from recursive_agent.trace.schema import CellRan, ModelCalled, NodeEnded, NodeStarted, RunEnded, RunStarted
from recursive_agent.trace.store import TraceWriter
from recursive_agent.trace.tree import ExecutionTree
from recursive_agent.usage import Usage

STYLES = [Prompting("minimal", "fenced"), Prompting("minimal", "tags"), Prompting("rich", "fenced")]


class Easy(TextCraft):
    """Easy tasks alone."""

    def tasks(self, split: str, seed: int = 0, level: str | None = None, limit: int | None = None) -> Any:
        return super().tasks(split, seed, "easy", 2 if limit is None else limit)


def recorded(folder: Path, prompting: Prompting, mode: Mode = "recursive") -> Path:
    """The trees of two easy tasks, as the reference solver does them with this prompting."""
    said: list[str] = []
    record_demonstrations(Easy(mode=mode), folder, prompting, most=2, seed=0, require=UNSET, say=said.append)
    assert said == ["running 2 demonstrations of textcraft"]
    return folder


def test_long_recordings_say_how_far_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rao_rl.imitation.expert._SAY_EVERY", 0.0)
    said: list[str] = []
    record_demonstrations(Easy(mode="single"), tmp_path, STYLES[0], most=3, seed=0, require=UNSET, say=said.append)
    done = ["1 of 3 demonstrations are done", "2 of 3 demonstrations are done"]
    assert said == ["running 3 demonstrations of textcraft", *done]


@pytest.mark.parametrize("mode", ["recursive", "single"])
@pytest.mark.parametrize("prompting", STYLES, ids=lambda each: f"{each.style}-{each.action_format}")
def test_demonstrations_of_textcraft_are_what_a_node_sends(prompting: Prompting, mode: Mode, tmp_path: Path) -> None:
    environment = Easy(mode=mode)
    worlds = {task.goal: environment.session(task).world for task in environment.tasks("train")}
    nodes = 0
    for path in trace_files(recorded(tmp_path, prompting, mode)):
        tree = ExecutionTree.load(path)
        assert tree.settings["prompt_style"] == prompting.style
        for node in tree.walk():
            nodes += 1
            assert node.score == 1.0
            made = demonstrate(worlds[tree.root.goal], parse_goal(node.goal) or {}, mode=mode)
            situation = replace(textcraft_situation(made), depth=node.depth)
            assert prompting.conversation(situation, made.cells) == node.conversation()
    assert nodes == 2 if mode == "single" else nodes > 4


def test_a_demonstration_stands_where_its_item_can_be_asked_for() -> None:
    (task, _) = Easy().tasks("train")
    made = demonstrate(Easy().session(task).world, task.data["targets"])
    situation = textcraft_situation(made)
    assert 0 <= situation.depth <= TextCraft().max_depth - made.tier
    assert situation == textcraft_situation(made)


# --- recorded in one style, written in another ---


def texts(folder: Path, **more: Any) -> list[list[Message]]:
    return sorted(
        read_successful(folder, threshold=1.0, **more).conversations, key=lambda messages: messages[0].content
    )


def test_what_was_recorded_in_the_rich_style_is_written_as_the_minimal_one_would_have_shown_it(tmp_path: Path) -> None:
    rich = recorded(tmp_path / "rich", Prompting("rich", "fenced"))
    for form in ("fenced", "tags"):
        minimal = Prompting("minimal", form)  # type: ignore[arg-type]
        assert texts(rich, prompting=minimal) == texts(recorded(tmp_path / form, minimal))
    found = read_successful(rich, threshold=1.0, prompting=Prompting("minimal", "fenced"))
    assert (found.rewritten, found.unclear) == (len(found.conversations), 0)


def test_what_was_recorded_in_the_style_asked_for_stays_as_it_is(tmp_path: Path) -> None:
    folder = recorded(tmp_path, Prompting("rich", "fenced"))
    found = read_successful(folder, threshold=1.0, prompting=Prompting("rich", "fenced"))
    assert found.rewritten == 0
    assert found.conversations == read_successful(folder, threshold=1.0).conversations


def native(folder: Path, *, seen: str = "3\n[step 1/5 · depth 0/0]", output: str = "3\n") -> Path:
    """A tree of one agent, which a chat model did by native tool calls."""
    folder.mkdir()
    with TraceWriter(folder / "run.jsonl") as writer:
        settings = {"prompt_style": "rich", "action_format": "tool", "tools": ["look"], "temperature": 0.7}
        limits = {"max_depth": 0, "max_children": 0}
        writer.append(
            RunStarted(
                time=0.0, run="r", model="m", interface="chat", settings=settings, limits=limits, group="g/train/1"
            )
        )
        writer.append(NodeStarted(time=0.0, node="0", parent=None, depth=0, goal="add", context=[1, 2], max_steps=5))
        opening = [Message("system", "You reach a goal …"), Message("user", "Goal: add")]
        cells = [("sum(context)", opening), ("finish(3)", [Message("tool", seen, tool_call_id="c0")])]
        for number, (code, messages) in enumerate(cells):
            call = ToolCall(f"c{number}", "python", json.dumps({"code": code}))
            writer.append(
                ModelCalled(
                    time=1.0,
                    node="0",
                    step=number + 1,
                    started=0.5,
                    messages=messages,
                    text="",
                    tool_calls=[call],
                    finish_reason="tool_calls",
                    usage=Usage(calls=1),
                    model="m",
                )
            )
            ran = functools.partial(CellRan, time=1.5, node="0", step=number + 1, started=1.0, code=code)
            writer.append(ran(status="finished") if number else ran(status="ok", output=output))
        writer.append(NodeEnded(time=2.0, node="0", status=Status.FINISHED, result=3))
        writer.append(RunEnded(time=3.0, status=Status.FINISHED, usage=Usage()))
    return folder


def test_native_tool_calls_are_written_as_text(tmp_path: Path) -> None:
    (messages,) = texts(native(tmp_path / "t"), prompting=Prompting("minimal", "fenced"))
    assert [(message.role, message.content) for message in messages] == [
        ("user", "add\nlook finish\ncontext: a list of 2 items, the first 1"),
        ("assistant", "```python\nsum(context)\n```"),
        ("user", "3"),
        ("assistant", "```python\nfinish(3)\n```"),
    ]


def test_native_tool_calls_are_not_trained_as_empty_answers(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="native tool calls, which imitation cannot teach; have them written"):
        read_successful(native(tmp_path / "t"), threshold=1.0)


def test_an_observation_with_more_in_it_than_the_trace_says_is_left_out(tmp_path: Path) -> None:
    folder = native(tmp_path / "t", seen="3\nNever awaited, so never run: look.\n[step 1/5 · depth 0/0]")
    with pytest.raises(DataError, match=r"not one of the conversations .* can be written in the minimal style"):
        read_successful(folder, threshold=1.0, prompting=Prompting("minimal", "fenced"))


def test_the_minimal_style_cannot_be_written_in_the_rich_one(tmp_path: Path) -> None:
    folder = recorded(tmp_path, Prompting("minimal", "fenced"))
    with pytest.raises(DataError, match="can be written in no other than the minimal one"):
        read_successful(folder, threshold=1.0, prompting=Prompting("rich", "fenced"))


def test_mixed_styles_are_trained_in_one_when_asked(tmp_path: Path) -> None:
    recorded(tmp_path / "rich", Prompting("rich", "fenced"))
    recorded(tmp_path / "minimal", Prompting("minimal", "tags"), mode="single")
    with pytest.raises(DataError, match="mix prompt styles or action formats"):
        read_successful(tmp_path, threshold=1.0)
    assert read_successful(tmp_path, threshold=1.0, prompting=Prompting("minimal", "fenced")).unclear == 0


# --- experts ---


class Adding:
    """Adds up the numbers in `context`; its experts are those of a test."""

    name = "adding"
    max_depth = 1
    splits = ("train",)
    levels = ("all",)
    tools = ()

    def __init__(self, *experts: Any) -> None:
        self.experts = experts

    def tasks(self, split: str, seed: int = 0, level: str | None = None, limit: int | None = None) -> list[Task]:
        return [Task(id=str(number), goal="add", context=[number, 2]) for number in range(len(self.experts))]

    def task(self, goal: str, seed: int = 0) -> Task:
        return Task(id=goal, goal=goal)

    def session(self, task: Task) -> Any:
        return self

    async def score(self, node: Any) -> float | None:
        return float(node.finished and node.result == sum(node.context))

    def demonstrations(self, seed: int = 0) -> Any:
        for task, expert in zip(self.tasks("train"), self.experts, strict=True):
            yield Demonstration(task=task, expert=expert)


def run(folder: Path, *experts: Any, most: int = 10) -> list[str]:
    said: list[str] = []
    prompting = Prompting("minimal", "fenced")
    record_demonstrations(Adding(*experts), folder, prompting, most=most, seed=0, require=UNSET, say=said.append)
    return said[1:]


def test_an_expert_sees_what_its_cells_show(tmp_path: Path) -> None:
    def careful(goal: str, context: Any) -> Any:
        shown = yield "sum(context)"
        yield f"finish({int(shown)})"

    assert run(tmp_path, careful, careful) == []
    assert len(texts(tmp_path)) == 2


def test_experts_delegate_and_every_agent_that_succeeds_is_imitated(tmp_path: Path) -> None:
    def splits(goal: str, context: Any) -> list[str]:
        if goal == "add":
            return ["finish(sum([await launch_subagent('part', context=[each]) for each in context]))"]
        return ["finish(context[0])"]

    assert run(tmp_path, splits) == []
    assert len(texts(tmp_path)) == 3


def test_failing_experts_are_counted_and_the_others_imitated(tmp_path: Path) -> None:
    def right(goal: str, context: Any) -> list[str]:
        return ["finish(sum(context))"]

    def wrong(goal: str, context: Any) -> list[str]:
        return ["finish(-1)"]

    def stops(goal: str, context: Any) -> list[str]:
        return ["1 + 1"]

    def breaks(goal: str, context: Any) -> list[str]:
        raise LookupError("no idea")

    (said,) = run(tmp_path, right, wrong, stops, breaks)
    assert said.startswith("3 of 4 demonstrations of adding fail")
    assert len(texts(tmp_path)) == 1
    reasons = [str(ExecutionTree.load(path).root.reason) for path in trace_files(tmp_path)]
    assert any("the expert has no more code for 'add', and has not called finish()" in reason for reason in reasons)
    assert any("the expert failed at 'add' (LookupError: no idea)" in reason for reason in reasons)


def test_no_demonstration_is_made_twice(tmp_path: Path) -> None:
    calls: list[int] = []

    def counted(goal: str, context: Any) -> list[str]:
        calls.append(context[0])
        return ["finish(sum(context))"]

    run(tmp_path, counted, counted, counted, most=2)
    run(tmp_path, counted, counted, counted)
    assert sorted(calls) == [0, 1, 2]


def test_no_demonstrations_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigurationError, match=r"adding has no demonstrations to imitate: its demonstrations\(\) gives none"
    ):
        run(tmp_path)


def test_what_is_no_demonstration_is_refused(tmp_path: Path) -> None:
    class Wrong(Adding):
        def demonstrations(self, seed: int = 0) -> Any:
            return [("task", "code")]

    with pytest.raises(ConfigurationError, match="must give Demonstration"):
        record_demonstrations(
            Wrong(), tmp_path, Prompting("minimal", "fenced"), most=1, seed=0, require=UNSET, say=print
        )
