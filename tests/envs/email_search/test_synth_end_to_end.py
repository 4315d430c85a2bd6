"""The reference solver, run by real agents in the sandbox: right at every node, in both modes, within a small context."""

from __future__ import annotations

from itertools import islice

import pytest

from rao_rl.envs import Mode
from rao_rl.envs.email_search import EmailSynth
from rao_rl.imitation.expert import ExpertModel
from rao_rl.imitation.prompting import Prompting
from rao_rl.rollouts.attempt import AttemptSettings, rollout

MOST_CHARS = {"recursive": 8_000, "single": 12_000}
"""Characters of one agent's conversation: 2,000 and 3,000 tokens, about."""


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("level", ["small", pytest.param("large", marks=pytest.mark.slow)])
@pytest.mark.parametrize("mode", ["recursive", "single"])
async def test_the_reference_solver_is_right_at_every_node(mode: Mode, level: str, anyio_backend: str) -> None:
    environment = EmailSynth(mode=mode)
    # A question of each type, to one mailbox.
    shown = islice((each for each in environment.demonstrations() if each.task.level == level), 6)
    launched = 0
    for demonstration in shown:
        model = ExpertModel(demonstration.expert, Prompting("rich", "fenced"))
        result = await rollout(environment, demonstration.task, model, AttemptSettings(mode=mode))
        for node in result.tree.nodes.values():
            assert node.score == 1.0, (node.goal, node.result, node.reason)
            assert sum(len(message.content) for message in node.conversation()) < MOST_CHARS[mode]
        launched += len(result.tree.nodes) - 1
    assert (launched > 10) == (mode == "recursive")
