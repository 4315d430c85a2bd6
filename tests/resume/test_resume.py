"""Runs that were cancelled, hit a limit or lost their endpoint go on; forks, edits and further questions."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from recursive_agent import (
    BadRequest,
    ConfigurationError,
    ExecutionTree,
    ReplayDiverged,
    Status,
    TraceError,
    tool,
)
from recursive_agent.testing import Fault, Request, ScriptedEndpoint, by_goal, replies
from tests.agent.helpers import agent_on, observations, py

pytestmark = pytest.mark.anyio


async def test_a_limit_of_the_tree_is_raised_and_the_child_that_it_cut_goes_on(tmp_path: Path) -> None:
    asked: Counter[str] = Counter()
    script = by_goal(
        {
            "the whole": [py("parts = await launch_subagent('one piece')"), py("finish(parts + 1)")],
            "one piece": [py("x = 40"), py("x += 1"), py("finish(x)")],
        }
    )

    def counted(request: Request) -> Any:
        asked[f"{'piece' if 'one piece' in request.first else 'whole'} {request.step}"] += 1
        return script(request)

    with ScriptedEndpoint(counted) as endpoint:
        cut = await agent_on(endpoint, trace_dir=tmp_path, max_tokens=5_000).solve("the whole")
        assert cut.status is Status.TREE_BUDGET
        assert cut.trace_path is not None
        larger = agent_on(endpoint, trace_dir=tmp_path, max_tokens=100_000)
        result = await larger.resume(cut.trace_path)
        assert result.output == 42
        assert set(asked.values()) == {1}
        assert len(result.tree.nodes) == 2
        assert result.tree.limits["max_tokens"] == 100_000
        assert (await larger.resume(cut.trace_path)).output == 42  # finished: given as it is
        assert set(asked.values()) == {1}


async def test_the_limit_of_steps_is_raised(tmp_path: Path) -> None:
    with ScriptedEndpoint(by_goal({"count": [py("x = 1"), py("x += 1"), py("finish(x)")]})) as endpoint:
        cut = await agent_on(endpoint, trace_dir=tmp_path, max_steps=2).solve("count")
        assert cut.status is Status.STEP_LIMIT
        result = await agent_on(endpoint, trace_dir=tmp_path, max_steps=5).resume(cut)
        assert result.output == 2
        assert len(endpoint.requests) == 3


async def test_what_was_used_before_counts(tmp_path: Path) -> None:
    with ScriptedEndpoint(by_goal({"count": [py("x = 1"), py("x += 1"), py("finish(x)")]})) as endpoint:
        cut = await agent_on(endpoint, trace_dir=tmp_path, max_steps=2).solve("count")
        used = cut.usage.total_tokens
        again = await agent_on(endpoint, max_tokens=used + 10).resume(cut.tree)
        assert again.status is Status.TOKEN_LIMIT
        assert again.usage.total_tokens == used
        assert len(endpoint.requests) == 2
        result = await agent_on(endpoint, max_tokens=used + 10_000).resume(cut.tree)
        assert result.output == 2
        assert result.tree.resumptions[0].usage == cut.usage


async def test_an_endpoint_that_failed_is_there_again(tmp_path: Path) -> None:
    answers: list[Any] = [py("x = 1"), Fault.http(400, "no such thing"), py("finish(x)")]
    with ScriptedEndpoint(replies(answers)) as endpoint:
        agent = agent_on(endpoint, trace_dir=tmp_path)
        with pytest.raises(BadRequest) as failed:
            await agent.solve("count")
        cut = failed.value.result
        assert cut is not None
        assert cut.trace_path is not None
        assert (await agent.resume(cut.trace_path)).output == 1


async def test_code_that_does_something_else_is_named_and_a_choice(tmp_path: Path) -> None:
    with ScriptedEndpoint(by_goal({"count": [py("print('before')"), py("x = 1"), py("finish('ok')")]})) as endpoint:
        cut = await agent_on(endpoint, trace_dir=tmp_path, max_steps=2).solve("count")
        assert cut.trace_path is not None
        altered = cut.trace_path.read_text().replace('"output":"before', '"output":"after')
        assert "after" in altered
        for choice, served in (("redo", 2), ("keep", 1)):
            trace = tmp_path / f"{choice}.jsonl"
            trace.write_text(altered)
            agent = agent_on(endpoint, trace_dir=tmp_path)
            before = len(endpoint.requests)
            with pytest.raises(ReplayDiverged, match=r"agent 0, step 1: .*'before.*instead of 'after"):
                await agent.resume(trace)
            assert len(endpoint.requests) == before
            result = await agent.resume(trace, diverged=choice)  # type: ignore[arg-type]
            assert result.output == "ok"
            assert len(endpoint.requests) - before == served
            assert ExecutionTree.load(trace).complete


async def test_a_fork_goes_another_way_and_leaves_the_old_run_alone(tmp_path: Path) -> None:
    def script(request: Request) -> str:
        if "leaf" in request.first:
            return py(f"finish({'better' if 'hint' in request.last else 'worse'!r})") if request.step else py("1")
        return [py("a = await launch_subagent('leaf a')\nb = await launch_subagent('leaf b')"), py("finish([a, b])")][
            request.step
        ]

    with ScriptedEndpoint(script) as endpoint:
        agent = agent_on(endpoint, trace_dir=tmp_path)
        old = await agent.solve("the root")
        assert old.output == ["worse", "worse"]
        assert old.trace_path is not None
        content = old.trace_path.read_bytes()
        served = len(endpoint.requests)
        new = await agent.resume(old.trace_path, at="0.0", step=2, edit=lambda text: text + " hint")
        assert new.output == ["better", "worse"]
        assert (
            len(endpoint.requests) - served == 2
        )  # the leaf's second step, and the root's; the other leaf's result is kept
        assert new.tree.origin == old.tree.run != new.tree.run
        assert observations(new, "0.0") == [observations(old, "0.0")[0] + " hint"]
        assert old.trace_path.read_bytes() == content
        assert new.trace_path is not None
        assert new.trace_path != old.trace_path
        in_memory = await agent_on(endpoint).resume(old.tree, at="0.0", step=2, edit="hint")
        assert in_memory.output == ["better", "worse"]
        for wrong, words in (
            ({"at": "0.7"}, "no agent '0.7'"),
            ({"step": 9}, "between 1 and 3"),
            ({"step": 1, "edit": "x"}, "at least 2"),
            ({"diverged": "maybe"}, "diverged"),
        ):
            with pytest.raises(ConfigurationError, match=words):
                await agent.resume(old.trace_path, **wrong)


async def test_another_question_finds_the_variables_and_the_children(tmp_path: Path) -> None:
    script = by_goal(
        {
            "first question": [
                py("found = await launch_subagent('dig')\nfinish(found)"),
                py("finish([found, subagents[0].result])"),
                py("finish(len(subagents))"),
            ],
            "dig": py("finish('gold')"),
        }
    )
    with ScriptedEndpoint(script) as endpoint:
        result = await agent_on(endpoint, trace_dir=tmp_path, max_steps=1).solve("first question")
        assert result.output == "gold"
        second = await result.follow_up("what was it?", returns=list[str])
        assert second.output == ["gold", "gold"]
        third = await second.follow_up("how many?")
        assert third.output == 1
        assert len(endpoint.requests) == 4
        assert "what was it?" in observations(third)[0]
        assert len(third.tree.resumptions) == 2
        with pytest.raises(ConfigurationError, match="question"):
            await third.follow_up(" ")
        assert third.trace_path is not None
        before = await agent_on(endpoint).resume(third.trace_path, step=1)  # before the questions, so without them
        assert before.output == "gold"
        assert before.tree.last_question is None
        assert len(endpoint.requests) == 6


async def test_a_tool_that_must_not_be_repeated_is_not(tmp_path: Path) -> None:
    sent: list[str] = []

    @tool(repeat=False)
    def send(text: str) -> str:
        sent.append(text)
        return "sent"

    with ScriptedEndpoint(by_goal({"write": [py("print(await send('hello'))"), py("finish('done')")]})) as endpoint:
        whole = await agent_on(endpoint, tools=(send,), trace_dir=tmp_path).solve("write")
        assert whole.trace_path is not None
        lines = whole.trace_path.read_text().splitlines(keepends=True)
        kinds = [json.loads(line)["kind"] for line in lines]
        assert kinds.index("call_began") < kinds.index("host_called")
        torn = tmp_path / "torn.jsonl"
        torn.write_text("".join(lines[: kinds.index("host_called")]))
        result = await agent_on(endpoint, tools=(send,), trace_dir=tmp_path).resume(torn)
    assert sent == ["hello"]
    assert "may have been carried out" in observations(result)[0]


async def test_what_cannot_go_on_says_why(tmp_path: Path) -> None:
    with ScriptedEndpoint(replies([py("1"), py("finish(1)")])) as endpoint:

        def helper() -> int:
            return 1

        cut = await agent_on(endpoint, tools=(helper,), trace_dir=tmp_path, max_steps=1).solve("go")
        assert cut.trace_path is not None
        with pytest.raises(ConfigurationError, match="helper"):
            await agent_on(endpoint).resume(cut.trace_path)
        with pytest.raises(ConfigurationError, match="prompt_style"):
            await agent_on(endpoint, tools=(helper,), prompt_style="minimal").resume(cut.trace_path)
        with pytest.raises(ConfigurationError, match="not finished"):
            await cut.follow_up("more")
        with pytest.raises(TraceError):
            await agent_on(endpoint).resume(tmp_path / "none.jsonl")
        with pytest.raises(ConfigurationError, match="a trace file"):
            await agent_on(endpoint).resume(7)  # type: ignore[arg-type]
        empty = tmp_path / "empty.jsonl"
        empty.write_text(cut.trace_path.read_text().splitlines(keepends=True)[0])
        with pytest.raises(TraceError, match="run its goal again"):
            await agent_on(endpoint, tools=(helper,)).resume(empty)
