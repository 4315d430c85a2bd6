"""Learning curves from the metrics files of training runs: read, averaged over seeds, smoothed."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeGuard

import numpy as np
from numpy.typing import NDArray

from recursive_agent.errors import ConfigurationError

Axis = Literal["step", "tokens"]
STEP = "step"
TOKENS = "rao/generated_tokens"
SKIPPED = "rao/skipped"
Metrics = Mapping[int, Mapping[str, float]]
"""The figures of one run by optimizer step."""


@dataclass(frozen=True, slots=True)
class Curve:
    """One metric of one or several runs (seeds): all arrays have the shape [points].

    `low` and `high` are the least and the greatest value of the runs at that x. `measured`: every point was measured in
    every run; otherwise values between a run's own points are interpolated.
    """

    x: NDArray[np.float64]
    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    runs: int
    measured: bool


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics file (JSONL) that have a step, as they stand; without a partial last line.

    Raises ConfigurationError, naming file and line, for any other file.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read ({error.strerror})") from error
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            if number == len(lines):  # no newline follows: the writer was killed, or is writing it now
                break
            raise ConfigurationError(f"{path}, line {number}: a metrics file must have one JSON object on each line")
        if is_figure(row.get(STEP)):
            rows.append(row)
    return rows


def read_metrics(path: Path) -> dict[int, dict[str, float]]:
    """The figures of a metrics file (JSONL) by step. If a step was written twice (resumed runs), the last one counts.

    A batch that was skipped, since it taught nothing, has the number of the step before it: its figures stand only where that
    step has none, and `rao/skipped` counts the batches. Ignores rows without a step, values that are not finite numbers, and
    a partial last line. Raises ConfigurationError, naming file and line, for any other file.
    """
    rows: dict[int, dict[str, float]] = {}
    for row in read_rows(path):
        figures = {key: float(value) for key, value in row.items() if is_figure(value)}
        step = rows.setdefault(int(figures[STEP]), {})
        if SKIPPED in figures:
            skipped = step.get(SKIPPED, 0.0) + figures[SKIPPED]
            rows[int(figures[STEP])] = {**figures, **step, SKIPPED: skipped}
        else:
            step.update(figures)
    if not rows:
        raise ConfigurationError(f'{path} contains no metrics: no line has a "{STEP}"')
    return dict(sorted(rows.items()))


def curve(runs: Sequence[Metrics], key: str, axis: Axis, window: int = 1) -> Curve | None:
    """Mean and range of `key` over `runs`; None if none has it.

    Ignores runs without it. The others are averaged over the range that all of them cover: from the latest start to the
    earliest end. Each run is first smoothed by a running mean over `window` of its own points.
    """
    lines = [line for line in (_line(run, key, axis) for run in runs) if line[0].size]
    if not lines:
        return None
    lines = [(x, running_mean(y, window)) for x, y in lines]
    first, last = max(x[0] for x, _ in lines), min(x[-1] for x, _ in lines)
    grid = np.unique(np.concatenate([x[(x >= first) & (x <= last)] for x, _ in lines]))
    if not grid.size:  # the runs do not overlap
        return None
    values = np.stack([np.interp(grid, x, y) for x, y in lines])
    measured = all(np.isin(grid, x).all() for x, _ in lines)
    return Curve(grid, values.mean(axis=0), values.min(axis=0), values.max(axis=0), len(lines), measured)


def running_mean(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Mean over the `window` (odd) points around each point; at the ends, over those that exist.

    Shape [points] → [points]. It is centred, so it does not shift the curve to the right.
    """
    if window < 2:
        return values
    total = np.concatenate([[0.0], np.cumsum(values)])
    at = np.arange(len(values))
    first, last = np.maximum(at - window // 2, 0), np.minimum(at + window // 2 + 1, len(values))
    mean: NDArray[np.float64] = (total[last] - total[first]) / (last - first)
    return mean


def _line(run: Metrics, key: str, axis: Axis) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    points = [
        (float(step) if axis == "step" else row[TOKENS], row[key])
        for step, row in run.items()
        if key in row and (axis == "step" or TOKENS in row)
    ]
    x, y = np.array(sorted(points), dtype=np.float64).reshape(-1, 2).T
    return x, y


def is_figure(value: Any) -> TypeGuard[float]:
    """Whether a value of a metrics file can be drawn: a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
