"""One attempt at one task of an environment, through the same `Agent` that an application uses."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import anyio

from recursive_agent import Agent, Compaction, Limits, Result
from recursive_agent.errors import ConfigurationError
from recursive_agent.model.base import Model
from recursive_agent.repl import UNSET, Require, Sandbox, Unset
from recursive_agent.scoring import Scorer, assess
from recursive_agent.trace.schema import Scored
from recursive_agent.trace.tree import Node

from ..envs.base import Environment, Mode, Session, Task
from ..envs.checks import open_session
from ..scoring.attempts import AttemptJudge, cast

ROLLOUT_LIMITS = Limits(
    max_agents=4096,
    max_children=16,
    max_steps=25,
    max_tokens=None,
    timeout=600.0,
    cell_timeout=10.0,
    cell_memory_mb=128,
    max_concurrency=64,
)
"""Default limits of an attempt; `max_depth` is the environment's."""


class RanElsewhere(NamedTuple):
    """An attempt that another process ran."""

    result: Result
    session: Session
    """Stands for the session that it ran in, which is gone: without tools, and with its metrics."""


class AttemptRunner(Protocol):
    """Runs attempts in other processes than this one (`rollouts.ray`)."""

    async def run(
        self,
        environment: Environment,
        task: Task,
        model: Model,
        settings: AttemptSettings,
        *,
        seed: int,
        group: str,
    ) -> RanElsewhere:
        """One attempt as `rollout` makes it; its trace goes into the `trace_dir` of the settings.

        The runner has its own sandboxes, so `settings.sandbox` is not used. If the endpoint fails during the attempt, the
        result is the tree up to that point. Raises ConfigurationError for a model or a setting that cannot leave this
        process, and otherwise like `run_attempt`.
        """


class PublishingRunner(AttemptRunner, AbstractAsyncContextManager["PublishingRunner"], Protocol):
    """A runner that has models of its own, to be told of each push while it is open."""

    async def publish(self) -> None:
        """Sample from now on with what was pushed last; attempts under way go on with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptSettings:
    """Settings of attempts: the agents' limits, the sampling, the sandbox, and the recording.

    Raises ConfigurationError for an unknown mode or a concurrency below 1.
    """

    mode: Mode = "recursive"
    """`single` is the same agent without `launch_subagent` (depth 0)."""
    limits: Limits = ROLLOUT_LIMITS
    """`max_depth` of these limits is not used: see `max_depth` below."""
    max_depth: int | None = None
    """Deepest level of sub-agents in a recursive attempt; None: the environment's."""
    context_limit: int | None = None
    """Most tokens of one agent's conversation; None: the model's window."""
    compact: Compaction | None = None
    """When and how an agent's conversation is compacted; None: never."""
    sampling: Mapping[str, Any] | None = None
    """Sampling settings that replace the model's own."""
    trace_dir: Path | None = None
    """Folder for the traces; None: nothing is recorded."""
    sandbox: str | Sandbox = "process"
    """Where the agents' code runs: a name, or a sandbox that is open already."""
    require: Require | Unset = UNSET
    """Which isolation the sandbox must provide to start (see `make_sandbox`)."""
    judge: AttemptJudge | None = None
    """Scores the agents whose score the session does not know."""
    concurrency: int = 8
    """Most trees at a time, where there are many attempts."""
    places: anyio.CapacityLimiter | None = None
    """Bounds the trees of all that share it together, besides; None: nothing else does."""
    runner: AttemptRunner | None = None
    """Where attempts run if not in this process (`rollouts.ray`)."""

    def __post_init__(self) -> None:
        if self.mode not in ("single", "recursive"):
            raise ConfigurationError(f"mode must be 'single' or 'recursive', not {self.mode!r}")
        if self.concurrency < 1:
            raise ConfigurationError(f"concurrency must be at least 1, not {self.concurrency}")

    def depth(self, environment: Environment) -> int:
        """Deepest level of sub-agents in an attempt at a task of `environment`."""
        if self.mode == "single":
            return 0
        return environment.max_depth if self.max_depth is None else self.max_depth


DEFAULT_SETTINGS = AttemptSettings()


def attempt_seed(seed: int, task: str, number: int = 0) -> int:
    """The seed of attempt `number` at a task (or group), derived from the seed of the whole job.

    Every attempt needs its own: with one seed for all, each tree would draw the same numbers at the same place, and
    attempts at different tasks would succeed and fail together.
    """
    return int.from_bytes(blake2b(f"{seed}/{task}/{number}".encode(), digest_size=6).digest(), "big")


def agent_for(
    environment: Environment, session: Session, model: Model, settings: AttemptSettings = DEFAULT_SETTINGS
) -> Agent:
    """The agent that attempts a task: the session's tools, and the environment's depth."""
    return Agent(
        model,
        tools=session.tools,
        limits=replace(settings.limits, max_depth=settings.depth(environment)),
        sandbox=settings.sandbox,
        require=settings.require,
        context_limit=settings.context_limit,
        compact=settings.compact,
        sampling=settings.sampling,
        trace_dir=settings.trace_dir,
    )


def _casting(session: Session, score: Scorer) -> Scorer:
    """The same scorer; its events say which agents must not be trained."""

    async def score_cast(node: Node) -> Scored:
        return cast(session, node, await assess(score, node))

    return score_cast


async def rollout(
    environment: Environment,
    task: Task,
    model: Model,
    settings: AttemptSettings = DEFAULT_SETTINGS,
    *,
    seed: int | None = None,
    group: str | None = None,
    session: Session | None = None,
) -> Result:
    """One attempt at `task`; the session scores every node.

    `group` is the name of its group; default: the task's id. `session` is a fresh one of the task; None: it is opened here.
    Raises ModelError if the judge of `settings` fails every call.
    """
    if session is None:
        session = open_session(environment, task)
    agent = agent_for(environment, session, model, settings)
    if settings.judge is not None:
        score: Scorer = settings.judge.scorer(session, timeout=settings.limits.timeout)
    else:
        score = _casting(session, session.score)
    result = await agent.solve(
        task.goal, context=task.context, returns=task.returns, seed=seed, score=score, group=group or task.id
    )
    if settings.judge is not None:
        settings.judge.check()
    return result
