"""RAO against its ablations on TextCraft-Synth: every run of the comparison, two at a time, each one a `rao train` command.

    python examples/textcraft_rao/campaign.py --out runs/ [--only rao-0 single-0 …] [--generated 200000]

It begins with the mediocre policy that all of them start from. Runs that are done are passed over and killed ones go on, so
the script may be stopped and started at will.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from recursive_agent import SHIPPED

COMMON = [
    "--env=textcraft",
    "--online",
    "--lr=2e-4",
    "--eval=easy=24,medium=40",
    "--set=online.eval_every=4",
    "--set=collect.level=medium",
    "--set=collect.tasks_per_step=4",
    "--set=collect.num_generations=4",
    "--set=collect.context_limit=512",
    "--set=collect.max_agents=140",
    "--set=collect.max_steps=2",
    "--set=collect.max_depth=6",
    "--set=update.tokens_per_bin=4096",
    "--set=update.bf16=false",  # the sampler computes in float32
    "--set=update.warmup_steps=2",
    "--set=collect.max_completion_length=40",
    "--set=collect.temperature=0.7",
]
SINGLE = ["--set=collect.mode=single", "--set=collect.max_steps=25"]
ARMS: dict[str, list[str]] = {
    **{f"rao-{seed}": [f"--seed={seed}"] for seed in range(3)},
    **{f"single-{seed}": [f"--seed={seed}", *SINGLE] for seed in range(3)},
    "sparse": ["--set=credit.reward=root"],
    "no-depth-weights": ["--set=credit.depth_weighting=none"],
    "bonus-root": ["--set=credit.delegation_bonus=0.4"],
    "bonus-root-success": ["--set=credit.delegation_bonus=0.4", "--set=credit.baseline=root_success"],
    "baseline-depth": ["--set=credit.baseline=depth"],
    "baseline-goal": ["--set=credit.baseline=goal"],
}
"""What each run changes. `rao-*` is the paper's setting: local reward, λ = 0, root baseline, inverse depth frequency."""


START = [
    "--env=textcraft",
    "--steps=200",
    "--seed=1",
    "--set=lessons.drop_child=0.4",
]
"""The mediocre policy: the embedded one, trained on with demonstrations of which two in five forget their last child."""


def imitate(start: Path) -> None:
    """Make the policy that all runs start from, unless it is there."""
    if (start / "agent.json").is_file():
        return
    made = [sys.executable, "-m", "rao_cli", "train", *START, f"--model={SHIPPED}", f"--out={start}"]
    print(shlex.join(made[1:]), flush=True)
    subprocess.run(made, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True)


def command(name: str, start: Path, out: Path, generated: int) -> list[str]:
    """The run's command line."""
    folder = out / name
    made = [sys.executable, "-m", "rao_cli", "train", *COMMON, *ARMS[name], f"--model={start}", f"--out={folder}"]
    made.append(f"--generated={generated}")
    if (folder / "training.json").is_file():
        made.append("--resume")
    return made


def run(name: str, start: Path, out: Path, generated: int) -> int:
    """Run one arm to its end; its output goes to a log beside its folder."""
    if (out / name / "agent.json").is_file():
        return 0
    line = command(name, start, out, generated)
    print(shlex.join(line[1:]), flush=True)
    out.mkdir(parents=True, exist_ok=True)
    with (out / f"{name}.log").open("a") as log:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.run(line, stdout=log, stderr=log, env=environment, check=False).returncode


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--start", type=Path, help="the policy that all runs begin with; made in --out if not given")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=ARMS, default=list(ARMS), metavar="ARM")
    parser.add_argument("--generated", type=int, default=240_000, help="sampled tokens of each run")
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    start = given.start or given.out / "start"
    imitate(start)
    with ThreadPoolExecutor(given.jobs) as pool:
        codes = list(pool.map(lambda name: run(name, start, given.out, given.generated), given.only))
    failed = [name for name, code in zip(given.only, codes, strict=True) if code]
    if failed:
        sys.exit(f"failed: {', '.join(failed)}; see their logs in {given.out}")


if __name__ == "__main__":
    main()
