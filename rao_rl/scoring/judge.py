"""An LLM as the judge of nodes that have no verifier: any OpenAI-compatible model, asked once about the same content."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import anyio

from recursive_agent.errors import BadRequest, ContextOverflow, EndpointUnavailable, ModelError
from recursive_agent.model.base import Message, Model, Sampling
from recursive_agent.scoring import scored, unscored
from recursive_agent.trace.schema import Scored
from recursive_agent.trace.tree import Node
from recursive_agent.usage import Usage

from ..errors import JudgeError, JudgeTooSlow
from .rubrics import REPAIR, against, hands_over_everything, record, rubric
from .verdicts import SCHEMA, Verdict, VerdictCache, parse_verdict

SOURCE = "judge "
"""The source of a judge's score in a trace begins like this. The name of a scorer, module:function, never does."""
_REASON = 300
_FORMAT = {"type": "json_schema", "json_schema": {"name": "verdict", "strict": True, "schema": SCHEMA}}


class Judge:
    """Judges whether a node succeeded, by its goal, its code, its observations and its result.

    Use it as a scorer: `solve(score=judge)`. It samples at temperature 0 and requests JSON that fits a schema, unless the
    endpoint rejects one of these. With `cache`, the same content is sent to the model only once. At most `concurrency` calls
    run at the same time. A verdict takes at most `timeout` seconds, retries included (None: as long as the model's own
    settings say). `usage` is the usage of its calls.

    If the judge fails, the node gets no score (`judge_error`), not 0.
    """

    def __init__(
        self, model: Model, *, cache: VerdictCache | None = None, concurrency: int = 8, timeout: float | None = None
    ) -> None:
        self.model = model
        self.cache = cache
        self.timeout = timeout
        self.usage = Usage()
        self.cached = 0
        """How many verdicts came from the cache."""
        self.failures: Counter[str] = Counter()
        """How many verdicts failed, by reason: `no_verdict` (twice an answer without one), `too_slow`, `rejected` (the endpoint
        refused that content), `unavailable`, `refused` (it refuses every call: the key, the model)."""
        self.failed_in_row = 0
        """How many verdicts have failed since the model gave the last one."""
        self._limiter = anyio.CapacityLimiter(concurrency)
        self._sampling = Sampling(
            temperature=0.0, max_tokens=model.sampling.max_tokens, extra={"response_format": _FORMAT}
        )
        self._answered = False

    async def __call__(self, node: Node) -> float | None:
        """1.0 or 0.0; None where the node failed for a reason outside the agents. Raises JudgeError and ModelError."""
        verdict = await self.verdict(node)
        return None if verdict is None else float(verdict.success)

    async def assess(self, node: Node, reference: str | None = None) -> Scored:
        """The score event of a node; its source is the judge's model and the judge's reason.

        With `reference`, the right answer, only the node's result is judged. The event then has neither the reason nor the
        words of an error, which could hold the reference.

        Raises ModelError if every call would fail: the endpoint rejects the key, does not know the model, or has never
        answered.
        """
        try:
            verdict = await self.verdict(node, reference)
        except ModelError as error:
            if error.fatal or (isinstance(error, EndpointUnavailable) and not self._answered):
                raise
            return unscored(node, error if reference is None else JudgeError(f"{self.model.name} failed"))
        except JudgeError as error:
            return unscored(node, error if reference is None else _without_words(error, self.model.name))
        source = f"{SOURCE}{self.model.name}"
        if verdict is None:
            return scored(node, None, source)
        if reference is not None:
            return scored(node, verdict.success, f"{source} against the reference")
        reason = " ".join(verdict.reason.split())[:_REASON]
        return scored(node, verdict.success, f"{source}: {reason}" if reason else source)

    async def verdict(self, node: Node, reference: str | None = None) -> Verdict | None:
        """The verdict on a node that has ended. The model is asked only where the outcome is not certain without it.

        None where the node failed for a reason outside the agents. Raises JudgeError and ModelError.
        """
        if node.running or node.status.external:
            return None
        if not node.finished:
            return Verdict(False, f"it did not finish ({node.status.value})")
        if reference is None and hands_over_everything(node):
            return Verdict(False, "degenerate delegation: it handed its whole goal to one sub-agent")
        instructions, content = (rubric(node), record(node)) if reference is None else against(node, reference)
        key = VerdictCache.key([self.model.name, instructions, content])
        known = None if self.cache is None else self.cache.get(key)
        if known is not None:
            self.cached += 1
            return known
        async with self._limiter:
            verdict = await self._counted(instructions, content)
        if self.cache is not None:
            self.cache.put(key, verdict)
        return verdict

    async def _counted(self, instructions: str, content: str) -> Verdict:
        try:
            with anyio.move_on_after(self.timeout) as scope:
                verdict = await self._ask(instructions, content)
            if scope.cancelled_caught:
                raise JudgeTooSlow(f"{self.model.name} gave no verdict within {self.timeout:g} seconds")
        except (ModelError, JudgeError) as error:
            self.failures[_reason(error)] += 1
            self.failed_in_row += 1
            raise
        self.failed_in_row = 0
        return verdict

    async def _ask(self, instructions: str, content: str) -> Verdict:
        text = ""
        for reminder in ("", REPAIR):
            text = await self._answer(instructions, content + reminder)
            verdict = parse_verdict(text)
            if verdict is not None:
                return verdict
        shown = repr(" ".join(text.split())[:120]) if text.strip() else "an empty answer"
        raise JudgeError(f"{self.model.name} gave no verdict but {shown}")

    async def _answer(self, instructions: str, content: str) -> str:
        sampling = self._sampling
        while True:
            conversation = self.model.conversation(sampling=sampling)
            conversation.add(Message("system", instructions), Message("user", content))
            try:
                completion = await conversation.complete(max_tokens=sampling.max_tokens)
            except BadRequest as error:
                relaxed = _relaxed(sampling, str(error))
                if relaxed is None:
                    raise
                sampling = relaxed
                continue
            # Only an answer shows that the refusal was about the parts that were left out.
            self._sampling, self._answered = sampling, True
            self.usage += completion.usage
            return completion.text


def _reason(error: ModelError | JudgeError) -> str:
    """Why a verdict failed, as it is counted."""
    if isinstance(error, JudgeTooSlow):
        return "too_slow"
    if isinstance(error, JudgeError):
        return "no_verdict"
    if error.fatal:
        return "refused"
    return "rejected" if isinstance(error, BadRequest | ContextOverflow) else "unavailable"


def _without_words(error: JudgeError, name: str) -> JudgeError:
    """The same failure without the words of the judge, which may repeat a reference answer."""
    return error if isinstance(error, JudgeTooSlow) else JudgeError(f"{name} gave no verdict")


def failures_of(judge: Judge) -> str:
    """How many verdicts failed, by reason, in words."""
    return ", ".join(f"{number:,} {reason.replace('_', ' ')}" for reason, number in judge.failures.most_common())


def is_verdict(source: str | None) -> bool:
    """Whether a score of this source is a judge's, not a verifier's."""
    return source is not None and source.startswith(SOURCE)


def _relaxed(sampling: Sampling, complaint: str) -> Sampling | None:
    """The sampling to try after a refusal: reasoning models have a fixed temperature, others know no schema. None: give up."""
    if "temperature" in complaint and sampling.temperature is not None:
        return replace(sampling, temperature=None)
    if "response_format" in sampling.extra:
        extra: dict[str, Any] = {name: value for name, value in sampling.extra.items() if name != "response_format"}
        return replace(sampling, extra=extra)
    return None
