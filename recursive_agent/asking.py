"""Calls of the caller's own functions (scorers, approvers), sync or async: how they ended, whatever they do."""

from __future__ import annotations

from collections.abc import Callable
from inspect import isawaitable, iscoroutine, iscoroutinefunction
from typing import Any

from .concurrency import Ended, settled
from .threads import settled_in_thread


def is_async(function: Callable[..., Any]) -> bool:
    """Whether calling it gives a coroutine at once: an async function, or an object whose `__call__` is one."""
    return iscoroutinefunction(function) or iscoroutinefunction(type(function).__call__)


async def asked(function: Callable[[Any], Any], subject: Any) -> Ended:
    """How `function(subject)` ended, awaited where it gives something to await; what it raises is data.

    A function that is not async runs in a thread. Whoever cancels the call goes on, whether the function does or hangs.
    """
    if is_async(function):
        return await settled(lambda: function(subject))
    question = _Question(function, subject)
    try:
        ended = await settled_in_thread(question.ask)
        return await settled(question.awaited) if isawaitable(ended.value) else ended
    finally:
        question.leave()


class _Question:
    """A call of a function that is not async. If it returns an awaitable all the same, that is awaited, or closed when the
    caller has gone."""

    def __init__(self, function: Callable[[Any], Any], subject: Any) -> None:
        self._function = function
        self._subject = subject
        self._answer: Any = None
        self._left = False

    def ask(self) -> Any:
        """In a thread."""
        answer = self._answer = self._function(self._subject)
        if self._left:  # meanwhile
            self.leave()
        return answer

    async def awaited(self) -> Any:
        """What it gave, awaited."""
        answer, self._answer = self._answer, None
        return await answer

    def leave(self) -> None:
        """Nobody waits any more."""
        self._left = True
        answer, self._answer = self._answer, None
        if iscoroutine(answer):
            answer.close()
