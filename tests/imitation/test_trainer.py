"""The trainer of imitation against definitions: its loss, its gradient, its schedule, and checkpoints of an older version."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trl.trainer.base_trainer
from hypothesis import given
from hypothesis import strategies as st

from rao_rl.config import ImitationConfig
from rao_rl.data.rows import TokenRow
from rao_rl.imitation.policy import create
from rao_rl.imitation.run import train
from rao_rl.imitation.trainer import IGNORED, Clock, ImitationTrainer, bins, collate, steps
from rao_rl.train.arguments import common
from rao_rl.train.packing import ATTENTION
from recursive_agent.errors import ConfigurationError

from ..train.policies import TINY
from ..train.small_steps import DealtOut, gpt2, llama, qwen3, scaled, slopes, windowed
from .steps import ROWS, Gradient, cross_entropy, row
from .test_imitation import blocks, metrics
from .test_imitation import config as settings_of


def config(out: Path, **more: Any) -> ImitationConfig:
    return ImitationConfig(output_dir=str(out), **{"max_steps": 1, "bf16": False, "learning_rate": 2e-3, **more})


def one_step(
    model: Any, rows: Sequence[TokenRow], tokenizer: Any, out: Path, parts: int, **more: Any
) -> tuple[float, dict[str, torch.Tensor]]:
    """The loss that is logged for a step of these rows, and its gradient."""
    settings = config(out, max_grad_norm=0.0, save_steps=100, **more)
    trainer = ImitationTrainer(model, tokenizer, lambda number: [rows], settings, out / "c", parts=parts)
    gradient = Gradient()
    trainer.add_callback(gradient)
    trainer.train()
    (loss,) = (entry["loss"] for entry in trainer.state.log_history if "loss" in entry)
    return loss, gradient.of


@pytest.mark.parametrize("parts", [1, 4, 8])
@pytest.mark.parametrize("make", [qwen3, llama, gpt2, windowed, slopes, scaled], ids=lambda make: make.__name__)
def test_the_loss_and_its_gradient_are_those_of_the_definition(
    make: Callable[[], Any], parts: int, tokenizer: Any, tmp_path: Path
) -> None:
    loss, gradient = one_step(make(), ROWS, tokenizer, tmp_path, parts)
    reference = make()
    expected = cross_entropy(reference, ROWS)
    expected.backward()
    assert loss == pytest.approx(float(expected.detach()), abs=2e-5)
    for name, value in reference.named_parameters():
        torch.testing.assert_close(gradient[name], value.grad, rtol=0, atol=2e-5)


def test_one_process_on_a_machine_of_several_gpus_trains_on_one(
    tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    alone, _ = one_step(qwen3(), ROWS, tokenizer, tmp_path / "alone", 2)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(
        "rao_rl.imitation.trainer.common", lambda *args, **more: {**common(*args, **more), "use_cpu": False}
    )
    monkeypatch.setattr(torch.nn, "DataParallel", DealtOut)
    loss, _ = one_step(qwen3(), ROWS, tokenizer, tmp_path / "of four", 2)
    assert loss == pytest.approx(alone, abs=1e-6)
    assert "accelerate launch --num_processes 4 -m rao_cli train" in caplog.text


def test_rows_are_packed_where_the_attention_allows_it(tokenizer: Any, tmp_path: Path) -> None:
    for make, packed in ((qwen3, True), (llama, True), (gpt2, True), (windowed, False), (slopes, False)):
        model = make()
        before = model.config._attn_implementation
        trainer = ImitationTrainer(model, tokenizer, lambda number: [ROWS], config(tmp_path), tmp_path)
        assert trainer.packed is packed, make.__name__
        assert model.config._attn_implementation == (ATTENTION if packed else before)


def test_a_head_that_trl_would_compute_otherwise_is_refused(tokenizer: Any, tmp_path: Path) -> None:
    model = qwen3()
    plain = model.forward

    def louder(*args: Any, **options: Any) -> Any:
        out = plain(*args, **options)
        out.logits = out.logits * 3
        return out

    model.forward = louder
    with pytest.raises(ConfigurationError, match="its log-probs would be off by"):
        ImitationTrainer(model, tokenizer, lambda number: [ROWS], config(tmp_path), tmp_path)


def test_nothing_is_reported_and_no_card_is_written(
    tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def report(*args: Any, **options: Any) -> None:
        raise AssertionError("a run was reported")

    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr(trl.trainer.base_trainer, "send_telemetry", report)
    train(qwen3(), tokenizer, lambda number: [ROWS], config(tmp_path))
    assert not list(tmp_path.rglob("README.md"))


def test_the_special_tokens_of_the_tokenizer_do_not_replace_those_of_the_model(tokenizer: Any, tmp_path: Path) -> None:
    model = qwen3()
    model.generation_config.eos_token_id = [5, 7]
    train(model, tokenizer, lambda number: [ROWS], config(tmp_path))
    assert (model.config.eos_token_id, model.generation_config.eos_token_id) == (0, [5, 7])


# --- batches ---


@given(st.lists(st.integers(1, 40), min_size=1, max_size=30), st.integers(1, 5), st.booleans())
def test_batches_hold_every_row_once_and_label_what_is_learnt(sizes: list[int], count: int, packed: bool) -> None:
    rows = [row(size, seed) for seed, size in enumerate(sizes)]
    batches = bins(rows, count, packed=packed)
    assert len(batches) == count
    assert sorted(id(each) for batch in batches for each in batch) == sorted(map(id, rows))
    for batch in batches:
        made = collate(batch, pad_id=0, packed=packed)
        ids, labels = made["input_ids"], made["labels"]
        assert ids.shape == labels.shape
        assert ids.shape[0] == (1 if packed or not batch else len(batch))
        learnt = [token for each in batch for token in each.input_ids[each.completion_mask].tolist()]
        assert sorted(labels[labels != IGNORED].tolist()) == sorted(learnt)
        assert torch.equal(ids[labels != IGNORED], labels[labels != IGNORED])


def test_a_first_token_is_not_predicted_from_the_row_before_it() -> None:
    whole = TokenRow(np.arange(1, 4, dtype=np.int32), np.ones(3, np.bool_))
    for packed in (True, False):
        labels = collate([whole, whole], pad_id=0, packed=packed)["labels"].flatten().tolist()
        assert labels == [IGNORED, 2, 3, IGNORED, 2, 3]


def test_padded_rows_share_a_batch_with_rows_of_like_length() -> None:
    rows = [row(length, 0) for length in (2, 50, 3, 10, 2, 11)]
    assert [[len(each) for each in part] for part in bins(rows, 3, packed=False)] == [[2, 2], [3, 10], [11, 50]]


def test_steps_started_later_are_the_tail_of_the_whole(tokenizer: Any) -> None:
    def ids(start: int, count: int) -> list[list[list[int]]]:
        stream = itertools.islice(steps(blocks(tokenizer), start), count)
        return [[each.input_ids.tolist() for each in step] for step in stream]

    assert ids(0, 70)[66:] == ids(66, 4)


# --- the schedule ---


def factors(tokenizer: Any, out: Path, **more: Any) -> Callable[[int], float]:
    """The factor of the learning rate by step, for both groups of parameters."""
    trainer = ImitationTrainer(qwen3(), tokenizer, lambda number: [ROWS], config(out, **more), out)
    trainer.create_optimizer_and_scheduler(trainer.length)
    scheduler: Any = trainer.lr_scheduler

    def of(step: int) -> float:
        first, second = (factor(step) for factor in scheduler.lr_lambdas)
        assert first == second
        return float(first)

    return of


def test_the_rate_warms_up_stays_and_falls_to_nothing(tokenizer: Any, tmp_path: Path) -> None:
    factor = factors(tokenizer, tmp_path, max_steps=100, warmup_steps=10, decay=0.4)
    for step in range(100):
        assert factor(step) == pytest.approx(min(1.0, (step + 1) / 10, (100 - step) / 40))
    assert factor(100) == 0.0


@pytest.mark.parametrize(("length", "first"), [(1, 1.0), (10, 1.0), (20, 0.5), (500, 0.02), (10_000, 0.02)])
def test_the_warm_up_shrinks_with_the_run_and_never_begins_at_nothing(
    length: int, first: float, tokenizer: Any, tmp_path: Path
) -> None:
    assert factors(tokenizer, tmp_path, max_steps=length, decay=0.0)(0) == pytest.approx(first)
    assert factors(tokenizer, tmp_path, max_steps=length)(0) == pytest.approx(first)


def test_the_rate_of_a_run_by_time_goes_by_time(tokenizer: Any, tmp_path: Path) -> None:
    settings = config(tmp_path, max_steps=None, minutes=1.0, warmup_steps=4)
    trainer = ImitationTrainer(qwen3(), tokenizer, lambda number: [ROWS], settings, tmp_path)
    trainer.create_optimizer_and_scheduler(trainer.length)
    clock = trainer.clock
    assert isinstance(clock, Clock)
    found = []
    for step, clock.elapsed in ((0, 0.0), (1, 0.5), (5, 0.6), (20, 30.0), (50, 48.0), (60, 60.0)):
        found.append(clock(step))
    assert found == pytest.approx([0.25, 0.5, 1.0, 1.0, 0.5, 0.0])
    assert trainer.share(60) == 1.0


def test_weights_decay_and_norms_and_biases_do_not(tokenizer: Any, tmp_path: Path) -> None:
    model = gpt2()
    settings = config(tmp_path, weight_decay=0.3)
    trainer = ImitationTrainer(model, tokenizer, lambda number: [ROWS], settings, tmp_path)
    trainer.create_optimizer_and_scheduler(1)
    optimizer: Any = trainer.optimizer
    decay = {id(value): group["weight_decay"] for group in optimizer.param_groups for value in group["params"]}
    for value in model.parameters():
        assert decay[id(value)] == (0.3 if value.ndim > 1 else 0.0)


# --- runs of an older version ---


def aged(folder: Path, elapsed: float) -> None:
    """Make the checkpoint what was written before: the schedule's own state, and an optimizer that was not fused."""
    (checkpoint,) = folder.glob("checkpoints/checkpoint-*")
    scheduler = torch.load(checkpoint / "scheduler.pt", weights_only=True)
    scheduler["lr_lambdas"] = [{"elapsed": elapsed}, {"elapsed": elapsed}]
    torch.save(scheduler, checkpoint / "scheduler.pt")
    optimizer = torch.load(checkpoint / "optimizer.pt", weights_only=True)
    for group in optimizer["param_groups"]:
        group["fused"] = None
    torch.save(optimizer, checkpoint / "optimizer.pt")


def test_a_run_of_an_older_version_is_resumed_exactly(tokenizer: Any, tmp_path: Path) -> None:
    whole, begun, resumed = (create(TINY, tokenizer, seed=seed) for seed in (0, 0, 9))
    train(whole, tokenizer, blocks(tokenizer), settings_of(tmp_path / "whole"))

    class Killed(Exception):
        pass

    calls = itertools.count()

    def die(*_: Any) -> None:
        if begun.training and next(calls) == 4 * 4 + 1:  # in the fifth step
            raise Killed

    begun.model.register_forward_pre_hook(die)
    with pytest.raises(Killed):
        train(begun, tokenizer, blocks(tokenizer), settings_of(tmp_path / "killed"))
    aged(tmp_path / "killed", 0.0)
    train(resumed, tokenizer, blocks(tokenizer), settings_of(tmp_path / "killed", resume=True))
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


def test_the_time_spent_by_an_older_version_counts(tokenizer: Any, tmp_path: Path) -> None:
    timed = {"max_steps": None, "save_steps": 1000}
    train(create(TINY, tokenizer, seed=0), tokenizer, blocks(tokenizer), settings_of(tmp_path, minutes=0.01, **timed))
    done = metrics(tmp_path)[-1]["step"]
    aged(tmp_path, 600.0)
    longer = settings_of(tmp_path, minutes=10.001, resume=True, **timed)
    train(create(TINY, tokenizer, seed=0), tokenizer, blocks(tokenizer), longer)
    assert done < metrics(tmp_path)[-1]["step"] < done + 1000
