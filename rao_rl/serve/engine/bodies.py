"""Answers of the embedded engine in the shapes of OpenAI and vLLM, whole and in pieces."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel
from tokenizers import Tokenizer

from ..http.protocol import UsageInfo, new_id, now
from .answers import Answer, Piece
from .protocol import (
    AnswerMessage,
    ChatChoice,
    ChatChunk,
    ChatChunkChoice,
    ChatCompletion,
    ChatLogProbs,
    ChatRequest,
    Completion,
    CompletionChoice,
    CompletionChunk,
    CompletionLogProbs,
    CompletionRequest,
    Delta,
    TokenLogProb,
)


class Bodies(ABC):
    """The bodies that answer one request. `version` names the weights."""

    prefix: str

    def __init__(self, request: ChatRequest | CompletionRequest, tokenizer: Tokenizer, *, model: str) -> None:
        self._tokenizer = tokenizer
        self._ids = bool(request.return_token_ids)
        self._logprobs = request.logprobs is not None and request.logprobs is not False
        self._envelope: dict[str, Any] = {"id": new_id(self.prefix), "created": now(), "model": model}

    @property
    def tells_tokens(self) -> bool:
        """Whether an event is worth sending for tokens without text."""
        return self._ids or self._logprobs

    @abstractmethod
    def whole(self, answers: Sequence[Answer], usage: UsageInfo) -> BaseModel:
        """The whole answer."""

    @abstractmethod
    def opening(self, answer: Answer) -> dict[str, Any] | None:
        """The first event about an answer, before any of its text; None where there is none."""

    @abstractmethod
    def more(self, answer: Answer, piece: Piece) -> dict[str, Any]:
        """An event with a piece of an answer."""

    @abstractmethod
    def usage(self, answers: Sequence[Answer], usage: UsageInfo) -> dict[str, Any]:
        """The event with the usage."""

    def _begin(self, answer: Answer) -> dict[str, Any]:
        version = answer.request.version
        return {**self._envelope, **({"system_fingerprint": version} if version else {})}

    def _ended(self, answer: Answer, piece: Piece) -> dict[str, Any]:
        """What a choice says beside its text; in a stream before the end, no more than the index and the ids."""
        said: dict[str, Any] = {"index": answer.index, "finish_reason": None}
        if piece.last:
            said |= {"finish_reason": answer.request.finish_reason, "stop_reason": answer.stop_reason}
        return said | ({"token_ids": piece.token_ids} if self._ids else {})

    def _tokens(self, piece: Piece) -> list[str]:
        return [self._tokenizer.decode([token], skip_special_tokens=False) for token in piece.token_ids]


class ChatBodies(Bodies):
    """Of /v1/chat/completions."""

    prefix = "chatcmpl"

    def whole(self, answers: Sequence[Answer], usage: UsageInfo) -> ChatCompletion:
        """See `Bodies.whole`."""
        choices = []
        for answer in answers:
            piece = answer.news()
            choices.append(
                ChatChoice(
                    message=AnswerMessage(content=piece.text),
                    logprobs=self._said(piece),
                    **self._ended(answer, piece),
                )
            )
        prompt: dict[str, Any] = {"prompt_token_ids": answers[0].request.prompt} if self._ids else {}
        return ChatCompletion(choices=choices, usage=usage, **self._begin(answers[0]), **prompt)

    def opening(self, answer: Answer) -> dict[str, Any]:
        """See `Bodies.opening`."""
        choice = ChatChunkChoice(index=answer.index, finish_reason=None, delta=Delta(role="assistant", content=""))
        prompt: dict[str, Any] = {"prompt_token_ids": answer.request.prompt} if self._ids else {}
        return _sent(ChatChunk(choices=[choice], **self._envelope, **prompt))

    def more(self, answer: Answer, piece: Piece) -> dict[str, Any]:
        """See `Bodies.more`."""
        choice = ChatChunkChoice(
            delta=Delta(content=piece.text), logprobs=self._said(piece), **self._ended(answer, piece)
        )
        return _sent(ChatChunk(choices=[choice], **self._begin(answer)))

    def usage(self, answers: Sequence[Answer], usage: UsageInfo) -> dict[str, Any]:
        """See `Bodies.usage`."""
        return _sent(ChatChunk(choices=[], usage=usage, **self._begin(answers[0])))

    def _said(self, piece: Piece) -> ChatLogProbs | None:
        if not self._logprobs:
            return None
        return ChatLogProbs(
            content=[
                TokenLogProb(token=token, logprob=logprob, bytes=list(token.encode()))
                for token, logprob in zip(self._tokens(piece), piece.logprobs, strict=True)
            ]
        )


class CompletionBodies(Bodies):
    """Of /v1/completions."""

    prefix = "cmpl"

    def __init__(self, request: CompletionRequest, tokenizer: Tokenizer, *, model: str) -> None:
        super().__init__(request, tokenizer, model=model)
        self._others = bool(request.logprobs)
        self._offsets: dict[int, int] = {}
        """Of each answer, the characters of its tokens so far."""

    def whole(self, answers: Sequence[Answer], usage: UsageInfo) -> Completion:
        """See `Bodies.whole`."""
        choices = [self._choice(answer, answer.news()) for answer in answers]
        return Completion(choices=choices, usage=usage, **self._begin(answers[0]))

    def opening(self, answer: Answer) -> None:
        """See `Bodies.opening`."""
        return None

    def more(self, answer: Answer, piece: Piece) -> dict[str, Any]:
        """See `Bodies.more`."""
        return _sent(CompletionChunk(choices=[self._choice(answer, piece)], **self._begin(answer)))

    def usage(self, answers: Sequence[Answer], usage: UsageInfo) -> dict[str, Any]:
        """See `Bodies.usage`."""
        return _sent(CompletionChunk(choices=[], usage=usage, **self._begin(answers[0])))

    def _choice(self, answer: Answer, piece: Piece) -> CompletionChoice:
        prompt: dict[str, Any] = {"prompt_token_ids": answer.request.prompt} if self._ids and not piece.position else {}
        return CompletionChoice(
            text=piece.text, logprobs=self._said(answer, piece), **self._ended(answer, piece), **prompt
        )

    def _said(self, answer: Answer, piece: Piece) -> CompletionLogProbs | None:
        if not self._logprobs:
            return None
        tokens = self._tokens(piece)
        at, offsets = self._offsets.get(answer.index, 0), []
        for token in tokens:
            offsets.append(at)
            at += len(token)
        self._offsets[answer.index] = at
        sampled = [{token: logprob} for token, logprob in zip(tokens, piece.logprobs, strict=True)]
        return CompletionLogProbs(
            tokens=tokens,
            token_logprobs=piece.logprobs,
            top_logprobs=None if self._others else sampled,
            text_offset=offsets,
        )


def _sent(chunk: BaseModel) -> dict[str, Any]:
    """An event leaves out what was never said of it; `object` is always said."""
    return {"object": chunk.object, **chunk.model_dump(exclude_unset=True)}  # type: ignore[attr-defined]
