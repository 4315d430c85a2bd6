"""A vLLM that computes in bfloat16 samples for a trainer in float32: the mismatch is measured, and every correction trains."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import get_args

import anyio
import pytest

from rao_rl.config import CollectConfig, CreditConfig, ImportanceSamplingMode, UpdateConfig
from rao_rl.data.folder import read_groups
from rao_rl.envs.textcraft import TextCraft
from rao_rl.rollouts.batches import Collector
from rao_rl.train.run import train_offline
from recursive_agent.model.embedded import SHIPPED
from recursive_agent.model.served import ServedCheckpoint
from recursive_agent.repl import make_sandbox

from .conftest import Vllm

TEMPERATURE = 1.5
"""So that some attempts fail; and log-probs must know of it."""


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trees of the policy, as a vLLM in bfloat16 sampled them."""
    folder = tmp_path_factory.mktemp("bf16")
    server = Vllm(Path(shutil.copytree(SHIPPED, folder / "policy")), "--dtype", "bfloat16")
    server.start()
    anyio.run(_roll_out, server, folder / "traces")
    server.stop()
    return folder / "traces"


async def _roll_out(server: Vllm, folder: Path) -> None:
    model = ServedCheckpoint(server.folder, server.url)
    config = CollectConfig(tasks_per_step=4, num_generations=4, level="easy", temperature=TEMPERATURE)
    async with make_sandbox("process") as sandbox:
        await Collector(TextCraft(), model, config, folder).batch(0, sandbox)
    await model.aclose()


def figures(traces: Path, folder: Path, update: UpdateConfig) -> dict[str, float]:
    """Those of one step on the traces, by the weights that sampled them; on all of them, whether their scores differ or not."""
    credit = CreditConfig(baseline="ema_depth")
    train_offline(folder / "out", SHIPPED, read_groups(traces), credit=credit, update=update, max_steps=1)
    rows = [json.loads(line) for line in (folder / "out" / "metrics.jsonl").read_text().splitlines()]
    (row,) = (row for row in rows if "loss" in row)
    return row  # type: ignore[no-any-return]


def test_the_figures_show_the_mismatch(traces: Path, tmp_path: Path) -> None:
    row = figures(traces, tmp_path, UpdateConfig(bf16=False))
    assert 1e-5 < row["sampling/sampling_logp_difference/mean"] < 0.01
    assert row["sampling/importance_sampling_ratio/mean"] == pytest.approx(1.0, abs=0.01)
    assert 1.0005 < row["sampling/importance_sampling_ratio/max"] < 2
    assert 0 < row["rao/mismatch_kl"] < 1e-3
    assert row["rao/ratio_max/depth_0"] > 1
    assert row["rao/ratio_max/position_0-15"] > 1


@pytest.mark.parametrize("mode", get_args(ImportanceSamplingMode))
def test_every_correction_trains_on_what_bfloat16_sampled(
    mode: ImportanceSamplingMode, traces: Path, tmp_path: Path
) -> None:
    update = UpdateConfig(
        bf16=False,
        loss_type="ppo",
        old_logprobs="trainer",
        importance_sampling_mode=mode,
        importance_sampling_clip_max=1.001,
        importance_sampling_clip_min=0.999,
        num_iterations=2,
    )
    row = figures(traces, tmp_path, update)
    assert math.isfinite(row["loss"])
    assert 0 < row["grad_norm"] < math.inf
    assert 0 < row["rao/importance_weight/bounded"] < 1
