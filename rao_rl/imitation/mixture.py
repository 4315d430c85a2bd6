"""Demonstrations of both ways of working in one run of imitation: agents that delegate, and agents that work alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from recursive_agent.errors import ConfigurationError
from recursive_agent.messages import Message

from .recorded import Recorded

MOST_REPEATS = 1000
"""Most times that a conversation is repeated to reach a share."""


def mixed(delegating: Recorded, alone: Recorded, share: float) -> Recorded:
    """The conversations of both, those of the scarcer kind repeated until `alone` has this share of the text.

    A tree of agents has many conversations where one agent alone has a single one, so without repeats the share would
    follow from the environment. Raises ConfigurationError for a share that would need too many repeats.
    """
    if share in (0.0, 1.0):
        return alone if share else delegating
    sizes = [sum(map(_size, each.conversations)) for each in (delegating, alone)]
    wanted = share / (1 - share) * sizes[0] / sizes[1]  # copies of `alone` for one of `delegating`
    if not 1 / MOST_REPEATS <= wanted <= MOST_REPEATS:
        raise ConfigurationError(
            f"imitation.single_share={share:g} cannot be reached: the demonstrations of single agents hold "
            f"{sizes[1]:,} characters, those of agents that delegate {sizes[0]:,}; choose a share nearer to 0.5"
        )
    parts = [_repeated(delegating, max(1.0, 1 / wanted)), _repeated(alone, max(1.0, wanted))]
    return replace(
        delegating,
        conversations=[each for part in parts for each in part.conversations],
        openings=[each for part in parts for each in part.openings],
        nodes=delegating.nodes + alone.nodes,
        temperature=delegating.temperature if delegating.temperature == alone.temperature else None,
        rewritten=delegating.rewritten + alone.rewritten,
        unclear=delegating.unclear + alone.unclear,
        runs=sorted([*delegating.runs, *alone.runs]),
        groups=delegating.groups | alone.groups,
        left_out=delegating.left_out + alone.left_out,
        problems=[*delegating.problems, *alone.problems],
    )


def _repeated(recorded: Recorded, times: float) -> Recorded:
    """All conversations the whole number of times, and the first of them once more for the rest."""
    count = max(1, round(times * len(recorded.conversations)))
    places = [place % len(recorded.conversations) for place in range(count)]
    return replace(
        recorded,
        conversations=[recorded.conversations[place] for place in places],
        openings=[recorded.openings[place] for place in places],
    )


def _size(messages: Sequence[Message]) -> int:
    return sum(len(message.content) for message in messages)
