"""Groups of recorded attempts: which ones there are, and which need not be made again."""

from dataclasses import replace
from pathlib import Path

import pytest

from rao_rl.envs import Task
from rao_rl.envs.arguments import Plain
from rao_rl.envs.textcraft import TextCraft
from rao_rl.rollouts.attempt import AttemptSettings
from rao_rl.rollouts.many import PlannedAttempt
from rao_rl.rollouts.recording import Recording, Rollout, find_recorded, plan_groups, record, settings_of
from recursive_agent.errors import AuthenticationFailed, ConfigurationError
from recursive_agent.model import connect
from recursive_agent.model.endpoint import Endpoint
from recursive_agent.status import Status
from recursive_agent.testing import Fault, FaultKind, ScriptedEndpoint
from recursive_agent.trace.folder import trace_files, trace_path
from recursive_agent.trace.schema import Event, RunEnded, RunStarted, Scored
from recursive_agent.trace.store import TraceWriter
from recursive_agent.trace.tree import ExecutionTree
from recursive_agent.usage import Usage
from tests.trace.events import node_ended, node_started

TASKS = [Task(id="t/0", goal="a"), Task(id="t/1", goal="b")]
SETTINGS = {"model": "m", "interface": "tokens", "temperature": 1.0, "context limit": None, "depth limit": 12}


def test_each_task_has_a_group_and_each_attempt_a_seed_of_its_own() -> None:
    small, large, other = (
        plan_groups(TextCraft(), "train", TASKS, size=size, seed=seed) for size, seed in ((2, 3), (4, 3), (2, 4))
    )
    assert [plan.group for plan in small] == ["textcraft/train/t/0"] * 2 + ["textcraft/train/t/1"] * 2
    assert len({plan.seed for plan in large}) == 8
    keys, more, others = ({plan.key for plan in plans} for plans in (small, large, other))
    assert keys <= more
    assert not keys & others
    assert [plan.task.id for plan in small] == ["t/0", "t/0", "t/1", "t/1"]


def test_the_counts_of_a_recording() -> None:
    def ended(group: str, score: float | None, lost: bool = False) -> Rollout:
        return Rollout(group=group, seed=0, score=score, lost=lost)

    counts = Recording.of(
        [
            ended("a", 1.0),
            ended("a", 0.0),
            ended("b", 1.0),
            ended("b", 1.0),
            ended("b", None),
            ended("c", None, lost=True),
        ],
        wanted=8,
        found=2,
    )
    assert counts == Recording(wanted=8, rollouts=5, scored=4, solved=3, found=2, lost=1, groups=2, mixed_groups=1)


def write(folder: Path, plan: PlannedAttempt, *events: Event, temperature: float = 1.0) -> None:
    start = RunStarted(
        time=100.0,
        run=f"run{len(list(folder.glob('*')))}",
        model="m",
        interface="tokens",
        group=plan.group,
        seed=plan.seed,
        limits={"max_depth": 12},
        settings={"temperature": temperature, "context_limit": None},
    )
    with TraceWriter(trace_path(folder, start.run, 100.0)) as writer:
        for event in (start, *events):
            writer.append(event)


def whole(status: Status = Status.FINISHED, score: float | None = 1.0) -> list[Event]:
    return [
        node_started("0", 100.0, goal="a"),
        node_ended("0", 101.0, status=status),
        Scored(time=101.0, node="0", score=score),
        RunEnded(time=101.0, status=status, usage=Usage()),
    ]


def test_only_whole_scored_traces_of_wanted_attempts_are_found(tmp_path: Path) -> None:
    planned = plan_groups(TextCraft(), "train", [TASKS[0]], size=5, seed=0)
    first, second, third, fourth, fifth = planned
    assert find_recorded(tmp_path / "nowhere", planned, SETTINGS) == []
    write(tmp_path, first, *whole())
    write(tmp_path, second, *whole()[:2])  # killed
    write(tmp_path, third, *whole(Status.INFRA_ERROR))  # the endpoint's doing
    write(tmp_path, fourth, *whole()[:2], whole()[3])  # stopped before it was scored
    write(tmp_path, replace(first, seed=17), *whole())
    write(tmp_path, fifth)
    (tmp_path / "notes.jsonl").write_text("nonsense\n")
    assert find_recorded(tmp_path, planned, SETTINGS) == [
        Rollout(group=first.group, seed=first.seed, score=1.0, lost=False)
    ]


def test_attempts_made_with_other_settings_are_no_group(tmp_path: Path) -> None:
    planned = plan_groups(TextCraft(), "train", [TASKS[0]], size=1, seed=0)
    write(tmp_path, planned[0], *whole(), temperature=0.5)
    with pytest.raises(ConfigurationError, match=r"temperature 0\.5, not 1\.0; choose another folder"):
        find_recorded(tmp_path, planned, SETTINGS)


def test_attempts_of_an_environment_with_other_arguments_are_no_group(tmp_path: Path) -> None:
    """Its tasks may be others and its scores may mean something else, though the ids are the same."""
    given: dict[str, Plain] = {"inventory": "tight", "data": "/a/b"}
    planned, other = (
        plan_groups(TextCraft(), "train", [TASKS[0]], size=1, seed=0, arguments=arguments) for arguments in (given, {})
    )
    assert planned[0].group.startswith("textcraft?data=%2Fa%2Fb&inventory=tight/train/")
    write(tmp_path, planned[0], *whole())
    assert len(find_recorded(tmp_path, planned, SETTINGS)) == 1
    with pytest.raises(ConfigurationError, match="--env-set data=/a/b inventory=tight, not no --env-set; choose anoth"):
        find_recorded(tmp_path, other, SETTINGS)


@pytest.mark.anyio
async def test_what_is_recorded_is_found_again_and_what_the_endpoint_cost_is_not(tmp_path: Path) -> None:
    environment = TextCraft()
    tasks = list(environment.tasks("train", level="easy", limit=2))
    planned = plan_groups(environment, "train", tasks, size=2, seed=0)

    def script(request: object) -> str | Fault:
        return Fault(FaultKind.STATUS) if failing and tasks[1].goal in str(request) else "```python\nfinish('no')\n```"

    failing = True
    with ScriptedEndpoint(script) as endpoint:
        model = connect(Endpoint("scripted", endpoint.base_url, "key"), interface="tokens", max_retries=0)
        heard: list[Rollout] = []
        made = await record(
            environment, planned, model, tmp_path, AttemptSettings(concurrency=2), on_rollout=heard.append
        )
        assert [rollout.key for rollout in made] == [plan.key for plan in planned]
        assert sorted(heard, key=lambda rollout: rollout.key) == sorted(made, key=lambda rollout: rollout.key)
        assert (
            sorted((item.group, item.score, item.lost) for item in made if not item.lost)
            == [(f"textcraft/train/{tasks[0].id}", 0.0, False)] * 2
        )
        assert sum(item.lost for item in made) == 2
        settings = settings_of(ExecutionTree.load(trace_files(tmp_path)[0]))
        found = find_recorded(tmp_path, planned, settings)
        assert {item.key for item in found} == {item.key for item in made if not item.lost}
        failing = False
        rest = [plan for plan in planned if plan.key not in {item.key for item in found}]
        await record(environment, rest, model, tmp_path)
        await model.aclose()
        assert len(find_recorded(tmp_path, planned, settings)) == 4


@pytest.mark.anyio
async def test_a_key_that_is_refused_stops_the_recording(tmp_path: Path) -> None:
    environment = TextCraft()
    planned = plan_groups(environment, "train", environment.tasks("train", level="easy", limit=4), size=1, seed=0)
    with ScriptedEndpoint("never", api_key="another") as endpoint:
        model = connect(Endpoint("scripted", endpoint.base_url, "key"))
        with pytest.raises(AuthenticationFailed):
            await record(environment, planned, model, tmp_path)
        await model.aclose()
