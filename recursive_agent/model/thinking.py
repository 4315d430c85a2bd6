"""Separates a model's drafts from its answer: tags in the text, however they are written or left out."""

from __future__ import annotations

import re
from itertools import islice
from typing import NamedTuple

from .base import NoAnswer

_NAMES = r"think|thinking|thought|thoughts|reasoning|reflection|scratchpad|antthinking|seed:think|mm:think"
_PAIRS = tuple(
    re.compile(rf"(?P<open>{opening})|(?P<close>{closing})", re.IGNORECASE)
    for opening, closing in (
        (rf"<(?:{_NAMES})(?:\s[^<>\n]{{0,80}})?>", rf"</(?:{_NAMES})\s*>"),
        (r"<details\s+type=\"?reasoning\"?[^<>\n]{0,80}>", r"</details>"),  # Open WebUI
        (r"\[THINK\]", r"\[/THINK\]"),  # Mistral
        (r"<\|begin_of_thought\|>", r"<\|end_of_thought\|>"),  # OpenThinker, Sky-T1
        (r"<\|START_THINKING\|>", r"<\|END_THINKING\|>"),  # Cohere
        (r"◁think▷", r"◁/think▷"),  # Kimi
        (r"<unused94>(?:thought)?", r"<unused95>"),  # MedGemma
        (
            r"<\|channel\|?>\s*(?:analysis|thought|commentary)(?!\s*to=)\s*(?:<\|message\|>)?",  # to=: a call
            r"<\|channel\|>final<\|message\|>|<channel\|>",
        ),
    )
)
"""Tags that open and close a draft. The last are raw tokens of gpt-oss and Gemma, where no parser took them."""
_LEFT = re.compile(r"<\|(?:end|return|start\|>assistant|start)\|?>|<\|(?:START|END)_(?:RESPONSE|TEXT)\|>|"
                   r"<\|(?:begin|end)_of_solution\|>", re.IGNORECASE)  # fmt: skip
"""What is left of such tokens around an answer."""
_QUOTES = "\"'`"
_MOST = 100
"""Drafts, and tags that open none, that are looked at in one answer."""
_HINTS = ("think", "thought", "reasoning", "reflection", "scratchpad", "unused9", "<|channel", "<channel|>")
_ANY_TAG = re.compile(rf"<(?:/?(?:{_NAMES}|details)|\||channel|unused9)|\[/?THINK\]|◁", re.IGNORECASE)
"""What some tag of `_PAIRS` begins with: one search, where each of them would take one."""
_FENCE = re.compile(r"^[ \t]{0,3}(`{3,}|~{3,})", re.MULTILINE)


class Parted(NamedTuple):
    """An answer and the drafts before it; `open` says that the last draft never ended."""

    answer: str
    draft: str
    open: bool


def part(text: str) -> Parted:
    """Take the drafts out of a text.

    A draft stands between two tags, or before a closing tag whose opening one was part of the prompt, or after an opening
    tag to the end where the answer was cut. Tags within quotes, and opening tags within a code block, are part of the
    answer.
    """
    lowered = text.lower()
    if not any(hint in lowered for hint in _HINTS) or _ANY_TAG.search(text) is None:
        return Parted(text, "", open=False)
    drafts: list[str] = []
    for tags in _PAIRS:
        text, found, unfinished = _take(text, tags)
        drafts.extend(found)
        if unfinished:
            return Parted(text.strip("\n"), "\n\n".join(drafts), open=True)
    if not drafts:
        return Parted(text, "", open=False)
    return Parted(_LEFT.sub("", text).strip("\n"), "\n\n".join(drafts), open=False)


def why_no_answer(parted: Parted, finish_reason: str) -> NoAnswer | None:
    """Why an answer holds nothing beside drafts; None if it holds more."""
    if parted.answer.strip():
        return None
    if finish_reason == "length":
        return NoAnswer.CUT_WHILE_THINKING
    return NoAnswer.ONLY_THINKING if parted.draft else NoAnswer.EMPTY


def _take(text: str, tags: re.Pattern[str]) -> tuple[str, list[str], bool]:
    """The text without the drafts of one kind, the drafts, and whether the last of them is unfinished."""
    kept: list[str] = []
    drafts: list[str] = []
    place = 0
    while (first := _opening(text, place, tags)) is not None:
        if len(drafts) == _MOST:
            last = _last_closing(text, place, tags, paired=True)
            place = last.end() if last is not None else place
            break
        end = _end(text, first.end(), tags)
        kept.append(text[place : first.start()])
        if end is None:
            drafts.append(text[first.end() :].strip())
            return "".join(kept), drafts, True
        drafts.append(text[first.end() : end.start()].strip())
        place = end.end()
    if not drafts and (last := _last_closing(text, 0, tags)) is not None:
        # The prompt held the opening tag.
        draft = tags.sub(lambda tag: tag[0] if tag["open"] else "", text[: last.start()])
        return text[last.end() :], [draft.strip()], False
    return "".join(kept) + text[place:], drafts, False


def _opening(text: str, place: int, tags: re.Pattern[str]) -> re.Match[str] | None:
    """The next tag that opens a draft: on the level of the text, neither quoted nor in a code block."""
    for found in islice((tag for tag in tags.finditer(text, place) if tag["open"]), _MOST):
        if not _quoted(text, found) and not _in_code(text[place : found.start()]):
            return found
    return None


def _end(text: str, place: int, tags: re.Pattern[str]) -> re.Match[str] | None:
    """The tag that closes a draft, drafts within it counted; the last one where they do not add up, None without any."""
    depth, last = 1, None
    for found in tags.finditer(text, place):
        if _quoted(text, found):
            continue
        depth += 1 if found["open"] else -1
        if found["close"]:
            last = found
            if depth == 0:
                break
    return last


def _last_closing(text: str, place: int, tags: re.Pattern[str], *, paired: bool = False) -> re.Match[str] | None:
    """The last tag that closes a draft; unless `paired`, one that no tag of the text opens (in a code block, say)."""
    closing: list[re.Match[str]] = []
    depth = 0
    for found in tags.finditer(text, place):
        if _quoted(text, found):
            continue
        if found["open"]:
            depth += 1
        elif depth and not paired:
            depth -= 1
        else:
            closing.append(found)
    checked = islice(reversed(closing), _MOST)
    return next((found for found in checked if paired or not _in_string(text, found, tags)), None)


def _in_string(text: str, found: re.Match[str], tags: re.Pattern[str]) -> bool:
    """Whether a closing tag ends what a string of a program began on the same line: `"<think>x</think> y"`."""
    start = max(text.rfind("\n", 0, found.start()) + 1, found.start() - 2000)
    before = (tag for tag in tags.finditer(text, start, found.start()) if tag["open"])
    return any(tag.start() and text[tag.start() - 1] in "\"'" for tag in before)


def _quoted(text: str, found: re.Match[str]) -> bool:
    """Whether a tag stands within quotes: it is being talked about, or part of a program."""
    before = text[found.start() - 1] if found.start() else "\n"
    after = text[found.end()] if found.end() < len(text) else "\n"
    if after == "`" and text.startswith("```", found.end()):
        after = "\n"  # a code block begins right behind it
    if before in _QUOTES and text.endswith("```", 0, found.start()):
        before = "\n"
    return before in _QUOTES or after in _QUOTES


def _in_code(before: str) -> bool:
    """Whether a code block is open at the end of a text."""
    fence = ""
    for found in _FENCE.finditer(before):
        mark = found[1]
        if not fence:
            fence = mark
        elif mark[0] == fence[0] and len(mark) >= len(fence):
            fence = ""
    return bool(fence)
