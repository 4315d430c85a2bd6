"""Packing: every row once, bins within the budget, and rows behind each other that do not see one another."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rao_rl.train import packing
from rao_rl.train.batch import collate
from rao_rl.train.loss import Scored
from rao_rl.train.packing import SHORT, Layout, carriers, pack, packed_attention, varying

from .small_steps import forked, samples

LENGTHS = st.lists(st.integers(1, 60), max_size=40)
MODULE: Any = SimpleNamespace()


@given(LENGTHS, st.integers(1, 100), st.integers(1, 5))
def test_every_row_is_in_one_bin_and_bins_keep_to_the_budget(lengths: list[int], budget: int, ranks: int) -> None:
    bins = pack(lengths, budget, multiple=ranks)
    assert sorted(itertools.chain(*bins)) == list(range(len(lengths)))
    assert len(bins) % ranks == 0
    assert len(bins) >= ranks
    for rows in bins:
        assert sum(lengths[row] for row in rows) <= budget or len(rows) == 1


@given(LENGTHS, st.integers(1, 100), st.integers(1, 5))
def test_no_bin_is_left_empty_while_another_holds_two_rows(lengths: list[int], budget: int, ranks: int) -> None:
    sizes = [len(rows) for rows in pack(lengths, budget, multiple=ranks)]
    assert min(sizes) > 0 or max(sizes) <= 1


@given(LENGTHS, st.integers(2, 4))
def test_with_room_for_all_no_process_works_longer_than_its_share_and_one_row(lengths: list[int], ranks: int) -> None:
    bins = pack(lengths, 10_000, multiple=ranks)
    squares = [sum(lengths[row] ** 2 for row in rows) for rows in bins]
    assert len(bins) == ranks
    # What a bin held before its last row was the least of all.
    assert max(squares) - min(squares) <= max(lengths, default=0) ** 2


def test_bins_are_balanced_by_the_squares_of_the_lengths_and_not_by_tokens() -> None:
    bins = pack([8, 2, 2, 2, 2], 100, multiple=2)
    assert sorted(map(sorted, bins)) == [[0], [1, 2, 3, 4]]


def test_bins_are_few() -> None:
    assert len(pack([50, 50, 30, 30, 20, 20], 100)) == 2
    assert len(pack([50, 50, 30, 30, 20, 20], 100, multiple=3)) == 3


def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Causal attention of one row and one head, [S, D], written down as its definition."""
    out = []
    for position in range(len(query)):
        weights = torch.softmax(key[: position + 1] @ query[position] * query.shape[-1] ** -0.5, dim=0)
        out.append(weights @ value[: position + 1])
    return torch.stack(out)


def parts(tokens: int, heads: int, kv_heads: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(tokens)
    return [
        torch.randn(1, number, tokens, 6, generator=generator, dtype=torch.float64, requires_grad=True)
        for number in (heads, kv_heads, kv_heads)
    ]


@pytest.mark.parametrize(
    ("lengths", "kv_heads"),
    [([5, 1, 9, 2, 9, 30], 4), ([5, 1, 9, 2], 2), ([7, 3, 8], 1), ([3, SHORT + 5, 2, SHORT], 2), ([4], 4)],
    ids=str,
)
def test_packed_attention_is_that_of_each_row_alone_and_so_is_its_gradient(lengths: list[int], kv_heads: int) -> None:
    heads, tokens = 4, sum(lengths)
    given_ = parts(tokens, heads, kv_heads)
    packed, _ = packed_attention(MODULE, *given_, None, layout=Layout.of(lengths))
    rows = []
    for end, length in zip(itertools.accumulate(lengths), lengths, strict=True):
        query, key, value = (part[0, :, end - length : end] for part in given_)
        shared = heads // kv_heads
        rows.append(torch.stack([attend(query[h], key[h // shared], value[h // shared]) for h in range(heads)], dim=1))
    alone = torch.cat(rows)[None]
    # The weights of short rows are rounded to float32.
    torch.testing.assert_close(packed, alone, rtol=0, atol=1e-6)
    pull = torch.randn(packed.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    ours = torch.autograd.grad((packed * pull).sum(), given_)
    theirs = torch.autograd.grad((alone * pull).sum(), given_)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-5)


@given(st.lists(st.integers(1, 70), min_size=1, max_size=12))
def test_what_stands_in_one_row_is_not_seen_from_another(lengths: list[int]) -> None:
    tokens = sum(lengths)
    query, key, value = (part.detach() for part in parts(tokens, 2, 1))
    layout = Layout.of(lengths)
    before, _ = packed_attention(MODULE, query, key, value, None, layout=layout)
    changed = value.clone()
    last = lengths[-1]
    changed[:, :, -last:] += 1.0
    after, _ = packed_attention(MODULE, query, key, changed, None, layout=layout)
    assert torch.equal(before[:, : tokens - last], after[:, : tokens - last])
    torch.testing.assert_close(after[:, tokens - last :], before[:, tokens - last :] + 1.0, rtol=0, atol=1e-5)


def test_scaling_is_taken_from_the_model() -> None:
    query, key, value = (part.detach() for part in parts(6, 2, 2))
    scaled, _ = packed_attention(MODULE, query, key, value, None, scaling=0.5, layout=Layout.of([6]))
    plain, _ = packed_attention(MODULE, query * 0.5 * 6**0.5, key, value, None, layout=Layout.of([6]))
    torch.testing.assert_close(scaled, plain, rtol=0, atol=1e-6)


def test_without_a_layout_rows_are_those_of_the_batch() -> None:
    query, key, value = (part.detach() for part in parts(12, 2, 2))
    rows = [part.reshape(2, 2, 6, 6).transpose(0, 1).contiguous() for part in (query, key, value)]
    batched, _ = packed_attention(MODULE, *(row for row in rows), None)
    for row in range(2):
        alone = torch.stack([attend(*(part[row, head] for part in rows)) for head in range(2)], dim=1)
        torch.testing.assert_close(batched[row], alone, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kv_heads", [4, 2])
def test_the_kernel_for_varying_lengths_is_asked_for_the_same_attention(
    monkeypatch: pytest.MonkeyPatch, kv_heads: int
) -> None:
    """The kernel needs a GPU; what it is asked for is checked against its documentation, written down here."""

    def documented(
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        cu_seq_q: torch.Tensor,
        cu_seq_k: torch.Tensor,
        max_q: int,
        max_k: int,
        *,
        scale: float,
        window_size: tuple[int, int],
        enable_gqa: bool,
    ) -> torch.Tensor:
        shared = query.shape[1] // key.shape[1]
        assert cu_seq_q.dtype == cu_seq_k.dtype == torch.int32
        assert (max_q, max_k, window_size, enable_gqa) == (9, 9, (-1, 0), shared > 1)
        rows = []
        for begin, end in itertools.pairwise(cu_seq_q.tolist()):
            heads = [
                attend(query[begin:end, h] * scale * 6**0.5, key[begin:end, h // shared], value[begin:end, h // shared])
                for h in range(query.shape[1])
            ]
            rows.append(torch.stack(heads, dim=1))
        return torch.cat(rows)

    monkeypatch.setattr(packing, "varlen_attn", documented)
    lengths = [5, 1, 9, 2, 9]
    given_ = [part.detach() for part in parts(sum(lengths), 4, kv_heads)]
    layout = Layout.of(lengths)
    grids, _ = packed_attention(MODULE, *given_, None, scaling=0.3, layout=layout)
    torch.testing.assert_close(varying(*given_, 0.3, layout), grids, rtol=0, atol=1e-6)


def test_the_kernel_for_varying_lengths_takes_what_it_is_given() -> None:
    layout = Layout.of([3, 2]).to("meta")
    query, key, value = (
        torch.empty(1, heads, 5, 8, dtype=torch.bfloat16, device="meta", requires_grad=True) for heads in (4, 2, 2)
    )
    out = varying(query, key, value, 0.3, layout)
    assert out.shape == (1, 5, 4, 8)
    out.sum().backward()
    assert key.grad is not None
    assert key.grad.shape == key.shape


def test_a_row_that_begins_another_is_carried_by_the_longest() -> None:
    rows = [[5, 6], [1, 2], [1, 2, 3, 4], [2, 1], [1, 2, 3], [1, 2, 4], [1, 2, 3, 4], [258], [1, 2, 3, 4, 5]]
    carried = carriers([np.array(row, np.int32) for row in rows])
    for row, carrier in zip(rows, carried, strict=True):
        assert rows[carrier][: len(row)] == row
        assert carried[carrier] == carrier
    assert [carried[place] for place in (0, 3, 5, 7, 8)] == [0, 3, 5, 7, 8]
    assert [carried[place] for place in (2, 4, 6)] == [8, 8, 8]
    assert carried[1] in (5, 8)
    assert carriers([]) == []
    twice = carriers([np.array([7, 7], np.int32)] * 3)
    assert len(set(twice)) == 1


def test_each_token_of_a_carried_row_has_its_own_score() -> None:
    whole = samples(12)[0]
    first, second = forked(whole)
    for rows in ([second, first], [first, second], [second, whole, first]):
        batch = collate(rows, pad_id=0, packed=True)
        by_place = Scored(batch.at.float(), batch.targets.float())  # a score that says which place it is of
        scored = batch.of_tokens(by_place)
        places = np.concatenate([np.nonzero(row.completion_mask)[0] for row in rows])
        assert (scored.per_token_logps.numpy() == places - 1).all()
        assert (scored.entropy.numpy() == np.concatenate([row.input_ids[row.completion_mask] for row in rows])).all()
        assert batch.forwarded == len(whole)
