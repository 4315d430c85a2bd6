"""Which groups a step takes: worked out by hand, and never so that a group could not be taken in time."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from rao_rl.rollouts.choice import Order, choose


@dataclass(frozen=True)
class Group:
    place: int
    oldest: int = 0
    rank: int | None = None


def taken(
    groups: list[Group], size: int = 2, version: int = 0, staleness: int = 1, order: Order = "completed"
) -> object:
    found = choose(groups, size, version=version, staleness=staleness, order=order)
    return None if found is None else [group.place for group in found]


def test_the_first_complete_groups_are_taken_in_the_order_of_the_plan() -> None:
    assert taken([Group(0), Group(1, rank=2), Group(2, rank=0), Group(3, rank=1)]) == [2, 3]
    assert taken([Group(0), Group(1), Group(2, rank=0), Group(3)]) is None


def test_a_group_that_would_become_too_old_is_waited_for() -> None:
    # Weights 0 may be trained on at steps 0 and 1: at step 1, group 0 has to come along, and both of its time do.
    late = [Group(0), Group(2, oldest=1, rank=0), Group(3, oldest=1, rank=1)]
    assert taken(late, version=1) is None
    assert taken([Group(0, rank=2), *late[1:]], version=1) == [0, 2]
    assert taken([Group(0), Group(1, rank=5), *late[1:]], version=1) is None
    assert taken([Group(0, rank=6), Group(1, rank=5), *late[1:]], version=1) == [0, 1]


def test_room_is_kept_for_later_steps_too() -> None:
    # At step 0 nothing is due, but of four groups of weights 0, two steps of two have to take all.
    old = [Group(place) for place in range(3)]
    assert taken([*old, Group(3, oldest=1, rank=0), Group(4, oldest=1, rank=1)], version=0, staleness=1) is None
    assert taken([*old[:2], Group(2, rank=2), Group(3, oldest=1, rank=0), Group(4, oldest=1, rank=1)]) == [2, 3]


def test_the_order_of_the_plan_waits_for_each_group() -> None:
    assert taken([Group(0), Group(1, rank=1), Group(2, rank=0)], order="planned") is None
    assert taken([Group(0, rank=9), Group(1, rank=1), Group(2, rank=0)], order="planned") == [0, 1]


def test_groups_that_are_too_old_already_stop_nothing_and_cost_no_other_group_its_step() -> None:
    old = [Group(place, oldest=0, rank=place) for place in range(3)]
    assert taken([*old, Group(7, oldest=9, rank=8)], version=9, staleness=0) == [0, 7]
    assert taken(old, version=9, staleness=0) == [0, 1]


@given(
    st.integers(1, 4),
    st.integers(0, 4),
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 99)), min_size=1, max_size=20),
    st.integers(0, 9),
)
def test_with_all_groups_complete_a_step_never_waits(
    size: int, staleness: int, groups: list[tuple[int, int]], version: int
) -> None:
    """Whatever their ages: a choice of too many new ones, or none at all, would stop the run."""
    ranked = sorted(range(len(groups)), key=lambda place: groups[place][1])
    found = [Group(place, oldest=groups[place][0], rank=ranked.index(place)) for place in range(len(groups))]
    chosen = choose(found, size, version=version, staleness=staleness)
    assert (chosen is None) == (len(found) < size)
    if chosen is not None:
        assert all(a.place < b.place for a, b in pairwise(chosen))
        assert len(chosen) == size
