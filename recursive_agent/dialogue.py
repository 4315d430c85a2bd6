"""One agent's conversation with its model: opened, asked step by step, and compacted when it fills the window."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain

from .actions import PYTHON_TOOL
from .compaction import (
    Compaction,
    opening_with,
    request_after,
    turns_of,
    variables_of,
    why_unusable,
)
from .errors import ContextOverflow
from .launch import Launch
from .messages import Message
from .model.base import Completion, Conversation, PerAgent
from .model_calls import ModelCalls
from .prompts import Situation, opening
from .replay import NodeReplay
from .steering import with_messages
from .trace.schema import SUMMARY, ModelCalled
from .tree import Tree
from .usage import Usage
from .wrap_up import WrapUp

_FULL = "the conversation no longer fits the context window"


class Dialogue:
    """What an agent and its model say to each other. Add what the agent is shown next, then ask for its next answer."""

    def __init__(self, tree: Tree, launch: Launch, situation: Situation, usage: Usage, wrap_up: WrapUp) -> None:
        """`usage` is what the agent has used before."""
        self._tree = tree
        self._launch = launch
        self._config = tree.models.config(launch.model)
        self._told: Sequence[str] = tree.steering.take(launch.id)
        """Messages of the operator that came before the first call."""
        self._situation = situation
        self._task: str | None = None
        """What the agent is asked for, once that is no longer its goal."""
        self._asks = False
        """Whether the messages that the model has not seen ask for something else."""
        self._opening_tokens = 0
        self._conversation = self._opened()
        self.calls = ModelCalls(tree, launch, self._conversation, wrap_up)
        self.calls.usage = usage

    def add(self, *messages: Message) -> None:
        """What the agent is shown next."""
        self._conversation.add(*messages)

    def ask_for(self, *messages: Message) -> None:
        """`add`, where the messages ask the agent for something else than its goal."""
        self.add(*messages)
        self._asks = True

    async def next(self, step: int, replay: NodeReplay, *, on_leaving: Callable[[], None]) -> Completion:
        """The answer of a step: from the record where it holds one, else from the model.

        `on_leaving` is called when a call goes out. Raises LimitReached, ContextOverflow, ModelError.
        """
        recorded = replay.step(step)
        if recorded is not None:
            return self._restore(step, recorded)
        if self._asks:
            self._asks, self._task = False, self.calls.unseen[0].content
        if step == 1:
            completion = await self._first(on_leaving)
            self._opening_tokens = completion.usage.prompt_tokens
            return completion
        summary = replay.summary(step)
        compact = self._config.compact
        compacted = summary is not None
        if summary is not None:
            await self._go_on_as_recorded(summary, compact or Compaction())
        try:
            if compact is not None and not compacted and await self._is_full(compact):
                compacted = True
                await self._summarise(step, compact)
            return await self._ask(step, on_leaving)
        except ContextOverflow:
            if compact is None or compacted:
                raise
        await self._summarise(step, compact)
        return await self._ask(step, on_leaving)

    def _opened(self) -> Conversation:
        """A new conversation with the messages that open it."""
        config = self._config
        *before, goal = opening(config.prompt_style, config.action_format, self._situation)
        goal = replace(goal, content=with_messages(goal.content, self._told, below=True))
        self._opening: Sequence[Message] = [*before, goal]
        conversation = self._new()
        conversation.add(*self._opening)
        return conversation

    def _new(self) -> Conversation:
        config = self._config
        if isinstance(config.model, PerAgent):
            return config.model.conversation_for(self._launch.goal, self._launch.context)
        tools = [PYTHON_TOOL] if config.action_format == "tool" else ()
        return config.model.conversation(tools=tools, sampling=config.sampling)

    def _begin(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self.calls.begin(conversation)

    def _restore(self, step: int, recorded: ModelCalled) -> Completion:
        if recorded.restart:
            self._begin(self._new())
        completion = self.calls.restore(recorded)
        if step == 1:
            self._opening, self._opening_tokens = list(recorded.messages), recorded.usage.prompt_tokens
        if self._asks:
            self._asks, self._task = False, recorded.messages[-1 if recorded.restart else 0].content
        return completion

    async def _go_on_as_recorded(self, summary: ModelCalled, compact: Compaction) -> None:
        """Take over a summary of the record, and begin the conversation that goes on with it."""
        turns, least = self._turns(), 1
        if summary.restart:  # some of the last turns were left out of what was summed up
            self._begin(self._new())
            least = len(turns) - len(turns_of(summary.messages[len(self._opening) :]))
        self.calls.restore(summary)
        await self._go_on_from(summary.text, turns, compact, least=max(1, least))

    async def _first(self, on_leaving: Callable[[], None]) -> Completion:
        try:
            return await self._ask(1, on_leaving)
        except ContextOverflow:
            if not self._situation.has_examples(self._config.prompt_style):
                raise
        # The window is smaller than was known. A refused call costs nothing, so begin without examples.
        self._situation = replace(self._situation, room=0)
        self._begin(self._opened())
        return await self._ask(1, on_leaving)

    async def _ask(self, step: int, on_leaving: Callable[[], None]) -> Completion:
        most, compact = None, self._config.compact
        if compact is not None and (window := await self._window()) is not None:
            most = compact.room(await self._conversation.prompt_tokens(), window)
        return await self.calls.ask(step, on_leaving=on_leaving, most=most)

    async def _window(self) -> int | None:
        """The context window, where it is known."""
        known = (self._config.context_limit, await self._config.model.context_length())
        return min((window for window in known if window is not None), default=None)

    async def _is_full(self, compact: Compaction) -> bool:
        window = await self._window()
        return window is not None and compact.is_full(await self._conversation.prompt_tokens(), window)

    def _turns(self) -> list[list[Message]]:
        """The turns of this conversation, the messages that the model has not seen included."""
        return turns_of(self._conversation.messages[len(self._opening) :])

    async def _summarise(self, step: int, compact: Compaction) -> None:
        """Ask for a summary, and begin the conversation that goes on with it. Raises ContextOverflow where there is none.

        The request takes the place of what the agent was to be shown, which may be what is too long. Where there is no room for
        it, the turns that are kept are left out of what is summed up.
        """
        turns = self._turns()
        self.calls.take_back()
        unseen = 1
        try:
            summary = await self._summary(step, compact)
        except ContextOverflow:
            unseen = min(compact.keep, len(turns) - 1)
            if not unseen:
                raise
            earlier = [*self._conversation.messages[: len(self._opening)], *chain.from_iterable(turns[:-unseen])]
            self._begin(self._new())
            self.add(*earlier[: len(earlier) - _shown_after(earlier)])
            summary = await self._summary(step, compact)
        why = why_unusable(summary.text, summary.finish_reason)
        if why is not None:
            raise ContextOverflow(f"{_FULL}, and the agent's summary of it cannot be used: {why}")
        await self._go_on_from(summary.text, turns, compact, least=unseen)

    async def _summary(self, step: int, compact: Compaction) -> Completion:
        """Ask for a summary of the conversation, which ends with an answer."""
        window = await self._window()
        self.add(*request_after(self._conversation.messages[-1], compact.words(window)))
        prompt = await self._conversation.prompt_tokens()
        most = compact.summary_tokens(prompt, window)
        if most is None:
            raise ContextOverflow(f"{_FULL}, and {prompt:,} of {window:,} tokens leave no room for a summary")
        try:
            return await self.calls.ask(step, on_leaving=_nothing, most=most, purpose=SUMMARY, train=compact.train)
        except ContextOverflow as error:
            raise ContextOverflow(f"{_FULL}, and the request for a summary was refused: {error}") from error

    async def _go_on_from(self, summary: str, turns: list[list[Message]], compact: Compaction, *, least: int) -> None:
        """A new conversation with the summary and the last turns, at least `least`: no more where the window would soon be full
        again with them."""
        variables = variables_of(self._tree.record.nodes[self._launch.id])
        begin = opening_with(self._opening, summary, variables, task=self._task)
        window = await self._window()
        kept = max(least, min(compact.keep, len(turns)))
        while True:
            conversation = self._new()
            conversation.add(*begin, *chain.from_iterable(turns[len(turns) - kept :]))
            if kept <= least or window is None:
                break
            if not compact.is_crowded(await conversation.prompt_tokens(), window, opening=self._opening_tokens):
                break
            kept -= 1
        self._begin(conversation)


def _shown_after(messages: Sequence[Message]) -> int:
    """How many messages stand behind the last answer."""
    return next(count for count, message in enumerate(reversed(messages)) if message.role == "assistant")


def _nothing() -> None:
    """A summary needs no interpreter."""
