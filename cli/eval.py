"""`rao eval`: how well a policy does on an environment's tasks, alone and recursively."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, get_args

import anyio
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from rao_rl.envs import make
from rao_rl.evaluate import Attempt, Summary, evaluate, report, summarize
from rao_rl.rollout import Mode
from recursive_agent.errors import ConfigurationError
from recursive_agent.model.base import Model

from .models import open_model


def eval_command(
    environment: Annotated[str, typer.Argument(metavar="ENV", hidden=True)] = "textcraft",
    model: Annotated[str | None, typer.Option(help="Checkpoint, or name at --base-url.", metavar="M")] = None,
    base_url: Annotated[str | None, typer.Option(help="OpenAI-compatible endpoint.", metavar="URL")] = None,
    mode: Annotated[str, typer.Option(help="single, recursive, or both.", metavar="MODES")] = "recursive",
    difficulty: Annotated[str, typer.Option(help="Which tasks.", metavar="D")] = "easy,medium,hard",
    tasks: Annotated[int | None, typer.Option(min=1, help="Tasks of each difficulty.", metavar="N")] = None,
    split: Annotated[str, typer.Option(help="Split of the environment.", metavar="SPLIT")] = "test",
    context_limit: Annotated[int | None, typer.Option(min=1, help="Tokens of an agent.", metavar="N")] = None,
    temperature: Annotated[float | None, typer.Option(min=0.0, help="Not the policy's own.", metavar="T")] = None,
    seed: Annotated[int, typer.Option(help="Of tasks and samples.", metavar="N")] = 0,
    concurrency: Annotated[int, typer.Option(min=1, help="Trees at a time.", metavar="N")] = 8,
    out: Annotated[Path | None, typer.Option(help="Every attempt, as JSON.", metavar="FILE")] = None,
    trace_dir: Annotated[Path | None, typer.Option(help="Keep every trace here.", metavar="DIR")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Success by difficulty with 95 % intervals, and what it took.

    Example: rao eval textcraft --mode single,recursive --tasks 64
    """
    modes = [_mode(name.strip()) for name in mode.split(",")]
    env = make(environment)
    work = [
        task
        for name in difficulty.split(",")
        for task in env.tasks(split, seed, difficulty=name.strip(), limit=tasks or None)
    ]
    if not work:
        raise ConfigurationError(f"the split {split!r} of {environment} has no tasks of difficulty {difficulty}")
    sampling = {} if temperature is None else {"temperature": temperature}
    chosen = open_model(model, base_url)
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[success]}"),
        console=console,
        disable=quiet or not console.is_terminal,
    ) as progress:
        bar = progress.add_task(f"{environment} {split}", total=len(work) * len(modes), success="")
        scores: list[float] = []

        def advance(attempt: Attempt) -> None:
            scores.append(attempt.score or 0.0)
            progress.update(bar, advance=1, success=f"success {sum(scores) / len(scores):.3f}")

        async def run() -> list[Attempt]:
            try:
                return await evaluate(
                    env,
                    work,
                    chosen,
                    modes=modes,
                    seed=seed,
                    concurrency=concurrency,
                    on_attempt=advance,
                    context_limit=context_limit,
                    sampling=sampling,
                    trace_dir=trace_dir,
                )
            finally:
                with anyio.CancelScope(shield=True):
                    await chosen.aclose()

        attempts = anyio.run(run)
    about = _about(chosen, environment=environment, split=split, seed=seed, context_limit=context_limit)
    full = report(attempts, **about, temperature=temperature)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(full, indent=1) + "\n", encoding="utf-8")
    if as_json:
        print(json.dumps({key: value for key, value in full.items() if key != "attempts"}))
    else:
        Console().print(_table(summarize(attempts), title=f"{environment} {split}, {chosen.name}"))


def _mode(name: str) -> Mode:
    for known in get_args(Mode):
        if name == known:
            return known  # type: ignore[no-any-return]
    raise ConfigurationError(f"--mode takes {' and '.join(get_args(Mode))}, not {name!r}")


def _about(model: Model, **settings: object) -> dict[str, object]:
    return {"model": model.name, "interface": model.interface, **settings}


def _table(summaries: list[Summary], title: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0), header_style="bold")
    for name in ("task", "mode", "tasks", "success (95 %)", "agents", "depth", "steps", "tokens", "s", "par"):
        table.add_column(name, no_wrap=True, justify="left" if name in ("task", "mode") else "right")
    for item in summaries:
        table.add_row(
            item.difficulty,
            item.mode,
            str(item.tasks),
            f"{item.success:.3f} ({item.low:.2f}–{item.high:.2f})",
            f"{item.agents:.0f}",
            f"{item.depth:.1f}",
            f"{item.steps:.0f}",
            f"{item.completion_tokens:.0f}",
            f"{item.seconds:.1f}",
            f"{item.concurrent_share:.2f}",
        )
    return table
