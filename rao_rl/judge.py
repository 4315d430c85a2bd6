"""An LLM as the judge of nodes that no verifier knows: any OpenAI-compatible model, asked once about the same content."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import anyio

from recursive_agent.errors import BadRequest, EndpointUnavailable, ModelError, RaoError
from recursive_agent.model.base import Message, Model, Sampling
from recursive_agent.scoring import scored, unscored
from recursive_agent.status import Status
from recursive_agent.trace.schema import Scored
from recursive_agent.trace.tree import Node
from recursive_agent.usage import Usage

from .rubrics import REPAIR, hands_over_everything, record, rubric
from .verdicts import SCHEMA, Verdict, VerdictCache, parse_verdict

SOURCE = "judge "
"""How the source of a judge's score begins in a trace. No scorer given as module:function has such a name."""
_REASON = 300
_FORMAT = {"type": "json_schema", "json_schema": {"name": "verdict", "strict": True, "schema": SCHEMA}}
_NOBODYS_DOING = frozenset({Status.RUNNING, Status.CANCELLED, Status.INFRA_ERROR})


class JudgeError(RaoError):
    """The judge answered, but not with a verdict."""


class Judge:
    """Judges nodes by what they were asked, did, saw and gave: success or not. A scorer, `solve(score=judge)`.

    It samples at temperature 0 and asks for JSON by a schema, unless the endpoint refuses either. With `cache`, the same
    content is asked about once. At most `concurrency` calls are under way at a time. `usage` is what its calls took.

    A judge that fails says nothing (`judge_error`), and never 0.
    """

    def __init__(self, model: Model, *, cache: VerdictCache | None = None, concurrency: int = 8) -> None:
        self.model = model
        self.cache = cache
        self.usage = Usage()
        self.cached = 0
        """Verdicts that came out of the cache."""
        self._limiter = anyio.CapacityLimiter(concurrency)
        self._sampling = Sampling(
            temperature=0.0, max_tokens=model.sampling.max_tokens, extra={"response_format": _FORMAT}
        )
        self._answered = False

    async def __call__(self, node: Node) -> float | None:
        """1.0 or 0.0; None where the node's failure is nobody's doing. Raises JudgeError and ModelError."""
        verdict = await self.verdict(node)
        return None if verdict is None else float(verdict.success)

    async def assess(self, node: Node) -> Scored:
        """The score event of a node, its source naming the judge's model and reason.

        Raises ModelError where no other call would fare better: a refused key, an unknown model, an endpoint that has
        never answered.
        """
        try:
            verdict = await self.verdict(node)
        except ModelError as error:
            if error.fatal or (isinstance(error, EndpointUnavailable) and not self._answered):
                raise
            return unscored(node, error)
        except JudgeError as error:
            return unscored(node, error)
        source = f"{SOURCE}{self.model.name}"
        if verdict is None:
            return scored(node, None, source)
        reason = " ".join(verdict.reason.split())[:_REASON]
        return scored(node, verdict.success, f"{source}: {reason}" if reason else source)

    async def verdict(self, node: Node) -> Verdict | None:
        """The verdict on a node that has ended. The model is not asked about what is certain without it.

        None where the node failed by nobody's doing. Raises JudgeError and ModelError.
        """
        if node.status in _NOBODYS_DOING:
            return None
        if not node.finished:
            return Verdict(False, f"it did not finish ({node.status.value})")
        if hands_over_everything(node):
            return Verdict(False, "degenerate delegation: it handed its whole goal to one sub-agent")
        instructions, content = rubric(node), record(node)
        key = VerdictCache.key([self.model.name, instructions, content])
        known = None if self.cache is None else self.cache.get(key)
        if known is not None:
            self.cached += 1
            return known
        async with self._limiter:
            verdict = await self._ask(instructions, content)
        if self.cache is not None:
            self.cache.put(key, verdict)
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
            # Only now is it known that what was left out had been the reason.
            self._sampling, self._answered = sampling, True
            self.usage += completion.usage
            return completion.text


def is_verdict(source: str | None) -> bool:
    """Whether a score of this source is a judge's, not a verifier's."""
    return source is not None and source.startswith(SOURCE)


def _relaxed(sampling: Sampling, complaint: str) -> Sampling | None:
    """What else to ask for after a refusal: models that reason have a fixed temperature, others know no schema."""
    if "temperature" in complaint and sampling.temperature is not None:
        return replace(sampling, temperature=None)
    if "response_format" in sampling.extra:
        extra: dict[str, Any] = {name: value for name, value in sampling.extra.items() if name != "response_format"}
        return replace(sampling, extra=extra)
    return None
