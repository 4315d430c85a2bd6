"""A checkpoint with the light runtime behind vLLM's protocol, for machines without vLLM."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CollectorRegistry, Counter, Gauge
from pydantic import BaseModel

from recursive_agent.model.local import LocalModel

from ..http.app import make_app
from ..http.errors import ApiError
from ..http.protocol import ModelCard, ModelList, UsageInfo, event_stream, names_of, now
from ..http.settings import ServerSettings
from ..http.streams import DONE, EventStream, sse, unless_disconnected
from .answers import Answer, Conversations, Manner, follow, sample
from .bodies import Bodies, ChatBodies, CompletionBodies
from .prompts import Prompts
from .protocol import (
    ChatChunk,
    ChatCompletion,
    ChatRequest,
    Completion,
    CompletionChunk,
    CompletionRequest,
    TokenizeAnswer,
    TokenizeChat,
    TokenizeRequest,
    TokenizeText,
)

_MOST_ANSWERS = 128
"""To one request."""
_COLDEST = 0.01
"""Lower temperatures (above 0) are raised to this, as in vLLM: divided by less, scores overflow."""


def engine_app(model: LocalModel, settings: ServerSettings, *, names: Sequence[str] = ()) -> FastAPI:
    """The application that serves `model` under `names` (default: its own name).

    Where a request does not say how to sample, the model's own settings (agent.json) do.
    """
    app = make_app(f"rao engine: {model.name}", settings)
    names = tuple(names) or (model.name,)
    engine, gate, created = _Engine(model, app.state.registry), app.state.gate, now()
    cards = [ModelCard(id=name, created=created, root=names[0], max_model_len=model.window) for name in names]

    def known(name: str | None) -> str:
        if name is not None and name not in names:
            offered = names_of(names)
            raise ApiError(
                404,
                f"The model {name[:200]!r} does not exist; there is {offered}.",
                param="model",
                code="model_not_found",
            )
        return name or names[0]

    async def respond(request: Request, body: ChatRequest | CompletionRequest, bodies: Bodies) -> Response:
        if body.stream:
            return EventStream(engine.events(body, bodies), gate=gate)

        async def whole() -> BaseModel:
            async with gate:
                return await engine.whole(body, bodies)

        return JSONResponse((await unless_disconnected(request.receive, whole)).model_dump(mode="json"))

    @app.post("/v1/chat/completions", responses=event_stream(ChatCompletion, ChatChunk))
    async def chat(request: Request, body: ChatRequest) -> Response:
        """Answer a conversation."""
        bodies = ChatBodies(body, model.renderer.tokenizer, model=known(body.model))
        return await respond(request, body, bodies)

    @app.post("/v1/completions", responses=event_stream(Completion, CompletionChunk))
    async def completions(request: Request, body: CompletionRequest) -> Response:
        """Continue texts or token ids."""
        bodies = CompletionBodies(body, model.renderer.tokenizer, model=known(body.model))
        return await respond(request, body, bodies)

    @app.post("/tokenize")
    async def tokenize(body: TokenizeRequest) -> TokenizeAnswer:
        """Token ids of a text, or of a conversation under the chat template."""
        known(body.model)
        return await engine.tokenize(body)

    @app.get("/v1/models")
    async def list_models() -> ModelList:
        """The model, under each of its names."""
        return ModelList(data=cards)

    @app.get("/v1/models/{name:path}")
    async def retrieve_model(name: str) -> ModelCard:
        """The model under one of its names."""
        return cards[names.index(known(name))]

    return app


class _Engine:
    """Requests to one model."""

    def __init__(self, model: LocalModel, registry: CollectorRegistry) -> None:
        self._model = model
        self._prompts = Prompts(model)
        self._conversations = Conversations()
        self._read = Counter("rao_engine_prompt_tokens", "Tokens of prompts.", registry=registry)
        self._sampled = Counter("rao_engine_sampled_tokens", "Tokens sampled.", registry=registry)
        pending = Gauge("rao_engine_pending", "Answers being sampled or waiting for it.", registry=registry)
        pending.set_function(lambda: model.pending)

    async def whole(self, request: ChatRequest | CompletionRequest, bodies: Bodies) -> BaseModel:
        """The body of a whole answer."""
        answers = await self._answers(request)
        await sample(self._model, answers)
        return bodies.whole(answers, self._settle(request, answers))

    async def events(self, request: ChatRequest | CompletionRequest, bodies: Bodies) -> AsyncGenerator[bytes, None]:
        """The events of a streamed answer."""
        answers = await self._answers(request)
        for answer in answers:
            if (opening := bodies.opening(answer)) is not None:
                yield sse(opening)
        async with aclosing(follow(self._model, answers)) as pieces:
            async for answer, piece in pieces:
                if piece.text or piece.last or bodies.tells_tokens:
                    yield sse(bodies.more(answer, piece))
        usage = self._settle(request, answers)
        if request.wants_usage:
            yield sse(bodies.usage(answers, usage))
        yield DONE

    async def tokenize(self, request: TokenizeText | TokenizeChat) -> TokenizeAnswer:
        """Token ids. Raises ApiError 400."""
        if isinstance(request, TokenizeChat):
            ids = await self._prompts.of_chat(request.messages, generation_prompt=request.add_generation_prompt)
        else:
            ids = await self._prompts.of_text(request.prompt, special=request.add_special_tokens)
        named = self._model.renderer.tokenizer.id_to_token
        strings = [named(token) or "" for token in ids] if request.return_token_strs else None
        return TokenizeAnswer(count=len(ids), max_model_len=self._prompts.window, tokens=ids, token_strs=strings)

    async def _answers(self, request: ChatRequest | CompletionRequest) -> list[Answer]:
        """The answers that are to be sampled: `n` to each prompt. Raises ApiError 400."""
        model, prompts, count = self._model, self._prompts, request.n or 1
        if isinstance(request, ChatRequest):
            most, generation = request.answer_tokens, request.add_generation_prompt
            several = [await prompts.of_chat(request.messages, generation_prompt=generation)]
        else:
            most = request.max_tokens
            several = await prompts.of_prompt(request.prompt, special=request.add_special_tokens)
        if len(several) * count > _MOST_ANSWERS:
            raise ApiError(400, f"A request gets at most {_MOST_ANSWERS} answers.", param="n")
        lengths = [prompts.answer_tokens(prompt, most, model.sampling.max_tokens) for prompt in several]
        manner = self._manner(request)
        answers: list[Answer] = []
        for prompt, length in zip(several, lengths, strict=True):
            for number in range(count):
                # Answers to one prompt differ by their seeds, as in vLLM; the generator takes no negative ones.
                seed = model.next_seed() if request.seed is None else (request.seed + number) % 2**64
                answers.append(
                    Answer(
                        len(answers),
                        prompt,
                        manner,
                        tokenizer=model.renderer.tokenizer,
                        owner=self._conversations.take(prompt),
                        max_tokens=length,
                        seed=seed,
                    )
                )
        return answers

    def _manner(self, request: ChatRequest | CompletionRequest) -> Manner:
        own = self._model.sampling
        temperature = own.temperature if request.temperature is None else request.temperature
        top_p = own.top_p if request.top_p is None else request.top_p
        temperature = 1.0 if temperature is None else temperature
        return Manner(
            temperature=max(temperature, _COLDEST) if temperature else 0.0,
            top_p=1.0 if top_p is None else top_p,
            stops=own.stop if request.stops is None else request.stops,
            stop_ids=frozenset(request.stop_token_ids or ()),
            keep_stop=request.include_stop_str_in_output,
            skip_special=request.skip_special_tokens,
        )

    def _settle(self, request: ChatRequest | CompletionRequest, answers: Sequence[Answer]) -> UsageInfo:
        """Count what was read and sampled, and remember the conversations."""
        for answer in answers:
            self._conversations.keep(answer)
        prompts = answers[:: request.n or 1]
        read = sum(len(answer.request.prompt) for answer in prompts)
        sampled = sum(len(answer.request.token_ids) for answer in answers)
        self._read.inc(read)
        self._sampled.inc(sampled)
        return UsageInfo.of(read, sampled)
