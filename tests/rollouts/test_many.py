"""Many attempts at once: in what order, how many at a time, in which sandbox, and what a failing endpoint costs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from rao_rl.envs import Task
from rao_rl.rollouts.attempt import AttemptSettings
from rao_rl.rollouts.many import PlannedAttempt, run_attempts
from recursive_agent import Result
from recursive_agent.errors import AuthenticationFailed, ConfigurationError
from recursive_agent.model import Model, connect
from recursive_agent.model.endpoint import Endpoint
from recursive_agent.repl import ProcessSandbox
from recursive_agent.testing import Fault, FaultKind, Request, ScriptedEndpoint
from recursive_agent.trace.tree import Node

pytestmark = pytest.mark.anyio


class Desk:
    """A session that counts how many attempts are open."""

    def __init__(self, office: Office) -> None:
        self.office = office
        self.tools = [self.wait]

    async def wait(self) -> int:
        """Wait for as many attempts as may run at a time; returns how many there are."""
        office = self.office
        office.open += 1
        office.most_open = max(office.most_open, office.open)
        if office.open == office.together:
            office.met.set()
        with anyio.fail_after(60):
            await office.met.wait()
        office.open -= 1
        return office.most_open

    async def score(self, node: Node) -> float | None:
        return 1.0 if node.finished else 0.0


class Office:
    """`together` attempts wait for each other."""

    name = "office"
    max_depth = 2
    splits = ("train",)
    levels = ("any",)

    def __init__(self, together: int = 1) -> None:
        self.together = together
        self.open = 0
        self.most_open = 0
        self.met = anyio.Event()

    def tasks(self, split: str, seed: int = 0, level: str | None = None, limit: int | None = None) -> list[Task]:
        return [Task(id=f"t{number}", goal=f"Go to desk {number}", level="any") for number in range(6)][:limit]

    def task(self, goal: str, seed: int = 0) -> Task:
        return Task(id=goal, goal=goal)

    def session(self, task: Task) -> Desk:
        return Desk(self)


def plans(office: Office, number: int) -> list[PlannedAttempt]:
    return [PlannedAttempt(task=task, group=task.id, seed=7) for task in office.tasks("train", limit=number)]


class Watched(ProcessSandbox):
    """A sandbox that counts how often it was entered."""

    entered = 0
    """Of all of them."""

    async def __aenter__(self) -> Watched:
        Watched.entered += 1
        await super().__aenter__()
        return self


@pytest.fixture
async def endpoint() -> AsyncIterator[ScriptedEndpoint]:
    async with ScriptedEndpoint("```python\nfinish(await wait())\n```") as endpoint:
        yield endpoint


def model_at(endpoint: ScriptedEndpoint, **settings: Any) -> Model:
    return connect(Endpoint("scripted", endpoint.base_url, "key"), **settings)


async def outputs(office: Office, number: int, endpoint: ScriptedEndpoint, settings: AttemptSettings) -> list[Any]:
    model = model_at(endpoint)
    try:
        return await run_attempts(
            office, plans(office, number), model, settings, lambda plan, result: (plan.task.id, result.output)
        )
    finally:
        await model.aclose()


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_so_many_trees_run_at_a_time_and_the_order_is_kept(endpoint: ScriptedEndpoint, concurrency: int) -> None:
    office = Office(together=concurrency)
    ended = await outputs(office, 6, endpoint, AttemptSettings(concurrency=concurrency))
    assert [task for task, _ in ended] == ["t0", "t1", "t2", "t3", "t4", "t5"]
    assert office.most_open == concurrency


async def test_an_open_sandbox_is_used_by_all_and_stays_open(endpoint: ScriptedEndpoint) -> None:
    async with Watched() as sandbox:
        before = Watched.entered
        for _ in range(2):
            assert len(await outputs(Office(), 3, endpoint, AttemptSettings(sandbox=sandbox))) == 3
        assert Watched.entered == before


async def test_attempts_share_one_sandbox_that_is_opened_for_them(endpoint: ScriptedEndpoint) -> None:
    settings = AttemptSettings(sandbox=f"{__name__}:Watched")
    before = Watched.entered
    assert len(await outputs(Office(), 3, endpoint, settings)) == 3
    assert Watched.entered == before + 1
    assert await outputs(Office(), 0, endpoint, settings) == []
    assert Watched.entered == before + 1


async def test_each_attempt_is_reported_as_it_ends_and_has_its_own_mode(endpoint: ScriptedEndpoint) -> None:
    heard: list[tuple[str | None, int | None]] = []

    def on_end(plan: PlannedAttempt, result: Result) -> None:
        heard.append((plan.mode, result.tree.limits.get("max_depth")))

    office = Office()
    planned = [
        PlannedAttempt(task=office.task("a"), group="a", seed=1, mode="single"),
        PlannedAttempt(task=office.task("b"), group="b", seed=1, mode="recursive"),
        PlannedAttempt(task=office.task("c"), group="c", seed=1),
    ]
    model = model_at(endpoint)
    await run_attempts(office, planned, model, AttemptSettings(concurrency=1, max_depth=1), on_end)
    await model.aclose()
    assert dict(heard) == {"single": 0, "recursive": 1, None: 1}


async def test_a_failing_endpoint_costs_the_tree_it_failed_and_keeps_what_there_is_of_it() -> None:
    def script(request: Request) -> str | Fault:
        return Fault(FaultKind.STATUS) if "desk 1" in request.first else "```python\nfinish(1)\n```"

    async with ScriptedEndpoint(script) as endpoint:
        model = model_at(endpoint, max_retries=0)
        statuses = await run_attempts(
            Office(), plans(Office(), 3), model, AttemptSettings(), lambda _, result: result.status.value
        )
        await model.aclose()
    assert statuses == ["finished", "infra_error", "finished"]


async def test_what_fails_every_call_ends_the_work() -> None:
    async with ScriptedEndpoint("never", api_key="another") as endpoint:
        model = model_at(endpoint)
        with pytest.raises(AuthenticationFailed):
            await run_attempts(Office(), plans(Office(), 3), model, AttemptSettings(), lambda _, result: result)
        await model.aclose()


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="concurrency must be at least 1"):
        AttemptSettings(concurrency=0)
    with pytest.raises(ConfigurationError, match="mode must be 'single' or 'recursive', not 'both'"):
        AttemptSettings(mode="both")  # type: ignore[arg-type]
