"""What a run remembers of a divergence, so that it can be resumed: the batch that diverged is not trained again.

`rao train --resume` with a lower learning rate goes on from the last checkpoint. An online run passes over the batches of
attempts on which it diverged; a run on recorded traces takes other groups instead of those of the step (see `OfflineSteps`).
Trees that were sampled by weights after that checkpoint are set aside where the updates will be others: they would be taken
for those of the new weights.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from recursive_agent.trace.folder import read_trace, traces_below
from recursive_agent.trace.tree import ExecutionTree

from ..data.used_groups import forget_used
from ..errors import TrainingDiverged
from .folder import CHECKPOINTS, last_checkpoint

FILE = "diverged.jsonl"
_RESUME = "--resume"
SET_ASIDE = ".set-aside"
"""What the names of traces that are set aside end in."""
CHANGE_UPDATES = frozenset(
    f"update.{name}"
    for name in (
        *("learning_rate", "warmup_steps", "lr_scheduler_type", "lr_scheduler_kwargs"),
        *("weight_decay", "max_grad_norm", "bf16"),
    )
)
"""Settings that make other weights of the same batches."""
_LEVEL = ("constant", "constant_with_warmup", "inverse_sqrt")
"""Schedules of the learning rate that do not depend on the length of the run."""


@contextmanager
def noted(folder: Path, draw: Callable[[], int], *, write: bool = True) -> Iterator[None]:
    """Where training diverges within the block, write down the number of the batch (online) or step (offline), `draw()`."""
    try:
        yield
    except TrainingDiverged as error:
        if write:
            with (folder / FILE).open("a", encoding="utf-8") as file:
                file.write(json.dumps({"draw": draw(), "reason": str(error)}) + "\n")
        if _RESUME in str(error):
            raise
        raise TrainingDiverged(f"{str(error).rstrip('.')}. {advice(folder / CHECKPOINTS)}") from error


def advice(checkpoints: Path) -> str:
    """What to do after a divergence, as a sentence; `checkpoints` is the folder of the run's checkpoints."""
    if last_checkpoint(checkpoints) is None:
        return f"No step is saved yet: start again with {_RESUME} and a lower learning rate (--lr)."
    return f"Continue from the last checkpoint with {_RESUME} and a lower learning rate (--lr)."


def diverged_draws(folder: Path) -> Counter[int]:
    """How often the run in this folder diverged on each batch (online) or step (offline)."""
    draws: Counter[int] = Counter()
    path = folder / FILE
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            draws[int(json.loads(line)["draw"])] += 1
        except (ValueError, KeyError, TypeError):  # a torn last line
            continue
    return draws


def set_aside(traces: Path, step: int, changed: Collection[str], *, schedule: str) -> int:
    """Where one of the settings in `changed` makes other updates, take the trees of weights after `step` out of the run.

    The length of the run is such a setting where the `schedule` of the learning rate follows it.

    Their files stay, under another name. Returns their number. The steps after `step` may then take other groups than before.
    """
    of_length = () if schedule in _LEVEL else ("online.max_steps",)
    if not CHANGE_UPDATES.union(of_length) & set(changed) or not traces.is_dir():
        return 0
    forget_used(traces.parent, step, keep=diverged_draws(traces.parent))
    moved = 0
    for path in traces_below(traces):
        tree = read_trace(path).tree
        if tree is not None and (newest := _newest_version(tree)) is not None and newest > step:
            path.rename(path.with_name(path.name + SET_ASIDE))
            moved += 1
    return moved


def _newest_version(tree: ExecutionTree) -> int | None:
    """The newest version of the weights among the calls of a tree; None where versions are not numbers."""
    versions = [call.version for node in tree.nodes.values() for call in node.model_calls]
    return max((int(version) for version in versions if version is not None and version.isdecimal()), default=None)
