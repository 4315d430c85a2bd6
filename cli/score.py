"""`rao score`: success for the agents of recorded runs, by an application's own function or by a judge."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, TypedDict

import anyio
import typer
from rich.console import Console
from rich.table import Table

from rao_rl.calibration import Agreement, Calibration
from rao_rl.calibration import calibrate as calibrate_judge
from rao_rl.groups import group_sizes
from rao_rl.judge import Judge
from rao_rl.score import Tally, load_scorer, score_traces, with_scorer
from rao_rl.traces import trace_paths
from rao_rl.verdicts import VerdictCache
from recursive_agent.errors import ConfigurationError
from recursive_agent.model import connect, resolve_endpoint

from .progress import Tally as Bar
from .text import as_json, clean, count


def score(
    traces: Annotated[Path | None, typer.Argument(metavar="TRACES", help="A trace or a folder.", hidden=True)] = None,
    scorer: Annotated[str | None, typer.Option("--with", help="Your scorer.", metavar="MODULE:FUNCTION")] = None,
    judge: Annotated[str | None, typer.Option(help="Model that judges.", metavar="MODEL")] = None,
    base_url: Annotated[str | None, typer.Option(help="Its endpoint [OPENAI_BASE_URL].", metavar="URL")] = None,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Compare the judge with known scores; add none.")
    ] = False,
    again: Annotated[bool, typer.Option("--again", help="Also agents that have a score.")] = False,
    concurrency: Annotated[int, typer.Option(min=1, help="Agents at a time.", metavar="N")] = 8,
    cache: Annotated[Path | None, typer.Option(help="Verdicts [~/.cache/rao/verdicts.db].", metavar="FILE")] = None,
    json_output: Annotated[bool, typer.Option("--json", help="The summary as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no warnings.")] = False,
) -> None:
    """Score every agent of recorded runs, so that they can be trained on.

    rao score traces/ --with app:score    (a function: node -> 0 to 1, or None)

    rao score traces/ --judge MODEL --base-url URL [--calibrate]

    Scores are appended. Runs without a group form one by goal and context.
    """
    if traces is None:
        raise ConfigurationError("say which traces: rao score traces/ --with MODULE:FUNCTION")
    if (scorer is None) == (judge is None):
        raise ConfigurationError("say who scores, and only one: --with MODULE:FUNCTION or --judge MODEL")
    if judge is None and (calibrate or base_url or cache):
        raise ConfigurationError("--calibrate, --base-url and --cache are for a --judge")
    if calibrate and again:
        raise ConfigurationError("--calibrate adds no scores, so leave --again out")
    files = trace_paths(traces)
    own = None if scorer is None else with_scorer(load_scorer(scorer), scorer)

    async def work(watch: _Watch) -> Calibration | Tally:
        if own is not None:
            return await score_traces(files, own, again=again, concurrency=concurrency, **watch)
        async with _open_judge(judge, base_url, cache, concurrency) as (chosen, secrets):
            if calibrate:
                return await calibrate_judge(files, chosen, concurrency=concurrency, **watch)
            return await score_traces(
                files, chosen.assess, again=again, concurrency=concurrency, secrets=secrets, **watch
            )

    with Bar(f"score {traces}", len(files), quiet=quiet) as bar:
        done = anyio.run(work, _Watch(on_file=lambda: bar.add(None), warn=_silent if quiet else _warn))
    if isinstance(done, Calibration):
        raise typer.Exit(_report_calibration(done, str(judge), json_output=json_output))
    raise typer.Exit(_report(done, json_output=json_output))


class _Watch(TypedDict):
    """Who is told of the progress."""

    on_file: Callable[[], None]
    warn: Callable[[str], None]


def _warn(line: str) -> None:
    print(f"rao: {clean(line)}", file=sys.stderr, flush=True)


def _silent(line: str) -> None: ...


@asynccontextmanager
async def _open_judge(
    model: str | None, base_url: str | None, cache: Path | None, concurrency: int
) -> AsyncIterator[tuple[Judge, list[str]]]:
    """The judge, and what must not get into a trace."""
    endpoint = resolve_endpoint(model, base_url)
    chosen = connect(endpoint)
    kept = VerdictCache(cache or _default_cache())
    try:
        yield Judge(chosen, cache=kept, concurrency=concurrency), [endpoint.api_key]
    finally:
        kept.close()
        with anyio.CancelScope(shield=True):
            await chosen.aclose()


def _default_cache() -> Path:
    caches = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(caches) if Path(caches).is_absolute() else Path.home() / ".cache") / "rao" / "verdicts.db"


def _report(tally: Tally, *, json_output: bool) -> int:
    """Print what was done; returns the exit status."""
    groups, trees, alone = group_sizes(tally.groups)
    if json_output:
        given = {name: value for name, value in asdict(tally).items() if not isinstance(value, list)}
        print(as_json({**given, "mean": tally.mean, "root_mean": tally.root_mean, "groups": groups, "alone": alone}))
    else:
        for line in _summary(tally):
            print(line)
    if not tally.trees:
        print("rao: nothing scored: none of these traces is of a run that ended", file=sys.stderr)
        return 1
    if alone and not json_output:
        print(
            f"rao: {count(alone, 'run')} of {trees} without another attempt at the same task; training leaves them out",
            file=sys.stderr,
        )
    return 1 if tally.judge_errors and not (tally.scored or tally.unknown or tally.kept) else 0


def _summary(tally: Tally) -> Iterator[str]:
    means = "" if tally.mean is None else f", mean {tally.mean:.3f}"
    means += "" if tally.root_mean is None else f" (roots {tally.root_mean:.3f})"
    yield f"{count(tally.scored, 'agent')} of {count(tally.trees, 'run')} scored{means}"
    for number, what in (
        (tally.kept, "had a score"),
        (tally.unknown, "cannot be scored"),
        (tally.judge_errors, "without a score: the scorer failed"),
    ):
        if number:
            yield f"{count(number, 'agent')} {what}"
    for number, what in (
        (tally.in_progress, "still going on, left"),
        (tally.incomplete, "cut off, left"),
        (tally.unreadable, "unreadable, left"),
    ):
        if number:
            yield f"{count(number, 'run')} {what}"
    groups, trees, _ = group_sizes(tally.groups)
    yield f"{count(groups, 'group')} of attempts at one task in {count(trees, 'run')}"


def _report_calibration(calibration: Calibration, judge: str, *, json_output: bool) -> int:
    """Print the agreement; returns the exit status."""
    rows = {"leaves": calibration.leaves, "delegators": calibration.delegators, "all": calibration.all}
    if json_output:
        print(as_json({name: _figures(agreement) for name, agreement in rows.items()}))
    else:
        table = Table(
            title=f"{clean(judge)} against known scores", title_justify="left", box=None, padding=(0, 1, 0, 0)
        )
        for name in ("agents", "judged", "both pass", "judge only", "known only", "both fail", "accuracy", "kappa"):
            table.add_column(name, no_wrap=True, justify="left" if name == "agents" else "right")
        for name, item in rows.items():
            counts = (item.nodes, item.both, item.judge_only, item.verifier_only, item.neither)
            table.add_row(name, *map(str, counts), _figure(item.accuracy), _figure(item.kappa))
        Console().print(table)
    if not calibration.all.nodes:
        unjudged = calibration.all.unjudged
        why = (
            f"the judge failed on all {unjudged}"
            if unjudged
            else "no agent here finished and has a score but a judge's"
        )
        print(f"rao: nothing to compare: {why}", file=sys.stderr)
        return 1
    return 0


def _figures(agreement: Agreement) -> dict[str, object]:
    return {
        **asdict(agreement),
        "nodes": agreement.nodes,
        "accuracy": agreement.accuracy,
        "kappa": agreement.kappa,
    }


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
