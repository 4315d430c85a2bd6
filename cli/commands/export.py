"""`rao trace export`: recorded trees as rows of tokens with their credit, for other trainers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rao_rl.credit import Baseline, CreditConfig, DepthWeighting, Reward
from recursive_agent.errors import ConfigurationError

from ..extras import needs
from ..folders import trace_dir
from ..messages import say
from ..text import count

if TYPE_CHECKING:
    from rao_rl.data.rows import CreditedBatch
    from recursive_agent.trace.folder import TraceState

_CREDIT = "How credit is assigned"
_OTEL = "OpenTelemetry"


def export(
    traces: Annotated[
        Path | None,
        typer.Argument(
            metavar="TRACES",
            help="A trace file, or a folder of traces with its sub-folders. Default: RAO_TRACE_DIR, else traces.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="File to write; the ending chooses the format: .parquet or .jsonl.")
    ] = Path("rows.parquet"),
    otel: Annotated[
        bool,
        typer.Option(
            "--otel",
            metavar="",
            help="Send the runs as OpenTelemetry traces to a collector; no file is written.",
            rich_help_panel=_OTEL,
        ),
    ] = False,
    otel_endpoint: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="The collector. Default: OTEL_EXPORTER_OTLP_ENDPOINT, else http://localhost:4318.",
            rich_help_panel=_OTEL,
        ),
    ] = None,
    otel_content: Annotated[
        bool,
        typer.Option(
            "--otel-content",
            metavar="",
            help="Send goals, messages, code and results too.",
            rich_help_panel=_OTEL,
        ),
    ] = False,
    policy: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="In runs of several models: the name of the one whose agents are exported.",
        ),
    ] = None,
    max_length: Annotated[
        int | None,
        typer.Option(metavar="N", help="Leave out agents with a row of more than N tokens. Default: no limit."),
    ] = None,
    reward: Annotated[
        Reward,
        typer.Option(
            metavar="NAME",
            help="Reward each agent for its own goal (local), or for the goal of the root (root).",
            rich_help_panel=_CREDIT,
        ),
    ] = "local",
    delegation_bonus: Annotated[
        float,
        typer.Option(
            "--lambda",
            "--delegation-bonus",
            metavar="X",
            help="Add X times the mean score of an agent's sub-agents to its reward.",
            rich_help_panel=_CREDIT,
        ),
    ] = 0.0,
    baseline: Annotated[
        Baseline,
        typer.Option(
            metavar="NAME",
            help="Compare an agent, in the other attempts at the task, with the reward of the root (root), with that reward "
            "without the bonus (root_success), or with agents at the same depth (depth) or with the same goal (goal); or use "
            "another scheme (see docs/training.md).",
            rich_help_panel=_CREDIT,
        ),
    ] = "root",
    depth_weighting: Annotated[
        DepthWeighting,
        typer.Option(
            metavar="NAME",
            help="Weights of agents: the same sum at each depth (inverse_frequency), 1 for each agent (none), or smaller for "
            "deeper agents (discount).",
            rich_help_panel=_CREDIT,
        ),
    ] = "inverse_frequency",
    depth_discount: Annotated[
        float,
        typer.Option(
            metavar="G",
            help="With --depth-weighting discount: the weight of an agent as a multiple of its parent's; above 0, up to 1.",
            rich_help_panel=_CREDIT,
        ),
    ] = 1.0,
) -> None:
    """Write the sampled tokens of recorded runs to a file for other trainers.

    [bold]Examples[/]
      rao trace export traces/ --out rows.parquet
      rao trace export traces/ --otel

    The columns have TRL's names; advantages and weights are computed as in
    `rao train`. Score the runs first, and record them with --interface tokens.
    With --otel, each run is sent to a collector of OpenTelemetry instead. Sending a
    run again changes nothing there: its ids follow from the run.
    """
    if otel:
        with needs("otel", "--otel"):
            from ..spans import send
        send(traces or trace_dir(), endpoint=otel_endpoint, content=otel_content or None)
        return
    if otel_endpoint is not None or otel_content:
        raise ConfigurationError("--otel-endpoint and --otel-content work only with --otel: add it, or leave them out")
    from rao_rl.data.folder import read_groups
    from rao_rl.data.rows import with_credit
    from rao_rl.data.table import check_target
    from rao_rl.data.table import export_rows as write
    from rao_rl.errors import DataError

    check_target(out)
    config = CreditConfig(
        reward=reward,
        delegation_bonus=delegation_bonus,
        baseline=baseline,
        depth_weighting=depth_weighting,
        depth_discount=depth_discount,
        max_length=max_length,
    )
    place = traces or trace_dir()
    recorded = read_groups(place, min_group=config.least_group, policy=policy)
    batch = with_credit(recorded.rows, config)
    for line in _funnel(batch, recorded.left_out):
        say(line)
    if not batch.samples:
        raise DataError(f"no agent in {place} can be trained on, for the reasons above, so no file was written")
    print(write(batch.samples, out))


def _funnel(batch: CreditedBatch, left_out: Mapping[TraceState, int]) -> Iterator[str]:
    """What was read, what is left of it, and why the rest is not."""
    funnel = batch.credits.funnel
    lost = {**{str(state): number for state, number in left_out.items()}, **funnel.dropped_rollouts}
    read = funnel.rollouts + sum(left_out.values())
    yield (
        f"{count(read, 'run')} in {count(funnel.groups, 'group')}: {funnel.rollouts_scored:,} scored, "
        f"{funnel.rollouts_trained:,} exported{_reasons(lost)}"
    )
    yield (
        f"{count(funnel.nodes, 'agent')}: {funnel.nodes_scored:,} scored, {funnel.nodes_trained:,} exported"
        f"{_reasons(funnel.dropped)}"
    )
    tokens = sum(map(len, batch.samples))
    yield (f"{count(len(batch.samples), 'row')}: {count(tokens, 'token')}, {batch.credits.tokens:,} of them sampled")
    if batch.forks:
        yield (
            f"{count(batch.forks, 'prompt')} did not continue the answer before: each begins a row of its own, which makes "
            "training slower"
        )


def _reasons(lost: Mapping[str, int]) -> str:
    listed = ", ".join(f"{number:,} {reason.replace('_', ' ')}" for reason, number in lost.items() if number)
    return f"; left out: {listed}" if listed else ""
