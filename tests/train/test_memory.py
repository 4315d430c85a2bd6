"""Bins by the memory there is: what training is estimated to take, what it takes, and what is free."""

from __future__ import annotations

import gc
import json
import logging
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from rao_rl.config import UpdateConfig
from rao_rl.train import memory, trainer
from rao_rl.train.memory import LEAST, MOST, Cost, control_groups, cost_of, free_memory
from rao_rl.train.trainer import RaoArguments, RaoTrainer
from rao_rl.weights.adapters import adapted
from tests.cli.command import environment

from .small_steps import learn, qwen3, row, sample, samples, step

ROOT = Path(__file__).parents[2]
COST = Cost(
    reserved=10**9,
    fixed=10**8,
    kept_per_token=10**6,
    layers=10,
    width=1000,
    vocabulary=10_000,
    logprob_chunk=1000,
    checkpointing=False,
)


# --- the estimate ---


def test_more_tokens_cost_more_and_as_many_are_taken_as_fit() -> None:
    costs = [COST.of(tokens) for tokens in (1, 100, 1000, 5000)]
    assert costs == sorted(costs)
    assert costs[0] > COST.reserved
    for memory_free in (2 * 10**9, 5 * 10**9, 10**10):
        tokens = COST.fitting(memory_free)
        assert COST.of(tokens) <= memory_free < COST.of(tokens + 1)
    assert (COST.fitting(0), COST.fitting(10**15)) == (LEAST, MOST)


def test_checkpointing_and_short_chunks_make_room() -> None:
    free = 5 * 10**9
    assert replace(COST, checkpointing=True).fitting(free) > 2 * COST.fitting(free)
    assert replace(COST, logprob_chunk=10).fitting(free) > COST.fitting(free)
    assert replace(COST, vocabulary=150_000).fitting(free) < COST.fitting(free)
    assert replace(COST, reserved=0).fitting(free) > COST.fitting(free)


CASES: dict[str, dict[str, Any]] = {
    "float32": {"tokens": 2048},
    "bfloat16": {"tokens": 2048, "bf16": True},
    "checkpointing": {"tokens": 4096, "gradient_checkpointing": True},
    "lora": {"tokens": 2048, "lora": 8},
    "vocabulary": {"tokens": 1024, "vocabulary": 30_000, "logprob_chunk": 256},
    "long rows": {"tokens": 2048, "length": 1024},
}


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak is measured by Linux")
@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_the_estimate_is_near_what_training_takes(case: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.train.test_memory", json.dumps(CASES[case])],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])  # after those of transformers
    assert 0.7 < found["estimated"] / found["measured"] < 1.6, found


def measure(
    *, tokens: int, length: int = 256, vocabulary: int = 2000, lora: int | None = None, **arguments: Any
) -> None:
    """Print what a step of so many tokens in one bin takes, and what it was estimated to, in a process of its own."""
    torch.manual_seed(0)
    model: Any = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=192,
            intermediate_size=576,
            num_hidden_layers=8,
            num_attention_heads=6,
            num_key_value_heads=3,
            max_position_embeddings=4096,
        )
    )
    model = adapted(model, UpdateConfig(lora_rank=lora, bf16=False))
    made = step([sample(row(length, seed=number)) for number in range(tokens // length)])
    found: dict[str, int] = {}

    class Measured(RaoTrainer):
        def _choose_tokens_per_bin(self, samples: Any) -> int:
            super()._choose_tokens_per_bin(samples)
            gc.collect()
            Path("/proc/self/clear_refs").write_text("5")
            found["before"] = _status("VmRSS")
            return tokens

    def estimated(*args: Any, **options: Any) -> Cost:
        cost = cost_of(*args, **options)
        found["estimated"] = cost.of(tokens)
        return cost

    trainer.cost_of = estimated  # type: ignore[attr-defined]
    with tempfile.TemporaryDirectory() as folder:
        settings = RaoArguments(
            output_dir=folder,
            max_steps=2,
            use_cpu=True,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=False,
            **arguments,
        )
        Measured(model, settings, lambda first: iter([made] * 2)).train()
    print(json.dumps({**found, "measured": _status("VmHWM") - found["before"]}))


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith(name)))


# --- the choice ---


def chosen(monkeypatch: pytest.MonkeyPatch, folder: Path, free: int, **arguments: Any) -> list[int]:
    """The budgets that rows were packed by."""
    budgets: list[int] = []
    plain = trainer.deal

    def deal(rows: Any, budget: int, **options: Any) -> Any:
        budgets.append(budget)
        return plain(rows, budget, **options)

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "deal", deal)
        patch.setattr(trainer, "free_memory", lambda device: free)
        learn(qwen3(), folder, *[step(samples(7, 12, 300, 30))] * 2, **arguments)
    return budgets


def test_bins_are_chosen_by_the_free_memory_and_the_choice_is_said_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    few = chosen(monkeypatch, tmp_path, 30_000_000)
    said = f"Bins of {few[0]:,} tokens: 0.0 GB are free on cpu. Change it with update.tokens_per_bin."
    assert [record.message for record in caplog.records if "Bins of" in record.message] == [said]
    many = chosen(monkeypatch, tmp_path, 10**11)
    assert few == [few[0]] * 2
    assert LEAST < few[0] < MOST
    assert many == [MOST] * 2


def test_too_little_memory_is_said_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert chosen(monkeypatch, tmp_path, 1000) == [LEAST] * 2
    assert "Training on 300 tokens at once takes" in caplog.text
    assert "update.gradient_checkpointing=true" in caplog.text


def test_a_number_that_is_given_is_obeyed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert chosen(monkeypatch, tmp_path, 1000, tokens_per_bin=77) == [77, 77]


def test_choosing_changes_nothing_of_what_is_learnt(tmp_path: Path) -> None:
    """Not even with dropout, whose random numbers it must not use up."""

    def dropping() -> Any:
        model = qwen3()
        for layer in model.model.layers:
            layer.self_attn.attention_dropout = 0.0
        model.model.embed_tokens = torch.nn.Sequential(model.model.embed_tokens, torch.nn.Dropout(0.5))
        model.get_input_embeddings = lambda: model.model.embed_tokens[0]
        return model

    made = step(samples(7, 12, 30))
    torch.manual_seed(5)
    by_choice = learn(dropping(), tmp_path, made, made, seed=5)
    torch.manual_seed(5)
    by_number = learn(dropping(), tmp_path, made, made, seed=5, tokens_per_bin=MOST)
    assert by_choice.loss == by_number.loss
    for name, value in by_choice.gradient.items():
        assert torch.equal(value, by_number.gradient[name])


# --- what is free ---


def group(folder: Path, limit: str, used: int, cache: int, *, old: bool = False) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes") if old else ("memory.max", "memory.current")
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 5\n{'total_' * old}inactive_file {cache}\n")


@pytest.mark.parametrize("old", [False, True], ids=["cgroup 2", "cgroup 1"])
def test_the_tightest_limit_of_the_control_groups_counts(
    old: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "fs"
    top = root / "memory" if old else root
    group(top, str(1 << 62) if old else "max", 0, 0, old=old)
    group(top / "pod", "1000000", 700_000, 100_000, old=old)
    group(top / "pod" / "box", "5000000", 700_000, 0, old=old)
    own = tmp_path / "own"
    own.write_text("9:name=systemd:/\n4:memory:/pod/box\n0::/\n" if old else "0::/pod/box\n")
    folders = control_groups(root, own)
    assert {top / "pod" / "box", top / "pod", top} <= set(folders)
    monkeypatch.setattr(memory, "control_groups", lambda: folders)
    monkeypatch.setattr(memory, "_available", lambda: 10**12)
    assert free_memory(torch.device("cpu")) == 400_000
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert free_memory(torch.device("cpu")) == 200_000


def test_without_control_groups_what_the_machine_has_left_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert control_groups(tmp_path, tmp_path / "missing") == []
    (tmp_path / "meminfo").write_text("MemTotal: 100 kB\nMemAvailable:   42 kB\n")
    assert memory._available(tmp_path / "meminfo") == 42 * 1024
    assert memory._available(tmp_path / "missing") > 0
    monkeypatch.setattr(memory, "control_groups", list)
    monkeypatch.setattr(memory, "_available", lambda: 77)
    assert free_memory(torch.device("cpu")) == 77


def test_on_a_gpu_what_the_device_has_and_what_torch_holds_unused_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 9000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 500)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 200)
    assert free_memory(torch.device("cuda:0")) == 1300


if __name__ == "__main__":
    measure(**json.loads(sys.argv[1]))
