"""When an agent should hand in what it has: its tokens, its window, the tree's money or time allow about one more call.

It is said once, in the observation before that call. So that the call can be paid for, the answers before it are kept short
enough to leave room for it. Agents that were trained without this (the minimal prompt style) see and feel nothing of it.

All sizes are tokens. A next answer is taken to be as long as the agent's longest so far, a next observation as long as its
longest. Agents that share a budget are taken to need as much as this one each: also those that wait for a sub-agent.
"""

from __future__ import annotations

import math

from .launch import Launch
from .limits import Prices
from .model.base import Completion
from .tree import Tree

_LEAST_ANSWER = 128
_LEAST_OBSERVATION = 64
_AROUND = 32
"""Tokens that a template may put around an answer and an observation."""


class WrapUp:
    """Decides for one agent. `window` is the length of its context window, where that is known."""

    def __init__(self, tree: Tree, launch: Launch, window: int | None) -> None:
        self.said = False
        """Whether the agent was told."""
        self._tree = tree
        self._launch = launch
        self._window = window
        self._active = tree.config.prompt_style != "minimal"
        self._answer = _LEAST_ANSWER
        self._observation = _LEAST_OBSERVATION
        self._after = 0
        """Tokens of the latest prompt and its answer: the next prompt begins with them."""
        self._shown = 0
        """Bytes of the latest observation."""
        self._per_byte = 1.0
        """Tokens that a byte of an observation takes at most, as far as it has been seen."""
        self._slowest = 0.0

    @property
    def knows_window(self) -> bool:
        """Whether answers are cut to what is left of the context window."""
        return self._window is not None

    def cap(self, prompt: int) -> int | None:
        """Most tokens of an answer to this prompt that leave room for a last call; None where it cannot be left."""
        if self._after and self._shown:
            grown = max(1, prompt - self._after)
            self._per_byte = min(1.0, grown / self._shown)
            self._observation = max(self._observation, grown)
        if not self._active or self.said:
            return None
        spare = self._spare(prompt)
        return None if spare < self._answer or spare == math.inf else int(spare)

    def answered(self, completion: Completion, seconds: float) -> None:
        """Note a call that has ended."""
        usage = completion.usage
        self._answer = max(self._answer, usage.completion_tokens)
        self._after = usage.prompt_tokens + usage.completion_tokens
        self._slowest = max(self._slowest, seconds)

    def due(self, observation: str, left: int) -> bool:
        """Whether the next call should be the last one; yes only once. `left` is the number of answers still allowed."""
        self._shown = len(observation.encode("utf-8", "replace"))
        if not self._active or self.said:
            return False
        prompt = self._after + _AROUND + math.ceil(self._shown * self._per_byte)
        # Each agent above needs a call too, one after the other.
        seconds = (2 + self._launch.depth) * self._slowest
        self.said = left == 1 or self._spare(prompt) < self._answer or self._tree.clock.left < seconds
        return self.said

    def _spare(self, prompt: int) -> float:
        """Most tokens that an answer to this prompt may have, if another call is to follow it."""
        more = self._observation + self._answer
        spare = math.inf if self._window is None else self._window - prompt - more
        account, live = self._launch.account, self._tree.live
        if account.tokens.limit is not None:
            sharing = sum(agent.launch.account is account for agent in live)
            free = (account.tokens.limit - account.tokens.settled - account.lent) / max(1, sharing)
            spare = min(spare, (free - 2 * prompt - more) / 2)
        if account.cost.limit is not None and account.prices is not None:
            money = (account.cost.limit - account.cost.settled) / max(1, len(live))
            spare = min(spare, _affordable(money, account.prices, prompt, self._observation, self._answer))
        return spare


def _affordable(money: float, prices: Prices, prompt: int, observation: int, answer: int) -> float:
    """Tokens of an answer that `money` pays for, together with a second call that has this answer in its prompt."""
    dearest = max(prices.prompt, prices.cached or 0.0)
    left = money * 1e6 - (2 * prompt + observation) * dearest - answer * prices.completion
    per_token = dearest + prices.completion
    return left / per_token if per_token > 0 else math.inf
