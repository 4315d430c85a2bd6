"""Identical goals of one tree, solved once: the second asker awaits the agent that the first one launched.

Launches are identical if goal, context, returns, model, max_steps and max_tokens are equal. The agent belongs to its first
asker: it is that one's child in the trace, and is paid for by that one's share. If the first asker is cancelled while
others wait, the agent goes on; it is cancelled when nobody waits for it any more. Everybody who waits gets its result or
its failure. A failure is then forgotten, so that whoever asks again has a new agent.

An agent is never made to wait for itself: where the work that it would wait for waits for it in turn (it is a descendant
of that work's agent, directly or by way of others that wait), its goal is solved by an agent of its own.
"""

from __future__ import annotations

import marshal
from collections.abc import Awaitable, Callable
from hashlib import blake2b
from typing import Any

import anyio
from anyio.abc import TaskGroup

from .launch import Launch
from .repl.base import HostCallError

_ENCODING = 2
"""The version of marshal's format in which equal values have equal bytes, however often one object occurs in them."""


def key_of(*inputs: Any) -> bytes | None:
    """A hash of plain data; None for what has no encoding."""
    try:
        return blake2b(marshal.dumps(inputs, _ENCODING), digest_size=20).digest()
    except ValueError:
        return None


class Work:
    """An agent that several others may wait for."""

    def __init__(self, key: bytes | None, launch: Launch, run: Callable[[Launch], Awaitable[Any]]) -> None:
        self.key = key
        self.launch = launch
        self.ended = anyio.Event()
        self.scope = anyio.CancelScope()
        self.begun = False
        self.askers = 0
        self._run = run
        self._value: Any = None
        self._failure: HostCallError | None = HostCallError(
            "SubagentError", "cancelled: the run was cancelled", status="cancelled", partial=None
        )

    @classmethod
    def done(cls, key: bytes, launch: Launch, value: Any) -> Work:
        """One that has ended with this result."""

        async def run(_: Launch) -> Any:
            return value

        work = cls(key, launch, run)
        work._value, work._failure, work.begun = value, None, True
        work.ended.set()
        return work

    @property
    def failed(self) -> bool:
        """Whether it gave no result (so far)."""
        return self._failure is not None

    def outcome(self) -> Any:
        """Its result, once it has ended. Raises HostCallError, a new one for each asker, where it gave none."""
        if (failure := self._failure) is not None:
            raise HostCallError(failure.kind, failure.message, **failure.data)
        return self._value

    async def run(self) -> None:
        """Run the agent to its end."""
        with self.scope:
            try:
                self._value = await self._run(self.launch)
                self._failure = None
            except HostCallError as failure:
                self._failure = failure


class Ticket:
    """The place of one asker among those who wait for a piece of work; `shared` for all but the first."""

    def __init__(self, once: Once, work: Work, asker: str, *, shared: bool) -> None:
        self.work = work
        self.asker = asker
        self.shared = shared
        self._once = once

    @property
    def child(self) -> str:
        """Id of the agent that does the work."""
        return self.work.launch.id

    async def result(self) -> Any:
        """What comes of the work. Raises HostCallError where it failed."""
        work = self.work
        self._once.start(work)
        try:
            await work.ended.wait()
        except BaseException:
            if self._once.leave(self):
                work.scope.cancel()
                with anyio.CancelScope(shield=True):  # no agent outlives the last one who waits for it
                    await work.ended.wait()
            raise
        self._once.leave(self)
        return work.outcome()


class Once:
    """The work of one tree that agents may share; it runs in `tasks`."""

    def __init__(self, tasks: TaskGroup) -> None:
        self._tasks = tasks
        self._works: dict[bytes, Work] = {}
        self._waiting: list[Ticket] = []

    def join(self, key: bytes | None, asker: str) -> Ticket | None:
        """A place among those who wait for the work with this key; None where there is none that this asker may wait for."""
        work = None if key is None else self._works.get(key)
        if work is None or (not work.ended.is_set() and self._waits_for(work, asker)):
            return None
        return self._ticket(work, asker, shared=True)

    def begin(self, key: bytes | None, launch: Launch, run: Callable[[Launch], Awaitable[Any]]) -> Ticket:
        """The first place at new work. Its share of the budget stays open until it has ended."""
        work = Work(key, launch, run)
        if key is not None:
            self._works.setdefault(key, work)
        launch.account.hold()
        return self._ticket(work, launch.parent or "", shared=False)

    def remember(self, key: bytes | None, launch: Launch, value: Any) -> None:
        """Work that was done before the run was interrupted, with what came of it."""
        if key is not None and key not in self._works:
            self._works[key] = Work.done(key, launch, value)

    def start(self, work: Work) -> None:
        """Run the work, unless it runs already."""
        if not work.begun:
            work.begun = True
            self._tasks.start_soon(self._run, work)

    def leave(self, ticket: Ticket) -> bool:
        """An asker waits no more. Whether the work is to be stopped, as nobody is left who waits for it."""
        self._waiting.remove(ticket)
        ticket.work.askers -= 1
        if ticket.work.askers or ticket.work.ended.is_set():
            return False
        self._forget(ticket.work)
        return True

    def _ticket(self, work: Work, asker: str, *, shared: bool) -> Ticket:
        ticket = Ticket(self, work, asker, shared=shared)
        self._waiting.append(ticket)
        work.askers += 1
        return ticket

    async def _run(self, work: Work) -> None:
        try:
            await work.run()
        finally:
            if work.failed:
                self._forget(work)
            work.launch.account.let_go()
            work.ended.set()

    def _forget(self, work: Work) -> None:
        if work.key is not None and self._works.get(work.key) is work:
            del self._works[work.key]

    def _waits_for(self, work: Work, asker: str) -> bool:
        """Whether the work cannot end before `asker` has ended, as far as is known."""
        open_ = [work]
        seen: set[str] = set()
        while open_:
            node = open_.pop().launch.id
            if node in seen:
                continue
            seen.add(node)
            if _is_within(asker, node):
                return True
            open_ += [
                each.work
                for each in self._waiting
                if _is_within(each.asker, node) and not each.work.ended.is_set() and each.work.launch.id not in seen
            ]
        return False


def _is_within(node: str, top: str) -> bool:
    """Whether a node is `top` or one of its descendants, by the path that its id is."""
    return node == top or node.startswith(f"{top}.")
