"""Keeps secrets out of what is written down."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from urllib.parse import quote

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

    def text(self, text: str) -> str:
        """`text` without the secrets."""
        for needle in self._needles:
            if needle in text:
                text = text.replace(needle, REDACTED)
        return text

    def data(self, data: bytes) -> bytes:
        """`data` without the secrets, where they stand in UTF-8."""
        for needle in self._byte_needles:
            if needle in data:
                data = data.replace(needle, REDACTED.encode())
        return data


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
