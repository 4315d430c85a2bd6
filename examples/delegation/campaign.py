"""Where delegation pays: RAO with sub-agents and alone, from one start and for the same sampled tokens, by environment.

    python -m examples.delegation.campaign --out runs/ [--only deepdive sequence] [--seeds 3] [--budget 60000]

Each row of `specs.py` is one comparison: a small policy from new weights imitates both ways of working, is evaluated in both,
and is then trained with RAO in each. A row of an open model begins from that instead (`--base`), and samples it through vLLM
(`RAO_VLLM_PYTHON`). Runs that are done are passed over and killed ones go on, so the script may be stopped
and started at will. `report.py` makes the tables of what is there.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from examples.command import rao, resumed
from examples.delegation.specs import MODES, SPECS, TEMPERATURE, Spec, start_row
from examples.served import served, weights
from rao_rl.envs import Mode

RAO = [
    "--online",
    "--lr=2e-4",
    "--set=collect.tasks_per_step=8",
    "--set=collect.num_generations=4",
    f"--set=collect.temperature={TEMPERATURE}",
    "--set=collect.timeout=3600",  # a slow machine must not decide what is rewarded
    "--set=update.tokens_per_bin=4096",
    "--set=update.bf16=false",  # the sampler computes in float32
    "--set=update.warmup_steps=2",
    "--save-steps=2",
]

SERVER = ["--max-num-seqs=64", "--dtype=bfloat16"]
"""Options of vLLM."""
AT_A_TIME = 24
"""Trees that are evaluated at a time where vLLM samples them."""
_OWN = [name for name, spec in SPECS.items() if spec.base is None]


def environment(spec: Spec) -> list[str]:
    """The options that give the environment its arguments."""
    return [f"--env-set={argument}" for argument in spec.arguments]


def engine(spec: Spec) -> list[str]:
    """Options of vLLM for a row."""
    return [f"--max-model-len={spec.context_limit}", *SERVER]


@contextmanager
def sampled(spec: Spec, model: Path, port: int) -> Iterator[list[str]]:
    """The options of a command that samples a policy: by itself, or through vLLM where the policy is an open model."""
    if spec.base is None:
        yield [f"--model={model}"]
        return
    with served(model, port=port, log=model.parent / "serve.txt", engine=engine(spec)) as (base_url, name):
        yield [f"--base-url={base_url}", f"--model={name}", "--prompt-style=minimal"]


def begin(spec: Spec, start: Path, base: Path | None) -> int:
    """Make the policy that both ways of working start from, if it is not there yet."""
    if (start / "agent.json").is_file():
        return 0
    options = [f"--env={spec.environment}", *environment(spec), *spec.start, f"--out={start}", *resumed(start)]
    if spec.base is not None:
        options.append(f"--model={base}")
    return rao("train", *options, log=start.parent / "log.txt")


def evaluate(spec: Spec, model: Path, attempts: Path, mode: Mode, port: int) -> int:
    """Attempt the test tasks in one way of working; those in `attempts` already are not attempted again."""
    done = attempts.with_suffix(".done")
    if done.exists():
        return 0
    many = [] if spec.base is None else [f"--concurrency={AT_A_TIME}"]
    with sampled(spec, model, port) as policy:
        for level, tasks in spec.tasks.items():
            status = rao(
                *("eval", spec.environment, *environment(spec), *policy, f"--mode={mode}", f"--level={level}"),
                *(f"--tasks={tasks}", f"--context-limit={spec.context_limit}", f"--max-agents={spec.max_agents}"),
                *(f"--max-steps={spec.max_steps[mode]}", "--timeout=3600", f"--temperature={TEMPERATURE}"),
                *(f"--attempts={attempts}", "--quiet", *many),
                log=attempts.parent / "log.txt",
            )
            if status:
                return status
    done.touch()
    return 0


def train(spec: Spec, mode: Mode, seed: int, budget: int, start: Path, policy: Path, port: int) -> int:
    """Train one run until it has sampled `budget` tokens, or go on with it."""
    limits = [
        f"--set=collect.level={','.join(spec.trained)}",
        f"--set=collect.mode={mode}",
        f"--set=collect.context_limit={spec.context_limit}",
        f"--set=collect.max_agents={spec.max_agents}",
        f"--set=collect.max_steps={spec.max_steps[mode]}",
        f"--set=collect.max_completion_length={spec.max_answer}",
    ]
    where = [f"--env={spec.environment}", *environment(spec), f"--model={start}", f"--out={policy}", *resumed(policy)]
    options = [*where, *RAO, *limits, *spec.training, f"--generated={budget}", f"--seed={seed}"]
    log = policy.parent / "log.txt"
    if spec.base is None:
        return rao("train", *options, log=log)
    shown = weights(start, policy.parent / "served")
    serving = served(shown, "--weight-updates", port=port, log=policy.parent / "serve.txt", engine=engine(spec))
    with serving as (base_url, name):
        return rao(
            *("train", *options, "--set=sampler.name=vllm-reload", f"--set=sampler.served_folder={shown}"),
            *(f"--set=sampler.base_url={base_url}", f"--set=sampler.served_model={name}"),
            log=log,
        )


def run(name: str, mode: Mode, seed: int, budget: int, out: Path, port: int) -> int:
    """Train one run up to a budget and evaluate it, as far as that has not been done. Exit status of what failed."""
    spec = SPECS[name]
    folder = out / name / f"{mode}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    attempts = folder / f"test-{budget}.jsonl"
    if attempts.with_suffix(".done").exists():
        return 0
    start = out / (spec.start_of or name) / "start" / "policy"
    trained = folder / f"trained-{budget}.done"
    if not trained.exists():
        if status := train(spec, mode, seed, budget, start, folder / "policy", port):
            return status
        trained.touch()
    return evaluate(spec, folder / "policy", attempts, mode, port)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--only",
        nargs="+",
        choices=SPECS,
        default=_OWN,
        metavar="ROW",
        help=f"{', '.join(SPECS)}; else those of new weights",
    )
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds of each run")
    parser.add_argument("--budget", type=int, help="train for at most so many sampled tokens")
    parser.add_argument("--port", type=int, default=8127, help="port of the vLLM server of such a row")
    parser.add_argument("--base", type=Path, help="folder of the open model, where a row begins from one")
    given = parser.parse_args()
    opened = [f"{name} ({base})" for name in given.only if (base := SPECS[name].base) is not None]
    if opened and given.base is None:
        parser.error(
            f"{', '.join(opened)} needs --base: `python -m examples.open_model get --model NAME --checkpoint` prints the folder"
        )
    failed = []
    for name in given.only:
        spec = SPECS[name]
        folder = given.out / start_row(name) / "start"
        folder.mkdir(parents=True, exist_ok=True)
        origin = given.out / (spec.start_of or name) / "start" / "policy"
        if spec.start_of is None and begin(spec, origin, given.base):
            sys.exit(f"the policy to start from could not be trained; see {folder / 'log.txt'}")
        failed += [
            f"{name}/start" for mode in MODES if evaluate(spec, origin, folder / f"test-{mode}.jsonl", mode, given.port)
        ]
    # Every row with one seed before the next seed, so that what was stopped early is still a comparison.
    failed += [
        f"{name}/{mode}-{seed}"
        for seed in range(given.seeds)
        for name in given.only
        for budget in SPECS[name].budgets
        if given.budget is None or budget <= given.budget
        for mode in MODES
        if run(name, mode, seed, budget, given.out, given.port)
    ]
    if failed:
        sys.exit(f"failed: {', '.join(failed)}; see the log.txt of each in {given.out}")


if __name__ == "__main__":
    main()
