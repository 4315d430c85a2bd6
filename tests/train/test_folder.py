"""The folder of a run: which settings it keeps when it is resumed, and how signals end it."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from rao_rl.train.folder import SETTINGS, StopOnSignal, broken_checkpoints, last_checkpoint, place_of, remember
from rao_rl.train.wholeness import fault_of
from recursive_agent.errors import ConfigurationError

TOLD = {"model": "policy", "update": {"lr": 1.0, "loss": "cispo"}, "seeds": list(range(50))}


def test_what_differs_is_named_with_both_values(tmp_path: Path) -> None:
    remember(tmp_path, TOLD, resume=False)
    with pytest.raises(ConfigurationError) as refused:
        remember(tmp_path, {**TOLD, "update": {"lr": 2.0, "loss": "ppo"}, "seeds": [1]}, resume=True)
    said = str(refused.value)
    # A long list is not spelt out.
    assert 'settings: seeds, update.loss (was "cispo", now "ppo"), update.lr (was 1.0, now 2.0);' in said


def test_free_settings_change_and_are_written_down(tmp_path: Path) -> None:
    remember(tmp_path, TOLD, resume=False)
    now = {**TOLD, "update": {"lr": 2.0, "loss": "cispo"}}
    remember(tmp_path, now, resume=True, free=["update.lr"])
    assert json.loads((tmp_path / SETTINGS).read_text()) == now


def test_a_folder_may_be_spelt_otherwise_and_a_new_setting_is_no_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    remember(tmp_path, TOLD, resume=False)
    remember(tmp_path, {**TOLD, "model": str(tmp_path / "policy/"), "new": 1}, resume=True)
    assert json.loads((tmp_path / SETTINGS).read_text())["new"] == 1
    with pytest.raises(ConfigurationError):
        remember(tmp_path, {**TOLD, "model": str(tmp_path / "another/"), "new": 1}, resume=True)


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_settings_that_cannot_be_read_are_one_sentence(text: str, tmp_path: Path) -> None:
    (tmp_path / SETTINGS).write_text(text)
    with pytest.raises(ConfigurationError, match="cannot be resumed"):
        remember(tmp_path, TOLD, resume=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_run_at_the_next_step_and_a_second_one_at_once(number: signal.Signals) -> None:
    stop, control = StopOnSignal(), SimpleNamespace(should_save=False, should_training_stop=False)
    before = signal.getsignal(number)
    with stop.heeding():
        stop.on_step_end(None, None, control)
        assert not control.should_training_stop
        os.kill(os.getpid(), number)
        stop.on_step_end(None, None, control)
        assert (stop.number, control.should_training_stop, control.should_save) == (number, True, True)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) == before


def test_a_run_of_an_older_version_is_resumed_though_a_setting_was_renamed(tmp_path: Path) -> None:
    (tmp_path / SETTINGS).write_text(json.dumps({"collect": {"difficulty": "easy"}}))
    with pytest.raises(ConfigurationError, match=r'collect\.level \(was "easy", now "hard"\)'):
        remember(tmp_path, {"collect": {"level": "hard"}}, resume=True)
    remember(tmp_path, {"collect": {"level": "easy"}}, resume=True)
    assert json.loads((tmp_path / SETTINGS).read_text()) == {"collect": {"level": "easy"}}


def test_signals_are_left_alone_in_other_threads_and_among_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGTERM)
    seen: list[Any] = []

    def elsewhere() -> None:
        with StopOnSignal().heeding():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    monkeypatch.setenv("WORLD_SIZE", "2")
    elsewhere()
    assert seen == [before, before]


def test_a_relative_path_is_the_same_from_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "policy").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "policy")
    monkeypatch.chdir(tmp_path)
    assert place_of("policy") == place_of("policy/") == place_of("./link") == str((tmp_path / "policy").resolve())
    assert place_of("organisation/model") == "organisation/model"
    remember(tmp_path / "out", {"model": "policy"}, resume=False)  # as older versions wrote it
    monkeypatch.chdir(tmp_path / "elsewhere")
    remember(tmp_path / "out", {"model": place_of("../policy")}, resume=True)


def whole(folder: Path, step: int = 4) -> Path:
    """A checkpoint as the trainer leaves it."""
    folder.mkdir(parents=True)
    save_file({"a": torch.ones(3)}, folder / "model.safetensors")
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        torch.save({"b": torch.ones(2)}, folder / name)
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    return folder


PARTS = ["model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"]


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.95])
@pytest.mark.parametrize("name", PARTS)
def test_a_checkpoint_that_was_cut_off_is_left_out_by_name(name: str, kept: float, tmp_path: Path) -> None:
    whole(tmp_path / "checkpoint-3", 3)
    last = whole(tmp_path / "checkpoint-4")
    assert last_checkpoint(tmp_path) == last
    assert broken_checkpoints(tmp_path) == []
    data = (last / name).read_bytes()
    (last / name).write_bytes(data[: int(kept * len(data))])
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-3"
    (line,) = broken_checkpoints(tmp_path)
    assert f"checkpoint-4 is left out: {name} " in line


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "trainer_state.json"])
def test_a_checkpoint_without_a_part_is_left_out(name: str, tmp_path: Path) -> None:
    (whole(tmp_path / "checkpoint-4") / name).unlink()
    assert last_checkpoint(tmp_path) is None


def test_a_missing_shard_is_found(tmp_path: Path) -> None:
    folder = whole(tmp_path / "checkpoint-4")
    index = {"weight_map": {"a": "model.safetensors", "b": "model-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert fault_of(folder) == "model-00002.safetensors is missing"
