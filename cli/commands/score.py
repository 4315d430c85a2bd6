"""`rao score`: success for the agents of recorded runs, by an application's own function or by a judge."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, TypedDict

import anyio
import typer
from rich.console import Console

from rao_rl.data.folder import trace_paths
from rao_rl.data.groups import group_sizes
from rao_rl.scoring.calibration import Calibration
from rao_rl.scoring.calibration import calibrate as calibrate_judge
from rao_rl.scoring.config import JudgeConfig
from rao_rl.scoring.opening import open_judge
from rao_rl.scoring.traces import Tally, load_scorer, score_traces, with_scorer
from recursive_agent.errors import ConfigurationError
from recursive_agent.trace.folder import TraceState

from ..calibration import calibration_data, calibration_table, nothing_compared
from ..messages import say
from ..progress import Tally as Bar
from ..text import as_json, count

_JUDGE = "Judge"


def score(
    traces: Annotated[
        Path | None,
        typer.Argument(metavar="TRACES", help="A trace file, or a folder of traces.", show_default=False),
    ] = None,
    scorer: Annotated[
        str | None,
        typer.Option(
            "--with",
            metavar="MODULE:FUNCTION",
            help="Your function: it takes a node, and returns its score from 0 to 1, or None if it cannot tell.",
        ),
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Let this model score, instead of --with.", rich_help_panel=_JUDGE),
    ] = None,
    base_url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Endpoint of the judge. Default: OPENAI_BASE_URL.", rich_help_panel=_JUDGE),
    ] = None,
    calibrate: Annotated[
        bool,
        typer.Option(
            "--calibrate",
            metavar="",
            help="Only compare the judge's verdicts with the scores in the traces; add no scores.",
            rich_help_panel=_JUDGE,
        ),
    ] = False,
    cache: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="File to cache the verdicts in. Default: ~/.cache/rao/verdicts.db.",
            rich_help_panel=_JUDGE,
        ),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", metavar="", help="Also score agents that already have a score.")
    ] = False,
    concurrency: Annotated[
        int, typer.Option(min=1, metavar="N", help="Maximum agents that are scored at the same time.")
    ] = 8,
    json_output: Annotated[
        bool, typer.Option("--json", metavar="", help="Print the summary as JSON.", rich_help_panel="Output")
    ] = False,
    quiet: Annotated[
        bool,
        typer.Option("--quiet", "-q", metavar="", help="Print no progress and no warnings.", rich_help_panel="Output"),
    ] = False,
) -> None:
    """Score every agent of recorded runs, so that they can be trained on.

    [bold]Examples[/]
      rao score traces/ --with app:score
      rao score traces/ --judge MODEL --base-url URL
      rao score traces/ --judge MODEL --base-url URL --calibrate

    Scores are appended to the traces. Runs that were recorded without a group are
    grouped by goal and context.
    """
    if traces is None:
        raise ConfigurationError("give the traces to score: rao score traces/ --with MODULE:FUNCTION")
    if (scorer is None) == (judge is None):
        raise ConfigurationError("choose one scorer: --with MODULE:FUNCTION or --judge MODEL")
    if judge is None and (calibrate or base_url or cache):
        raise ConfigurationError("--calibrate, --base-url and --cache work with --judge only")
    if calibrate and again:
        raise ConfigurationError("--calibrate adds no scores; leave out --again")
    files = trace_paths(traces)
    own = None if scorer is None else with_scorer(load_scorer(scorer), scorer)

    async def work(watch: _Watch) -> Calibration | Tally:
        if own is not None:
            return await score_traces(files, own, again=again, concurrency=concurrency, **watch)
        config = JudgeConfig(model=judge, base_url=base_url, concurrency=concurrency)
        async with open_judge(config, cache) as (chosen, secrets):
            if calibrate:
                return await calibrate_judge(files, chosen, concurrency=concurrency, **watch)
            return await score_traces(
                files, chosen.assess, again=again, concurrency=concurrency, secrets=secrets, **watch
            )

    with Bar(f"score {traces}", len(files), quiet=quiet) as bar:
        done = anyio.run(work, _Watch(on_file=lambda: bar.add(None), warn=_silent if quiet else say))
    if isinstance(done, Calibration):
        raise typer.Exit(_report_calibration(done, str(judge), json_output=json_output))
    raise typer.Exit(_report(done, json_output=json_output))


class _Watch(TypedDict):
    """Callbacks for progress and warnings."""

    on_file: Callable[[], None]
    warn: Callable[[str], None]


def _silent(line: str) -> None: ...


def _report(tally: Tally, *, json_output: bool) -> int:
    """Print what was done; returns the exit status."""
    groups, trees, alone = group_sizes(tally.groups)
    if json_output:
        print(as_json({**_counts(tally), "groups": groups, "alone": alone}))
    else:
        for line in _summary(tally):
            print(line)
    if not tally.trees:
        say("nothing was scored: none of these traces holds a complete run")
        return 1
    if alone and not json_output:
        say(f"{count(alone, 'run')} of {trees} without another attempt at the same task; training leaves them out")
    return 1 if tally.judge_errors and not (tally.scored or tally.unknown or tally.kept) else 0


def _counts(tally: Tally) -> dict[str, object]:
    return {
        "trees": tally.trees,
        "in_progress": tally.left_out[TraceState.IN_PROGRESS],
        "incomplete": tally.left_out[TraceState.CUT_OFF],
        "unreadable": tally.left_out[TraceState.UNREADABLE],
        "scored": tally.scored,
        "unknown": tally.unknown,
        "judge_errors": tally.judge_errors,
        "kept": tally.kept,
        "mean": tally.mean,
        "root_mean": tally.root_mean,
    }


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
    for state, what in (
        (TraceState.IN_PROGRESS, "still going on, left"),
        (TraceState.CUT_OFF, "cut off, left"),
        (TraceState.UNREADABLE, "unreadable, left"),
    ):
        if number := tally.left_out[state]:
            yield f"{count(number, 'run')} {what}"
    groups, trees, _ = group_sizes(tally.groups)
    yield f"{count(groups, 'group')} of attempts at one task in {count(trees, 'run')}"


def _report_calibration(calibration: Calibration, judge: str, *, json_output: bool) -> int:
    """Print the agreement; returns the exit status."""
    if json_output:
        print(as_json(calibration_data(calibration)))
    else:
        Console().print(calibration_table(calibration, judge))
    if (line := nothing_compared(calibration)) is not None:
        say(line)
        return 1
    return 0
