"""What an agent's code asks of the host: calls of tools, and launches of sub-agents."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Mapping
from dataclasses import replace
from typing import Any

import anyio

from .launch import Launch, LaunchRequest
from .limits import ByteBudget, CallBudget
from .repl.base import HostCallError, HostRequest
from .returns import Returns
from .sizes import held_bytes, is_large
from .threads import call_in_thread
from .tools import ToolContext, ToolFailed
from .trace.schema import HostCalled
from .trace.weight import is_heavy_event
from .tree import Tree

LAUNCH = "launch_subagent"
_OUTLINED = 100
"""Characters of the goal that are kept of a launch that was refused: there may be thousands of them."""
_REMEMBERED = 64 * 1024
"""Bytes of a text that a tool may give again and again, and that is counted once."""

RunChild = Callable[[Launch], Awaitable[Any]]
"""Runs a sub-agent to its end and gives its result. Raises HostCallError where it gave none."""


class HostCalls:
    """Answers the calls of one agent, within its budget, and puts each into the trace."""

    def __init__(self, tree: Tree, launch: Launch, run_child: RunChild) -> None:
        limits = tree.config.limits
        self.step = 0
        """The step of the agent that calls belong to now."""
        self.children = 0
        """Sub-agents launched so far."""
        self._tree = tree
        self._launch = launch
        self._run_child = run_child
        self._calls = CallBudget(limits.max_calls, limits.max_call_mb, "your calls", tree.calls)
        self._answers = ByteBudget(limits.max_call_mb, tree.answers)
        self._kept: set[int] = set()
        """Large texts that tools gave and the record holds already."""
        self._recording = anyio.Lock()
        self._tool_context = ToolContext(tree.run, launch.id, launch.parent, launch.depth, launch.goal)

    def __call__(self, request: HostRequest) -> Awaitable[Any]:
        """Take a request of the agent's code, in order of arrival: children are numbered, and refused, in that order."""
        launch = request.name == LAUNCH
        refusal = self._calls.refusal(request.size)
        admitted: Launch | HostCallError | None = None
        if refusal is not None:
            admitted = HostCallError("LaunchRefused" if launch else "ToolError", refusal)
        elif launch:
            admitted = self._admit(request)
        if isinstance(admitted, HostCallError):  # what was refused is not kept, not even until it is answered
            request = replace(request, args=(), kwargs=_outline(request.kwargs))
        return _Answer(self._answer, request, admitted)

    async def _answer(self, request: HostRequest, admitted: Launch | HostCallError | None) -> Any:
        """Answer the agent's code, and put the call into the trace however it ends."""
        started, step = self._tree.now(), self.step
        result: Any = None
        kept: Any = None
        failure: str | None = "cancelled"
        try:
            if isinstance(admitted, HostCallError):
                raise admitted
            if admitted is not None:
                kept = result = await self._run_child(admitted)
            else:
                try:
                    result = await self._tree.config.tools[request.name].call(
                        self._tool_context, request.args, request.kwargs
                    )
                    kept = await self._keep(result)
                except ToolFailed as error:
                    raise HostCallError("ToolError", str(error)) from None
            failure = None
            return result
        except HostCallError as error:
            failure = f"{error.kind}: {error.message}"
            raise
        finally:
            await self._emit_call(
                HostCalled(
                    time=self._tree.now(),
                    node=self._launch.id,
                    step=step,
                    call=request.id,
                    started=started,
                    name=request.name,
                    args=list(request.args),
                    kwargs=dict(request.kwargs),
                    result=kept,
                    error=failure,
                    child=admitted.id if isinstance(admitted, Launch) else None,
                )
            )

    async def _keep(self, answer: Any) -> Any:
        """What the record and the trace keep of a tool's answer: a note of its size, once they hold enough of them."""
        size = await call_in_thread(held_bytes, answer) if is_large(answer) else held_bytes(answer)
        if isinstance(answer, str | bytes) and id(answer) in self._kept:
            return answer
        if not self._answers.take(size):
            return f"… [{size:,} bytes, left out: the answers that are kept have reached Limits.max_call_mb]"
        if isinstance(answer, str | bytes) and size > _REMEMBERED:
            self._kept.add(id(answer))  # the record holds it, so no other will have its number
        return answer

    async def _emit_call(self, event: HostCalled) -> None:
        """Put a call into the record and the trace; of large ones one after the other, so that an agent that makes many
        does not fill the trace's queue, in which all the others wait.
        """
        if not is_heavy_event(event):
            await self._tree.emit_large(event)
            return
        try:
            await self._recording.acquire()
        except BaseException:
            self._tree.emit(replace(event, args=[], kwargs=_outline(event.kwargs), result=None))
            raise
        try:
            await self._tree.emit_large(event)
        finally:
            self._recording.release()

    def _admit(self, request: HostRequest) -> Launch | HostCallError:
        """A place for the child in the tree, or the refusal."""
        try:
            arguments = LaunchRequest.read(request.kwargs)
        except HostCallError as error:
            return error
        refusal = self._tree.refusal(self._launch.depth, self.children)
        if refusal is not None:
            return HostCallError("LaunchRefused", refusal)
        account = self._launch.account
        if arguments.max_tokens is not None:
            share = account.share(arguments.max_tokens)
            if share is None:
                free = int(max(0, account.tokens.free))
                return HostCallError(
                    "LaunchRefused", f"a share of {arguments.max_tokens:,} tokens was asked for, {free:,} are free"
                )
            account = share
        limits = self._tree.config.limits
        self.children += 1
        self._tree.agents += 1
        return Launch(
            id=f"{self._launch.id}.{self.children - 1}",
            parent=self._launch.id,
            depth=self._launch.depth + 1,
            goal=arguments.goal,
            context=arguments.context,
            returns=Returns.elsewhere(arguments.returns),
            account=account,
            max_steps=min(arguments.max_steps or limits.max_steps, limits.max_steps),
            max_tokens=arguments.max_tokens,
            step=self.step,
            call=request.id,
        )


def _outline(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The goal of a launch, shortened, without anything that could be large."""
    goal = arguments.get("goal")
    return {"goal": goal[:_OUTLINED]} if isinstance(goal, str) else {}


class _Answer:
    """Answers a request when it is awaited; a coroutine made beforehand might never be."""

    def __init__(self, answer: Callable[..., Awaitable[Any]], *arguments: Any) -> None:
        self._answer = answer
        self._arguments = arguments

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._answer(*self._arguments).__await__()
