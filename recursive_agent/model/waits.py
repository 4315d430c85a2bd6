"""How long an endpoint asks to wait: in headers, in the body, or in its own words."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_PART = re.compile(
    r"(\d+(?:\.\d+)?)\s*(ms|milliseconds?|msecs?|s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?)(?![a-z])",
    re.I,
)
_UNIT = r"(?:ms|milliseconds?|msecs?|secs?|seconds?|mins?|minutes?|hours?|hrs?|days?|[smhd])(?![a-z])"
_DURATION = rf"((?:\d+(?:\.\d+)?\s*{_UNIT}[\s,]*(?:and\s)?){{1,4}})"
_WORDS = re.compile(
    rf"(?:(?:(?:re)?try(?: again)?|wait|available|resets?|come back)[^.\n\d]{{0,40}}?\b(?:in|after|for|another|least|about)"
    rf"|\bwait)\s*:?\s*(?:about |approximately |at least )?{_DURATION}",
    re.IGNORECASE,
)
_BARE = re.compile(r"retry[-_ ]after[\"']?\s*[:=]?\s*[\"']?(\d+(?:\.\d+)?)(?![\d.]*\s*[a-z])", re.IGNORECASE)
_EPOCH = 1_000_000_000.0
"""Larger numbers are points in time, not spans."""
_SECONDS_KEYS = (
    "retry_after",
    "retryafter",
    "retry_after_seconds",
    "retryafterseconds",
    "estimated_time",
    "retrydelay",
)
_READ_LONGEST = 4_000
_READ_MOST = 300


def asked_wait(headers: Mapping[str, str], body: Any = None, message: str = "", *, now: float | None = None) -> float:
    """Seconds that an endpoint asks to wait; 0 where it does not say.

    In this order: `retry-after-ms` and `retry-after`, what the body names (Google's RetryInfo, say), the resets of limits
    that are used up, and the words of the message.
    """
    now = time.time() if now is None else now
    return (
        retry_after(headers, now=now)
        or max(_in_body(body, now), default=0.0)
        or _resets(headers, now)
        or _in_words(message[:_READ_LONGEST])
    )


def retry_after(headers: Mapping[str, str], *, now: float | None = None) -> float:
    """Seconds that `retry-after-ms` or `retry-after` (seconds or an HTTP date) ask for; 0 where there is neither."""
    try:
        seconds = float(headers["retry-after-ms"]) / 1000
    except (KeyError, ValueError):
        value = headers.get("retry-after", "")
        seconds = _number(value)
        if not seconds:
            try:
                seconds = parsedate_to_datetime(value).timestamp() - (time.time() if now is None else now)
            except (TypeError, ValueError, OverflowError):
                seconds = span(value)
    return _sane(seconds)


def span(text: str) -> float:
    """Seconds of a duration such as `7`, `7.5s`, `6m0s`, `1h2m3s`, `120ms`; 0 where it is none."""
    text = text.strip()
    if number := _number(text):
        return _sane(number)
    parts = list(_PART.finditer(text))
    if not parts or _PART.sub("", text).replace("and", "").strip(" ,"):
        return 0.0
    return _sane(sum(float(part[1]) * _unit(part[2]) for part in parts))


def moment(text: str, now: float) -> float:
    """Seconds until a reset given as a span, as seconds or milliseconds since the epoch, or as an ISO timestamp."""
    number = _number(text)
    if number >= _EPOCH:
        return _sane((number / 1000 if number >= _EPOCH * 1000 else number) - now)
    if number or (seconds := span(text)) == 0.0:
        if number:
            return _sane(number)
        try:
            return _sane(datetime.fromisoformat(text.strip().replace("Z", "+00:00")).timestamp() - now)
        except (ValueError, OverflowError):
            return 0.0
    return seconds


def _resets(headers: Mapping[str, str], now: float) -> float:
    """The longest reset among the limits that have nothing left (or do not say what they have)."""
    waits = []
    for name, value in headers.items():
        name = name.lower()
        if "ratelimit" not in name or "reset" not in name:
            continue
        remaining = headers.get(name.replace("reset", "remaining"))
        if remaining is None or _number(remaining) <= 0:
            waits.append(moment(value, now))
    return max(waits, default=0.0)


def _in_body(body: Any, now: float) -> Iterator[float]:
    """Every wait that a body names, wherever it stands."""
    waiting, seen = [body], 0
    while waiting and seen < _READ_MOST:
        seen += 1
        item = waiting.pop()
        if isinstance(item, list):
            waiting.extend(item[:50])
        if not isinstance(item, Mapping):
            continue
        for key, value in list(item.items())[:50]:
            name = str(key).lower()
            if name == "headers" and isinstance(value, Mapping):
                texts = {str(k).lower(): str(v) for k, v in value.items()}
                yield retry_after(texts, now=now) or _resets(texts, now)
            elif name in _SECONDS_KEYS and isinstance(value, str | int | float) and not isinstance(value, bool):
                yield moment(str(value), now)
            elif name in ("retry_after_ms", "retryafterms") and isinstance(value, int | float):
                yield _sane(value / 1000 if abs(value) < 1e12 else 0.0)
            else:
                waiting.append(value)


def _in_words(message: str) -> float:
    if (found := _WORDS.search(message)) is not None:
        return span(found[1].strip().rstrip(",").removesuffix("and"))
    return _sane(_number(bare[1])) if (bare := _BARE.search(message)) is not None else 0.0


def _number(text: str) -> float:
    try:
        return float(text) if len(text) < 40 else 0.0
    except ValueError:
        return 0.0


def _unit(name: str) -> float:
    name = name.lower()
    return _UNITS["ms" if name.startswith(("ms", "milli")) else name[0]]


def _sane(seconds: float) -> float:
    return seconds if math.isfinite(seconds) and seconds > 0 else 0.0
