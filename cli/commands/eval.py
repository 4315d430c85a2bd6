"""`rao eval`: how well a model solves an environment's tasks, alone and recursively."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import anyio
import typer
from rich.console import Console

from rao_rl.evaluation.log import AttemptLog
from rao_rl.evaluation.outcome import Attempt
from rao_rl.evaluation.run import evaluate
from rao_rl.evaluation.summary import report
from rao_rl.rollouts.attempt import AttemptSettings
from rao_rl.scoring.calibration import Calibration
from recursive_agent.errors import ConfigurationError
from recursive_agent.model.base import Versioned

from ..calibration import calibration_data, calibration_table, nothing_compared
from ..comparison import as_data, compare_files, comparison
from ..environments import EnvSetOption, open_environment, say_if_of_another
from ..files import check_writable, write_json
from ..isolation import RequireOption, SandboxOption, parse_require
from ..judging import JudgeOption, JudgeUrlOption, attempt_judge, judge_config
from ..listing import listed, listing_table
from ..messages import say
from ..models import (
    ActionFormatOption,
    BaseUrlOption,
    ModelOption,
    Prompting,
    PromptStyleOption,
    RequestTimeoutOption,
    open_model,
)
from ..on_ray import RayActorsOption, RayOption, RayResourceOption, attempts_by, cluster, on_ray
from ..prices import PricesOption, parse_prices
from ..progress import QuietOption, Tally
from ..table import tables
from ..tasks import (
    AttemptAgentsOption,
    AttemptStepsOption,
    AttemptTimeoutOption,
    ConcurrencyOption,
    ContextLimitOption,
    EnvironmentArgument,
    SplitOption,
    TaskSeedOption,
    attempt_limits,
    default_levels,
    parse_modes,
    select_tasks,
)
from ..text import count
from ..usage import check_only, is_given
from .plot import load_plots


def eval_command(
    context: typer.Context,
    environment: EnvironmentArgument = "textcraft",
    list_: Annotated[
        bool,
        typer.Option(
            "--list",
            metavar="",
            help="List the environments on this machine: tasks, levels, and the data they need.",
        ),
    ] = False,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            metavar="A B",
            help="Compare two result files (of --attempts or --out), paired by task; runs nothing.",
        ),
    ] = None,
    level: Annotated[
        str | None,
        typer.Option(
            "--level",
            "--difficulty",
            metavar="LEVELS",
            help="Levels of the tasks, separated by commas. Default: easy,medium,hard if the environment has them, else all "
            "of its levels.",
            rich_help_panel="Tasks",
        ),
    ] = None,
    tasks: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Number of tasks for each level. Default: all.", rich_help_panel="Tasks"),
    ] = None,
    split: SplitOption = "test",
    env_set: EnvSetOption = None,
    seed: TaskSeedOption = 0,
    model: ModelOption = None,
    base_url: BaseUrlOption = None,
    prompt_style: PromptStyleOption = None,
    action_format: ActionFormatOption = None,
    request_timeout: RequestTimeoutOption = None,
    mode: Annotated[
        str,
        typer.Option(
            metavar="MODES",
            help="Run each task alone (single), with sub-agents (recursive), or both (separated by a comma).",
            rich_help_panel="Attempts",
        ),
    ] = "single,recursive",
    context_limit: ContextLimitOption = None,
    max_steps: AttemptStepsOption = None,
    max_agents: AttemptAgentsOption = None,
    timeout: AttemptTimeoutOption = None,
    temperature: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            metavar="T",
            help="Sampling temperature. Default: the one saved with the model.",
            rich_help_panel="Attempts",
        ),
    ] = None,
    repeat: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="N",
            help="Attempts at each task in each mode, sampled with different seeds.",
            rich_help_panel="Attempts",
        ),
    ] = 1,
    concurrency: ConcurrencyOption = 8,
    judge: JudgeOption = None,
    judge_base_url: JudgeUrlOption = None,
    calibrate: Annotated[
        bool,
        typer.Option(
            "--calibrate",
            metavar="",
            help="Let --judge also judge agents with an exact score, and print how far the two agree. Exact scores stay.",
            rich_help_panel="Judge",
        ),
    ] = False,
    attempts: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Append each finished attempt to FILE. Start again with the same FILE to resume.",
            rich_help_panel="Output",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write all figures and attempts to FILE, as JSON.", rich_help_panel="Output"),
    ] = None,
    plots: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write charts to DIR, as PNG and SVG files.", rich_help_panel="Output"),
    ] = None,
    trace_dir: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Record the trace of every attempt in DIR.", rich_help_panel="Output"),
    ] = None,
    prices: PricesOption = None,
    as_json: Annotated[
        bool,
        typer.Option("--json", metavar="", help="Print JSON instead of tables.", rich_help_panel="Output"),
    ] = False,
    quiet: QuietOption = False,
    sandbox: SandboxOption = "process",
    require: RequireOption = None,
    ray: RayOption = None,
    ray_actors: RayActorsOption = None,
    ray_resource: RayResourceOption = None,
) -> None:
    """Measure how many tasks a model solves in an environment, by level, with 95 % intervals.

    [bold]Examples[/]
      rao eval --list
      rao eval textcraft --tasks 64 --attempts attempts.jsonl
      rao eval mypackage.maze:Maze --model NAME --mode recursive
      rao eval --compare before.jsonl after.jsonl

    With --attempts, a stopped evaluation continues where it stopped.
    """
    if list_:
        check_only(context, "--list", ("environment", "list_", "as_json"))
        _list([environment] if is_given(context, "environment") else [], as_json=as_json)
        return
    if compare is not None:
        check_only(context, "--compare", ("compare", "as_json", "out", "plots"))
        _compare(*compare, as_json=as_json, out=out, plots=plots)
        return
    if calibrate and judge is None:
        raise ConfigurationError("--calibrate compares a judge with exact scores: name it with --judge MODEL")
    remotely = on_ray(ray, ray_actors, ray_resource)
    rates = parse_prices(prices)
    if out is not None:
        check_writable(out)
    if plots is not None:
        load_plots()  # a missing package is reported before the attempts, not after them
    modes = parse_modes(mode)
    required = parse_require(require, sandbox)
    opened = open_environment(environment, env_set)
    env, arguments = opened
    chosen_tasks = select_tasks(env, split, seed, levels=level or default_levels(env), limit=tasks)
    judging_by = judge_config(
        judge, judge_base_url, concurrency, env, recursive="recursive" in modes and env.max_depth > 0, quiet=quiet
    )
    calibration = Calibration() if calibrate else None
    prompting = Prompting(prompt_style, action_format)
    chosen = open_model(model, base_url, request_timeout=request_timeout, prompting=prompting, quiet=quiet)
    if not quiet:
        say_if_of_another(chosen, env)
    settings = AttemptSettings(
        limits=attempt_limits(max_steps=max_steps, max_agents=max_agents, timeout=timeout),
        context_limit=context_limit,
        sampling={} if temperature is None else {"temperature": temperature},
        trace_dir=trace_dir,
        sandbox=sandbox,
        require=required,
        concurrency=concurrency,
    )
    limits = {"max_steps": max_steps, "max_agents": max_agents, "timeout": timeout}
    about: dict[str, Any] = {
        "model": chosen.name,
        "version": chosen.version if isinstance(chosen, Versioned) else None,
        "interface": chosen.interface,
        "environment": environment,
        "environment_arguments": arguments,
        "split": split,
        "seed": seed,
        "context_limit": context_limit,
        "temperature": chosen.sampling.temperature if temperature is None else temperature,
        "concurrency": concurrency,
        **{name: value for name, value in limits.items() if value is not None},
        **({} if judge is None else {"judge": judge}),
    }
    with ExitStack() as stack:
        log = None if attempts is None else stack.enter_context(AttemptLog(attempts, about))
        asked = {(task.id, mode, number) for mode in modes for task in chosen_tasks for number in range(repeat)}
        done = [] if log is None else [old for old in log.done if old.key in asked and not old.lost]
        remotely = remotely if len(done) < len(asked) else None
        stack.enter_context(cluster(remotely, chosen, quiet=quiet))
        tally = stack.enter_context(
            Tally(f"{environment} {split}", len(asked), done=[old.score for old in done], quiet=quiet)
        )

        def on_attempt(attempt: Attempt) -> None:
            if log is not None:
                log.append(attempt)
            tally.add(attempt.score)

        async def run() -> list[Attempt]:
            running = partial(attempts_by, concurrency=concurrency, sandbox=sandbox, require=required)
            try:
                async with (
                    attempt_judge(judging_by, calibration=calibration, quiet=quiet) as judging,
                    running(remotely, chosen, environment, opened) as runner,
                ):
                    return await evaluate(
                        env,
                        chosen_tasks,
                        chosen,
                        replace(settings, judge=judging, runner=runner),
                        modes=modes,
                        seed=seed,
                        repeats=repeat,
                        done=done,
                        on_attempt=on_attempt,
                    )
            finally:
                with anyio.CancelScope(shield=True):
                    await chosen.aclose()

        results = anyio.run(run)
    full = report(results, rates, **about)
    shown = tables(results, f"{environment} {split}, {chosen.name}", concurrency=concurrency, prices=rates)
    if calibration is not None:
        full["calibration"] = calibration_data(calibration)
        shown = [*shown, calibration_table(calibration, str(judge))]
    _show(full, shown, as_json)
    if out is not None:
        write_json(out, full)
    if plots is not None:
        drawing = load_plots()
        drawing.evaluation(results, plots, kinds=drawing.BOTH)
    if calibration is not None:
        if done:
            say(
                f"{count(len(done), 'attempt')} of {attempts} had been made before and are no part of the calibration; to "
                "calibrate on recorded attempts, use --trace-dir and rao score --judge MODEL --calibrate"
            )
        if (line := nothing_compared(calibration)) is not None:
            say(line)
            raise typer.Exit(1)


def _list(names: list[str], *, as_json: bool) -> None:
    environments = listed(names)
    _show([asdict(item) for item in environments], [listing_table(environments)], as_json)


def _compare(first: Path, second: Path, *, as_json: bool, out: Path | None, plots: Path | None) -> None:
    drawing = None if plots is None else load_plots()
    if out is not None:
        check_writable(out)
    found = compare_files(first, second)
    data = as_data(*found)
    _show(data, comparison(*found), as_json)
    if out is not None:
        write_json(out, data)
    if drawing is not None and plots is not None:
        drawing.comparison(found[2], (first.stem, second.stem), plots, kinds=drawing.BOTH)


def _show(data: Any, parts: Sequence[Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(data))
    else:
        Console(markup=False).print(*parts, sep="\n")  # names may hold brackets
