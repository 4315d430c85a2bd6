"""A judge for the agents of an attempt that its environment cannot score, asked as soon as the tree has ended."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import anyio

from recursive_agent.errors import ModelError
from recursive_agent.scoring import assess, unscored
from recursive_agent.trace.schema import Scored
from recursive_agent.trace.tree import Node

from ..envs.base import Session
from .judge import Judge


class AttemptJudge:
    """Scores the agents of attempts: by their session where it knows the score, else by the judge.

    Where the session has a method `reference(node) -> str | None`, the root is judged against that reference, and left without
    a score if there is none. The reference goes to the judge's model only, never into the trace, so a verdict against a
    reference is recorded without its reason. A method `judgeable(node) -> bool` excludes agents that must not be judged (those
    that a failed search cost their answer, say). `secrets` (the key of the judge's endpoint) are cut out of what is recorded.
    """

    def __init__(self, judge: Judge, *, secrets: Sequence[str] = ()) -> None:
        self.judge = judge
        self._secrets = [secret for secret in secrets if secret]
        self._failure: ModelError | None = None

    def scorer(self, session: Session) -> Callable[[Node], Awaitable[Scored]]:
        """The scorer of one attempt. All agents of the tree are judged at once, when the root is asked about."""
        events: dict[str, Scored] = {}

        async def add(node: Node) -> None:
            events[node.id] = await self._assess(session, node)

        async def score(node: Node) -> Scored:
            if node.id not in events:
                async with anyio.create_task_group() as group:
                    for each in node.walk():
                        group.start_soon(add, each)
            return events[node.id]

        return score

    def check(self) -> None:
        """Raises ModelError if the judge's endpoint has refused a call as it would refuse every other one."""
        if self._failure is not None:
            raise self._failure

    async def _assess(self, session: Session, node: Node) -> Scored:
        known = await assess(session.score, node)
        if known.status != "unknown" or node.status.external:
            return known
        if not getattr(session, "judgeable", lambda _: True)(node):
            return known
        reference = None
        if node.parent is None and hasattr(session, "reference"):
            reference = session.reference(node)
            if reference is None:
                return known
        try:
            event = await self.judge.assess(node, reference)
        except ModelError as error:
            self._failure = error
            event = unscored(node, error)
        source = event.source
        for secret in self._secrets:
            source = source.replace(secret, "…")
        return replace(event, source=source)
