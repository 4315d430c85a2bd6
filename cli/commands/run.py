"""`rao run`: one goal, the live tree on stderr, the result alone on stdout."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recursive_agent.errors import ConfigurationError
from recursive_agent.model.endpoint import show_urls

from ..approval import RunApproveOption, approve_on_terminal
from ..environments import EnvSetOption, open_environment
from ..folders import trace_dir as default_trace_dir
from ..isolation import RequireOption, SandboxOption, parse_require
from ..limits import (
    MaxAgentsOption,
    MaxDepthOption,
    MaxStepsOption,
    MaxTokensOption,
    TimeoutOption,
    chosen_limits,
)
from ..live_page import ViewOption, ViewPortOption, live_page
from ..model_sets import ChooseOption, ModelsOption, ShareOption, parse_choose, parse_models
from ..models import (
    ActionFormatOption,
    BaseUrlOption,
    Checkpoint,
    InterfaceOption,
    ModelOption,
    Prompting,
    PromptStyleOption,
    RequestTimeoutOption,
    attempts,
    endpoint_is_configured,
    find_checkpoint,
    open_model,
)
from ..progress import QuietOption
from ..running import JsonOption, McpOption, Plan, TraceDirOption, carry_out, plan_resumption
from ..specialist import Assignment, assign, assign_own, check_embedded_knows, open_specialist
from ..telemetry import OtelOption
from ..types import parse_type

if TYPE_CHECKING:
    from recursive_agent import Limits
    from recursive_agent.model.base import Model

_FORK = "Fork"


def run(
    goal: Annotated[
        str | None, typer.Argument(metavar="GOAL", help="Task for the agents, in quotes.", show_default=False)
    ] = None,
    demo: Annotated[
        bool, typer.Option("--demo", metavar="", help="Run a crafting task with the built-in model.")
    ] = False,
    env: Annotated[
        str | None,
        typer.Option(
            metavar="ENV",
            help="Run GOAL as a task of an environment, with its tools and its score: textcraft, one that a package "
            "registers, or module:Class.",
            show_default=False,
        ),
    ] = None,
    env_set: EnvSetOption = None,
    context: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Text file that agents can read as the variable context; repeat for several; - reads stdin.",
        ),
    ] = None,
    returns: Annotated[
        str | None,
        typer.Option(
            metavar="TYPE",
            help=r"Type that the result must have: int, list\[str], a JSON schema, or a .json file that contains one.",
        ),
    ] = None,
    resume_from: Annotated[
        str | None,
        typer.Option(
            metavar="TRACE",
            help="Instead of GOAL: begin with the record of a run and go another way from one of its points.",
            rich_help_panel=_FORK,
        ),
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(metavar="ID", help="The agent that goes another way; 0 is the first.", rich_help_panel=_FORK),
    ] = None,
    step: Annotated[
        int | None,
        typer.Option(metavar="N", help="The step that it takes anew. Default: its last.", rich_help_panel=_FORK),
    ] = None,
    edit: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="What it reads before this step instead.", rich_help_panel=_FORK),
    ] = None,
    mcp: McpOption = None,
    seed: Annotated[
        int | None, typer.Option(metavar="N", help="Seed for sampling; with --demo also the number of the task.")
    ] = None,
    model: ModelOption = None,
    base_url: BaseUrlOption = None,
    interface: InterfaceOption = "chat",
    prompt_style: PromptStyleOption = None,
    action_format: ActionFormatOption = None,
    request_timeout: RequestTimeoutOption = None,
    models: ModelsOption = None,
    choose: ChooseOption = None,
    max_depth: MaxDepthOption = None,
    max_agents: MaxAgentsOption = None,
    max_steps: MaxStepsOption = None,
    max_tokens: MaxTokensOption = None,
    timeout: TimeoutOption = None,
    share_identical: ShareOption = False,
    trace_dir: TraceDirOption = None,
    json_output: JsonOption = False,
    otel: OtelOption = False,
    quiet: QuietOption = False,
    view: ViewOption = False,
    view_port: ViewPortOption = None,
    sandbox: SandboxOption = "process",
    require: RequireOption = None,
    approve: RunApproveOption = None,
) -> None:
    """Run agents on one goal, and print the result on stdout.

    [bold]Examples[/]
      rao run --demo
      rao run "Sum the bill" --context bill.txt --returns float --model NAME
      rao run "What changed last week?" --mcp "uvx mcp-server-git" --model NAME

    Set the endpoint's key in the environment variable OPENAI_API_KEY. A model that
    was trained on one environment solves only goals of that environment, and has
    the default limits of that environment.

    Exit status: 0 finished, 1 not finished, 2 wrong usage, 3 the endpoint failed,
    130 interrupted.
    """
    traces = default_trace_dir(trace_dir)
    limits = chosen_limits(
        max_depth=max_depth, max_agents=max_agents, max_steps=max_steps, max_tokens=max_tokens, timeout=timeout
    )
    isolation: dict[str, Any] = {"sandbox": sandbox, "require": parse_require(require, sandbox)}
    asking: dict[str, Any] = {} if approve is None else {"approve": approve_on_terminal(approve)}
    page = live_page(traces, view=view, port=view_port)
    if resume_from is not None:
        if goal is not None or demo or env is not None or context or mcp:
            raise ConfigurationError(
                "--resume-from has the goal of its run; leave out GOAL, --demo, --env, --context and --mcp"
            )
        options = {
            "at": at or "0",
            "step": step,
            "edit": edit,
            "returns": None if returns is None else parse_type(returns),
        }
        plan = plan_resumption(
            resume_from,
            traces,
            limits=limits,
            model=model,
            base_url=base_url,
            request_timeout=request_timeout,
            isolation=isolation,
            options=options,
            quiet=quiet,
        )
        if asking:
            plan = replace(plan, agent=plan.agent.variant(**asking), asks=True)
        raise typer.Exit(carry_out(replace(plan, page=page), traces, json_output=json_output, quiet=quiet, otel=otel))
    if at is not None or step is not None or edit is not None:
        raise ConfigurationError("--at, --step and --edit say where a run forks; name its trace with --resume-from")
    if goal is None and not demo:
        raise ConfigurationError('give a goal: rao run "GOAL", or see an example with rao run --demo')
    if goal is not None and demo:
        raise ConfigurationError("--demo has its own goal; leave out either GOAL or --demo")
    several: dict[str, Any] = {"models": parse_models(models), "choose": parse_choose(choose)}
    prompting = Prompting(prompt_style, action_format)
    checkpoint = find_checkpoint(model, base_url)
    if demo and env is None and checkpoint is None and (base_url or model):
        raise ConfigurationError(
            "--demo uses the built-in model or, with --model DIR, one of rao train; leave out --base-url and other models"
        )
    if (models or choose) and (env is not None or demo):
        raise ConfigurationError("--models and --choose work only with a goal of your own; leave out --env and --demo")
    if share_identical and (env is not None or demo):
        raise ConfigurationError("--share-identical works only with a goal of your own; leave out --env and --demo")
    if mcp and (env is not None or demo):
        raise ConfigurationError("--mcp works only with a goal of your own; leave out --env and --demo")
    if env is not None and (context or returns):
        raise ConfigurationError(
            "a task of --env has its own context and result type; leave out --context and --returns"
        )
    if env is not None:
        if checkpoint is None and not endpoint_is_configured(model, base_url):
            check_embedded_knows(env)
        environment = open_environment(env, env_set).environment
        assignment = assign(environment, goal, seed or 0)
        opened = open_model(
            model,
            base_url,
            interface=interface,
            request_timeout=request_timeout,
            prompting=prompting,
            quiet=quiet,
        )
        note = f"{assignment.task.goal}   ({environment.name}, {opened.name})"
        plan = _task_plan(assignment, opened, seed, limits, traces, isolation, note)
    elif demo or _is_specialist(checkpoint) or (checkpoint is None and not endpoint_is_configured(model, base_url)):
        if models or choose or share_identical:
            raise ConfigurationError(
                "--models, --choose and --share-identical need a general model; choose one with --model and --base-url"
            )
        if context or returns or mcp:
            raise ConfigurationError(
                "this model only solves tasks of the environment it was trained on, so --context, --returns and --mcp are not "
                "supported; choose a general model with --model and --base-url"
            )
        opened, settings = open_specialist(checkpoint, request_timeout, prompting, quiet=quiet)
        assignment = assign_own(settings, goal, seed or 0, env_set)
        served = None if checkpoint is None else checkpoint.base_url
        endpoint = "no endpoint is used" if served is None else f"served at {show_urls(served)}"
        note = f"{assignment.task.goal}   (model {opened.name}; {endpoint})"
        plan = _task_plan(assignment, opened, seed, limits, traces, isolation, note)
    else:
        from recursive_agent import Agent, Limits
        from recursive_agent.mcp.config import server_of

        if env_set:
            raise ConfigurationError("--env-set gives arguments to an environment; name it with --env")
        attempts(request_timeout)  # its error names the option
        local = None
        if checkpoint is not None:
            local = checkpoint.open(request_timeout=request_timeout, prompting=prompting, quiet=quiet)
        plan = Plan(
            model=local,
            agent=Agent(
                local or model,
                base_url,
                tools=[server for text in mcp or [] for server in server_of(text)],
                limits=replace(Limits(), **limits),
                interface=interface,
                prompt_style=prompt_style,
                action_format=action_format,
                trace_dir=traces,
                **isolation,
                request_timeout=request_timeout if local is None else None,
                share_identical=share_identical,
                **several,
            ),
            goal=goal or "",
            context=read_context(context or []),
            returns=None if returns is None else parse_type(returns),
            seed=seed,
        )
    if asking:
        plan = replace(plan, agent=plan.agent.variant(**asking), asks=True)
    raise typer.Exit(carry_out(replace(plan, page=page), traces, json_output=json_output, quiet=quiet, otel=otel))


def read_context(paths: list[Path]) -> Any:
    """The text of one file, or a mapping of file names to texts; None without files. Raises ConfigurationError."""
    texts: dict[str, str] = {}
    for path in paths:
        try:
            name = path.name if path.name not in texts else str(path)
            texts[name] = sys.stdin.read() if str(path) == "-" else path.read_text("utf-8")
        except OSError as error:
            raise ConfigurationError(f"--context: {path} cannot be read ({error.strerror})") from error
        except UnicodeDecodeError:
            raise ConfigurationError(
                f"--context: {path} is not UTF-8 text; convert it, or choose another file"
            ) from None
    return next(iter(texts.values())) if len(texts) == 1 else texts or None


def _is_specialist(checkpoint: Checkpoint | None) -> bool:
    from recursive_agent.checkpoint import CheckpointSettings

    return checkpoint is not None and CheckpointSettings.of(checkpoint.directory).environment is not None


def _task_plan(
    assignment: Assignment,
    model: Model,
    seed: int | None,
    limits: dict[str, Any],
    trace_dir: Path,
    isolation: dict[str, Any],
    note: str,
) -> Plan:
    """The plan for a task of an environment."""
    from rao_rl.rollouts.attempt import ROLLOUT_LIMITS
    from recursive_agent import Agent

    task, session = assignment.task, assignment.session
    bounds: Limits = replace(ROLLOUT_LIMITS, **{"max_depth": assignment.max_depth, **limits})
    return Plan(
        model=model,
        agent=Agent(model, tools=session.tools, limits=bounds, trace_dir=trace_dir, **isolation),
        goal=task.goal,
        context=task.context,
        returns=task.returns,
        seed=seed or 0,
        score=session.score,
        note=note,
    )
