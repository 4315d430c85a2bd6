"""Answers being sampled: their text as it grows, stop strings, and many at once."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

import anyio
from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from recursive_agent.errors import ModelError
from recursive_agent.model.batching import Request
from recursive_agent.model.local import LocalModel
from recursive_agent.model.texts import find_stop

from ..http.errors import ApiError

_log = logging.getLogger(__name__)
_CONTEXT = 6
"""Tokens of the prompt that the text of an answer is decoded after."""
_REMEMBERED = 256
"""Conversations."""


class GrowingText:
    """Text of sampled tokens, whole characters only, up to the first of `stops`. A character cut off at the end is dropped."""

    def __init__(
        self, tokenizer: Tokenizer, prompt: Sequence[int], *, stops: Sequence[str], keep_stop: bool, skip_special: bool
    ) -> None:
        self._tokenizer = tokenizer
        self._skip_special = skip_special
        self._stream = DecodeStream(ids=list(prompt[-_CONTEXT:]), skip_special_tokens=skip_special)
        self._stops = stops
        self._keep_stop = keep_stop
        self._longest = max((len(stop) for stop in stops), default=0)
        self._held = 0 if keep_stop or not stops else self._longest - 1
        self.text = ""

    @property
    def certain(self) -> str:
        """The text without an end that may turn out to be the beginning of a stop string."""
        return self.text[: len(self.text) - self._held] if self._held < len(self.text) else ""

    def add(self, token: int) -> str | None:
        """Take in a token; gives the stop string that it completes, if any, which the text is then cut at."""
        piece = self._decode(token)
        searched = max(0, len(self.text) - self._longest + 1)
        whole = self.text + piece
        stop = find_stop(whole, self._stops, searched)
        if stop is None:
            self.text = whole
            return None
        self.text = whole[: stop.end if self._keep_stop else stop.start]
        self._held = 0
        return stop.text

    def _decode(self, token: int) -> str:
        try:
            return self._stream.step(self._tokenizer, token) or ""
        except Exception as error:  # the library raises bare Exception
            if "Invalid prefix" not in str(error):
                raise
            # Bytes that are no text have confused the stream; what comes next is decoded by itself.
            self._stream = DecodeStream(skip_special_tokens=self._skip_special)
            return self._stream.step(self._tokenizer, token) or ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How the answers of a request are sampled."""

    temperature: float
    top_p: float
    stops: tuple[str, ...]
    stop_ids: frozenset[int]
    keep_stop: bool
    skip_special: bool


@dataclass(frozen=True, slots=True)
class Piece:
    """What is new of an answer. `position` counts the tokens before."""

    text: str
    token_ids: list[int]
    logprobs: list[float]
    position: int
    last: bool


class Answer:
    """One answer to a prompt."""

    def __init__(
        self,
        index: int,
        prompt: list[int],
        manner: Manner,
        *,
        tokenizer: Tokenizer,
        owner: Owner,
        max_tokens: int,
        seed: int,
    ) -> None:
        self.index = index
        self.owner = owner
        self.stop_reason: int | str | None = None
        self._manner = manner
        self._text = GrowingText(
            tokenizer, prompt, stops=manner.stops, keep_stop=manner.keep_stop, skip_special=manner.skip_special
        )
        self._known: tuple[int, str] = (0, "")
        """Tokens, and the certain text of them: one value, since the engine's thread writes it while others read."""
        self._told = self._told_text = 0
        self.request = Request(
            owner,
            prompt,
            max_tokens=max_tokens,
            seed=seed,
            temperature=manner.temperature,
            top_p=manner.top_p,
            stopped=self._stopped,
        )

    @property
    def text(self) -> str:
        """Text of the whole answer, once it is done."""
        return self._text.text

    def news(self) -> Piece:
        """What has come since the last call."""
        request = self.request
        done = request.done  # before anything else is looked at: the engine may go on meanwhile
        count, text = (len(request.token_ids), self.text) if done else self._known
        piece = Piece(
            text[self._told_text :],
            request.token_ids[self._told : count],
            request.logprobs[self._told : count],
            self._told,
            done,
        )
        self._told, self._told_text = count, max(self._told_text, len(text))
        return piece

    def _stopped(self, ids: list[int]) -> bool:
        """Called on the engine's thread after each token that does not end the turn."""
        token = ids[-1]
        ends = token in self._manner.stop_ids
        if ends:
            self.stop_reason = token
        if not ends or self._manner.keep_stop:
            found = self._text.add(token)
            if found is not None and not ends:
                self.stop_reason, ends = found, True
        self._known = len(ids), self._text.certain
        return ends


async def sample(model: LocalModel, answers: Sequence[Answer]) -> None:
    """Sample answers to their end, all in the common batch. Raises ApiError where the engine fails."""
    failures: list[ModelError] = []

    async def one(answer: Answer) -> None:
        try:
            await model.sample(answer.request)
        except ModelError as error:
            failures.append(error)

    async with anyio.create_task_group() as group:
        for answer in answers:
            group.start_soon(one, answer)
    if failures:
        raise _failed(failures[0])


async def follow(model: LocalModel, answers: Sequence[Answer]) -> AsyncGenerator[tuple[Answer, Piece], None]:
    """Sample answers, and give what is new of each as it comes. Raises ApiError where the engine fails."""
    updates, news = anyio.create_memory_object_stream[Answer | ModelError](float("inf"))

    async def one(answer: Answer) -> None:
        try:
            await model.sample(answer.request, lambda _: updates.send_nowait(answer))
            updates.send_nowait(answer)
        except ModelError as error:
            updates.send_nowait(error)

    failure: ModelError | None = None
    # Nothing is raised in these tasks, so their group never cancels the iteration between two answers.
    with updates, news:
        async with anyio.create_task_group() as group:
            for answer in answers:
                group.start_soon(one, answer)
            open_ones = set(answers)
            while open_ones:
                told_of = await news.receive()
                if isinstance(told_of, ModelError):
                    failure = told_of
                    group.cancel_scope.cancel()
                    break
                if told_of in open_ones:
                    piece = told_of.news()
                    if piece.last:
                        open_ones.remove(told_of)
                    if piece.last or piece.token_ids:
                        yield told_of, piece
    if failure is not None:
        raise _failed(failure)


class Owner:
    """A conversation, for the engine's memory."""


class Conversations:
    """Recognises a conversation that goes on by its beginning, so that the engine need not read that again."""

    def __init__(self) -> None:
        self._known: OrderedDict[Owner, list[int]] = OrderedDict()

    def take(self, prompt: list[int]) -> Owner:
        """The conversation that `prompt` continues (nobody else's until `keep` is called), or a new one."""
        best, length = None, 0
        for owner, ids in self._known.items():
            if length < len(ids) <= len(prompt) and prompt[: len(ids)] == ids:
                best, length = owner, len(ids)
        if best is None:
            return Owner()
        del self._known[best]
        return best

    def keep(self, answer: Answer) -> None:
        """Remember a conversation whose answer is done."""
        self._known[answer.owner] = answer.request.ids
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)


def _failed(error: ModelError) -> ApiError:
    _log.error("%s", error, exc_info=error)
    return ApiError(500, "The engine failed; its log says why.", code="engine_failed")
