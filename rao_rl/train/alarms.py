"""Alarms: what the figures of a run say has gone wrong, in sentences for whoever watches it.

A run that has collapsed, or that trains on what another policy sampled, goes on without a fault: only its figures say so.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from transformers import TrainerCallback

_FLAT = 1e-3
"""Nats a token: a policy that samples the same answer every time."""
_FALLEN = 0.1
"""Share of the entropy at the start of the run below which it counts as lost, where it is low too."""
_LOW = 0.05
_FAR = 0.3
"""Estimate of KL(π_behaviour ‖ π_θ), nats a token: far from what sampled the data."""
_HELD = 0.3
"""Share of the tokens that the clipping holds back, from which an update is mostly clipping."""
_EQUAL = 0.9
"""Share of the groups in which every attempt got the same score, from which a step learns from hardly any."""

_ALONE = 0.1
"""Share of the roots' launch rate at the start of the run below which delegation counts as lost."""
_DELEGATES = 0.1
"""Launch rate at the start from which it can be lost."""
STEPS = 3
"""Steps in a row for which the launch rate must be low: a small batch may have no launch by chance."""
LAUNCHES = "rao/launch_rate"

Figures = Mapping[str, Any]
Say = Callable[[str], None]
"""Takes a sentence for whoever watches the run."""


def silent(line: str) -> None:
    """Says nothing."""


def alarms(now: Figures, first: Figures) -> dict[str, str]:
    """What is wrong by the figures of a step, by the kind of the fault; `first` are those of the first step of the run."""
    found: dict[str, str] = {}
    entropy, before = now.get("entropy"), first.get("entropy", 0.0)
    if entropy is not None and entropy < max(_FLAT, min(_LOW, _FALLEN * before)):
        found["entropy"] = (
            f"the policy hardly varies, since its entropy is {entropy:.2g} nats a token: attempts at a task are much the same, "
            "and there is little to learn; record runs at a higher temperature, or start from a policy that is less certain"
            if now is first
            else f"the policy has collapsed: its entropy has fallen from {before:.2g} to {entropy:.2g} nats a token, so "
            "attempts at a task hardly differ: little is left to learn; start again with a lower learning rate or fewer steps"
        )
    kl, ratio = now.get("rao/mismatch_kl", 0.0), now.get("sampling/importance_sampling_ratio/mean", 1.0)
    held = now.get("clip_ratio/region_mean", 0.0)
    if now is not first and (kl > _FAR or not 0.5 < ratio < 2.0 or held > _HELD):
        found["ratio"] = (
            f"the policy is far from the one that sampled the runs: importance ratios are {ratio:.2g} on average (KL {kl:.2g} "
            f"nats a token, {held:.0%} of tokens are clipped); lower the learning rate, train fewer epochs or record new runs"
        )
    equal = now.get("frac_reward_zero_std", 0.0)
    if equal > _EQUAL:
        found["equal"] = (
            f"in {equal:.0%} of the groups every attempt got the same score, and nothing is learnt from those (mean reward "
            f"{now.get('reward', 0.0):.2f}); choose harder or easier tasks, or a higher temperature"
        )
    launches, at_first = now.get(LAUNCHES, 0.0), first.get(LAUNCHES, 0.0)
    # Recorded runs launch what they launch: only those of the policy itself say something about it.
    if "rao/batch" in now and at_first >= _DELEGATES and launches < _ALONE * at_first:
        found["launches"] = (
            f"the policy has almost stopped delegating: at the start {at_first:.0%} of the roots launched a sub-agent, now "
            f"{launches:.0%}; if the tasks need sub-agents, start again with a lower learning rate, harder tasks or a "
            "smaller collect.context_limit, or reward delegation (credit.delegation_bonus, credit.parallel_bonus)"
        )
    return found


def first_of(rows: Iterable[Figures]) -> Figures | None:
    """The figures of the first step among the lines of a metrics file; None where there is none."""
    return next((row for row in rows if "entropy" in row), None)


class Alarms(TrainerCallback):
    """Says each alarm when it begins, and again only after it was over.

    `on_first` gives what is to be said of the figures of the first step of a run that is not resumed. `first` are the figures
    of the first step of a run that is.
    """

    def __init__(
        self,
        say: Say,
        on_first: Callable[[Figures], str | None] = lambda figures: None,
        *,
        first: Figures | None = None,
    ) -> None:
        self._say = say
        self._on_first = on_first
        self._first = first
        self._launches: deque[float] = deque(maxlen=STEPS)
        self._lasting: set[str] = set()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Look at the figures of a step."""
        if not state.is_world_process_zero or not logs or "entropy" not in logs:
            return
        self._launches.append(logs.get(LAUNCHES, 0.0))
        if self._first is None:
            self._first = dict(logs)
            if state.global_step == 1 and (line := self._on_first(self._first)) is not None:
                self._say(line)
            found = alarms(self._first, self._first)
        else:
            lasting = max(self._launches) if len(self._launches) == STEPS else self._first.get(LAUNCHES, 0.0)
            found = alarms({**logs, LAUNCHES: lasting}, self._first)
        for kind, line in found.items():
            if kind not in self._lasting:
                self._say(f"step {state.global_step:,}: {line}")
        self._lasting = set(found)
