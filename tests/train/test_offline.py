"""Recorded trees as the steps of a run: their order, what is refused, and that learning from them works."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from rao_rl.config import UpdateConfig
from rao_rl.credit.assign import CreditConfig
from rao_rl.credit.counterfactual import group_at
from rao_rl.data.folder import Recorded, read_groups
from rao_rl.errors import DataError, TrainingDiverged
from rao_rl.train.divergence import diverged_draws
from rao_rl.train.offline import OfflineSteps
from rao_rl.train.run import train_offline
from rao_rl.train.trainer import RaoTrainer, Step
from rao_rl.weights.checkpoint import load_checkpoint
from recursive_agent.checkpoint import CheckpointSettings
from recursive_agent.errors import ConfigurationError
from recursive_agent.trace.schema import Event

from ..data.token_trees import token_events, turn
from ..data.trees import write
from .policies import make_checkpoint, make_tokenizer

UPDATE = UpdateConfig(learning_rate=1e-2, warmup_steps=0, bf16=False, save_steps=2)
GOOD, BAD = [4, 5], [6, 7, 8]
"""What is sampled in the attempts that succeed and in those that fail."""


def attempt(folder: Path, group: str | None, member: int, score: float | None, **more: Any) -> Path:
    """Write an attempt at the task of `group`, whose prompt is as long as its number says."""
    prompt = [1, 2, *range(10, 10 + int((group or "g0")[1:]) % 5 + 1)]
    events = token_events(
        [turn(prompt, GOOD if score else BAD)],
        run=f"{group}/{member}",
        group=group,
        scores=() if score is None else (score,),
        **more,
    )
    return write(folder / f"{group}-{member}.jsonl", events)


def record(folder: Path, groups: int, scores: Sequence[float | None] = (1.0, 0.0)) -> Path:
    for group, (member, score) in itertools.product(range(groups), enumerate(scores)):
        attempt(folder, f"g{group}", member, score)
    return folder


def source(recorded: Recorded, per_step: int = 2, seed: int = 0) -> OfflineSteps:
    return OfflineSteps(recorded, CreditConfig(), groups_per_step=per_step, seed=seed)


def groups_of(steps: Sequence[Step]) -> list[set[str]]:
    return [{sample.group for sample in step.samples} for step in steps]


def first(made: OfflineSteps, count: int, begin: int = 0) -> list[set[str]]:
    return groups_of(list(itertools.islice(made.steps(begin), count)))


# --- order ---


@pytest.fixture(scope="module")
def seven(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    return read_groups(record(tmp_path_factory.mktemp("seven"), 7))


@pytest.mark.parametrize("per_step", [1, 2, 3, 7, 10])
def test_every_group_comes_once_an_epoch(per_step: int, seven: Recorded) -> None:
    made = source(seven, per_step)
    count = made.steps_per_epoch
    assert count == -(-7 // per_step)
    for epoch in range(3):
        steps = first(made, count, epoch * count)
        assert [len(step) for step in steps[:-1]] == [per_step] * (count - 1)
        assert sorted(itertools.chain(*steps)) == [f"g{group}" for group in range(7)]


def test_epochs_and_seeds_have_orders_of_their_own(seven: Recorded) -> None:
    orders = {
        tuple(name for step in first(source(seven, 1, seed), 7, 7 * epoch) for name in step)
        for seed, epoch in itertools.product(range(2), range(2))
    }
    assert len(orders) == 4


def test_a_run_that_goes_on_takes_the_groups_that_would_have_come(seven: Recorded) -> None:
    whole = first(source(seven), 12)
    for begin in (1, 4, 9):
        assert first(source(seven), 12 - begin, begin) == whole[begin:]


def test_moving_averages_are_those_of_the_steps_before_also_where_a_run_goes_on(tmp_path: Path) -> None:
    recorded = read_groups(record(tmp_path, 6, (1.0,)), min_group=1)
    credit = CreditConfig(baseline="ema_depth", ema_decay=0.5)

    def steps(begin: int) -> list[Step]:
        made = OfflineSteps(recorded, credit, groups_per_step=2, seed=0)
        return list(itertools.islice(made.steps(begin), 7 - begin))

    whole = steps(0)
    # Each step has two rewards of 1: the average is 1 − 1/4ⁿ after n steps.
    assert [step.averages for step in whole] == [{0: 1 - 0.25**number} for number in range(1, 8)]
    assert [{sample.advantage for sample in step.samples} for step in whole] == [{0.25**number} for number in range(7)]
    for begin in (1, 4):
        again = steps(begin)
        assert [step.averages for step in again] == [step.averages for step in whole[begin:]]
        assert [[sample.advantage for sample in step.samples] for step in again] == [
            [sample.advantage for sample in step.samples] for step in whole[begin:]
        ]


def test_further_children_at_a_launch_go_with_the_group_of_their_run(tmp_path: Path) -> None:
    record(tmp_path, 2)
    for number in (0, 1):
        events = token_events([turn([1, 2], GOOD)], run=f"more/{number}", group=group_at("g1/0", "0.0"), scores=(1.0,))
        write(tmp_path / f"a-{number}.jsonl", events)
    recorded = read_groups(tmp_path)
    assert {name: [each.tree.run for each in trees] for name, trees in recorded.groups.items()} == {
        "g0": ["g0/0", "g0/1"],
        "g1": ["g1/0", "g1/1", "more/0", "more/1"],
    }
    (step,) = itertools.islice(source(recorded).steps(0), 1)
    assert {sample.rollout for sample in step.samples} == {"g0/0", "g0/1", "g1/0", "g1/1"}
    assert (step.metrics["reward"], step.metrics["funnel/rollouts_dropped/baseline_only"]) == (0.5, 2)


def test_a_step_that_diverged_has_other_groups_and_the_others_have_theirs(seven: Recorded) -> None:
    made = source(seven)
    plain = first(made, 8)
    made.redrawn = {2: 1}
    again = first(made, 8)
    assert again[:2] + again[3:] == plain[:2] + plain[3:]
    assert len(again[2]) == 2
    assert not again[2] & plain[2]
    whole = source(seven, 7)
    whole.redrawn = {0: 1}
    assert first(whole, 1) == [{f"g{group}" for group in range(7)}]


def test_a_run_that_diverged_goes_on_at_a_lower_rate_with_other_groups(tmp_path: Path) -> None:
    recorded, said = read_groups(record(tmp_path / "traces", 6)), []

    def run(rate: float, steps: int, resume: bool = False) -> Path:
        return train_offline(
            tmp_path / "out",
            make_once(tmp_path / "policy"),
            recorded,
            credit=CreditConfig(),
            update=replace(UPDATE, learning_rate=rate, save_steps=1),
            groups_per_step=2,
            max_steps=steps,
            resume=resume,
            say=said.append,
        )

    run(1e-3, 1)
    with pytest.raises(TrainingDiverged, match=r"Continue from the last checkpoint with --resume and a lower learning"):
        run(1e30, 3, resume=True)
    assert diverged_draws(tmp_path / "out") == {1: 1}
    run(1e-3, 3, resume=True)
    assert [line for line in said if "diverged at step 2: other groups" in line]
    rows = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "loss" in row] == [1, 2, 3]


def test_a_run_that_is_resumed_saves_as_often_as_it_is_asked_to(tmp_path: Path) -> None:
    recorded, policy = read_groups(record(tmp_path / "traces", 6)), make_once(tmp_path / "policy")

    def run(steps: int, save_steps: int, resume: bool = False) -> None:
        update = replace(UPDATE, save_steps=save_steps)
        more: Any = {"credit": CreditConfig(), "update": update, "groups_per_step": 2, "max_steps": steps}
        train_offline(tmp_path / "out", policy, recorded, resume=resume, **more)

    run(2, 1)
    plain, saved = RaoTrainer._save_checkpoint, []

    def noticed(self: RaoTrainer, *arguments: Any) -> None:
        saved.append(self.state.global_step)
        plain(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RaoTrainer, "_save_checkpoint", noticed)
        run(7, 3, resume=True)
    assert saved == [3, 6, 7]


def make_once(folder: Path) -> Path:
    if not folder.exists():
        make_checkpoint(folder, make_tokenizer())
    return folder


def test_a_step_holds_whole_groups_with_their_credit(seven: Recorded) -> None:
    (step,) = itertools.islice(source(seven, 7).steps(0), 1)
    assert step.denominator == 7 * (len(GOOD) + len(BAD))
    assert sorted({sample.advantage for sample in step.samples}) == [-1.0, 1.0]
    assert step.metrics["reward"] == 0.5
    assert step.metrics["funnel/rollouts_trained"] == 14


def test_groups_that_teach_nothing_take_no_step(tmp_path: Path) -> None:
    record(tmp_path, 3)
    for member in range(2):
        attempt(tmp_path, "g8", member, 1.0)  # both succeed
    attempt(tmp_path, "g9", 0, 1.0)  # alone
    made = source(read_groups(tmp_path), 1)
    assert made.steps_per_epoch == 3
    assert sorted(itertools.chain(*first(made, 3))) == ["g0", "g1", "g2"]


def test_attempts_without_a_group_are_those_at_the_same_goal(tmp_path: Path) -> None:
    for member, score in enumerate((1.0, 0.0)):
        attempt(tmp_path, None, member, score)
    (trees,) = read_groups(tmp_path).groups.values()
    assert len(trees) == 2
    assert [len(step) for step in first(source(read_groups(tmp_path)), 2)] == [1, 1]


def test_what_was_cut_off_is_left_out_and_counted(tmp_path: Path) -> None:
    record(tmp_path, 1, (1.0, 0.0, 1.0))
    path = attempt(tmp_path, "g0", 3, 0.0)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:2]))
    (tmp_path / "g0-4.jsonl").write_bytes(b"")
    recorded = read_groups(tmp_path)
    assert recorded.left_out == {"cut_off": 2}
    assert [tree.run for tree in recorded.trees] == ["g0/0", "g0/1", "g0/2"]


def test_traces_below_a_folder_are_found(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    record(tmp_path / "a" / "b", 1)
    assert list(read_groups(tmp_path).groups) == ["g0"]


# --- refusals ---


def nothing(folder: Path) -> None:
    """An empty folder."""


def text_only(folder: Path) -> None:
    record(folder, 1)
    attempt(folder, "g1", 0, 1.0, exact=False)


def alone(folder: Path) -> None:
    record(folder, 3, (1.0,))


def unscored(folder: Path) -> None:
    record(folder, 2, (None, None))


def older(folder: Path) -> None:
    path = attempt(folder, "g5", 0, 1.0)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([json.dumps({**json.loads(lines[0]), "schema_version": 99}), *lines[1:]]) + "\n")


def cut_off(folder: Path) -> None:
    path = attempt(folder, "g0", 0, 1.0)
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])


def twice(folder: Path) -> None:
    record(folder, 1)
    (folder / "copy.jsonl").write_bytes((folder / "g0-0.jsonl").read_bytes())


REFUSED: list[tuple[Callable[[Path], None], str]] = [
    (nothing, "contains no traces; record some with `rao rollout`"),
    (text_only, "g1-0.jsonl: run g1/0, agent 0, step 1"),
    (alone, "has 1 attempt, but training compares at least 2"),
    (unscored, "no agent in .* has a score; give them one with `rao score"),
    (older, "g5-0.jsonl.* the trace has schema version 99, this rao knows 1: update rao to read it"),
    (cut_off, "contains no complete run: 1 of its traces was cut off"),
    (twice, "are the same run, which would be trained twice; remove one"),
]


@pytest.mark.parametrize(("make", "complaint"), REFUSED, ids=[make.__name__ for make, _ in REFUSED])
def test_what_cannot_be_trained_is_said_in_a_sentence(
    make: Callable[[Path], None], complaint: str, tmp_path: Path
) -> None:
    make(tmp_path)
    with pytest.raises(DataError, match=complaint) as refused:
        read_groups(tmp_path)
    assert "\n" not in str(refused.value)


def test_traces_in_which_all_do_equally_well_teach_nothing(tmp_path: Path) -> None:
    record(tmp_path, 3, (1.0, 1.0))
    with pytest.raises(DataError, match="nothing to train on: within each group every attempt got the same score"):
        source(read_groups(tmp_path))


def test_a_model_that_lacks_a_token_of_the_traces_is_refused(tokenizer: Any, tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "policy", tokenizer)
    size = load_checkpoint(tmp_path / "policy")[0].config.vocab_size
    (tmp_path / "traces").mkdir()
    record(tmp_path / "traces", 1)
    events: list[Event] = token_events([turn([1, 2], [size])], run="other", group="g0", scores=(1.0,))
    write(tmp_path / "traces" / "other.jsonl", events)
    with pytest.raises(
        ConfigurationError, match=f"run other was sampled by m with token ids up to {size}, and .* only {size}"
    ):
        train(tmp_path)


# --- training ---


@pytest.fixture
def prepared(tokenizer: Any, tmp_path: Path) -> Path:
    """A folder with a random `policy` and with `traces` of five groups."""
    make_checkpoint(tmp_path / "policy", tokenizer)
    (tmp_path / "traces").mkdir()
    record(tmp_path / "traces", 5)
    return tmp_path


def train(folder: Path, out: str = "out", **more: Any) -> Path:
    settings: dict[str, Any] = {"groups_per_step": 2, "epochs": 2.0, "update": UPDATE, "credit": CreditConfig(), **more}
    return train_offline(folder / out, folder / "policy", read_groups(folder / "traces"), **settings)


def rows(out: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [row for row in lines if "loss" in row]


def chances(policy: Any) -> tuple[float, float]:
    """Log-probs of what succeeded and of what failed, after the same prompt."""

    def of(sampled: list[int]) -> float:
        prompt = [1, 2, 10]
        with torch.no_grad():
            scores = torch.log_softmax(policy(torch.tensor([prompt + sampled])).logits[0, 2:-1], dim=-1)
        return float(scores.gather(1, torch.tensor(sampled)[:, None]).sum())

    return of(GOOD), of(BAD)


def test_what_succeeded_becomes_likelier_than_what_failed(prepared: Path) -> None:
    good, bad = chances(load_checkpoint(prepared / "policy")[0])
    out = train(prepared)
    better, worse = chances(load_checkpoint(out)[0])
    assert better - good > 1.0
    assert worse < bad
    assert [row["step"] for row in rows(out)] == list(range(1, 7))
    assert CheckpointSettings.load(out).name == "tiny"


def test_a_lora_is_trained_and_worked_into_the_weights(prepared: Path) -> None:
    good, _ = chances(load_checkpoint(prepared / "policy")[0])
    out = train(prepared, update=replace(UPDATE, lora_rank=4))
    better, _ = chances(load_checkpoint(out)[0])
    assert better - good > 0.5
    assert {path.name for path in (prepared / "policy").iterdir()} <= {path.name for path in out.iterdir()}


@pytest.mark.parametrize(("length", "steps"), [({"epochs": 1.0}, 3), ({"epochs": 0.1}, 1), ({"max_steps": 4}, 4)])
def test_the_length_of_a_run(length: dict[str, Any], steps: int, prepared: Path) -> None:
    assert len(rows(train(prepared, **length))) == steps


@pytest.mark.parametrize("dies", [3, *(pytest.param(step, marks=pytest.mark.slow) for step in (1, 4, 5))])
def test_a_run_that_stopped_goes_on_as_if_it_had_not(
    dies: int, prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(prepared, "whole")
    plain = RaoTrainer.training_step

    def dying(self: Any, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
        if self.state.global_step == dies:
            raise KeyboardInterrupt
        return plain(self, model, inputs, num_items_in_batch)

    monkeypatch.setattr(RaoTrainer, "training_step", dying)
    with pytest.raises(KeyboardInterrupt):
        train(prepared)
    monkeypatch.undo()
    out = train(prepared, resume=True)
    told = [[(row["step"], row["loss"], row["rao/trained_rows"]) for row in rows(place)] for place in (whole, out)]
    assert told[0] == told[1]
    assert (out / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


@pytest.mark.parametrize("save_steps", [1, pytest.param(6, marks=pytest.mark.slow)])
def test_a_run_that_is_over_learns_nothing_more_when_it_is_resumed(save_steps: int, prepared: Path) -> None:
    update = replace(UPDATE, save_steps=save_steps)
    out = train(prepared, update=update)
    before = (out / "model.safetensors").read_bytes()
    (out / "model.safetensors").unlink()  # killed between its last checkpoint and its result
    train(prepared, update=update, resume=True)
    assert [row["step"] for row in rows(out)] == list(range(1, 7))
    assert (out / "model.safetensors").read_bytes() == before


def test_other_settings_are_another_run(prepared: Path) -> None:
    train(prepared, max_steps=2)
    with pytest.raises(ConfigurationError, match="started with other settings: credit"):
        train(prepared, credit=CreditConfig(reward="root"), resume=True)
    attempt(prepared / "traces", "g7", 0, 1.0)
    attempt(prepared / "traces", "g7", 1, 0.0)
    with pytest.raises(ConfigurationError, match="started with other settings: runs"):
        train(prepared, resume=True)
    with pytest.raises(ConfigurationError, match="contains a run: continue it with --resume"):
        train(prepared)
