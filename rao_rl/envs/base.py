"""The contract of an environment: tasks, tools and a score for every agent. docs/extending.md has an example."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

from recursive_agent.status import Status
from recursive_agent.trace.tree import ExecutionTree, Node

Mode: TypeAlias = Literal["single", "recursive"]
"""How a task is attempted: by one agent alone, or by one that may launch sub-agents."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One task."""

    id: str
    """Unique in its environment, and the same on every machine: attempts with the same id are compared."""
    goal: str
    """What the root agent is asked to do; for `Agent.solve`, as are `context` and `returns`."""
    context: Any = None
    returns: Any = None
    level: str | None = None
    """One of the environment's levels; None for a goal that came from outside."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """For the environment only (targets, gold answers, seeds): never enters a sandbox or a trace."""


Scores: TypeAlias = Literal["no", "some", "all"]
"""How many agents are meant: no agents, some or all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NeedsJudge:
    """Which agents have no score unless a model judges them, because the environment has no verifier for them."""

    roots: Scores = "no"
    """`some`: the session knows the score of some answers only, such as those equal to the reference."""
    sub_agents: Scores = "no"


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What `rao eval --list` says of an environment, without making it: a class attribute `about`."""

    summary: str
    """What its agents do, in one line."""
    sizes: Mapping[str, int | None]
    """Number of tasks of each split, of all levels together; None where more are generated for as long as one asks."""
    data: str | None = None
    """What must be on this machine and how to get it; None where everything is generated."""
    needs_judge: NeedsJudge = NeedsJudge()
    """Which scores are left to a judge; none, where every agent has a verifier."""
    levels: Sequence[str] = ()
    """Names of the levels, if the class has no attribute `levels` (because the constructor sets it)."""


Expert: TypeAlias = Callable[[str, Any], Iterable[str]]
"""The code of an agent that solves its task, cell by cell, by its goal and context. A generator receives what each cell
showed: `shown = yield code`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demonstration:
    """A task, and how to solve it."""

    task: Task
    expert: Expert
    """Called for every agent of the tree: the root with the task's goal, and each sub-agent that its code launches."""


class ScoredNode(Protocol):
    """What the sessions of this package read of a node of the tree: enough for a reference solution without a tree."""

    @property
    def id(self) -> str:
        """Path of launch order."""

    @property
    def goal(self) -> str:
        """The node's own goal."""

    @property
    def status(self) -> Status:
        """How it ended."""

    @property
    def result(self) -> Any:
        """What it gave to `finish`."""


class Session(Protocol):
    """The state that all agents of one tree share."""

    @property
    def tools(self) -> Sequence[Callable[..., Any]]:
        """Functions that agents may call, bound to this state. rao passes the calling agent to a `ToolContext` parameter."""

    async def score(self, node: Node) -> float | None:
        """Score s̃ ∈ [0, 1] of an agent for its own goal; None if it is unknown.

        Called for every node, sub-agents included, after the tree has ended.
        """


@runtime_checkable
class Casting(Protocol):
    """A session that says which agents have a role that must not be trained; no session needs to."""

    def trainable(self, node: Node) -> bool:
        """False for an agent such as a verifier, which would learn to praise: it is scored, and counts as its parent's child,
        but no model is trained on it. Asked once an attempt has ended, for every agent."""


@runtime_checkable
class Measuring(Protocol):
    """A session that measures more than the score, such as the precision of a list; no session needs to."""

    def metrics(self, node: Node) -> Mapping[str, float]:
        """Finite numbers by name, such as `{"precision": 0.5}`, for the root of a tree that has ended.

        `rao eval` calls it once for each attempt, after `score`, and reports the mean of each number; training never uses
        them. Leave out a number that an attempt does not determine. It returns at once: what takes long belongs to `score`.
        """


class Environment(Protocol):
    """A family of tasks. Randomness comes from the seed alone, so the same seed gives the same tasks everywhere."""

    @property
    def name(self) -> str:
        """Name of the environment in traces and groups."""

    @property
    def max_depth(self) -> int:
        """Deepest level of sub-agents that its tasks need; the root has level 0."""

    @property
    def splits(self) -> Sequence[str]:
        """Names of the splits, such as `train` and `test`; at least one."""

    @property
    def levels(self) -> Sequence[str]:
        """Names of the levels of difficulty or length, easiest first; at least one."""

    def tasks(self, split: str, seed: int = 0, level: str | None = None, limit: int | None = None) -> Iterable[Task]:
        """The tasks of a split, in order: of one level, or of all; at most `limit`.

        An environment that generates its tasks may return up to `limit` of them, more than the split usually has.
        """

    def task(self, goal: str, seed: int = 0) -> Task:
        """The task of a goal that comes from outside (`rao run`, serving), in the world of `seed`.

        Raises UnknownGoal if the goal does not belong to this environment, and ConfigurationError if it is impossible
        there.
        """

    def session(self, task: Task) -> Session:
        """A fresh state for one attempt at `task`."""


@runtime_checkable
class Restarting(Protocol):
    """An environment whose sub-tasks can be attempted again as tasks of their own; no environment needs to.

    `credit.baseline=counterfactual` compares an agent with further agents that get the same goal, context and state.
    """

    def subtask(self, task: Task, tree: ExecutionTree, node: Node) -> Task | None:
        """The task of `node`, an agent that was launched in `tree`, an attempt at `task`; None where there is none.

        Its goal, context and return type are the node's. `session` opens it in the state in which the node was launched, and
        what the node achieves there must not depend on what other agents of its tree would have done meanwhile: return None
        where it does.
        """


@runtime_checkable
class Demonstrating(Protocol):
    """An environment that shows how its tasks are solved, so that models can imitate it; no environment needs to."""

    def demonstrations(self, seed: int = 0) -> Iterable[Demonstration]:
        """Solved tasks of the training split, as many as there are or without end; drawn from `seed` alone.

        rao runs the experts' code as an agent's, scores it as every attempt, and imitates the agents that succeed.
        """
