"""`rao trace export`: recorded trees as rows of tokens with their credit, for other trainers."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recursive_agent.errors import ConfigurationError

from .text import clean, count
from .trace import trace_dir

if TYPE_CHECKING:
    from rao_rl.credit import Credits
    from rao_rl.samples import Sample


def export(
    traces: Annotated[
        Path | None, typer.Argument(help="A trace, or a folder [RAO_TRACE_DIR, traces].", show_default=False)
    ] = None,
    out: Annotated[Path, typer.Option(help="A .parquet or .jsonl file.", metavar="FILE")] = Path("rows.parquet"),
    reward: Annotated[str, typer.Option(help="local or root.", metavar="R")] = "local",
    delegation_bonus: Annotated[
        float, typer.Option("--lambda", "--delegation-bonus", help="Delegation bonus.", metavar="L")
    ] = 0.0,
    baseline: Annotated[str, typer.Option(help="root, root_success, depth, goal.", metavar="B")] = "root",
    depth_weighting: Annotated[str, typer.Option(help="inverse_frequency or none.", metavar="W")] = "inverse_frequency",
    max_length: Annotated[int | None, typer.Option(help="Leave out longer agents.", metavar="N")] = None,
) -> None:
    """Write the sampled tokens of recorded trees as rows for other trainers.

    Example: rao trace export traces/ --out rows.parquet

    Columns are named as in TRL, advantages and weights those of `rao train`.
    """
    from rao_rl.credit import CreditConfig, assign
    from rao_rl.samples import check_target, forks, samples, sizes, tree_rows
    from rao_rl.samples import export as write
    from rao_rl.traces import read_groups

    check_target(out)
    settings: dict[str, Any] = {
        "reward": reward,
        "delegation_bonus": delegation_bonus,
        "baseline": baseline,
        "depth_weighting": depth_weighting,
        "max_length": max_length,
    }
    config = CreditConfig(**settings)
    place = traces or trace_dir()
    recorded = read_groups(place, min_group=config.min_group)
    rows = [tree_rows(tree) for tree in recorded.trees]
    credits = assign(recorded.trees, config, sizes=[sizes(of_tree) for of_tree in rows])
    made = samples(recorded.trees, rows, credits)
    for line in _funnel(credits, recorded.left_out, made, sum(map(forks, rows))):
        print(f"rao: {clean(line)}", file=sys.stderr)
    if not made:
        raise ConfigurationError(f"there is nothing to train on in {place}, so no file was written")
    print(write(made, out))


def _funnel(credits: Credits, left_out: Mapping[str, int], made: Sequence[Sample], forked: int) -> Iterator[str]:
    """What was read, what is left of it, and why the rest is not."""
    funnel = credits.funnel
    lost = {**left_out, **funnel.dropped_rollouts}
    read = funnel.rollouts + sum(left_out.values())
    yield (
        f"{count(read, 'run')} in {count(funnel.groups, 'group')}: {funnel.rollouts_scored:,} scored, "
        f"{funnel.rollouts_trained:,} exported{_reasons(lost)}"
    )
    yield (
        f"{count(funnel.nodes, 'agent')}: {funnel.nodes_scored:,} scored, {funnel.nodes_trained:,} exported"
        f"{_reasons(funnel.dropped)}"
    )
    tokens = sum(len(sample) for sample in made)
    yield (
        f"{count(len(made), 'row')} ({count(forked, 'fork')} in all agents): {count(tokens, 'token')}, "
        f"{credits.tokens:,} of them sampled"
    )


def _reasons(lost: Mapping[str, int]) -> str:
    told = ", ".join(f"{number:,} {reason.replace('_', ' ')}" for reason, number in lost.items() if number)
    return f"; left out: {told}" if told else ""
