"""One agent: prompt → model → code → observation, until `finish` or a limit."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import anyio

from .actions import PYTHON_TOOL, parse_action
from .detached import call_in_thread
from .errors import ContextOverflow, ModelError, SandboxError, described, documented, message
from .groups import the_cause
from .launch import Launch, Wanted
from .limits import ByteBudget, CallBudget, LimitReached, Reservation
from .model.base import Completion, Conversation
from .prompts import Situation, observation, opening, replies, status_line, without_code
from .repl.base import CellResult, CellStatus, HostCallError, HostFunction, HostRequest, Repl, ReplLimits
from .returns import Returns
from .sizes import held_bytes, is_large
from .status import Status
from .tools import ToolContext, ToolFailed
from .trace.schema import CellRan, HostCalled, ModelCalled, NodeEnded, NodeStarted
from .trace.weight import is_heavy_event
from .usage import Usage
from .workplace import Workplace

if TYPE_CHECKING:
    from .tree import Tree

LAUNCH = "launch_subagent"
_OUTLINED = 100
"""Characters of the goal that are kept of a launch that was refused: there may be thousands of them."""
_REMEMBERED = 64 * 1024
"""Bytes of a text that a tool may give again and again, and that is counted once."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a node ended. `output` is the validated value, `result` the same as plain data."""

    status: Status
    output: Any = None
    result: Any = None
    reason: str | None = None


class AgentNode:
    """Runs one agent. `run` never raises for what the agent does."""

    def __init__(self, tree: Tree, launch: Launch) -> None:
        self.tree = tree
        self.launch = launch
        self.usage = Usage()
        self.children = 0
        self.last_output = ""
        self._step = 0
        self._ended_children_tokens = 0
        self._out: Reservation | None = None
        """What is held for the model call under way."""
        self._ended = False
        config = tree.config
        self._calls = CallBudget(config.limits.max_calls, config.limits.max_call_mb, "your calls", tree.calls)
        self._answers = ByteBudget(config.limits.max_call_mb, tree.answers)
        self._kept: set[int] = set()
        """Large texts that tools gave and the record holds already."""
        self._recording = anyio.Lock()
        self._tool_context = ToolContext(tree.run, launch.id, launch.parent, launch.depth, launch.goal)
        self._situation = Situation(
            goal=launch.goal,
            context=launch.context,
            schema=launch.returns.schema,
            tools=config.tools,
            can_launch=launch.depth < config.limits.max_depth and config.limits.max_children > 0,
            launcher=config.limits.max_depth > 0 and config.limits.max_children > 0,
            depth=launch.depth,
            max_depth=config.limits.max_depth,
            max_steps=launch.max_steps,
            instructions=config.instructions,
        )

    async def run(self) -> Outcome:
        """The whole life of the agent. Whatever fails in it ends this agent alone; what would fail for all ends the tree.

        Raises nothing but cancellation, and the caller's KeyboardInterrupt.
        """
        outcome = Outcome(Status.CANCELLED, reason="the agent that launched it ended, or the run was cancelled")
        self.tree.enter(self)
        try:
            await self.tree.emit_large(self._started())
            outcome = await self._live()
        except anyio.get_cancelled_exc_class():
            outcome = self.tree.explain_cancellation() or outcome
            raise
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:
            outcome = self._failed(error)
        finally:
            self._end(outcome)
        return outcome

    def _started(self) -> NodeStarted:
        launch = self.launch
        return NodeStarted(
            time=self.tree.now(),
            node=launch.id,
            parent=launch.parent,
            depth=launch.depth,
            goal=launch.goal,
            step=launch.step,
            call=launch.call,
            context=launch.context,
            returns=launch.returns.schema,
            max_steps=launch.max_steps,
            max_tokens=launch.max_tokens,
        )

    def _failed(self, error: BaseException) -> Outcome:
        """How the agent ended by something that it did not do: the siblings go on, unless all would meet the same."""
        known = isinstance(error, ModelError | SandboxError)
        everybody = isinstance(error, ModelError) and error.fatal
        if everybody or self.launch.parent is None:
            self.tree.fail(documented(error))
        return Outcome(Status.INFRA_ERROR, reason=message(error) if known else described(error))

    def _end(self, outcome: Outcome) -> None:
        """Say how the agent ended, once."""
        if self._ended:
            return
        self._ended = True
        self.tree.leave(self)
        self.tree.emit(
            NodeEnded(
                time=self.tree.now(),
                node=self.launch.id,
                status=outcome.status,
                result=outcome.result,
                reason=outcome.reason,
                usage=self.usage,
            )
        )

    def end_abandoned(self) -> None:
        """End an agent that is held up by something which takes no cancellation. What it may still be billed counts."""
        if self._out is not None:
            self._settle_failure(self._out, None, left=True)
        outcome = self.tree.explain_cancellation()
        self._end(outcome or Outcome(Status.CANCELLED, reason="it was left behind: something in it did not stop"))

    async def _live(self) -> Outcome:
        config = self.tree.config
        conversation = config.model.conversation(
            tools=[PYTHON_TOOL] if config.action_format == "tool" else (), sampling=config.sampling
        )
        conversation.add(*opening(config.prompt_style, config.action_format, self._situation))
        workplace: Workplace | None = None
        try:
            async with anyio.create_task_group() as own:
                workplace = Workplace(own, self._open_repl)
                outcome = await self._steps(conversation, workplace)
                own.cancel_scope.cancel()
            return outcome
        except BaseExceptionGroup as group:
            raise the_cause(group) from None
        finally:
            if workplace is not None:
                with anyio.CancelScope(shield=True):
                    await workplace.aclose()

    async def _steps(self, conversation: Conversation, workplace: Workplace) -> Outcome:
        config, launch = self.tree.config, self.launch
        malformed = 0
        shown_how = False
        sent = 0
        for step in range(1, launch.max_steps + 1):
            self._step = step
            try:
                completion, sent = await self._ask(conversation, sent, workplace)
            except LimitReached as limit:
                # Alone in its tree, an agent used up the budget by itself.
                alone = limit.status is Status.TREE_BUDGET and self.tree.agents == 1
                return Outcome(Status.TOKEN_LIMIT if alone else limit.status, reason=limit.reason)
            except ContextOverflow as error:
                return Outcome(Status.CONTEXT_OVERFLOW, reason=str(error))
            action = parse_action(completion, config.action_format, bare_code=config.bare_code)
            if action.code is None:
                malformed += 1
                if malformed >= config.limits.max_malformed:
                    return Outcome(Status.MALFORMED, reason=f"{malformed} answers in a row without code: {action.note}")
                text = without_code(config.prompt_style, action, self._status_line(), again=shown_how)
                shown_how = shown_how or action.example is not None
                conversation.add(*replies(completion.tool_calls, text))
                continue
            malformed = 0
            repl = await workplace.repl()
            started = self.tree.now()
            cell = await repl.run(action.code)
            self._record_cell(action.code, started, cell)
            refusal = cell.refused
            if cell.status is CellStatus.FINISHED:
                accepted = await self._accept(cell.value)
                if isinstance(accepted, Outcome):
                    return accepted
                refusal = accepted
            text = observation(config.prompt_style, cell, action, refusal, self._status_line())
            self.last_output = text
            conversation.add(*replies(completion.tool_calls, text))
        return Outcome(Status.STEP_LIMIT, reason=f"{launch.max_steps} steps were used without finish()")

    async def _accept(self, value: Any) -> Outcome | str:
        """The end of the agent with this value, or why it does not fit.

        Validators are the caller's code, and a value may be large: both are left to a thread, so that neither holds up
        the other agents, nor outlasts the run.
        """
        returns = self.launch.returns

        def check() -> Outcome:
            output = returns.validate(value)
            return Outcome(Status.FINISHED, output, returns.plain(output))

        try:
            trusted = returns.schema is None or self.launch.parent is not None  # others' wishes are checked elsewhere
            if trusted and not is_large(value):
                return check()
            return await call_in_thread(check)
        except (anyio.get_cancelled_exc_class(), KeyboardInterrupt, GeneratorExit):
            raise
        except ValueError as error:
            return message(error)
        except BaseException as error:  # a validator that fails on an odd value has refused it
            return f"checking the value raised {described(error)}"

    async def _ask(self, conversation: Conversation, sent: int, workplace: Workplace) -> tuple[Completion, int]:
        """One model call, paid for. `sent` counts the messages that the trace already holds."""
        config = self.tree.config
        prompt = await conversation.prompt_tokens()
        answer = config.sampling.max_tokens
        if config.context_limit is not None:
            answer = min(answer, config.context_limit - prompt)
            if answer < 1:
                raise ContextOverflow(f"the prompt of {prompt:,} tokens leaves no room in {config.context_limit:,}")
        messages = conversation.messages[sent:]
        reservation = self._out = await self.launch.account.reserve(prompt, answer)
        left_at: float | None = None
        try:
            async with self.tree.slots.slot(begun=self._step > 1) as slot:

                async def retry(tokens: int) -> None:
                    async with slot.lent():
                        await reservation.renew(tokens)

                workplace.prepare()  # while the model thinks; not earlier, or all who wait would have a process
                left_at = self.tree.now()
                completion = await conversation.complete(
                    max_tokens=reservation.completion, seed=self._seed(), on_lost=retry
                )
        except BaseException as error:
            self._settle_failure(reservation, error, left=left_at is not None)
            raise
        self._out = None
        lost = completion.usage.unconfirmed - reservation.lost
        reservation.settle(completion.usage, unconfirmed=max(0, lost))
        usage = completion.usage
        if config.prices is not None:
            usage = replace(usage, cost=config.prices.of_usage(usage))
        self.usage += usage
        await self.tree.emit_large(
            ModelCalled(
                time=self.tree.now(),
                node=self.launch.id,
                step=self._step,
                started=left_at,
                messages=messages,
                text=completion.text,
                finish_reason=completion.finish_reason,
                usage=usage,
                model=completion.model,
                version=completion.version,
                tool_calls=completion.tool_calls,
                prompt_token_ids=completion.prompt_token_ids,
                token_ids=completion.token_ids,
                logprobs=completion.logprobs,
                attempts=completion.attempts,
                reasoning=completion.reasoning,
            )
        )
        return completion, len(conversation.messages)

    def _settle_failure(self, reservation: Reservation, error: BaseException | None, *, left: bool) -> None:
        """Bound what a call without an answer may have cost: what the error says, or all of it where it was cancelled."""
        if self._out is None:  # it was settled when the agent was left behind
            return
        self._out = None
        if isinstance(error, ModelError):
            doubtful = max(0, error.unconfirmed - reservation.lost)
        elif isinstance(error, LimitReached) or not left:
            doubtful = 0
        else:
            doubtful = reservation.prompt + reservation.completion
        reservation.settle(Usage(), unconfirmed=doubtful)
        self.usage += Usage(unconfirmed=reservation.lost)

    def _seed(self) -> int | None:
        """A seed for this call that depends on the run's seed and the place in the tree, never on timing."""
        if self.tree.seed is None:
            return None
        place = f"{self.tree.seed}/{self.launch.id}/{self._step}".encode()
        return int.from_bytes(blake2b(place, digest_size=4).digest(), "big") >> 1

    def _status_line(self) -> str:
        launch = self.launch
        left = None
        if launch.max_tokens is not None:
            left = max(0, launch.max_tokens - self.usage.total_tokens - self._ended_children_tokens)
        return status_line(step=self._step, max_steps=launch.max_steps, tokens_left=left, situation=self._situation)

    def _record_cell(self, code: str, started: float, cell: CellResult) -> None:
        self.tree.emit(
            CellRan(
                time=self.tree.now(),
                node=self.launch.id,
                step=self._step,
                started=started,
                code=code,
                status=cell.status,
                output=cell.output,
                error=cell.error,
                cpu=cell.cpu,
            )
        )

    async def _open_repl(self) -> Repl:
        config = self.tree.config
        return await self.tree.sandbox.open(
            call=self._host_call,
            functions=[HostFunction(tool.name, tool.description) for tool in config.tools.values()],
            context=self.launch.context,
            launcher=self._situation.launcher,
            returns=None if self.launch.parent is None else self.launch.returns.schema,
            limits=ReplLimits(
                cell_timeout=config.limits.cell_timeout,
                memory_mb=config.limits.cell_memory_mb,
                most_calls=2 * config.limits.max_calls,
                cpu_seconds=60 + self.launch.max_steps * (config.limits.cell_timeout + 5),
                pool=self.tree.memory,
            ),
        )

    def _host_call(self, request: HostRequest) -> Awaitable[Any]:
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
        started, step = self.tree.now(), self._step
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
                    result = await self.tree.config.tools[request.name].call(
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
                    time=self.tree.now(),
                    node=self.launch.id,
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
            await self.tree.emit_large(event)
            return
        try:
            await self._recording.acquire()
        except BaseException:
            self.tree.emit(replace(event, args=[], kwargs=_outline(event.kwargs), result=None))
            raise
        try:
            await self.tree.emit_large(event)
        finally:
            self._recording.release()

    def _admit(self, request: HostRequest) -> Launch | HostCallError:
        """A place for the child in the tree, or the refusal."""
        try:
            wanted = Wanted.read(request.kwargs)
        except HostCallError as error:
            return error
        refusal = self.tree.refusal(self)
        if refusal is not None:
            return HostCallError("LaunchRefused", refusal)
        account = self.launch.account
        if wanted.max_tokens is not None:
            share = account.share(wanted.max_tokens)
            if share is None:
                free = int(max(0, account.tokens.free))
                return HostCallError(
                    "LaunchRefused", f"a share of {wanted.max_tokens:,} tokens was asked for, {free:,} are free"
                )
            account = share
        limits = self.tree.config.limits
        self.children += 1
        self.tree.agents += 1
        return Launch(
            id=f"{self.launch.id}.{self.children - 1}",
            parent=self.launch.id,
            depth=self.launch.depth + 1,
            goal=wanted.goal,
            context=wanted.context,
            returns=Returns.elsewhere(wanted.returns),
            account=account,
            max_steps=min(wanted.max_steps or limits.max_steps, limits.max_steps),
            max_tokens=wanted.max_tokens,
            step=self._step,
            call=request.id,
        )

    async def _run_child(self, launch: Launch) -> Any:
        node = AgentNode(self.tree, launch)
        try:
            outcome = await node.run()
        finally:
            if launch.account is not self.launch.account:
                self.launch.account.give_back(launch.account)
            self._ended_children_tokens += self.tree.tokens_below(launch.id)
        if outcome.status.finished:
            return outcome.result
        message = f"{outcome.status.value}: {outcome.reason}"
        raise HostCallError("SubagentError", message, status=outcome.status.value, partial=node.last_output or None)


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
