"""Recorded trees → rows of the tokens that were sampled, each with what the trainer must know of it.

Nothing is tokenised here: ids and log-probs are those of the model calls ("Exact tokens" of the specification). The
turns of a node make one row as long as each prompt goes on where the last answer ended; each fork begins a new row, in
whose prompt what was sampled before the fork is given, so that every sampled token is trained exactly once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from recursive_agent.errors import ConfigurationError
from recursive_agent.trace.schema import ModelCalled
from recursive_agent.trace.tree import ExecutionTree, Node

from .credit import Credits, Size

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIXES = (".parquet", ".jsonl")
"""Kinds of files that `export` writes."""
_ROW_GROUP = 8192
"""Rows that a reader of parquet must hold at a time."""


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One stretch of a node's conversation without a fork. The arrays have shape [S], the mask is True at least once."""

    input_ids: npt.NDArray[np.int32]
    completion_mask: npt.NDArray[np.bool_]
    """True where the policy sampled the token."""
    logprobs: npt.NDArray[np.float32]
    """Log-prob (nats) of each sampled token under the policy that sampled it, at the place of the token; else 0."""
    version: str | None
    """Model version of its calls: the lowest where all are numbers, else that of the first call."""

    def __len__(self) -> int:
        return len(self.input_ids)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sample:
    """A row to train on. All rows of a node have its advantage and weight."""

    row: Row
    advantage: float
    """A(τ) of the node (Eq. 3)."""
    weight: float
    """Depth weight w_d (Eq. 4), times the scale of node sub-sampling."""
    group: str
    """Id of the group; of the run, where the run is in none."""
    rollout: str
    """Id of the run."""
    node: str
    parent: str | None
    depth: int

    @property
    def input_ids(self) -> npt.NDArray[np.int32]:
        """The row's tokens, [S]."""
        return self.row.input_ids

    @property
    def completion_mask(self) -> npt.NDArray[np.bool_]:
        """True where the policy sampled the token, [S]."""
        return self.row.completion_mask

    @property
    def logprobs(self) -> npt.NDArray[np.float32]:
        """Log-probs under the behaviour policy, [S], 0 where nothing was sampled."""
        return self.row.logprobs

    @property
    def coefficient(self) -> float:
        """What every sampled token's log-prob is multiplied with: w_d · A (Eq. 5)."""
        return self.weight * self.advantage

    def __len__(self) -> int:
        return len(self.row)


def node_rows(node: Node) -> list[Row]:
    """The rows of a node in order; none where nothing was sampled.

    Raises ConfigurationError for a model call without exact tokens: text alone, log-probs that do not belong to the ids
    or are not finite.
    """
    rows: list[Row] = []
    calls: list[_Call] = []
    seen: tuple[int, ...] = ()
    for step in node.steps:
        if step.model is None:
            continue
        call = _exact(step.model)
        if call.prompt[: len(seen)] != seen:
            rows += _merged(calls)
            calls = []
        calls.append(call)
        seen = call.prompt + call.completion
    return rows + _merged(calls)


def tree_rows(tree: ExecutionTree) -> dict[str, list[Row]]:
    """The rows of all nodes, by node id, in launch order. Raises ConfigurationError, naming the run, as `node_rows`."""
    try:
        return {node.id: node_rows(node) for node in tree.nodes.values()}
    except ConfigurationError as error:
        raise ConfigurationError(f"run {tree.run}, {error}") from error


def sizes(rows: Mapping[str, Sequence[Row]]) -> dict[str, Size]:
    """What credit assignment must know of a tree's rows: by node, the longest row and the sampled tokens."""
    return {
        node: Size(
            longest_row=max(map(len, own), default=0),
            completion_tokens=sum(int(np.count_nonzero(row.completion_mask)) for row in own),
        )
        for node, own in rows.items()
    }


def forks(rows: Mapping[str, Sequence[Row]]) -> int:
    """How often a conversation of a tree did not go on where it had ended."""
    return sum(max(0, len(own) - 1) for own in rows.values())


def samples(
    trees: Sequence[ExecutionTree], rows: Sequence[Mapping[str, Sequence[Row]]], credits: Credits
) -> list[Sample]:
    """The rows of the nodes to train, in the order of `credits`. `rows` are the `tree_rows` of `trees`, in order."""
    made: list[Sample] = []
    for credit in credits.nodes:
        tree = trees[credit.tree]
        made += (
            Sample(
                row=row,
                advantage=credit.advantage,
                weight=credit.weight * credit.scale,
                group=tree.run if tree.group is None else tree.group,
                rollout=tree.run,
                node=credit.node,
                parent=tree.nodes[credit.node].parent,
                depth=credit.depth,
            )
            for row in rows[credit.tree][credit.node]
        )
    return made


def to_table(samples: Sequence[Sample]) -> pa.Table:
    """One row per sample, by TRL's names where TRL has one. Raises ConfigurationError where pyarrow is missing.

    `input_ids`, `completion_mask` (1: sampled, train on it; 0: given), `old_log_probs` (0 where given), `advantage`,
    `model_version` and `group_id` are the fields of `RolloutSample` in `trl.experimental.async_grpo`, whose rows, like
    ours, hold whole conversations: the three lists have one length. `GRPOTrainer` cuts rows in two and names them
    otherwise. With `start = completion_mask.index(1)`, its `prompt_ids` are `input_ids[:start]`, and from `start` on
    `completion_ids` are `input_ids`, `sampling_per_token_logps` are `old_log_probs` and `tool_mask` is
    `completion_mask` (its own `completion_mask` hides padding from attention and has to be 1 throughout).

    Ours are `weight`, `coefficient` (advantage · weight: for a trainer that knows no weights, this is the advantage),
    `rollout`, `node`, `parent` (null: the root) and `depth`. Versions and groups are text, while TRL counts them.
    """
    pa = _pyarrow()
    lists = {"input_ids": pa.int32(), "completion_mask": pa.int8(), "old_log_probs": pa.float32()}
    texts = ("model_version", "group_id", "rollout", "node", "parent")
    columns: dict[str, Any] = {}
    for name, values in _columns(samples).items():
        if name in lists:
            offsets = np.cumsum([0, *map(len, values)])
            flat = np.concatenate(values) if values else np.empty(0)
            columns[name] = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(flat, lists[name]))
        else:
            kind = pa.string() if name in texts else pa.int32() if name == "depth" else pa.float64()
            columns[name] = pa.array(values, kind)
    return pa.table(columns)


def check_target(path: str | Path) -> Path:
    """The path, where `export` can write rows there. Raises ConfigurationError for another suffix, and without pyarrow."""
    target = Path(path)
    if target.suffix not in SUFFIXES:
        raise ConfigurationError(f"rows are written to {' or '.join(SUFFIXES)} files, not to {target.name}")
    if target.suffix == ".parquet":
        _pyarrow()
    return target


def export(samples: Sequence[Sample], path: str | Path) -> Path:
    """Write the columns of `to_table` to a .parquet or .jsonl file, which takes the place of an old one when it is whole.

    Missing folders are made. Raises ConfigurationError as `check_target`, and where the file cannot be written.
    """
    target = check_target(path)
    part = target.with_name(f"{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.suffix == ".parquet":
            import pyarrow.parquet as pq

            pq.write_table(to_table(samples), part, compression="zstd", row_group_size=_ROW_GROUP)
        else:
            _write_lines(samples, part)
        part.replace(target)
    except OSError as error:
        raise ConfigurationError(f"{target} cannot be written ({error.strerror or error})") from error
    finally:
        with suppress(OSError):
            part.unlink()
    return target


def _pyarrow() -> Any:
    try:
        import pyarrow
    except ModuleNotFoundError as error:
        raise ConfigurationError(f"parquet needs pyarrow: pip install 'rao[train]', or write {SUFFIXES[1]}") from error
    return pyarrow


def _write_lines(samples: Sequence[Sample], path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        columns = _columns(samples)
        for values in zip(*columns.values(), strict=True):
            record = {
                name: value.tolist() if isinstance(value, np.ndarray) else value
                for name, value in zip(columns, values, strict=True)
            }
            file.write(json.dumps(record) + "\n")


def _columns(samples: Sequence[Sample]) -> dict[str, list[Any]]:
    return {
        "input_ids": [sample.input_ids for sample in samples],
        "completion_mask": [sample.completion_mask.astype(np.int8) for sample in samples],
        "old_log_probs": [sample.logprobs for sample in samples],
        "advantage": [sample.advantage for sample in samples],
        "weight": [sample.weight for sample in samples],
        "coefficient": [sample.coefficient for sample in samples],
        "model_version": [sample.row.version for sample in samples],
        "group_id": [sample.group for sample in samples],
        "rollout": [sample.rollout for sample in samples],
        "node": [sample.node for sample in samples],
        "parent": [sample.parent for sample in samples],
        "depth": [sample.depth for sample in samples],
    }


class _Call(NamedTuple):
    """One model call, in tokens."""

    prompt: tuple[int, ...]
    completion: tuple[int, ...]
    logprobs: npt.NDArray[np.float32]
    version: str | None


def _exact(call: ModelCalled) -> _Call:
    """The tokens of a call. Raises ConfigurationError where they are not known exactly."""
    where = f"agent {call.node}, step {call.step}"
    if call.prompt_token_ids is None or call.token_ids is None or call.logprobs is None:
        raise ConfigurationError(
            f"{where}: recorded without token ids or without log-probs, so what was sampled is not known exactly; record "
            "anew with interface='tokens', or imitate the text with `rao train --objective imitation`"
        )
    # Ids may be of any kind of sequence; tuples compare and join at the speed of C.
    prompt, completion = tuple(call.prompt_token_ids), tuple(call.token_ids)
    logprobs = np.array(call.logprobs, np.float32)
    if not prompt:
        raise ConfigurationError(f"{where}: the prompt has no tokens, and a first token cannot be trained")
    if len(completion) != len(logprobs):
        raise ConfigurationError(f"{where}: {len(logprobs)} log-probs for {len(completion)} sampled tokens")
    if not np.isfinite(logprobs).all():
        raise ConfigurationError(
            f"{where}: a log-prob is not a finite number, so the importance ratio of its token is undefined; leave this "
            "trace out"
        )
    return _Call(prompt, completion, logprobs, call.version)


def _merged(calls: Sequence[_Call]) -> list[Row]:
    """The row of calls of which each goes on where the one before ended; none where nothing was sampled."""
    if not any(call.completion for call in calls):
        return []
    lengths: list[int] = []
    end = 0
    for call in calls:
        lengths += (len(call.prompt) - end, len(call.completion))
        end = len(call.prompt) + len(call.completion)
    mask = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    logprobs = np.zeros(end, np.float32)
    logprobs[mask] = np.concatenate([call.logprobs for call in calls])
    ids = np.fromiter(chain(calls[-1].prompt, calls[-1].completion), np.int32, end)
    return [Row(ids, mask, logprobs, _oldest([call.version for call in calls]))]


def _oldest(versions: Iterable[str | None]) -> str | None:
    known = list(versions)
    numbers = [version for version in known if version is not None and version.isdecimal()]
    return min(numbers, key=int) if len(numbers) == len(known) else known[0]
