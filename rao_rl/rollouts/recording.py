"""Recording attempts at tasks as traces: groups of scored trees in a folder, none of them made twice."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from recursive_agent import Result
from recursive_agent.errors import ConfigurationError
from recursive_agent.model.base import Model
from recursive_agent.trace.tree import ExecutionTree

from ..envs.arguments import Plain, as_texts, from_label, label
from ..envs.base import Environment, Task
from .attempt import DEFAULT_SETTINGS, AttemptSettings, attempt_seed
from .failures import is_lost
from .many import PlannedAttempt, run_attempts
from .recorded import recorded_attempts


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """How a recorded attempt ended."""

    group: str
    seed: int
    score: float | None
    """s̃ of the root in [0, 1]; None if it is not known."""
    lost: bool
    """Whether the cause of its end lies outside the agents (the endpoint failed, the caller cancelled)."""

    @property
    def key(self) -> tuple[str, int]:
        """Group and seed, as in `PlannedAttempt.key`."""
        return self.group, self.seed

    @classmethod
    def of(cls, group: str, seed: int, tree: ExecutionTree) -> Rollout:
        """The outcome of a tree that has ended."""
        lost = is_lost(tree)
        return cls(group=group, seed=seed, score=None if lost else tree.root.score, lost=lost)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """Counts of a recording: wanted → rollouts → scored → solved, each a part of the one before."""

    wanted: int
    """Attempts that were asked for."""
    rollouts: int
    """Attempts whose whole trace is in the folder."""
    scored: int
    solved: int
    """Rollouts whose root has the full score."""
    found: int
    """Rollouts that were in the folder before."""
    lost: int
    """Attempts lost to a failing endpoint; recording again makes them again."""
    groups: int
    mixed_groups: int
    """Groups whose roots have different scores. Only these can be trained on."""

    @classmethod
    def of(cls, rollouts: Iterable[Rollout], *, wanted: int, found: int) -> Recording:
        """The counts of these outcomes."""
        rollouts = list(rollouts)
        whole = [item for item in rollouts if not item.lost]
        scores: dict[str, set[float]] = {}
        for item in whole:
            if item.score is not None:
                scores.setdefault(item.group, set()).add(item.score)
        return cls(
            wanted=wanted,
            rollouts=len(whole),
            scored=sum(item.score is not None for item in whole),
            solved=sum(item.score is not None and item.score >= 1.0 for item in whole),
            found=found,
            lost=len(rollouts) - len(whole),
            groups=len({item.group for item in whole}),
            mixed_groups=sum(len(different) > 1 for different in scores.values()),
        )


def plan_groups(
    environment: Environment,
    split: str,
    tasks: Iterable[Task],
    *,
    size: int,
    seed: int,
    arguments: Mapping[str, Plain] | None = None,
) -> list[PlannedAttempt]:
    """Plan a group of `size` attempts at each task, one group after the other. A larger group starts with the same attempts.

    `arguments` are those that the environment was made with: a group is named by them, so that attempts at other tasks or
    with other scores are no part of it.
    """
    planned = []
    for task in tasks:
        group = f"{label(environment.name, arguments or {})}/{split}/{task.id}"
        planned += [
            PlannedAttempt(task=task, group=group, seed=attempt_seed(seed, group, number)) for number in range(size)
        ]
    return planned


def find_recorded(folder: Path, planned: Sequence[PlannedAttempt], settings: Mapping[str, object]) -> list[Rollout]:
    """The planned attempts whose whole trace is in `folder` already; those lost to a failing endpoint do not count.

    Raises ConfigurationError if one of them was made by another model or with other `settings` (names as in
    `settings_of`): such attempts cannot be compared.
    """
    keys = {plan.key for plan in planned}
    tasks = {_without_arguments(plan.group): plan.group for plan in planned}
    recorded: dict[tuple[str, int], Rollout] = {}
    for key, path, tree in recorded_attempts(folder):
        if (same := tasks.get(_without_arguments(key[0]))) is not None and same != key[0]:
            raise ConfigurationError(
                f"{path} is an attempt at the same task with {_arguments(key[0])}, not {_arguments(same)}; choose another "
                "folder"
            )
        if key not in keys or (rollout := Rollout.of(*key, tree)).lost:
            continue
        for name, before in settings_of(tree).items():
            if name in settings and settings[name] != before:
                raise ConfigurationError(
                    f"{path} is an attempt at the same task with {name} {before}, not {settings[name]}; choose another folder"
                )
        recorded[key] = rollout
    return list(recorded.values())


def _without_arguments(group: str) -> str:
    """The name of a group without the arguments of its environment."""
    first, slash, rest = group.partition("/")
    return f"{from_label(first)[0]}{slash}{rest}"


def _arguments(group: str) -> str:
    texts = as_texts(from_label(group.partition("/")[0])[1])
    return f"--env-set {' '.join(texts)}" if texts else "no --env-set"


async def record(
    environment: Environment,
    planned: Sequence[PlannedAttempt],
    model: Model,
    folder: Path,
    settings: AttemptSettings = DEFAULT_SETTINGS,
    *,
    on_rollout: Callable[[Rollout], None] | None = None,
) -> list[Rollout]:
    """Run the planned attempts, and record each trace in `folder`; `on_rollout` is called with each attempt when it ends.

    If the endpoint fails during an attempt, only that tree is lost. Raises ModelError if every call would fail in the
    same way.
    """

    def on_end(plan: PlannedAttempt, result: Result) -> Rollout:
        rollout = Rollout.of(plan.group, plan.seed, result.tree)
        if on_rollout is not None:
            on_rollout(rollout)
        return rollout

    return await run_attempts(environment, planned, model, replace(settings, trace_dir=folder), on_end)


def settings_of(tree: ExecutionTree) -> dict[str, object]:
    """The settings that all attempts of a group must share: the model, its weights, its sampling and its limits.

    The version of the weights is missing if the endpoint does not report it.
    """
    versions = {call.version for node in tree.nodes.values() for call in node.model_calls}
    settings: dict[str, object] = {
        "model": tree.model,
        "interface": tree.interface,
        "temperature": tree.settings.get("temperature"),
        "context limit": tree.settings.get("context_limit"),
        "depth limit": tree.limits.get("max_depth"),
        "step limit": tree.limits.get("max_steps"),
        "agent limit": tree.limits.get("max_agents"),
    }
    known = sorted(version for version in versions if version is not None)
    return settings | ({"version": ", ".join(known)} if known else {})
