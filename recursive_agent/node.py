"""One agent: prompt → model → code → observation, until `finish` or a limit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import anyio

from .actions import PYTHON_TOOL, Supplied, Supplies, parse_action
from .concurrency import task_group
from .errors import ContextOverflow, ModelError, SandboxError, described, documented, message
from .host_calls import LAUNCH, HostCalls
from .launch import Launch, Outcome
from .limits import LimitReached
from .model.base import Conversation, PerAgent, Trained
from .model_calls import ModelCalls
from .observations import Observations, Turn, replies, status_line
from .prompts import Situation, opening
from .repl.base import CellResult, CellStatus, HostCallError, HostFunction, Repl, ReplLimits
from .sizes import is_large
from .status import Status
from .threads import call_in_thread
from .trace.schema import CellRan, NodeEnded, NodeStarted
from .tree import Tree
from .usage import Usage
from .workplace import Workplace


class AgentNode:
    """Runs one agent. `run` never raises for what the agent does."""

    def __init__(self, tree: Tree, launch: Launch) -> None:
        self.tree = tree
        self.launch = launch
        self.last_output = ""
        self._step = 0
        self._ended_children_tokens = 0
        self._ended = False
        self._model_calls: ModelCalls | None = None
        self._host_calls = HostCalls(tree, launch, self._run_child)
        config = tree.config
        # Specialists are held to what they were trained with: their code is run as it stands.
        self._supplies = None if config.prompt_style == "minimal" else Supplies([*config.tools, LAUNCH])
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
            room=self._room(),
        )

    def _room(self) -> int | None:
        """Tokens that this agent may use at most, in one call or in all, as far as it is known."""
        config = self.tree.config
        settings = config.model.settings if isinstance(config.model, Trained) else None
        window = None if settings is None else settings.context_length
        known = (window, config.context_limit, self.launch.max_tokens, config.limits.max_tokens)
        return min((limit for limit in known if limit is not None), default=None)

    @property
    def usage(self) -> Usage:
        """What the agent's own model calls used."""
        return Usage() if self._model_calls is None else self._model_calls.usage

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
        if self._model_calls is not None:
            self._model_calls.abandon()
        outcome = self.tree.explain_cancellation()
        self._end(outcome or Outcome(Status.CANCELLED, reason="it was left behind: something in it did not stop"))

    async def _live(self) -> Outcome:
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

    def _begin(self) -> tuple[Conversation, ModelCalls]:
        """A new conversation with the messages that open it, and the calls that go on with it."""
        config = self.tree.config
        conversation = self._conversation()
        conversation.add(*opening(config.prompt_style, config.action_format, self._situation))
        calls = ModelCalls(self.tree, self.launch, conversation)
        calls.usage = self.usage
        self._model_calls = calls
        return conversation, calls

    def _conversation(self) -> Conversation:
        config = self.tree.config
        if isinstance(config.model, PerAgent):
            return config.model.conversation_for(self.launch.goal, self.launch.context)
        tools = [PYTHON_TOOL] if config.action_format == "tool" else ()
        return config.model.conversation(tools=tools, sampling=config.sampling)

    async def _steps(self, workplace: Workplace) -> Outcome:
        config, launch = self.tree.config, self.launch
        conversation, calls = self._begin()
        malformed = 0
        observations = Observations(
            config.prompt_style, schema=launch.returns.schema, context=launch.context is not None
        )
        for step in range(1, launch.max_steps + 1):
            self._step = self._host_calls.step = step
            try:
                # A REPL is opened while the model thinks; not earlier, or all agents that wait would have a process.
                try:
                    completion = await calls.ask(step, on_leaving=workplace.prepare)
                except ContextOverflow:
                    if step > 1 or not self._situation.has_examples(config.prompt_style):
                        raise
                    # The window is smaller than was known. A refused call costs nothing, so begin without examples.
                    self._situation = replace(self._situation, room=0)
                    conversation, calls = self._begin()
                    completion = await calls.ask(step, on_leaving=workplace.prepare)
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
                    return Outcome(
                        Status.MALFORMED,
                        reason=f'{malformed} answers in a row without code to run; the last hint to the agent: "{action.note}"',
                    )
                text = observations.without_code(action, self._status_line())
                conversation.add(*replies(completion.tool_calls, text))
                continue
            malformed = 0
            repl = await workplace.repl()
            started = self.tree.now()
            supplied = Supplied(action.code) if self._supplies is None else self._supplies.to(action.code)
            cell = await repl.run(supplied.code)
            self._record_cell(supplied.code, started, cell)
            refusal = cell.refused
            if cell.status is CellStatus.FINISHED:
                accepted = await self._accept(cell.value)
                if isinstance(accepted, Outcome):
                    return accepted
                refusal = accepted
            turn = Turn(cell=cell, action=action, refusal=refusal, added=supplied.notes, left=launch.max_steps - step)
            text = observations.after_cell(turn, self._status_line())
            self.last_output = observations.outcome(turn)
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

    def _status_line(self) -> str:
        launch = self.launch
        left = None
        if launch.max_tokens is not None:
            left = max(0, launch.max_tokens - self.usage.total_tokens - self._ended_children_tokens)
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
            )
        )

    async def _open_repl(self) -> Repl:
        config = self.tree.config
        return await self.tree.sandbox.open(
            call=self._host_calls,
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
