"""What can go wrong with one attempt, and the sentence that says so once all attempts are used up."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from ..errors import AuthenticationFailed, BadRequest, ContextOverflow, EndpointUnavailable, ModelError
from ..trace.redact import REDACTED, Redactor
from .dialect import Sizes, Trouble, sizes_of, trouble_of
from .endpoint import PLACEHOLDER_KEY, Endpoint
from .error_body import ErrorBody, read_error
from .waits import asked_wait

_RETRIED = frozenset({Trouble.RATE, Trouble.SERVER})


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

    @property
    def throttled(self) -> bool:
        """Whether the endpoint takes no more calls now, so that all calls to it have to slow down."""
        return False


class Unreachable(Failure):
    """No whole answer came: no connection, one that broke, or too long a wait."""


class TooSlow(Unreachable):
    """No whole answer came within the time of an attempt."""


class Misconfigured(Failure):
    """No request can leave as things are set up here (a proxy, a certificate); the reason is a whole sentence."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, retryable=False)


class Rejected(Failure):
    """The endpoint answered with an error: as a status of HTTP, or within an answer with status 200 (`status` is then
    the one that the error names, 0 where it names none, and `lost` says whether it may have been billed).
    """

    def __init__(
        self, status: int, error: ErrorBody, *, message: str, wait: float = 0.0, within_answer: bool = False
    ) -> None:
        self.trouble = trouble_of(status, error, asked_to_wait=wait > 0)
        named = f"HTTP {status}" if not within_answer else f"an error in the answer{f' ({status})' if status else ''}"
        super().__init__(
            f"{named}: {message}" if message else named,
            wait=wait,
            lost=within_answer and self.trouble is Trouble.SERVER,
            retryable=self.trouble in _RETRIED,
        )
        self.status = status
        self.error = error
        self.message = message

    @property
    def code(self) -> str:
        """The error's code, as text."""
        return self.error.code

    @property
    def throttled(self) -> bool:
        """Whether the endpoint takes no more calls now."""
        return self.trouble is Trouble.RATE

    @property
    def is_overflow(self) -> bool:
        """Whether the prompt (or prompt and answer) does not fit the context window."""
        return self.trouble is Trouble.OVERFLOW

    @property
    def is_unknown_model(self) -> bool:
        """Whether the endpoint says that it has no such model (or no such path)."""
        return self.trouble is Trouble.MODEL

    def sizes(self, max_tokens: int = 0) -> Sizes | None:
        """What the message of an overflow says about sizes, where it names both."""
        return sizes_of(self.error.message, max_tokens)


def rejected(
    status: int,
    body: Any,
    headers: Mapping[str, str],
    *,
    secret: str,
    wait: float | None = None,
    within_answer: bool = False,
) -> Rejected:
    """Read an error of the endpoint, in any of the shapes that `read_error` knows."""
    if "html" in headers.get("content-type", "") and isinstance(body, str):
        error = ErrorBody("a web page instead of JSON")
    else:
        error = read_error(body)
    if wait is None:
        wait = asked_wait(headers, body, error.message)
    shown = scrub(error.message or " ".join((error.code, error.kind)).strip(), secret)
    return Rejected(status, error, message=shown, wait=wait, within_answer=within_answer)


def scrub(text: str, secret: str, limit: int = 400) -> str:
    """One line of `text`, at most `limit` characters, without `secret` (placeholders are none)."""
    text = text[: 20 * limit]
    if secret and secret != PLACEHOLDER_KEY:
        text = _redactor(secret).text(text).replace(REDACTED, "***")
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return line if len(line) <= limit else line[:limit] + "…"


@lru_cache(maxsize=8)
def _redactor(secret: str) -> Redactor:
    return Redactor([secret])


def explain(failure: Failure, endpoint: Endpoint, *, attempts: int, unconfirmed: int) -> ModelError:
    """The error for the caller: one sentence on what happened and what to do."""
    error = _error_of(failure, endpoint, attempts)
    error.unconfirmed = unconfirmed
    return error


def _error_of(failure: Failure, endpoint: Endpoint, attempts: int) -> ModelError:
    at = endpoint.shown_url
    if isinstance(failure, Misconfigured):
        return EndpointUnavailable(failure.reason)
    tried = "one attempt" if attempts == 1 else f"{attempts} attempts"
    if not isinstance(failure, Rejected):
        return EndpointUnavailable(
            f"{at} gave no usable answer in {tried} (last: {failure.reason.rstrip('.')}); check that it is running and "
            "that the base URL is right."
        )
    details = f"{failure.status or 'in its answer'}: {failure.message}".rstrip(".: ")
    match failure.trouble:
        case Trouble.OVERFLOW:
            return ContextOverflow(f"The conversation does not fit the context window of {endpoint.model} ({details}).")
        case Trouble.ANSWER:
            return BadRequest(
                f"{at} gives no answer as long as was asked for ({details}); lower sampling['max_tokens']."
            )
        case Trouble.QUOTA:
            return AuthenticationFailed(
                f"The account at {at} has no quota left ({details}); add credit or use another key."
            )
        case Trouble.KEY:
            return AuthenticationFailed(
                f"{at} refused the API key ({details}); set OPENAI_API_KEY, or pass api_key in Python."
            )
        case Trouble.FLAGGED:
            return BadRequest(
                f"A content filter at {at} refused this prompt ({details}); word the goal or data otherwise."
            )
        case Trouble.RATE:
            return EndpointUnavailable(
                f"{at} takes no more calls for now: {tried} were turned away ({details}); try later, lower "
                "Limits.max_concurrency, or ask the provider for a higher rate limit."
            )
        case Trouble.SERVER:
            return EndpointUnavailable(
                f"{at} failed in {tried} (last: {failure.reason.rstrip('.')}); try again later, or check the server."
            )
        case _:
            hint = "" if failure.status in (403, 404) else f"; check `sampling` and what {endpoint.model} supports"
            return BadRequest(f"{at} refused the request ({details}){hint}.")
