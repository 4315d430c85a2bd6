"""What a server answered, as plain data for agents."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any

from mcp import types

from ..plain import NotPlain, plain
from ..tools import MOST_VALUES, ToolFailed
from ..trace.redact import Redactor
from .texts import lines

_MOST_ERROR = 2_000


def result_of(tool: str, answer: types.CallToolResult, redactor: Redactor, *, wrapped: bool) -> Any:
    """The value of a call; raises ToolFailed where the server says that it failed.

    Structured content is data as it is. Else one text is that text, several parts are a list; an image, a sound or a
    resource is a dict with its `data` as bytes, or its `text`.
    """
    if answer.is_error:
        told = lines("\n".join(_texts(answer.content)), _MOST_ERROR, 40)
        raise ToolFailed(f"{tool}() failed: {redactor.text(told) or 'the server gives no reason'}")
    structured = answer.structured_content
    rest = [_part(each) for each in answer.content if not isinstance(each, types.TextContent)]
    value: Any
    if structured is not None:
        value = (
            structured["result"]
            if wrapped and isinstance(structured, dict) and set(structured) == {"result"}
            else structured
        )
        value = {"value": value, "content": rest} if rest else value
    else:
        parts = [_part(each) for each in answer.content]
        value = parts[0] if len(parts) == 1 else parts or None
    try:
        return _redacted(plain(value, strict=True, most=MOST_VALUES), redactor)
    except (NotPlain, RecursionError) as error:
        raise ToolFailed(f"what {tool}() gave cannot be handed to you: {error}") from None


def _texts(content: Sequence[types.ContentBlock]) -> list[str]:
    return [each.text for each in content if isinstance(each, types.TextContent)]


def _part(block: types.ContentBlock) -> Any:
    match block:
        case types.TextContent():
            return block.text
        case types.ImageContent() | types.AudioContent():
            return {"type": block.type, "mime_type": block.mime_type, "data": _decoded(block.data)}
        case types.EmbeddedResource(resource=types.TextResourceContents() as resource):
            return {
                "type": "resource",
                "uri": str(resource.uri),
                "mime_type": resource.mime_type,
                "text": resource.text,
            }
        case types.EmbeddedResource(resource=types.BlobResourceContents() as resource):
            data = _decoded(resource.blob)
            return {"type": "resource", "uri": str(resource.uri), "mime_type": resource.mime_type, "data": data}
        case types.ResourceLink():
            link = {"name": block.name, "description": block.description, "mime_type": block.mime_type}
            return {"type": block.type, "uri": str(block.uri), **{key: each for key, each in link.items() if each}}
    return block.model_dump(mode="json", by_alias=True)


def _decoded(data: str) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        return data.encode("utf-8", "replace")


def _redacted(value: Any, redactor: Redactor) -> Any:
    """A value without the secrets of the server, which agents must not see."""
    if redactor.empty:
        return value
    if isinstance(value, str):
        return redactor.text(value)
    if isinstance(value, bytes):
        return redactor.data(value)
    if isinstance(value, dict):
        return {_redacted(key, redactor): _redacted(each, redactor) for key, each in value.items()}
    return [_redacted(each, redactor) for each in value] if isinstance(value, list) else value
