"""Which numbers can be the log-prob of a token that was sampled."""

from __future__ import annotations

import math
from collections.abc import Iterable

NO_CHANCE = -9999.0
"""What vLLM writes for a log-prob of −inf. A token without a chance is never sampled, so it is no log-prob of one."""
ROUNDING = 0.01
"""How far above 0 rounding may put a log-prob."""


def why_no_logprobs(values: Iterable[object]) -> str | None:
    """What is wrong with the first of these that is no log-prob (nats) of a sampled token; None where all are.

    The reader of recorded rows (`rao_rl.data.rows`) asks the same of arrays.
    """
    for value in values:
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            return "a log-prob is not a finite number"
        if value <= NO_CHANCE:
            return f"a log-prob is not a finite number ({value:g} stands for minus infinity)"
        if value > ROUNDING:
            return "a log-prob is above 0"
    return None
