"""Requests with something wrong, without end and always the same ones."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from typing import Any

BODY_LIMIT = 32_768
PATHS = ("/v1/chat/completions", "/v1/responses")
_GOOD: dict[str, dict[str, Any]] = {
    PATHS[0]: {
        "model": "scripted-agent",
        "messages": [{"role": "user", "content": "x"}],
        "temperature": 1,
        "limits": {},
    },
    PATHS[1]: {"model": "scripted-agent", "input": "x", "temperature": 1, "limits": {}},
}
_JUNK: tuple[Any, ...] = (None, True, -1, 1.5, "", "text", [], [[]], [1, "a"], {"a": 1}, {"type": "text"}, 10**30)


def requests(key: str, seed: int = 0) -> Iterator[bytes]:
    """Whole HTTP requests, each of which deserves a 4xx and a connection that stays open."""
    draw = random.Random(seed)
    while True:
        yield draw.choice(_KINDS)(draw, key)


def _request(
    draw: random.Random,
    key: str | None,
    body: bytes | Any,
    *,
    path: str | None = None,
    method: str = "POST",
    kind: str = "application/json",
    chunked: bool = False,
) -> bytes:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"{method} {path or draw.choice(PATHS)} HTTP/1.1", "Host: localhost", f"Content-Type: {kind}"]
    if key is not None:
        lines.append(f"Authorization: Bearer {key}")
    lines.append("Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(content)}")
    head = "\r\n".join(lines).encode() + b"\r\n\r\n"
    if not chunked:
        return head + content
    parts = [content[at : at + 9_000] for at in range(0, len(content), 9_000)]
    return head + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def _broken_json(draw: random.Random, key: str) -> bytes:
    whole = json.dumps(_GOOD[draw.choice(PATHS)]).encode()
    at = draw.randrange(1, len(whole) - 1)
    return _request(
        draw, key, draw.choice([whole[:at], whole[at:], whole + b"}", b"", draw.randbytes(draw.randrange(1, 200))])
    )


def _strange_json(draw: random.Random, key: str) -> bytes:
    strange = [
        b'{"model": "scripted-agent", "input": "x", "temperature": NaN}',
        b'{"model": "scripted-agent", "input": "x", "seed": 1' + b"0" * 400 + b"}",
        b'{"model": "scripted-agent", "input": "\\ud800", "context": 1}',
        b'{"model": "scripted-agent", "input": "\xff"}',
        b'{"context": ' + b"[" * 5_000 + b"]" * 5_000 + b"}",
        b"[" * 20_000,
        '{"input": "x"}'.encode("utf-16"),
        b'"text"',
        b"[]",
        b"7",
        b"null",
    ]
    return _request(draw, key, draw.choice(strange))


def _wrong_type(draw: random.Random, key: str) -> bytes:
    path = draw.choice(PATHS)
    names = (
        "model",
        "messages",
        "temperature",
        "top_p",
        "seed",
        "n",
        "stream",
        "limits",
        "response_format",
        "max_tokens",
    )
    if path == PATHS[1]:
        names = (
            "model",
            "input",
            "temperature",
            "top_p",
            "seed",
            "stream",
            "limits",
            "text",
            "max_output_tokens",
            "tools",
        )
    name = draw.choice(names)
    # A long list is wrong everywhere, whatever else may be right here or there.
    value = draw.choice([[draw.choice(_JUNK) for _ in range(30)], {"wrong": draw.choice(_JUNK)}, [3.5] * 3])
    return _request(draw, key, {**_GOOD[path], name: value}, path=path)


def _wrong_key_of_a_field(draw: random.Random, key: str) -> bytes:
    path = draw.choice(PATHS)
    name = draw.choice(["mesages", "x", "", "Model", "stop", "functions", "suffix", "prompt_logprobs", "é" * 50])
    return _request(draw, key, {**_GOOD[path], name: draw.choice([["a"], {"a": 1}, "text", 7])}, path=path)


def _wrong_limit(draw: random.Random, key: str) -> bytes:
    path = draw.choice(PATHS)
    name = draw.choice(["max_agents", "max_steps", "timeout", "cell_timeout", "unheard_of"])
    return _request(draw, key, {**_GOOD[path], "limits": {name: draw.choice([0, -5, "3", [1], True])}}, path=path)


def _unknown_model(draw: random.Random, key: str) -> bytes:
    path = draw.choice(PATHS)
    return _request(draw, key, {**_GOOD[path], "model": "m" * draw.randrange(1, 3_000)}, path=path)


def _wrong_api_key(draw: random.Random, key: str) -> bytes:
    wrong = draw.choice([None, "", "x", key[:-1], key + "x", key.upper(), "k" * 5_000])
    path = draw.choice([*PATHS, "/v1/models", "/metrics", "/v1/traces/00"])
    return _request(draw, wrong, _GOOD.get(path, {}), path=path, method="POST" if path in PATHS else "GET")


def _huge(draw: random.Random, key: str) -> bytes:
    path, size = draw.choice(PATHS), BODY_LIMIT + draw.randrange(1, 3 * BODY_LIMIT)
    return _request(draw, key, {**_GOOD[path], "context": "x" * size}, path=path, chunked=draw.random() < 0.5)


def _wrong_place(draw: random.Random, key: str) -> bytes:
    path, method = draw.choice(
        [
            *(("/v1/chat", "POST"), ("/", "GET"), ("/v1/traces/", "GET"), ("/v1/traces/..%2f..%2fetc%2fpasswd", "GET")),
            *(("/v1/chat/completions", "GET"), ("/v1/models", "DELETE"), ("/v1/models/none", "GET"), ("//", "PUT")),
        ]
    )
    return _request(draw, key, b"{}", path=path, method=method)


def _wrong_content_type(draw: random.Random, key: str) -> bytes:
    path = draw.choice(PATHS)
    kind = draw.choice(
        [
            "text/plain",
            "text/plain; x=application/json",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "x",
        ]
    )
    return _request(draw, key, _GOOD[path], path=path, kind=kind)


_KINDS: list[Callable[[random.Random, str], bytes]] = [
    *(_broken_json, _strange_json, _wrong_type, _wrong_key_of_a_field, _wrong_limit, _unknown_model, _wrong_api_key),
    *(_huge, _wrong_place, _wrong_content_type),
]
