"""Run the general tasks against an endpoint, or compare two results.

python -m benchmarks.general --base-url http://127.0.0.1:8000/v1 --model NAME --out a.jsonl
python -m benchmarks.general --compare a.jsonl b.jsonl
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import anyio

from rao_rl.evaluation.log import AttemptLog
from rao_rl.evaluation.outcome import Attempt
from rao_rl.evaluation.run import evaluate
from rao_rl.rollouts.attempt import ROLLOUT_LIMITS, AttemptSettings
from recursive_agent.errors import RaoError
from recursive_agent.model import connect, resolve_endpoint
from recursive_agent.model.base import Model, Sampling
from recursive_agent.repl import UNSET

from .environment import General
from .report import comparison, delegations, read, table


async def run_suite(model: Model, args: argparse.Namespace) -> list[Attempt]:
    """Every task once with every seed. With `--out`, attempts that the file has are not made again."""
    general = General()
    tasks = [task for seed in range(args.seeds) for task in general.tasks(args.split, seed, args.kind, args.tasks)]
    settings = AttemptSettings(
        limits=replace(ROLLOUT_LIMITS, max_agents=12, max_children=6, max_steps=args.steps, timeout=args.timeout),
        trace_dir=args.traces,
        concurrency=args.concurrency,
        require=None if args.any_isolation else UNSET,
    )
    about = {"suite": "general", "model": args.model, "split": args.split, "temperature": args.temperature}
    about |= {"steps": args.steps, "max_tokens": args.max_tokens}

    def show(attempt: Attempt) -> None:
        mark = "-" if attempt.score is None else f"{attempt.score:.0f}"
        print(
            f"{mark} {attempt.task} {attempt.status} {attempt.steps} steps {attempt.seconds:.0f} s",
            file=sys.stderr,
            flush=True,
        )

    if args.out is None:
        return await evaluate(general, tasks, model, settings, on_attempt=show)
    with AttemptLog(args.out, about) as log:

        def keep(attempt: Attempt) -> None:
            log.append(attempt)
            show(attempt)

        return await evaluate(general, tasks, model, settings, done=log.done, on_attempt=keep)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.general", description=__doc__.split("\n")[0] if __doc__ else ""
    )
    made.add_argument("--base-url", help="OpenAI-compatible endpoint; default: OPENAI_BASE_URL")
    made.add_argument("--model", help="name of the model there; default: RAO_MODEL")
    made.add_argument("--split", choices=General.splits, default="dev", help="dev, or the held-out tasks (test)")
    made.add_argument("--kind", choices=General.levels, help="tasks of one kind only")
    made.add_argument("--tasks", type=int, metavar="N", help="only the first N tasks; they take turns among the kinds")
    made.add_argument("--seeds", type=int, default=1, metavar="N", help="attempts at each task (1)")
    made.add_argument("--temperature", type=float, default=0.3, help="sampling temperature (0.3)")
    made.add_argument("--max-tokens", type=int, default=500, metavar="N", help="longest answer of one call (500)")
    made.add_argument("--steps", type=int, default=8, metavar="N", help="most model calls of one agent (8)")
    made.add_argument("--timeout", type=float, default=1800, metavar="S", help="seconds for one task (1800)")
    made.add_argument("--concurrency", type=int, default=4, metavar="N", help="tasks at a time (4)")
    made.add_argument(
        "--any-isolation",
        action="store_true",
        help="run where the kernel cannot isolate the agents' code (a container without Landlock, say)",
    )
    made.add_argument("--out", type=Path, metavar="FILE", help="append attempts to FILE; the same FILE again resumes")
    made.add_argument("--traces", type=Path, metavar="DIR", help="record the runs in DIR")
    made.add_argument(
        "--compare", type=Path, nargs=2, metavar=("A", "B"), help="a paired test of two files, nothing is run"
    )
    return made


async def _against_endpoint(args: argparse.Namespace) -> list[Attempt]:
    endpoint = resolve_endpoint(args.model, args.base_url, None)
    args.model = endpoint.model
    sampling = Sampling(temperature=args.temperature, max_tokens=args.max_tokens)
    model = connect(endpoint, sampling=sampling, timeout=args.timeout)
    try:
        return await run_suite(model, args)
    finally:
        await model.aclose()


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    try:
        if args.compare:
            print(comparison(read(args.compare[0]), read(args.compare[1])))
        else:
            attempts = anyio.run(_against_endpoint, args)
            asked = {case.id: case.launches for case in General().cases(args.split)}
            print(f"{table(attempts)}\n{delegations(attempts, asked)}")
    except RaoError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
