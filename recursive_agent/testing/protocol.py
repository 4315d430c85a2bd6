"""The bodies of the OpenAI protocol, as vLLM writes them: answers, stream chunks, errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..model.base import ToolCall
from .script import Request

_CHUNK = 4
"""Tokens in one chunk of a stream."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One sampled answer: `token_ids` and `logprobs` have one entry for each sampled token."""

    text: str | None
    finish_reason: str
    token_ids: Sequence[int]
    logprobs: Sequence[float]
    tokens: Sequence[str]
    tool_calls: Sequence[ToolCall] = ()
    stop_reason: str | None = None


def error_body(message: str, kind: str, code: str | int | None) -> dict[str, Any]:
    """An error as OpenAI and vLLM write it."""
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def usage_body(prompt: int, completion: int, cached: int) -> dict[str, Any]:
    """The `usage` of an answer."""
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


def response_body(
    request: Request, choices: Sequence[Choice], usage: Mapping[str, Any] | None, *, fingerprint: str | None, ids: bool
) -> dict[str, Any]:
    """The body of a whole answer; `ids` allows token ids and log-probs where the request asks for them."""
    body = _envelope(request, "chat.completion" if request.kind == "chat" else "text_completion", fingerprint)
    with_ids = ids and bool(request.body.get("return_token_ids"))
    body["choices"] = [_whole(request, index, choice, ids) for index, choice in enumerate(choices)]
    if usage is not None:
        body["usage"] = dict(usage)
    if with_ids and request.kind == "chat":
        body["prompt_token_ids"] = list(request.prompt_token_ids)
    return body


def stream_bodies(
    request: Request, choices: Sequence[Choice], usage: Mapping[str, Any] | None, *, fingerprint: str | None, ids: bool
) -> Iterator[dict[str, Any]]:
    """The chunks of a streamed answer, the usage chunk included where the request asks for it."""
    chat = request.kind == "chat"
    envelope = _envelope(request, "chat.completion.chunk" if chat else "text_completion", fingerprint)
    for index, choice in enumerate(choices):
        if chat:
            opening = {"index": index, "delta": {"role": "assistant"}, "finish_reason": None}
            yield {**envelope, "choices": [opening]}
        for piece in _pieces(request, choice, ids):
            yield {**envelope, "choices": [{"index": index, "finish_reason": None, **piece}]}
        last: dict[str, Any] = {"index": index, "finish_reason": choice.finish_reason}
        last["stop_reason"] = choice.stop_reason
        last["delta" if chat else "text"] = {} if chat else ""
        yield {**envelope, "choices": [last]}
    options = request.body.get("stream_options") or {}
    if usage is not None and options.get("include_usage"):
        yield {**envelope, "choices": [], "usage": dict(usage)}


def _envelope(request: Request, kind: str, fingerprint: str | None) -> dict[str, Any]:
    body: dict[str, Any] = {"id": f"scripted-{request.index}", "object": kind, "created": 0, "model": request.model}
    return body | ({"system_fingerprint": fingerprint} if fingerprint else {})


def _whole(request: Request, index: int, choice: Choice, ids: bool) -> dict[str, Any]:
    body: dict[str, Any] = {
        "index": index,
        "finish_reason": choice.finish_reason,
        "stop_reason": choice.stop_reason,
        "logprobs": _logprobs(request, choice, 0, len(choice.token_ids)) if ids else None,
    }
    if request.kind == "chat":
        calls = [_tool_call(call) for call in choice.tool_calls]
        body["message"] = {"role": "assistant", "content": choice.text, "tool_calls": calls}
    else:
        body["text"] = choice.text
    if ids and request.body.get("return_token_ids"):
        body["token_ids"] = list(choice.token_ids)
        if request.kind == "completions":
            body["prompt_token_ids"] = list(request.prompt_token_ids)
    return body


def _pieces(request: Request, choice: Choice, ids: bool) -> Iterator[dict[str, Any]]:
    text, count = choice.text or "", len(choice.token_ids)
    chat = request.kind == "chat"
    for start in range(0, count, _CHUNK):
        stop = min(start + _CHUNK, count)
        piece: dict[str, Any] = {"logprobs": _logprobs(request, choice, start, stop) if ids else None}
        if ids and request.body.get("return_token_ids"):
            piece["token_ids"] = list(choice.token_ids[start:stop])
            if not chat and start == 0:
                piece["prompt_token_ids"] = list(request.prompt_token_ids)
        part = text[len(text) * start // count : len(text) * stop // count]
        yield piece | ({"delta": {"content": part}} if chat else {"text": part})
    for position, call in enumerate(choice.tool_calls):
        half = len(call.arguments) // 2
        first = {"name": call.name, "arguments": call.arguments[:half]}
        for delta in (
            {"index": position, "id": call.id, "type": "function", "function": first},
            {"index": position, "function": {"arguments": call.arguments[half:]}},
        ):
            yield {"delta": {"tool_calls": [delta]}}


def _tool_call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _logprobs(request: Request, choice: Choice, start: int, stop: int) -> dict[str, Any] | None:
    alternatives = request.body.get("logprobs")
    if alternatives is None or alternatives is False:
        return None
    tokens, logprobs = choice.tokens[start:stop], choice.logprobs[start:stop]
    if request.kind == "chat":
        pairs = zip(tokens, logprobs, strict=True)
        return {"content": [{"token": t, "logprob": p, "bytes": None, "top_logprobs": []} for t, p in pairs]}
    tops = [{token: logprob} for token, logprob in zip(tokens, logprobs, strict=True)]
    return {"tokens": list(tokens), "token_logprobs": list(logprobs), "top_logprobs": tops, "text_offset": []}
