"""The demonstrated conversations are what real agents have: same prompt, same observations, same result."""

from collections.abc import Mapping

import pytest

from rao_rl.envs import Mode
from rao_rl.envs.textcraft import TextCraft, World, demonstrate, parse_goal, tree_nodes
from recursive_agent import Agent, Limits, Status
from recursive_agent.testing import Request, ScriptedEndpoint


class Teacher:
    """A script that answers what the demonstration of the goal says, and keeps where a conversation departed from it."""

    def __init__(self, world: World, mode: Mode) -> None:
        self.differences: list[tuple[str | None, str]] = []
        self._world = world
        self._mode: Mode = mode

    def __call__(self, request: Request) -> str:
        goal = request.first.split("\n")[0]
        made = demonstrate(self._world, self._targets(goal), mode=self._mode)
        expected = f"{goal}\n{' '.join(made.functions)}" if request.step == 0 else made.cells[request.step - 1][1]
        if request.last != expected:
            self.differences.append((expected, request.last))
        return f"```python\n{made.cells[request.step][0]}\n```"

    @staticmethod
    def _targets(goal: str) -> Mapping[str, int]:
        return parse_goal(goal) or {}


@pytest.mark.anyio
@pytest.mark.parametrize("mode", ["recursive", "single"])
async def test_agents_that_do_what_was_demonstrated_see_what_was_demonstrated_and_succeed(mode: Mode) -> None:
    environment = TextCraft(mode=mode, inventory="tight")
    (task,) = environment.tasks("test", 2, level="medium", limit=1)
    session = environment.session(task)
    nodes = tree_nodes(session.world, task.data["targets"]).total()
    assert nodes > 10
    teacher = Teacher(session.world, mode)
    limits = Limits(max_depth=environment.max_depth, max_agents=nodes, max_steps=nodes + 1)
    async with ScriptedEndpoint(teacher) as endpoint:
        agent = Agent("scripted", endpoint.base_url, "key", tools=session.tools, limits=limits, prompt_style="minimal")
        result = await agent.solve(task.goal, score=session.score)
    assert result.status is Status.FINISHED, result.reason
    assert teacher.differences == []
    ((item, count),) = task.data["targets"].items()
    assert result.output.startswith("Crafted ")
    assert session.ledger.produced("0")[item] >= count
    assert len(result.tree.nodes) == (nodes if mode == "recursive" else 1)
    assert {node.score for node in result.tree.nodes.values()} == {1.0}
    assert session.unparsed == set()
