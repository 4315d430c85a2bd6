"""Signed links: addresses that open one run for a while, for browsers, which send no API key."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import time
from typing import NamedTuple

LASTS = 3_600.0
"""Seconds that a link can be opened."""


class Link(NamedTuple):
    """A link to a run."""

    run: str
    text: str
    """What stands in the address."""
    expires: int
    """Seconds since the epoch."""


class Links:
    """Makes links and checks them. They hold in this process alone: its secret is never written down."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)

    def make(self, run: str, *, lasts: float = LASTS) -> Link:
        """A link to a run, whose id holds no dot."""
        expires = int(time.time() + lasts)
        claim = f"{run}.{expires}"
        return Link(run, f"{claim}.{self._signature(claim)}", expires)

    def run_of(self, text: str) -> str | None:
        """The run that a link opens; None if it is not one of ours, or has expired."""
        claim, _, signature = text.rpartition(".")
        if not hmac.compare_digest(signature.encode(), self._signature(claim).encode()):
            return None
        run, _, expires = claim.rpartition(".")
        return run if time.time() < int(expires) else None

    def _signature(self, claim: str) -> str:
        digest = hmac.digest(self._secret, claim.encode("utf-8", "surrogatepass"), hashlib.sha256)
        return base64.urlsafe_b64encode(digest).decode("ascii").rstrip("=")
