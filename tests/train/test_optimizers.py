"""Optimizers and schedules by name, and an optimizer that goes on from one run to the next."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from rao_rl.config import CreditConfig, UpdateConfig
from rao_rl.data.folder import Recorded
from rao_rl.train.arguments import common
from rao_rl.train.begin import check_update
from rao_rl.train.folder import CHECKPOINTS, SETTINGS
from rao_rl.train.optimizers import check_optimizer, check_schedule, optimizer_state_of, read_arguments
from rao_rl.train.run import train_offline
from rao_rl.train.trainer import RaoArguments, RaoTrainer
from rao_rl.train.wholeness import fault_of
from recursive_agent.errors import ConfigurationError

from .small_steps import learn, llama, qwen3, samples, step


def test_an_optimizer_that_there_is_not_is_named_before_anything_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="there is no optimizer 'adamw_tourch'; did you mean adamw_torch"):
        common(tmp_path, UpdateConfig(optim="adamw_tourch"))
    with pytest.raises(ConfigurationError, match="there is no optimizer 'schedule_free_adamw'"):
        check_optimizer("schedule_free_adamw")  # whose weights are others than those that it trains
    with pytest.raises(ConfigurationError, match="there is no schedule 'reduce_lr_on_plateau'"):
        check_schedule("reduce_lr_on_plateau")
    check_optimizer("adafactor")
    check_schedule("cosine")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rao_rl.train.optimizers.find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"needs the package bitsandbytes: pip install bitsandbytes$"):
        check_optimizer("paged_adamw_8bit")


def test_arguments_are_read_as_numbers_where_they_are_numbers() -> None:
    assert read_arguments("x", "num_cycles=2, min_lr_rate=0.1,kind=linear") == {
        "num_cycles": 2,
        "min_lr_rate": 0.1,
        "kind": "linear",
    }
    with pytest.raises(ConfigurationError, match="optim_args takes NAME=VALUE, separated by commas, not 'eps'"):
        read_arguments("optim_args", "eps")


def test_the_schedule_goes_by_the_length_of_the_run_though_training_has_no_end(tmp_path: Path) -> None:
    settings = {"lr_scheduler_type": "linear", "schedule_steps": 4, "learning_rate": 1.0, "max_steps": 10**9}
    arguments = RaoArguments(output_dir=str(tmp_path), report_to="none", use_cpu=True, **settings)
    trainer = RaoTrainer(qwen3(), arguments, lambda first: iter(()))
    trainer.create_optimizer()
    trainer.create_scheduler(10**9)
    rates = []
    for _ in range(4):
        rates.append(trainer.optimizer.param_groups[0]["lr"])
        trainer.optimizer.step()
        trainer.lr_scheduler.step()
    assert rates == pytest.approx([1.0, 0.75, 0.5, 0.25])


ADAM = {"optim": "adamw_torch", "learning_rate": 1e-2}


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps, as its folder."""
    folder = tmp_path_factory.mktemp("before")
    saved = {"save_strategy": "steps", "save_steps": 2}
    model = qwen3()
    learn(model, folder / CHECKPOINTS, *[step(samples(7, 12))] * 2, **ADAM, **saved)
    (folder / SETTINGS).write_text(json.dumps({"update": {"optim": "adamw_torch", "lora_rank": None}}))
    return folder


def test_a_round_goes_on_with_the_optimizer_of_the_round_before(before: Path, tmp_path: Path) -> None:
    whole, second = qwen3(), qwen3()
    learn(whole, tmp_path, *[step(samples(7, 12))] * 3, **ADAM)
    source = optimizer_state_of(before, optim="adamw_torch", lora_rank=None, sharded=False)
    learn(second, tmp_path / "first", *[step(samples(7, 12))] * 2, **ADAM)
    anew = [value.clone() for value in second.parameters()]
    learn(second, tmp_path / "second", step(samples(7, 12)), optimizer_from=source, **ADAM)
    for value, expected in zip(second.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(value, expected)
    assert any(not torch.equal(value, old) for value, old in zip(second.parameters(), anew, strict=True))


def test_an_optimizer_that_does_not_fit_is_refused(before: Path, tmp_path: Path) -> None:
    own = {"optim": "adamw_torch", "lora_rank": None, "sharded": False}
    for change, reason in (
        ({"optim": "adafactor"}, "is of a run with update.optim=adamw_torch, and this one has adafactor"),
        ({"lora_rank": 4}, "is of a run with update.lora_rank=None, and this one has 4"),
        ({"sharded": True}, "was saved without FSDP"),
    ):
        with pytest.raises(ConfigurationError, match=reason):
            optimizer_state_of(before, **{**own, **change})
    with pytest.raises(ConfigurationError, match="contains no checkpoint with the state of an optimizer"):
        optimizer_state_of(tmp_path, **own)
    source = optimizer_state_of(before, **own)
    with pytest.raises(ConfigurationError, match="leave --optimizer-from out"):
        learn(llama(), tmp_path, step(samples(7, 12)), optimizer_from=source, **ADAM)


def test_a_checkpoint_of_several_processes_is_whole_when_its_table_is_there(tmp_path: Path) -> None:
    (tmp_path / "trainer_state.json").write_text('{"global_step": 2}')
    for name in ("pytorch_model_fsdp_0", "optimizer_0"):
        (tmp_path / name).mkdir()
        assert fault_of(tmp_path) in ("it has no optimizer file", "optimizer_0 is not complete")
        (tmp_path / name / ".metadata").touch()
    assert fault_of(tmp_path) is None


def test_arguments_of_the_optimizer_reach_it(tmp_path: Path) -> None:
    """transformers passes over those of AdamW."""

    def made(optim: str, text: str) -> Any:
        settings: dict[str, Any] = {"optim": optim, "optim_args": text or None, "max_steps": 1}
        arguments = RaoArguments(output_dir=str(tmp_path), report_to="none", use_cpu=True, **settings)
        return RaoTrainer(qwen3(), arguments, lambda first: iter(())).create_optimizer()

    adam = made("adamw_torch_fused", "eps=1e-6, beta2=0.97,amsgrad=true").defaults
    assert (adam["eps"], adam["betas"], adam["amsgrad"], adam["fused"]) == (1e-6, (0.9, 0.97), True, True)
    assert made("sgd", "momentum=0.9,nesterov=True").defaults["nesterov"] is True
    assert made("adafactor", "clip_threshold=2").defaults["clip_threshold"] == 2
    assert made("adamw_torch", "").defaults["eps"] == 1e-8
    for text, complaint in (
        ("epsilon=1e-6", "AdamW has no 'epsilon' to set; there are amsgrad, beta1, beta2, "),
        ("weight_decay=0.1", "AdamW has no 'weight_decay' to set"),
        ("eps=-1", "optim_args=eps=-1 does not work with AdamW: Invalid epsilon value"),
    ):
        with pytest.raises(ConfigurationError, match=complaint):
            made("adamw_torch", text)


def test_a_schedule_that_does_not_work_is_refused_before_the_run_has_a_folder(tmp_path: Path) -> None:
    for name, text, complaint in (
        ("cosine_with_min_lr", "", "cosine_with_min_lr does not work with no lr_scheduler_kwargs: .*min_lr"),
        ("warmup_stable_decay", "", "num_decay_steps"),
        ("cosine", "foo=1", "cosine does not work with foo=1: .*foo"),
        ("cosine", "num_cycles=many", "num_cycles=many"),
        ("polynomial", "lr_end=0.1", "lr_end"),
    ):
        with pytest.raises(ConfigurationError, match=complaint):
            check_update(UpdateConfig(lr_scheduler_type=name, lr_scheduler_kwargs=text))
    check_update(UpdateConfig(lr_scheduler_type="cosine_with_min_lr", lr_scheduler_kwargs="min_lr_rate=0.1"))
    check_update(UpdateConfig(lr_scheduler_type="warmup_stable_decay", lr_scheduler_kwargs="num_decay_steps=9"))
    recorded, rest = Recorded({}, Counter()), {"credit": CreditConfig(), "temperature": 1.0}
    for wrong in ({"optim": "adamw_tourch"}, {"lr_scheduler_type": "cosines"}):
        with pytest.raises(ConfigurationError, match="did you mean"):
            train_offline(tmp_path / "out", tmp_path, recorded, update=UpdateConfig(**wrong), **rest)
    assert not (tmp_path / "out").exists()
