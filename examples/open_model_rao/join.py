"""One adapter for the model as it came, from the adapter of the imitation and that of RAO, which was trained on top of it.

    python examples/open_model_rao/join.py ADAPTER/ --agent runs/imitation/agent.json \\
        runs/imitation/checkpoints/checkpoint-60 runs/rao/checkpoints/checkpoint-20

Adapters add up: B₁A₁ + B₂A₂ = [B₁ B₂][A₁; A₂], so the result has the sum of the ranks. It is written in bfloat16.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"


def join(adapters: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """The adapter that adds what all `adapters` (tensors by name, of the same scale) add together."""
    names = {frozenset(adapter) for adapter in adapters}
    if len(names) != 1:
        raise SystemExit("the adapters change different layers")
    joined = {}
    for name in adapters[0]:
        rank = 0 if ".lora_A." in name else 1  # A is rank × in, B is out × rank
        joined[name] = torch.cat([adapter[name] for adapter in adapters], dim=rank).to(torch.bfloat16).contiguous()
    return joined


def main() -> None:
    """Read the adapters, and write their sum."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("adapters", type=Path, nargs="+", help="folders in peft's format")
    parser.add_argument("--agent", type=Path, help="agent.json of the policy, to be kept with the adapter")
    given = parser.parse_args()
    configs = [json.loads((folder / CONFIG).read_text(encoding="utf-8")) for folder in given.adapters]
    scales = {config["lora_alpha"] / config["r"] for config in configs}
    if len(scales) != 1:
        raise SystemExit(f"the adapters have different scales (alpha / rank): {sorted(scales)}")
    joined = join([load_file(folder / WEIGHTS) for folder in given.adapters])
    given.out.mkdir(parents=True, exist_ok=True)
    save_file(joined, given.out / WEIGHTS, metadata={"format": "pt"})
    rank = sum(config["r"] for config in configs)
    total = {**configs[0], "r": rank, "lora_alpha": int(scales.pop() * rank), "base_model_name_or_path": None}
    (given.out / CONFIG).write_text(json.dumps(total, indent=2) + "\n", encoding="utf-8")
    if given.agent is not None:
        shutil.copy(given.agent, given.out / "agent.json")
    print(f"{given.out}: rank {rank}, {(given.out / WEIGHTS).stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
