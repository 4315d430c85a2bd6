"""Which groups a step takes: of those that are under way or done, the first complete ones, as long as none gets too old.

A group is trained on while its oldest weights are at most `staleness` updates behind. Taking only the groups that are done
first would favour short trees, and long ones would grow too old. So a step takes groups in the order in which they were done,
but passes over one that would leave some other group without a step before its weights are too old: the step then waits for
that other group. As long as no more than `size` groups for each of the next `staleness + 1` steps have begun, every group
that has begun is taken in time, and none is dropped for being slow.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal, Protocol, TypeVar

Order = Literal["completed", "planned"]
"""`completed`: groups in the order in which they are done; `planned`: in the order of the plan, which waits for each."""


class Candidate(Protocol):
    """A group that has begun and was not taken yet."""

    @property
    def place(self) -> int:
        """Its place in the plan."""

    @property
    def oldest(self) -> int:
        """The oldest weights that its trees may contain, as a number of updates."""

    @property
    def rank(self) -> int | None:
        """Its place in the order in which groups were done; None: it is under way."""


G = TypeVar("G", bound=Candidate)


def choose(
    begun: Sequence[G], size: int, *, version: int, staleness: int, order: Order = "completed"
) -> list[G] | None:
    """The `size` groups of the step that updates weights `version`, in the order of the plan; None: it has to wait."""
    if order == "planned":
        first = sorted(begun, key=lambda group: group.place)[:size]
        return first if len(first) == size and all(group.rank is not None for group in first) else None
    # One that is too old already is beyond saving, and is taken whenever it is its turn.
    last = {group.place: step for group in begun if (step := group.oldest + staleness) >= version}
    late = _late(list(last.values()), size, size, version)
    done = [(group.rank, group.place, group) for group in begun if group.rank is not None]
    taken: list[G] = []
    for _, place, group in sorted(done, key=lambda item: item[:2]):
        left = {other: step for other, step in last.items() if other != place}
        if _late(left.values(), size - len(taken) - 1, size, version) > late:
            continue
        last = left
        taken.append(group)
        if len(taken) == size:
            return sorted(taken, key=lambda group: group.place)
    return None


def _late(last: Collection[int], free: int, size: int, version: int) -> int:
    """How many groups would miss their last step at worst, where `free` more are taken now and `size` at each later step.

    Above 0 from the start only where more groups have begun than there is room for.
    """
    places = ((number, free + size * (step - version)) for number, step in enumerate(sorted(last), start=1))
    return max((max(0, number - most) for number, most in places), default=0)
