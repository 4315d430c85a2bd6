"""`rao run`: one goal, the live tree on stderr, the result alone on stdout."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import anyio
import typer
from rich.console import Console

from recursive_agent.errors import ConfigurationError, TraceError
from recursive_agent.model.endpoint import show_url

from .isolation import RequireOption, SandboxOption, parse_require
from .models import Checkpoint, attempts, endpoint_is_configured, find_checkpoint
from .progress import watch
from .text import as_json, clean, one_line
from .types import parse_type
from .view import headline

if TYPE_CHECKING:
    from recursive_agent import Agent, Limits, Result
    from recursive_agent.model.base import Model
    from recursive_agent.trace.tree import ExecutionTree

DEFAULT_TRACE_DIR = "traces"


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
    note: str | None = None


@dataclass(slots=True)
class Outcome:
    """How a run went: its result, the error that ended it, or the signal that stopped it."""

    tree: ExecutionTree | None = None
    result: Result | None = None
    error: Exception | None = None
    stopped_by: int | None = None


def run(
    goal: Annotated[str | None, typer.Argument(metavar="GOAL", hidden=True)] = None,
    demo: Annotated[bool, typer.Option("--demo", help="A crafting task for the embedded policy.")] = False,
    model: Annotated[str | None, typer.Option(help="Model name [RAO_MODEL].", metavar="NAME")] = None,
    base_url: Annotated[
        str | None, typer.Option(help="OpenAI-compatible endpoint [OPENAI_BASE_URL].", metavar="URL")
    ] = None,
    interface: Annotated[
        str, typer.Option(help="chat, or tokens (vLLM: exact ids).", metavar="KIND", hidden=True)
    ] = "chat",
    context: Annotated[
        list[Path] | None, typer.Option(help="Text file as data (repeat; - is stdin).", metavar="FILE")
    ] = None,
    returns: Annotated[str | None, typer.Option(help="Type of the result, or a JSON schema.", metavar="TYPE")] = None,
    max_depth: Annotated[int | None, typer.Option(help="Deepest level of sub-agents.", metavar="N")] = None,
    max_agents: Annotated[int | None, typer.Option(help="Agents in all.", metavar="N", hidden=True)] = None,
    max_steps: Annotated[int | None, typer.Option(help="Model calls of one agent.", metavar="N", hidden=True)] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Tokens in all, as billed.", metavar="N")] = None,
    timeout: Annotated[float | None, typer.Option(help="Seconds in all.", metavar="S")] = None,
    request_timeout: Annotated[
        float | None, typer.Option(help="Seconds for one attempt at an answer.", metavar="S")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the sampling (and of the demo).", metavar="N")] = None,
    trace_dir: Annotated[
        Path | None, typer.Option(help="Where traces go [RAO_TRACE_DIR, traces].", metavar="DIR")
    ] = None,
    sandbox: SandboxOption = "process",
    require: RequireOption = None,
    json_output: Annotated[bool, typer.Option("--json", help="Result, status and usage as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Nothing on stderr but errors.")] = False,
) -> None:
    """Run one goal; its result goes to stdout.

    rao run "Sum the bill" --context bill.txt --model NAME --base-url URL

    The key comes from OPENAI_API_KEY. Exit status: 0 finished, 1 not finished,
    2 wrong usage, 3 the endpoint failed, 130 interrupted.
    """
    where = trace_dir or Path(os.environ.get("RAO_TRACE_DIR") or DEFAULT_TRACE_DIR)
    given = {
        "max_depth": max_depth,
        "max_agents": max_agents,
        "max_steps": max_steps,
        "max_tokens": max_tokens,
        "timeout": timeout,
    }
    limits: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if interface not in ("chat", "tokens"):
        raise ConfigurationError(f"--interface is chat or tokens, not {interface!r}")
    isolation: dict[str, Any] = {"sandbox": sandbox, "require": parse_require(require, sandbox)}
    if goal is None and not demo:
        raise ConfigurationError('say what to do: rao run "GOAL", or rao run --demo to see a tree of agents at work')
    if goal is not None and demo:
        raise ConfigurationError("--demo brings its own goal; leave one of them out")
    checkpoint = find_checkpoint(model, base_url)
    if demo and checkpoint is None and (base_url or model):
        raise ConfigurationError("--demo runs the embedded policy or a checkpoint; leave --model and --base-url out")
    if demo or _is_specialist(checkpoint) or not endpoint_is_configured(model, base_url):
        if context or returns:
            raise ConfigurationError(
                "a policy of one trade takes neither --context nor --returns; give another --model"
            )
        plan = _specialist(goal, seed, limits, where, checkpoint, isolation, request_timeout)
    else:
        from recursive_agent import Agent, Limits

        attempts(request_timeout)  # said here in the words of the command line
        served = None if checkpoint is None else checkpoint.open(request_timeout=request_timeout)
        plan = Plan(
            model=served,
            agent=Agent(
                served or model,
                base_url,
                limits=replace(Limits(), **limits),
                interface="tokens" if interface == "tokens" else "chat",
                trace_dir=where,
                **isolation,
                request_timeout=request_timeout if served is None else None,
            ),
            goal=goal or "",
            context=read_context(context or []),
            returns=None if returns is None else parse_type(returns),
            seed=seed,
        )
    console = Console(stderr=True)
    if plan.note and not quiet:
        print(plan.note, file=sys.stderr)
    outcome = Outcome()
    try:
        anyio.run(_execute, plan, console, quiet, outcome)
    except KeyboardInterrupt:
        outcome.stopped_by = outcome.stopped_by or signal.SIGINT
    raise typer.Exit(report(outcome, where, json_output=json_output, quiet=quiet))


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
            raise ConfigurationError(f"--context: {path} is no text in UTF-8") from None
    return next(iter(texts.values())) if len(texts) == 1 else texts or None


def _is_specialist(checkpoint: Checkpoint | None) -> bool:
    from recursive_agent.checkpoint import CheckpointSettings

    return checkpoint is not None and CheckpointSettings.load(checkpoint.directory).environment is not None


def _specialist(
    goal: str | None,
    seed: int | None,
    limits: dict[str, Any],
    trace_dir: Path,
    checkpoint: Checkpoint | None,
    isolation: dict[str, Any],
    request_timeout: float | None,
) -> Plan:
    from rao_rl.rollout import ROLLOUT_LIMITS
    from recursive_agent import Agent

    from .specialist import assign

    assignment = assign(goal, seed, checkpoint, request_timeout)
    served = None if checkpoint is None else checkpoint.base_url
    endpoint = "no endpoint is used" if served is None else f"served at {show_url(served)}"
    bounds: Limits = replace(ROLLOUT_LIMITS, **{"max_depth": assignment.max_depth, **limits})
    return Plan(
        model=assignment.model,
        agent=Agent(assignment.model, tools=assignment.session.tools, limits=bounds, trace_dir=trace_dir, **isolation),
        goal=assignment.task.goal,
        context=assignment.task.context,
        returns=assignment.task.returns,
        seed=seed if seed is not None else 0,
        score=assignment.session.score,
        note=f"{assignment.task.goal}   ({assignment.model.name}, a specialist; {endpoint})",
    )


async def _execute(plan: Plan, console: Console, quiet: bool, outcome: Outcome) -> None:
    """Run the plan into `outcome`, watched, until it ends or a signal comes; then nothing of it is left running."""
    from recursive_agent.trace.tree import TreeBuilder

    builder = TreeBuilder()
    with watch(console, quiet=quiet) as view:
        async with anyio.create_task_group() as helpers:
            running = anyio.CancelScope()
            helpers.start_soon(_stop_on_signal, running, outcome)
            helpers.start_soon(view.refresh)
            with running:
                stream = plan.agent.stream(
                    plan.goal, context=plan.context, returns=plan.returns, seed=plan.seed, score=plan.score
                )
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
        print(f"rao: interrupted · {shown}", file=sys.stderr)
        return 128 + outcome.stopped_by
    if outcome.error is not None or result is None or tree is None:
        if tree is not None and tree.usage.calls and not quiet:
            print(f"rao: {shown}", file=sys.stderr)
        raise outcome.error or RuntimeError("the run gave neither a result nor an error")
    if not quiet:
        score = "" if tree.root.score is None else f" · score {tree.root.score:g}"
        parts = f"{result.status.value}{score} · {headline(tree)}"
        print(f"{parts} · {shown}", file=sys.stderr)
    if json_output:
        given = {
            "output": tree.root.result,
            "status": result.status.value,
            "reason": result.reason,
            "usage": {**asdict(result.usage), "total_tokens": result.usage.total_tokens},
            "run": tree.run,
            "trace": None if path is None else str(path),
        }
        print(as_json(given))
    elif result.status.finished:
        value = tree.root.result
        shown = value if isinstance(value, str) else as_json(value)
        print(clean(shown) if sys.stdout.isatty() else shown)  # a program gets the text as it is
    if result.status.finished:
        return 0
    reason = "" if result.reason is None else f" ({one_line(result.reason)})"
    print(f"rao: not finished: {clean(result.status.value)}{reason}", file=sys.stderr)
    return 1


def _trace_of(tree: ExecutionTree | None, directory: Path) -> Path | None:
    from recursive_agent.trace.store import find_trace

    try:
        return None if tree is None else find_trace(tree.run, directory)
    except TraceError:
        return None
