"""The results of an evaluation that is over: read from its files, and checked before two of them are compared."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recursive_agent.errors import ConfigurationError

from .log import read_attempts
from .outcome import Attempt

_HERE = "data"
"""The argument of an environment that says where the copy of its data lies on this machine: another path is no other task."""


@dataclass(frozen=True, slots=True)
class Results:
    """Attempts, and the settings that they were made with (`environment`, `split`, `seed`, `model`, …)."""

    path: Path
    about: Mapping[str, Any]
    attempts: list[Attempt]

    @property
    def tasks(self) -> set[str]:
        """Ids of the tasks that were attempted."""
        return {attempt.task for attempt in self.attempts}


def read_results(path: Path) -> Results:
    """The results in a file of `rao eval --attempts` or `--out`.

    Raises ConfigurationError if the file cannot be read, is another one, or has no attempts.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read ({error.strerror})") from error
    whole = _whole(data)
    if whole is None:
        about, attempts = read_attempts(path, data)
    else:
        about = {name: value for name, value in whole.items() if name not in _FIGURES}
        try:
            attempts = [Attempt.from_row(row) for row in whole["attempts"]]
        except (TypeError, AttributeError) as error:
            raise ConfigurationError(f"{path} is not a file of `rao eval --out` ({error})") from None
    if not attempts:
        raise ConfigurationError(f"{path} contains no attempts")
    return Results(path, about, attempts)


def check_comparable(first: Results, second: Results) -> None:
    """Raises ConfigurationError unless both are about the same tasks, scored in the same way.

    The environment must be the same, with the same arguments. If the split, the seed, or the path of the data differ, the
    tasks must be the same ones, by their ids.
    """

    def refuse(name: str, before: Any, after: Any, more: str = "") -> None:
        raise ConfigurationError(
            f"{first.path} and {second.path} cannot be compared: {name} is {before} in the first and {after} in the "
            f"second{more}"
        )

    before, after = (each.about.get("environment") for each in (first, second))
    if before != after:
        refuse("the environment", before, after)
    arguments = [dict(each.about.get("environment_arguments") or {}) for each in (first, second)]
    places = [each.pop(_HERE, None) for each in arguments]
    for name in sorted({*arguments[0], *arguments[1]}):
        values = [each.get(name, "the default") for each in arguments]
        if values[0] != values[1]:
            refuse(f"--env-set {name}", values[0], values[1])
    if first.tasks == second.tasks:
        return
    for name, values in (
        ("the split", [each.about.get("split") for each in (first, second)]),
        ("the seed", [each.about.get("seed") for each in (first, second)]),
        (f"--env-set {_HERE}", places),
    ):
        if values[0] != values[1]:
            refuse(name, values[0], values[1], ", and their tasks are not the same")
    if not first.tasks & second.tasks:
        raise ConfigurationError(f"{first.path} and {second.path} cannot be compared: they have no task in common")


_FIGURES = ("prices", "summary", "overall", "between_modes", "attempts")
"""What a report holds beside the settings."""


def _whole(data: bytes) -> dict[str, Any] | None:
    """The report that is the whole of a file; None for another file."""
    try:
        whole = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return whole if isinstance(whole, dict) and isinstance(whole.get("attempts"), list) else None
