"""The online loop: what it trains on, what it counts, and that a run killed anywhere ends as if it had not been."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest
import torch

import rao_rl.rollouts.batches
import rao_rl.train.online
import rao_rl.train.run
from rao_rl.config import OnlineConfig, UpdateConfig
from rao_rl.credit.assign import tree_version
from rao_rl.credit.config import PAPER, CreditConfig
from rao_rl.data.used_groups import UsedGroups, read_used
from rao_rl.envs.arguments import Plain
from rao_rl.envs.base import Environment, Task
from rao_rl.errors import RolloutsFailed, TrainingDiverged, TrainingStopped, WeightPushError
from rao_rl.rollouts.attempt import AttemptSettings, RanElsewhere, rollout
from rao_rl.rollouts.batches import CollectConfig, Collector
from rao_rl.rollouts.failures import is_recorded
from rao_rl.train.divergence import diverged_draws, set_aside
from rao_rl.train.online import OnlineLoop, Progress
from rao_rl.train.run import train_online
from rao_rl.train.trainer import RaoTrainer
from rao_rl.weights.checkpoint import load_checkpoint
from rao_rl.weights.sync import EmbeddedSync, Probe, Push
from recursive_agent.checkpoint import CheckpointSettings, EnvironmentSettings
from recursive_agent.errors import ConfigurationError, EndpointUnavailable, ModelError
from recursive_agent.model.base import Model, OnText
from recursive_agent.model.batching import Request
from recursive_agent.model.embedded import EmbeddedModel
from recursive_agent.trace.folder import trace_files
from recursive_agent.trace.tree import ExecutionTree
from tests.cli.command import environment

from ..envs.coins import COLLECT, Coins, Watched, taught_checkpoint
from ..waiting import wait_until
from .killed_runs import DEATHS, SAVED, STEPS

ROOT = Path(__file__).parents[2]
UPDATE = UpdateConfig(learning_rate=1e-3, warmup_steps=0, bf16=False, save_steps=100)
VOLATILE = ("time/", "flow/", "train_", "epoch", "total_flos", "rao/recorded_trees", "rao/push_error")
"""Figures that may differ between a run and the same run in pieces."""


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return taught_checkpoint(tmp_path_factory.mktemp("start"))


def train(
    start: Path,
    out: Path,
    collect: Mapping[str, Any] = {},
    resume: bool = False,
    eval_tasks: int = 0,
    credit: CreditConfig = PAPER,
    arguments: Mapping[str, Plain] = {},
    **online: Any,
) -> Path:
    return train_online(
        out,
        start,
        Coins(),
        collect=CollectConfig(**{**COLLECT, **collect}),
        credit=credit,
        update=UPDATE,
        online=OnlineConfig(**{"max_steps": 3, **online}),
        eval_tasks=list(Coins().tasks("test", limit=eval_tasks)) if eval_tasks else (),
        arguments=arguments,
        resume=resume,
    )


def rows(out: Path) -> list[dict[str, Any]]:
    path = out / "metrics.jsonl"  # which is there once something was written
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def trained(out: Path) -> list[dict[str, Any]]:
    """A row for each optimizer step."""
    return [row for row in rows(out) if "loss" in row]


def trees(folder: Path, number: int) -> list[ExecutionTree]:
    return [ExecutionTree.load(path) for path in trace_files(folder / "traces" / f"{number:06d}")]


# --- killed runs ---

ALWAYS = "between"
"""The killed run of the default suite; the others are slow."""


def told(out: Path) -> list[dict[str, Any]]:
    """The metrics, without the line that Trainer ends a run with."""
    return [
        {name: value for name, value in row.items() if not name.startswith(VOLATILE)}
        for row in rows(out)
        if "train_runtime" not in row
    ]


@pytest.fixture(scope="module")
def killed(start: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run that was not killed, and one that was, again and again."""
    return make_runs(start, tmp_path_factory.mktemp("killed"), "whole", ALWAYS)


@pytest.fixture(scope="module")
def more_killed(killed: Path, start: Path) -> Path:
    """The others, beside them."""
    return make_runs(start, killed, *sorted((DEATHS.keys() | SAVED.keys()) - {"whole", ALWAYS}))


def make_runs(start: Path, folder: Path, *names: str) -> Path:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.train.killed_runs", str(start), str(folder), *names],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    logs = "\n".join(path.read_text(errors="replace")[-2000:] for path in sorted(folder.glob("*.log")))
    assert done.returncode == 0, f"{done.stderr}\n{logs}"
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", [*DEATHS, "never saved"])
def test_a_killed_run_ends_as_if_it_had_not_been_killed(name: str, more_killed: Path) -> None:
    whole, pieces = more_killed / "whole", more_killed / name
    assert [row["step"] for row in trained(pieces)] == list(range(1, STEPS + 1))
    assert told(pieces) == told(whole)
    assert (pieces / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert name in DEATHS or SAVED[name] != SAVED["whole"]


def test_a_killed_run_rolls_out_nothing_that_had_been_recorded(killed: Path) -> None:
    rolls_out_nothing_twice(ALWAYS, killed)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(DEATHS.keys() - {ALWAYS}))
def test_no_killed_run_does(name: str, more_killed: Path) -> None:
    rolls_out_nothing_twice(name, more_killed)


def rolls_out_nothing_twice(name: str, killed: Path) -> None:
    def made(run: str) -> Counter[Any]:
        folders = sorted((killed / run / "traces").iterdir())
        whole = [tree for folder in folders for tree in map(ExecutionTree.load, trace_files(folder)) if tree.complete]
        return Counter((tree.group, tree.seed) for tree in whole)

    assert made(name) == made("whole")
    assert set(made("whole").values()) == {1}


def test_a_run_tells_what_it_did(killed: Path) -> None:
    whole = rows(killed / "whole")
    skipped = [row for row in whole if "rao/skipped" in row]
    assert skipped
    assert all(row["frac_reward_zero_std"] == 1.0 for row in skipped)
    batches = [row["rao/batch"] for row in whole if "rao/batch" in row]
    assert batches == list(range(STEPS + len(skipped)))
    for name, tokens in (("rao/generated_tokens", "completion_tokens"), ("rao/total_tokens", "total_tokens")):
        counted = [row[name] for row in whole if "rao/batch" in row]
        for number, total in enumerate(counted):
            before = counted[number - 1] if number else 0
            assert total - before == sum(getattr(tree.usage, tokens) for tree in trees(killed / "whole", number))
    assert [row["step"] for row in whole if "eval/success/fair" in row] == [0, 2, 4, 5]
    for row in trained(killed / "whole"):
        assert row["rao/push_error"] < 1e-3
        assert row["time/rollout"] > 0


def test_batches_are_sampled_by_the_weights_that_are_trained(killed: Path) -> None:
    for row in rows(killed / "whole"):
        if "rao/batch" in row:
            # A row of a step is written when the step is over; one of a batch that was skipped, before any.
            version = row["step"] - 1 if "loss" in row else row["step"]
            assert {tree_version(tree) for tree in trees(killed / "whole", int(row["rao/batch"]))} == {version}
            if "loss" in row:
                assert row["sampling/importance_sampling_ratio/mean"] == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("temperature", [0.6, pytest.param(1.4, marks=pytest.mark.slow)])
def test_log_probs_are_those_of_the_temperature_on_both_sides(temperature: float, start: Path, tmp_path: Path) -> None:
    train(start, tmp_path, {"temperature": temperature}, max_steps=2)
    for row in trained(tmp_path):
        assert row["sampling/importance_sampling_ratio/max"] == pytest.approx(1.0, abs=1e-3)
        assert row["sampling/sampling_logp_difference/mean"] < 1e-3


# --- resuming ---


def test_what_is_resumed_is_the_same_run(start: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="contains no run to resume"):
        train(start, tmp_path / "run", resume=True)
    train(start, tmp_path / "run", max_steps=1)
    with pytest.raises(ConfigurationError, match="started with other settings: collect"):
        train(start, tmp_path / "run", {"num_generations": 3}, resume=True)
    with pytest.raises(ConfigurationError, match="contains a run: continue it with --resume, or choose another folder"):
        train(start, tmp_path / "run", max_steps=1)


def test_a_run_may_be_made_longer(start: Path, tmp_path: Path) -> None:
    train(start, tmp_path / "whole", {"max_in_flight": 1}, max_steps=3)
    train(start, tmp_path / "run", {"max_in_flight": 1}, max_steps=2)
    train(start, tmp_path / "run", {"max_in_flight": 1}, max_steps=3, resume=True)
    assert [row["rao/batch"] for row in trained(tmp_path / "run")] == [
        row["rao/batch"] for row in trained(tmp_path / "whole")
    ]
    models = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("run", "whole")]
    assert models[0] == models[1]


def test_moving_averages_are_kept_in_checkpoints_and_need_one_attempt_at_a_task(start: Path, tmp_path: Path) -> None:
    run: dict[str, Any] = {"credit": CreditConfig(baseline="ema_depth", ema_decay=0.5)}
    collect = {"max_in_flight": 1, "num_generations": 1, "tasks_per_step": 2}
    train(start, tmp_path / "whole", collect, max_steps=4, **run)
    train(start, tmp_path / "run", collect, max_steps=2, **run)
    train(start, tmp_path / "run", collect, max_steps=4, resume=True, **run)
    averages = [[row["rao/average/depth_0"] for row in trained(tmp_path / name)] for name in ("run", "whole")]
    assert averages[0] == averages[1]
    average, expected = 0.0, []
    for number in range(4):
        scores = [tree.root.score or 0.0 for tree in trees(tmp_path / "whole", number)]
        average = average / 4 + sum(scores) / 2 * 3 / 4
        expected.append(average)
    assert averages[1] == pytest.approx(expected)
    models = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("run", "whole")]
    assert models[0] == models[1]
    with pytest.raises(ConfigurationError, match="num_generations must be at least 2"):
        train(start, tmp_path / "other", collect)


@pytest.mark.parametrize(
    ("when", "number"),
    [
        ("rolling out", signal.SIGTERM),
        ("training", signal.SIGINT),
        *(
            pytest.param(when, number, marks=pytest.mark.slow)
            for when, number in [
                ("evaluating", signal.SIGTERM),
                ("rolling out first", signal.SIGINT),
                ("rolling out", signal.SIGINT),
                ("training", signal.SIGTERM),
                ("evaluating the end", signal.SIGTERM),
            ]
        ),
    ],
)
def test_a_signal_ends_a_run_saved_and_it_goes_on_as_if_nothing_had_been(
    when: str, number: signal.Signals, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = {"eval_every": 2, "eval_concurrency": 1}
    train(start, tmp_path / "whole", {"max_in_flight": 1}, eval_tasks=2, **run)

    def struck(place: Any, name: str, call: int, *, hang: bool) -> None:
        plain, calls = getattr(place, name), itertools.count(1)

        async def waiting(*arguments: Any, **options: Any) -> Any:
            if next(calls) != call:
                return await plain(*arguments, **options)
            os.kill(os.getpid(), number)
            return await anyio.sleep_forever()

        def at_once(*arguments: Any, **options: Any) -> Any:
            if next(calls) == call:
                os.kill(os.getpid(), number)
            return plain(*arguments, **options)

        monkeypatch.setattr(place, name, waiting if hang else at_once)

    match when:
        case "evaluating":
            struck(rao_rl.train.online, "evaluate", 1, hang=True)
        case "rolling out first":
            struck(rao_rl.rollouts.batches, "run_attempt", 1, hang=True)
        case "rolling out":
            struck(rao_rl.rollouts.batches, "run_attempt", 5, hang=True)
        case "training":
            struck(RaoTrainer, "training_step", 2, hang=False)
        case "evaluating the end":
            struck(rao_rl.train.online, "evaluate", 3, hang=True)
    with pytest.raises(TrainingStopped, match=f"stopped by {number.name} at step .*, which is saved"):
        train(start, tmp_path / "run", {"max_in_flight": 1}, eval_tasks=2, **run)
    assert not (tmp_path / "run" / "model.safetensors").exists()
    monkeypatch.undo()
    train(start, tmp_path / "run", {"max_in_flight": 1}, eval_tasks=2, resume=True, **run)
    assert told(tmp_path / "run") == told(tmp_path / "whole")
    models = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("run", "whole")]
    assert models[0] == models[1]


# --- divergence ---


def rated(
    rate: float, start: Path, out: Path, monkeypatch: pytest.MonkeyPatch, *, save_steps: int = 1, **more: Any
) -> Path:
    update = replace(UPDATE, learning_rate=rate, save_steps=save_steps)
    monkeypatch.setattr("tests.train.test_online.UPDATE", update)
    return train(start, out, {"max_in_flight": 1}, **more)


def test_a_run_that_diverged_goes_on_at_a_lower_rate_without_the_batch(
    start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rated(1e-3, start, tmp_path, monkeypatch, max_steps=2)
    good = [row["rao/batch"] for row in trained(tmp_path)]
    for rate in (1e30, 1e20):
        with pytest.raises(
            TrainingDiverged, match=r"after step 3\. Continue from the last checkpoint with --resume and a"
        ):
            rated(rate, start, tmp_path, monkeypatch, max_steps=5, resume=True)
    rated(1e-4, start, tmp_path, monkeypatch, max_steps=5, resume=True)
    after = trained(tmp_path)
    assert [row["step"] for row in after] == [1, 2, 3, 4, 5]
    bad = set(diverged_draws(tmp_path))
    assert len(bad) == 2
    batches = [row["rao/batch"] for row in after]
    assert batches[:2] == good
    assert batches == sorted(set(batches) - bad)
    assert [row["learning_rate"] for row in after] == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4, 1e-4])
    assert (tmp_path / "model.safetensors").is_file()


def test_weights_that_compute_no_numbers_are_no_fault_of_the_sampler(
    start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would be pushed before a checkpoint is saved, and nothing would be learnt from what they sample."""
    with pytest.raises(
        TrainingDiverged, match=r"weights .*No step is saved yet: start again with --resume and a lower"
    ):
        rated(1e30, start, tmp_path, monkeypatch, save_steps=100)
    rated(1e-3, start, tmp_path, monkeypatch, resume=True)
    assert len(trained(tmp_path)) == 3


def test_attempts_of_weights_that_a_run_will_not_have_again_are_set_aside(
    start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rated(1e-2, start, tmp_path, monkeypatch, max_steps=2, save_steps=100)
    kept = [path.name for path in sorted((tmp_path / "traces").rglob("*.jsonl"))]
    plain, calls = RaoTrainer.training_step, itertools.count()

    def killed_at_the_third(*arguments: Any, **options: Any) -> Any:
        if next(calls) == 2:
            raise KeyboardInterrupt
        return plain(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(RaoTrainer, "training_step", killed_at_the_third)
        with pytest.raises(KeyboardInterrupt):
            rated(1e-2, start, tmp_path, monkeypatch, max_steps=6, save_steps=100, resume=True)
    rated(1e-3, start, tmp_path, monkeypatch, max_steps=6, save_steps=100, resume=True)
    assert len(list((tmp_path / "traces").rglob("*.jsonl.set-aside"))) > 0
    assert {path.name for path in (tmp_path / "traces").rglob("*.jsonl")} >= set(kept)
    for row in trained(tmp_path):
        assert row["sampling/importance_sampling_ratio/max"] == pytest.approx(1.0, abs=1e-3)
    # Another schedule makes other updates, and so does another length where the schedule follows it.
    aside = partial(set_aside, tmp_path / "traces")
    assert aside(4, {"online.max_steps"}, schedule="constant_with_warmup") == 0
    assert aside(4, {"online.max_steps"}, schedule="cosine") > 0
    assert aside(2, {"update.lr_scheduler_kwargs"}, schedule="cosine") > 0


# --- how far a run goes ---


def test_a_run_ends_when_it_has_generated_enough(start: Path, tmp_path: Path) -> None:
    train(start, tmp_path, max_steps=100, max_generated_tokens=60)
    counted = [row["rao/generated_tokens"] for row in rows(tmp_path) if "rao/batch" in row]
    assert counted[-1] >= 60
    assert all(count < 60 for count in counted[:-1])
    assert (tmp_path / "model.safetensors").is_file()


# --- where the policy is ---


@pytest.mark.parametrize("lora_rank", [None, pytest.param(2, marks=pytest.mark.slow)])
def test_the_policy_is_where_it_is_trained_before_a_sampler_is_chosen(
    lora_rank: int | None, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """accelerate places it, and with FSDP spreads it, when training begins."""
    happened: list[str] = []

    def noted(place: Any, name: str) -> None:
        plain = getattr(place, name)

        def wrapped(*arguments: Any, **options: Any) -> Any:
            happened.append(name)
            return plain(*arguments, **options)

        monkeypatch.setattr(place, name, wrapped)

    noted(RaoTrainer, "_prepare_for_training")
    noted(rao_rl.train.run, "open_sync")
    monkeypatch.setattr(sys.modules[__name__], "UPDATE", replace(UPDATE, lora_rank=lora_rank))
    train(start, tmp_path, max_steps=1)
    assert happened == ["_prepare_for_training", "open_sync"]


# --- rolling out ahead ---


PROBE = Probe(("Toss a coin",), max_tokens=4)


def loop(model: EmbeddedModel, folder: Path, **online: Any) -> OnlineLoop:
    policy, _, _ = load_checkpoint(model.directory)
    config = CollectConfig(**{**COLLECT, "num_generations": 4})
    return OnlineLoop(
        Collector(Coins(), model, config, folder / "traces"),
        EmbeddedSync(model, folder / "sampler", probe=PROBE),
        policy,
        CreditConfig(),
        OnlineConfig(**{"max_steps": 4, **online}),
        progress=Progress(),
        metrics=folder / "metrics.jsonl",
    )


def test_batches_may_be_rolled_out_ahead_by_older_weights(start: Path, tmp_path: Path) -> None:
    with loop(EmbeddedModel(start), tmp_path, max_staleness=1) as ahead:
        steps = ahead.steps(0)
        first = next(steps)
        before = int(first.metrics["rao/batch"])
        flow = ahead.flow
        assert flow is not None
        # The next group is under way with the weights before the update; here it ends before they are pushed.
        wait_until(lambda: flow.complete == 1)
        second = next(steps)
        number = int(second.metrics["rao/batch"])
        assert number == before + 1
        assert {tree_version(tree) for tree in trees(tmp_path, number)} == {0}
        assert {sample.row.version for sample in second.samples} == {"0"}
        assert second.metrics["funnel/rollouts_trained"] == 4
        assert "funnel/rollouts_dropped/stale" not in second.metrics
        assert second.metrics["flow/staleness_max"] == 1.0


def test_without_staleness_nothing_is_rolled_out_before_the_push(start: Path, tmp_path: Path) -> None:
    with loop(EmbeddedModel(start), tmp_path) as strict:
        steps = strict.steps(0)
        next(steps)
        assert strict.flow is not None
        assert (strict.flow.in_flight, strict.flow.complete) == (0, 0)
        second = next(steps)
        assert {sample.row.version for sample in second.samples} == {"1"}


class Halting(EmbeddedModel):
    """Holds every call of an agent after the first `free` until it is let go."""

    free = 10**9

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.held = 0
        self.go = threading.Event()

    async def sample(self, request: Request, on_text: OnText | None = None) -> None:
        if request.max_tokens > PROBE.max_tokens:
            self.free -= 1
            if self.free < 0:
                self.held += 1
                await anyio.to_thread.run_sync(self.go.wait)
        await super().sample(request, on_text)


@pytest.mark.parametrize("across_push", ["continue", "drain"])
def test_trees_in_flight_go_on_across_a_push_or_are_waited_for(across_push: str, start: Path, tmp_path: Path) -> None:
    sampler = Halting(start)
    with loop(sampler, tmp_path, max_staleness=1, across_push=across_push) as ahead:
        steps = ahead.steps(0)
        next(steps)
        assert ahead.flow is not None
        wait_until(lambda: ahead.flow is not None and ahead.flow.complete == 1)
        sampler.free = 0
        seen: list[int] = []
        plain = ahead.sync.push

        async def push(policy: Any, version: int) -> Any:
            assert ahead.flow is not None
            seen.append(ahead.flow.in_flight)
            return await plain(policy, version)

        ahead.sync.push = push  # type: ignore[method-assign]
        next(steps)  # pushes weights 1, and takes the group that is complete; the next one begins, and is held
        wait_until(lambda: sampler.held)
        if across_push == "drain":
            threading.Timer(0, lambda: (wait_until(lambda: ahead.flow._draining), sampler.go.set())).start()  # type: ignore[union-attr]
            third = next(steps)
            assert seen == [0, 0]
        else:
            pushing = threading.Thread(target=lambda: (wait_until(lambda: len(seen) == 2), sampler.go.set()))
            pushing.start()
            third = next(steps)
            pushing.join()
            assert seen[0] == 0
            assert seen[1] > 0
            assert third.metrics["flow/staleness_max"] == 1.0
        assert "funnel/rollouts_dropped/stale" not in third.metrics


AHEAD: Mapping[str, Any] = {"max_staleness": 2}
WIDE: Mapping[str, Any] = {"tasks_per_step": 2, "num_generations": 2, "max_in_flight": 6}


def used_once(out: Path) -> dict[int, UsedGroups]:
    """What the batches of a run have, of which no group is in two, each with the tokens that the metrics count."""
    used = read_used(out)
    groups = [group for each in used.values() for group in each.groups]
    assert len(set(groups)) == len(groups) == 2 * len(used)
    tokens: Counter[str] = Counter()
    for path in (out / "traces").rglob("*.jsonl"):
        tree = ExecutionTree.load(path)
        if tree.complete and is_recorded(tree):
            tokens[str(tree.group)] += tree.usage.completion_tokens
    spent = 0
    for row in rows(out):
        if "rao/batch" in row:
            each = used[int(row["rao/batch"])]
            assert each.version == row["step"] - ("loss" in row)
            spent += sum(tokens[group] for group in each.groups)
            assert row["rao/generated_tokens"] == spent
            assert row["flow/staleness_max"] <= 2
            assert "funnel/rollouts_dropped/stale" not in row
    return used


def test_a_run_with_staleness_that_was_killed_uses_the_same_groups_again_and_no_other_twice(
    start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, calls = RaoTrainer.training_step, itertools.count(1)

    def killed_at_the_fourth(*arguments: Any, **options: Any) -> Any:
        if next(calls) == 4:
            raise KeyboardInterrupt
        return plain(*arguments, **options)

    monkeypatch.setattr("tests.train.test_online.UPDATE", replace(UPDATE, save_steps=2))
    with monkeypatch.context() as patch:
        patch.setattr(RaoTrainer, "training_step", killed_at_the_fourth)
        with pytest.raises(KeyboardInterrupt):
            train(start, tmp_path, WIDE, max_steps=5, **AHEAD)
    before = read_used(tmp_path)
    last = before[max(before)]
    assert last.version == 3  # and the checkpoint is of step 2
    made = {path.name for path in (tmp_path / "traces").rglob("*.jsonl")}
    train(start, tmp_path, WIDE, max_steps=5, resume=True, **AHEAD)
    assert {number: used_once(tmp_path)[number] for number in before} == before
    replayed = [row for row in trained(tmp_path) if row["step"] in (3, 4)]
    assert all(row["rao/recorded_trees"] == 4 for row in replayed)
    assert {path.name for path in (tmp_path / "traces").rglob("*.jsonl")} >= made
    # Made longer, it uses what was left first.
    used = {group for each in read_used(tmp_path).values() for group in each.groups}
    left = {
        group
        for path in (tmp_path / "traces").rglob("*.jsonl")
        if (group := ExecutionTree.load(path).group) not in used
    }
    train(start, tmp_path, WIDE, max_steps=6 + len(left) // 2, resume=True, **AHEAD)
    assert left <= {group for each in used_once(tmp_path).values() for group in each.groups}


def test_a_batch_that_is_too_old_teaches_nothing(start: Path, tmp_path: Path) -> None:
    with loop(EmbeddedModel(start), tmp_path) as strict:
        step = next(strict.steps(0))
        number = int(step.metrics["rao/batch"])
    with loop(EmbeddedModel(start), tmp_path) as later:
        later.progress.batches = number
        step = next(later.steps(2))  # its recorded trees are two updates old
        assert step.metrics["rao/batch"] > number
    (skipped,) = [row for row in rows(tmp_path) if row["rao/batch"] == number]
    assert skipped["rao/recorded_trees"] == 4
    assert skipped["funnel/rollouts_dropped/stale"] == 4
    assert skipped["rao/skipped"] == 1


# --- the sandbox ---


class Watching(EmbeddedModel):
    """Notes the direct children of this process at every call: the helper of each sandbox that is open."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.before = {child.pid for child in psutil.Process().children()}
        self.helpers: set[int] = set()

    async def sample(self, request: Request, on_text: OnText | None = None) -> None:
        self.helpers |= {child.pid for child in psutil.Process().children()} - self.before
        await super().sample(request, on_text)


def test_rollouts_and_evaluations_share_one_sandbox(start: Path, tmp_path: Path) -> None:
    sampler = Watching(start)
    with loop(sampler, tmp_path, eval_every=1) as watched:
        watched.eval_tasks = list(Coins().tasks("test", limit=3))
        steps = watched.steps(0)
        next(steps)
        next(steps)
        watched.finish(2)
        evaluations = [row for row in rows(tmp_path) if "eval/success/fair" in row]
    assert len(evaluations) == 3
    assert len(sampler.helpers) == 1


class Elsewhere:
    """A runner, as far as the loop can see."""

    def __init__(self) -> None:
        self.given: list[Any] = []
        self.published = 0

    async def __aenter__(self) -> Elsewhere:
        return self

    async def __aexit__(self, *exc: Any) -> None:
        return None

    async def publish(self) -> None:
        self.published += 1

    async def run(
        self, environment: Environment, task: Task, model: Model, settings: AttemptSettings, *, seed: int, group: str
    ) -> RanElsewhere:
        self.given.append(settings.sandbox)
        session = environment.session(task)
        own = replace(settings, runner=None, places=None)
        result = await rollout(environment, task, model, own, seed=seed, group=group, session=session)
        return RanElsewhere(result, session)


def test_attempts_that_run_elsewhere_need_no_sandbox_here(
    start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rao_rl.train.online, "make_sandbox", None)
    elsewhere = Elsewhere()
    made = loop(EmbeddedModel(start), tmp_path, eval_every=1, eval_start=True)
    made._runner = elsewhere
    made.eval_tasks = list(Coins().tasks("test", limit=1))
    with made:
        assert next(made.steps(0)).samples
    assert len(elsewhere.given) >= 5  # of the evaluation and of the step
    assert set(elsewhere.given) == {"process"}


# --- a sampler that fails ---


class Shaky(EmbeddedModel):
    """Crashes at every seventh call of an agent; the short calls of a push's probe are answered."""

    calls = 0

    async def sample(self, request: Request, on_text: OnText | None = None) -> None:
        if request.max_tokens > PROBE.max_tokens:
            self.calls += 1
            if self.calls % 7 == 6:
                raise EndpointUnavailable("the sampler crashed")
        await super().sample(request, on_text)


def test_a_sampler_that_crashes_now_and_then_costs_the_trees_it_served(start: Path, tmp_path: Path) -> None:
    sampler = Shaky(start)
    with loop(sampler, tmp_path) as shaky:
        steps = shaky.steps(0)
        made = [next(steps).metrics for _ in range(3)]
    skipped = [row for row in rows(tmp_path) if "rao/skipped" in row]
    lost = [figures.get("funnel/rollouts_dropped/root_infra_error", 0.0) for figures in [*made, *skipped]]
    assert sum(lost) == sampler.calls // 7 + (sampler.calls % 7 == 6) > 0
    for figures, count in zip([*made, *skipped], lost, strict=True):
        assert figures["funnel/rollouts_scored"] == 4 - count


class Dead(Watched):
    """Answers the calls of the first steps, then fails those of agents."""

    def fails(self, call: int) -> ModelError | None:
        return EndpointUnavailable("the server is gone") if call > 30 else None


@pytest.mark.parametrize("budget", [None, 10**9])
def test_a_sampler_that_died_is_no_batch_that_teaches_nothing(budget: int | None, start: Path, tmp_path: Path) -> None:
    """With a budget of tokens the run would never end: a dead sampler uses none."""
    with loop(Dead(start), tmp_path, max_steps=100, max_generated_tokens=budget) as dying:
        dying.sync.probe = Unasked()
        with pytest.raises(RolloutsFailed, match=r"16 attempts in a row failed, .*the server is gone\. .*--resume"):
            for _ in dying.steps(0):
                pass


class Unasked(Probe):
    """Takes every push for granted."""

    async def check(self, *arguments: Any, **options: Any) -> Push:
        return Push(method="", version=options["version"], seconds=0.0, probe_error=0.0, probe_tokens=1)


class Inexact(Watched):
    """Gives the second answer the log-probs of impossible tokens, as no endpoint's client would let through."""

    async def sample(self, request: Request, on_text: OnText | None = None) -> None:
        number = self.calls + 1
        await super().sample(request, on_text)
        if number == 2:
            request.logprobs = [-9999.0] * len(request.logprobs)


def test_an_attempt_without_exact_tokens_is_left_out_and_ends_nothing(start: Path, tmp_path: Path) -> None:
    said: list[str] = []
    with loop(Inexact(start), tmp_path) as strict:
        strict.sync.probe = Unasked()
        strict._say = said.append
        figures = next(strict.steps(0)).metrics
    lost = [row.get("funnel/lost/inexact_tokens", 0.0) for row in [figures, *rows(tmp_path)]]
    assert sum(lost) == 1
    assert [line for line in said if line.startswith("an attempt is left out: run ")] == said


def test_trees_of_an_evaluation_count_among_those_in_flight(start: Path, tmp_path: Path) -> None:
    sampler = Watched(start)
    with loop(sampler, tmp_path, eval_every=1, eval_concurrency=16) as narrow:
        narrow.collector.places.total_tokens = 1
        narrow.sync.probe = Unasked()
        narrow.eval_tasks = list(Coins().tasks("test", limit=5))
        next(narrow.steps(0))
    assert sampler.most_under_way == 1


def test_a_sampler_without_the_new_weights_ends_the_run(
    start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rao_rl.weights.sync.rewrite_weights", lambda path, state: None)
    monkeypatch.setattr("tests.train.test_online.UPDATE", replace(UPDATE, learning_rate=0.1))
    with pytest.raises(WeightPushError, match="does not have the weights of version"):
        train(start, tmp_path, max_steps=20)


@pytest.mark.parametrize(("before", "after"), [("textcraft", None), ("coins", "coins")])
def test_a_policy_trained_on_another_environment_no_longer_names_the_old_one(
    start: Path, tmp_path: Path, before: str, after: str | None
) -> None:
    policy = shutil.copytree(start, tmp_path / "start")
    settings = CheckpointSettings.load(policy)
    settings.model_copy(update={"environment": EnvironmentSettings(name=before)}).save(policy)
    trained = CheckpointSettings.load(train(policy, tmp_path / "run", max_steps=1)).environment
    assert (None if trained is None else trained.name) == after


def test_the_arguments_of_the_environment_are_a_part_of_the_run_and_of_the_policy(start: Path, tmp_path: Path) -> None:
    policy = shutil.copytree(start, tmp_path / "start")
    settings = CheckpointSettings.load(policy)
    settings.model_copy(update={"environment": EnvironmentSettings(name="coins", arguments={"count": 9})}).save(policy)
    run = train(policy, tmp_path / "run", max_steps=1, arguments={"count": 5})
    assert CheckpointSettings.load(run).environment == EnvironmentSettings(name="coins", arguments={"count": 5})
    for other in ({"count": 6}, {}):
        with pytest.raises(ConfigurationError, match=r'environment_arguments \(was \["count=5"\], now '):
            train(policy, run, resume=True, max_steps=2, arguments=other)


def test_the_policy_that_was_begun_with_is_left_alone(start: Path, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in start.iterdir()}
    train(start, tmp_path, max_steps=1)
    assert {path.name: path.read_bytes() for path in start.iterdir()} == before
    old, new = (load_checkpoint(folder)[0] for folder in (start, tmp_path))
    assert not all(torch.equal(a, b) for a, b in zip(old.parameters(), new.parameters(), strict=True))
