"""Code in Markdown as models really write it: where a block begins, where it ends, and what of it is Python.

CommonMark alone does not settle it: models nest fences inside strings, indent them with a list, leave the last one open.
Where there is a choice, the shortest end that makes the code parse is taken. A fence inside a string can never be it,
because until the string ends the code does not parse.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from textwrap import dedent

from ..repl.worker.parsing import parse

_LABELS = frozenset(
    {"python", "py", "ipython", "jupyter", "repl", "pyrepl", "pycon", "python_repl", "tool_code", "code"}
)
"""Names of languages that mean code to run, without digits and dots (`python3.11`)."""
_MOST_JUDGED = 200_000
"""Characters of code that are parsed to judge them."""
_MOST_ENDS = 32
"""Ends of one block that are tried."""
_MOST_BLOCKS = 16

_OPENING = re.compile(
    r"^(?P<quote>(?:[ \t]*>)*)(?P<indent>[ \t]*)(?P<item>(?:[-*+]|\d{1,3}[.)])[ \t]+)?(?P<fence>`{3,}|~{3,})(?P<info>[^\n]*)$",
    re.M,
)
_LATE_OPENING = re.compile(
    r"^(?P<indent>[ \t]*)(?![ \t])[^\n`]+(?P<fence>`{3,})(?P<info>[ \t]*[\w.+{}-]+[ \t]*)$", re.M
)
_PROMPT = re.compile(r"[ \t]*(?:>>>|In ?\[\d*\]:)(?: |$)")
_TYPED = re.compile(r"\s*In ?\[\d*\]: ")
"""A prompt that is an annotation to Python."""
_STRAIGHT = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"'})
"""Quotes as word processors, and some models, set them."""
_COPIED = re.compile(r"\n*(?:[^\S\n]|>>>|In ?\[)")
"""How code begins that copying may have indented, or given a prompt."""
_ODD = re.compile("[\u00a0\ufeff\u200b‘’“”]")
_CONTINUED = re.compile(r"[ \t]*(?:>>>|\.\.\.|In ?\[\d*\]:|\.{3,}:)(?: |$)")


@dataclass(frozen=True, slots=True)
class Block:
    """A block of code: `label` is its language in lower case, `start` and `end` where it stands in the text."""

    code: str
    label: str
    start: int
    end: int
    closed: bool
    parses: bool

    @property
    def is_python(self) -> bool:
        """Whether its label says Python."""
        return self.label in _LABELS


def parsed(code: str) -> ast.Module | None:
    """The syntax tree, None where the code is no Python (or too long to judge)."""
    if len(code) > _MOST_JUDGED:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "\d" in a text of the agent's is not ours to warn about
            tree: ast.Module = parse(code)
            return tree
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def is_code(code: str) -> bool:
    """Whether this is Python, and not blank."""
    return bool(code.strip()) and _parses(code.strip("\n"))


@lru_cache(maxsize=8)
def _parses(code: str) -> bool:  # the same few texts are judged again and again while one answer is read
    return parsed(code) is not None


def sole_code(text: str) -> str | None:
    """The code of a text as most answers are: one block of Python, its label and both fences plain. None for any other.

    It is the code that `blocks` finds too, at a small part of the price: where only one end is there, nothing needs to be
    parsed to choose it.
    """
    pieces = text.split("```", 3)
    if len(pieces) != 3 or "~~~" in text:
        return None
    before, block, after = pieces
    label, _, code = block.partition("\n")
    on_own_lines = before[-1:] in ("", "\n") and code[-1:] == "\n" and after[:1] in ("", "\n")
    if not on_own_lines or label not in _LABELS:
        return None
    code = mended(code).strip("\n")
    return code if code.strip() else None


def blocks(text: str) -> list[Block]:
    """The blocks of a text in order, without those inside another block of Python."""
    found = list(islice(_blocks(text, _OPENING), _MOST_BLOCKS))
    if not any(block.is_python for block in found):
        late = [block for block in islice(_blocks(text, _LATE_OPENING), _MOST_BLOCKS) if block.is_python]
        found = late or found
    return found


def _blocks(text: str, opening: re.Pattern[str]) -> Iterator[Block]:
    place = 0
    while (found := opening.search(text, place)) is not None:
        block = _one_line(found)
        if block is None and found["fence"][0] == "`" and "`" in found["info"]:  # code inside a sentence
            place = found.end()
            continue
        block = block or _whole(text, found)
        yield block
        place = max(block.end, found.end())
        if not (block.parses and (block.is_python or not block.label)):
            # Only Python hides what it holds: in a block of Markdown may stand the one that is meant.
            inner = (
                match for match in opening.finditer(text, found.end(), block.end) if _label(match["info"]) in _LABELS
            )
            place = min((match.start() for match in islice(inner, 1)), default=place)


def _label(info: str) -> str:
    """The language of an info string: `python title=x`, `{.python}`, `Python3`, `python3.11` are all `python`."""
    word = re.match(r"[\s{.]*([A-Za-z_][\w-]*)", info)
    return "" if word is None else re.sub(r"[\d.]+$", "", word[1].lower().replace("-", "_"))


def _one_line(opening: re.Match[str]) -> Block | None:
    """```python finish(1)``` on a line of its own."""
    fence, info = opening["fence"], opening["info"]
    inner, mark, after = info.partition(fence)
    if not mark or after.strip():
        return None
    label, code = _label(inner), inner.strip()
    if label in _LABELS:
        code = re.sub(r"^[\s{.]*[\w.-]+\}?[ \t]*", "", inner, count=1).strip()
    elif is_code(code):
        label = ""
    return Block(code, label, opening.start(), opening.end(), True, is_code(code))


def _whole(text: str, opening: re.Match[str]) -> Block:
    """The block that begins at `opening`: its first end that makes it Python, else its first end."""
    info, begin = opening["info"], min(opening.end() + 1, len(text))
    label = _label(info)
    first: Block | None = None
    for end, after in _ends(text, begin, opening["fence"], proper=True):
        block = _block(text, opening, label, begin, end, after)
        if block.parses or (label and label not in _LABELS):
            return block
        first = first or block
    for end, after in _ends(text, begin, opening["fence"], proper=False):
        block = _block(text, opening, label, begin, end, after)
        if block.parses:
            return block
    unclosed = _block(text, opening, label, begin, len(text), len(text))
    if first is None or (unclosed.parses and not first.code.strip()):
        return replace(unclosed, closed=False)
    return first


def _ends(text: str, begin: int, fence: str, *, proper: bool) -> Iterator[tuple[int, int]]:
    """Where the code may end, and where what follows begins. Improper: behind the code, or too short a fence."""
    mark = re.escape(fence[0])
    pattern = rf"^[ \t>]*{mark}{{{len(fence)},}}" if proper else r"(?<![ \t])[ \t]*(?:`{3,}|~{3,})[ \t]*$"
    found = re.compile(pattern, re.M).finditer(text, begin)
    for match in islice(found, _MOST_ENDS):
        line = text.find("\n", match.end())
        line = len(text) if line < 0 else line
        opens = _label(text[match.end() : line]) in _LABELS
        yield match.start(), (match.start() if opens else line)


def _block(text: str, opening: re.Match[str], label: str, begin: int, end: int, after: int) -> Block:
    groups = opening.groupdict()
    code = text[begin:end]
    if (groups.get("quote") or "").strip():
        code = re.sub(r"^[ \t]*(?:>[ ]?)+", "", code, flags=re.M)
    code = _unindented(code, len(groups["indent"] + (groups.get("item") or "")))
    head, newline, rest = code.partition("\n")
    if not label and newline and head.strip().lower() in _LABELS:  # the label stands one line too low
        label, code = head.strip().lower(), rest
    if (extra := _code_behind_label(opening["info"])) is not None:
        code = f"{extra}\n{code}"
    code = mended(code).strip("\n")
    return Block(code, label, opening.start(), after, True, is_code(code))


def _unindented(code: str, indent: int) -> str:
    """Without the indentation of the fence, where the code has it too."""
    first = next((line for line in code.split("\n") if line.strip()), "")
    if not indent or len(first) - len(first.lstrip(" \t")) < indent:
        return code
    return re.sub(rf"^[ \t]{{1,{indent}}}", "", code, flags=re.M)


def _code_behind_label(info: str) -> str | None:
    """A statement on the line of the fence (```python import math), which an attribute (`title=x`) never looks like."""
    rest = info.split(None, 1)[1:]
    tree = parsed(rest[0].strip()) if rest and _label(info) in _LABELS else None
    if tree is None or not tree.body:
        return None
    for statement in tree.body:
        called = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call | ast.Await)
        if not called and not isinstance(statement, ast.Import | ast.ImportFrom):
            return None
    return rest[0].strip()


def mended(code: str) -> str:
    """The code without what only copying put there, where it parses without: prompts, indentation, odd spaces."""
    if not code.strip() or (_COPIED.match(code) is None and _ODD.search(code) is None):
        return code
    if _TYPED.match(code) and is_code(typed := _without_prompts(code)):
        return typed
    if is_code(code):
        return code
    spaced = code.replace("\u00a0", " ").replace("\ufeff", "").replace("\u200b", "")
    flush = dedent(spaced) if spaced.lstrip("\n")[:1] in (" ", "\t") else spaced
    for other in (spaced, flush, _without_prompts(flush), flush.translate(_STRAIGHT)):
        if other != code and is_code(other):
            return other
    return code


def _without_prompts(code: str) -> str:
    """What was typed in a session (`>>> x = 1`, `In [1]: x = 1`), without the output that stands below."""
    if not _PROMPT.match(code.lstrip("\n")):
        return code
    lines = [line for line in code.split("\n") if line.strip()]
    return "\n".join(line[match.end() :] for line in lines if (match := _CONTINUED.match(line)) is not None)
