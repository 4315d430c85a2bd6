"""A judge for the agents of an attempt that its environment cannot score, asked as soon as the tree has ended."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import anyio

from recursive_agent.concurrency import task_group
from recursive_agent.errors import ConfigurationError, ModelError, described
from recursive_agent.scoring import assess, late, unscored
from recursive_agent.trace.schema import Scored
from recursive_agent.trace.tree import Node

from ..envs.base import Casting, Session
from ..errors import JudgeError, JudgeFailed
from .calibration import Calibration
from .judge import Judge, failures_of

_MAX_FAILURES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """How the judge is to be asked about an agent. It can be sent to another process, which the session cannot."""

    reference: str | None = None
    """The right answer; None: the agent is judged by its goal and what it did."""
    problem: str | None = None
    """Why the session could not say how; the agent then has no score."""


def question_of(session: Session, node: Node) -> Question | None:
    """How the judge is to be asked about an agent; None where it must not be."""
    try:
        if not getattr(session, "judgeable", lambda _: True)(node):
            return None
        if node.parent is None and hasattr(session, "reference"):
            reference = session.reference(node)
            return None if reference is None else Question(reference=reference)
    except Exception as error:  # the environment's code: what it cannot say of one agent is no reason to stop
        return Question(problem=described(error))
    return Question()


def questions_of(session: Session, root: Node) -> dict[str, Question]:
    """The questions about all agents of a tree that may be judged, by their ids."""
    asked = {node.id: question_of(session, node) for node in root.walk()}
    return {node: question for node, question in asked.items() if question is not None}


class AttemptJudge:
    """Scores the agents of attempts: by their session where it knows the score, else by the judge.

    Where the session has a method `reference(node) -> str | None`, the root is judged against that reference, and left without
    a score if there is none. The reference goes to the judge's model only, never into the trace, so a verdict against a
    reference is recorded without its reason. A method `judgeable(node) -> bool` excludes agents that must not be judged (those
    that a failed search cost their answer, say). `secrets` (the key of the judge's endpoint) are cut out of what is recorded.

    All attempts of a run share one, so that its judge's calls are bounded together and its failures are counted over all of
    them: after `max_failures` failed verdicts in a row, or one failure that every call would meet, nobody is judged any more,
    and `check` raises.

    With `calibration`, the judge also judges agents whose score the session knows. That score stays; how far the two agree
    is counted there.
    """

    def __init__(
        self,
        judge: Judge,
        *,
        secrets: Sequence[str] = (),
        max_failures: int = _MAX_FAILURES,
        calibration: Calibration | None = None,
    ) -> None:
        self.judge = judge
        self.calibration = calibration
        self._max_failures = max_failures
        self._secrets = [secret for secret in secrets if secret]
        self._failure: ModelError | None = None

    def scorer(self, session: Session, *, timeout: float | None = None) -> AttemptScorer:
        """The scorer of one attempt. Its session has `timeout` seconds (None: any time) to score all agents; the judge has the
        time of its own settings."""
        return AttemptScorer(self, session, timeout)

    def check(self) -> None:
        """Raises ModelError if the judge fails every call: its endpoint refuses them, or many verdicts in a row failed."""
        if self._failure is not None:
            raise self._failure

    def asks(self, node: Node, known: Scored) -> bool:
        """Whether the judge is needed for an agent of which the session says `known`."""
        if known.status == "scored":
            return self.calibration is not None and node.finished
        return known.status == "unknown" and not node.status.external

    async def judged(self, node: Node, known: Scored, question: Question | None) -> Scored:
        """The score event of an agent of which the session says `known`; None as the question: it must not be judged."""
        if question is None or not self.asks(node, known):
            return known
        exact = known.status == "scored"
        if question.problem is not None:
            return known if exact else replace(known, status="judge_error", source=question.problem)
        event = await self._ask(node, question.reference)
        if exact and self.calibration is not None and known.score is not None:
            self.calibration.add(node, event.score, known.score)
            return known
        return event

    async def judge_recorded(self, root: Node, questions: Mapping[str, Question]) -> list[Scored]:
        """What the judge changes of the scores of a tree that its session has scored already, in another process.

        `questions` are those of the session (`questions_of`). The root's event is the last. Agents that have not been scored at
        all, since the run was stopped, stay so.
        """
        events: list[Scored] = []

        async def add(node: Node, known: Scored) -> None:
            event = await self.judged(node, known, questions.get(node.id))
            if event is not known:
                events.append(replace(event, trainable=node.trainable))

        async with task_group() as group:
            for node in root.walk():
                if node.score_status is not None:
                    group.start_soon(add, node, _recorded(node))
        return sorted(events, key=lambda event: event.node == root.id)

    @property
    def secrets(self) -> Sequence[str]:
        """What must not get into a trace."""
        return self._secrets

    async def _ask(self, node: Node, reference: str | None) -> Scored:
        if self._failure is not None:  # it would cost every agent the whole patience of its client
            return self._unasked(node)
        try:
            event = await self.judge.assess(node, reference)
        except ModelError as error:
            self._failure = type(error)(f"the judge {self.judge.model.name} cannot be asked: {error}")
            return self._unasked(node)
        if self._failure is None and self.judge.failed_in_row >= self._max_failures:
            self._failure = JudgeFailed(
                f"{self.judge.failed_in_row:,} verdicts in a row of the judge {self.judge.model.name} failed "
                f"(in all: {failures_of(self.judge)}); mend its endpoint, or name another judge, and run the command again "
                "(training: with --resume)"
            )
        return self._without_secrets(event)

    def _unasked(self, node: Node) -> Scored:
        """No words of the endpoint here: they could hold a reference."""
        return unscored(node, JudgeError(f"{self.judge.model.name} fails every call"))

    def _without_secrets(self, event: Scored) -> Scored:
        source = event.source
        for secret in self._secrets:
            source = source.replace(secret, "…")
        return replace(event, source=source)


class AttemptScorer:
    """The scorer of one attempt: the session is asked about one agent after the other, then the judge about all that are left.

    Everything is asked when the root is. The scores come from here at once, so a run that is stopped meanwhile has none.
    """

    def __init__(self, owner: AttemptJudge, session: Session, timeout: float | None) -> None:
        self._owner = owner
        self._session = session
        self._timeout = timeout
        self._events: dict[str, Scored] = {}

    @property
    def scoring_timeout(self) -> None:
        """No time of the run is used to wait for a judge: the session and every verdict have their own."""
        return None

    async def __call__(self, node: Node) -> Scored:
        """The score event of an agent."""
        if node.id not in self._events:
            await self._score(node)
        return cast(self._session, node, self._events[node.id])

    async def _score(self, root: Node) -> None:
        known: dict[str, Scored] = {}
        with anyio.move_on_after(self._timeout):
            for node in root.walk():
                known[node.id] = await _known(self._session, node)
        events: dict[str, Scored] = {}

        async def add(node: Node) -> None:
            said = known.get(node.id)
            if said is None:
                events[node.id] = late(node)
                return
            question = question_of(self._session, node) if self._owner.asks(node, said) else None
            events[node.id] = await self._owner.judged(node, said, question)

        async with task_group() as group:
            for node in root.walk():
                group.start_soon(add, node)
        self._events |= events


def cast(session: Session, node: Node, event: Scored) -> Scored:
    """The same event; it says so where the session has the agent in a role that must not be trained."""
    return replace(event, trainable=False) if isinstance(session, Casting) and not session.trainable(node) else event


async def _known(session: Session, node: Node) -> Scored:
    try:
        return await assess(session.score, node)
    except ConfigurationError as error:  # a score that is none
        return unscored(node, error)


def _recorded(node: Node) -> Scored:
    """The score event that a node has already."""
    return Scored(
        time=time.time(),
        node=node.id,
        score=node.score,
        status=str(node.score_status),
        source=str(node.score_source),
        trainable=node.trainable,
    )
