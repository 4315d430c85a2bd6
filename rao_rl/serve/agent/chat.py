"""A run as an answer of /v1/chat/completions, whole or streamed."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import Any, Literal

from pydantic import BaseModel, SerializerFunctionWrapHandler, model_serializer

from recursive_agent import Usage

from ..http.protocol import CachedTokens, UsageInfo, new_id, now
from ..http.streams import DONE, sse
from .progress import progress
from .runs import Ended, Run

_PIECE = 2_000
"""Characters of the answer in one event."""


class RunInfo(BaseModel):
    """How the run ended: the extension that every answer of the agent carries."""

    run: str
    status: str
    reason: str | None
    agents: int
    depth: int
    score: float | None
    partial: list[dict[str, Any]] = []
    """Goal and result of the sub-agents that finished, if the run did not; left out if there are none."""

    @model_serializer(mode="wrap")
    def _without_nothing(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        shown: dict[str, Any] = serialize(self)
        return shown if self.partial else {name: value for name, value in shown.items() if name != "partial"}

    @classmethod
    def of(cls, ended: Ended) -> RunInfo:
        """From the end of a run."""
        return cls.model_validate(ended, from_attributes=True)


class AgentMessage(BaseModel):
    """The answer."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class AgentChoice(BaseModel):
    """The one answer. `length`: a limit of the run was reached, and `content` is what there was by then."""

    index: Literal[0] = 0
    message: AgentMessage
    finish_reason: Literal["stop", "length"]
    logprobs: None = None


class AgentCompletion(BaseModel):
    """Answer of /v1/chat/completions. `usage` is the sum over the tree."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[AgentChoice]
    usage: UsageInfo
    rao: RunInfo


class AgentDelta(BaseModel):
    """More of the answer, or of the progress of the tree."""

    role: Literal["assistant"] | None = None
    content: str | None = None
    reasoning_content: str | None = None


class AgentChunkChoice(BaseModel):
    """More of the one answer."""

    index: Literal[0]
    delta: AgentDelta
    finish_reason: Literal["stop", "length"] | None


class AgentChunk(BaseModel):
    """An event of a streamed answer."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[AgentChunkChoice]
    usage: UsageInfo | None
    rao: RunInfo | None = None


class ChatAnswer:
    """Makes the bodies of one answer."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._id = new_id("chatcmpl")
        self._created = now()

    def whole(self, ended: Ended) -> AgentCompletion:
        """The answer in one piece."""
        message = AgentMessage(content=ended.text)
        return AgentCompletion(
            id=self._id,
            created=self._created,
            model=self._model,
            choices=[AgentChoice(message=message, finish_reason=_finish(ended))],
            usage=_usage(ended.usage),
            rao=RunInfo.of(ended),
        )

    async def events(self, run: Run, *, usage: bool) -> AsyncGenerator[bytes, None]:
        """The answer as events: progress, then content, then how it ended; with `usage`, that in the end."""
        opened = False
        async with aclosing(run.events()) as events:
            async for event in events:
                if not opened:
                    opened = True
                    yield self._more(AgentDelta(role="assistant", content=""))
                if (line := progress(event)) is not None:
                    yield self._more(AgentDelta(reasoning_content=line + "\n"))
        assert run.ended is not None
        for piece in pieces(run.ended.text):
            yield self._more(AgentDelta(content=piece))
        yield self._more(AgentDelta(), run.ended)
        if usage:
            yield self._event([], usage=_usage(run.ended.usage))
        yield DONE

    def _more(self, delta: AgentDelta, ended: Ended | None = None) -> bytes:
        finish = None if ended is None else _finish(ended)
        choice = AgentChunkChoice(index=0, delta=delta, finish_reason=finish)
        return self._event([choice], rao=None if ended is None else RunInfo.of(ended))

    def _event(
        self, choices: list[AgentChunkChoice], *, usage: UsageInfo | None = None, rao: RunInfo | None = None
    ) -> bytes:
        chunk = AgentChunk(
            id=self._id,
            object="chat.completion.chunk",
            created=self._created,
            model=self._model,
            choices=choices,
            usage=usage,
        )
        if rao is not None:
            chunk.rao = rao
        return sse(chunk.model_dump(exclude_unset=True))


def pieces(text: str) -> Iterator[str]:
    """A text in pieces that events carry well."""
    return (text[at : at + _PIECE] for at in range(0, len(text), _PIECE))


def _finish(ended: Ended) -> Literal["stop", "length"]:
    return "stop" if ended.finished else "length"


def _usage(usage: Usage) -> UsageInfo:
    info = UsageInfo.of(usage.prompt_tokens, usage.completion_tokens)
    info.prompt_tokens_details = CachedTokens(cached_tokens=usage.cached_tokens)
    return info
