"""Requests as our servers read them: a bounded body of strict JSON."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic_core import from_json

from recursive_agent.model.decoding import TooLarge, Undecodable, UnknownEncoding, decoded

from .errors import ApiError
from .settings import ServerSettings

_LINGER = 16 << 20
"""Bytes of a body too large that are read and dropped: a connection closed on a client that still sends loses the answer."""
_BOM = b"\xef\xbb\xbf"
"""What Windows begins a file of UTF-8 with; it is no part of the JSON."""
_HUGE = re.compile(rb"[0-9][eE]\+?[0-9]{3}|[0-9]{309}")
"""Found wherever a number may be beyond a double, and elsewhere too."""


class StrictRequest(Request):
    """A request whose body is bounded in size and time, and whose JSON means the same to every reader.

    NaN, infinities, lone surrogates, other encodings than UTF-8, deep nesting (200) and endless integers are refused.
    """

    _body: bytes
    _json: Any

    async def body(self) -> bytes:
        """The whole body, decompressed. Raises ApiError 413, 408, 415 for a compression that is not known, and 400."""
        if not hasattr(self, "_body"):
            settings: ServerSettings = self.app.state.settings
            with anyio.move_on_after(settings.body_seconds) as scope:
                raw = await self._read(settings.max_body_bytes)
                # The header may come twice, which means the same as one with both values.
                encoding = ", ".join(self.headers.getlist("content-encoding"))
                self._body = plain(raw, encoding, settings.max_body_bytes)
            if scope.cancelled_caught:
                raise ApiError(408, f"The body did not arrive within {settings.body_seconds:g} s.")
        return self._body

    async def json(self) -> Any:
        """The body's JSON. Raises ApiError 400."""
        if not hasattr(self, "_json"):
            body = await self.body()
            try:
                value = from_json(body.removeprefix(_BOM), allow_inf_nan=False)
            except ValueError as error:
                raise ApiError(400, f"The body is no valid JSON: {error}.", code="invalid_json") from None
            if _HUGE.search(body) and not _is_finite(value):
                raise ApiError(400, "The body holds a number that no double can hold.", code="invalid_json")
            self._json = value
        return self._json

    async def _read(self, limit: int) -> bytes:
        announced = self.headers.get("content-length", "")
        size = int(announced) if announced.isdecimal() else 0
        if size > limit + _LINGER:
            raise _too_large(limit)
        parts: list[bytes] = []
        size = 0
        async for part in self.stream():
            size += len(part)
            if size <= limit:
                parts.append(part)
            else:
                parts.clear()
                if size > limit + _LINGER:
                    break
        if size > limit:
            raise _too_large(limit)
        return b"".join(parts)


class StrictRoute(APIRoute):
    """A route that reads `StrictRequest`s."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See `APIRoute.get_route_handler`."""
        handle = super().get_route_handler()

        async def strictly(request: Request) -> Response:
            return await handle(StrictRequest(request.scope, request.receive))

        return strictly


def plain(body: bytes, encoding: str, limit: int) -> bytes:
    """A body out of its Content-Encoding, at most `limit` bytes. Raises ApiError 415, 413 or 400."""
    try:
        return decoded(body, encoding, limit)
    except TooLarge:
        raise _too_large(limit) from None
    except UnknownEncoding:
        raise ApiError(
            415,
            f"The Content-Encoding {encoding[:80]!r} is not read here; send the body as gzip, as deflate, or plain.",
            code="unsupported_encoding",
            headers={"Accept-Encoding": "gzip, deflate, identity"},
        ) from None
    except Undecodable as error:
        message = f"The body does not fit its header Content-Encoding: {encoding[:80]}: {error}."
        raise ApiError(400, message, code="invalid_encoding") from None


def _too_large(limit: int) -> ApiError:
    return ApiError(413, f"The body has more than the {limit} bytes that this server takes.")


def _is_finite(value: Any) -> bool:
    if isinstance(value, dict):
        return all(_is_finite(item) for item in value.values())
    if isinstance(value, list):
        return all(_is_finite(item) for item in value)
    return not isinstance(value, float) or math.isfinite(value)
