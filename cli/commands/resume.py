"""`rao resume`: go on with a recorded run."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

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
from ..models import BaseUrlOption, ModelOption, RequestTimeoutOption
from ..progress import QuietOption
from ..running import JsonOption, McpOption, TraceDirOption, carry_out, plan_resumption
from ..telemetry import OtelOption
from ..types import parse_type


def resume(
    trace: Annotated[
        str,
        typer.Argument(metavar="TRACE", help="A trace file, a folder (its newest trace) or a part of a run's id."),
    ],
    diverged: Annotated[
        str,
        typer.Option(
            "--on-divergence",
            metavar="stop|redo|keep",
            help="If code does not do again what is recorded: stop, redo the agent's steps from there, or keep to the record.",
        ),
    ] = "stop",
    returns: Annotated[
        str | None, typer.Option(metavar="TYPE", help="Type of the result, if the run was asked for one.")
    ] = None,
    model: ModelOption = None,
    base_url: BaseUrlOption = None,
    request_timeout: RequestTimeoutOption = None,
    max_depth: MaxDepthOption = None,
    max_agents: MaxAgentsOption = None,
    max_steps: MaxStepsOption = None,
    max_tokens: MaxTokensOption = None,
    timeout: TimeoutOption = None,
    mcp: McpOption = None,
    trace_dir: TraceDirOption = None,
    json_output: JsonOption = False,
    otel: OtelOption = False,
    quiet: QuietOption = False,
    view: ViewOption = False,
    view_port: ViewPortOption = None,
    sandbox: SandboxOption = "process",
    require: RequireOption = None,
) -> None:
    """Go on with a run that was killed or cancelled, hit a limit, or lost its endpoint.

    [bold]Examples[/]
      rao resume traces/
      rao resume traces/RUN.jsonl --max-tokens 2000000

    No model call that was recorded is sent again. The limits are those of the run,
    except those set here, and count what was used before; the time begins anew.
    The trace goes on in its file. To try another way from one of its points, see
    rao run --resume-from. If its agents had the tools of MCP servers, name these with
    --mcp; with other tools it goes on in Python: Agent(tools=...).resume(TRACE).

    Exit status: as for rao run.
    """
    traces = default_trace_dir(trace_dir)
    limits = chosen_limits(
        max_depth=max_depth, max_agents=max_agents, max_steps=max_steps, max_tokens=max_tokens, timeout=timeout
    )
    plan = plan_resumption(
        trace,
        traces,
        limits=limits,
        model=model,
        base_url=base_url,
        request_timeout=request_timeout,
        isolation={"sandbox": sandbox, "require": parse_require(require, sandbox)},
        options={"diverged": diverged, "returns": None if returns is None else parse_type(returns)},
        quiet=quiet,
        mcp=mcp,
    )
    page = live_page(traces, view=view, port=view_port, file=None if plan.resumed is None else plan.resumed["trace"])
    raise typer.Exit(carry_out(replace(plan, page=page), traces, json_output=json_output, quiet=quiet, otel=otel))
