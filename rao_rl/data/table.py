"""Rows with their credit as a table, for other trainers: columns named as in TRL, written as parquet or JSON lines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recursive_agent.errors import ConfigurationError

from .rows import Sample

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIXES = (".parquet", ".jsonl")
"""The kinds of files that `export_rows` writes."""
_ROW_GROUP = 8192
"""Rows that a reader of parquet must hold at a time."""
_LISTS = {"input_ids": "int32", "completion_mask": "int8", "old_log_probs": "float32"}
_SCALARS = {"advantage": "float64", "weight": "float64", "coefficient": "float64", "depth": "int32"}
"""Types of the columns in arrow's words. All others hold text."""


def to_table(samples: Sequence[Sample]) -> pa.Table:
    """One row per sample, by TRL's names where TRL has one. Raises ConfigurationError where pyarrow is missing.

    `input_ids`, `completion_mask` (1: sampled, train on it; 0: not), `old_log_probs` (0 where nothing was sampled),
    `advantage`, `model_version` and `group_id` are the fields of `RolloutSample` in `trl.experimental.async_grpo`, whose
    rows, like ours, hold whole conversations: the three lists have one length. `GRPOTrainer` cuts rows in two and names
    them otherwise. With `start = completion_mask.index(1)`, its `prompt_ids` are `input_ids[:start]`, and from `start` on
    `completion_ids` are `input_ids`, `sampling_per_token_logps` are `old_log_probs` and `tool_mask` is
    `completion_mask` (its own `completion_mask` hides padding from attention and has to be 1 throughout).

    Ours are `weight`, `coefficient` (advantage · weight: for a trainer that knows no weights, this is the advantage),
    `rollout`, `node`, `parent` (null: the root) and `depth`. Versions and groups are text, while TRL counts them.
    """
    pa = _pyarrow()
    columns: dict[str, Any] = {}
    for name, values in _columns(samples).items():
        if name in _LISTS:
            offsets = np.cumsum([0, *map(len, values)])
            flat = np.concatenate(values) if values else np.empty(0)
            kind = getattr(pa, _LISTS[name])()
            columns[name] = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(flat, kind))
        else:
            columns[name] = pa.array(values, getattr(pa, _SCALARS.get(name, "string"))())
    return pa.table(columns)


def check_target(path: str | Path) -> Path:
    """The path, where `export_rows` can write rows there. Raises ConfigurationError for another suffix, and without pyarrow."""
    target = Path(path)
    if target.suffix not in SUFFIXES:
        raise ConfigurationError(f"rows are written to {' or '.join(SUFFIXES)} files, not to {target.name}")
    if target.suffix == ".parquet":
        _pyarrow()
    return target


def export_rows(samples: Sequence[Sample], path: str | Path) -> Path:
    """Write the columns of `to_table` to a .parquet or .jsonl file. An old file is replaced only by a complete new one.

    Creates missing folders. Raises ConfigurationError like `check_target`, and if the file cannot be written.
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
