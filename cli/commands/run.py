"""`rao run`: one goal, the live tree on stderr, the result alone on stdout."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import anyio
import typer
from rich.console import Console

from recursive_agent.errors import ConfigurationError, RaoError, TraceError
from recursive_agent.model.endpoint import show_url
from recursive_agent.trace.schema import ROOT

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
from ..messages import say
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
from ..progress import QuietOption, watch
from ..specialist import Assignment, assign, assign_own, check_embedded_knows, open_specialist
from ..text import as_json, clean, one_line
from ..types import parse_type
from ..view import headline

if TYPE_CHECKING:
    from recursive_agent import Agent, Limits, Result, Stream
    from recursive_agent.model.base import Model
    from recursive_agent.trace.tree import ExecutionTree


_FORK = "Fork"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to run."""

    agent: Agent
    goal: str
    model: Model | None = None
    """The agent's, where it was opened for it: closed in the end."""
    context: Any = None
    returns: Any = None
    seed: int | None = None
    score: Callable[[Any], Any] | None = None
    asks: bool = False
    """Whether it asks on the terminal: then nothing else is drawn there."""
    note: str | None = None
    resumed: Mapping[str, Any] | None = None
    """Arguments of `Agent.resume_stream`, where a recorded run goes on."""

    def stream(self) -> Stream:
        """The run, to be started."""
        if self.resumed is not None:
            return self.agent.resume_stream(**self.resumed)
        return self.agent.stream(
            self.goal, context=self.context, returns=self.returns, seed=self.seed, score=self.score
        )


@dataclass(slots=True)
class Outcome:
    """How a run went: its result, the error that ended it, or the signal that stopped it."""

    tree: ExecutionTree | None = None
    result: Result | None = None
    error: Exception | None = None
    stopped_by: int | None = None


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
    trace_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder for the trace of the run. Default: RAO_TRACE_DIR, else traces.",
            rich_help_panel="Output",
        ),
    ] = None,
    json_output: Annotated[
        bool,
        typer.Option(
            "--json", metavar="", help="Print result, status, usage and trace as JSON.", rich_help_panel="Output"
        ),
    ] = False,
    quiet: QuietOption = False,
    sandbox: SandboxOption = "process",
    require: RequireOption = None,
    approve: RunApproveOption = None,
) -> None:
    """Run agents on one goal, and print the result on stdout.

    [bold]Examples[/]
      rao run --demo
      rao run "Sum the bill" --context bill.txt --returns float --model NAME

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
    if resume_from is not None:
        if goal is not None or demo or env is not None or context:
            raise ConfigurationError(
                "--resume-from has the goal of its run; leave out GOAL, --demo, --env and --context"
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
        raise typer.Exit(carry_out(plan, traces, json_output=json_output, quiet=quiet))
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
        if context or returns:
            raise ConfigurationError(
                "this model only solves tasks of the environment it was trained on, so --context and --returns are not "
                "supported; choose a general model with --model and --base-url"
            )
        opened, settings = open_specialist(checkpoint, request_timeout, prompting, quiet=quiet)
        assignment = assign_own(settings, goal, seed or 0, env_set)
        served = None if checkpoint is None else checkpoint.base_url
        endpoint = "no endpoint is used" if served is None else f"served at {show_url(served)}"
        note = f"{assignment.task.goal}   (model {opened.name}; {endpoint})"
        plan = _task_plan(assignment, opened, seed, limits, traces, isolation, note)
    else:
        from recursive_agent import Agent, Limits

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
    raise typer.Exit(carry_out(plan, traces, json_output=json_output, quiet=quiet))


def carry_out(plan: Plan, traces: Path, *, json_output: bool, quiet: bool) -> int:
    """Run the plan, watched, and report on it; returns the exit status. Raises what ended the run."""
    console = Console(stderr=True)
    if plan.note and not quiet:
        print(plan.note, file=sys.stderr)
    outcome = Outcome()
    try:
        anyio.run(_execute, plan, console, quiet, outcome)
    except KeyboardInterrupt:
        outcome.stopped_by = outcome.stopped_by or signal.SIGINT
    return report(outcome, traces, json_output=json_output, quiet=quiet)


def plan_resumption(
    trace: str,
    traces: Path,
    *,
    limits: dict[str, Any],
    model: str | None,
    base_url: str | None,
    request_timeout: float | None,
    isolation: dict[str, Any],
    options: dict[str, Any],
    quiet: bool,
) -> Plan:
    """Go on with a recorded run, as it was set up but for what is given here; `options` are those of `Agent.resume`.

    Raises ConfigurationError, TraceError.
    """
    from recursive_agent import Agent, Limits
    from recursive_agent.trace.folder import find_trace
    from recursive_agent.trace.tree import ExecutionTree

    path = find_trace(trace, traces)
    record = ExecutionTree.load(path)
    settings = record.settings
    if tools := settings.get("tools"):
        raise ConfigurationError(
            f"the agents of this run had tools ({', '.join(map(str, tools))}), which a trace does not hold; in Python: "
            "Agent(tools=[...]).resume(trace)"
        )
    checkpoint = find_checkpoint(model, base_url)
    local = None
    if checkpoint is not None:
        local = checkpoint.open(request_timeout=request_timeout, prompting=Prompting(None, None), quiet=quiet)
    if settings.get("models") or settings.get("share_identical"):
        raise ConfigurationError(
            "this run had several models, or shared identical goals; go on with it in Python: Agent(models=...).resume(trace)"
        )
    extra = {name: value for name, value in settings.get("sampling", {}).items() if value != "not recorded"}
    known = Limits.__dataclass_fields__
    recorded = Limits(**{name: value for name, value in record.limits.items() if name in known})
    kept: dict[str, Any] = {
        name: settings.get(name) for name in ("prompt_style", "action_format", "bare_code", "context_limit")
    }
    sampling = {name: settings.get(name) for name in ("temperature", "top_p", "max_tokens", "stop")}
    return Plan(
        model=local,
        agent=Agent(
            local or model or record.model,
            base_url,
            limits=replace(recorded, **limits),
            sampling={name: value for name, value in sampling.items() if value is not None} | extra,
            interface="tokens" if record.interface == "tokens" else "chat",
            trace_dir=traces,
            request_timeout=request_timeout if local is None else None,
            **kept,
            **isolation,
        ),
        goal=record.root.goal,
        resumed={"trace": path, **options},
    )


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


async def _execute(plan: Plan, console: Console, quiet: bool, outcome: Outcome) -> None:
    """Run the plan into `outcome`, watched, until it ends or a signal comes; then nothing of it is left running."""
    from recursive_agent.trace.tree import TreeBuilder

    builder = TreeBuilder()
    with watch(console, quiet=quiet, lines=plan.asks) as view:
        async with anyio.create_task_group() as helpers:
            running = anyio.CancelScope()
            helpers.start_soon(_stop_on_signal, running, outcome)
            helpers.start_soon(view.refresh)
            with running:
                stream = plan.stream()
                try:
                    async with stream:
                        async for event in stream:
                            outcome.tree = builder.add(event).tree
                            if outcome.tree is not None:
                                view.event(event, outcome.tree)
                    outcome.result = stream.result
                except Exception as error:  # raised again outside, where no task group wraps it
                    outcome.error = error
            helpers.cancel_scope.cancel()
    if plan.model is not None:
        await plan.model.aclose()


async def _stop_on_signal(scope: anyio.CancelScope, outcome: Outcome) -> None:
    """The first Ctrl-C (or SIGTERM) stops the run cleanly; after it signals do again what they always do."""
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for number in signals:
            outcome.stopped_by = number
            scope.cancel()
            return


def report(outcome: Outcome, trace_dir: Path, *, json_output: bool, quiet: bool) -> int:
    """Print the result on stdout, and on stderr how it went; returns the exit status. Raises what ended the run."""
    tree, result = outcome.tree, outcome.result
    path = _trace_of(tree, trace_dir)
    shown = "no trace" if path is None else f"open the trace: rao trace show {shlex.quote(str(path))}"
    if outcome.stopped_by is not None and result is None:
        say(f"interrupted · {shown}")
        if json_output:
            print(as_json(account(outcome, trace_dir)))
        return 128 + outcome.stopped_by
    if outcome.error is not None or result is None or tree is None:
        if tree is not None and tree.usage.calls and not quiet:
            say(shown)
        error = outcome.error or RuntimeError("the run gave neither a result nor an error")
        if json_output and isinstance(error, RaoError) and not isinstance(error, ConfigurationError):
            print(as_json(account(outcome, trace_dir, error)))  # programs read stdout, whatever the exit status
        raise error
    if not quiet:
        score = "" if tree.root.score is None else f" · score {tree.root.score:g}"
        parts = f"{result.status.value}{score} · {headline(tree)}"
        print(f"{parts} · {shown}", file=sys.stderr)
    if json_output:
        print(as_json(account(outcome, trace_dir)))
    elif result.status.finished:
        value = tree.root.result
        shown = value if isinstance(value, str) else as_json(value)
        print(clean(shown) if sys.stdout.isatty() else shown)  # a program gets the text as it is
    if result.status.finished:
        return 0
    reason = "" if result.reason is None else f" ({one_line(result.reason)})"
    say(f"not finished: {result.status.value}{reason}")
    return 1


def account(outcome: Outcome, trace_dir: Path, error: RaoError | None = None) -> dict[str, Any]:
    """A run, however it ended, for `--json`.

    `error` is what ended it. `partial` is what finished agents gave to one that did not finish.
    """
    from recursive_agent import Result, Status, Usage

    tree, result = outcome.tree, outcome.result
    if error is not None and isinstance(error.result, Result):
        result, tree = error.result, error.result.tree
    usage = Usage() if tree is None else tree.usage
    if result is not None:
        status, reason = result.status, result.reason
    elif error is None and outcome.stopped_by is not None:
        status, reason = Status.CANCELLED, f"interrupted by {signal.Signals(outcome.stopped_by).name}"
    else:
        status, reason = Status.INFRA_ERROR, None if error is None else str(error)
    path = _trace_of(tree, trace_dir)
    found = [] if tree is None or ROOT not in tree.nodes else tree.root.partial
    partial = [{"agent": each.node, "goal": each.goal, "output": each.result} for each in found]
    return {
        "output": tree.root.result if tree is not None and status.finished else None,
        "status": status.value,
        "reason": reason,
        "error": None if error is None else {"type": type(error).__name__, "message": str(error)},
        "partial": partial,
        "usage": {**asdict(usage), "total_tokens": usage.total_tokens},
        "run": None if tree is None else tree.run,
        "trace": None if path is None else str(path),
    }


def _trace_of(tree: ExecutionTree | None, directory: Path) -> Path | None:
    from recursive_agent.trace.folder import find_trace

    try:
        return None if tree is None else find_trace(tree.run, directory)
    except TraceError:
        return None
