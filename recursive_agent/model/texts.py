"""Text of an endpoint, made fit to be written, sent and run."""

from __future__ import annotations


def clean(text: str) -> str:
    """`text` without lone surrogates (half characters), which JSON can carry and UTF-8 cannot; pairs are put together."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
