"""Approvals in a run: asks about the calls of one agent, and puts question and answer into the trace."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import anyio.lowlevel

from .approval import Approve, Decision, PendingCall
from .launch import Launch
from .repl.base import HostCallError, HostRequest
from .trace.node import LAUNCH
from .trace.schema import ApprovalAnswered, ApprovalAsked
from .tree import Tree


class Approvals:
    """Asks about calls of one agent."""

    def __init__(self, tree: Tree, launch: Launch) -> None:
        self._tree = tree
        self._launch = launch

    async def obtain(self, request: HostRequest, step: int) -> Mapping[str, Any] | None:
        """Wait until a call is approved, if it needs that. Gives the arguments to use in place of its own, by name, or None.

        Raises HostCallError if the call is refused.
        """
        approve = self._tree.config.approve
        launch = request.name == LAUNCH
        origin = None if launch else self._tree.config.tools[request.name].origin
        if approve is None or not approve.concerns(request.name, launch=launch, origin=origin):
            return None
        kind = "LaunchRefused" if launch else "ToolError"
        call = self._pending(request, step, launch=launch)
        decision = await self._decide(approve, call)
        if not decision.allowed:
            because = "" if decision.reason is None else f": {decision.reason}"
            raise HostCallError(kind, f"the operator of this run did not approve this call{because}")
        return decision.arguments

    def _pending(self, request: HostRequest, step: int, *, launch: bool) -> PendingCall:
        tree, agent = self._tree, self._launch
        if launch:
            arguments = {name: value for name, value in request.kwargs.items() if value is not None}
        else:
            arguments = tree.config.tools[request.name].named(request.args, request.kwargs)
        return PendingCall(
            run=tree.run,
            node=agent.id,
            depth=agent.depth,
            goal=agent.goal,
            step=step,
            call=request.id,
            kind="launch" if launch else "tool",
            name=request.name,
            arguments=arguments,
            usage=tree.record.nodes[agent.id].usage,
            run_usage=tree.record.usage,
        )

    async def _decide(self, approve: Approve, call: PendingCall) -> Decision:
        tree = self._tree
        started = tree.now()
        tree.emit(ApprovalAsked(time=started, node=call.node, step=call.step, call=call.call, name=call.name))
        decision = Decision(allowed=False, error="the agent was stopped before the call was approved")
        try:
            with tree.clock.held():
                async with tree.approving if approve.one_at_a_time else nullcontext():
                    decision = await approve.decide(call)
        finally:
            tree.emit(
                ApprovalAnswered(
                    time=tree.now(),
                    node=call.node,
                    step=call.step,
                    call=call.call,
                    name=call.name,
                    started=started,
                    allowed=decision.allowed,
                    reason=decision.reason,
                    arguments=decision.arguments,
                    error=decision.error,
                )
            )
        await (
            anyio.lowlevel.checkpoint_if_cancelled()
        )  # a late yes must not run the call of an agent that is being stopped
        return decision
