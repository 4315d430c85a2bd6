"""Recursive agents and one agent alone on `oolong-synth`, under a context cap of a tenth of the document.

    python -m examples.oolong_rao.campaign --out runs/ [--only print-recursive …] [--seeds 1] [--longest 32k]

Every arm begins with a small policy from new weights, which imitates the reference solver of its way of working. It is
evaluated at all lengths, trained with RAO on short documents, and evaluated again. Runs that are done are
passed over and killed ones go on, so the script may be stopped and started at will. `report.py` makes the tables.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from examples.command import rao, resumed
from rao_rl.envs import Mode

CONTEXT_LIMIT = 819
"""Tokens of an agent's conversation: a tenth of the shortest document that counts as long (8k)."""
TRAINED = ("1k", "2k")
"""Lengths of the documents that RAO trains on."""
TASKS: Mapping[str, int] = {"2k": 60, "8k": 30, "16k": 20, "32k": 10, "64k": 5, "128k": 5}
"""Test tasks of each length."""
TEMPERATURES = (0.7, 0.0)
"""That of the training, and greedy."""
LONGER = ("2k", "8k", "32k")
"""Lengths of a few more demonstrations: an agent is told the length of its context, and a policy so small takes a number with
more digits than it has seen for something else."""
GREEDY_FROM = "16k"
"""The length from which on only greedy decoding is evaluated: of hundreds of agents, many would sample a mistake."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One way of working, and what it takes. `reading`, `leaf`: arguments of the environment."""

    reading: str
    mode: Mode
    leaf: int
    taught: tuple[str, ...]
    """Lengths of the documents of most demonstrations."""
    answer: int
    """Tokens of one answer; the longest of the reference solver is a little shorter."""
    budgets: tuple[int, ...]
    """Sampled tokens of RAO after which the policy is evaluated."""

    @property
    def environment(self) -> list[str]:
        """The options that choose the environment."""
        lengths = ",".join(dict.fromkeys(["256", *TRAINED, *TASKS]))
        values = {"reading": self.reading, "leaf": self.leaf, "rules": "false", "lengths": lengths}
        single = {"mode": "single"} if self.mode == "single" else {}
        return [f"--env-set={name}={value}" for name, value in {**values, **single}.items()]


ARMS = {
    "print-recursive": Arm(
        reading="print", mode="recursive", leaf=8, taught=("256", "1k"), answer=192, budgets=(400_000, 1_200_000)
    ),
    "code-recursive": Arm(
        reading="code", mode="recursive", leaf=40, taught=("1k", "2k"), answer=320, budgets=(400_000,)
    ),
    "code-single": Arm(reading="code", mode="single", leaf=40, taught=("1k", "2k"), answer=320, budgets=(400_000,)),
}
"""`print`: an answer counts only if all lines were read; no agent alone can do that under the cap. `code`: any right answer."""

IMITATION = [
    "--set=imitation.demonstrations=1000",
    "--set=imitation.warmup_steps=50",
    # The shortest conversations are those of agents that delegate: one in seven, and what is learnt last.
    "--set=imitation.short_first=600",
    "--tokens=1024",
    "--lr=1.5e-3",
    "--steps=1500",
    "--save-steps=100",
]
IMITATION_OF_LONGER = [
    f"--env-set=taught={','.join(LONGER)}",
    "--set=imitation.demonstrations=60",
    "--set=imitation.short_first=150",
    "--tokens=1024",
    "--lr=5e-4",
    "--steps=150",
]
RAO = [
    "--online",
    "--lr=2e-4",
    f"--set=collect.level={','.join(TRAINED)}",
    "--set=collect.tasks_per_step=8",
    "--set=collect.num_generations=4",
    f"--set=collect.context_limit={CONTEXT_LIMIT}",
    "--set=collect.max_agents=140",
    "--set=collect.max_steps=3",
    "--set=collect.timeout=3600",  # a slow machine must not decide what is rewarded
    f"--set=collect.temperature={TEMPERATURES[0]}",
    "--set=credit.max_nodes_per_depth=64",
    "--set=update.tokens_per_bin=4096",
    "--set=update.bf16=false",  # the sampler computes in float32
    "--set=update.warmup_steps=2",
    "--save-steps=2",
]


def evaluate(arm: Arm, model: Path, attempts: Path, *tasks: str, temperature: float, log: Path) -> int:
    """Attempt tasks (the options `tasks` choose them); those in `attempts` already are not attempted again."""
    return rao(
        *("eval", "oolong-synth", *arm.environment, f"--model={model}", f"--mode={arm.mode}", *tasks),
        *(f"--context-limit={CONTEXT_LIMIT}", "--max-steps=3", "--timeout=7200", f"--temperature={temperature}"),
        *("--concurrency=4", f"--attempts={attempts}", "--quiet"),
        log=log,
    )


def evaluations(longest: str) -> list[tuple[str, float]]:
    """The lengths and temperatures of every evaluation, short documents first."""
    levels = list(TASKS)
    last, greedy = levels.index(longest), levels.index(GREEDY_FROM)
    return [
        (level, temperature)
        for number, level in enumerate(levels[: last + 1])
        for temperature in (TEMPERATURES if number < greedy else TEMPERATURES[1:])
    ]


def measure(arm: Arm, model: Path, folder: Path, label: str, longest: str) -> int:
    """Evaluate a policy wherever that has not been done. Exit status of the first command that failed."""
    for level, temperature in evaluations(longest):
        attempts = folder / f"{label}-{level}-T{temperature:g}.jsonl"
        if not (done := attempts.with_suffix(".done")).exists():
            tasks = (f"--level={level}", f"--tasks={TASKS[level]}")
            if status := evaluate(arm, model, attempts, *tasks, temperature=temperature, log=folder / "log.txt"):
                return status
            done.touch()
    return 0


def imitate(arm: Arm, seed: int, folder: Path) -> int:
    """Make a policy for short documents. Exit status of what failed."""
    short = folder / "short"
    if (short / "agent.json").is_file():
        return 0
    imitation = [
        "train",
        "--env=oolong-synth",
        *arm.environment,
        *IMITATION,
        f"--env-set=taught={','.join(arm.taught)}",
    ]
    return rao(*imitation, f"--seed={seed}", f"--out={short}", *resumed(short), log=folder / "log.txt")


def lengthen(arm: Arm, seed: int, folder: Path) -> int:
    """Make the policy to begin with: that for short documents, which sees some of longer ones. Exit status of what failed."""
    start = folder / "start"
    if (start / "agent.json").is_file():
        return 0
    imitation = ["train", "--env=oolong-synth", "--objective=imitation", *arm.environment, *IMITATION_OF_LONGER]
    imitation += [f"--seed={seed}", f"--model={folder / 'short'}", f"--out={start}"]
    return rao(*imitation, *resumed(start), log=folder / "log.txt")


def run(name: str, seed: int, out: Path, longest: str) -> int:
    """Imitate, train and evaluate one seed of an arm, as far as that has not been done."""
    arm, folder = ARMS[name], out / f"{name}-{seed}"
    start, policy, log = folder / "start", folder / "policy", folder / "log.txt"
    folder.mkdir(parents=True, exist_ok=True)
    if status := imitate(arm, seed, folder) or lengthen(arm, seed, folder):
        return status
    if status := measure(arm, start, folder, "start", longest):
        return status
    done = [budget for budget in arm.budgets if (folder / f"trained-{budget}.done").exists()]
    for budget in arm.budgets[max(0, len(done) - 1) :]:  # the policy of an earlier one is no longer there
        if not (trained := folder / f"trained-{budget}.done").exists():
            train = ["train", "--env=oolong-synth", *arm.environment, *RAO, f"--set=collect.mode={arm.mode}"]
            train += [f"--set=collect.max_completion_length={arm.answer}", f"--generated={budget}", f"--seed={seed}"]
            if status := rao(*train, f"--model={start}", f"--out={policy}", *resumed(policy), log=log):
                return status
            trained.touch()
        if status := measure(arm, policy, folder, f"rao{budget}", longest):
            return status
    return 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=ARMS, default=list(ARMS), metavar="ARM")
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds of each arm")
    parser.add_argument("--longest", choices=TASKS, default=list(TASKS)[-1], help="the longest documents of the tests")
    given = parser.parse_args()
    plan = [(name, seed) for seed in range(given.seeds) for name in given.only]
    failed = [f"{name}-{seed}" for name, seed in plan if run(name, seed, given.out, given.longest)]
    if failed:
        sys.exit(f"failed: {', '.join(failed)}; see the log.txt of each in {given.out}")


if __name__ == "__main__":
    main()
