"""Recording attempts at tasks as traces: groups of scored trees in a folder, none of them made twice."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio

from recursive_agent import RaoError
from recursive_agent.errors import ConfigurationError, TraceError
from recursive_agent.groups import the_cause
from recursive_agent.model.base import Model
from recursive_agent.repl import UNSET, Require, Sandbox, Unset
from recursive_agent.trace.store import trace_files
from recursive_agent.trace.tree import ExecutionTree

from .envs.base import Environment, Task
from .evaluate import LOST
from .rollout import Mode, attempt_seed, kept, rollout, shared_sandbox


@dataclass(frozen=True, slots=True)
class Member:
    """One of the attempts at a task: the group that it belongs to, and the seed that tells it from the others."""

    group: str
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """How a recorded attempt came out."""

    member: Member
    score: float | None
    """s̃ of the root in [0, 1]; None where it is not known."""
    lost: bool
    """Whether it ended by nobody's doing (the endpoint failed, the caller cancelled), and so says nothing."""

    @classmethod
    def of(cls, member: Member, tree: ExecutionTree) -> Rollout:
        """The outcome of a tree that has ended."""
        lost = tree.root.status in LOST
        return cls(member=member, score=None if lost else tree.root.score, lost=lost)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """What became of the attempts that were wanted: wanted → rollouts → scored → solved, each a part of the one before."""

    wanted: int
    rollouts: int
    """Attempts whose whole trace is in the folder."""
    scored: int
    solved: int
    """Rollouts whose root has the full score."""
    found: int
    """Rollouts that were in the folder before."""
    lost: int
    """Attempts that a failing endpoint cost; recording again makes them anew."""
    groups: int
    mixed_groups: int
    """Groups whose roots have different scores, which is what the others can be judged against."""

    @classmethod
    def of(cls, rollouts: Iterable[Rollout], *, wanted: int, found: int) -> Recording:
        """The counts of these outcomes."""
        rollouts = list(rollouts)
        whole = [item for item in rollouts if not item.lost]
        scores: dict[str, set[float]] = {}
        for item in whole:
            if item.score is not None:
                scores.setdefault(item.member.group, set()).add(item.score)
        return cls(
            wanted=wanted,
            rollouts=len(whole),
            scored=sum(item.score is not None for item in whole),
            solved=sum(item.score is not None and item.score >= 1.0 for item in whole),
            found=found,
            lost=len(rollouts) - len(whole),
            groups=len({item.member.group for item in whole}),
            mixed_groups=sum(len(different) > 1 for different in scores.values()),
        )


def members(environment: Environment, split: str, tasks: Iterable[Task], *, size: int, seed: int) -> dict[Member, Task]:
    """The `size` attempts at each task, those at one task in a row. A larger group holds the smaller one."""
    wanted: dict[Member, Task] = {}
    for task in tasks:
        group = f"{environment.name}/{split}/{task.id}"
        for number in range(size):
            wanted[Member(group, attempt_seed(seed, group, number))] = task
    return wanted


def find_recorded(folder: Path, wanted: Mapping[Member, Task], settings: Mapping[str, object]) -> list[Rollout]:
    """The wanted attempts whose whole trace is in `folder` already.

    The traces of killed runs, and of attempts lost to a failing endpoint, are passed over, and so are files that are no
    traces. Raises ConfigurationError where a wanted attempt was made by another model or with other `settings` (names as
    in `settings_of`): such attempts are no group.
    """
    found: dict[Member, Rollout] = {}
    for path in trace_files(folder) if folder.is_dir() else []:
        try:
            tree = ExecutionTree.load(path)
        except TraceError:  # the file of a process that died at once, or none of ours
            continue
        if tree.group is None or tree.seed is None or (member := Member(tree.group, tree.seed)) not in wanted:
            continue
        made = Rollout.of(member, tree) if tree.complete else None
        if made is None or made.lost or any(node.score_status is None for node in tree.nodes.values()):
            continue
        for name, before in settings_of(tree).items():
            if name in settings and settings[name] != before:
                raise ConfigurationError(
                    f"{path} attempts the same task with {name} {before} instead of {settings[name]}: take another folder"
                )
        found[member] = made
    return list(found.values())


async def record(
    environment: Environment,
    wanted: Mapping[Member, Task],
    model: Model,
    folder: Path,
    *,
    mode: Mode = "recursive",
    concurrency: int = 8,
    on_rollout: Callable[[Rollout], None] | None = None,
    sandbox: str | Sandbox = "process",
    require: Require | Unset = UNSET,
    **settings: Any,
) -> list[Rollout]:
    """Make the attempts of `wanted`, at most `concurrency` trees at a time, each with its trace in `folder`.

    All share one sandbox (see `shared_sandbox`); `settings` go to `agent_for`.

    An attempt that the endpoint fails costs that tree only; `on_rollout` is called with each
    as it ends. Raises ModelError where every call would fail the same way.
    """
    made: list[Rollout] = []
    limiter = anyio.CapacityLimiter(concurrency)

    async def attempt(member: Member, task: Task, shared: Mapping[str, Any]) -> None:
        async with limiter:
            try:
                result = await rollout(environment, task, model, seed=member.seed, group=member.group, **shared)
            except RaoError as error:
                result = kept(error)
            made.append(Rollout.of(member, result.tree))
            if on_rollout is not None:
                on_rollout(made[-1])

    async with shared_sandbox(sandbox, require) as opened:
        shared = {"sandbox": opened, "mode": mode, "trace_dir": folder, **settings}
        try:
            async with anyio.create_task_group() as group:
                for member, task in wanted.items():
                    group.start_soon(attempt, member, task, shared)
        except BaseExceptionGroup as wrapped:
            raise the_cause(wrapped) from None
    return made


def settings_of(tree: ExecutionTree) -> dict[str, object]:
    """What must be the same for all attempts of a group: the model, its weights, and how it was sampled and capped.

    The version of the weights is left out where the endpoint does not tell it.
    """
    versions = {step.model.version for node in tree.nodes.values() for step in node.steps if step.model is not None}
    told: dict[str, object] = {
        "model": tree.model,
        "interface": tree.interface,
        "temperature": tree.settings.get("temperature"),
        "context limit": tree.settings.get("context_limit"),
        "depth limit": tree.limits.get("max_depth"),
    }
    known = sorted(version for version in versions if version is not None)
    return told | ({"version": ", ".join(known)} if known else {})
