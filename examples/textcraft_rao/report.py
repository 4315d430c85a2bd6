"""What came out of the comparison: a table of its runs in Markdown, and their learning curves.

python examples/textcraft_rao/report.py runs/ --out examples/textcraft_rao/results
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from rao_rl import learning_curves

SHOWN = {"reward": "root success while training", "entropy": "entropy (nats a token)"}
SEEDED = ("rao", "single")
"""Arms that were run with several seeds: `rao-0`, `rao-1`, …"""


def arms(runs: Path) -> dict[str, list[Path]]:
    """Metrics files by arm, the seeds of one arm together; without that of the policy that all begin with."""
    found: dict[str, list[Path]] = {}
    for path in sorted(runs.glob("*/metrics.jsonl")):
        name = path.parent.name
        if name == "start":
            continue
        stem, _, seed = name.rpartition("-")
        found.setdefault(stem if stem in SEEDED and seed.isdigit() else name, []).append(path)
    return found


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def line(name: str, paths: Sequence[Path]) -> str:
    """One arm: updates, generated tokens, rollout reward over the last quarter of the batches, and the last evaluation."""
    last, rewards, steps, tokens = [], [], [], []
    for path in paths:
        told = rows(path)
        batches = [row["reward"] for row in told if "reward" in row]
        evaluations = [row for row in told if "eval/success/medium" in row]
        if not evaluations or not batches:
            continue
        last.append(evaluations[-1])
        quarter = max(1, len(batches) // 4)
        rewards.append(mean(batches[-quarter:]))
        steps.append(max(row["step"] for row in told))
        tokens.append(max(row.get("rao/generated_tokens", 0) for row in told))
    cells = [name, str(len(last))]
    if last:
        cells += [f"{mean(steps):.0f}", f"{mean(tokens) / 1000:.0f}k", _spread(rewards)]
        cells += [_spread([row[f"eval/success/{level}"] for row in last]) for level in ("easy", "medium")]
    return "| " + " | ".join(cells) + " |"


def _spread(values: Sequence[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.3f}"
    return f"{mean(values):.3f} ({min(values):.3f}–{max(values):.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    found = arms(given.runs)
    given.out.mkdir(parents=True, exist_ok=True)
    table = [
        "| run | seeds | updates | generated tokens | training reward, last quarter | easy | medium |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *(line(name, paths) for name, paths in found.items()),
    ]
    (given.out / "table.md").write_text("\n".join(table) + "\n", encoding="utf-8")
    learning_curves(found, given.out / "curves-tokens.png", "tokens", metrics=SHOWN)
    learning_curves(found, given.out / "curves-steps.png", "step", metrics=SHOWN)
    print("\n".join(table))


if __name__ == "__main__":
    main()
