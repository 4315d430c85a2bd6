"""Recursive Agent Optimization of an open model: short imitation, RAO, and both measured beside the model as it came.

    python examples/open_model_rao/campaign.py --base SmolLM2-135M-Instruct/ --out runs/

Every stage is one or several `rao` commands, which are printed. What is done is passed over and what was killed goes on, so
the script may be stopped and started at will. On a GPU everything takes minutes, on two CPU cores most of a day.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

LEVEL = "easy"
TEMPERATURES = ("1", "0")
"""That of the rollouts which RAO trains on, and greedy."""
CONTEXT = 1024
"""Most tokens of one agent's conversation."""
BASE_CONTEXT = 2048
"""The same for the model as it came, whose instructions are longer."""
ANSWER = 160
"""Most tokens of one answer; the longest that is demonstrated has about 140."""
RANK = 16
IMITATION = [
    "--env=textcraft",
    "--objective=imitation",
    "--lr=1e-3",
    "--tokens=1536",
    f"--set=imitation.lora_rank={RANK}",
    "--set=imitation.decay=0",  # so that a longer run begins like a shorter one
    "--set=imitation.warmup_steps=3",
    "--set=lessons.difficulties=easy,medium",
    "--set=lessons.single_difficulties=easy",
]
RAO = [
    "--env=textcraft",
    "--online",
    f"--set=update.lora_rank={RANK}",
    "--set=update.warmup_steps=2",
    f"--set=collect.level={LEVEL}",
    f"--set=collect.temperature={TEMPERATURES[0]}",
    f"--set=collect.context_limit={CONTEXT}",
    f"--set=collect.max_completion_length={ANSWER}",
    "--set=collect.max_steps=8",
    "--set=collect.max_agents=64",
    "--set=collect.timeout=3600",  # a slow machine must not decide what is rewarded
]


def rao(*arguments: str, log: Path) -> None:
    """Run a command of rao; its output goes to `log`."""
    line = [sys.executable, "-m", "rao_cli", *arguments]
    print(time.strftime("%H:%M:%S"), "rao", shlex.join(arguments), flush=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        done = subprocess.run(line, stdout=file, stderr=file, env={"OMP_NUM_THREADS": "1", **os.environ}, check=False)
    if done.returncode:
        sys.exit(f"it ended with status {done.returncode}; see {log}")


def resumed(folder: Path) -> list[str]:
    """The option that goes on with a run which was begun."""
    return ["--resume"] if (folder / "training.json").is_file() else []


def evaluate(model: Path, out: Path, *options: str, name: str, temperature: str, concurrency: int) -> None:
    """Attempt tasks in both modes; the attempts go to `out/NAME-T….jsonl`."""
    stem = f"{name}-T{temperature}"
    rao(
        *("eval", "textcraft", f"--model={model}", f"--level={LEVEL}", f"--temperature={temperature}"),
        *(f"--concurrency={concurrency}", f"--attempts={out / stem}.jsonl", "--quiet", *options),
        log=out / f"{stem}.log",
    )


def success(attempts: Path) -> float:
    """Mean score of the recursive attempts in a file of `rao eval --attempts`."""
    rows = [json.loads(line) for line in attempts.read_text(encoding="utf-8").splitlines()[1:]]
    scores = [row["score"] for row in rows if row["mode"] == "recursive" and row["score"] is not None]
    return float(sum(scores)) / max(1, len(scores))


def imitate(given: argparse.Namespace) -> None:
    """More and more demonstrations, until the model solves enough validation tasks for its attempts to differ."""
    folder = given.out / "imitation"
    for steps in range(given.every, given.most + 1, given.every):
        attempts = given.out / "validation" / f"{steps:04d}-T{TEMPERATURES[0]}.jsonl"
        if not attempts.is_file():
            rao(
                *("train", *IMITATION, f"--model={given.base}", f"--out={folder}", f"--steps={steps}"),
                *(f"--save-steps={given.every}", f"--seed={given.seed}", *resumed(folder)),
                log=given.out / "imitation.log",
            )
        options = ["--split=validation", f"--tasks={given.validation}", f"--context-limit={CONTEXT}"]
        evaluate(
            folder,
            attempts.parent,
            *(*options, "--mode=recursive"),
            name=f"{steps:04d}",
            temperature=TEMPERATURES[0],
            concurrency=given.concurrency,
        )
        reached = success(attempts)
        print(f"{steps} steps of imitation: {reached:.3f} of the validation tasks", flush=True)
        if reached >= given.enough:
            return


def optimize(given: argparse.Namespace) -> None:
    """RAO from the imitation's checkpoint."""
    folder = given.out / "rao"
    if (folder / "agent.json").is_file():
        return
    sizes = {
        "collect.tasks_per_step": given.tasks_per_step,
        "collect.num_generations": given.group,
        "collect.max_in_flight": given.concurrency,
        "online.max_staleness": given.staleness,
    }
    rao(
        *("train", *RAO, f"--model={given.out / 'imitation'}", f"--out={folder}", f"--steps={given.updates}"),
        *(f"--lr={given.rate}", f"--seed={given.seed}", *resumed(folder)),
        *(f"--set={name}={value}" for name, value in sizes.items()),
        log=given.out / "rao.log",
    )


def measure(given: argparse.Namespace) -> None:
    """Every policy on the test tasks in both modes and at both temperatures, `jobs` evaluations at a time."""
    results = given.out / "results"
    policies = {"base": given.base, "imitation": given.out / "imitation", "rao": given.out / "rao"}
    work = [
        (name, policy, temperature)
        for name, policy in policies.items()
        for temperature in TEMPERATURES
        if name in given.measure
    ]

    def one(item: tuple[str, Path, str]) -> None:
        name, policy, temperature = item
        context = BASE_CONTEXT if name == "base" else CONTEXT
        evaluate(
            policy,
            results,
            f"--tasks={given.test}",
            f"--context-limit={context}",
            name=name,
            temperature=temperature,
            concurrency=given.concurrency,
        )

    with ThreadPoolExecutor(given.jobs) as pool:
        list(pool.map(one, work))


STAGES = {"imitate": imitate, "optimize": optimize, "measure": measure}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the stages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, required=True, help="folder of the model to begin with")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--every", type=int, default=20, help="steps of imitation between two looks at validation tasks"
    )
    parser.add_argument("--most", type=int, default=200, help="most steps of imitation")
    parser.add_argument("--enough", type=float, default=0.3, help="success at validation tasks at which imitation ends")
    parser.add_argument("--validation", type=int, default=64, help="validation tasks")
    parser.add_argument("--updates", type=int, default=20)
    parser.add_argument("--rate", type=float, default=3e-4, help="learning rate of RAO")
    parser.add_argument("--tasks-per-step", type=int, default=16)
    parser.add_argument("--group", type=int, default=8, help="attempts at each task")
    parser.add_argument("--staleness", type=int, default=1)
    parser.add_argument("--concurrency", type=int, default=128, help="most trees at a time")
    parser.add_argument("--test", type=int, default=147, help="test tasks")
    parser.add_argument("--measure", nargs="+", default=["base", "imitation", "rao"])
    parser.add_argument("--jobs", type=int, default=1, help="evaluations at a time")
    given = parser.parse_args(arguments)
    for stage in given.only:
        STAGES[stage](given)


if __name__ == "__main__":
    main()
