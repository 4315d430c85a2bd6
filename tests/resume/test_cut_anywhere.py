"""Traces cut after each of their lines, for runs of other shapes; and what a fork leaves out."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from recursive_agent import Agent, ExecutionTree, ProcessSandbox, Result, Status
from recursive_agent.testing import Request, Script, ScriptedEndpoint, by_goal
from tests.agent.helpers import agent_on, py
from tests.waiting import until

pytestmark = pytest.mark.anyio


def _counted(script: Script, asked: Counter[str]) -> Script:
    def answer(request: Request) -> Any:
        goal = next(line for line in request.first.splitlines() if line.startswith("Goal:"))
        asked[f"{goal} {request.step}"] += 1
        return script(request)

    return answer


async def _cut_everywhere(
    folder: Path,
    script: Script,
    run: Callable[[Agent], Awaitable[Result]],
    *,
    first: str = "node_started",
    **settings: Any,
) -> None:
    """Run, then cut the trace after each line from the first one of this kind on, resume, and compare."""
    asked: Counter[str] = Counter()
    with ScriptedEndpoint(_counted(script, asked)) as endpoint:
        async with ProcessSandbox() as sandbox:
            whole = await run(agent_on(endpoint, trace_dir=folder / "whole", sandbox=sandbox, **settings))
            assert whole.trace_path is not None
            all_asked = asked.copy()
            lines = whole.trace_path.read_bytes().splitlines(keepends=True)
            begin = next(n for n, line in enumerate(lines) if f'"kind":"{first}"'.encode() in line)
            for cut in range(begin + 1, len(lines)):
                trace = folder / f"{cut}.jsonl"
                trace.write_bytes(b"".join(lines[:cut]))
                before = ExecutionTree.load(trace)
                asked.clear()
                with anyio.fail_after(60):
                    again = await agent_on(endpoint, sandbox=sandbox, **settings).resume(trace)
                assert again.status is Status.FINISHED, (cut, again.reason)
                assert again.output == whole.output, cut
                recorded = sum(step.model is not None for node in before.walk() for step in node.steps)
                assert asked.total() == all_asked.total() - recorded, cut
                assert again.usage.calls == whole.usage.calls, cut


async def test_a_further_question(tmp_path: Path) -> None:
    script = by_goal(
        {
            "first thing": [
                py("found = await launch_subagent('dig deep')\nfinish(found)"),
                py("more = await launch_subagent('dig more')\nprint(more)"),
                py("finish([found, more])"),
            ],
            "dig deep": py("finish(1)"),
            "dig more": py("finish(2)"),
        }
    )

    async def run(agent: Agent) -> Result:
        return await (await agent.solve("first thing", returns=int)).follow_up("next thing", returns=list[int])

    await _cut_everywhere(tmp_path, script, run, first="run_resumed", max_steps=2)


async def test_a_refused_launch_that_is_tried_again(tmp_path: Path) -> None:
    root = """
        first = asyncio.create_task(launch_subagent('hold it', max_tokens=60_000))
        await asyncio.sleep(0)
        try:
            await launch_subagent('the job', max_tokens=60_000)
        except LaunchRefused:
            print('refused')
        await first
        finish(await launch_subagent('the job', max_tokens=60_000))
        """
    script = by_goal({"all of it": py(root), "hold it": py("finish(1)"), "the job": py("finish(2)")})
    await _cut_everywhere(tmp_path, script, lambda agent: agent.solve("all of it"), max_tokens=100_000)


async def test_identical_goals_that_are_shared(tmp_path: Path) -> None:
    root = [py("a = await launch_subagent('same job')"), py("finish([a, await launch_subagent('same job')])")]
    script = by_goal({"all of it": root, "same job": [py("x = 3"), py("finish(x)")]})
    await _cut_everywhere(tmp_path, script, lambda agent: agent.solve("all of it"), share_identical=True)


async def test_a_run_that_was_cancelled_with_calls_in_the_background(tmp_path: Path) -> None:
    asked = [0]

    async def leaf(request: Request) -> str:
        asked[0] += 1
        if asked[0] == 1:
            await asyncio.Event().wait()  # until the request is cancelled
        return py("finish(5)")

    root = [py("task = asyncio.create_task(launch_subagent('slow leaf'))"), py("finish(await task)")]
    with ScriptedEndpoint(by_goal({"all of it": root, "slow leaf": leaf})) as endpoint:
        agent = agent_on(endpoint, trace_dir=tmp_path)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(agent.solve, "all of it")
            await until(lambda: asked[0] == 1 and len(endpoint.requests) == 3)
            tasks.cancel_scope.cancel()
        (trace,) = tmp_path.iterdir()
        with anyio.fail_after(60):
            result = await agent.resume(trace)
        assert result.output == 5
        assert len(result.tree.nodes) == 2


async def test_steps_are_done_anew_where_the_replay_ended_within_a_cell(tmp_path: Path) -> None:
    cells = [py("import time\nx = 1"), py("y = x + 1\nprint(await launch_subagent('some leaf'))"), py("finish([x, y])")]
    with ScriptedEndpoint(by_goal({"count": cells, "some leaf": py("finish(3)")})) as endpoint:
        cut = await agent_on(endpoint, trace_dir=tmp_path, max_steps=2).solve("count")
        assert cut.trace_path is not None
        altered = tmp_path / "altered.jsonl"
        altered.write_text(
            cut.trace_path.read_text().replace("import time\\nx = 1", "import time\\ntime.time()\\nx = 1")
        )
        before = len(endpoint.requests)
        result = await agent_on(endpoint).resume(altered, diverged="redo")
        assert result.output == [1, 2]
        assert len(endpoint.requests) - before == 2  # the second step and the last; the leaf's result is found
        assert (await agent_on(endpoint).resume(altered)).output == [1, 2]


async def test_a_fork_of_a_step_leaves_out_what_the_step_launched(tmp_path: Path) -> None:
    answers = iter([py("print(await launch_subagent('some leaf', max_tokens=60_000))"), py("finish('other')")])
    script = by_goal({"count": lambda _: next(answers), "some leaf": py("finish(3)")})
    with ScriptedEndpoint(script) as endpoint:
        cut = await agent_on(endpoint, max_steps=1).solve("count")
        result = await agent_on(endpoint, max_tokens=61_000).resume(cut.tree, step=1)
        assert result.output == "other"
        assert len(result.tree.nodes) == 1
        assert result.usage.calls == 1
