"""Imitation of models that exist already: LoRA or all weights, what the trained checkpoint says of itself, and its metrics."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from rao_rl.config import Curriculum, ImitationConfig, ImitationSettings
from rao_rl.imitation.agent import learning_rate
from rao_rl.imitation.run import train_on_demonstrations
from rao_rl.imitation.trainer import ImitationTrainer
from rao_rl.weights.checkpoint import load_checkpoint
from recursive_agent.checkpoint import CheckpointSettings, EnvironmentSettings
from recursive_agent.errors import ConfigurationError

from ..train.policies import CURRICULUM, make_checkpoint


def foreign(folder: Path, tokenizer: Any, window: int = 512) -> Path:
    """A small Llama as a hub has it: no `agent.json`, and a generation configuration of a chat model."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=window,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: Any = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, do_sample=True, temperature=0.2, top_p=0.9, top_k=5, repetition_penalty=1.1
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def config(out: Path, **more: Any) -> ImitationConfig:
    given = {"max_steps": 3, "tokens_per_step": 400, "bf16": False, "learning_rate": 1e-3, "warmup_steps": 0}
    return ImitationConfig(output_dir=str(out), **{**given, **more})


def taught(folder: Path, tokenizer: Any, **more: Any) -> Path:
    """The checkpoint that imitation makes of the small Llama there."""
    start = folder / "start"
    if not start.is_dir():
        foreign(start, tokenizer)
    train_on_demonstrations(config(folder / "out", **more), CURRICULUM, model=start)
    return folder / "out"


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(load_checkpoint(folder)[0].named_parameters())


def losses(folder: Path) -> list[tuple[int, float]]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [(row["step"], row["loss"]) for row in rows if "loss" in row]


def test_a_model_without_agent_json_becomes_an_agent_of_the_environment(tokenizer: Any, tmp_path: Path) -> None:
    out = taught(tmp_path, tokenizer)
    settings = CheckpointSettings.load(out)
    assert (settings.name, settings.prompt_style, settings.action_format) == ("start", "minimal", "fenced")
    assert settings.sampling == {"temperature": 0.5, "max_tokens": 512}
    assert settings.context_length == 512
    assert settings.environment == EnvironmentSettings(name="textcraft")
    assert [step for step, _ in losses(out)] == [1, 2, 3]


def test_what_is_asked_for_stands_in_agent_json(tokenizer: Any, tmp_path: Path) -> None:
    more = {"prompt_style": "rich", "action_format": "tags", "temperature": 0.9}
    start = foreign(tmp_path / "start", tokenizer, window=8192)
    train_on_demonstrations(
        config(tmp_path / "out", max_steps=1, tokens_per_step=2000, **more), CURRICULUM, model=start
    )
    settings = CheckpointSettings.load(tmp_path / "out")
    assert (settings.prompt_style, settings.action_format) == ("rich", "tags")
    assert settings.sampling["temperature"] == 0.9


def test_the_agent_json_of_the_model_is_kept_to(tokenizer: Any, tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "start", tokenizer)
    own = CheckpointSettings.load(tmp_path / "start")
    own.model_copy(update={"action_format": "tags", "context_length": 200}).save(tmp_path / "start")
    out = taught(tmp_path, tokenizer, max_steps=1)
    settings = CheckpointSettings.load(out)
    assert (settings.name, settings.prompt_style, settings.action_format) == ("tiny", "minimal", "tags")
    assert (settings.context_length, settings.sampling["temperature"]) == (200, 1.0)


def test_native_tool_calls_cannot_be_taught(tokenizer: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"set imitation.action_format to fenced or tags"):
        taught(tmp_path, tokenizer, action_format="tool")


def test_a_chat_models_way_of_sampling_does_not_outlive_its_training(tokenizer: Any, tmp_path: Path) -> None:
    made = json.loads((taught(tmp_path, tokenizer, max_steps=1) / "generation_config.json").read_text())
    assert made["eos_token_id"] == tokenizer.eos_token_id
    assert not {"repetition_penalty", "top_k", "temperature"} & set(made)


def test_an_adapter_is_worked_into_the_weights_and_stays_with_the_last_step(tokenizer: Any, tmp_path: Path) -> None:
    out = taught(tmp_path, tokenizer, lora_rank=4)
    before, after = weights(tmp_path / "start"), weights(out)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert before.keys() == after.keys()
    assert changed == {name for name in before if name.endswith("_proj.weight")}
    saved = out / "checkpoints" / "checkpoint-3"
    assert json.loads((saved / "adapter_config.json").read_text())["r"] == 4
    assert (saved / "adapter_model.safetensors").stat().st_size < 100_000
    assert not (saved / "model.safetensors").exists()


def test_an_adapter_of_a_seed_is_the_same_each_time(tokenizer: Any, tmp_path: Path) -> None:
    foreign(tmp_path / "start", tokenizer)
    made = []
    for name in ("one", "other"):
        settings = config(tmp_path / name, lora_rank=4, max_steps=2)
        train_on_demonstrations(settings, CURRICULUM, model=tmp_path / "start")
        made.append(weights(tmp_path / name))
        torch.manual_seed(len(made))
    for name, value in made[0].items():
        torch.testing.assert_close(value, made[1][name], rtol=0, atol=1e-7)


def test_a_stopped_run_of_an_adapter_goes_on_as_if_nothing_had_happened(
    tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign(tmp_path / "start", tokenizer)
    settings = config(tmp_path / "whole", lora_rank=4, save_steps=1)
    train_on_demonstrations(settings, CURRICULUM, model=tmp_path / "start")
    stopped = replace(settings, output_dir=str(tmp_path / "stopped"))
    plain = ImitationTrainer.training_step

    def dying(self: Any, *args: Any, **options: Any) -> Any:
        if self.state.global_step == 2:
            raise KeyboardInterrupt
        return plain(self, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(ImitationTrainer, "training_step", dying)
        with pytest.raises(KeyboardInterrupt):
            train_on_demonstrations(stopped, CURRICULUM, model=tmp_path / "start")
    train_on_demonstrations(replace(stopped, resume=True), CURRICULUM, model=tmp_path / "start")
    resumed = weights(tmp_path / "stopped")
    for name, value in weights(tmp_path / "whole").items():
        torch.testing.assert_close(value, resumed[name], rtol=0, atol=1e-6)
    assert losses(tmp_path / "stopped") == losses(tmp_path / "whole")


def test_the_form_of_the_prompts_may_not_change_when_a_run_is_resumed(tokenizer: Any, tmp_path: Path) -> None:
    taught(tmp_path, tokenizer, max_steps=1)
    with pytest.raises(ConfigurationError, match=r"action_format \(was null, now \"tags\"\)"):
        taught(tmp_path, tokenizer, max_steps=2, action_format="tags", resume=True)


class Sized(torch.nn.Module):
    """A model with so many parameters, none of which takes memory."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.empty(size, device="meta"))


@pytest.mark.parametrize(
    ("size", "scratch", "more", "rate"),
    [
        (2_000_000, True, {}, 2e-3),
        (2_000_000, False, {}, 5e-4),
        (135_000_000, False, {}, 1e-4),
        (7_000_000_000, False, {}, 2e-5),
        (135_000_000, False, {"lora_rank": 16}, 2e-4),
        (7_000_000_000, False, {"lora_rank": 16}, 2e-4),
        (7_000_000_000, True, {"learning_rate": 0.5}, 0.5),
    ],
)
def test_the_default_rate_suits_the_model(size: int, scratch: bool, more: dict[str, Any], rate: float) -> None:
    assert learning_rate(Sized(size), ImitationSettings(**more), scratch=scratch) == rate


def test_a_few_steps_lower_the_loss(tokenizer: Any, tmp_path: Path) -> None:
    easy = Curriculum(seed=1, difficulties=("easy",), single_difficulties=("easy",), single_share=0.0)
    start = foreign(tmp_path / "start", tokenizer)
    train_on_demonstrations(config(tmp_path / "out", max_steps=25, learning_rate=1e-2), easy, model=start)
    found = [loss for _, loss in losses(tmp_path / "out")]
    assert sum(found[-5:]) < 0.8 * sum(found[:5])


def test_a_checkpoint_of_ours_stays_one_with_a_graph(tokenizer: Any, tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "start", tokenizer)
    out = taught(tmp_path, tokenizer, max_steps=1, lora_rank=2)
    assert (out / "model.onnx").is_file()
