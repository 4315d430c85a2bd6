"""What cannot be saved is known before training, and what goes wrong at saving is one sentence."""

from __future__ import annotations

import errno
import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError

from rao_rl.errors import TrainingDiverged
from rao_rl.train.arguments import check_reporters
from rao_rl.train.safe_trainer import check_sound
from rao_rl.weights import saving as module
from rao_rl.weights.causal_lm import context_window, end_ids
from rao_rl.weights.checkpoint import load_checkpoint, write_checkpoint
from rao_rl.weights.onnx import export_onnx
from rao_rl.weights.saving import check_folder, check_savable, saving
from recursive_agent.checkpoint import CheckpointSettings
from recursive_agent.errors import ConfigurationError

from ..train.policies import make_checkpoint
from ..train.small_steps import gpt2, llama, qwen3, slopes

SETTINGS = CheckpointSettings(name="x")


def test_a_folder_that_cannot_be_one_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="file is a file; give the name of a folder"):
        check_folder(tmp_path / "file")
    with pytest.raises(ConfigurationError, match="a part of its path is a file"):
        check_folder(tmp_path / "file" / "out")
    with pytest.raises(ConfigurationError, match="cannot be written"):
        check_folder("/proc/nowhere")
    assert check_folder(tmp_path / "a" / "b").is_dir()
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_what_the_libraries_refuse_to_save_is_known_before_training(tokenizer: Any, tmp_path: Path) -> None:
    policy = qwen3()
    check_savable(tmp_path, policy, tokenizer, SETTINGS)
    assert list(tmp_path.iterdir()) == []
    policy.generation_config.temperature = 0.7
    policy.generation_config.do_sample = False
    with pytest.raises(ConfigurationError, match="could not be saved after training, so training does not start"):
        check_savable(tmp_path, policy, tokenizer, SETTINGS)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_room_for_the_weights_is_refused(
    tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10**9, 10**9, 1000))
    with pytest.raises(ConfigurationError, match=r"the disk of .* has 0 MB left"):
        check_savable(tmp_path, qwen3(), tokenizer, SETTINGS)


@pytest.mark.parametrize(
    "strange",
    [
        {"do_sample": False, "temperature": 0.9, "top_p": 0.6},
        {"do_sample": False, "top_k": 5},
        {"do_sample": True, "temperature": -1.0},
        {"num_return_sequences": 4, "num_beams": 1},
        {"early_stopping": True, "num_beams": 1, "length_penalty": 0.5},
    ],
)
def test_a_generation_configuration_of_the_hub_can_be_saved_again(
    strange: dict[str, Any], tokenizer: Any, tmp_path: Path
) -> None:
    make_checkpoint(tmp_path, tokenizer)
    path = tmp_path / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **strange}))
    policy, _, settings = load_checkpoint(tmp_path)
    check_savable(tmp_path / "out", policy, tokenizer, settings)
    write_checkpoint(tmp_path / "out", policy, tokenizer, settings)
    assert json.loads((tmp_path / "out" / "generation_config.json").read_text())["eos_token_id"] == 1


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 1 vs 2"),
    ],
)
def test_a_full_disk_is_one_sentence(error: Exception, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"cannot be written .*--resume") as refused, saving(tmp_path):
        raise error
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "error",
    [RuntimeError("CUDA out of memory"), OSError("no number"), ConnectionRefusedError(111, "refused"), ValueError("x")],
)
def test_other_errors_pass(error: Exception, tmp_path: Path) -> None:
    with pytest.raises(type(error), match=re.escape(str(error))), saving(tmp_path):
        raise error


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e30])
def test_weights_that_are_no_numbers_are_found(value: float) -> None:
    policy = llama()
    check_sound(policy.train())
    assert policy.training
    with torch.no_grad():
        policy.model.layers[1].mlp.down_proj.weight[0, 0] = value
    with pytest.raises(TrainingDiverged):
        check_sound(policy)


@pytest.mark.parametrize("names", ["wnadb", "tensorbord", "none,nowhere", "flyte", "comet_ml"])
def test_a_reporter_that_is_not_there_is_a_sentence(names: str) -> None:
    with pytest.raises(ConfigurationError, match="report_to") as refused:
        check_reporters(names)
    assert "\n" not in str(refused.value)
    assert names != "wnadb" or "did you mean wandb?" in str(refused.value)


def test_no_reporter_is_none() -> None:
    assert check_reporters("none") == check_reporters("") == check_reporters(" none ") == ["none"]


def test_the_window_and_the_ends_are_found_wherever_they_are_named(tokenizer: Any) -> None:
    assert context_window(llama(), tokenizer) == 400
    assert context_window(gpt2(), tokenizer) == 400
    assert context_window(slopes(), tokenizer) == 256  # the tokenizer's
    assert end_ids(llama(), tokenizer) == [0, 1]
    policy = llama()
    policy.generation_config.eos_token_id = [5, 7]
    assert end_ids(policy, tokenizer) == [0, 1, 5, 7]


def test_a_graph_is_left_out_where_it_would_be_of_another_model(tokenizer: Any, tmp_path: Path) -> None:
    policy = qwen3(attention_bias=True)
    (tmp_path / "model.onnx").write_bytes(b"of other weights")
    write_checkpoint(tmp_path, policy, tokenizer, SETTINGS)
    assert (tmp_path / "model.safetensors").is_file()
    assert not (tmp_path / "model.onnx").exists()
    with pytest.raises(ConfigurationError, match="not biases in attention"):
        export_onnx(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "metrics.jsonl", "training.json"])
def test_a_folder_in_the_place_of_a_file_is_known_before_training(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(ConfigurationError, match=f"{name} is a folder, where a file is to be written"):
        check_folder(tmp_path)


@pytest.mark.parametrize("name", ["checkpoints", "traces"])
def test_a_file_in_the_place_of_a_folder_is_known_before_training(name: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    with pytest.raises(ConfigurationError, match=f"{name} is a file, where a folder is to be made"):
        check_folder(tmp_path)
