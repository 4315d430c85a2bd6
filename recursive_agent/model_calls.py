"""The model calls of one agent: each is paid for before it leaves, settled when it ends, and recorded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from hashlib import blake2b

from .errors import ContextOverflow, ModelError
from .launch import Launch
from .limits import LimitReached, Reservation
from .messages import Message
from .model.base import Bounded, Completion, Conversation, Restorable, Retractable, Waiting
from .model.gate import own_waits
from .status import Activity
from .trace.observer import Work
from .trace.schema import STEP, ModelCalled
from .tree import Tree
from .usage import Usage
from .wrap_up import WrapUp

_SLACK = 16
"""A prompt need not be counted where its bound is too high by no more than this part of the answer reserved with it, ..."""
_AMPLE = 8
"""... and where so many such calls could be paid for."""


class ModelCalls:
    """Asks the model for one agent, one call after the other."""

    def __init__(self, tree: Tree, launch: Launch, conversation: Conversation, wrap_up: WrapUp) -> None:
        self.usage = Usage()
        """What the agent's own calls used."""
        self._tree = tree
        self._launch = launch
        self._conversation = conversation
        self._wrap_up = wrap_up
        self._recorded = 0
        """Messages that the trace holds already."""
        self._begun = False
        """Whether the trace holds a call of the agent."""
        self._reservation: Reservation | None = None
        """What is held for the call under way."""

    def begin(self, conversation: Conversation) -> None:
        """Go on with another conversation, whose first call is recorded with its whole prompt."""
        self._conversation, self._recorded = conversation, 0

    @property
    def unseen(self) -> Sequence[Message]:
        """The messages of the conversation that the model has not been shown."""
        return self._conversation.messages[self._recorded :]

    def take_back(self) -> None:
        """Remove the messages that the model has not been shown from the conversation."""
        conversation, sent = self._conversation, self._recorded
        if isinstance(conversation, Retractable):
            conversation.retract(sent)
        else:
            del conversation.messages[sent:]

    async def ask(
        self,
        step: int,
        *,
        on_leaving: Callable[[], None],
        most: int | None = None,
        purpose: str = STEP,
        train: bool = True,
    ) -> Completion:
        """One model call, paid for. `on_leaving` is called when the call has its slot and goes out.

        The answer has at most `most` tokens. `purpose` and `train` are recorded; see `ModelCalled`. Raises LimitReached where
        the budget does not allow it, ContextOverflow, ModelError.
        """
        tree, conversation = self._tree, self._conversation
        config = tree.models.config(self._launch.model)
        answer = config.sampling.max_tokens if most is None else min(config.sampling.max_tokens, most)
        prompt = self._prompt_bound(answer)
        if prompt is None:
            prompt = await conversation.prompt_tokens()
        if config.context_limit is not None:
            answer = min(answer, config.context_limit - prompt)
            if answer < 1:
                raise ContextOverflow(f"the prompt of {prompt:,} tokens leaves no room in {config.context_limit:,}")
        if (cap := self._wrap_up.cap(prompt)) is not None:
            answer = min(answer, cap)
        messages = conversation.messages[self._recorded :]
        waits = partial(tree.waits, self._launch.id)
        reservation = self._reservation = await self._launch.account.reserve(
            prompt, answer, partial(waits, Activity.BUDGET)
        )
        left_at: float | None = None
        try:
            slots = tree.models.slots(self._launch.model)
            async with slots.slot(begun=step > 1, on_delay=partial(waits, Activity.SLOT)) as slot:

                async def retry(tokens: int) -> None:
                    async with slot.lent():
                        await reservation.renew(tokens)

                await tree.gate(self._launch.id)
                on_leaving()
                left_at = tree.now()
                self._leaves()
                with tree.doing(Work("model", self._launch.id, step, left_at, purpose)), own_waits(self._call_waits):
                    completion = await conversation.complete(
                        max_tokens=reservation.completion, seed=self._seed(step, purpose), on_lost=retry
                    )
        except BaseException as error:
            self._settle_failure(error, left=left_at is not None)
            raise
        self._reservation = None
        self._wrap_up.answered(completion, tree.now() - left_at)
        lost = completion.usage.unconfirmed - reservation.lost
        reservation.settle(completion.usage, unconfirmed=max(0, lost))
        usage = completion.usage
        if config.prices is not None:
            usage = replace(usage, cost=config.prices.of_usage(usage))
        self.usage += usage
        await tree.emit_large(
            ModelCalled(
                time=tree.now(),
                node=self._launch.id,
                step=step,
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
                purpose=purpose,
                restart=self._begun and not self._recorded,
                train=train,
                endpoint=completion.endpoint,
            )
        )
        self._recorded, self._begun = len(conversation.messages), True
        return completion

    def _prompt_bound(self, answer: int) -> int | None:
        """A bound of the next prompt that spares a question to the endpoint; None where a little too much may matter.

        What it is too high by is reserved with the answer, which seldom has all the tokens that are reserved for it.
        """
        conversation, account = self._conversation, self._launch.account
        config = self._tree.models.config(self._launch.model)
        if config.context_limit is not None or self._wrap_up.knows_window or not isinstance(conversation, Bounded):
            return None
        if account.cost.limit is not None:
            return None
        if account.tokens.limit is None:
            return conversation.prompt_bound(None)
        bound = conversation.prompt_bound(answer // _SLACK)
        return None if bound is None or account.tokens.free < _AMPLE * (bound + answer) else bound

    def _leaves(self) -> None:
        """Show that the model's answer is waited for now."""
        self._tree.waits(self._launch.id, Activity.MODEL, "the model's answer")

    def _call_waits(self, waiting: Waiting | None) -> None:
        """Show that the call under way waits for its endpoint, or that it goes on."""
        if waiting is None:
            self._leaves()
            return
        activity = Activity.RATE_LIMIT if waiting.throttled else Activity.RETRY
        self._tree.waits(self._launch.id, activity, waiting.reason, waiting.seconds)

    def restore(self, recorded: ModelCalled) -> Completion:
        """Take over a call of the record: what was sent and what was answered, as it stands there. Nothing is sent."""
        completion = Completion(
            text=recorded.text,
            finish_reason=recorded.finish_reason,
            usage=recorded.usage,
            model=recorded.model,
            version=recorded.version,
            tool_calls=tuple(recorded.tool_calls),
            prompt_token_ids=recorded.prompt_token_ids,
            token_ids=recorded.token_ids,
            logprobs=recorded.logprobs,
            attempts=recorded.attempts,
            reasoning=recorded.reasoning,
            endpoint=recorded.endpoint,
        )
        conversation = self._conversation
        del conversation.messages[self._recorded :]  # how we would word it now
        if isinstance(conversation, Restorable):
            conversation.restore(recorded.messages, completion)
        else:
            conversation.add(*recorded.messages, Message("assistant", completion.text, completion.tool_calls))
        self._recorded, self._begun = len(conversation.messages), True
        self._wrap_up.answered(completion, 0.0)
        return completion

    def abandon(self) -> None:
        """Count all that the call under way may still be billed for, where there is one."""
        self._settle_failure(None, left=True)

    def _settle_failure(self, error: BaseException | None, *, left: bool) -> None:
        """Bound what a call without an answer may have cost: what the error says, or all of it where it was cancelled."""
        reservation, self._reservation = self._reservation, None
        if reservation is None:  # it was settled when the agent was left behind
            return
        if isinstance(error, ModelError):
            doubtful = max(0, error.unconfirmed - reservation.lost)
        elif isinstance(error, LimitReached) or not left:
            doubtful = 0
        else:
            doubtful = reservation.prompt + reservation.completion
        reservation.settle(Usage(), unconfirmed=doubtful)
        self.usage += Usage(unconfirmed=reservation.lost)

    def _seed(self, step: int, purpose: str) -> int | None:
        """A seed for this call that depends on the run's seed and the place in the tree, never on timing."""
        if self._tree.seed is None:
            return None
        place = f"{self._tree.seed}/{self._launch.id}/{step}{'' if purpose == STEP else f'/{purpose}'}".encode()
        return int.from_bytes(blake2b(place, digest_size=4).digest(), "big") >> 1
