"""The table of the README from the attempts that `campaign.py` recorded, and the curve of the training.

    python -m examples.open_model_rao.report [RESULTS] [--plots DIR]

RESULTS holds NAME-T1.jsonl and NAME-T0.jsonl (`rao eval --attempts`), and metrics.jsonl of the RAO run.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import mean

from examples.figures import attempts
from rao_rl import learning_curves, summarize

RESULTS = Path(__file__).parent / "results"
ORDER = ("base", "base-room", "imitation", "imitation-room", "rao", "rao-room")
SHOWN = ("reward", "entropy", "rao/agents_per_tree")


def table(results: Path) -> list[str]:
    """Success with its 95 % interval, and what an attempt took, by policy, temperature and mode."""
    lines = [
        "| policy | T | mode | success | 95 % | agents | sampled tokens | prompt tokens |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    names = {path.name.partition("-T")[0] for path in results.glob("*-T*.jsonl")}
    for name in sorted(names, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name)):
        for temperature in ("1", "0"):
            path = results / f"{name}-T{temperature}.jsonl"
            rows = attempts(path) if path.is_file() else []
            for item in summarize(rows):
                prompts = mean(row.prompt_tokens for row in rows if row.mode == item.mode)
                success = "?" if item.success is None else f"{item.success:.3f}"
                lines.append(
                    f"| {name} | {temperature} | {item.mode} | {success} of {item.tasks} | {item.low:.2f}–{item.high:.2f} | "
                    f"{item.agents:.1f} | {item.completion_tokens:,.0f} | {prompts:,.0f} |"
                )
    return lines


def run(metrics: Path) -> list[str]:
    """What the RAO run took, from its metrics file."""
    rows = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    batches = [row for row in rows if "reward" in row]
    seconds = {name: sum(row.get(f"time/{name}", 0.0) for row in batches) for name in ("wait", "train", "push")}
    updates = sum("loss" in row for row in batches)
    tokens = max(row.get("rao/generated_tokens", 0) for row in batches)
    spent = ", ".join(f"{name} {value:,.0f}" for name, value in seconds.items())
    return [
        f"{updates} updates, {tokens:,.0f} sampled tokens; seconds: {spent}",
        "root success while training: " + " ".join(f"{row['reward']:.2f}" for row in batches),
    ]


def main() -> None:
    """Print the table; write the curves where asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="?", default=RESULTS)
    parser.add_argument("--plots", type=Path)
    given = parser.parse_args()
    print("\n".join(table(given.results)))
    for metrics in sorted(given.results.glob("metrics*.jsonl")):
        print(f"\n{metrics.stem}:", *run(metrics), sep="\n")
        if given.plots:
            given.plots.mkdir(parents=True, exist_ok=True)
            learning_curves({metrics.stem: [metrics]}, given.plots / f"{metrics.stem}.png", "step", metrics=SHOWN)


if __name__ == "__main__":
    main()
