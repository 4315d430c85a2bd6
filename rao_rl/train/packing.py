"""Padding-free batches: rows of any length behind each other in one stretch of tokens, and attention that keeps them apart.

`pack` deals rows into bins, `stretch` makes a bin the arguments of a model, and `packed_attention` is the attention of such
a model. The RAO objective and imitation use all three.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface

ATTENTION = "rao_packed"
SHORT = 256
"""Rows up to here are multiplied out on a CPU: the backward pass of the fused kernel costs many times more there."""
_CLASSES = 1.25
"""Rows are attended together where the longest is at most this many times the shortest."""


def pack(lengths: Sequence[int], budget: int, *, multiple: int = 1) -> list[list[int]]:
    """Indices of rows in bins of at most `budget` tokens, as many as a multiple of `multiple`, balanced by Σ L².

    A row longer than the budget has a bin of its own. Bins are as few as first-fit finds, some may be empty where there
    are fewer rows than `multiple`. The longest rows are dealt first, each to the bin with the least Σ L² (attention's
    share of the work) that has room.
    """
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    fewest = max(1, -(-sum(min(length, budget) for length in lengths) // budget))
    count = -(-fewest // multiple) * multiple
    while True:
        bins: list[list[int]] = [[] for _ in range(count)]
        tokens, squares = [0] * count, [0] * count
        for index in order:
            length = lengths[index]
            open_ = [number for number in range(count) if not bins[number] or tokens[number] + length <= budget]
            if not open_:
                break
            place = min(open_, key=lambda number: (squares[number], tokens[number], number))
            bins[place].append(index)
            tokens[place] += length
            squares[place] += length * length
        else:
            return bins
        count += multiple


def carriers(rows: Sequence[npt.NDArray[np.int32]]) -> list[int]:
    """For each row of token ids, the index of the row that it is the beginning of, or its own. Carriers carry themselves.

    A causal model gives a row the hidden states that its tokens have in the longer one, so only that one need be forwarded.
    Attempts at a task often repeat each other to the token, and the part of a conversation before a fork begins the next.
    """
    order = sorted(range(len(rows)), key=lambda index: (rows[index].astype(">u4").tobytes(), -index))
    carried = list(range(len(rows)))
    for index, following in zip(order[-2::-1], order[:0:-1], strict=True):
        size = len(rows[index])
        if np.array_equal(rows[index], rows[following][:size]):
            carried[index] = carried[following]
    return carried


def deal(rows: Sequence[Tokens], budget: int, *, multiple: int) -> list[list[int]]:
    """Indices of rows in bins as by `pack`, of which those that are the beginning of another row lie where it does."""
    held: dict[int, list[int]] = {}
    for index, carrier in enumerate(carriers([row.input_ids for row in rows])):
        held.setdefault(carrier, []).append(index)
    own = list(held)
    bins = pack([len(rows[index]) for index in own], budget, multiple=multiple)
    return [[index for place in each for index in held[own[place]]] for each in bins]


class Tokens(Protocol):
    """A row of tokens: `rao_rl.data.rows.TokenRow` and `Sample`."""

    @property
    def input_ids(self) -> npt.NDArray[np.int32]:
        """The tokens, [S]."""

    @property
    def completion_mask(self) -> npt.NDArray[np.bool_]:
        """True where the policy produces the token, [S]."""

    def __len__(self) -> int: ...


def stretch(rows: Sequence[Tokens], *, pad_id: int, packed: bool) -> tuple[dict[str, Any], npt.NDArray[np.int64]]:
    """Rows as the arguments of a model, and where each row begins in its flattened input.

    Packed, they are one stretch: `input_ids` and `position_ids` [1, T] and a `layout`. Otherwise they are right-padded, [B, S],
    with no layout. No rows make a batch of two padding tokens, which a data-parallel process without work forwards.
    """
    lengths = [len(row) for row in rows] or [2]
    longest = max(lengths)
    if packed:
        starts = np.cumsum([0, *lengths[:-1]])
        ids = np.concatenate([row.input_ids for row in rows])[None] if rows else np.full((1, 2), pad_id)
        places = np.concatenate([np.arange(length) for length in lengths])[None]
    else:
        starts = np.arange(len(lengths)) * longest
        ids = np.full((len(lengths), longest), pad_id, np.int64)
        for number, row in enumerate(rows):
            ids[number, : len(row)] = row.input_ids
        places = np.broadcast_to(np.arange(longest), ids.shape)
    arguments: dict[str, Any] = {
        "input_ids": torch.from_numpy(ids.astype(np.int64)),
        "position_ids": torch.from_numpy(places.astype(np.int64)),
    }
    if packed:
        arguments["layout"] = Layout.of(lengths)
    return arguments, starts.astype(np.int64)


def to_device(arguments: Mapping[str, Any], device: torch.device | str) -> dict[str, Any]:
    """Arguments of a model, of which the tensors and the layout are put on a device."""
    return {name: value.to(device) if hasattr(value, "to") else value for name, value in arguments.items()}


Class = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the rows of a packed stretch lie. Handed through the model to its attention layers.

    `classes` are groups of rows of similar length: `gather` [B, L] holds positions in the stretch (padding repeats a
    row's last one), `rows`, `columns` [N] the place of each of its N tokens in that grid and `scatter` [N] in the stretch.
    `bounds` [R + 1], int32, are where each of the R rows begins, and the end of the stretch; `longest` is the longest row.
    """

    classes: tuple[Class, ...]
    bounds: torch.Tensor
    longest: int

    @classmethod
    def of(cls, lengths: Sequence[int]) -> Layout:
        """The layout of rows of these lengths, in this order."""
        starts = list(itertools.accumulate(lengths, initial=0))
        order = sorted(range(len(lengths)), key=lambda index: lengths[index])
        groups: list[list[int]] = []
        for index in order:
            if groups and lengths[index] <= _CLASSES * lengths[groups[-1][0]] + 8:
                groups[-1].append(index)
            else:
                groups.append([index])
        classes: list[Class] = []
        for group in groups:
            sizes = torch.tensor([lengths[index] for index in group])
            begin = torch.tensor([starts[index] for index in group])
            place = torch.arange(int(sizes.max())).expand(len(group), -1)
            real = place < sizes[:, None]
            gather = begin[:, None] + torch.minimum(place, sizes[:, None] - 1)
            rows, columns = real.nonzero(as_tuple=True)
            classes.append((gather, rows, columns, gather[real]))
        return cls(tuple(classes), torch.tensor(starts, dtype=torch.int32), max(lengths))

    def to(self, device: torch.device | str) -> Layout:
        """The same on a device."""
        return Layout(tuple(_moved(parts, device) for parts in self.classes), self.bounds.to(device), self.longest)


def _moved(parts: Class, device: torch.device | str) -> Class:
    gather, rows, columns, scatter = parts
    return gather.to(device), rows.to(device), columns.to(device), scatter.to(device)


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    layout: Layout | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within each row of a packed stretch: query [1, H, T, D], key and value [1, K, T, D] → [1, T, H, D].

    Without a `layout`, [B, H, S, D] is attended causally row by row, as in a right-padded batch. In half precision a GPU
    attends to all rows at once; elsewhere rows of similar length make grids.
    """
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    if layout is not None and (dtype := _half(query)) is not None:
        return varying(query.to(dtype), key.to(dtype), value.to(dtype), scale, layout), None
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    if layout is None:
        return _causal(query, key, value, scale).transpose(1, 2).contiguous(), None
    # [T, H, D], so that a row of a grid is one stretch of memory.
    query_t, key_t, value_t = (part[0].transpose(0, 1) for part in (query, key, value))
    pieces, places = [], []
    for gather, rows, columns, scatter in layout.classes:
        grid = [part[gather].transpose(1, 2) for part in (query_t, key_t, value_t)]
        pieces.append(_causal(grid[0], grid[1], grid[2], scale).transpose(1, 2)[rows, columns])
        places.append(scatter)
    out = torch.empty_like(query_t).index_copy(0, torch.cat(places), torch.cat(pieces).to(query.dtype))
    return out[None], None


def varying(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, layout: Layout) -> torch.Tensor:
    """`packed_attention` by the kernel for rows of varying length; it shares keys between queries by itself."""
    bounds, longest = layout.bounds, layout.longest
    queries, keys, values = (part[0].transpose(0, 1) for part in (query, key, value))
    shared = key.shape[1] < query.shape[1]
    out = varlen_attn(
        queries,
        keys,
        values,
        bounds,
        bounds,
        longest,
        longest,
        scale=scale,
        window_size=(-1, 0),
        enable_gqa=shared,
    )
    assert isinstance(out, torch.Tensor)
    return out[None]


def _half(query: torch.Tensor) -> torch.dtype | None:
    """What `varying` is to calculate in, where it can: under autocast, norms of queries and keys leave them in float32."""
    if not query.is_cuda or not torch.backends.cuda.is_flash_attention_available():
        return None
    if torch.cuda.get_device_capability(query.device) < (8, 0) or query.shape[-1] % 8 or query.shape[-1] > 256:
        return None
    dtype = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else query.dtype
    return dtype if dtype in (torch.float16, torch.bfloat16) else None


def _causal(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float) -> torch.Tensor:
    """[B, H, S, D] → [B, H, S, D]."""
    size = query.shape[2]
    if query.is_cuda or size > SHORT:
        return F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scale)
    allowed = torch.ones(size, size, dtype=torch.bool, device=query.device).tril()
    scores = (query @ key.transpose(2, 3) * scale).masked_fill(~allowed, -1e4)
    return torch.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype) @ value


AttentionInterface.register(ATTENTION, packed_attention)
