"""Groups of recorded attempts: which ones there are, and which need not be made again."""

from pathlib import Path

import pytest

from rao_rl.envs import Task
from rao_rl.envs.textcraft import TextCraft
from rao_rl.record import Member, Recording, Rollout, find_recorded, members, record, settings_of
from recursive_agent.errors import AuthenticationFailed, ConfigurationError
from recursive_agent.model import connect
from recursive_agent.model.endpoint import Endpoint
from recursive_agent.status import Status
from recursive_agent.testing import Fault, FaultKind, ScriptedEndpoint
from recursive_agent.trace.schema import Event, RunEnded, RunStarted, Scored
from recursive_agent.trace.store import TraceWriter, trace_files, trace_path
from recursive_agent.trace.tree import ExecutionTree
from recursive_agent.usage import Usage
from tests.trace.events import node_ended, node_started

TASKS = [Task(id="t/0", goal="a"), Task(id="t/1", goal="b")]
SETTINGS = {"model": "m", "interface": "tokens", "temperature": 1.0, "context limit": None, "depth limit": 12}


def test_members_have_a_group_for_each_task_and_seeds_of_their_own() -> None:
    small, large = (members(TextCraft(), "train", TASKS, size=size, seed=3) for size in (2, 4))
    assert [member.group for member in small] == ["textcraft/train/t/0"] * 2 + ["textcraft/train/t/1"] * 2
    assert len({member.seed for member in large}) == 8
    assert small.keys() <= large.keys()
    assert not small.keys() & members(TextCraft(), "train", TASKS, size=2, seed=4).keys()
    assert [task.id for task in small.values()] == ["t/0", "t/0", "t/1", "t/1"]


def test_the_counts_of_a_recording() -> None:
    def made(group: str, score: float | None, lost: bool = False) -> Rollout:
        return Rollout(member=Member(group, 0), score=score, lost=lost)

    told = Recording.of(
        [made("a", 1.0), made("a", 0.0), made("b", 1.0), made("b", 1.0), made("b", None), made("c", None, lost=True)],
        wanted=8,
        found=2,
    )
    assert told == Recording(wanted=8, rollouts=5, scored=4, solved=3, found=2, lost=1, groups=2, mixed_groups=1)


def write(folder: Path, member: Member, *events: Event, temperature: float = 1.0) -> None:
    start = RunStarted(
        time=100.0,
        run=f"run{len(list(folder.glob('*')))}",
        model="m",
        interface="tokens",
        group=member.group,
        seed=member.seed,
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
    first, second, third, fourth, fifth = members(TextCraft(), "train", [TASKS[0]], size=5, seed=0)
    wanted = dict.fromkeys((first, second, third, fourth, fifth), TASKS[0])
    assert find_recorded(tmp_path / "nowhere", wanted, SETTINGS) == []
    write(tmp_path, first, *whole())
    write(tmp_path, second, *whole()[:2])  # killed
    write(tmp_path, third, *whole(Status.INFRA_ERROR))  # the endpoint's doing
    write(tmp_path, fourth, *whole()[:2], whole()[3])  # stopped before it was scored
    write(tmp_path, Member(first.group, 17), *whole())
    write(tmp_path, fifth)
    (tmp_path / "notes.jsonl").write_text("nonsense\n")
    assert find_recorded(tmp_path, wanted, SETTINGS) == [Rollout(member=first, score=1.0, lost=False)]


def test_attempts_made_with_other_settings_are_no_group(tmp_path: Path) -> None:
    wanted = members(TextCraft(), "train", [TASKS[0]], size=1, seed=0)
    write(tmp_path, next(iter(wanted)), *whole(), temperature=0.5)
    with pytest.raises(ConfigurationError, match=r"temperature 0\.5 instead of 1\.0: take another folder"):
        find_recorded(tmp_path, wanted, SETTINGS)


@pytest.mark.anyio
async def test_what_is_recorded_is_found_again_and_what_the_endpoint_cost_is_not(tmp_path: Path) -> None:
    environment = TextCraft()
    tasks = list(environment.tasks("train", difficulty="easy", limit=2))
    wanted = members(environment, "train", tasks, size=2, seed=0)

    def script(request: object) -> str | Fault:
        return Fault(FaultKind.STATUS) if failing and tasks[1].goal in str(request) else "```python\nfinish('no')\n```"

    failing = True
    with ScriptedEndpoint(script) as endpoint:
        model = connect(Endpoint("scripted", endpoint.base_url, "key"), interface="tokens", max_retries=0)
        heard: list[Rollout] = []
        made = await record(environment, wanted, model, tmp_path, concurrency=2, on_rollout=heard.append)
        assert heard == made
        assert (
            sorted((item.member.group, item.score, item.lost) for item in made if not item.lost)
            == [(f"textcraft/train/{tasks[0].id}", 0.0, False)] * 2
        )
        assert sum(item.lost for item in made) == 2
        settings = settings_of(ExecutionTree.load(trace_files(tmp_path)[0]))
        found = find_recorded(tmp_path, wanted, settings)
        assert {item.member for item in found} == {item.member for item in made if not item.lost}
        failing = False
        rest = {member: task for member, task in wanted.items() if member not in {item.member for item in found}}
        await record(environment, rest, model, tmp_path)
        await model.aclose()
        assert len(find_recorded(tmp_path, wanted, settings)) == 4


@pytest.mark.anyio
async def test_a_key_that_is_refused_stops_the_recording(tmp_path: Path) -> None:
    environment = TextCraft()
    wanted = members(environment, "train", environment.tasks("train", difficulty="easy", limit=4), size=1, seed=0)
    with ScriptedEndpoint("never", api_key="another") as endpoint:
        model = connect(Endpoint("scripted", endpoint.base_url, "key"))
        with pytest.raises(AuthenticationFailed):
            await record(environment, wanted, model, tmp_path)
        await model.aclose()
