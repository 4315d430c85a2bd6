"""What can go wrong with one attempt, and the sentence that says so once all attempts are used up."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..errors import AuthenticationFailed, BadRequest, ContextOverflow, EndpointUnavailable, ModelError
from .endpoint import Endpoint

_RETRIED = frozenset({408, 409, 429})
_OVERFLOW = re.compile(
    r"context.?length|context window|context size|maximum context|maximum model length|max_model_len|"
    r"exceed_context_size|exceeds? the context|(prompt|input) (is )?too long|input length exceeds|"
    r"too many input tokens",
    re.IGNORECASE,
)
_UNKNOWN_MODEL = re.compile(r"model.{0,80}(not found|does not exist|not exist|unknown)|unknown model", re.IGNORECASE)
_OUT_OF_QUOTA = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})
_WINDOW = re.compile(r"maximum context length is (\d+)|available context size \((\d+)", re.IGNORECASE)
_ANSWER_ALONE = re.compile(r"max_\w*tokens=\d+ cannot be greater than max_model_len=(\d+)", re.IGNORECASE)
"""vLLM of an answer that is longer than the window all by itself; the prompt was not looked at."""
_PROMPT = re.compile(
    r"(?:prompt contains|has|passed) (?P<least>at least )?(?P<tokens>\d+) input tokens|"
    r"\((?P<messages>\d+) in the messages|request \((?P<request>\d+) tokens\)",
    re.IGNORECASE,
)


class Failure(Exception):
    """One attempt failed. `lost` means that the request may have been billed although no usable answer came.

    `spent` is what it was billed for, in tokens, where that is known after all.
    """

    def __init__(
        self, reason: str, *, lost: bool = False, retryable: bool = True, spent: int | None = None, wait: float = 0.0
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.lost = lost
        self.retryable = retryable
        self.spent = spent
        self.wait = wait
        """Seconds the endpoint asked to wait."""


class Unreachable(Failure):
    """No whole answer came: no connection, one that broke, or too long a wait."""


class Sizes(NamedTuple):
    """Context window and prompt in tokens; newer vLLM stops counting a prompt once it is too long (`exact` is False)."""

    window: int
    prompt: int
    exact: bool


class Rejected(Failure):
    """The endpoint answered with an HTTP error, so nothing was billed."""

    def __init__(self, status: int, message: str, *, code: str = "", kind: str = "", wait: float = 0.0) -> None:
        super().__init__(f"HTTP {status}: {message}" if message else f"HTTP {status}", wait=wait)
        self.status = status
        self.message = message
        self.code = code
        self.kind = kind
        fatal = self.out_of_quota or self.is_overflow
        self.retryable = (status in _RETRIED or status >= 500) and not fatal

    @property
    def out_of_quota(self) -> bool:
        """Whether waiting will not help: the account has nothing left."""
        return self.status == 402 or self.code in _OUT_OF_QUOTA or self.kind in _OUT_OF_QUOTA

    @property
    def is_overflow(self) -> bool:
        """Whether the prompt (or prompt and answer) does not fit the context window."""
        if self.status not in (400, 413, 422, 500):
            return False
        return bool(self.code == "context_length_exceeded" or _OVERFLOW.search(f"{self.kind} {self.message}"))

    @property
    def is_unknown_model(self) -> bool:
        """Whether the endpoint says that it has no such model (or no such path)."""
        if self.status == 404 or self.code == "model_not_found":
            return True
        return self.status in (400, 403, 422) and bool(_UNKNOWN_MODEL.search(self.message))

    def sizes(self) -> Sizes | None:
        """What the message of an overflow says about sizes, where it names both."""
        if (alone := _ANSWER_ALONE.search(self.message)) is not None:
            return Sizes(int(alone[1]), 1, exact=False)
        window, prompt = _WINDOW.search(self.message), _PROMPT.search(self.message)
        if window is None or prompt is None:
            return None
        exact = prompt["least"] is None
        return Sizes(
            int(window[1] or window[2]), int(prompt["tokens"] or prompt["messages"] or prompt["request"]), exact
        )


def rejected(status: int, body: Any, headers: Mapping[str, str], *, wait: float, secret: str) -> Rejected:
    """Read an HTTP error: OpenAI's shape, FastAPI's `detail`, Ollama's bare string, or plain text."""
    error = body.get("error", body) if isinstance(body, Mapping) else body
    code = kind = ""
    if isinstance(error, Mapping):
        code, kind = str(error.get("code") or ""), str(error.get("type") or "")
        error = error.get("message") or error.get("detail") or ""
    html = "html" in headers.get("content-type", "")
    text = "a web page instead of JSON" if html else str(error or "")
    return Rejected(status, scrub(text, secret), code=code, kind=kind, wait=wait)


def scrub(text: str, secret: str, limit: int = 400) -> str:
    """One line of `text`, at most `limit` characters, without `secret`."""
    line = " ".join(text.replace(secret, "***").split()) if secret else " ".join(text.split())
    return line if len(line) <= limit else line[:limit] + "…"


def explain(failure: Failure, endpoint: Endpoint, *, attempts: int, unconfirmed: int) -> ModelError:
    """The error for the caller: one sentence on what happened and what to do."""
    at = endpoint.shown_url
    if isinstance(failure, Rejected):
        said = f"{failure.status}: {failure.message}".rstrip(".: ")
        if failure.is_overflow:
            return ContextOverflow(
                f"The conversation does not fit the context window of {endpoint.model} ({said}).",
                unconfirmed=unconfirmed,
            )
        if failure.out_of_quota:
            return AuthenticationFailed(
                f"The account at {at} has no quota left ({said}); add credit or use another key.",
                unconfirmed=unconfirmed,
            )
        if failure.status in (401, 403):
            return AuthenticationFailed(
                f"{at} refused the API key ({said}); pass api_key=… or set OPENAI_API_KEY.", unconfirmed=unconfirmed
            )
        if not failure.retryable:
            return BadRequest(
                f"{at} refused the request ({said}); check `sampling` and what {endpoint.model} supports.",
                unconfirmed=unconfirmed,
            )
    tried = "one attempt" if attempts == 1 else f"{attempts} attempts"
    return EndpointUnavailable(
        f"{at} gave no usable answer in {tried} (last: {failure.reason.rstrip('.')}); check that it is running and "
        "that the base URL is right.",
        unconfirmed=unconfirmed,
    )
