"""`rao eval --compare`: two result files, paired by task, in tables and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from rao_rl.evaluation.compare import Difference, differences
from rao_rl.evaluation.results import Results, check_comparable, read_results
from recursive_agent.errors import ConfigurationError

from .table import DIFFERENCE_NOTES, difference_table
from .text import clean, count


def compare_files(first: Path, second: Path) -> tuple[Results, Results, list[Difference]]:
    """Both results and what differs. Raises ConfigurationError if they are not about the same tasks."""
    one, other = read_results(first), read_results(second)
    check_comparable(one, other)
    found = differences(one.attempts, other.attempts)
    if not found:
        modes = [", ".join(dict.fromkeys(item.mode for item in side.attempts)) for side in (one, other)]
        raise ConfigurationError(
            f"{first} and {second} cannot be compared: the first has the mode {modes[0]}, the second {modes[1]}"
        )
    order = list(dict.fromkeys(item.level for item in one.attempts))  # of the levels, easiest first
    place = {level: number for number, level in enumerate(order)}
    found.sort(key=lambda item: (item.mode, place.get(item.level, len(place))))
    return one, other, found


def as_data(first: Results, second: Results, found: Sequence[Difference]) -> dict[str, Any]:
    """Everything as plain data."""
    return {
        "first": {"file": str(first.path), **first.about},
        "second": {"file": str(second.path), **second.about},
        "differences": [asdict(item) for item in found],
    }


def comparison(first: Results, second: Results, found: Sequence[Difference]) -> list[Table | Text]:
    """The differences as a table, with what the reader must know of them."""
    names = [f"from  {first.path}", f"to    {second.path}"]
    settings = [_difference(name, first.about, second.about) for name in {**first.about, **second.about}]
    head = [*names, *(line for line in settings if line)]
    notes = [line for item in _widest(found) for line in _left_out(item)]
    return [
        Text("\n".join(map(clean, head))),
        Text(),
        difference_table(found, "Success on the tasks of both files"),
        Text("\n".join([*DIFFERENCE_NOTES, *notes]), style="dim"),
    ]


def _difference(name: str, first: Mapping[str, Any], second: Mapping[str, Any]) -> str:
    before, after = first.get(name), second.get(name)
    return "" if before == after else f"{name.replace('_', ' ')}: {before} → {after}"


def _widest(found: Sequence[Difference]) -> list[Difference]:
    """The difference over all levels of each mode: the last one of it."""
    return list({item.mode: item for item in found}.values())


def _left_out(item: Difference) -> list[str]:
    lines = []
    if item.only_first or item.only_second:
        lines.append(
            f"{item.mode}: left out, as only one file has them: {count(item.only_first, 'task')} of the first, "
            f"{item.only_second:,} of\nthe second"
        )
    if item.unscored:
        lines.append(f"{item.mode}: left out, since one attempt has no score: {count(item.unscored, 'task')}")
    if item.first_timed_out or item.second_timed_out:
        lines.append(
            f"{item.mode}: tasks with an attempt that the time limit ended: {item.first_timed_out:,} → "
            f"{item.second_timed_out:,}"
        )
    return lines
