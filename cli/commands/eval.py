"""`rao eval`: how well a model solves an environment's tasks, alone and recursively."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import anyio
import typer
from rich.console import Console

from rao_rl.envs import make
from rao_rl.evaluation.log import AttemptLog
from rao_rl.evaluation.outcome import Attempt
from rao_rl.evaluation.run import evaluate
from rao_rl.evaluation.summary import report
from rao_rl.rollouts.attempt import AttemptSettings
from recursive_agent.errors import ConfigurationError
from recursive_agent.model.base import Versioned

from ..isolation import RequireOption, SandboxOption, parse_require
from ..models import (
    ActionFormatOption,
    BaseUrlOption,
    ModelOption,
    Prompting,
    PromptStyleOption,
    RequestTimeoutOption,
    open_model,
)
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
from .plot import load_plots


def eval_command(
    environment: EnvironmentArgument = "textcraft",
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
    concurrency: ConcurrencyOption = 8,
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
        Path | None, typer.Option(metavar="DIR", help="Write charts to DIR, as PNG files.", rich_help_panel="Output")
    ] = None,
    trace_dir: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Record the trace of every attempt in DIR.", rich_help_panel="Output"),
    ] = None,
    as_json: Annotated[
        bool,
        typer.Option("--json", metavar="", help="Print the same JSON as --out.", rich_help_panel="Output"),
    ] = False,
    quiet: QuietOption = False,
    sandbox: SandboxOption = "process",
    require: RequireOption = None,
) -> None:
    """Measure how many tasks a model solves in an environment, by level, with 95 % intervals.

    [bold]Examples[/]
      rao eval textcraft --tasks 64 --attempts attempts.jsonl
      rao eval mypackage.maze:Maze --model NAME --mode recursive
    """
    if plots is not None:
        load_plots()  # a missing package is reported before the attempts, not after them
    modes = parse_modes(mode)
    required = parse_require(require, sandbox)
    env = make(environment)
    chosen_tasks = select_tasks(env, split, seed, levels=level or default_levels(env), limit=tasks)
    prompting = Prompting(prompt_style, action_format)
    chosen = open_model(model, base_url, request_timeout=request_timeout, prompting=prompting, quiet=quiet)
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
        "split": split,
        "seed": seed,
        "context_limit": context_limit,
        "temperature": chosen.sampling.temperature if temperature is None else temperature,
        "concurrency": concurrency,
        **{name: value for name, value in limits.items() if value is not None},
    }
    with ExitStack() as stack:
        log = None if attempts is None else stack.enter_context(AttemptLog(attempts, about))
        asked = {(mode, task.id) for mode in modes for task in chosen_tasks}
        done = [] if log is None else [old for old in log.done if (old.mode, old.task) in asked and not old.lost]
        tally = stack.enter_context(
            Tally(f"{environment} {split}", len(asked), done=[old.score for old in done], quiet=quiet)
        )

        def on_attempt(attempt: Attempt) -> None:
            if log is not None:
                log.append(attempt)
            tally.add(attempt.score)

        async def run() -> list[Attempt]:
            try:
                return await evaluate(
                    env, chosen_tasks, chosen, settings, modes=modes, seed=seed, done=done, on_attempt=on_attempt
                )
            finally:
                with anyio.CancelScope(shield=True):
                    await chosen.aclose()

        results = anyio.run(run)
    full = report(results, **about)
    if as_json:
        print(json.dumps(full))
    else:
        Console().print(*tables(results, f"{environment} {split}, {chosen.name}", concurrency=concurrency), sep="\n")
    if out is not None:
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(json.dumps(full, indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise ConfigurationError(f"{out} cannot be written ({error.strerror})") from error
    if plots is not None:
        load_plots().evaluation(results, plots)
