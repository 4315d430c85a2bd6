"""One agent: prompt → model → code → observation, until `finish` or a limit."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import anyio

from .actions import Supplied, Supplies, parse_action
from .concurrency import task_group
from .dialogue import Dialogue
from .errors import ContextOverflow, ModelError, ReplayDiverged, SandboxError, described, documented, message
from .host_calls import LAUNCH, HostCalls
from .launch import Launch, Outcome, partial_of
from .limits import LimitReached
from .model.base import Completion, Trained
from .observations import Observations, Turn, replies, status_line
from .prompts import Situation, model_words
from .repl.base import CellResult, CellStatus, HostCallError, HostFunction, Recording, Repl, ReplLimits, can_record
from .replay import BeginAgain, NodeReplay
from .run_config import RunConfig
from .sizes import is_large
from .status import Status
from .steering import with_messages
from .threads import call_in_thread
from .trace.journal import Past
from .trace.observer import Work
from .trace.schema import CellRan, ClockRead, NodeEnded, NodeResumed, NodeStarted
from .tree import Tree
from .usage import Usage
from .workplace import Workplace
from .wrap_up import WrapUp


class AgentNode:
    """Runs one agent. `run` never raises for what the agent does."""

    def __init__(self, tree: Tree, launch: Launch) -> None:
        self.tree = tree
        self.launch = launch
        self.last_output = ""
        self._outcome = Outcome(Status.CANCELLED, reason="the agent that launched it ended, or the run was cancelled")
        self._step = 0
        self._spent = Usage() if launch.past is None else launch.past.usage
        self._ended = False
        self._dialogue: Dialogue | None = None
        self._host_calls = HostCalls(tree, launch, self._run_child)
        config = self._config = tree.models.config(launch.model)
        window = _window(config)
        offered = tree.models.offered
        # Specialists are held to what they were trained with: their code is run as it stands.
        self._supplies = None if config.prompt_style == "minimal" else Supplies([*config.tools, LAUNCH])
        self._situation = Situation(
            goal=launch.goal,
            context=launch.context,
            schema=launch.returns.schema,
            tools=dict(config.tools),  # servers may change theirs while it works
            can_launch=launch.depth < config.limits.max_depth and config.limits.max_children > 0,
            launcher=config.limits.max_depth > 0 and config.limits.max_children > 0,
            depth=launch.depth,
            max_depth=config.limits.max_depth,
            max_steps=launch.max_steps,
            instructions=config.instructions,
            room=_least(window, launch.max_tokens, config.limits.max_tokens),
            models={name: model_words(each) for name, each in offered.items()},
            own_model=launch.model,
        )
        self._wrap_up = WrapUp(tree, launch, None if config.compact is not None else window)

    @property
    def usage(self) -> Usage:
        """What the agent's own model calls used."""
        return self._spent if self._dialogue is None else self._dialogue.calls.usage

    async def run(self) -> Outcome:
        """The whole life of the agent. Whatever fails in it ends this agent alone; what would fail for all ends the tree.

        Raises nothing but cancellation, and the caller's KeyboardInterrupt. If the caller cancels this agent alone, it ends
        with that outcome.
        """
        with self.tree.steering.stoppable(self.launch.id):
            await self._run()
        return self._outcome

    async def _run(self) -> None:
        outcome = self._outcome
        self.tree.enter(self)
        try:
            await self.tree.emit_large(self._started() if self.launch.past is None else self._resumed(self.launch.past))
            outcome = await self._live()
        except anyio.get_cancelled_exc_class():
            outcome = self.tree.explain_cancellation(self.launch.id) or outcome
            raise
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:
            stopped = (
                self.tree.steering.cancellation(self.launch.id) is not None
            )  # what was stopped may fail in any way
            outcome = (self.tree.explain_cancellation(self.launch.id) if stopped else None) or self._failed(error)
        finally:
            self._end(outcome)

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
            model=launch.model,
            trainable=self._config.trainable,
        )

    def _resumed(self, past: Past) -> NodeResumed:
        return NodeResumed(time=self.tree.now(), node=self.launch.id, step=past.open, redo=list(past.redo))

    def _failed(self, error: BaseException) -> Outcome:
        """How the agent ended by something that it did not do: the siblings go on, unless all would meet the same."""
        known = isinstance(error, ModelError | SandboxError | ReplayDiverged)
        everybody = isinstance(error, ReplayDiverged) or (
            isinstance(error, ModelError) and error.fatal and self.tree.models.lost(self.launch.model, error)
        )
        if everybody or self.launch.parent is None:
            self.tree.fail(documented(error))
        return Outcome(Status.INFRA_ERROR, reason=message(error) if known else described(error))

    def _end(self, outcome: Outcome) -> None:
        """Say how the agent ended, once."""
        if self._ended:
            return
        self._ended, self._outcome = True, outcome
        self.tree.leave(self)
        self.tree.steering.leave(self.launch.id)
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
        if self._dialogue is not None:
            self._dialogue.calls.abandon()
        outcome = self.tree.explain_cancellation(self.launch.id)
        self._end(outcome or Outcome(Status.CANCELLED, reason="it was left behind: something in it did not stop"))

    async def _live(self) -> Outcome:
        while True:
            try:
                return await self._work()
            except BeginAgain as again:
                self._begin_again(again.step)

    def _begin_again(self, step: int) -> None:
        """Do the steps from `step` on anew: what they did before no longer counts, but is found where it is asked for again."""
        past = self.launch.past
        assert past is not None
        self.tree.emit(NodeResumed(time=self.tree.now(), node=self.launch.id, step=step))
        self._spent, self._dialogue = self.usage, None
        self.launch = replace(self.launch, past=past.again())
        self._host_calls = HostCalls(self.tree, self.launch, self._run_child)

    async def _work(self) -> Outcome:
        workplace: Workplace | None = None
        try:
            async with task_group() as own:
                workplace = Workplace(own, self._open_repl)
                outcome = await self._steps(workplace)
                own.cancel_scope.cancel()
            return outcome
        finally:
            if workplace is not None:
                with anyio.CancelScope(shield=True):
                    await workplace.aclose()

    async def _steps(self, workplace: Workplace) -> Outcome:
        config, launch, steering = self._config, self.launch, self.tree.steering
        await self.tree.gate(launch.id)
        dialogue = self._dialogue = Dialogue(self.tree, launch, self._situation, self.usage, self._wrap_up)
        malformed = 0
        replay = NodeReplay(self.tree, launch)
        observations = Observations(
            config.prompt_style, schema=launch.returns.schema, context=launch.context is not None
        )
        for step in range(1, launch.max_steps + 1):
            self._step = self._host_calls.step = step
            try:
                # A REPL is opened while the model thinks; not earlier, or all agents that wait would have a process.
                completion = await dialogue.next(step, replay, on_leaving=workplace.prepare)
            except LimitReached as limit:
                # Alone in its tree, an agent used up the budget by itself.
                alone = limit.status is Status.TREE_BUDGET and self.tree.agents == 1
                return Outcome(Status.TOKEN_LIMIT if alone else limit.status, reason=limit.reason)
            except ContextOverflow as error:
                return Outcome(Status.CONTEXT_OVERFLOW, reason=str(error))
            steering.answered(launch.id)
            action = replay.action(step, parse_action(completion, config.action_format, bare_code=config.bare_code))
            if action.code is None:
                malformed += 1
                if malformed >= config.limits.max_malformed:
                    return Outcome(
                        Status.MALFORMED,
                        reason=f'{malformed} answers in a row without code to run; the last hint to the agent: "{action.note}"',
                    )
                wrap_up = replay.is_over(step) and self._wrap_up.due(action.note or "", launch.max_steps - step)
                text = observations.without_code(action, self._status_line(), wrap_up=wrap_up)
                await self._observe(dialogue, completion, replay.observation(step, text))
                continue
            malformed = 0
            repl = await workplace.repl()
            await self.tree.gate(launch.id)
            started = self.tree.now()
            supplied = Supplied(action.code) if self._supplies is None else self._supplies.to(action.code)
            work = Work("cell", launch.id, step, started)
            with self.tree.doing(work) if replay.is_new(step) else nullcontext():
                cell, new = await replay.run(step, supplied.code, repl)
            if new:
                self._record_cell(supplied.code, started, cell)
            refusal = cell.refused
            if cell.status is CellStatus.FINISHED and replay.asks_after(step):
                dialogue.ask_for(*replies(completion.tool_calls, replay.question))
                continue
            if cell.status is CellStatus.FINISHED:
                accepted = await self._accept(cell.value)
                if isinstance(accepted, Outcome):
                    return accepted
                refusal = accepted
            turn = Turn(cell=cell, action=action, refusal=refusal, added=supplied.notes)
            self.last_output = observations.outcome(turn)
            if replay.is_over(step):
                turn = replace(turn, wrap_up=self._wrap_up.due(self.last_output, launch.max_steps - step))
            text = observations.after_cell(turn, self._status_line())
            await self._observe(dialogue, completion, replay.observation(step, text))
        return Outcome(Status.STEP_LIMIT, reason=f"{launch.max_steps} steps were used without finish()")

    async def _observe(self, dialogue: Dialogue, completion: Completion, text: str) -> None:
        """Add what the agent sees next, with the messages for it; also those that come while the run is paused."""
        if self._step < self.launch.max_steps:
            await self.tree.gate(self.launch.id)
            text = with_messages(text, self.tree.steering.take(self.launch.id))
            dialogue.add(*replies(completion.tool_calls, text))

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

    def _tokens_of_ended_children(self) -> int:
        children = self.tree.record.nodes[self.launch.id].children
        return sum(child.total_usage.total_tokens for child in children if not child.running)

    def _status_line(self) -> str:
        launch = self.launch
        left = None
        if launch.max_tokens is not None:
            left = max(0, launch.max_tokens - self.usage.total_tokens - self._tokens_of_ended_children())
        return status_line(
            step=self._step,
            max_steps=launch.max_steps,
            tokens_left=left,
            max_tokens=launch.max_tokens,
            depth=launch.depth,
            max_depth=self._situation.max_depth,
        )

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
                restarted=cell.restarted,
            )
        )

    async def _open_repl(self) -> Repl:
        config, sandbox = self._config, self.tree.sandbox
        seed = self.tree.cell_seed(self.launch.id)
        extra: dict[str, Any] = {}
        if can_record(sandbox):
            extra["recording"] = Recording(seed=seed, on_clock=self._record_clock)
        return await sandbox.open(
            call=self._host_calls,
            functions=[HostFunction(tool.name, tool.description) for tool in self._situation.tools.values()],
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
            **extra,
        )

    def _record_clock(self, values: Sequence[float]) -> None:
        self.tree.emit(ClockRead(time=self.tree.now(), node=self.launch.id, step=self._step, values=values))

    async def _run_child(self, launch: Launch) -> Any:
        if launch.past is not None and launch.past.ended:  # before its parent could be given the result
            ended = launch.past.node
            if ended.finished:
                return ended.result
            message = f"{ended.status.value}: {ended.reason}"
            raise HostCallError("SubagentError", message, status=ended.status.value, partial=launch.past.partial)
        node = AgentNode(self.tree, launch)
        try:
            outcome = await node.run()
        finally:
            if launch.account is not self.launch.account:
                self.launch.account.give_back(launch.account)
        if outcome.status.finished:
            return outcome.result
        message = f"{outcome.status.value}: {outcome.reason}"
        partial = partial_of(node.last_output, self.tree.record.nodes[launch.id].partial)
        raise HostCallError("SubagentError", message, status=outcome.status.value, partial=partial)


def _window(config: RunConfig) -> int | None:
    """Tokens of the context window, as far as it is known."""
    settings = config.model.settings if isinstance(config.model, Trained) else None
    return _least(None if settings is None else settings.context_length, config.context_limit)


def _least(*limits: int | None) -> int | None:
    return min((limit for limit in limits if limit is not None), default=None)
