"""Alarms: what the figures of a run say has gone wrong, in sentences for whoever watches it.

A run that has collapsed, that trains on what another policy sampled, or whose sampler no longer answers, goes on without a
fault: only its figures say so. Terminal, training page, TensorBoard and Weights & Biases show the same alarms.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

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
_LOST = 0.5
"""Share of the attempts of a batch from whose loss on the sampler counts as dead."""
STEPS = 3
"""Steps in a row for which the launch rate must be low: a small batch may have no launch by chance."""
IDLE = 5
"""Batches in a row that teach nothing from which on that is an alarm."""
LAUNCHES = "rao/launch_rate"
_SKIPPED, _LOSSES = "rao/skipped", "funnel/lost/"
_RATIO = "sampling/importance_sampling_ratio/mean"

Figures = Mapping[str, Any]
Severity = Literal["warning", "error"]


@dataclass(frozen=True, slots=True)
class Kind:
    """What an alarm is called, and how bad it is."""

    label: str
    severity: Severity


KINDS: Mapping[str, Kind] = {
    "entropy": Kind("Collapse", "error"),
    "ratio": Kind("Mismatch", "error"),
    "provenance": Kind("Runs of another policy", "error"),
    "sampler": Kind("Dead sampler", "error"),
    "not_finite": Kind("Not finite", "error"),
    "launches": Kind("Delegation lost", "error"),
    "equal": Kind("Equal scores", "warning"),
    "idle": Kind("Nothing to learn", "warning"),
    "ended": Kind("Run ended early", "error"),
}
"""The alarms by name. `provenance` and `ended` come from the run itself, the others from its figures."""
FROM_FIGURES = frozenset(KINDS) - {"provenance", "ended"}


@dataclass(frozen=True, slots=True)
class Alarm:
    """An alarm that began at a step and, where `end` is known, was over at another."""

    step: int
    name: str
    text: str
    end: int | None = None

    @property
    def kind(self) -> Kind:
        """Its label and severity."""
        return KINDS.get(self.name, Kind(self.name.replace("_", " "), "warning"))


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
    kl, ratio = now.get("rao/mismatch_kl", 0.0), now.get(_RATIO, 1.0)
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


class Watch:
    """Looks at the lines of a metrics file in their order: which alarms last.

    `first` are the figures of the first step of a run that is resumed.
    """

    def __init__(self, first: Figures | None = None) -> None:
        self.first = first
        self.lasting: dict[str, str] = {}
        """The alarms that last, by name."""
        self._launches: deque[float] = deque(maxlen=STEPS)
        self._idle = 0

    def look(self, row: Figures) -> tuple[dict[str, str], set[str]]:
        """The alarms that begin with this line, and the names of those that end."""
        if not ("entropy" in row or "loss" in row or _SKIPPED in row):  # an evaluation, or the last line
            return {}, set()
        found = self._found(row)
        began = {name: text for name, text in found.items() if name not in self.lasting}
        ended = set(self.lasting) - set(found)
        # The sentence with which it began stays: it has the figures of that step.
        self.lasting = {name: self.lasting.get(name, text) for name, text in found.items()}
        return began, ended

    def _found(self, row: Figures) -> dict[str, str]:
        found: dict[str, str] = {}
        if _SKIPPED in row:
            self._idle += 1
            # What a skipped batch has no figures of is as it was.
            found |= {name: text for name, text in self.lasting.items() if name not in ("idle", "sampler")}
        else:
            self._idle = 0
            # Imitation is meant to become certain: only what learns from samples can collapse.
            if "entropy" in row and _RATIO in row:
                found |= self._of_step(row)
        if self._idle >= IDLE:
            found["idle"] = (
                f"{IDLE} batches in a row taught nothing (mean reward {row.get('reward', 0.0):.2f}); take easier or harder "
                "tasks, or a better policy to start from"
            )
        if (text := _lost(row)) is not None:
            found["sampler"] = text
        broken = [name for name in ("loss", "grad_norm", "entropy") if not _is_finite(row.get(name, 0.0))]
        if broken:
            found["not_finite"] = (
                f"{' and '.join(broken)} {'is' if len(broken) == 1 else 'are'} not a finite number; continue from the last "
                "checkpoint with --resume and a lower learning rate (--lr)"
            )
        return found

    def _of_step(self, row: Figures) -> dict[str, str]:
        self._launches.append(row.get(LAUNCHES, 0.0))
        if self.first is None:
            self.first = dict(row)
            return alarms(self.first, self.first)
        lasting = max(self._launches) if len(self._launches) == STEPS else self.first.get(LAUNCHES, 0.0)
        return alarms({**row, LAUNCHES: lasting}, self.first)


def alarms_of(rows: Iterable[Figures]) -> list[Alarm]:
    """The alarms of a whole metrics file, in the order in which they began."""
    watch = Watch()
    found: list[Alarm] = []
    for row in rows:
        step = int(row["step"])
        began, ended = watch.look(row)
        found = [replace(each, end=step) if each.end is None and each.name in ended else each for each in found]
        found += [Alarm(step, name, text) for name, text in began.items()]
    return found


def _lost(row: Figures) -> str | None:
    """A sentence where most attempts of a batch were lost."""
    reasons = {name.removeprefix(_LOSSES): value for name, value in row.items() if name.startswith(_LOSSES) and value}
    lost = sum(reasons.values())
    attempts = lost + row.get("funnel/rollouts", 0.0)
    if not lost or lost < _LOST * attempts:
        return None
    listed = ", ".join(f"{value:,.0f} {reason.replace('_', ' ')}" for reason, value in reasons.items())
    return (
        f"the sampler hardly answers: {lost:,.0f} of the {attempts:,.0f} attempts of a batch were lost ({listed}); look at the "
        "log of the endpoint, or run fewer trees at a time (collect.max_in_flight)"
    )


def _is_finite(value: Any) -> bool:
    return not isinstance(value, int | float) or math.isfinite(value)
