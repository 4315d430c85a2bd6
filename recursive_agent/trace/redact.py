"""Keeps secrets out of what is written down."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import AnyStr
from urllib.parse import quote

from .values import PIECE

REDACTED = "[redacted]"
SHORTEST = 8
"""Shorter strings are no secrets but placeholders ("none", "EMPTY", "ollama") that would tear holes into every text."""


class Redactor:
    """Replaces secrets in text and bytes by `[redacted]`.

    A secret is found as it is, JSON-escaped, as Python's repr, percent-encoded and in base64 (whatever stands around it
    there; a character or two of the encoded secret's rim may remain). Secrets of less than 8 characters are ignored.
    """

    def __init__(self, secrets: Iterable[str | None] = ()) -> None:
        needles = {form for secret in secrets if secret and len(secret) >= SHORTEST for form in _forms(secret)}
        self._needles = sorted(needles, key=len, reverse=True)
        self._byte_needles = [needle.encode("utf-8", "surrogatepass") for needle in self._needles]

    @property
    def empty(self) -> bool:
        """Whether it has no secrets to look for."""
        return not self._needles

    def text(self, text: str) -> str:
        """`text` without the secrets."""
        for needle in self._needles:
            if needle in text:
                text = text.replace(needle, REDACTED)
        return text

    def text_pieces(self, text: str) -> Iterator[str]:
        """`text` without the secrets, in pieces, each found without holding up other threads."""
        return _pieces(text, self._needles, lambda: self._pattern, REDACTED)

    def data_pieces(self, data: bytes) -> Iterator[bytes]:
        """`data` without the secrets, in pieces likewise."""
        return _pieces(data, self._byte_needles, lambda: self._byte_pattern, REDACTED.encode())

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return re.compile("|".join(map(re.escape, self._needles)))

    @cached_property
    def _byte_pattern(self) -> re.Pattern[bytes]:
        return re.compile(b"|".join(map(re.escape, self._byte_needles)))

    def data(self, data: bytes) -> bytes:
        """`data` without the secrets, where they stand in UTF-8."""
        for needle in self._byte_needles:
            if needle in data:
                data = data.replace(needle, REDACTED.encode())
        return data


_SEARCHED = 32 * 1024
"""Characters that are searched for all forms of the secrets in one call."""


def _pieces(
    whole: AnyStr, needles: list[AnyStr], pattern: Callable[[], re.Pattern[AnyStr]], redacted: AnyStr
) -> Iterator[AnyStr]:
    if not any(_holds(whole, needle) for needle in needles):
        for start in range(0, len(whole), PIECE):
            yield whole[start : start + PIECE]
        return
    longest = max(map(len, needles))
    search = pattern().search
    at = 0
    while at < len(whole):
        window = at + _SEARCHED
        found = search(whole, at, window + longest)
        if found is not None and found.start() < window:
            yield whole[at : found.start()]
            yield redacted
            at = found.end()
        else:
            yield whole[at:window]
            at = window


def _holds(whole: AnyStr, needle: AnyStr) -> bool:
    return any(whole.find(needle, start, start + PIECE + len(needle) - 1) >= 0 for start in range(0, len(whole), PIECE))


def _forms(secret: str) -> Iterable[str]:
    yield secret
    yield json.dumps(secret)[1:-1]
    yield json.dumps(secret, ensure_ascii=False)[1:-1]
    yield repr(secret)[1:-1]
    raw = secret.encode("utf-8", "surrogatepass")
    yield quote(raw, safe="")
    for shift in range(3):  # base64 goes by threes: a secret stands in one of three ways
        encoded = base64.b64encode(bytes(shift) + raw).decode("ascii")
        first = -(-shift * 8 // 6)  # characters that hold bits of what stands before the secret
        whole = (shift + len(raw)) * 8 // 6  # characters that hold no bits of what follows it
        fragment = encoded[first:whole]
        yield fragment
        yield fragment.replace("+", "-").replace("/", "_")
