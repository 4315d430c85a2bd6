"""The result of RAO on an open model: the page shows what its files say, and adapters add up."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[1] / "examples" / "open_model_rao"


def run(script: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, EXAMPLE / script, *arguments], capture_output=True, text=True, timeout=300, check=False
    )


def adapter(folder: Path, rank: int, seed: int, alpha: int) -> tuple[Path, object]:
    """A folder with an adapter of one layer, and what it adds to the layer's weights."""
    import torch
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(rank, 6, generator=generator).bfloat16().float()
    b = torch.randn(4, rank, generator=generator).bfloat16().float()
    folder.mkdir()
    save_file({"m.lora_A.weight": a, "m.lora_B.weight": b}, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"r": rank, "lora_alpha": alpha}))
    return folder, alpha / rank * b @ a


def test_a_joined_adapter_adds_what_both_add(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="training needs torch")
    from safetensors.torch import load_file

    (one, first), (other, second) = adapter(tmp_path / "a", 3, 0, 6), adapter(tmp_path / "b", 2, 1, 4)
    done = run("join.py", tmp_path / "sum", one, other)
    assert done.returncode == 0, done.stderr
    config = json.loads((tmp_path / "sum" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (5, 10)
    joined = {name: value.float() for name, value in load_file(tmp_path / "sum" / "adapter_model.safetensors").items()}
    added = config["lora_alpha"] / config["r"] * joined["m.lora_B.weight"] @ joined["m.lora_A.weight"]
    torch.testing.assert_close(added, first + second)


def test_adapters_of_different_scales_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="training needs torch")
    (one, _), (other, _) = adapter(tmp_path / "a", 3, 0, 6), adapter(tmp_path / "b", 2, 1, 2)
    done = run("join.py", tmp_path / "sum", one, other)
    assert done.returncode == 1
    assert "different scales" in done.stderr
