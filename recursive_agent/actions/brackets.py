"""Closes the brackets that code leaves open at its end, and drops those too many."""

from __future__ import annotations

import io
import tokenize

from .fences import parsed

_PAIRS = {"(": ")", "[": "]", "{": "}"}
_MOST = 4
"""Brackets that are added or dropped: where more are wrong, it is not clear what was meant."""


def balanced(code: str) -> tuple[str, str] | None:
    """The code with brackets that match, and what was done; None where nothing is to do, or it is not clear what."""
    text = code.rstrip()
    if not text or parsed(text) is not None:
        return None
    missing = _missing(text)
    if missing:
        closed = text + missing
        return (closed, f"`{missing}` was added at the end: write it yourself") if parsed(closed) is not None else None
    for count in range(1, _MOST + 1):
        if text[-count] not in _PAIRS.values():
            break
        if parsed(text[:-count]) is not None:
            return text[:-count], f"`{text[-count:]}` was left out at the end: it is too much"
    return None


def _missing(text: str) -> str:
    """The brackets that close what is open, where nothing behind the first open one looks like a new statement."""
    lines = text.split("\n")
    opened: list[tuple[str, int]] = []
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type != tokenize.OP:
                continue
            if token.string in _PAIRS:
                opened.append((_PAIRS[token.string], token.start[0]))
            elif token.string in _PAIRS.values():
                if not opened or opened[-1][0] != token.string:
                    return ""
                opened.pop()
    except tokenize.TokenError as error:
        if (
            "multi-line statement" not in str(error)
            and "EOF in" not in str(error)
            and "unexpected EOF" not in str(error)
        ):
            return ""
    except (SyntaxError, ValueError):
        return ""
    if not opened or len(opened) > _MOST:
        return ""
    first = opened[0][1]
    indent = _indent(lines[first - 1])
    for line in lines[first:]:
        continues = not line.strip() or _indent(line) > indent or line.strip()[0] in _PAIRS.values()
        if not continues:
            return ""
    return "".join(bracket for bracket, _ in reversed(opened))


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())
