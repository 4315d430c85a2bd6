"""`rao eval`: how well a policy does on an environment's tasks, alone and recursively."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import anyio
import typer
from rich.console import Console

from rao_rl.attempts import AttemptLog
from rao_rl.envs import make
from rao_rl.evaluate import Attempt, evaluate, report
from recursive_agent.errors import ConfigurationError

from .isolation import RequireOption, SandboxOption, parse_require
from .models import open_model
from .plot import load_plots
from .progress import Tally
from .table import tables
from .tasks import parse_modes, select_tasks


def eval_command(
    environment: Annotated[str, typer.Argument(metavar="ENV", hidden=True)] = "textcraft",
    model: Annotated[str | None, typer.Option(help="Checkpoint, or name at --base-url.", metavar="M")] = None,
    base_url: Annotated[str | None, typer.Option(help="OpenAI-compatible endpoint.", metavar="URL")] = None,
    mode: Annotated[str, typer.Option(help="How.", metavar="MODES")] = "single,recursive",
    difficulty: Annotated[str, typer.Option(help="Which tasks.", metavar="D")] = "easy,medium,hard",
    tasks: Annotated[int | None, typer.Option(min=1, help="Tasks of each difficulty.", metavar="N")] = None,
    split: Annotated[str, typer.Option(help="Split of the environment.", metavar="SPLIT")] = "test",
    context_limit: Annotated[int | None, typer.Option(min=1, help="Tokens of an agent.", metavar="N")] = None,
    temperature: Annotated[float | None, typer.Option(min=0.0, help="Not the policy's own.", metavar="T")] = None,
    request_timeout: Annotated[
        float | None, typer.Option(help="Seconds for one attempt at an answer.", metavar="S", hidden=True)
    ] = None,
    seed: Annotated[int, typer.Option(help="Of tasks and samples.", metavar="N")] = 0,
    concurrency: Annotated[int, typer.Option(min=1, help="Trees at a time.", metavar="N")] = 8,
    attempts: Annotated[
        Path | None, typer.Option(help="Each as it ends; a killed run goes on.", metavar="FILE")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Figures and attempts, as JSON.", metavar="FILE")] = None,
    plots: Annotated[Path | None, typer.Option(help="Draw pictures (PNG) here.", metavar="DIR")] = None,
    trace_dir: Annotated[Path | None, typer.Option(help="Keep every trace here.", metavar="DIR")] = None,
    sandbox: SandboxOption = "process",
    require: RequireOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what --out holds.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Success by difficulty with 95 % intervals, and what it took.

    Example: rao eval textcraft --tasks 64 --attempts attempts.jsonl
    """
    if plots is not None:
        load_plots()  # what is missing is better said before the attempts than after them
    modes = parse_modes(mode)
    required = parse_require(require, sandbox)
    env = make(environment)
    work = select_tasks(env, split, seed, difficulty=difficulty, limit=tasks)
    chosen = open_model(model, base_url, request_timeout=request_timeout)
    sampling = {} if temperature is None else {"temperature": temperature}
    about: dict[str, Any] = {
        "model": chosen.name,
        "version": getattr(chosen, "version", None),
        "interface": chosen.interface,
        "environment": environment,
        "split": split,
        "seed": seed,
        "context_limit": context_limit,
        "temperature": chosen.sampling.temperature if temperature is None else temperature,
        "concurrency": concurrency,
    }
    with ExitStack() as stack:
        log = None if attempts is None else stack.enter_context(AttemptLog(attempts, about))
        wanted = {(mode, task.id) for mode in modes for task in work}
        done = [] if log is None else [old for old in log.done if (old.mode, old.task) in wanted and not old.lost]
        tally = stack.enter_context(
            Tally(f"{environment} {split}", len(wanted), done=[old.score for old in done], quiet=quiet)
        )

        def note(attempt: Attempt) -> None:
            if log is not None:
                log.append(attempt)
            tally.add(attempt.score)

        async def run() -> list[Attempt]:
            try:
                return await evaluate(
                    env,
                    work,
                    chosen,
                    modes=modes,
                    seed=seed,
                    concurrency=concurrency,
                    on_attempt=note,
                    done=done,
                    context_limit=context_limit,
                    sampling=sampling,
                    trace_dir=trace_dir,
                    sandbox=sandbox,
                    require=required,
                )
            finally:
                with anyio.CancelScope(shield=True):
                    await chosen.aclose()

        made = anyio.run(run)
    full = report(made, **about)
    if as_json:
        print(json.dumps(full))
    else:
        Console().print(*tables(made, f"{environment} {split}, {chosen.name}", concurrency=concurrency), sep="\n")
    if out is not None:
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(json.dumps(full, indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise ConfigurationError(f"{out} cannot be written ({error.strerror})") from error
    if plots is not None:
        load_plots().evaluation(made, plots)
