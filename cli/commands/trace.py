"""`rao trace show` and `rao trace ls`: recorded trees in the terminal."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.rule import Rule
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from recursive_agent.errors import TraceError
from recursive_agent.status import LABELS
from recursive_agent.trace.folder import TraceState, TraceSummary, find_trace, read_trace, traces_below
from recursive_agent.trace.schema import STEP, ModelCalled
from recursive_agent.trace.tree import ExecutionTree, Node, Step

from ..folders import trace_dir
from ..happenings import between, happening_line, happening_lines, happenings_to
from ..messages import say
from ..states import Snapshot
from ..text import as_json, ascii_only, clean, count, one_line, seconds
from ..view import label_style, render

if TYPE_CHECKING:
    from rich.console import RenderableType

app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")
PIPED_WIDTH = 200
"""Columns where stdout is no terminal and nothing says how wide it is."""
PIPED_HEIGHT = 100
"""Lines of a tree where stdout is no terminal."""
LEAST_HEIGHT = 20
"""Lines of a tree on small terminals, which scroll."""


@app.callback()
def trace() -> None:
    """Show recorded runs in the terminal or the browser, or export them for training.

    [bold]Example[/]
      rao trace show traces/
    """


@app.command("show", short_help="Show a tree, or one of its agents in full.")
def show(
    trace: Annotated[
        str | None,
        typer.Argument(
            metavar="TRACE",
            help="A trace file, a folder (its newest trace) or a part of a run's id. Default: the newest trace in "
            "RAO_TRACE_DIR, else in traces.",
            show_default=False,
        ),
    ] = None,
    node: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Show only this agent, in full: 0 is the first, 0.1 its second sub-agent."),
    ] = None,
    every: Annotated[
        bool,
        typer.Option(
            "--all", metavar="", help="Show every agent and event, also where they fill more than the screen."
        ),
    ] = False,
    json_output: Annotated[bool, typer.Option("--json", metavar="", help="Print the tree or agent as JSON.")] = False,
) -> None:
    """Show a tree: each agent's goal, result, status, steps, tokens and time.

    [bold]Examples[/]
      rao trace show traces/
      rao trace show traces/ --node 0.1
      rao trace show traces/ --all | less

    Without TRACE it shows the newest trace in the folder RAO_TRACE_DIR, or in
    traces/. A tree with more agents than the screen has lines is folded: agents
    that failed are shown first, and those that do not fit are counted; --all
    shows every one. With --node it shows that agent's whole conversation, its
    code, and the output of the code.
    """
    path = find_trace(trace if trace is not None else trace_dir(), trace_dir())
    file = read_trace(path)
    tree = file.tree
    if tree is None:
        raise TraceError(file.problem)
    if node is None:
        if json_output:
            print(as_json(_tree_data(tree, path), indent=2))
        else:
            console = _console()
            about = [*_about(tree, file.state), *happening_lines(tree, all_lines=every)]
            height = sys.maxsize
            if not every:
                room = console.height - sum(len(console.render_lines(line, pad=False)) for line in about) - 1
                height = max(LEAST_HEIGHT, room) if console.is_terminal else PIPED_HEIGHT
            _print([*about, render(tree, height, results=True, hint=" (--all shows them)")], console)
        return
    chosen = tree.nodes.get(node)
    if chosen is None:
        raise TraceError(f"{path}: there is no agent {node}; the tree has {one_line(', '.join(tree.nodes), 200)}")
    if json_output:
        own = {
            "steered": [asdict(each) for each in tree.steered if each.node == chosen.id],
            "approvals": [asdict(each) for each in tree.approvals if each.node == chosen.id],
        }
        print(as_json(_node_data(chosen, steps=True) | own, indent=2))
    else:
        _print(_node_in_full(chosen, tree))


@app.command("ls")
def ls(
    directory: Annotated[
        Path | None,
        typer.Argument(
            metavar="DIR", help="A folder of traces. Default: RAO_TRACE_DIR, else traces.", show_default=False
        ),
    ] = None,
    json_output: Annotated[
        bool, typer.Option("--json", metavar="", help="Print one line of JSON for each trace.")
    ] = False,
) -> None:
    """List the traces of a folder and its sub-folders, oldest first.

    [bold]Example[/]
      rao trace ls traces/
    """
    folder = directory or trace_dir()
    files = sorted(traces_below(folder), key=lambda file: (file.name, file))  # names begin with the time of the start
    summaries = map(TraceSummary.of, files)
    if json_output:
        for summary in summaries:
            print(as_json(asdict(summary)))
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("started", "status", "agents", "depth", "tokens", "time", "score"):
        table.add_column(name, no_wrap=True, justify="left" if name in ("started", "status") else "right")
    table.add_column("run", no_wrap=True)
    table.add_column("goal", no_wrap=True, overflow="ellipsis", ratio=1)
    for summary in summaries:
        table.add_row(*_listed(summary))
    if table.row_count:
        _print([table])
    else:
        say(f"no traces in {folder}")


_STATES = {
    TraceState.IN_PROGRESS: ("running", "yellow"),
    TraceState.CUT_OFF: ("killed", "red"),
    TraceState.UNREADABLE: ("unreadable", "red"),
}
"""What is shown, and how, in the place of the status of a run that has no end."""


def _listed(summary: TraceSummary) -> Iterator[Text]:
    if summary.problem is not None:
        yield from (Text("?"), Text(*_STATES[summary.state]), *(Text("") for _ in range(5)))
        yield Text(clean(summary.path.name))
        yield Text(one_line(summary.problem.removeprefix(f"{summary.path}")).lstrip(":, "))
        return
    status, style = LABELS[summary.status].words, label_style(LABELS[summary.status])
    if not summary.complete:
        status, style = _STATES[summary.state]
    yield Text(datetime.fromtimestamp(summary.started).strftime("%Y-%m-%d %H:%M:%S"))
    yield Text(status, style=style)
    yield Text(f"{summary.nodes:,}")
    yield Text(f"{summary.depth}")
    yield Text(f"{summary.usage.total_tokens:,}")
    yield Text(seconds(summary.duration))
    yield Text("" if summary.score is None else f"{summary.score:.2g}")
    yield Text(one_line(summary.run))
    yield Text(one_line(summary.goal))


def _console() -> Console:
    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = PIPED_WIDTH
    return console


def _print(parts: list[RenderableType], console: Console | None = None) -> None:
    console = console or _console()
    for part in parts:
        console.print(ascii_only(part) if console.options.ascii_only and isinstance(part, Text) else part)


def _about(tree: ExecutionTree, state: TraceState) -> Iterator[Text]:
    """A few lines about the run as such."""
    started = datetime.fromtimestamp(tree.started).strftime("%Y-%m-%d %H:%M:%S")
    facts = [f"run {tree.run}", started, f"{tree.model} ({tree.interface})"]
    facts += [f"seed {tree.seed}"] if tree.seed is not None else []
    facts += [f"group {tree.group}"] if tree.group is not None else []
    yield Text(one_line(" · ".join(facts)))
    if not tree.complete:
        yield Text(
            "still running"
            if state is TraceState.IN_PROGRESS
            else "no end was written: the process was killed, or could not",
            style="yellow",
        )
    if not tree.nodes:
        return
    path_seconds, chain = tree.critical_path
    yield Text(
        f"critical path {seconds(path_seconds)} through {one_line(' → '.join(node.id for node in chain), 120)} · "
        f"{tree.concurrent_share:.0%} of launches concurrent"
        + (f" · {tree.refused_launches} refused" if tree.refused_launches else "")
    )


def _node_in_full(node: Node, tree: ExecutionTree) -> list[RenderableType]:
    snapshot = Snapshot(tree)
    label = snapshot.label(node)
    launched = "" if node.launched_at is None else f" · launched by {node.parent} in step {node.launched_at.step}"
    used = f"{count(node.usage.total_tokens, 'token')} · {seconds(node.duration)}"
    model = (
        "" if node.model is None else f" · model {one_line(node.model, 80)}{'' if node.trainable else ' (not trained)'}"
    )
    parts: list[RenderableType] = [
        Text.assemble(
            (f"{label.mark} {snapshot.state(node)}", label_style(label)),
            f" · agent {node.id}{launched}{model} · {used}",
        ),
        Text.assemble(("goal     ", "bold"), clean(node.goal)),
    ]
    if node.context is not None:
        parts.append(Text.assemble(("context  ", "bold"), one_line(node.context)))
    if node.returns is not None:
        parts.append(Text.assemble(("returns  ", "bold"), one_line(node.returns)))
    happened = happenings_to(node, tree)
    before = -math.inf
    for step in node.steps:  # what happened before a step's model call was recorded stands above the step
        own = [each for each in happened if each.step == step.number]
        until = min((call.time for call in step.model_calls), default=before)
        others = [each for each in between(happened, before, until) if each.step is None]
        parts += (happening_line(each, tree, alone=True) for each in others)
        parts += _step_in_full(step)
        parts += (_indented(happening_line(each, tree, alone=True)) for each in own)
        before = max(before, until)
    steps = {step.number for step in node.steps}
    left = [each for each in happened if (each.time >= before if each.step is None else each.step not in steps)]
    parts += (happening_line(each, tree, alone=True) for each in left)
    parts.append(Rule(style="dim"))
    if node.finished:
        parts.append(Text.assemble(("result   ", "bold"), clean(_spelled(node.result))))
    elif node.reason is not None:
        parts.append(Text.assemble(("reason   ", "bold"), clean(node.reason)))
    if node.score is not None or node.score_status is not None:
        given = "unknown" if node.score is None else f"{node.score:g}"
        parts.append(
            Text.assemble(("score    ", "bold"), f"{given} ({one_line(f'{node.score_status} by {node.score_source}')})")
        )
    if node.children:
        parts.append(Text.assemble(("children ", "bold"), ", ".join(child.id for child in node.children)))
    return parts


def _step_in_full(step: Step) -> Iterator[RenderableType]:
    yield Rule(f"step {step.number}", style="dim", align="left")
    for model_call in step.model_calls:
        yield from _model_call_in_full(model_call)
    if step.cell is not None:
        took = seconds(max(0.0, step.cell.time - step.cell.started))
        yield Text(f"cell: ({one_line(step.cell.status, 80)}, {took})", style="bold magenta")
        code = Syntax("", "python", background_color="default").highlight(clean(step.cell.code))
        code.rstrip()
        yield _indented(code)
    for host_call in sorted(step.calls, key=lambda each: each.call):
        arguments = [one_line(value, 80) for value in host_call.args]
        arguments += [
            f"{one_line(key, 80)}={one_line(value, 80)}" for key, value in host_call.kwargs.items() if value is not None
        ]
        outcome = f"raised {host_call.error}" if host_call.error is not None else host_call.result
        shared = ", shared" if host_call.shared else ""
        who = f" [agent {one_line(host_call.child, 80)}{shared}]" if host_call.child is not None else ""
        line = f"{one_line(host_call.name, 80)}({', '.join(arguments)}){who} → {one_line(outcome)}"
        yield _indented(Text(line, style="cyan"))
    if step.cell is not None:
        for text, style in ((step.cell.output, ""), (step.cell.error or "", "red")):
            if text:
                yield _indented(Text(clean(text.rstrip("\n")), style=style))


def _model_call_in_full(called: ModelCalled) -> Iterator[RenderableType]:
    if called.restart:
        yield Text("The conversation was compacted. A new one begins:", style="dim")
    for message in called.messages:
        yield Text(f"{one_line(message.role, 80)}:", style="bold blue")
        yield _indented(Text(clean(message.content)))
    usage, took = called.usage, seconds(max(0.0, called.time - called.started))
    who = "assistant" if called.purpose == STEP else f"assistant, {one_line(called.purpose, 80)}"
    yield Text(f"{who}: ({usage.prompt_tokens:,} + {usage.completion_tokens:,} tokens, {took})", style="bold green")
    yield _indented(Text(clean(called.text)))
    for call in called.tool_calls:
        yield _indented(Text(clean(f"{call.name}({call.arguments})")))


def _indented(text: Text) -> Text:
    """Each line two columns in (rich's Padding would fill every line up with spaces)."""
    return Text("  ") + Text("\n  ").join(text.split("\n", allow_blank=True))


def _spelled(value: Any) -> str:
    return value if isinstance(value, str) else as_json(value)


def _tree_data(tree: ExecutionTree, path: Path) -> dict[str, Any]:
    critical = tree.critical_path if tree.nodes else None
    return {
        "run": tree.run,
        "trace": str(path),
        "model": tree.model,
        "interface": tree.interface,
        "group": tree.group,
        "seed": tree.seed,
        "started": tree.started,
        "duration": tree.duration,
        "complete": tree.complete,
        "usage": asdict(tree.usage),
        "usage_by_model": {name: asdict(usage) for name, usage in tree.usage_by_model.items()},
        "max_depth": tree.max_depth,
        "launches": tree.launches,
        "refused_launches": tree.refused_launches,
        "shared_launches": tree.shared_launches,
        "concurrent_share": tree.concurrent_share,
        "critical_path": critical and {"seconds": critical.seconds, "nodes": [node.id for node in critical.nodes]},
        "limits": tree.limits,
        "settings": tree.settings,
        "resumptions": [asdict(each) for each in tree.resumptions],
        "steered": [asdict(each) for each in tree.steered],
        "approvals": [asdict(each) for each in tree.approvals],
        "nodes": [_node_data(node, steps=False) for node in tree.walk()],
    }


def _node_data(node: Node, *, steps: bool) -> dict[str, Any]:
    data: dict[str, Any] = {
        "id": node.id,
        "parent": node.parent,
        "depth": node.depth,
        "model": node.model,
        "trainable": node.trainable,
        "goal": node.goal,
        "status": node.status.value,
        "result": node.result,
        "reason": node.reason,
        "score": node.score,
        "score_status": node.score_status,
        "steps": len(node.steps),
        "usage": asdict(node.usage),
        "total_usage": asdict(node.total_usage),
        "started": node.started,
        "duration": node.duration,
        "launched_at": node.launched_at and node.launched_at._asdict(),
        "children": [child.id for child in node.children],
    }
    if steps:
        data |= {"context": node.context, "returns": node.returns, "steps": [_step_data(step) for step in node.steps]}
    return data


def _step_data(step: Step) -> dict[str, Any]:
    return {
        "step": step.number,
        **({} if step.summary is None else {"summary": asdict(step.summary)}),
        "model": step.model and asdict(step.model),
        "cell": step.cell and asdict(step.cell),
        "calls": [asdict(call) for call in step.calls],
    }
