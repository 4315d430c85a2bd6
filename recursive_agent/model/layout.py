"""A conversation as an endpoint takes it: what goes back with tool calls, which roles there are, nothing empty."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .answer import Echo
from .base import Message

_NAME = re.compile(r"[^A-Za-z0-9_-]")


@dataclass(slots=True)
class Layout:
    """How an endpoint wants conversations; learnt from its refusals, once for all of them."""

    system: bool = True
    """Whether there is a system role. Without one it opens the first message of the user."""
    alternate: bool = False
    """Whether user and assistant have to take turns, so that messages of one side become one."""
    json_arguments: bool = False
    """Whether arguments of earlier tool calls must be JSON even where the model wrote something else."""
    echo_always: bool = False
    """Whether reasoning goes back with every message of the model, not only with those that call tools."""
    unwanted: set[str] = field(default_factory=set)
    """Fields of the model's own messages that it does not take back."""


def laid_out(
    messages: Sequence[Message], echoes: Mapping[int, Echo], layout: Layout, *, tools: bool
) -> list[dict[str, Any]]:
    """The messages of a request. `echoes` are what came with the model's own, by their place; `tools` whether it has any.

    An answer without text or calls is left out, since many endpoints refuse it, and the messages around it become one.
    Calls of tools that were never offered are left out too, and their results are told by the user.
    """
    sent: list[dict[str, Any]] = []
    gap = False
    for place, message in enumerate(messages):
        plain = _plain(message, echoes.get(place), layout, tools=tools)
        if plain["role"] == "assistant" and not plain.get("tool_calls") and not str(plain["content"] or "").strip():
            gap = True
            continue
        merge = (gap or layout.alternate) and bool(sent) and sent[-1]["role"] == plain["role"] in ("user", "assistant")
        if merge and "tool_calls" not in plain and "tool_calls" not in sent[-1]:
            sent[-1] = {**sent[-1], "content": f"{sent[-1]['content']}\n\n{plain['content']}"}
        else:
            sent.append(plain)
        gap = False
    return sent if layout.system else _without_system(sent)


def _without_system(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    system = [str(message["content"]) for message in messages if message["role"] == "system"]
    rest = [message for message in messages if message["role"] != "system"]
    if not system:
        return messages
    if rest and rest[0]["role"] == "user":
        return [{**rest[0], "content": "\n\n".join([*system, str(rest[0]["content"])])}, *rest[1:]]
    return [{"role": "user", "content": "\n\n".join(system)}, *rest]


def _plain(message: Message, echo: Echo | None, layout: Layout, *, tools: bool) -> dict[str, Any]:
    if message.role == "tool" and not tools:
        return {"role": "user", "content": message.content}
    plain: dict[str, Any] = {"role": message.role, "content": message.content}
    calls = message.tool_calls if tools else ()
    if echo is not None and (calls or layout.echo_always):
        plain.update({name: value for name, value in echo.message.items() if name not in layout.unwanted})
        if echo.null and not message.content:
            plain["content"] = None
    if calls:
        extras = echo.calls if echo is not None else ()
        plain["tool_calls"] = [
            _call(call.id, call.name, call.arguments, extras[place] if place < len(extras) else {}, layout)
            for place, call in enumerate(calls)
        ]
    if message.tool_call_id is not None:
        plain["tool_call_id"] = message.tool_call_id
    return plain


def _call(identity: str, name: str, arguments: str, extra: Mapping[str, Any], layout: Layout) -> dict[str, Any]:
    more = {key: value for key, value in extra.items() if key not in layout.unwanted and key != "function"}
    inner = extra.get("function")
    within = {key: value for key, value in inner.items() if key not in layout.unwanted} if inner else {}
    if layout.json_arguments and not _is_object(arguments):
        arguments = json.dumps({"code": arguments}, ensure_ascii=False)
    # Names with dots are what some models write and no endpoint takes back.
    function = {**within, "name": _NAME.sub("_", name)[:64] or "unknown", "arguments": arguments}
    return {**more, "id": identity, "type": "function", "function": function}


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def extra_size(echo: Echo) -> int:
    """Bytes that go back beside text and calls and are not what was sampled: signatures, encrypted reasoning."""
    rest = {name: value for name, value in echo.message.items() if not isinstance(value, str)}
    if not rest and not any(echo.calls):
        return 0
    return len(json.dumps([rest, list(echo.calls)], ensure_ascii=False).encode("utf-8", "replace"))
