"""RAO against a single agent and its ablations on TextCraft-Synth: every run of the comparison, each one a few `rao` commands.

    python -m examples.textcraft_rao.campaign --out runs/ [--only rao single …] [--seeds 2] [--jobs 2]

All runs begin with one policy, which is mediocre alone and with sub-agents (it is made first), and train on the same tasks.
A run trains up to the first of `BUDGETS` of sampled tokens, is evaluated on the test tasks, goes on to the next, and so on.
Runs that are done are passed over and killed ones go on, so the script may be stopped and started at will. `report.py` makes
the tables and plots of what is there.
"""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

from examples.command import rao, resumed
from recursive_agent import SHIPPED

Mode = Literal["single", "recursive"]

CONTEXT_LIMIT = 2048
"""Tokens of an agent's conversation: under this limit the reference solver succeeds alone at most test tasks (ceiling.py)."""
TEMPERATURE = 0.7
MAX_AGENTS = 140
MAX_STEPS: dict[Mode, int] = {"recursive": 3, "single": 60}
"""Answers of one agent: more than each way of working needs. An agent of so small a policy that met an error it has never seen
writes noise until it is stopped."""
MAX_ANSWER = 48
"""Tokens of one answer; the longest of the reference solver has 29."""
BUDGETS = (60_000, 180_000)
"""Sampled tokens after which a run is evaluated; it ends at the last."""
LEVELS = ("easy", "medium")
TASKS = 100
"""Test tasks of each level."""

START = ["--env=textcraft", "--steps=240", "--seed=1", "--set=lessons.drop_child=0.4", "--set=lessons.single_share=0.5"]
"""The policy that all runs begin with: the built-in one, trained on with demonstrations, half of their tokens by agents that
work alone, in which two of five delegations (or crafts of parts, of one agent alone) omit the last."""

COMMON = [
    "--env=textcraft",
    "--online",
    "--lr=2e-4",
    f"--set=collect.level={','.join(LEVELS)}",
    "--set=collect.tasks_per_step=8",
    "--set=collect.num_generations=4",
    f"--set=collect.context_limit={CONTEXT_LIMIT}",
    f"--set=collect.max_agents={MAX_AGENTS}",
    "--set=collect.max_depth=6",
    f"--set=collect.max_completion_length={MAX_ANSWER}",
    f"--set=collect.temperature={TEMPERATURE}",
    "--set=update.tokens_per_bin=4096",
    "--set=update.bf16=false",  # the sampler computes in float32
    "--set=update.warmup_steps=2",
    "--set=update.save_steps=10",
]
ARMS: dict[str, list[str]] = {
    "rao": [],
    "single": [],
    "sparse": ["--set=credit.reward=root"],
    "no-depth-weights": ["--set=credit.depth_weighting=none"],
    "baseline-depth": ["--set=credit.baseline=depth"],
    "baseline-goal": ["--set=credit.baseline=goal"],
    "bonus-root": ["--set=credit.delegation_bonus=0.4"],
    "bonus-root-success": ["--set=credit.delegation_bonus=0.4", "--set=credit.baseline=root_success"],
    "baseline-siblings": ["--set=credit.baseline=siblings"],
    "baseline-ema-depth": ["--set=credit.baseline=ema_depth"],
    "counterfactual": ["--set=credit.baseline=counterfactual", "--set=collect.counterfactual_children=2"],
    "max-rl": ["--set=credit.baseline=max_rl"],
    "shaping": ["--set=credit.parallel_bonus=0.2", "--set=credit.finish_bonus=0.2", "--set=credit.shaping_updates=10"],
    "normalize-constant": ["--set=update.normalize=constant", "--set=update.constant=14000"],
}
"""What each arm changes. `rao` is the paper's setting: local reward, λ = 0, root baseline, inverse depth frequency. `sparse` is
also what `credit.baseline=inherit` computes: every agent has the advantage of its root."""
SEEDS = {"rao": 5, "single": 5, "sparse": 5, "no-depth-weights": 5}
"""Seeds of each arm; 3 of the others."""


def mode_of(arm: str) -> Mode:
    """How an arm's agents work, in training and in evaluation."""
    return "single" if arm == "single" else "recursive"


def evaluate(model: Path, attempts: Path, mode: Mode, log: Path, *, temperature: float = TEMPERATURE) -> int:
    """Attempt the test tasks; those in `attempts` already are not attempted again."""
    return rao(
        "eval",
        "textcraft",
        f"--model={model}",
        f"--mode={mode}",
        f"--level={','.join(LEVELS)}",
        f"--tasks={TASKS}",
        f"--context-limit={CONTEXT_LIMIT}",
        f"--max-agents={MAX_AGENTS}",
        f"--max-steps={MAX_STEPS[mode]}",
        f"--temperature={temperature}",
        f"--attempts={attempts}",
        "--quiet",
        log=log,
    )


def run(arm: str, seed: int, start: Path, out: Path) -> int:
    """Train and evaluate one run, as far as that has not been done. Exit status of the first command that failed."""
    folder = out / f"{arm}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "log.txt"
    for budget in BUDGETS:
        attempts, done = folder / f"test-{budget}.jsonl", folder / f"test-{budget}.done"
        if done.exists():
            continue
        policy = folder / "policy"
        mode = mode_of(arm)
        train = [*COMMON, *ARMS[arm], f"--set=collect.mode={mode}", f"--set=collect.max_steps={MAX_STEPS[mode]}"]
        train += [f"--seed={seed}", f"--model={start}", f"--out={policy}", f"--generated={budget}"]
        train += resumed(policy)
        status = rao("train", *train, log=log) or evaluate(policy, attempts, mode, log)
        if status:
            return status
        done.touch()
    return 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=ARMS, default=list(ARMS), metavar="ARM")
    parser.add_argument("--seeds", type=int, help="at most so many seeds of each arm")
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    start = given.out / "start" / "policy"
    start.parent.mkdir(parents=True, exist_ok=True)
    log = start.parent / "log.txt"
    if not (start / "agent.json").is_file() and rao("train", *START, f"--model={SHIPPED}", f"--out={start}", log=log):
        sys.exit(f"the policy to begin with could not be trained; see {log}")
    rows: list[tuple[Mode, float]] = [(mode, t) for mode in ("recursive", "single") for t in (TEMPERATURE, 0.0)]
    # One seed of every arm before another seed of any, so that a comparison that was stopped early is still one.
    plan = [(arm, seed) for seed in range(5) for arm in given.only if seed < min(SEEDS.get(arm, 3), given.seeds or 5)]
    with ThreadPoolExecutor(given.jobs) as pool:
        starts = [
            pool.submit(evaluate, start, start.parent / f"test-{mode}-{t:g}.jsonl", mode, log, temperature=t)
            for mode, t in rows
        ]
        runs = [pool.submit(run, arm, seed, start, given.out) for arm, seed in plan]
    failed = [f"{arm}-{seed}" for (arm, seed), job in zip(plan, runs, strict=True) if job.result()]
    if failed or any(job.result() for job in starts):
        sys.exit(f"failed: {', '.join(failed) or 'start'}; see the log.txt of each in {given.out}")


if __name__ == "__main__":
    main()
