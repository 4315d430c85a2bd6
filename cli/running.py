"""A run that is carried out for a command: what to run, watching it, and the report on how it went."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import anyio
import typer
from rich.console import Console

from recursive_agent.errors import ConfigurationError, RaoError, TraceError
from recursive_agent.trace.schema import ROOT

from .live_page import LivePage
from .messages import say
from .models import Prompting, find_checkpoint
from .states import headline
from .telemetry import observing
from .text import as_json, clean, one_line
from .watching import watch

if TYPE_CHECKING:
    from recursive_agent import Agent, Result, Stream
    from recursive_agent.model.base import Model
    from recursive_agent.trace.tree import ExecutionTree


TraceDirOption = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="Folder for traces. Default: RAO_TRACE_DIR, else traces.", rich_help_panel="Output"
    ),
]
McpOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="CONFIG|URL|COMMAND",
        help="MCP server whose tools the agents may call: a JSON file with mcpServers, a URL, or a command in quotes; repeat "
        "for several.",
    ),
]
JsonOption = Annotated[
    bool,
    typer.Option("--json", metavar="", help="Print result, status, usage and trace as JSON.", rich_help_panel="Output"),
]


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
    page: LivePage | None = None
    """A page in the browser that shows it too."""

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


def carry_out(plan: Plan, traces: Path, *, json_output: bool, quiet: bool, otel: bool = False) -> int:
    """Run the plan, watched, and report on it; returns the exit status. Raises what ended the run."""
    console = Console(stderr=True)
    if plan.note and not quiet:
        print(plan.note, file=sys.stderr)
    outcome = Outcome()
    with observing(otel) as observers, plan.page or nullcontext():
        if observers:
            plan = replace(plan, agent=plan.agent.variant(observers=observers))
        try:
            anyio.run(_execute, plan, console, quiet, outcome)
        except KeyboardInterrupt:
            outcome.stopped_by = outcome.stopped_by or signal.SIGINT
        status = report(outcome, traces, json_output=json_output, quiet=quiet)
        if plan.page is not None and outcome.stopped_by is None:
            plan.page.stay()
    return status


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
    mcp: list[str] | None = None,
) -> Plan:
    """Go on with a recorded run, as it was set up but for what is given here; `options` are those of `Agent.resume`.

    Raises ConfigurationError, TraceError.
    """
    from recursive_agent import Agent, Limits
    from recursive_agent.mcp.config import server_of
    from recursive_agent.trace.folder import find_trace
    from recursive_agent.trace.tree import ExecutionTree

    path = find_trace(trace, traces)
    record = ExecutionTree.load(path)
    settings = record.settings
    servers = [server for text in mcp or [] for server in server_of(text)]
    if (tools := settings.get("tools")) and not servers:
        raise ConfigurationError(
            f"the agents of this run had tools ({', '.join(map(str, tools))}), which a trace does not hold; in Python: "
            "Agent(tools=[...]).resume(trace); if they are of MCP servers, name these with --mcp"
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
            tools=servers,
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
                            if plan.page is not None:
                                plan.page.event(event)
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
