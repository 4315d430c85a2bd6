"""`rao rollout`: groups of attempts at an environment's tasks, recorded as traces to train on."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import anyio
import typer

from rao_rl.envs import Mode
from rao_rl.rollouts.attempt import AttemptSettings
from rao_rl.rollouts.recording import Recording, Rollout, find_recorded, plan_groups, record
from recursive_agent.model.base import Versioned

from ..environments import EnvSetOption, open_environment, say_if_of_another
from ..isolation import RequireOption, SandboxOption, parse_require
from ..judging import JudgeOption, JudgeUrlOption, attempt_judge, judge_config
from ..models import (
    ActionFormatOption,
    BaseUrlOption,
    InterfaceOption,
    ModelOption,
    Prompting,
    PromptStyleOption,
    RequestTimeoutOption,
    open_model,
)
from ..on_ray import RayActorsOption, RayOption, RayResourceOption, attempts_by, cluster, on_ray
from ..progress import QuietOption, Tally
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
    select_tasks,
)
from ..text import count


def rollout_command(
    environment: EnvironmentArgument = "textcraft",
    level: Annotated[
        str | None,
        typer.Option(
            "--level",
            "--difficulty",
            metavar="LEVELS",
            help="Levels of the tasks, separated by commas. Default: all levels mixed.",
            rich_help_panel="Tasks",
        ),
    ] = None,
    tasks: Annotated[
        int,
        typer.Option(min=1, metavar="N", help="Number of tasks for each level in --level.", rich_help_panel="Tasks"),
    ] = 16,
    group: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="G",
            help="Attempts at each task. Training compares them with each other.",
            rich_help_panel="Tasks",
        ),
    ] = 8,
    split: SplitOption = "train",
    env_set: EnvSetOption = None,
    seed: TaskSeedOption = 0,
    model: ModelOption = None,
    base_url: BaseUrlOption = None,
    interface: InterfaceOption = "tokens",
    prompt_style: PromptStyleOption = None,
    action_format: ActionFormatOption = None,
    request_timeout: RequestTimeoutOption = None,
    mode: Annotated[
        Mode,
        typer.Option(help="Run each task alone (single) or with sub-agents (recursive).", rich_help_panel="Attempts"),
    ] = "recursive",
    context_limit: ContextLimitOption = None,
    max_steps: AttemptStepsOption = None,
    max_agents: AttemptAgentsOption = None,
    timeout: AttemptTimeoutOption = None,
    temperature: Annotated[
        float, typer.Option(min=0.0, metavar="T", help="Sampling temperature.", rich_help_panel="Attempts")
    ] = 1.0,
    concurrency: ConcurrencyOption = 8,
    judge: JudgeOption = None,
    judge_base_url: JudgeUrlOption = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the traces.", rich_help_panel="Output")] = Path(
        "traces"
    ),
    as_json: Annotated[
        bool, typer.Option("--json", metavar="", help="Print the counts as JSON.", rich_help_panel="Output")
    ] = False,
    quiet: QuietOption = False,
    sandbox: SandboxOption = "process",
    require: RequireOption = None,
    ray: RayOption = None,
    ray_actors: RayActorsOption = None,
    ray_resource: RayResourceOption = None,
) -> None:
    """Record and score several attempts at each task, to train on. Run the same command again to resume.

    [bold]Examples[/]
      rao rollout textcraft --level medium --out traces/
      rao rollout mypackage.maze:Maze --model NAME --base-url URL
      rao rollout textcraft --ray auto --concurrency 256 --model NAME --base-url URL
    """
    remotely = on_ray(ray, ray_actors, ray_resource)
    prompting = Prompting(prompt_style, action_format)
    settings = AttemptSettings(
        mode=mode,
        limits=attempt_limits(max_steps=max_steps, max_agents=max_agents, timeout=timeout),
        context_limit=context_limit,
        # Truncated sampling would bias what is trained on it.
        sampling={"temperature": temperature, "top_p": 1.0},
        trace_dir=out,
        sandbox=sandbox,
        require=parse_require(require, sandbox),
        concurrency=concurrency,
    )
    opened = open_environment(environment, env_set)
    env, arguments = opened
    chosen_tasks = select_tasks(env, split, seed, levels=level, limit=tasks)
    planned = plan_groups(env, split, chosen_tasks, size=group, seed=seed, arguments=arguments)
    judging_by = judge_config(judge, judge_base_url, concurrency, env, recursive=settings.depth(env) > 0, quiet=quiet)
    chosen = open_model(
        model,
        base_url,
        interface=interface,
        request_timeout=request_timeout,
        prompting=prompting,
        quiet=quiet,
    )
    if not quiet:
        say_if_of_another(chosen, env)
    shared: dict[str, object] = {
        "model": chosen.name,
        "interface": chosen.interface,
        "temperature": temperature,
        "context limit": context_limit,
        "depth limit": settings.depth(env),
        "step limit": settings.limits.max_steps,
        "agent limit": settings.limits.max_agents,
    }
    if isinstance(chosen, Versioned) and (version := chosen.version) is not None:
        shared["version"] = version
    recorded = find_recorded(out, planned, shared)
    recorded_keys = {rollout.key for rollout in recorded}
    missing = [plan for plan in planned if plan.key not in recorded_keys]

    remotely = remotely if missing else None

    async def run(tally: Tally) -> list[Rollout]:
        attempts = partial(attempts_by, concurrency=concurrency, sandbox=sandbox, require=settings.require)
        try:
            async with (
                attempt_judge(judging_by, quiet=quiet) as judging,
                attempts(remotely, chosen, environment, opened) as runner,
            ):
                own = replace(settings, judge=judging, runner=runner)
                return await record(env, missing, chosen, out, own, on_rollout=lambda rollout: tally.add(rollout.score))
        finally:
            with anyio.CancelScope(shield=True):
                await chosen.aclose()

    with (
        cluster(remotely, chosen, quiet=quiet),
        Tally(f"{environment} {split}", len(planned), done=[item.score for item in recorded], quiet=quiet) as tally,
    ):
        rollouts = anyio.run(run, tally)
    counts = Recording.of([*recorded, *rollouts], wanted=len(planned), found=len(recorded))
    print(json.dumps({"out": str(out), **asdict(counts)}) if as_json else _in_words(counts, out))


def _in_words(counts: Recording, out: Path) -> str:
    lines = [
        f"{count(counts.rollouts, 'rollout')} in {out}"
        f" → {counts.scored:,} scored → {counts.solved:,} solved ({counts.found:,} recorded earlier)",
        f"{count(counts.groups, 'group')}, {counts.mixed_groups:,} of them with different scores to learn from",
    ]
    if counts.lost:
        lines.append(
            f"{count(counts.lost, 'attempt')} failed because of the endpoint; run the same command again to repeat them"
        )
    return "\n".join(lines)
