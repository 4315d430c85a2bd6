"""A run whose conversations were compacted is resumed after any line of its trace, in either interface."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from recursive_agent import Agent, Compaction, ExecutionTree, ProcessSandbox, Status
from recursive_agent.testing import Answer, Request, ScriptedEndpoint
from tests.agent.helpers import agent_on, py

pytestmark = pytest.mark.anyio

ASKED = "Stop here for a moment"
CODE = "n = globals().get('n', 0) + 1\nprint('n is', n, 'x' * 400)\nif n == 6: finish([n, list(range(n))])"


def script(request: Request) -> Answer:
    return "n counts to six" if ASKED in request.last else py(CODE)


def agent(endpoint: ScriptedEndpoint, folder: Path, **settings: Any) -> Agent:
    chosen = {"max_steps": 20, "compact": Compaction(at=0.6, keep=1), "trace_dir": folder, **settings}
    return agent_on(endpoint, **chosen)


@pytest.mark.parametrize("interface", ["chat", "tokens"])
async def test_a_compacted_run_goes_on_after_any_line(tmp_path: Path, interface: Any) -> None:
    with ScriptedEndpoint(script, max_model_len=5_500) as endpoint:
        async with ProcessSandbox() as sandbox:
            settings: dict[str, Any] = {"interface": interface, "sandbox": sandbox}
            whole = await agent(endpoint, tmp_path / "whole", **settings).solve("count", seed=3)
            assert whole.output == [6, list(range(6))], whole.reason
            assert sum(call.restart for call in whole.tree.root.model_calls) >= 2
            assert whole.trace_path is not None
            lines = whole.trace_path.read_bytes().splitlines(keepends=True)
            sent = [request.messages for request in endpoint.requests]
            for cut in range(2, len(lines)):
                torn = tmp_path / f"cut-{cut}.jsonl"
                torn.write_bytes(b"".join(lines[:cut]) + lines[cut][:17])
                recorded = len(ExecutionTree.load(torn).root.model_calls)
                endpoint.requests.clear()
                result = await agent(endpoint, tmp_path, **settings).resume(torn)
                assert result.output == whole.output, (cut, result.reason)
                assert [request.messages for request in endpoint.requests] == sent[recorded:], cut
                again = ExecutionTree.load(torn)
                assert again.usage.calls == whole.usage.calls, cut
                assert again.root.conversations() == whole.tree.root.conversations(), cut


async def test_where_the_summary_failed_a_larger_window_goes_on(tmp_path: Path) -> None:
    answers = {"summary": " "}

    def failing(request: Request) -> Answer:
        return answers["summary"] if ASKED in request.last else py(CODE)

    with ScriptedEndpoint(failing) as endpoint:
        cut = await agent(endpoint, tmp_path, context_limit=5_500).solve("count")
        assert cut.status is Status.CONTEXT_OVERFLOW
        assert cut.trace_path is not None
        served = len(endpoint.requests)
        assert cut.usage.calls == served
        result = await agent(endpoint, tmp_path, context_limit=20_000).resume(cut.trace_path)
        assert result.output[0] == 6, result.reason
        assert len(result.tree.root.conversations()) == 1
        assert not any(ASKED in message.content for message in result.tree.root.conversation())
        assert len(endpoint.requests) + 1 == served + 1 + 6 - (served - 1)


async def test_a_fork_before_a_compaction_sums_up_anew(tmp_path: Path) -> None:
    with ScriptedEndpoint(script, max_model_len=5_500) as endpoint:
        old = await agent(endpoint, tmp_path).solve("count")
        at = next(step.number for step in old.tree.root.steps if step.summary is not None)
        new = await agent(endpoint, tmp_path).resume(old, step=at, edit=lambda text: text + " edited")
        assert new.output == old.output
        step = new.tree.root.steps[at - 1]
        assert step.summary is not None
        assert step.model is not None
        assert step.model.messages[-1].content.endswith(" edited")
        without = await agent(endpoint, tmp_path, compact=None).resume(old.tree, step=at + 1)
        assert without.output == old.output  # what is recorded of the compaction holds
