"""vLLM killed in the middle of a tree: the run ends and says why, its trace is whole, and the SDK goes on once vLLM is back."""

from __future__ import annotations

import signal
from itertools import islice
from pathlib import Path

import pytest

from rao_rl.envs import make
from rao_rl.rollouts.attempt import AttemptSettings, agent_for
from recursive_agent import EndpointUnavailable, Result, Stream
from recursive_agent.model import Retries
from recursive_agent.model.served import ServedCheckpoint
from recursive_agent.trace.folder import trace_files
from recursive_agent.trace.schema import ModelCalled
from recursive_agent.trace.tree import ExecutionTree

from .conftest import Vllm

pytestmark = pytest.mark.anyio

KILL_AT = 4
"""Calls after which it is killed: the root has launched agents by then, and they others."""


async def killing(vllm: Vllm, stream: Stream) -> None:
    """Follow a run, and kill vLLM under it."""
    calls = 0
    async with stream:
        async for event in stream:
            if isinstance(event, ModelCalled):
                calls += 1
                if calls == KILL_AT:
                    assert vllm.kill() == 128 + signal.SIGKILL


async def test_a_kill_in_mid_tree_ends_the_run_and_a_restart_ends_the_trouble(vllm: Vllm, tmp_path: Path) -> None:
    environment = make("textcraft")
    task = next(islice(environment.tasks("test", 0, level="medium"), 1, None))
    model = ServedCheckpoint(vllm.folder, vllm.url, retries=Retries(limit=1))
    session = environment.session(task)
    async with agent_for(environment, session, model, AttemptSettings(trace_dir=tmp_path)) as agent:
        stream = agent.stream(task.goal, context=task.context, returns=task.returns, seed=0)
        with pytest.raises(EndpointUnavailable, match="gave no usable answer") as ended:
            await killing(vllm, stream)
        result = ended.value.result
        assert isinstance(result, Result)
        assert not result.status.finished
        assert result.usage.calls >= KILL_AT
        (path,) = trace_files(tmp_path)
        tree = ExecutionTree.load(path)
        assert tree.ended is not None
        assert len(tree.nodes) > 1
        assert all(node.status is not None for node in tree.walk())
        assert sum(node.usage.calls for node in tree.walk()) == tree.usage.calls == result.usage.calls

        vllm.start()
        again = await agent.solve(
            task.goal, context=task.context, returns=task.returns, seed=0, score=environment.session(task).score
        )
    await model.aclose()
    assert again.usage.calls > KILL_AT  # and nothing was raised
