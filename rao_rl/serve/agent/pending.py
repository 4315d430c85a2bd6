"""Calls of one run that wait until a client approves or refuses them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import anyio

from recursive_agent import Approval, PendingCall


@dataclass(slots=True)
class _Waiting:
    call: PendingCall
    answered: anyio.Event = field(default_factory=anyio.Event)
    answer: Approval | None = None


class PendingCalls:
    """The calls that wait; `ask` is their approver."""

    def __init__(self) -> None:
        self._waiting: dict[str, _Waiting] = {}

    async def ask(self, call: PendingCall) -> Approval:
        """Wait until the call is answered."""
        waiting = self._waiting[call.id] = _Waiting(call)
        try:
            await waiting.answered.wait()
        finally:
            del self._waiting[call.id]
        return waiting.answer or Approval(False)

    @property
    def calls(self) -> Sequence[PendingCall]:
        """Those without an answer, the oldest first."""
        return [waiting.call for waiting in self._waiting.values() if waiting.answer is None]

    def answer(self, name: str, answer: Approval) -> bool:
        """Answer the call with this id; False where none waits for it (any more)."""
        waiting = self._waiting.get(name)
        if waiting is None or waiting.answer is not None:
            return False
        waiting.answer = answer
        waiting.answered.set()
        return True
