"""One run from root to record: launch the root agent, score the nodes, close the trace."""

from __future__ import annotations

import math
import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import anyio

from ._version import __version__
from .concurrency import task_group, the_cause
from .errors import ConfigurationError, RaoError, SandboxError, described, documented
from .goal import Goal
from .launch import Launch, Outcome
from .limits import Account, Budget, Limits
from .model.base import Provided
from .node import AgentNode
from .once import Once, key_of
from .plain import NotPlain, plain
from .repl.base import Sandbox
from .result import Result
from .resume import Continuation
from .resumption import Resumption
from .returns import Returns
from .run_config import RunConfig
from .scoring import OwnTime, Scorer, assess, late, unscored
from .steering import Steering
from .threads import call_in_thread
from .trace.folder import trace_path
from .trace.journal import Past
from .trace.observer import Observer, RunObserver, around, begin_watching, close_all
from .trace.recorder import Recorder
from .trace.schema import ROOT, Scored
from .trace.store import TraceWriter
from .trace.tree import Node
from .tree import Sink, Tree

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
    observers: Sequence[Observer] = (),
    steering: Steering | None = None,
    continuation: Continuation | None = None,
) -> Result:
    """Open what the run needs, run it to its end, and give its record. `secrets` are redacted in the trace.

    Raises what `Agent.solve` raises; where the run had begun, `error.result` is the run as far as it came.
    """
    tree: Tree | None = None
    outcome: Outcome | None = None
    path: Path | None = None
    failure: RaoError | None = None
    watching: list[RunObserver] = []
    try:
        # Around the run lies the time to open what it needs, and to close it; in between, the tree has its own.
        with anyio.CancelScope() as scope:
            async with AsyncExitStack() as stack:
                scope.deadline = anyio.current_time() + max(_OPEN_SECONDS, limits.timeout or math.inf)
                config, sandbox = await ready(stack)
                scope.deadline = math.inf
                run = uuid.uuid4().hex[:12]
                writer: TraceWriter | None = None
                resumption: Resumption | None = None
                if continuation is not None:
                    record, writer = await call_in_thread(continuation.open, trace_dir, secrets, limits)
                    if writer is not None:
                        stack.callback(writer.close)
                    run, goal = record.run, continuation.goal(record, goal)
                    resumption = await call_in_thread(continuation.resumption, record, config, secrets)
                elif trace_dir is not None:
                    writer = TraceWriter(
                        trace_path(trace_dir, run), secrets=secrets, max_bytes=limits.max_trace_mb * 1024**2
                    )
                recorder = None
                if writer is not None:
                    path, recorder = writer.path, Recorder(writer)
                    stack.callback(recorder.release)
                known = None if continuation is None else len(record.resumptions)
                watching, observed = begin_watching(observers, run=run, secrets=secrets, resumptions=known)
                tree = Tree(
                    config,
                    sandbox,
                    run=run,
                    seed=goal.seed,
                    group=goal.group,
                    settings={
                        **_settings(config, sandbox),
                        "cell_seed": run if goal.seed is None else str(goal.seed),
                        **observed,
                    },
                    secrets=secrets,
                    sinks=(*sinks, *(each.event for each in watching)),
                    doing=around(watching),
                    recorder=recorder,
                    resumption=resumption,
                    steering=steering,
                )
                outcome = await _run(tree, goal, None if resumption is None else resumption.past)
                scope.deadline = anyio.current_time() + _CLOSE_SECONDS
        if scope.cancelled_caught and tree is None:
            raise SandboxError("the sandbox and the connection were not open in time; is this machine overloaded?")
    except Exception as error:
        # Once the run has ended, what fails while its sandbox and connection are closed takes nothing from it.
        failure = None if outcome is not None else _documented(error, opening=tree is None)
    finally:
        close_all(watching, None if tree is None else tree.record)
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


async def _run(tree: Tree, goal: Goal, past: Past | None) -> Outcome:
    """Run the root to its end, score the nodes, close the record.

    Where `tree.failure` is set afterwards, the run failed. Raises only cancellation from outside, and faults of ours.
    """
    async with task_group() as tasks:
        if tree.recorder is not None:
            tasks.start_soon(tree.recorder.run)
        try:
            if past is not None and past.ended:  # only the end of its record is missing
                output = await call_in_thread(goal.returns.validate, past.node.result)
                outcome = Outcome(past.node.status, output, past.node.result)
            else:
                outcome = await _root(tree, _launch(tree, goal, past))
            tree.end_all()
            if goal.score is not None:
                await _score(tree, goal.score)
        finally:
            await tree.close()
    return outcome


def _launch(tree: Tree, goal: Goal, past: Past | None) -> Launch:
    limits = tree.config.limits
    tokens, cost = Budget(limits.max_tokens), Budget(limits.max_cost)
    model = tree.models.of_root(goal.text, goal.context, None if past is None else past.node.model)
    return Launch(
        id=ROOT,
        parent=None,
        depth=0,
        goal=goal.text,
        context=goal.context,
        returns=goal.returns,
        account=(tree.account or Account(tokens, cost, None, own_share=False)).at(tree.models.config(model).prices),
        max_steps=limits.max_steps if past is None else past.allowed_steps(limits.max_steps),
        max_tokens=limits.max_tokens,
        model=model,
        past=past,
    )


async def _root(tree: Tree, launch: Launch) -> Outcome:
    try:
        with tree.scope:
            tree.clock.start(tree.config.limits.timeout)
            with tree.watching_waits():
                async with sharing(tree):
                    return await AgentNode(tree, launch).run()
    except Exception as error:  # a fault of ours, outside every agent's life
        tree.fail(documented(error))
        raise
    finally:
        tree.clock.stop()
        tree.steering.detach()
    root = tree.record.root
    return Outcome(root.status, reason=root.reason)


def _ended(node: Node, account: Account) -> Launch:
    """The launch of an agent that had finished before its run was interrupted."""
    return Launch(
        id=node.id,
        parent=node.parent,
        depth=node.depth,
        goal=node.goal,
        context=None,
        returns=Returns(None),
        account=account,
        max_steps=1,
        max_tokens=None,
    )


@asynccontextmanager
async def sharing(tree: Tree) -> AsyncIterator[None]:
    """While the block lasts, the tree has a place for work that several agents wait for, where the run asks for that."""
    if not tree.config.share_identical:
        yield
        return
    async with task_group() as tasks:
        tree.once = Once(tasks)
        for node in tree.record.nodes.values():
            if node.finished and node.parent is not None and tree.account is not None:
                done = _ended(node, tree.account)
                key = key_of(node.goal, node.context, node.returns, node.model, node.max_steps, node.max_tokens)
                tree.once.remember(key, done, node.result)
        yield
        tasks.cancel_scope.cancel()


async def _score(tree: Tree, score: Scorer) -> None:
    """Score the nodes within the time that the run has left, or within the scorer's own (`OwnTime`).

    The root is asked about first and recorded last. If the scoring is cut off, every agent that has no score yet gets a
    `judge_error`, the root among them: training then leaves the run out, and `rao score` completes it.
    """
    deadline = math.inf
    scorer: object = score
    if isinstance(scorer, OwnTime):
        deadline = anyio.current_time() + (math.inf if scorer.scoring_timeout is None else scorer.scoring_timeout)
    elif (timeout := tree.config.limits.timeout) is not None:
        deadline = max(tree.scope.deadline, anyio.current_time() + min(SCORING_SECONDS, timeout))
    waiting = dict(tree.record.nodes)
    of_root: Scored | None = None
    try:
        for node in list(waiting.values()):
            with anyio.CancelScope(deadline=deadline) as scope:
                event = await _scored(score, node)
            if scope.cancelled_caught:
                event = late(node)
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
        **_of_model(config),
        **_of_models(config),
        "tools": list(config.tools),
        "sandbox": type(sandbox).__name__,
        "enforced": sorted(sandbox.enforced),
        "as_root": os.geteuid() == 0,
    }


def _of_model(config: RunConfig) -> dict[str, Any]:
    return {
        **({"provider": config.model.provider} if isinstance(config.model, Provided) else {}),
        "prompt_style": config.prompt_style,
        "action_format": config.action_format,
        "bare_code": config.bare_code,
        "context_limit": config.context_limit,
        "temperature": config.sampling.temperature,
        "top_p": config.sampling.top_p,
        "max_tokens": config.sampling.max_tokens,
        "stop": list(config.sampling.stop),
        **({} if config.compact is None else {"compact": asdict(config.compact)}),
        **_extra_sampling(config),
    }


def _of_models(config: RunConfig) -> dict[str, Any]:
    """The models of the run by name, where it has several: no endpoint and no key."""
    more: dict[str, Any] = {"share_identical": True} if config.share_identical else {}
    if config.name is None:
        return more
    models = {
        name: {
            "model": each.model.name,
            "interface": each.model.interface,
            "trainable": each.trainable,
            "prices": None if each.prices is None else asdict(each.prices),
            **_of_model(each),
        }
        for name, each in ((config.name, config), *config.others.items())
    }
    return {"models": models, **more}


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
