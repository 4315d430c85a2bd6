"""How far a judge agrees with known scores, as a table and as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rich.table import Table

from rao_rl.evaluation.statistics import wilson
from rao_rl.scoring.calibration import Agreement, Calibration

from .text import clean

_COLUMNS = ("agents", "judged", "both\npass", "judge\nonly", "known\nonly", "both\nfail", "accuracy", "95 %", "kappa")


def calibration_table(calibration: Calibration, judge: str) -> Table:
    """A row for each role, each depth and all agents."""
    table = Table(title=f"{clean(judge)} against known scores", title_justify="left", box=None, padding=(0, 1, 0, 0))
    for name in _COLUMNS:
        table.add_column(name, no_wrap=True, justify="left" if name == "agents" else "right")
    for name, item in _rows(calibration).items():
        counts = (item.nodes, item.both, item.judge_only, item.verifier_only, item.neither)
        low, high = wilson(item.both + item.neither, item.nodes)
        bounds = f"{low:.2f}–{high:.2f}" if item.nodes else "–"
        table.add_row(name, *map(str, counts), _figure(item.accuracy), bounds, _figure(item.kappa))
    return table


def calibration_data(calibration: Calibration) -> dict[str, Any]:
    """The same for programs; `depths` by depth."""
    roles = {name.replace("-", "_"): item for name, item in _rows(calibration, depths=False).items()}
    depths = {str(depth): _figures(item) for depth, item in calibration.depths.items()}
    return {**{name: _figures(item) for name, item in roles.items()}, "depths": depths}


def nothing_compared(calibration: Calibration) -> str | None:
    """Why there is nothing to compare; None if there is something."""
    if calibration.all.nodes:
        return None
    unjudged = calibration.all.unjudged
    why = f"the judge failed on all {unjudged}" if unjudged else "no agent here finished and has a score but a judge's"
    return f"nothing to compare: {why}"


def _rows(calibration: Calibration, *, depths: bool = True) -> Mapping[str, Agreement]:
    by_depth = {f"depth {depth}": item for depth, item in calibration.depths.items()} if depths else {}
    return {
        "roots": calibration.roots,
        "sub-agents": calibration.sub_agents,
        **by_depth,
        "leaves": calibration.leaves,
        "delegators": calibration.delegators,
        "all": calibration.all,
    }


def _figures(agreement: Agreement) -> dict[str, object]:
    low, high = wilson(agreement.both + agreement.neither, agreement.nodes)
    return {
        **asdict(agreement),
        "nodes": agreement.nodes,
        "accuracy": agreement.accuracy,
        "accuracy_low": low,
        "accuracy_high": high,
        "kappa": agreement.kappa,
    }


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
