"""Batches of rollouts: which attempts they are made of, none of them made twice, and what a failing sampler costs."""

from __future__ import annotations

import gc
from collections import Counter
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rao_rl.credit.assign import CreditConfig
from rao_rl.data.rows import TreeRows
from rao_rl.envs.textcraft import TextCraft
from rao_rl.errors import RolloutsFailed
from rao_rl.rollouts.batches import CollectConfig, Collector, TreeBatch, read_recorded
from rao_rl.train.steps import step_of
from recursive_agent.errors import AuthenticationFailed, ConfigurationError, EndpointUnavailable, ModelError
from recursive_agent.model.base import OnText
from recursive_agent.model.batching import Request
from recursive_agent.status import Status
from recursive_agent.trace.folder import trace_files
from recursive_agent.trace.tree import ExecutionTree
from tests.waiting import PATIENCE

from ..envs.coins import COLLECT, Coins, Watched, smallest_checkpoint

CONFIG = CollectConfig(**{**COLLECT, "tasks_per_step": 2, "num_generations": 3})
NO_MODEL: Any = None


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Path:
    return smallest_checkpoint(tmp_path_factory.mktemp("policy"), tokenizer)


@pytest.fixture
def model(checkpoint: Path) -> Watched:
    return Watched(checkpoint)


def planned(config: CollectConfig = CONFIG, tasks: int = 5) -> Collector:
    return Collector(Coins(tasks), NO_MODEL, config, Path("nowhere"))


async def roll(model: Watched, folder: Path, number: int = 0, config: CollectConfig = CONFIG) -> TreeBatch:
    return await Collector(Coins(), model, config, folder).batch(number)


def runs(batch: TreeBatch) -> list[str]:
    return [tree.run for tree in batch.trees]


# --- which attempts ---


@given(st.integers(0, 30), st.integers(0, 3), st.integers(1, 9), st.integers(1, 4), st.integers(2, 4))
def test_the_attempts_are_a_function_of_the_number(
    number: int, seed: int, tasks: int, per_step: int, generations: int
) -> None:
    config = replace(CONFIG, tasks_per_step=per_step, num_generations=generations, seed=seed)
    wanted = planned(config, tasks).attempts(number)
    assert wanted == planned(config, tasks).attempts(number)
    assert list(Counter(item.group for item in wanted).values()) == [generations] * per_step
    assert [item.group for item in wanted] == sorted(item.group for item in wanted)
    assert len({item.seed for item in wanted}) == len(wanted)
    assert len({(item.group, item.task.id) for item in wanted}) == per_step  # a group is attempts at one task


@given(st.integers(0, 5), st.integers(1, 7), st.integers(1, 4))
def test_every_task_comes_once_before_any_comes_twice(seed: int, tasks: int, per_step: int) -> None:
    collector = planned(replace(CONFIG, tasks_per_step=per_step, seed=seed), tasks)
    order = [item.task.id for number in range(2 * tasks) for item in collector.attempts(number)[::3]]
    for epoch in range(len(order) // tasks):
        assert len(set(order[epoch * tasks : (epoch + 1) * tasks])) == tasks


def test_epochs_and_seeds_have_orders_and_samples_of_their_own() -> None:
    def order(seed: int, epoch: int) -> list[str]:
        collector = planned(replace(CONFIG, tasks_per_step=20, seed=seed), 20)
        return [item.task.id for item in collector.attempts(epoch)[::3]]

    assert len({tuple(order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9
    ours, theirs = ({item.seed for item in planned(replace(CONFIG, seed=seed)).attempts(0)} for seed in (0, 1))
    assert not ours & theirs


def test_no_two_batches_share_an_attempt() -> None:
    collector = planned()
    made = [(item.group, item.seed) for number in range(20) for item in collector.attempts(number)]
    assert len(set(made)) == len(made)
    assert len({seed for _, seed in made}) == len(made)


def test_tasks_of_several_levels_are_drawn_from_all_of_them() -> None:
    config = replace(CONFIG, level="easy, medium", tasks_per_step=8)
    collector = Collector(TextCraft(), NO_MODEL, config, Path("nowhere"))
    assert {task.level for task in collector.tasks} == {"easy", "medium"}
    assert len(collector.tasks) == sum(len(list(TextCraft().tasks("train", level=name))) for name in ("easy", "medium"))
    assert len({item.task.level for item in collector.attempts(0)}) == 2
    with pytest.raises(ConfigurationError, match="has no tasks of level easy, heavy"):
        Collector(TextCraft(), NO_MODEL, replace(CONFIG, level="easy, heavy"), Path("nowhere"))


# --- rolling out ---


@pytest.mark.anyio
async def test_a_batch_is_whole_scored_trees_in_the_order_of_the_attempts(model: Watched, tmp_path: Path) -> None:
    batch = await roll(model, tmp_path, 4)
    wanted = planned().attempts(4)
    assert [(tree.group, tree.seed) for tree in batch.trees] == [(item.group, item.seed) for item in wanted]
    assert (batch.number, batch.recorded, batch.lost) == (4, 0, Counter())
    for tree in batch.trees:
        assert tree.complete
        assert tree.root.score in (0.0, 1.0)
        assert tree.settings["temperature"] == 1.0
        assert all(step.model is not None and step.model.token_ids for step in tree.root.steps)
    assert {path.parent for path in tmp_path.rglob("*.jsonl")} == {tmp_path / "000004"}
    assert sorted(runs(batch)) == sorted(ExecutionTree.load(path).run for path in trace_files(tmp_path / "000004"))


@pytest.mark.anyio
async def test_what_had_been_recorded_is_not_rolled_out_again(model: Watched, tmp_path: Path) -> None:
    first = await roll(model, tmp_path)
    calls = model.calls
    again = await roll(model, tmp_path)
    assert model.calls == calls > 0
    assert again.recorded == 6
    assert runs(again) == runs(first)
    assert [tree.root.score for tree in again.trees] == [tree.root.score for tree in first.trees]
    other = await roll(model, tmp_path, 1)
    assert other.recorded == 0
    assert model.calls > calls


@pytest.mark.anyio
@pytest.mark.parametrize("torn", ["half a line", "unscored", "no line", "no file"])
async def test_what_was_cut_off_is_rolled_out_again_and_samples_the_same(
    torn: str, model: Watched, tmp_path: Path
) -> None:
    first = await roll(model, tmp_path)
    victim = first.trees[2]
    (path,) = (path for path in trace_files(tmp_path / "000000") if ExecutionTree.load(path).run == victim.run)
    lines = path.read_bytes().splitlines(keepends=True)
    if torn == "half a line":
        path.write_bytes(b"".join(lines[:2]) + lines[2][:20])
    elif torn == "unscored":
        path.write_bytes(b"".join(line for line in lines if b'"scored"' not in line))
        assert len(path.read_bytes().splitlines()) < len(lines)
    elif torn == "no line":
        path.write_bytes(b"")
    else:
        path.unlink()
    calls = model.calls
    again = await roll(model, tmp_path)
    assert model.calls - calls == sum(len(node.steps) for node in victim.nodes.values())
    assert again.recorded == 5
    assert [run for run, before in zip(runs(again), runs(first), strict=True) if run != before] == [again.trees[2].run]
    assert sampled(again.trees[2]) == sampled(victim)
    assert (await roll(model, tmp_path)).recorded == 6


def sampled(tree: ExecutionTree) -> list[Any]:
    return [list(step.model.token_ids or ()) for step in tree.root.steps if step.model is not None]


@pytest.mark.anyio
async def test_a_recorded_attempt_of_another_seed_is_none_of_the_batch(model: Watched, tmp_path: Path) -> None:
    await roll(model, tmp_path)
    assert (await roll(model, tmp_path, config=replace(CONFIG, seed=1))).recorded == 0
    assert (await roll(model, tmp_path, config=replace(CONFIG, num_generations=2))).recorded == 4


class Meeting(Watched):
    """The first call waits for a second one."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.came = 0
        self.met = anyio.Event()

    async def sample(self, request: Request, on_text: OnText | None = None) -> None:
        self.came += 1
        if self.came == 2:
            self.met.set()
        with anyio.fail_after(PATIENCE):
            await self.met.wait()
        await super().sample(request, on_text)


@pytest.mark.anyio
async def test_only_so_many_trees_run_at_a_time(checkpoint: Path, tmp_path: Path) -> None:
    model = Meeting(checkpoint)
    await roll(model, tmp_path, config=replace(CONFIG, max_in_flight=2))
    assert model.most_under_way == 2


def test_a_folder_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    assert read_recorded(tmp_path / "nowhere") == {}


# --- a failing sampler ---


class Crashing(Watched):
    """Fails the second call of all."""

    def fails(self, call: int) -> ModelError | None:
        return EndpointUnavailable("the sampler crashed") if call == 2 else None


@pytest.mark.anyio
async def test_a_sampler_that_crashes_costs_the_trees_it_served(checkpoint: Path, tmp_path: Path) -> None:
    batch = await roll(Crashing(checkpoint), tmp_path, config=replace(CONFIG, max_in_flight=1))
    assert [tree.root.status is Status.INFRA_ERROR for tree in batch.trees].count(True) == 1
    assert (len(batch.trees), batch.lost) == (6, Counter())
    figures = step_of([TreeRows.of(tree) for tree in batch.trees], CreditConfig()).metrics
    assert figures["funnel/rollouts_dropped/root_infra_error"] == 1
    assert figures["funnel/rollouts_scored"] == 5
    whole = [tree for tree in batch.trees if tree.root.status is not Status.INFRA_ERROR]
    # The logged reward is the trained one: 0 for a root that did not finish, whatever its score.
    assert figures["reward"] == fmean((tree.root.score or 0.0) * tree.root.finished for tree in whole)


class Refusing(Watched):
    """Fails every call, and would fail every other one."""

    def fails(self, call: int) -> ModelError | None:
        return AuthenticationFailed("the key was refused")


@pytest.mark.anyio
async def test_a_sampler_that_will_never_answer_ends_the_run(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(AuthenticationFailed, match="the key was refused"):
        await roll(Refusing(checkpoint), tmp_path)


class Dying(Watched):
    """Fails every call after the first `alive`, or every one while `down`."""

    alive = 10**9
    down = False

    def fails(self, call: int) -> ModelError | None:
        return EndpointUnavailable("connection refused") if self.down or call > self.alive else None


@pytest.mark.anyio
async def test_attempts_that_the_sampler_failed_are_rolled_out_again(checkpoint: Path, tmp_path: Path) -> None:
    model = Dying(checkpoint)
    model.down = True
    first = await roll(model, tmp_path)
    assert {tree.root.status for tree in first.trees} == {Status.INFRA_ERROR}
    assert read_recorded(tmp_path / "000000") == {}
    model.down = False
    second = await roll(model, tmp_path)
    assert (second.recorded, len(second.trees)) == (0, 6)
    assert Status.INFRA_ERROR not in {tree.root.status for tree in second.trees}
    third = await roll(model, tmp_path)
    assert (third.recorded, runs(third)) == (6, runs(second))


@pytest.mark.anyio
@pytest.mark.parametrize("alive", [0, 3, 14])
async def test_a_sampler_that_died_ends_the_run_after_so_many_attempts(
    alive: int, checkpoint: Path, tmp_path: Path
) -> None:
    """Over several batches, whether it had sampled something or not."""
    model = Dying(checkpoint)
    model.alive = alive
    collector = Collector(Coins(), model, replace(CONFIG, max_in_flight=1, max_failures=8), tmp_path)

    async def roll_on() -> None:
        for number in range(20):
            await collector.batch(number)

    with pytest.raises(RolloutsFailed, match=r"8 attempts in a row failed, .*: connection refused\. Mend .*--resume"):
        await roll_on()
    dead = [tree for path in tmp_path.rglob("*.jsonl") if (tree := ExecutionTree.load(path)).complete]
    assert sum(tree.root.status is Status.INFRA_ERROR for tree in dead) == 8


@pytest.mark.anyio
async def test_failures_that_are_not_in_a_row_end_nothing(checkpoint: Path, tmp_path: Path) -> None:
    class Often(Watched):
        def fails(self, call: int) -> ModelError | None:
            return EndpointUnavailable("busy") if call % 3 == 0 else None

    collector = Collector(Coins(), Often(checkpoint), replace(CONFIG, max_in_flight=1, max_failures=4), tmp_path)
    trees = [tree for number in range(4) for tree in (await collector.batch(number)).trees]
    assert sum(tree.root.status is Status.INFRA_ERROR for tree in trees) >= 4


class Silent(Watched):
    """Never answers."""

    async def sample(self, request: Request, on_text: OnText | None = None) -> None:
        await anyio.sleep_forever()


@pytest.mark.anyio
async def test_a_sampler_that_says_nothing_until_the_time_is_up_is_no_failure_of_the_agents(
    checkpoint: Path, tmp_path: Path
) -> None:
    config = replace(CONFIG, timeout=0.2, max_failures=7)
    collector = Collector(Coins(), Silent(checkpoint), config, tmp_path)
    batch = await collector.batch(0)
    assert (batch.trees, batch.lost) == ([], Counter(no_answer=6))
    assert read_recorded(tmp_path / "000000") == {}
    with pytest.raises(RolloutsFailed, match="seconds were used up"):
        await collector.batch(1)


@pytest.mark.anyio
async def test_batches_that_are_rolled_out_together_share_the_places(checkpoint: Path, tmp_path: Path) -> None:
    model = Meeting(checkpoint)
    collector = Collector(Coins(), model, replace(CONFIG, max_in_flight=2), tmp_path)
    async with anyio.create_task_group() as tasks:
        for number in range(3):
            tasks.start_soon(collector.batch, number)
    assert model.most_under_way == 2


class Collecting(Watched):
    """Notes after how many new objects the process looks for garbage."""

    after = 0

    async def sample(self, request: Request, on_text: OnText | None = None) -> None:
        self.after = gc.get_threshold()[0]
        await super().sample(request, on_text)


@pytest.mark.anyio
async def test_garbage_is_collected_rarely_while_attempts_flow(checkpoint: Path, tmp_path: Path) -> None:
    before = gc.get_threshold()
    model = Collecting(checkpoint)
    await Collector(Coins(), model, CONFIG, tmp_path).batch(0)
    assert model.after > before[0]
    assert gc.get_threshold() == before


# --- settings ---


def test_an_environment_without_such_tasks_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="'train' of coins has no tasks of level hard; its levels are fair"):
        planned(replace(CONFIG, level="hard"))
    with pytest.raises(
        ConfigurationError, match=r"coins has no split 'night'; set collect\.split to one of train, test"
    ):
        planned(replace(CONFIG, split="night"))


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"tasks_per_step": 0}, "at least 1"),
        ({"max_in_flight": 0}, "at least 1"),
        ({"num_generations": 0}, "num_generations must be at least 1"),
        ({"temperature": 0.0}, "temperature must be more than 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        CollectConfig(**settings)


def test_sampling_for_training_is_never_truncated() -> None:
    assert CollectConfig(temperature=0.7).sampling == {"temperature": 0.7, "top_p": 1.0}
    assert CollectConfig(max_completion_length=64).sampling["max_tokens"] == 64
