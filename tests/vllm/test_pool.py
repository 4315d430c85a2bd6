"""Two vLLM servers with one folder: pushed to both, one of them killed under its agents, and the loop goes on."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import anyio
import pytest

from rao_rl.config import SamplerConfig
from rao_rl.envs import make
from rao_rl.rollouts.attempt import ROLLOUT_LIMITS, AttemptSettings, agent_for
from rao_rl.weights.choose import open_sync
from rao_rl.weights.pool import PoolSync
from recursive_agent import Status
from recursive_agent.trace.schema import ModelCalled

from .conftest import NAME, Vllm
from .test_interfaces import CLOSE
from .test_pushes import learn

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("_weights_come_back")]

ATTEMPTS = 6
SETTINGS = AttemptSettings(
    limits=replace(ROLLOUT_LIMITS, max_agents=8, max_steps=4), sampling={"temperature": 1.0, "max_tokens": 32}
)
"""Short ones: what the policy writes after the updates of this test is noise."""
KILL_AT = 3
"""Answers of the second server after which it is killed."""


@pytest.fixture
def second(vllm: Vllm) -> Iterator[Vllm]:
    server = Vllm(vllm.folder)
    server.start()
    yield server
    server.close()


class Rollouts:
    """Attempts at once on one model, which note their calls, and kill a server under themselves."""

    def __init__(self, sync: PoolSync[Any], second: Vllm) -> None:
        self.calls: list[ModelCalled] = []
        self.killed_after: int | None = None
        self._sync = sync
        self._second = second
        self._environment = make("textcraft")

    async def run(self, seed: int, *, kill: bool = False) -> list[ModelCalled]:
        """The calls of six attempts."""
        self.calls = []
        tasks = list(islice(self._environment.tasks("test", seed, level="medium"), ATTEMPTS))
        async with anyio.create_task_group() as group:
            for task in tasks:
                group.start_soon(self._attempt, task, seed, kill)
        return self.calls

    async def _attempt(self, task: Any, seed: int, kill: bool) -> None:
        agent = agent_for(self._environment, self._environment.session(task), self._sync.model, SETTINGS)
        async with agent, agent.stream(task.goal, context=task.context, returns=task.returns, seed=seed) as stream:
            async for event in stream:
                if isinstance(event, ModelCalled):
                    self.calls.append(event)
                    of_second = sum(call.endpoint == self._second.url for call in self.calls)
                    if kill and self.killed_after is None and of_second == KILL_AT:
                        self.killed_after = len(self.calls)
                        assert self._second.kill() == 128 + signal.SIGKILL
            result = stream.result
        assert result is not None
        assert result.status is not Status.INFRA_ERROR, result.reason


def of_the_pool(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the log says of the pool."""
    return [record.getMessage() for record in caplog.records if record.name == "rao_rl.weights.pool"]


async def test_a_server_killed_under_its_agents_is_missed_by_the_next_push_and_by_nobody_else(
    vllm: Vllm, second: Vllm, policy: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "rao_rl.weights.pool")
    config = SamplerConfig(
        name="vllm-reload",
        base_url=f"{vllm.url},{second.url}",
        served_model=NAME,
        served_folder=str(vllm.folder),
    )
    sync = open_sync(config, vllm.folder, policy)
    assert isinstance(sync, PoolSync)
    rollouts = Rollouts(sync, second)
    learn(policy, 1)
    push = await sync.push(policy, 1)
    assert push.probe_error < CLOSE
    calls = await rollouts.run(0)
    assert {(call.endpoint, call.version) for call in calls} == {(vllm.url, "1"), (second.url, "1")}

    calls = await rollouts.run(1, kill=True)
    assert rollouts.killed_after is not None
    assert {call.endpoint for call in calls[-1:]} == {vllm.url}
    assert of_the_pool(caplog) == []

    learn(policy, 2)
    push = await sync.push(policy, 2)
    assert push.probe_error < CLOSE
    (line,) = of_the_pool(caplog)
    assert line.startswith(f"{second.url} is taken out of the pool until a push succeeds: it gives no answer")
    assert {(call.endpoint, call.version) for call in await rollouts.run(2)} == {(vllm.url, "2")}
    await sync.model.aclose()
