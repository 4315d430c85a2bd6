"""Two processes train what one trains, by DDP and by FSDP2, on given steps and online, and end together."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.commands import launch
from accelerate.utils import FullyShardedDataParallelPlugin
from accelerate.utils.launch import prepare_multi_gpu_env
from safetensors.torch import load_file
from torch.distributed.fsdp import StateDictType
from torch.distributed.fsdp.wrap import transformer_auto_wrap_policy

from rao_rl.train.wholeness import fault_of
from tests.cli.command import environment

from ..envs.coins import taught_checkpoint
from ..imitation.steps import ROWS, cross_entropy
from .data_parallel import CASES, CASES_MODELS, KINDS
from .data_parallel import made as of_case
from .online_runs import RUNS, record
from .small_steps import learn, qwen3

ROOT = Path(__file__).parents[2]
SAME = ("loss", "grad_norm", "entropy", "reward", "rao/generated_tokens", "rao/trained_tokens", "rao/batch")


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = taught_checkpoint(tmp_path_factory.mktemp("start"))
    record(folder)
    return folder


@pytest.fixture(scope="module")
def two(start: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of what two processes did."""
    folder = tmp_path_factory.mktemp("two")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.train.data_parallel", str(folder), str(start)],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_learn_what_one_does(kind: str, two: Path, tmp_path: Path) -> None:
    for name, (_, arguments) in CASES.items():
        both = torch.load(two / f"{kind}-{name}.pt")
        model = CASES_MODELS.get(name, qwen3)()
        alone = learn(model, tmp_path, *[of_case(name)] * 2, **arguments)
        assert both["loss"] == pytest.approx(alone.loss, abs=1e-5)
        assert both["gradient"].keys() == alone.gradient.keys()
        for key, value in alone.gradient.items():
            torch.testing.assert_close(both["gradient"][key], value, rtol=0, atol=1e-5)
        for key, value in model.named_parameters():
            torch.testing.assert_close(both["weights"][key], value.detach(), rtol=0, atol=1e-5)
        counted = [each for each in alone.log if each.startswith(("entropy", "rao/", "sampling/", "clip_ratio/"))]
        assert {"rao/ratio_max/depth_0", "rao/mismatch_kl/position_0-15", "rao/trained_tokens"} <= set(counted)
        for figure in set(counted) - {"rao/forwarded_over_logical_tokens"}:  # an empty bin has padding
            assert both["log"][figure] == pytest.approx(alone.log[figure], rel=1e-5, abs=1e-7), figure


def test_imitation_on_two_processes_is_that_on_one(two: Path) -> None:
    imitated = torch.load(two / "imitation.pt")
    model = qwen3()
    expected = cross_entropy(model, ROWS)
    expected.backward()
    assert imitated["loss"] == pytest.approx(float(expected.detach()), abs=1e-5)
    for key, parameter in model.named_parameters():
        torch.testing.assert_close(imitated["gradient"][key], parameter.grad, rtol=0, atol=1e-5)


def trained(run: Path) -> list[dict[str, Any]]:
    rows = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [{name: row[name] for name in SAME if name in row} for row in rows if "loss" in row]


@pytest.mark.parametrize(
    ("name", "runs", "most"),
    [
        ("online", ("ddp-online", "fsdp-online"), 1e-5),
        ("adam", ("ddp-resumed", "fsdp-resumed"), 1e-4),
        ("offline", ("ddp-offline", "fsdp-offline"), 1e-4),
        ("adapter", ("fsdp-adapter",), 1e-4),
    ],
)
def test_whole_runs_too_and_those_that_were_interrupted(
    name: str, runs: tuple[str, ...], most: float, start: Path, two: Path, tmp_path: Path
) -> None:
    RUNS[name](tmp_path / "one", start)
    rows, weights = trained(tmp_path / "one"), load_file(tmp_path / "one" / "model.safetensors")
    assert len(rows) == 3
    for run in runs:
        for mine, theirs in zip(rows, trained(two / run), strict=True):
            assert theirs == pytest.approx(mine, abs=1e-4), run
        both = load_file(two / run / "model.safetensors")
        assert both.keys() == weights.keys()
        for key, value in weights.items():
            torch.testing.assert_close(both[key], value, rtol=0, atol=most)


def test_checkpoints_written_in_the_background_are_complete_and_the_one_before_is_kept(two: Path) -> None:
    kept = sorted((two / "fsdp-resumed" / "checkpoints").glob("checkpoint-*"))
    assert [(path.name, fault_of(path)) for path in kept] == [("checkpoint-2", None), ("checkpoint-3", None)]


def test_the_configuration_in_the_examples_is_one_that_accelerate_launches(monkeypatch: pytest.MonkeyPatch) -> None:
    given = ["--config_file", str(ROOT / "examples" / "fsdp.yaml"), "-m", "rao_cli", "train"]
    arguments, _, _ = launch._validate_launch_command(launch.launch_command_parser().parse_args(given))
    for name, value in prepare_multi_gpu_env(arguments).items():
        monkeypatch.setenv(name, value)
    plugin = FullyShardedDataParallelPlugin()
    assert (plugin.fsdp_version, plugin.reshard_after_forward) == (2, True)
    assert plugin.state_dict_type == StateDictType.SHARDED_STATE_DICT
    assert plugin.auto_wrap_policy is transformer_auto_wrap_policy


def test_all_processes_end_where_one_does_and_the_first_says_why(two: Path) -> None:
    first, second = (json.loads((two / f"{rank}.json").read_text()) for rank in (0, 1))
    assert first["ddp-failing"] == "RolloutsFailed: the endpoint is gone"
    assert second["ddp-failing"] == "EndedElsewhere: the endpoint is gone"
    for run in ("fsdp-stopped", "ddp-stopped aside"):
        why = re.fullmatch(r"TrainingStopped: (stopped by SIGTERM at step (\d), which is saved: .*)", first[run])
        assert why is not None, first[run]
        assert second[run] == f"EndedElsewhere: {why[1]}"
        assert (two / run / "checkpoints" / f"checkpoint-{why[2]}").is_dir()
    assert second["lost"].startswith("ProcessLost: another process of this training has ended")
