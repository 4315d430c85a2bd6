"""The table of how far small open models agree with exact scores as judges, from what `rao score --calibrate --json` printed.

    python -m examples.judge.report

`results/` holds a file ENVIRONMENT.JUDGE.json for each environment and judge.
"""

from __future__ import annotations

import json
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def table(results: Path = RESULTS) -> list[str]:
    """A row for each environment and judge: counts, accuracy with Wilson's 95 % interval, and Cohen's kappa."""
    lines = [
        "| environment | judge | agents | both pass | judge only | known only | both fail | no verdict | accuracy | 95 % "
        "| kappa |",
        "|" + " --- |" * 11,
    ]
    for path in sorted(results.glob("*.json")):
        environment, judge = path.stem.split(".", 1)
        found = json.loads(path.read_text(encoding="utf-8"))["all"]
        counts = [found[key] for key in ("nodes", "both", "judge_only", "verifier_only", "neither", "unjudged")]
        interval = f"{found['accuracy_low']:.2f} to {found['accuracy_high']:.2f}"
        figures = [_shown(found["accuracy"]), interval, _shown(found["kappa"])]
        lines.append(f"| {' | '.join([f'`{environment}`', judge, *map(str, counts), *figures])} |")
    return lines


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


if __name__ == "__main__":
    print("\n".join(table()))
