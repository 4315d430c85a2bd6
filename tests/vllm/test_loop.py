"""Roll out, learn, push, roll out: `rao train --online` with a real vLLM as its sampler."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from recursive_agent.model.embedded import SHIPPED
from recursive_agent.trace.tree import ExecutionTree
from tests.cli.command import rao

from .conftest import NAME, Vllm

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("_weights_come_back")]

STEPS = 2


@pytest.mark.parametrize("sampler", ["vllm-reload", "vllm-lora"])
async def test_the_loop_trains_on_exactly_what_was_sampled(vllm: Vllm, tmp_path: Path, sampler: str) -> None:
    settings = {
        "sampler.name": sampler,
        "sampler.base_url": vllm.url,
        "sampler.served_model": NAME,
        "collect.tasks_per_step": 4,
        "collect.num_generations": 4,
        "collect.level": "easy",
        "collect.temperature": 1.5,  # so that some attempts fail; and log-probs must know of it
        "update.bf16": "false",
        "update.warmup_steps": 0,
        **({"sampler.served_folder": vllm.folder} if sampler == "vllm-reload" else {"update.lora_rank": 8}),
    }
    done = rao(
        "train", "--env", "textcraft", "--online", "--model", str(SHIPPED), "--out", "better", "--steps", str(STEPS),
        *(word for name, value in settings.items() for word in ("--set", f"{name}={value}")),
        cwd=tmp_path, timeout=240,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "better\n"), done.stderr
    assert "Unclosed" not in done.stderr
    rows = [json.loads(line) for line in (tmp_path / "better" / "metrics.jsonl").read_text().splitlines()]
    rows = [row for row in rows if "loss" in row]
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    for row in rows:
        assert row["rao/push_error"] < 1e-3
        assert row["sampling/importance_sampling_ratio/max"] == pytest.approx(1.0, abs=1e-3)
        assert row["sampling/sampling_logp_difference/mean"] < 1e-4
    trees = [ExecutionTree.load(path) for path in (tmp_path / "better" / "traces").rglob("*.jsonl")]
    versions = {step.model.version for tree in trees for node in tree.walk() for step in node.steps if step.model}
    assert versions == {str(version) for version in range(STEPS)}
    assert (tmp_path / "better" / "model.safetensors").read_bytes() != (SHIPPED / "model.safetensors").read_bytes()
