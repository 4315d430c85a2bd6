"""An error of an endpoint, read from any of the shapes in which providers and gateways write it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

LONGEST_READ = 20_000
"""Characters of an error that are looked at: gateways quote whole requests."""
_DEEPEST = 4
"""Levels of errors within errors that are unwrapped."""


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """An error as the endpoint words it. `status` is the one named in the body (0: none)."""

    message: str = ""
    code: str = ""
    kind: str = ""
    param: str = ""
    status: int = 0
    reasons: bool = False
    """Whether it lists reasons of moderation."""

    @property
    def words(self) -> str:
        """All of it as one text to search."""
        return f"{self.code} {self.kind} {self.message}"


def read_error(body: Any, depth: int = 0) -> ErrorBody:
    """An error in any shape: OpenAI's, Google's list, FastAPI's `detail`, Ollama's bare string, JSON within text."""
    if isinstance(body, list):
        if len(body) == 1 or (body and isinstance(body[0], Mapping) and "error" in body[0]):
            return read_error(body[0], depth + 1) if depth < _DEEPEST else ErrorBody(_text(body))
        return ErrorBody("; ".join(_detail(item) for item in body[:8])) if body else ErrorBody()
    if isinstance(body, str):
        inner = _json_within(body) if depth < _DEEPEST else None
        if inner is None:
            return ErrorBody(body[:LONGEST_READ])
        found = read_error(inner, depth + 1)
        return found if found.message else ErrorBody(body[:LONGEST_READ], found.code, found.kind, found.param)
    if not isinstance(body, Mapping):
        return ErrorBody("" if body is None else _text(body))
    for name in ("error", "errors"):
        if body.get(name) and depth < _DEEPEST and not isinstance(body[name], bool):
            outer, found = _flat(body), read_error(body[name], depth + 1)
            return ErrorBody(
                found.message or outer.message,
                found.code or outer.code,
                found.kind or outer.kind,
                found.param,
                found.status or outer.status,
                found.reasons,
            )
    return _nested(body, depth)


def _nested(error: Mapping[str, Any], depth: int) -> ErrorBody:
    """An error object, with what an upstream said where a gateway passes it on."""
    flat = _flat(error)
    metadata = error.get("metadata")
    metadata = metadata if isinstance(metadata, Mapping) else {}
    reasons = bool(metadata.get("reasons") or metadata.get("flagged_input"))
    inner: Any = None
    if depth < _DEEPEST:
        raw = metadata.get("raw")
        inner = raw if raw else _json_within(flat.message)
    if inner is None:
        return ErrorBody(flat.message, flat.code, flat.kind, flat.param, flat.status, reasons)
    found = read_error(inner, depth + 1)
    message = flat.message
    if found.message and _json_within(message) is not None:  # the words before it stay
        message = " ".join((message[: _json_start(message)].strip(), found.message)).strip()
    elif found.message and found.message not in message:
        message = f"{message}: {found.message}"
    return ErrorBody(
        message or found.message,
        found.code or flat.code,
        found.kind or flat.kind,
        found.param or flat.param,
        flat.status or found.status,
        reasons or found.reasons,
    )


def _flat(error: Mapping[str, Any]) -> ErrorBody:
    message = error.get("message") or error.get("detail") or error.get("msg") or error.get("error_description") or ""
    if isinstance(message, list):  # FastAPI and Mistral list what is wrong
        message = "; ".join(_detail(item) for item in message[:8])
    elif isinstance(message, Mapping):
        message = read_error(message, _DEEPEST - 1).message
    code, status = error.get("code"), 0
    for value in (code, error.get("status"), error.get("status_code"), error.get("http_status")):
        if isinstance(value, str) and value.isdigit() and len(value) == 3:
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and 400 <= value <= 599:
            status = value
            break
    kind = error.get("type") or error.get("status") or error.get("error_type") or ""
    return ErrorBody(
        _text(message),
        _text(code) if isinstance(code, str | int) else "",
        _text(kind) if isinstance(kind, str) else "",
        _text(error.get("param")) if isinstance(error.get("param"), str) else "",
        status,
    )


def _detail(item: Any) -> str:
    """One entry of a list of what is wrong: `seed: Extra inputs are not permitted`."""
    if not isinstance(item, Mapping):
        return _text(item)
    place = item.get("loc")
    name = ".".join(str(part) for part in place if part != "body") if isinstance(place, list | tuple) else ""
    message_text = _text(item.get("msg") or item.get("message") or item.get("detail") or "")
    return f"{name}: {message_text}" if name else message_text or _text(item)


def _json_within(text: str) -> Any:
    """The JSON object or list that a message is, or ends with; None where there is none."""
    start = _json_start(text)
    if start < 0 or len(text) > LONGEST_READ:
        return None
    try:
        value = json.loads(text[start:])
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, Mapping | list) and value else None


def _json_start(text: str) -> int:
    return min((place for place in (text.find("{"), text.find("[{")) if place >= 0), default=-1)


def _text(value: Any) -> str:
    return value[:LONGEST_READ] if isinstance(value, str) else str(value)[:LONGEST_READ]
