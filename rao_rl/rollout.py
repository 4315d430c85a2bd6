"""One attempt at one task of an environment, through the same `Agent` that an application uses."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal

from recursive_agent import Agent, Limits, ModelError, RaoError, Result
from recursive_agent.model.base import Model
from recursive_agent.repl import UNSET, Require, Sandbox, Unset, make_sandbox

from .envs.base import Environment, Session, Task

Mode = Literal["single", "recursive"]

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
"""Limits of an attempt where nothing else is asked for; `max_depth` is the environment's."""


def attempt_seed(seed: int, task: str, number: int = 0) -> int:
    """The seed of attempt `number` at a task (or group), drawn from that of the whole work.

    Every attempt has one of its own: where all have the same, each tree draws the same numbers at the same place, and
    attempts at different tasks succeed and fail together.
    """
    return int.from_bytes(blake2b(f"{seed}/{task}/{number}".encode(), digest_size=6).digest(), "big")


def agent_for(
    environment: Environment,
    session: Session,
    model: Model,
    *,
    mode: Mode = "recursive",
    limits: Limits = ROLLOUT_LIMITS,
    max_depth: int | None = None,
    sandbox: Sandbox | str = "process",
    context_limit: int | None = None,
    sampling: Mapping[str, Any] | None = None,
    trace_dir: Path | None = None,
) -> Agent:
    """The agent that attempts a task: the session's tools, and the environment's depth.

    `single` is the same agent with `launch_subagent` withheld (depth 0). `max_depth` None: the environment's.
    """
    deepest = environment.max_depth if max_depth is None else max_depth
    return Agent(
        model,
        tools=session.tools,
        limits=replace(limits, max_depth=deepest if mode == "recursive" else 0),
        sandbox=sandbox,
        context_limit=context_limit,
        sampling=sampling,
        trace_dir=trace_dir,
    )


def shared_sandbox(sandbox: str | Sandbox, require: Require | Unset = UNSET) -> AbstractAsyncContextManager[Sandbox]:
    """One sandbox for many attempts: by name, opened for them; or one that is open already, which stays so."""
    return make_sandbox(sandbox, require=require) if isinstance(sandbox, str) else nullcontext(sandbox)


def kept(error: RaoError) -> Result:
    """The run that an error ended, as far as it came: it costs that tree only.

    Raises the error itself where there is no run, or where every call would fail the same way.
    """
    if not isinstance(error.result, Result) or (isinstance(error, ModelError) and error.fatal):
        raise error
    return error.result


async def rollout(
    environment: Environment,
    task: Task,
    model: Model,
    *,
    seed: int | None = None,
    group: str | None = None,
    **settings: Any,
) -> Result:
    """One attempt at `task`, every node scored by the session. `settings` go to `agent_for`."""
    session = environment.session(task)
    agent = agent_for(environment, session, model, **settings)
    return await agent.solve(
        task.goal, context=task.context, returns=task.returns, seed=seed, score=session.score, group=group or task.id
    )
