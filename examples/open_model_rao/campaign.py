"""Recursive Agent Optimization of an open model: short imitation, RAO, and both measured beside the model as it came.

    python -m examples.open_model_rao.campaign --base SmolLM2-135M-Instruct/ --out runs/

Every stage is one or several `rao` commands, which are printed. What is done is passed over and what was killed goes on, so
the script may be stopped and started at will. It samples through vLLM; on two CPU cores it takes some two hours.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import examples.served
from examples.command import resumed
from examples.served import weights

LEVEL = "easy"
TEMPERATURES = ("1", "0")
"""That of the rollouts which RAO trains on, and greedy."""
ANSWER = 160
"""Most tokens of one answer in training; the longest that is demonstrated has about 140."""
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
    f"--set=collect.max_completion_length={ANSWER}",
    # A tree that goes astray costs as much as ten that do not: so little is allowed to each agent and each tree.
    "--set=collect.context_limit=448",
    "--set=collect.max_steps=3",
    "--set=collect.max_agents=10",
    "--set=collect.max_depth=3",
    "--set=credit.max_nodes_per_depth=24",
    "--set=collect.timeout=3600",  # a slow machine must not decide what is rewarded
    "--save-steps=1",
]
EVALUATION = [
    f"--level={LEVEL}",
    "--prompt-style=minimal",
    "--context-limit=512",
    "--max-steps=4",
    "--max-agents=16",
    "--timeout=7200",
]
"""The same for all policies, and more than training allows."""
ROOM = ["--mode=single", "--context-limit=1000", "--max-steps=12"]
"""What replaces some of it where one agent has the room to do all of a task."""
SERVER = ["--max-model-len=1024", "--max-num-seqs=160", "--dtype=bfloat16"]
"""Options of vLLM."""


@contextmanager
def served(folder: Path, given: argparse.Namespace, *options: str) -> Iterator[list[str]]:
    """Serve a checkpoint through vLLM, and give the options that point a command of rao at it."""
    with examples.served.served(folder, *options, port=given.port, log=given.out / "serve.log", engine=SERVER) as found:
        base_url, model = found
        yield [f"--base-url={base_url}", f"--model={model}"]


def rao(*arguments: str, log: Path) -> None:
    """Run a command of rao; its output goes to `log`."""
    line = [sys.executable, "-m", "rao_cli", *arguments]
    print(time.strftime("%H:%M:%S"), "rao", shlex.join(arguments), flush=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        done = subprocess.run(line, stdout=file, stderr=file, env={"OMP_NUM_THREADS": "1", **os.environ}, check=False)
    if done.returncode:
        sys.exit(f"it ended with status {done.returncode}; see {log}")


def evaluate(chosen: Sequence[str], attempts: Path, *options: str, temperature: str, concurrency: int) -> None:
    """Attempt tasks with a served policy; what is in the file `attempts` already is passed over."""
    rao(
        *("eval", "textcraft", *chosen, *EVALUATION, *options, f"--temperature={temperature}"),
        *(f"--concurrency={concurrency}", f"--attempts={attempts}", "--quiet"),
        log=attempts.with_suffix(".log"),
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
        attempts = given.out / "validation" / f"{steps:04d}.jsonl"
        if not attempts.is_file():
            rao(
                *("train", *IMITATION, f"--model={given.base}", f"--out={folder}", f"--steps={steps}"),
                *(f"--save-steps={given.every}", f"--seed={given.seed}", *resumed(folder)),
                log=given.out / "imitation.log",
            )
        if not is_complete(attempts, given.validation):
            with served(folder, given) as chosen:
                options = ["--split=validation", f"--tasks={given.validation}", "--mode=recursive"]
                evaluate(chosen, attempts, *options, temperature=TEMPERATURES[0], concurrency=given.concurrency)
        reached = success(attempts)
        print(f"{steps} steps of imitation: {reached:.3f} of the validation tasks", flush=True)
        if reached >= given.enough:
            return


def is_complete(attempts: Path, count: int) -> bool:
    """Whether a file of attempts has as many as were asked for."""
    return attempts.is_file() and len(attempts.read_text(encoding="utf-8").splitlines()) > count


def optimize(given: argparse.Namespace) -> None:
    """RAO from the imitation's checkpoint."""
    folder = given.out / "rao"
    if (folder / "agent.json").is_file():
        return
    start = weights(given.out / "imitation", given.out / "served")
    with served(start, given, "--weight-updates") as (base_url, name):
        sizes = {
            "collect.tasks_per_step": given.tasks_per_step,
            "collect.num_generations": given.group,
            "collect.max_in_flight": given.concurrency,
            "online.max_staleness": given.staleness,
            "sampler.name": "vllm-reload",
            "sampler.base_url": base_url.partition("=")[2],
            "sampler.served_model": name.partition("=")[2],
            "sampler.served_folder": start,
        }
        rao(
            *("train", *RAO, f"--model={given.out / 'imitation'}", f"--out={folder}", f"--steps={given.updates}"),
            *(f"--lr={given.rate}", f"--seed={given.seed}", *resumed(folder)),
            *(f"--set={name}={value}" for name, value in sizes.items()),
            log=given.out / "rao.log",
        )


def measure(given: argparse.Namespace) -> None:
    """Every policy on the test tasks, alone and with sub-agents, sampled and greedy."""
    policies = {"base": given.base, "imitation": given.out / "imitation", "rao": given.out / "rao"}
    for name in given.measure:
        missing = [
            (file, options, temperature)
            for kind, options, rows in (("", [], 2 * given.test), ("-room", ROOM, given.test))
            for temperature in TEMPERATURES
            if not is_complete(file := given.out / "results" / f"{name}{kind}-T{temperature}.jsonl", rows)
        ]
        if not missing:
            continue
        with served(policies[name], given) as chosen:
            for file, options, temperature in missing:
                options = [*options, f"--tasks={given.test}"]
                evaluate(chosen, file, *options, temperature=temperature, concurrency=given.concurrency)


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
    parser.add_argument("--rate", type=float, default=6e-4, help="learning rate of RAO")
    parser.add_argument("--tasks-per-step", type=int, default=8)
    parser.add_argument("--group", type=int, default=4, help="attempts at each task")
    parser.add_argument("--staleness", type=int, default=1)
    parser.add_argument("--concurrency", type=int, default=64, help="most trees at a time")
    parser.add_argument("--test", type=int, default=100, help="test tasks")
    parser.add_argument("--measure", nargs="+", default=["base", "imitation", "rao"])
    parser.add_argument("--port", type=int, default=8123, help="port of the vLLM server")
    given = parser.parse_args(arguments)
    given.out.mkdir(parents=True, exist_ok=True)
    for stage in given.only:
        STAGES[stage](given)


if __name__ == "__main__":
    main()
