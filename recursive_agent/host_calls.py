"""What an agent's code asks of the host: calls of tools, and launches of sub-agents."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import fields, replace
from itertools import chain, count
from typing import Any

import anyio

from .approving import Approvals
from .errors import ReplayDiverged, documented
from .launch import Launch, LaunchRequest
from .limits import ByteBudget, CallBudget
from .once import Ticket, key_of
from .repl.base import HostCallError, HostRequest, RecordedAnswer
from .returns import Returns
from .run_config import LaunchInfo
from .sizes import held_bytes, is_large
from .status import Activity
from .threads import call_in_thread
from .tools import ToolContext, ToolFailed
from .trace.journal import Past
from .trace.keys import call_key
from .trace.node import Node
from .trace.observer import Work
from .trace.schema import CallBegan, HostCalled
from .trace.values import is_cut
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
        self._past = launch.past
        self._numbers: Iterator[int] = count()
        if launch.past is not None:
            known = {child_number(child) for child in launch.past.node.children}
            asked = launch.past.question
            self.children = len(known) - (0 if asked is None else asked.children)
            self._numbers = (number for number in count() if number not in known)
        self._run_child = run_child
        self._calls = CallBudget(limits.max_calls, limits.max_call_mb, "your calls", tree.calls)
        self._answers = ByteBudget(limits.max_call_mb, tree.answers)
        self._kept: set[int] = set()
        """Large texts that tools gave and the record holds already."""
        self._recording = anyio.Lock()
        self._approvals = Approvals(tree, launch)
        self._shared: list[str] = []
        """Agents launched by others whose results are waited for now."""
        self._withdrawn = 0
        """Launches that were refused after they had their place."""
        self._tool_context = ToolContext(tree.run, launch.id, launch.parent, launch.depth, launch.goal)

    def __call__(self, request: HostRequest) -> Awaitable[Any]:
        """Take a request of the agent's code, in order of arrival: children are numbered, and refused, in that order."""
        launch = request.name == LAUNCH
        refusal = self._calls.refusal(request.size)
        if self._past is not None:
            answer = self._again(self._past, request)
            if answer is not None:
                return answer
        admitted: Launch | Ticket | HostCallError | None = None
        if refusal is not None:
            admitted = HostCallError("LaunchRefused" if launch else "ToolError", refusal)
        elif launch:
            admitted = self._admit(request)
        if isinstance(admitted, HostCallError):  # what was refused is not kept, not even until it is answered
            request = replace(request, args=(), kwargs=_outline(request.kwargs))
        answer = _Answer(self._answer, request, admitted)
        # In the replay of a cell it is made only where the cell goes on beyond its record.
        return answer if self._past is None else RecordedAnswer(answer, recorded=False)

    def _again(self, past: Past, request: HostRequest) -> Awaitable[Any] | None:
        """The answer to a call that the record of an interrupted run holds; None where it holds none."""
        asked = request.kwargs
        if request.name == LAUNCH:
            with suppress(HostCallError):
                asked = vars_of(LaunchRequest.read(asked))
            found = past.take_launch(
                str(asked.get("goal")),
                asked.get("context"),
                asked.get("returns"),
                max_steps=asked.get("max_steps"),
                max_tokens=asked.get("max_tokens"),
            )
        else:
            found = past.take_call(request.name, request.args, request.kwargs)
        if found is None:
            return None
        if found.event is not None:
            tool = self._tree.config.tools.get(request.name)
            if found.event.omitted or is_cut(found.event.result):
                if self._tree.diverged == "stop" and not (tool is not None and tool.repeat):
                    self._tree.fail(_too_large(found.event))
                    return RecordedAnswer(_Answer(_forever), recorded=False)
                return None
            if found.event.error == "cancelled":  # where the agent's own code did that, it is never awaited
                if request.name == LAUNCH:  # it had not begun
                    return None
                under_way = _UNDER_WAY if tool is not None and tool.repeat is False else None
                return RecordedAnswer(
                    _Answer(self._answer, replace(request, id=found.number), under_way), recorded=False
                )
            return RecordedAnswer(_Answer(self._recorded, found.event))
        if found.child is None:
            return RecordedAnswer(_Answer(self._answer, request, _UNDER_WAY), recorded=False)
        live = self._taken_up(past.pending[found.child.id], found.number, asked)
        return RecordedAnswer(_Answer(self._answer, replace(request, id=found.number), live), recorded=False)

    async def _recorded(self, event: HostCalled) -> Any:
        if event.error is None:
            return event.result
        kind, _, words = event.error.partition(": ")
        detail = event.detail if isinstance(event.detail, Mapping) else {}
        raise HostCallError(kind, words, **{str(name): value for name, value in detail.items()})

    def _taken_up(self, past: Past, call: int, asked: Mapping[str, Any]) -> Launch | Ticket:
        """The launch of a child that the record holds, with what it had done. Goal and context are as they were `asked` for: a
        trace has them without secrets.
        """
        node, limits, models = past.node, self._tree.config.limits, self._tree.models
        model = models.again(node.model)
        account = self._launch.account
        if node.max_tokens is not None and not past.ended:
            account = account.take_over(node.max_tokens, node.total_usage)
        launch = Launch(
            id=node.id,
            parent=self._launch.id,
            depth=node.depth,
            goal=str(asked.get("goal", node.goal)),
            context=asked.get("context"),
            returns=Returns.elsewhere(node.returns),
            account=account.at(models.config(model).prices),
            max_steps=past.allowed_steps(limits.max_steps),
            max_tokens=node.max_tokens,
            step=self.step if node.launched_at is None else node.launched_at.step,
            call=call,
            model=model,
            past=past,
        )
        if (once := self._tree.once) is None:
            return launch
        key = key_of(node.goal, node.context, node.returns, model, launch.max_steps, launch.max_tokens)
        return once.begin(key, launch, self._run_child)

    async def _answer(self, request: HostRequest, admitted: Launch | Ticket | HostCallError | None) -> Any:
        """Answer the agent's code, and put the call into the trace however it ends."""
        started, step = self._tree.now(), self.step
        with self._tree.doing(Work("call", self._launch.id, step, started, request.name, request.id)):
            return await self._answered(request, admitted, started, step)

    async def _answered(
        self, request: HostRequest, admitted: Launch | Ticket | HostCallError | None, started: float, step: int
    ) -> Any:
        result: Any = None
        kept: Any = None
        detail: Any = None
        omitted = False
        failure: str | None = "cancelled"
        child: str | None = None
        try:
            if isinstance(admitted, HostCallError):
                raise admitted
            if isinstance(admitted, Ticket):
                child = admitted.child
                with self._waiting_for(admitted):
                    kept = result = await admitted.result()
            elif admitted is not None:
                approved = admitted if admitted.past is not None else await self._approved(request, step, admitted)
                child = approved.id
                kept = result = await self._run_child(approved)
            else:
                tool = self._tree.config.tools[request.name]
                try:
                    changed = await self._approvals.obtain(request, step)
                    args, kwargs = (request.args, request.kwargs) if changed is None else tool.unnamed(changed)
                    if tool.repeat is False:
                        await self._begins(request, step)
                    result = await tool.call(self._tool_context, args, kwargs)
                    kept, omitted = await self._keep(result)
                except ToolFailed as error:
                    raise HostCallError("ToolError", str(error)) from None
            failure = None
            return result
        except HostCallError as error:
            failure, detail = f"{error.kind}: {error.message}", error.data or None
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
                    child=child,
                    detail=detail,
                    refused=isinstance(admitted, HostCallError) and admitted is not _UNDER_WAY,
                    omitted=omitted,
                    shared=isinstance(admitted, Ticket) and admitted.shared,
                )
            )

    @contextmanager
    def _waiting_for(self, ticket: Ticket) -> Iterator[None]:
        """Show meanwhile that the agent waits for one that is not its own child."""
        if not ticket.shared or ticket.work.ended.is_set():
            yield
            return
        self._shared.append(ticket.child)
        self._show_shared()
        try:
            yield
        finally:
            self._shared.remove(ticket.child)
            self._show_shared()

    def _show_shared(self) -> None:
        others = sorted(set(self._shared))
        reason = f"agent{'s' if len(others) > 1 else ''} {', '.join(others[:10])}" if others else None
        self._tree.waits(self._launch.id, Activity.SUBAGENTS, reason)

    async def _begins(self, request: HostRequest, step: int) -> None:
        """Record that a call is about to be made that must not be repeated, before it is."""
        key = call_key(self._tree.redactor, request.name, request.args, request.kwargs)
        await self._tree.emit_large(
            CallBegan(time=self._tree.now(), node=self._launch.id, step=step, call=request.id, key=key.hex())
        )

    async def _keep(self, answer: Any) -> tuple[Any, bool]:
        """What the record and the trace keep of a tool's answer: a note of its size, once they hold enough of them; and
        whether it is such a note.
        """
        size = await call_in_thread(held_bytes, answer) if is_large(answer) else held_bytes(answer)
        if isinstance(answer, str | bytes) and id(answer) in self._kept:
            return answer, False
        if not self._answers.take(size):
            return f"… [{size:,} bytes, left out: the answers that are kept have reached Limits.max_call_mb]", True
        if isinstance(answer, str | bytes) and size > _REMEMBERED:
            self._kept.add(id(answer))  # the record holds it, so no other will have its number
        return answer, False

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

    def _admit(self, request: HostRequest) -> Launch | Ticket | HostCallError:
        """A place for the child in the tree, the work of another agent on the same goal, or the refusal."""
        limits, once = self._tree.config.limits, self._tree.once
        refusal = self._tree.refusal(self._launch.depth, self.children - self._withdrawn)
        may_share = once is not None and self._launch.depth < limits.max_depth
        try:
            arguments = LaunchRequest.read(request.kwargs)
            if refusal is not None and not may_share:
                raise HostCallError("LaunchRefused", refusal)
            model = self._model_for(arguments)
        except HostCallError as error:
            return error
        key: bytes | None = None
        if once is not None and may_share:
            key = key_of(
                arguments.goal,
                arguments.context,
                arguments.returns,
                model,
                self._steps_of(arguments),
                arguments.max_tokens,
            )
            if (ticket := once.join(key, self._launch.id)) is not None:
                return ticket
        if refusal is not None:
            return HostCallError("LaunchRefused", refusal)
        self.children += 1
        self._tree.agents += 1
        number = next(self._numbers)
        launch = self._launch_of(arguments, model, f"{self._launch.id}.{number}", self.step, request.id)
        if isinstance(launch, HostCallError):
            self._numbers = chain((number,), self._numbers)
            self.children -= 1
            self._tree.agents -= 1
            return launch
        return launch if once is None else once.begin(key, launch, self._run_child)

    async def _approved(self, request: HostRequest, step: int, launch: Launch) -> Launch:
        """The launch as it was approved; its place is given back if it was not. Raises HostCallError."""
        approved: Launch | HostCallError = launch
        try:
            changed = await self._approvals.obtain(request, step)
            if changed is not None:
                arguments = LaunchRequest.read(changed)
                self._give_back(launch)
                approved = self._launch_of(arguments, self._model_for(arguments), launch.id, step, request.id)
            if isinstance(approved, HostCallError):
                raise approved
            return approved
        except BaseException:
            if isinstance(approved, Launch):
                self._give_back(approved)
            self._withdrawn += 1
            self._tree.agents -= 1
            raise

    def _give_back(self, launch: Launch) -> None:
        """Return the tokens of a child that does not start."""
        if launch.account is not self._launch.account:
            self._launch.account.give_back(launch.account)

    def _launch_of(
        self, arguments: LaunchRequest, model: str | None, child: str, step: int, call: int
    ) -> Launch | HostCallError:
        """A launch with its share of tokens, or the refusal."""
        account = self._launch.account
        if arguments.max_tokens is not None:
            share = account.share(arguments.max_tokens)
            if share is None:
                free = int(max(0, account.tokens.free))
                return HostCallError(
                    "LaunchRefused", f"a share of {arguments.max_tokens:,} tokens was asked for, {free:,} are free"
                )
            account = share
        return Launch(
            id=child,
            parent=self._launch.id,
            depth=self._launch.depth + 1,
            goal=arguments.goal,
            context=arguments.context,
            returns=Returns.elsewhere(arguments.returns),
            account=account.at(self._tree.models.config(model).prices),
            max_steps=self._steps_of(arguments),
            max_tokens=arguments.max_tokens,
            step=step,
            call=call,
            model=model,
        )

    def _steps_of(self, arguments: LaunchRequest) -> int:
        limit = self._tree.config.limits.max_steps
        return min(arguments.max_steps or limit, limit)

    def _model_for(self, arguments: LaunchRequest) -> str | None:
        """The child's model. Raises HostCallError; a rule of the caller that fails ends the run."""
        own = self._launch
        info = LaunchInfo(
            goal=arguments.goal,
            context=arguments.context,
            depth=own.depth + 1,
            parent=own.id,
            parent_model=own.model,
            asked=arguments.model,
        )
        try:
            return self._tree.models.of_child(info)
        except HostCallError:
            raise
        except Exception as error:
            self._tree.fail(documented(error))
            raise HostCallError("LaunchRefused", "the run has failed") from None


_UNDER_WAY = HostCallError(
    "ToolError",
    "this call was under way when the run was interrupted: it may have been carried out, and is not made again",
)


def _too_large(event: HostCalled) -> ReplayDiverged:
    return ReplayDiverged(
        f"agent {event.node}, step {event.step}: the answer of {event.name} was too large to be recorded "
        "(Limits.max_call_mb), so its cell cannot be run again; mark the tool with @tool(repeat=True) if it may be called "
        'once more, or resume with diverged="redo"'
    )


def vars_of(request: LaunchRequest) -> dict[str, Any]:
    """The checked arguments of a launch by name."""
    return {field.name: getattr(request, field.name) for field in fields(request)}


def child_number(node: Node) -> int:
    """The place of a child among those of its parent, from 0."""
    return int(node.id.rpartition(".")[2])


async def _forever() -> None:
    await anyio.sleep_forever()


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
