"""`ScriptedEndpoint`: a real HTTP server that speaks the OpenAI protocol and answers what a script says."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import anyio
import anyio.to_thread

from ..model.texts import find_stop
from .http import Exchange, HttpServer
from .ledger import Entry, Ledger
from .protocol import Choice, error_body, response_body, stream_bodies, usage_body
from .script import Answer, Fault, FaultKind, Reply, Request, Script
from .tokenizer import ScriptedTokenizer, Tokenizer

_UNACCOUNTED = (
    FaultKind.CUT,
    FaultKind.TRUNCATED,
    FaultKind.GARBLED,
    FaultKind.NO_USAGE,
    FaultKind.NAN_LOGPROBS,
)
"""Faults after which a client cannot have accounted for what it was billed."""


class ScriptedEndpoint:
    """An OpenAI-compatible endpoint for tests: real HTTP, scripted answers, exact token counts, faults on demand.

        with ScriptedEndpoint(lambda request: "```python\\nfinish(42)\\n```") as endpoint:
            agent = Agent(model="scripted", base_url=endpoint.base_url)
            result = agent.solve_sync("what is 6 × 7?")
        assert result.usage.total_tokens == endpoint.ledger.total_tokens

    The script (sync or async) runs on the server's thread: it gets a `Request` and returns text, a `Reply` or a
    `Fault`; `replies` and `by_goal` make scripts. A script that raises refuses the request with status 400 and its
    error, kept in `script_errors`. Serves /v1/chat/completions, /v1/completions (text or token ids, log-probs,
    `return_token_ids`), both also streamed, /v1/models, /tokenize, /health, and /ledger (the totals as JSON). Usable
    as a sync and an async context manager.

    `latency` (seconds, or a function of the request) passes before every answer. With `api_key` other keys are refused.
    Models not in `models` are unknown; `max_model_len` is their context window in tokens.
    """

    def __init__(
        self,
        script: Script | str | Reply,
        *,
        models: Sequence[str] = ("scripted",),
        api_key: str | None = None,
        max_model_len: int | None = None,
        latency: float | Callable[[Request], float] = 0.0,
        fingerprint: str | None = None,
        tokenizer: Tokenizer | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.script: Script = script if callable(script) else lambda request: script
        self.models = tuple(models)
        self.api_key = api_key
        self.max_model_len = max_model_len
        self.latency = latency
        self.fingerprint = fingerprint
        self.tokenizer: Tokenizer = tokenizer or ScriptedTokenizer()
        self.ledger = Ledger()
        self.requests: list[Request] = []
        """Every request for an answer that the script was asked about, in order of arrival."""
        self.refused: list[str] = []
        """Why requests were refused before the script was asked: a prompt too long, an unknown model."""
        self.script_errors: list[BaseException] = []
        self._server = HttpServer(self._handle, host=host, port=port)

    def __repr__(self) -> str:
        return f"ScriptedEndpoint({self.base_url!r}, {len(self.ledger.entries)} requests)"

    @property
    def base_url(self) -> str:
        """What to give as `base_url`; known once it runs."""
        return f"http://{self._server.host}:{self._server.port}/v1"

    @property
    def open_connections(self) -> int:
        """Connections that clients hold open now."""
        return len(self._server.connections)

    def refuse_connections(self, count: int) -> None:
        """Close the next `count` new connections before anything is read from them."""
        self._server.refuse = count

    def start(self) -> Self:
        """Listen, in a thread of its own."""
        self._server.start()
        return self

    def stop(self) -> None:
        """Close everything. Safe to call twice."""
        self._server.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        return self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self.stop)

    # The protocol, on the server's thread.

    async def _handle(self, exchange: Exchange) -> None:
        if self.api_key is not None and exchange.headers.get("authorization") != f"Bearer {self.api_key}":
            # Real endpoints echo the key they refuse; a client has to cope with that.
            key = exchange.headers.get("authorization", "").removeprefix("Bearer ")
            message = f"Incorrect API key provided: {key}."
            exchange.send_json(401, error_body(message, "invalid_request_error", "invalid_api_key"))
            return
        path = exchange.path.partition("?")[0]
        if exchange.method == "POST":
            try:
                body = json.loads(exchange.body)
                assert isinstance(body, dict)
            except (ValueError, AssertionError):
                exchange.send_json(400, error_body("the body is no JSON object", "BadRequestError", 400))
                return
            if path in ("/v1/chat/completions", "/v1/completions"):
                await self._complete(exchange, path, body)
                return
            if path == "/tokenize":
                exchange.send_json(200, self._tokenize(body))
                return
        elif path == "/v1/models":
            exchange.send_json(200, {"object": "list", "data": [self._card(name) for name in self.models]})
            return
        elif path == "/health":
            exchange.send(200, b"")
            return
        elif path == "/ledger":
            exchange.send_json(200, self.ledger.summary())
            return
        exchange.send_json(404, {"detail": "Not Found"})

    def _card(self, name: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "owned_by": "scripted", "max_model_len": self.max_model_len}

    def _tokenize(self, body: dict[str, Any]) -> dict[str, Any]:
        if "messages" in body:
            prompt = bool(body.get("add_generation_prompt", True))
            ids = self.tokenizer.render(body["messages"], tools=body.get("tools") or (), generation_prompt=prompt)
        else:
            ids = self.tokenizer.encode(str(body.get("prompt", "")))
        return {"count": len(ids), "max_model_len": self.max_model_len, "tokens": ids, "token_strs": None}

    async def _complete(self, exchange: Exchange, path: str, body: dict[str, Any]) -> None:
        kind = "chat" if path == "/v1/chat/completions" else "completions"
        model = str(body.get("model", ""))
        if model not in self.models:
            self._refuse(exchange, 404, f"The model `{model}` does not exist.", "NotFoundError")
            return
        ids = self._prompt_ids(kind, body)
        limit = body.get("max_completion_tokens") or body.get("max_tokens")
        if (message := self._overflow(kind, len(ids), limit)) is not None:
            self._refuse(exchange, 400, message, "BadRequestError")
            return
        entry = self.ledger.open(kind, model, len(ids))
        request = self._request(kind, body, ids, entry.index, limit, exchange.headers)
        self.requests.append(request)
        try:
            await self._answer(exchange, request, entry)
        except asyncio.CancelledError:
            # The client went away; a real endpoint may have sampled everything by now.
            entry.billed = True
            entry.completion_tokens = entry.completion_tokens or request.max_tokens
            raise
        finally:
            self.ledger.close(entry)

    def _refuse(self, exchange: Exchange, status: int, message: str, kind: str) -> None:
        self.refused.append(message)
        exchange.send_json(status, error_body(message, kind, status))

    def _prompt_ids(self, kind: str, body: dict[str, Any]) -> list[int]:
        if kind == "chat":
            return self.tokenizer.render(body.get("messages") or [], tools=body.get("tools") or ())
        prompt = body.get("prompt", "")
        return list(prompt) if isinstance(prompt, list) else self.tokenizer.encode(str(prompt))

    def _overflow(self, kind: str, prompt: int, limit: int | None) -> str | None:
        window, answer = self.max_model_len, limit or 1
        if window is None or prompt + answer <= window:
            return None
        # As vLLM does, which stops counting a text once it is too long.
        least = "" if kind == "completions" else "at least "
        counted = prompt if kind == "completions" else max(window - answer + 1, 0)
        return (
            f"This model's maximum context length is {window} tokens. However, you requested {answer} output tokens "
            f"and your prompt contains {least}{counted} input tokens, for a total of {least}{counted + answer} tokens. "
            "Please reduce the length of the input prompt or the number of requested output tokens."
        )

    def _request(
        self,
        kind: Any,
        body: dict[str, Any],
        ids: list[int],
        index: int,
        limit: int | None,
        headers: Mapping[str, str],
    ) -> Request:
        room = (self.max_model_len or 1 << 20) - len(ids)
        stop = body.get("stop") or ()
        messages = body.get("messages") if kind == "chat" else self.tokenizer.parse(ids)
        return Request(
            index=index,
            kind=kind,
            model=str(body["model"]),
            messages=tuple(messages or ()),
            prompt_token_ids=tuple(ids),
            prompt=self.tokenizer.decode(ids),
            max_tokens=limit or room,
            stop=(stop,) if isinstance(stop, str) else tuple(stop),
            seed=body.get("seed"),
            stream=bool(body.get("stream")),
            n=int(body.get("n") or 1),
            body=body,
            headers=headers,
        )

    async def _ask(self, request: Request) -> Answer:
        try:
            answer = self.script(request)
            result = await answer if inspect.isawaitable(answer) else answer
            if not isinstance(result, str | Reply | Fault):
                raise TypeError(f"a script returns str, Reply or Fault, not {type(result).__name__}")
            return result
        except Exception as error:
            self.script_errors.append(error)
            return Fault.http(400, f"the script raised {type(error).__name__}: {error}")

    async def _answer(self, exchange: Exchange, request: Request, entry: Entry) -> None:
        answers = [await self._ask(request) for _ in range(request.n)]
        fault = next((answer for answer in answers if isinstance(answer, Fault)), None)
        kind = FaultKind(fault.kind) if fault is not None else None
        entry.fault = kind
        answered = [_reply(answer.reply if isinstance(answer, Fault) else answer) for answer in answers]
        delay = self.latency(request) if callable(self.latency) else self.latency
        delay += max(reply.delay for reply in answered) + (fault.delay if fault is not None else 0.0)
        if delay > 0:
            await asyncio.sleep(delay)
        if fault is not None and kind is FaultKind.STATUS:
            entry.status = fault.status
            self.ledger.close(entry)
            exchange.send_json(fault.status, error_body(fault.message, fault.type, fault.code), headers=fault.headers)
            return
        if kind is FaultKind.HANG:
            await asyncio.get_running_loop().create_future()
        choices = [] if kind is FaultKind.NO_CHOICES else [self._choice(request, reply, kind) for reply in answered]
        entry.completion_tokens = sum(len(choice.token_ids) for choice in choices)
        entry.cached_tokens = min(sum(reply.cached_tokens for reply in answered), entry.prompt_tokens)
        entry.billed = kind is not FaultKind.HTML
        if kind is FaultKind.DROP:
            self.ledger.close(entry)
            exchange.drop()
            return
        entry.status = 200
        if kind is FaultKind.HTML:
            self.ledger.close(entry)
            exchange.send(200, b"<!doctype html><title>It works!</title>", content_type="text/html")
        elif request.stream:
            await self._stream(exchange, request, choices, entry, kind)
        else:
            self._send(exchange, request, choices, entry, kind)

    def _usage(self, entry: Entry, kind: FaultKind | None) -> dict[str, Any] | None:
        if kind is FaultKind.NO_USAGE:
            return None
        return usage_body(entry.prompt_tokens, entry.completion_tokens, entry.cached_tokens)

    def _send(
        self, exchange: Exchange, request: Request, choices: Sequence[Choice], entry: Entry, kind: FaultKind | None
    ) -> None:
        ids = kind is not FaultKind.NO_TOKEN_IDS
        data = response_body(request, choices, self._usage(entry, kind), fingerprint=self.fingerprint, ids=ids)
        body = json.dumps(data, separators=(",", ":")).encode()
        self.ledger.close(entry, delivered=kind not in _UNACCOUNTED)
        if kind is FaultKind.GARBLED:
            exchange.send(200, body[: len(body) // 2])
        elif kind in (FaultKind.CUT, FaultKind.TRUNCATED):
            exchange.send(200, body, only=len(body) // 2)
            exchange.drop()
        else:
            exchange.send(200, body)

    async def _stream(
        self, exchange: Exchange, request: Request, choices: Sequence[Choice], entry: Entry, kind: FaultKind | None
    ) -> None:
        ids = kind is not FaultKind.NO_TOKEN_IDS
        usage = self._usage(entry, kind)
        chunks = list(stream_bodies(request, choices, usage, fingerprint=self.fingerprint, ids=ids))
        broken = kind in (FaultKind.CUT, FaultKind.GARBLED, FaultKind.TRUNCATED)
        exchange.start_events()
        for chunk in chunks[: len(chunks) // 2] if broken else chunks:
            exchange.send_event(json.dumps(chunk, separators=(",", ":")))
            await asyncio.sleep(0)
        self.ledger.close(entry, delivered=kind not in _UNACCOUNTED)
        if kind is FaultKind.CUT:
            exchange.drop()
            return
        if kind is FaultKind.GARBLED:
            exchange.send_event('{"choices": [{"del')
        elif kind is not FaultKind.TRUNCATED:
            exchange.send_event("[DONE]")
        exchange.end_events()

    def _choice(self, request: Request, reply: Reply, kind: FaultKind | None) -> Choice:
        if kind is FaultKind.NULL_CONTENT:
            return Choice(text=None, finish_reason="stop", token_ids=(), logprobs=(), tokens=())
        tokenizer = self.tokenizer
        spelled = [*tokenizer.encode(reply.text or ""), *_call_ids(tokenizer, reply)]
        ids = list(reply.token_ids) if reply.token_ids is not None else spelled
        if reply.end_of_turn and reply.token_ids is None:
            ids.append(tokenizer.end_of_turn)
        finish, reason = ("tool_calls" if reply.tool_calls else "stop"), None
        if len(ids) > request.max_tokens:
            ids, finish = ids[: request.max_tokens], "length"
        whole = finish != "length"
        text = reply.text if whole and reply.token_ids is None else tokenizer.decode(ids)
        if text and (stop := find_stop(text, request.stop)) is not None:
            reason = stop.text
            ids = ids[: _tokens_holding(tokenizer, ids, reason)]
            text, finish = text[: stop.start], "stop"
        logprobs = list(reply.logprobs) if reply.logprobs is not None else _logprobs(ids)
        if kind is FaultKind.NAN_LOGPROBS:
            logprobs = [float("nan")] * len(ids)
        return Choice(
            text=text,
            finish_reason=reply.finish_reason or finish,
            token_ids=ids,
            logprobs=logprobs[: len(ids)],
            tokens=[tokenizer.decode([token]) for token in ids] if request.body.get("logprobs") else [""] * len(ids),
            tool_calls=tuple(reply.tool_calls) if whole else (),
            stop_reason=reason,
        )


def _reply(answer: str | Reply) -> Reply:
    return Reply(answer) if isinstance(answer, str) else answer


def _call_ids(tokenizer: Tokenizer, reply: Reply) -> list[int]:
    return tokenizer.encode("".join(f"{call.name}{call.arguments}" for call in reply.tool_calls))


def _tokens_holding(tokenizer: Tokenizer, ids: Sequence[int], stop: str) -> int:
    """How many tokens it takes until `stop` has been sampled."""
    low, high = 0, len(ids)
    while low < high:
        middle = (low + high) // 2
        if stop in tokenizer.decode(ids[:middle]):
            high = middle
        else:
            low = middle + 1
    return low


def _logprobs(ids: Sequence[int]) -> list[float]:
    """Log-probs that look like some and depend on nothing but token and position."""
    return [-0.001 - (token * 2654435761 + position * 40503) % 2000 / 1000 for position, token in enumerate(ids)]
