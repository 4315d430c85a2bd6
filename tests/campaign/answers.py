"""Ways in which the endpoint of the campaign fails: as HTTP errors, on the wire, and with answers that lie."""

from __future__ import annotations

import asyncio
import copy
import json
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any


@dataclass(frozen=True, slots=True)
class Line:
    """One request's connection, and the good answer that it would have got. `now` is the endpoint's clock (epoch)."""

    transport: asyncio.Transport
    path: str
    body: Mapping[str, Any]
    amount: float
    now: float

    def write(self, data: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(data)

    def answer(self, body: bytes, *, status: str = "200 OK", head: str = "", length: int | None = None) -> None:
        """A whole answer; `length` is what it says of its size."""
        size = len(body) if length is None else length
        kind = "" if "content-type" in head.lower() else "content-type: application/json\r\n"
        self.write(f"HTTP/1.1 {status}\r\n{kind}{head}content-length: {size}\r\n\r\n".encode() + body)

    def json(self, data: Any, *, status: str = "200 OK", head: str = "") -> None:
        self.answer(json.dumps(data).encode(), status=status, head=head)

    def close(self) -> None:
        self.transport.close()

    def reset(self) -> None:
        """RST instead of FIN."""
        sock = self.transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    @property
    def encoded(self) -> bytes:
        return json.dumps(self.body).encode()


Act = Callable[[Line], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Kind:
    """One way to fail. `mends`: asking again helps, so that a tree must not notice a few of them.

    `billed`: the answer was sampled and is paid for. `lies`: it can be read, but says something untrue of what it cost.
    `fatal`: the whole tree may end. `waits`: an endpoint that says "later", however often.
    """

    act: Act
    mends: bool = False
    billed: bool = False
    lies: bool = False
    fatal: bool = False
    waits: bool = False
    good: bool = False
    """The answer is a good one all the same."""


KINDS: dict[str, Kind] = {}


def kind(name: str, **traits: bool) -> Callable[[Callable[[Line], Any]], Callable[[Line], Any]]:
    def enter(function: Callable[[Line], Any]) -> Callable[[Line], Any]:
        async def act(line: Line) -> None:
            result = function(line)
            if asyncio.iscoroutine(result):
                await result

        KINDS[name] = Kind(act, **traits)
        return function

    return enter


async def _for_ever() -> None:
    await asyncio.get_running_loop().create_future()


# -- HTTP errors -----------------------------------------------------------------------------------------------------


def _error(status: int, message: str, **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, "type": "error", "code": status, **more}}


def _status(
    name: str, status: int, message: str, head: Callable[[Line], str] = lambda line: "", **traits: bool
) -> None:
    @kind(name, **traits)
    def act(line: Line) -> None:
        line.json(_error(status, message), status=f"{status} Status", head=head(line))


_status("busy", 429, "slow down", mends=True, waits=True)
_status("busy seconds", 429, "slow down", lambda line: f"retry-after: {line.amount:g}\r\n", mends=True, waits=True)
_status("busy ms", 429, "slow down", lambda line: f"retry-after-ms: {line.amount * 1000:g}\r\n", mends=True, waits=True)
_status(
    "busy date",
    429,
    "slow down",
    lambda line: f"retry-after: {formatdate(line.now + line.amount, usegmt=True)}\r\n",
    mends=True,
    waits=True,
)
_status("busy reset", 429, "slow", lambda line: f"x-ratelimit-reset: {line.amount:g}\r\n", mends=True, waits=True)
_status("busy words", 429, "Rate limit reached. Please try again in 7.2s.", mends=True, waits=True)
_status("busy nonsense", 429, "slow down", lambda line: "retry-after: soon, -3\r\n", mends=True, waits=True)
for _code in (408, 500, 502, 503, 504, 529):
    _status(str(_code), _code, "scripted failure", mends=True)
for _code in (400, 403, 404, 413, 418, 422):
    _status(str(_code), _code, "scripted refusal")
_status("402", 402, "no credit left", fatal=True)  # the account is everybody's
_status("402 for this call", 402, "You requested up to 512 tokens, but can only afford 100.")
_status("401", 401, "Incorrect API key provided: sk-secret-of-the-campaign", fatal=True)
_status("flagged", 403, "Your input was flagged by moderation")
_status("overflow", 400, "This model's maximum context length is 8192 tokens. However, your messages are longer.")
_status("answer too long", 400, "max_tokens is too large: 512. This model supports at most 256 completion tokens.")
_status("no system role", 400, "System role not supported")


@kind("error is a list", mends=True)
def _(line: Line) -> None:
    line.json([{"error": {"message": "overloaded", "code": 503}}], status="503 Status")


@kind("error is html", mends=True)
def _(line: Line) -> None:
    line.answer(b"<html><h1>Bad gateway", status="502 Bad Gateway", head="content-type: text/html\r\n")


@kind("error is nothing", mends=True)
def _(line: Line) -> None:
    line.answer(b"", status="503 Status")


@kind("error is deep")
def _(line: Line) -> None:
    line.answer(b"[" * 50_000 + b"]" * 50_000, status="400 Bad Request")


@kind("redirect to itself")
def _(line: Line) -> None:
    line.answer(b"", status="307 Temporary Redirect", head=f"location: {line.path}\r\n")


ELSEWHERE = "redirect to the other api"


@kind(ELSEWHERE)
def _(line: Line) -> None:
    """The endpoint refuses it there: what was sent is no request of that kind."""
    other = "/v1/completions" if line.path.endswith("/chat/completions") else "/v1/chat/completions"
    line.answer(b"", status="308 Permanent Redirect", head=f"location: {other}\r\n")


# -- on the wire -----------------------------------------------------------------------------------------------------


@kind("reset", mends=True, billed=True)
def _(line: Line) -> None:
    line.reset()


@kind("closed", mends=True, billed=True)
def _(line: Line) -> None:
    line.close()


@kind("reset in the head", mends=True, billed=True)
def _(line: Line) -> None:
    line.write(b"HTTP/1.1 200 OK\r\ncontent-ty")
    asyncio.get_running_loop().call_later(0.001, line.reset)


@kind("cut in the body", mends=True, billed=True)
def _(line: Line) -> None:
    line.answer(line.encoded[: len(line.encoded) // 2], length=len(line.encoded))
    line.close()


@kind("stall", mends=True, billed=True)
async def _(line: Line) -> None:
    await _for_ever()


@kind("stall in the head", mends=True, billed=True)
async def _(line: Line) -> None:
    line.write(b"HTTP/1.1 200 OK\r\ncontent-type: app")
    await _for_ever()


@kind("stall in the body", mends=True, billed=True)
async def _(line: Line) -> None:
    line.answer(line.encoded[:20], length=len(line.encoded))
    await _for_ever()


@kind("drip", mends=True, billed=True)
async def _(line: Line) -> None:
    line.answer(b"", length=1_000_000)
    while not line.transport.is_closing():
        line.write(b" ")
        await asyncio.sleep(5)


@kind("slow", good=True, mends=True, billed=True)
async def _(line: Line) -> None:
    await asyncio.sleep(min(line.amount, 20.0))
    line.answer(line.encoded)


@kind("in pieces", good=True, mends=True, billed=True)
async def _(line: Line) -> None:
    data = line.encoded
    line.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")
    for start in range(0, len(data), 200):
        piece = data[start : start + 200]
        line.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        await asyncio.sleep(1)
    line.write(b"0\r\n\r\n")


@kind("length too long", mends=True, billed=True)
async def _(line: Line) -> None:
    line.answer(line.encoded, length=len(line.encoded) + 100)
    await _for_ever()


@kind("length too short", mends=True, billed=True)
def _(line: Line) -> None:
    line.answer(line.encoded, length=len(line.encoded) // 2)


@kind("length is no number", mends=True, billed=True)
def _(line: Line) -> None:
    line.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: many\r\n\r\n" + line.encoded)
    line.close()


@kind("two lengths", mends=True, billed=True)
def _(line: Line) -> None:
    line.answer(line.encoded, head="content-length: 7\r\n")
    line.close()


@kind("chunk size is nonsense", mends=True, billed=True)
def _(line: Line) -> None:
    line.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n" + line.encoded + b"\r\n0\r\n\r\n")


@kind("chunks end early", mends=True, billed=True)
def _(line: Line) -> None:
    line.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n" % len(line.encoded) + line.encoded[:30])
    line.close()


@kind("gzip that is none", mends=True, billed=True)
def _(line: Line) -> None:
    line.answer(line.encoded, head="content-encoding: gzip\r\n")


@kind("head without end")
def _(line: Line) -> None:
    line.write(b"HTTP/1.1 200 OK\r\n" + b"x-junk: " + b"j" * 300_000 + b"\r\n\r\n")
    line.close()


@kind("tls alert")
def _(line: Line) -> None:
    line.write(b"\x15\x03\x01\x00\x02\x02\x46")
    line.close()


@kind("another protocol")
def _(line: Line) -> None:
    line.write(b"SSH-2.0-OpenSSH_9.6\r\n")
    line.close()


@kind("noise")
def _(line: Line) -> None:
    line.write(bytes(range(256)) * 8)
    line.close()


@kind("status is nonsense")
def _(line: Line) -> None:
    line.write(b"HTTP/1.1 OK 200\r\ncontent-length: 0\r\n\r\n")
    line.close()


@kind("status 099")
def _(line: Line) -> None:
    line.answer(b"{}", status="099 Odd")


@kind("continue for ever")
async def _(line: Line) -> None:
    while not line.transport.is_closing():
        line.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await asyncio.sleep(1)


# -- in the body -----------------------------------------------------------------------------------------------------


def _body(name: str, make: Callable[[Line], bytes], head: str = "", **traits: bool) -> None:
    @kind(name, **traits)
    def act(line: Line) -> None:
        line.answer(make(line), head=head)


_body("half json", lambda line: line.encoded[: len(line.encoded) // 2], mends=True, billed=True)
_body("no json", lambda line: b"It works!", head="content-type: text/html\r\n", mends=True)
_body("nothing", lambda line: b"", mends=True, billed=True)
_body("deep json", lambda line: b"[" * 100_000, mends=True, billed=True)
_body("deep object", lambda line: b'{"choices":' + b"[" * 50_000 + b"]" * 50_000 + b"}", mends=True, billed=True)
_body("no utf-8", lambda line: b'{"choices": "\xff\xfe\xfa"}', mends=True, billed=True)
_body("utf-16", lambda line: json.dumps(dict(line.body)).encode("utf-16"), billed=True)
_body("a list", lambda line: b"[" + line.encoded + b"]", mends=True, billed=True)
_body("a number", lambda line: b"1" * 6000, mends=True, billed=True)
_body("null", lambda line: b"null", mends=True, billed=True)
_body("error in 200", lambda line: json.dumps(_error(502, "upstream failed")).encode(), mends=True, billed=True)
_body("error in 200, busy", lambda line: json.dumps(_error(429, "rate limited")).encode(), mends=True)
_body("error in 200 as text", lambda line: b'{"error": "upstream failed"}', mends=True, billed=True)
_body("error in 200 as list", lambda line: b'{"error": [1, {"message": []}]}', mends=True, billed=True)
_body("detail in 200", lambda line: b'{"detail": "upstream failed", "object": "error", "code": 500}', billed=True)


def _edit(name: str, edit: Callable[[dict[str, Any]], None], **traits: bool) -> None:
    def make(line: Line) -> bytes:
        data = copy.deepcopy(dict(line.body))
        edit(data)
        return json.dumps(data).encode()

    _body(name, make, billed=True, **traits)


def _choice(name: str, choices: Any) -> None:
    _edit(f"choices: {name}", lambda data: data.update(choices=choices))


_choice("none", [])
_choice("null", None)
_choice("object", {"0": {}})
_choice("text", "hello")
_choice("of null", [None])
_choice("of numbers", [1, 2])
_choice("of nothing", [{}])
_choice("message is text", [{"message": "hello", "finish_reason": "stop"}])
_choice("message is a list", [{"message": [], "finish_reason": []}])
_choice("content is a number", [{"message": {"role": "assistant", "content": 7}, "finish_reason": 7}])
_choice("content is a list", [{"message": {"content": [{"type": "text", "text": None}, 3]}, "finish_reason": "stop"}])
_choice(
    "error", [{"error": {"code": 502, "message": "upstream"}, "message": {"content": ""}, "finish_reason": "error"}]
)
_choice("refusal", [{"message": {"content": None, "refusal": "I cannot."}, "finish_reason": "stop"}])
_choice("filtered", [{"message": {"content": ""}, "finish_reason": "content_filter"}])
_choice("calls nobody offered", [{"message": {"content": None, "tool_calls": [{"function": {"name": "f"}}]}}])
_choice("calls of nonsense", [{"message": {"content": "", "tool_calls": [3, None, {"function": "f"}, {"id": []}]}}])
_choice("calls is a text", [{"message": {"content": "", "tool_calls": "python"}}])
_choice("calls is an object", [{"message": {"content": "", "tool_calls": {"name": "python"}}}])
_choice("text of the other api", [{"text": ["a"], "logprobs": 3, "token_ids": "abc", "prompt_token_ids": {}}])
_edit("model is odd", lambda data: data.update(model=["m"], system_fingerprint={"a": 1}, id=None), good=True)


def _exact(name: str, edit: Callable[[dict[str, Any]], None]) -> None:
    """What only the tokens interface reads: without it, or with other ids than those sent, an answer is none."""

    def apply(data: dict[str, Any]) -> None:
        edit(data["choices"][0])

    _edit(f"exact: {name}", apply)


_exact("no ids", lambda choice: choice.pop("token_ids", None))
_exact("no prompt ids", lambda choice: choice.pop("prompt_token_ids", None))
_exact("ids are text", lambda choice: choice.update(token_ids=["a"]))
_exact("another prompt", lambda choice: choice.update(prompt_token_ids=[1, 2, 3]))
_exact("no log-probs", lambda choice: choice.update(logprobs=None))
_exact("fewer log-probs", lambda choice: choice.update(logprobs={"token_logprobs": [-0.5]}))
_exact("a log-prob is null", lambda choice: choice.update(logprobs={"token_logprobs": [None]}, token_ids=[5]))


def _usage(name: str, edit: Callable[[dict[str, Any]], Any]) -> None:
    def apply(data: dict[str, Any]) -> None:
        changed = edit(dict(data["usage"]))
        data["usage"] = changed

    _edit(f"usage: {name}", apply, lies=True, good=True)


_usage("none", lambda usage: None)
_usage("text", lambda usage: "free")
_usage("list", lambda usage: [1])
_usage("empty", lambda usage: {})
_usage("zero", lambda usage: dict.fromkeys(usage, 0))
_usage("negative", lambda usage: {"prompt_tokens": -5, "completion_tokens": -7, "total_tokens": -12})
_usage("negative answer", lambda usage: {**usage, "completion_tokens": -1})
_usage("text numbers", lambda usage: {key: str(value) for key, value in usage.items()})
_usage("fractions", lambda usage: {"prompt_tokens": 1.5, "completion_tokens": float("nan"), "total_tokens": 1e400})
_usage("bools", lambda usage: {"prompt_tokens": True, "completion_tokens": True})
_usage("prompt only", lambda usage: {"prompt_tokens": usage["prompt_tokens"]})
_usage("total only", lambda usage: {"total_tokens": usage["total_tokens"]})
_usage("does not add up", lambda usage: {**usage, "total_tokens": usage["total_tokens"] + 1000})
_usage("null parts", lambda usage: {**usage, "completion_tokens": None})
_usage("cached more than sent", lambda usage: {**usage, "prompt_tokens_details": {"cached_tokens": 10**9}})
_usage("cached negative", lambda usage: {**usage, "prompt_tokens_details": {"cached_tokens": -50}})
_usage("cached nonsense", lambda usage: {**usage, "prompt_tokens_details": {"cached_tokens": "all", "x": []}})
_usage("huge", lambda usage: {**usage, "prompt_tokens": 10**30})
_usage("details is a list", lambda usage: {**usage, "prompt_tokens_details": [1], "completion_tokens_details": 3})

MENDED = tuple(name for name, item in KINDS.items() if item.mends and not item.good)
"""What asking again mends."""
WAITED = tuple(name for name, item in KINDS.items() if item.waits)
"""What waiting mends, however long."""
LYING = tuple(name for name, item in KINDS.items() if item.lies)
OTHER = tuple(name for name, item in KINDS.items() if not item.mends and not item.lies)
