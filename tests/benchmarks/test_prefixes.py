"""What rows share, counted by hand."""

from __future__ import annotations

import random

from benchmarks.prefixes import Load, Row, as_a_tree, in_order, whole

ROWS = [Row((1, 2, 4, 5), 2), Row((6,), 1), Row((1, 2, 3), 1), Row((1, 2, 3), 1)]


def test_a_tree_holds_each_beginning_once() -> None:
    assert whole(ROWS) == Load(tokens=11, pairs=10 + 1 + 6 + 6, sampled=5)
    # 1 2 3, then 4 5 behind 1 2 (which attend to 3 and 4 tokens), then 6
    assert as_a_tree(ROWS) == Load(tokens=6, pairs=6 + 3 + 4 + 1, sampled=5)


def test_the_count_is_that_of_all_beginnings() -> None:
    rng = random.Random(0)
    rows = [Row(tuple(rng.choices((1, 2), k=rng.randint(1, 8))), 1) for _ in range(50)]
    beginnings = {row.ids[:size] for row in rows for size in range(1, len(row.ids) + 1)}
    assert as_a_tree(rows).tokens == len(beginnings)
    assert as_a_tree(rows).pairs == sum(map(len, beginnings))


def test_bins_are_filled_with_neighbours_up_to_the_budget() -> None:
    bins = in_order(ROWS, 5)
    assert [[row.ids for row in bin_] for bin_ in bins] == [[(1, 2, 3), (1, 2, 3), (1, 2, 4, 5)], [(6,)]]
    assert [as_a_tree(bin_).tokens for bin_ in bins] == [5, 1]
