"""One run from root to record: launch the root agent, score the nodes, close the trace."""

from __future__ import annotations

import math
import os
import uuid
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio

from ._version import __version__
from .concurrency import task_group, the_cause
from .errors import ConfigurationError, RaoError, SandboxError, described, documented
from .goal import Goal
from .launch import Launch, Outcome
from .limits import Account, Budget, Limits
from .node import AgentNode
from .plain import NotPlain, plain
from .repl.base import Sandbox
from .result import Result
from .scoring import Scorer, assess, unscored
from .trace.folder import trace_path
from .trace.recorder import Recorder
from .trace.schema import ROOT, Scored
from .trace.store import TraceWriter
from .trace.tree import Node
from .tree import RunConfig, Sink, Tree

Ready = Callable[[AsyncExitStack], Awaitable[tuple[RunConfig, Sandbox]]]
"""Opens what a run needs, to be closed with the stack."""
_OPEN_SECONDS = 60.0
"""How long opening them may take at least, before the run's own time begins."""
_CLOSE_SECONDS = 10.0
"""How long closing the sandbox and the connection may take before it is left."""
SCORING_SECONDS = 5.0
"""How long scorers have at least, where the run itself has used up the time; never more than the run had."""


async def run_goal(
    goal: Goal,
    ready: Ready,
    *,
    limits: Limits,
    trace_dir: Path | None = None,
    secrets: Sequence[str] = (),
    sinks: tuple[Sink, ...] = (),
) -> Result:
    """Open what the run needs, run it to its end, and give its record. `secrets` are redacted in the trace.

    Raises what `Agent.solve` raises; where the run had begun, `error.result` is the run as far as it came.
    """
    tree: Tree | None = None
    outcome: Outcome | None = None
    path: Path | None = None
    failure: RaoError | None = None
    try:
        # Around the run lies the time to open what it needs, and to close it; in between, the tree has its own.
        with anyio.CancelScope() as scope:
            async with AsyncExitStack() as stack:
                scope.deadline = anyio.current_time() + max(_OPEN_SECONDS, limits.timeout or math.inf)
                config, sandbox = await ready(stack)
                scope.deadline = math.inf
                run = uuid.uuid4().hex[:12]
                recorder = None
                if trace_dir is not None:
                    path = trace_path(trace_dir, run)
                    writer = TraceWriter(path, secrets=secrets, max_bytes=limits.max_trace_mb * 1024**2)
                    recorder = Recorder(writer)
                    stack.callback(recorder.release)
                tree = Tree(
                    config,
                    sandbox,
                    run=run,
                    seed=goal.seed,
                    group=goal.group,
                    settings=_settings(config, sandbox),
                    sinks=sinks,
                    recorder=recorder,
                )
                outcome = await _run(tree, goal)
                scope.deadline = anyio.current_time() + _CLOSE_SECONDS
        if scope.cancelled_caught and tree is None:
            raise SandboxError("the sandbox and the connection were not open in time; is this machine overloaded?")
    except Exception as error:
        # Once the run has ended, what fails while its sandbox and connection are closed takes nothing from it.
        failure = None if outcome is not None else _documented(error, opening=tree is None)
    if tree is None or ROOT not in tree.record.nodes:
        assert failure is not None
        raise failure
    failure = tree.failure or failure
    if outcome is None:
        outcome = Outcome(tree.record.status, reason=tree.record.root.reason)
    result = Result(outcome.status, tree.record, outcome.reason, path, tree.trace_error, outcome.output)
    if failure is not None:
        failure.result = result
        raise failure
    return result


async def _run(tree: Tree, goal: Goal) -> Outcome:
    """Run the root to its end, score the nodes, close the record.

    Where `tree.failure` is set afterwards, the run failed. Raises only cancellation from outside, and faults of ours.
    """
    async with task_group() as tasks:
        if tree.recorder is not None:
            tasks.start_soon(tree.recorder.run)
        try:
            outcome = await _root(tree, _launch(tree, goal))
            tree.end_all()
            if goal.score is not None:
                await _score(tree, goal.score)
        finally:
            await tree.close()
    return outcome


def _launch(tree: Tree, goal: Goal) -> Launch:
    limits = tree.config.limits
    tokens, cost = Budget(limits.max_tokens), Budget(limits.max_cost)
    return Launch(
        id=ROOT,
        parent=None,
        depth=0,
        goal=goal.text,
        context=goal.context,
        returns=goal.returns,
        account=Account(tokens, cost, tree.config.prices, own_share=False),
        max_steps=limits.max_steps,
        max_tokens=limits.max_tokens,
    )


async def _root(tree: Tree, launch: Launch) -> Outcome:
    try:
        with tree.scope as scope:
            if (timeout := tree.config.limits.timeout) is not None:
                scope.deadline = anyio.current_time() + timeout
            with tree.watching_waits():
                return await AgentNode(tree, launch).run()
    except Exception as error:  # a fault of ours, outside every agent's life
        tree.fail(documented(error))
        raise
    root = tree.record.root
    return Outcome(root.status, reason=root.reason)


async def _score(tree: Tree, score: Scorer) -> None:
    """Score the nodes within the time that the run has left.

    The root is asked about first and recorded last. If the scoring is cut off, every agent that has no score yet gets a
    `judge_error`, the root among them: training then leaves the run out, and `rao score` completes it.
    """
    deadline = math.inf
    if (timeout := tree.config.limits.timeout) is not None:
        deadline = max(tree.scope.deadline, anyio.current_time() + min(SCORING_SECONDS, timeout))
    waiting = dict(tree.record.nodes)
    of_root: Scored | None = None
    try:
        for node in list(waiting.values()):
            with anyio.CancelScope(deadline=deadline) as scope:
                event = await _scored(score, node)
            if scope.cancelled_caught:
                event = unscored(node, TimeoutError("the time of the run was used up"))
            if node.id == ROOT:
                of_root = event
                continue
            del waiting[node.id]
            tree.emit(event)
        if of_root is not None:
            del waiting[ROOT]
            tree.emit(of_root)
    finally:
        for node in reversed(list(waiting.values())):
            tree.emit(unscored(node, InterruptedError("the run was stopped before it was scored")))


async def _scored(score: Scorer, node: Node) -> Scored:
    try:
        return await assess(score, node)
    except ConfigurationError as error:  # a score that is none must not lose the run
        return unscored(node, error)


def _settings(config: RunConfig, sandbox: Sandbox) -> dict[str, Any]:
    """What the trace says of how the run was set up."""
    return {
        "version": __version__,
        "prompt_style": config.prompt_style,
        "action_format": config.action_format,
        "bare_code": config.bare_code,
        "context_limit": config.context_limit,
        "temperature": config.sampling.temperature,
        "top_p": config.sampling.top_p,
        "max_tokens": config.sampling.max_tokens,
        "stop": list(config.sampling.stop),
        **_extra_sampling(config),
        "tools": list(config.tools),
        "sandbox": type(sandbox).__name__,
        "enforced": sorted(sandbox.enforced),
        "as_root": os.geteuid() == 0,
    }


def _extra_sampling(config: RunConfig) -> dict[str, Any]:
    """Settings passed on to the endpoint: training must know of a top_k or a penalty. Headers may hold keys."""
    extra = {name: value for name, value in config.sampling.extra.items() if "header" not in name.lower()}
    try:
        return {"sampling": plain(extra)} if extra else {}
    except NotPlain:
        return {"sampling": dict.fromkeys(extra, "not recorded")}


def _documented(error: Exception, *, opening: bool) -> RaoError:
    if isinstance(error, BaseExceptionGroup):
        cause = the_cause(error)
        error = cause if isinstance(cause, Exception) else error
    if (
        opening and isinstance(error, OSError) and not isinstance(error, RaoError)
    ):  # no process, no descriptor to be had
        failed = SandboxError(f"the sandbox or the connection cannot be opened ({described(error)})")
        failed.__cause__ = error
        return failed
    return documented(error)
