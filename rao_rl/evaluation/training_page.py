"""The folders of training runs → the data of the viewer's training page (`page_data(kind="training")`). No torch.

A run is what `rao train` writes: `metrics.jsonl`, `training.json`, `alarms.jsonl` and the traces of every batch. A run may be
going on, be killed, or have ended.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recursive_agent.errors import ConfigurationError

from ..data.used_groups import read_used
from .alarms import FROM_FIGURES, Alarm, alarms_of
from .curves import SKIPPED, STEP, TOKENS, is_figure, read_rows
from .metric_names import GROUPS, METRICS, Metric, metric
from .palette import LOOKS, look

METRICS_FILE, SETTINGS_FILE, ALARMS_FILE, TRACES = (
    "metrics.jsonl",
    "training.json",
    "alarms.jsonl",
    "traces",
)
ELAPSED = "time/elapsed"
_PARTS = ("time/wait", "time/push", "time/make", "time/train")
"""What a step of an online run takes, one after the other: older runs do not have the time since their start."""
_COUNTED = (TOKENS, "rao/total_tokens", ELAPSED)
"""What a skipped batch adds to."""
_DEEP = 3
"""Folders below a given one in which runs are looked for."""
_SHOWN = ("objective", "model", "environment", "credit.baseline", "update.learning_rate", "learning_rate", "traces")
_HIDDEN = (STEP, "epoch", "rao/batch")
Json = dict[str, Any]


def find_runs(places: Sequence[Path]) -> list[Path]:
    """The folders of runs at and below these places, or the metrics files themselves.

    Raises ConfigurationError, naming the place, where there is none.
    """
    found: list[Path] = []
    for place in places:
        if place.is_file() or is_run(place):
            here = [place]
        else:
            here = [path for path in _below(place, _DEEP) if is_run(path)] if place.is_dir() else []
        if not here:
            why = (
                f"it contains no {METRICS_FILE}, which rao train writes"
                if place.is_dir()
                else "there is no such folder"
            )
            raise ConfigurationError(f"{place} is not the folder of a training run: {why}")
        found += [path for path in here if path not in found]
    return found


def is_run(folder: Path) -> bool:
    """Whether a folder is that of a training run; it may not have come to its first step."""
    if (folder / METRICS_FILE).is_file():
        return True
    return (folder / SETTINGS_FILE).is_file() and "objective" in _settings(folder / SETTINGS_FILE)


def training_data(places: Sequence[Path], *, labels: Sequence[str] = ()) -> Json:
    """TRAINING of the runs at these places (see `find_runs`): one page that overlays them.

    Raises ConfigurationError for a place that is no run, and for a file that is no metrics file.
    """
    folders = find_runs(places)
    names = list(labels) if len(labels) == len(folders) else _names(folders)
    runs = [run_data(folder, label) for folder, label in zip(folders, names, strict=True)]
    return {
        "title": names[0] if len(runs) == 1 else f"{len(runs)} training runs",
        "groups": list(GROUPS),
        "metrics": [_described(name) for name in sorted({name for run in runs for name in run["values"]}, key=_place)],
        "looks": [
            {"colour": each.colour, "dark": each.dark, "dash": list(each.dash), "marker": each.marker}
            for each in map(look, range(3 * len(LOOKS)))
        ],
        "runs": runs,
    }


def run_data(folder: Path, label: str) -> Json:
    """One run: its figures by step, its alarms, and where its traces are.

    `x` are the steps, and the sampled tokens and seconds until each, where they are known.
    """
    file = folder if folder.is_file() else folder / METRICS_FILE
    folder = file.parent
    rows = read_rows(file) if file.is_file() else []
    steps, table = _by_step(rows)
    names = list(dict.fromkeys(name for row in table for name in row if name not in _HIDDEN))
    tokens = _carried([row.get(TOKENS) for row in table], steps)
    return {
        "label": label,
        "folder": str(folder),
        "ended": any("train_runtime" in row for row in rows),
        "objective": _settings(folder / SETTINGS_FILE).get("objective"),
        "settings": _some_settings(folder / SETTINGS_FILE),
        "x": {"step": steps, "tokens": tokens, "seconds": _seconds(table, steps)},
        "values": _values(names, table),
        "alarms": [
            {
                "step": each.step,
                "end": each.end,
                "name": each.name,
                "label": each.kind.label,
                "severity": each.kind.severity,
                "text": each.text,
            }
            for each in all_alarms(folder, rows)
        ],
        "traces": _traces(folder, rows),
    }


def _values(names: Sequence[str], table: Sequence[Json]) -> dict[str, list[float | None]]:
    """The figures of each metric, without metrics that have none."""
    columns = {name: [_rounded(row.get(name)) for row in table] for name in names}
    return {name: values for name, values in columns.items() if any(value is not None for value in values)}


def all_alarms(folder: Path, rows: Sequence[Mapping[str, Any]]) -> list[Alarm]:
    """The alarms that the figures show, and those that the run wrote down beside them, by step."""
    found = alarms_of([{name: value for name, value in row.items() if _is_number(value)} for row in rows])
    for row in _lines(folder / ALARMS_FILE):
        name, step, text = row.get("name"), row.get("step"), row.get("text")
        # Those of the figures come from the figures, which know their ends.
        if name not in FROM_FIGURES and isinstance(name, str) and isinstance(text, str) and is_figure(step):
            found.append(Alarm(int(step), name, text, int(step)))
    return sorted(found, key=lambda each: each.step)


def _is_number(value: Any) -> bool:
    """Whether a value is a number, finite or not: a file that others wrote may hold anything."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _by_step(rows: Sequence[Mapping[str, Any]]) -> tuple[list[int], list[Json]]:
    """The lines of each step as one. A skipped batch fills in only what its step lacks, and is counted."""
    found: dict[int, Json] = {}
    for row in rows:
        step = found.setdefault(int(row[STEP]), {})
        figures = {name: value for name, value in row.items() if _is_number(value) and name != STEP}
        if SKIPPED in figures:
            skipped = step.get(SKIPPED, 0.0) + 1.0
            counted = {name: figures[name] for name in _COUNTED if name in figures}
            found[int(row[STEP])] = {**figures, **step, **counted, SKIPPED: skipped}
        else:
            step.update(figures)
    steps = sorted(found)
    return steps, [found[step] for step in steps]


def _seconds(table: Sequence[Json], steps: Sequence[int]) -> list[float] | None:
    """Seconds of the run until each step: as they were measured, or the sum of the parts of its steps."""
    if any(is_figure(row.get(ELAPSED)) for row in table):
        return _carried([row.get(ELAPSED) for row in table], steps)
    if not any(name in row for row in table for name in _PARTS):
        return None
    total, found = 0.0, []
    for row in table:
        total += sum(value for name in _PARTS if is_figure(value := row.get(name)))
        found.append(round(total, 3))
    return found


def _carried(values: Sequence[Any], steps: Sequence[int]) -> list[float] | None:
    """Values that only grow, with those before in the place of those that are missing; None where all are."""
    if not any(map(is_figure, values)):
        return None
    found, last = [], 0.0
    for value in values:
        last = max(last, float(value)) if is_figure(value) else last
        found.append(round(last, 3))
    return found


def _rounded(value: Any) -> float | None:
    """Six digits, which no picture shows more of; None for what is not finite."""
    return float(f"{value:.6g}") if is_figure(value) else None


def _described(name: str) -> Json:
    found: Metric = metric(name)
    described = {
        "name": name,
        "label": found.label,
        "unit": found.unit,
        "group": found.group,
        "chart": found.chart if "*" not in found.chart else found.label,
        "series": found.series or found.label,
        "meaning": found.meaning,
    }
    if name.startswith("eval/success/"):
        level = name.removeprefix("eval/success/")
        described |= {"low": f"eval/success_low/{level}", "high": f"eval/success_high/{level}"}
        described |= {"count": f"eval/tasks/{level}"}
    return described


_ORDER = {name: place for place, name in enumerate(METRICS)}


def _place(name: str) -> tuple[int, int, str]:
    """Where a metric stands on the page: by its group, then as the list of metrics has it."""
    found = metric(name)
    general = next((place for pattern, place in _ORDER.items() if METRICS[pattern].meaning == found.meaning), 10**6)
    return GROUPS.index(found.group), general, name


def _traces(folder: Path, rows: Sequence[Mapping[str, Any]]) -> list[Json]:
    """The folders of traces of each batch that are kept, with the step that learnt from it."""
    if not (folder / TRACES).is_dir():
        return []
    used = read_used(folder)
    found = []
    for row in rows:
        batch = row.get("rao/batch")
        if not is_figure(batch):
            continue
        names = used[int(batch)].folders if int(batch) in used else [f"{int(batch):06d}"]
        for place in (folder / TRACES / name for name in names):
            files = sum(path.suffix == ".jsonl" for path in place.iterdir()) if place.is_dir() else 0
            if files:
                found.append(
                    {
                        "step": int(row[STEP]),
                        "folder": str(place),
                        "link": place.absolute().as_uri(),
                        "files": files,
                        "skipped": SKIPPED in row,
                    }
                )
    return found


def _names(folders: Sequence[Path]) -> list[str]:
    """Short names of runs that differ."""
    parts = [
        (path if path.is_dir() else path.parent if path.name == METRICS_FILE else path).absolute() for path in folders
    ]
    names = [path.name if path.is_dir() else path.stem for path in parts]
    if len(set(names)) == len(names):
        return names
    return [f"{path.parent.name}/{name}" for path, name in zip(parts, names, strict=True)]


def _below(folder: Path, deep: int) -> list[Path]:
    """Folders below this one, but for those inside runs."""
    found = []
    try:
        inside = sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink())
    except OSError:
        return []
    for path in inside:
        if is_run(path):
            found.append(path)
        elif deep > 1:
            found += _below(path, deep - 1)
    return found


def _settings(path: Path) -> Json:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _some_settings(path: Path) -> Json:
    """The settings that tell runs apart."""
    settings = _settings(path)
    chosen = {}
    for name in _SHOWN:
        value: Any = settings
        for part in name.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if isinstance(value, str | int | float):
            chosen[name.rpartition(".")[2]] = value
    return chosen


def _lines(path: Path) -> list[Json]:
    """The JSON objects of a file, without torn lines; [] where it is not there."""
    found = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return []
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            found.append(row)
    return found
