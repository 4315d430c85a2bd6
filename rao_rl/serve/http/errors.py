"""Errors of a server: one exception, and the body that OpenAI's clients read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "request_too_large",
    415: "unsupported_media_type",
    429: "rate_limit_error",
    503: "overloaded_error",
}
NOT_AN_OBJECT = "The body must be a JSON object, with the header Content-Type: application/json."
_SENTENCES = {
    "extra_forbidden": "there is no such field",
    "missing": "this field is required",
    "dict_type": "it must be a JSON object",
    "model_type": "it must be a JSON object",
    "model_attributes_type": "it must be a JSON object",
    "union_tag_invalid": "its type must be one of {expected_tags}",
    "union_tag_not_found": "it must be a JSON object with a type",
}
"""Where pydantic speaks of Python."""
_SHOWN = 3
"""Most faults of one request that an error names."""


class ErrorDetail(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorResponse(BaseModel):
    """The body of every answer that is no success."""

    error: ErrorDetail


class ApiError(HTTPException):
    """Ends a request with an HTTP status and OpenAI's error body. `param` names the field at fault."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str | None = None,
        param: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        sent = dict(headers or {})
        if retry_after is not None:
            sent["Retry-After"] = str(retry_after)
        super().__init__(status, detail=message, headers=sent or None)
        self.kind = kind or _kind(status)
        self.param = param
        self.code = code

    @property
    def body(self) -> dict[str, Any]:
        """The error as JSON."""
        return error_body(self.detail, kind=self.kind, param=self.param, code=self.code)

    def response(self) -> JSONResponse:
        """The error as an answer."""
        return JSONResponse(self.body, self.status_code, self.headers)


def error_body(message: str, *, kind: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """An error as OpenAI writes it."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


INTERNAL = error_body("The server failed; its log says why.", kind="server_error", code="internal_error")
"""The whole message for a fault of ours: details may be private."""

ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorResponse, "description": description}
    for status, description in {
        400: "The request makes no sense; the message says why.",
        401: "No API key, or an unknown one.",
        403: "Without keys, the server answers only under a loopback name.",
        404: "There is no such thing.",
        405: "The path knows no such method.",
        408: "The body did not arrive in time.",
        413: "The body is too large.",
        415: "The body's Content-Encoding is not known.",
        429: "Too many requests run and wait; try again after Retry-After.",
        500: "The server failed.",
        503: "The server is shutting down; try again after Retry-After.",
    }.items()
}
"""For `responses=` of a route."""


def install_handlers(app: FastAPI) -> None:
    """Give every failure of `app` OpenAI's shape."""

    async def known(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        return (error if isinstance(error, ApiError) else _of_a_route(request, error)).response()

    async def invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return _invalid(error.errors(), error.body).response()

    app.add_exception_handler(HTTPException, known)
    app.add_exception_handler(RequestValidationError, invalid)


def _of_a_route(request: Request, error: HTTPException) -> ApiError:
    """What the router refuses."""
    if error.status_code == 405:
        known = set((error.headers or {}).get("Allow", "").replace(" ", "").split(",")) - {""}
        if "GET" in known:
            known.add("HEAD")
        allow = ", ".join(sorted(known))
        return ApiError(405, f"This path takes no {request.method[:20]}, only {allow}.", headers={"Allow": allow})
    if error.status_code == 404:
        near = _near(request)
        return ApiError(404, f"There is no such path{f'; try {near}' if near else ''}.")
    return ApiError(error.status_code, str(error.detail), headers=error.headers)


def _near(request: Request) -> str | None:
    """A path of the server that was probably meant: clients often have a base URL with too much or too little at its end."""
    parts = [part for part in request.url.path.split("/") if part]
    known = {str(getattr(route, "path", "")) for route in request.app.routes}
    tried = ("/" + "/".join(one) for one in (parts, ["v1", *parts], parts[1:]))
    return next((path for path in tried if path in known), None)


def _invalid(faults: Sequence[Mapping[str, Any]], body: Any) -> ApiError:
    """What is wrong with the fields, without their values: those may be long, or secret."""
    parts = []
    for fault in faults[:_SHOWN]:
        where = _place(fault, body)
        said = _said(fault)
        parts.append(f"{where}: {said}" if where else said)
    if len(faults) > _SHOWN:
        parts.append(f"and {len(faults) - _SHOWN} more")
    place = _place(faults[0], body) if faults else ""
    if not place and not isinstance(body, dict):
        return ApiError(400, NOT_AN_OBJECT)
    return ApiError(400, "; ".join(parts), param=place or None, code="invalid_value")


def _said(fault: Mapping[str, Any]) -> str:
    sentence = _SENTENCES.get(fault["type"])
    return str(fault["msg"]) if sentence is None else sentence.format_map(fault.get("ctx") or {})


def _place(fault: Mapping[str, Any], body: Any) -> str:
    """Where in the request a fault lies; pydantic's names for the ways to read a value are left out."""
    origin, *parts = fault["loc"]
    if origin != "body":
        return ".".join(str(part) for part in parts)
    shown: list[str] = []
    for number, part in enumerate(parts, 1):
        missing = fault["type"] == "missing" and number == len(parts)
        if (isinstance(body, dict) and part in body) or (isinstance(body, list) and isinstance(part, int)):
            body = body[part]
        elif not missing:
            continue
        shown.append(str(part)[:80])
    return ".".join(shown)[:200]


def _kind(status: int) -> str:
    return _KINDS.get(status, "invalid_request_error" if status < 500 else "server_error")
