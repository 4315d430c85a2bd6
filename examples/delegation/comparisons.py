"""The comparisons that have results in this repository: one start (or one for each mode), and trained runs of both modes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from examples.delegation.specs import MODES, SPECS, start_row
from examples.figures import attempts
from examples.textcraft_rao import campaign as textcraft
from rao_rl import Attempt
from rao_rl.envs import Mode

EXAMPLES = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Recursive and single agents at the same tasks, before and after training with the same number of sampled tokens."""

    name: str
    example: str
    """Folder of examples/ that has the commands."""
    budget: int
    """Sampled tokens of each run."""
    levels: Sequence[str]
    """Levels that are counted."""
    trained: bool | None
    """Whether these levels were trained on; None: some of them."""
    start: Mapping[Mode, Sequence[Attempt]]
    runs: Mapping[Mode, Sequence[Sequence[Attempt]]]
    """Attempts of each seed."""
    metrics: Mapping[Mode, Sequence[Path]]
    """Metrics of the training of each seed."""


def all_comparisons(examples: Path = EXAMPLES) -> list[Comparison]:
    """Those of every example that has results."""
    return [*_textcraft(examples), *_oolong(examples), *_delegation(examples)]


def _delegation(examples: Path) -> Iterator[Comparison]:
    for name, spec in SPECS.items():
        folder = examples / "delegation" / "results" / name
        for budget in sorted(spec.budgets, reverse=True):
            files = {mode: sorted(folder.glob(f"{mode}-[0-9]/test-{budget}.jsonl")) for mode in MODES}
            if all(files.values()):
                break
        else:
            continue
        start = {mode: attempts(folder.parent / start_row(name) / "start" / f"test-{mode}.jsonl") for mode in MODES}
        label = ", ".join([f"`{spec.environment}`", *spec.arguments, *filter(None, [spec.note])])
        harder = [level for level in spec.tasks if level not in spec.trained]
        for trained, levels in ((True, list(spec.trained)), (False, harder)):
            if levels:
                yield _compared(label, "delegation", budget, levels, trained, start, files)


def _textcraft(examples: Path) -> Iterator[Comparison]:
    folder, budget = examples / "textcraft_rao" / "results", textcraft.BUDGETS[-1]
    arms: dict[Mode, str] = {"recursive": "rao", "single": "single"}
    files = {mode: sorted(folder.glob(f"{arm}-[0-9]/test-{budget}.jsonl")) for mode, arm in arms.items()}
    if all(files.values()):
        start = {mode: attempts(folder / "start" / f"test-{mode}-{textcraft.TEMPERATURE:g}.jsonl") for mode in MODES}
        yield _compared("`textcraft`", "textcraft_rao", budget, list(textcraft.LEVELS), True, start, files)


def _oolong(examples: Path) -> Iterator[Comparison]:
    """Arms with a start of their own for each mode, and a file for each length that was sampled as in training."""
    folder = examples / "oolong_rao" / "results"
    trained = folder.glob("code-recursive-[0-9]/rao*-T0.7.jsonl")
    budgets = {int(match[1]) for path in trained if (match := re.match(r"rao(\d+)-", path.name))}
    if not budgets:
        return
    budget = max(budgets)
    seeds = {mode: sorted(folder.glob(f"code-{mode}-[0-9]")) for mode in MODES}
    runs = {mode: [_joined(seed, f"rao{budget}-*-T0.7.jsonl") for seed in seeds[mode]] for mode in MODES}
    if not all(run for mode in MODES for run in runs[mode]) or not all(seeds.values()):
        return
    start = {mode: _joined(seeds[mode][0], "start-*-T0.7.jsonl") for mode in MODES}
    every = [found for mode in MODES for found in (start[mode], *runs[mode])]
    common = set.intersection(*({each.level for each in found} for found in every))
    levels = [level for level in dict.fromkeys(each.level for each in every[0]) if level in common]
    if not levels:
        return
    yield Comparison(
        name="`oolong-synth`",
        example="oolong_rao",
        budget=budget,
        levels=levels,
        trained=None,
        start={mode: _at(levels, start[mode]) for mode in MODES},
        runs={mode: [_at(levels, run, seed) for seed, run in enumerate(runs[mode])] for mode in MODES},
        metrics={mode: [seed / "metrics.jsonl" for seed in seeds[mode]] for mode in MODES},
    )


def _at(levels: Sequence[str], found: Sequence[Attempt], repeat: int = 0) -> list[Attempt]:
    return [replace(each, repeat=repeat) for each in found if each.level in levels]


def _joined(folder: Path, pattern: str) -> list[Attempt]:
    paths = sorted(folder.glob(pattern), key=lambda path: (len(path.name), path.name))  # 2k before 16k
    return [each for path in paths for each in attempts(path)]


def _compared(
    name: str,
    example: str,
    budget: int,
    levels: Sequence[str],
    trained: bool,
    start: Mapping[Mode, Sequence[Attempt]],
    files: Mapping[Mode, Sequence[Path]],
) -> Comparison:
    return Comparison(
        name=name,
        example=example,
        budget=budget,
        levels=levels,
        trained=trained,
        start={mode: _at(levels, found) for mode, found in start.items()},
        runs={
            mode: [_at(levels, attempts(path), seed) for seed, path in enumerate(paths)]
            for mode, paths in files.items()
        },
        metrics={mode: [path.parent / "metrics.jsonl" for path in paths] for mode, paths in files.items()},
    )
