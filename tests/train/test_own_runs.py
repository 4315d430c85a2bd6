"""Runs that are not this policy's own are refused or named; what is not trained is counted; what goes wrong is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from rao_rl.config import UpdateConfig
from rao_rl.credit.assign import CreditConfig
from rao_rl.data.folder import read_groups
from rao_rl.errors import DataError
from rao_rl.train.run import train_offline
from rao_rl.weights.checkpoint import load_checkpoint, write_checkpoint
from recursive_agent.checkpoint import CheckpointSettings
from recursive_agent.errors import ConfigurationError

from ..data.token_trees import token_events, turn
from ..data.trees import write
from .policies import make_checkpoint
from .test_offline import BAD, GOOD, UPDATE, attempt, record


@pytest.fixture
def prepared(tokenizer: Any, tmp_path: Path) -> Path:
    """A folder with a random `policy` and with `traces` of two groups."""
    make_checkpoint(tmp_path / "policy", tokenizer)
    (tmp_path / "traces").mkdir()
    record(tmp_path / "traces", 2)
    return tmp_path


def train(folder: Path, **more: Any) -> list[str]:
    """What the run says."""
    said: list[str] = []
    settings: dict[str, Any] = {"max_steps": 1, "update": UPDATE, "credit": CreditConfig(), "say": said.append, **more}
    train_offline(folder / "out", folder / "policy", read_groups(folder / "traces"), **settings)
    return said


def begins(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the first event of every trace of the first group."""
    for path in folder.glob("g0-*.jsonl"):
        first, *rest = path.read_text().splitlines()
        event = json.loads(first)
        change(event)
        path.write_text("\n".join([json.dumps(event), *rest]) + "\n")


def test_two_models_in_a_group_are_refused_by_name(prepared: Path) -> None:
    attempt(prepared / "traces", "g0", 5, 1.0, model="another")
    with pytest.raises(DataError, match="attempts of group g0 were sampled by different models: another, m;"):
        train(prepared)
    assert not (prepared / "out").exists()


def test_groups_of_two_models_are_refused_by_name(prepared: Path) -> None:
    for member, score in enumerate((1.0, 0.0)):
        attempt(prepared / "traces", "g9", member, score, model="another")
    with pytest.raises(DataError, match=r"sampled by different models: another \(2 runs\), m \(4 runs\); train each"):
        train(prepared)


@pytest.mark.parametrize(("version", "refused"), [("d0d684", True), ("3", False), (None, False)])
def test_other_weights_of_the_same_name_in_a_group(version: str | None, refused: bool, prepared: Path) -> None:
    events = token_events([turn([1, 2, 10], GOOD, version)], run="odd", group="g0", scores=(1.0,))
    write(prepared / "traces" / "odd.jsonl", events)
    events = token_events([turn([1, 2, 10], BAD, "aaaa")], run="even", group="g0", scores=(0.0,))
    write(prepared / "traces" / "even.jsonl", events)
    if refused:
        with pytest.raises(DataError, match="group g0 were sampled by different versions of the weights: aaaa, d0d684"):
            train(prepared)
    else:  # the numbers of a training run's updates, or nothing at all
        train(prepared)


@pytest.mark.parametrize(
    ("setting", "name"),
    [
        ({"top_k": 20}, "top_k=20"),
        ({"repetition_penalty": 1.1}, "repetition_penalty=1.1"),
        ({"min_p": 0.1}, "min_p=0.1"),
    ],
)
def test_runs_of_a_bent_distribution_are_refused_by_name(setting: dict[str, Any], name: str, prepared: Path) -> None:
    begins(prepared / "traces", lambda event: event.setdefault("settings", {}).update(sampling=setting))
    with pytest.raises(DataError, match=f"was sampled with {name}, so the log-probs in its trace are not those"):
        train(prepared)


def test_a_policy_that_did_not_sample_the_runs_is_told_by_the_first_step(prepared: Path) -> None:
    line = next(line for line in train(prepared) if "did not sample these runs" in line)
    assert "the traces name m, and tiny is trained" in line
    assert "they do not name it: set collect.temperature" in line


def own(folder: Path, scale: float = 1.0) -> None:
    """Traces that the policy could have sampled itself, at some temperature."""
    policy = load_checkpoint(folder / "policy")[0]
    for path in folder.glob("traces/*"):
        path.unlink()
    for member, (sampled, score) in enumerate(((GOOD, 1.0), (BAD, 0.0))):
        ids = [1, 2, 10, *sampled]
        with torch.no_grad():
            scores = torch.log_softmax(policy(torch.tensor([ids])).logits[0] / scale, dim=-1)
        logprobs = [float(scores[place - 1, ids[place]]) for place in range(3, len(ids))]
        events = token_events([turn(ids[:3], sampled)], run=f"r{member}", group="g", scores=(score,), model="tiny")
        exact = [replace(each, logprobs=tuple(logprobs)) if hasattr(each, "logprobs") else each for each in events]
        write(folder / "traces" / f"{member}.jsonl", exact)


def test_a_policy_is_silent_about_its_own_runs(prepared: Path) -> None:
    own(prepared)
    assert train(prepared) == []


def test_other_weights_of_the_same_name_are_told_by_the_first_step(prepared: Path, tokenizer: Any) -> None:
    own(prepared)
    make_checkpoint(prepared / "policy", tokenizer, seed=5)
    (line,) = train(prepared)
    assert "another version of the weights sampled them" in line


def test_what_is_left_out_is_counted(prepared: Path) -> None:
    for member in range(3):
        attempt(prepared / "traces", "g7", member, 1.0)  # all succeed
    attempt(prepared / "traces", "g8", 0, 1.0)  # alone
    line = next(line for line in train(prepared) if line.startswith("training on"))
    assert line.startswith("training on 2 of 4 groups; left out: ")
    assert "3 runs (zero advantage)" in line


def positions(folder: Path, most: int) -> None:
    """A policy with learnt positions, of which there are few: beyond them is nothing to look up."""
    policy, tokenizer, settings = load_checkpoint(folder / "policy")
    config = transformers.GPT2Config(
        vocab_size=policy.config.vocab_size, n_embd=16, n_layer=1, n_head=2, n_positions=most, eos_token_id=1
    )
    write_checkpoint(folder / "policy", transformers.GPT2LMHeadModel(config), tokenizer, settings)


def test_rows_longer_than_the_positions_are_left_out_and_counted(prepared: Path) -> None:
    for member, sampled in enumerate((GOOD, BAD, BAD)):
        prompt = list(range(10, 10 + (60 if member == 2 else 20)))
        events = token_events([turn(prompt, sampled)], run=f"l{member}", group="g5", scores=(float(member == 0),))
        write(prepared / "traces" / f"long-{member}.jsonl", events)
    positions(prepared, 32)
    line = next(line for line in train(prepared) if line.startswith("training on"))
    assert "1 agent (too long)" in line


def test_nothing_but_rows_that_are_too_long_is_a_sentence(prepared: Path) -> None:
    positions(prepared, 4)
    with pytest.raises(DataError, match="longer than the 4 tokens that the model has positions for"):
        train(prepared)


def test_a_model_that_is_broken_already_is_refused_before_a_step(prepared: Path) -> None:
    policy, tokenizer, settings = load_checkpoint(prepared / "policy")
    with torch.no_grad():
        policy.lm_head.weight[3, 3] = float("nan")
    write_checkpoint(prepared / "policy", policy, tokenizer, settings, graph=False)
    with pytest.raises(ConfigurationError, match="policy cannot be trained: the weights are no longer finite"):
        train(prepared)
    assert not (prepared / "out" / "training.json").exists()


def test_a_run_that_would_overwrite_its_own_start_is_refused(prepared: Path) -> None:
    with pytest.raises(ConfigurationError, match="is the folder of --model, which it would overwrite"):
        train_offline(
            prepared / "traces" / ".." / "policy",
            prepared / "policy",
            read_groups(prepared / "traces"),
            credit=CreditConfig(),
            update=UPDATE,
        )


def test_collapse_is_said(prepared: Path) -> None:
    said = train(prepared, max_steps=8, update=UpdateConfig(learning_rate=0.1, warmup_steps=0, bf16=False))
    assert any("far from the one that sampled the runs" in line or "has collapsed" in line for line in said)


def test_a_warm_up_longer_than_the_run_is_said(prepared: Path) -> None:
    said = train(prepared, update=replace(UPDATE, warmup_steps=50))
    assert any("update.warmup_steps=50 is more than the 1 steps" in line for line in said)


def test_a_sampling_setting_of_the_policy_that_bends_is_refused_online(prepared: Path) -> None:
    from rao_rl.train.begin import check_sampling

    check_sampling(CheckpointSettings(name="m", sampling={"temperature": 0.5, "top_p": 0.9}), "m")
    with pytest.raises(ConfigurationError, match=r"the agent\.json of m samples with top_k=5"):
        check_sampling(CheckpointSettings(name="m", sampling={"top_k": 5}), "m")
