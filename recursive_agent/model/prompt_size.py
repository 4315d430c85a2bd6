"""How many tokens a text can have where nobody counts them: upper bounds, tightened by what earlier prompts were billed.

A token of a byte-level vocabulary is at least one byte of UTF-8, so bytes bound every text. Two things are learnt from
the bills of an endpoint. What a whole prompt cost: another prompt that shares text with it can cost no more than that, and
what is new in it. And that its vocabulary is a large one: then prose takes far less than a token a byte. Where a bill is
above its bound, what was learnt is given up for good.
"""

from __future__ import annotations

import json
import math
import re
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .base import Message

MESSAGE_OVERHEAD = 16
"""Tokens a template may add around one message."""
_FIXED_OVERHEAD = 256
"""Tokens a template may add of its own once: a default system prompt, the date, the generation prompt."""
_TOOLS_OVERHEAD = 512
"""Tokens a template may use to explain tool calls."""
_SEAM = 8
"""Tokens by which a text and its two halves may differ."""
_REMEMBERED = 8
"""Prompts whose bills are kept."""

_WORD = re.compile(r"(?<![A-Za-z0-9+/=_]) ?[A-Za-z][a-z]{0,19}(?![A-Za-z0-9+/=_])")
"""A word and the blank before it. Parts of names, keys, hashes and base64 are none: vocabularies cut them otherwise."""
_COMMON = frozenset({
    "a", "an", "of", "to", "in", "is", "it", "as", "be", "by", "on", "or", "if", "at", "no", "we", "he", "do",
    "so", "up", "the", "and", "for", "that", "with", "this", "are", "was", "has", "have", "had", "not", "but",
    "you", "all", "can", "from", "they", "his", "her", "she", "which", "one", "two", "will", "would", "there",
    "their", "what", "out", "about", "who", "get", "when", "make", "like", "time", "just", "know", "take",
    "into", "your", "some", "could", "them", "see", "other", "than", "then", "now", "look", "only", "its",
    "over", "also", "after", "use", "how", "our", "first", "well", "way", "even", "new", "any", "these",
    "give", "most", "were", "been", "being", "where", "may", "such", "each", "more", "must", "does", "did",
    "very", "between", "through", "while", "before", "because", "same", "here", "both", "under", "should",
    "since", "those",
})  # fmt: skip
_BLOCK = 24
"""Words that are judged together."""
_SHARE = 4
"""One of so many words is a common one wherever English is written; names and made-up words have none among them."""
_WORDS_NEEDED = 100
"""Different words of a prompt from which a vocabulary can be judged. A specialist's few words may all be tokens."""
_LARGE = 0.3
"""Tokens per byte of such a prompt, up to which a vocabulary is a large one."""
_FEWEST = 0.1
"""Tokens per byte below which a bill says nothing of other texts (it may be wrong, or one of blanks)."""
_SAFETY = 1.8
"""Prose takes up to so many times the tokens per byte of the prompt that was billed, ..."""
_LEAST_RATE = 0.45
"""... and no less than this."""


class PromptSizes:
    """What is known of one endpoint's tokenizer from its bills."""

    def __init__(self) -> None:
        self.rate = 1.0
        """Most tokens per byte of words in English prose."""
        self._billed: deque[_Billed] = deque(maxlen=_REMEMBERED)
        self._refuted = False

    @property
    def large(self) -> bool:
        """Whether the vocabulary is known to be a large one, in which one text has hardly more than one spelling."""
        return self.rate < 1.0

    def text(self, text: str) -> int:
        """Most tokens of a text."""
        size = _size(text)
        if not self.large:
            return size
        words = _prose(text)
        return size - words + math.ceil(words * self.rate)

    def message(self, message: Message) -> int:
        """Most tokens of one more message of a conversation."""
        return MESSAGE_OVERHEAD + self.text(message.content) + len(_calls(message))

    def opening(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]) -> int:
        """Most tokens of the first prompt of a conversation."""
        shown = _shown(tools)
        alone = _FIXED_OVERHEAD + (_TOOLS_OVERHEAD + len(shown) if tools else 0)
        alone += sum(self.message(message) for message in messages)
        known = [
            prompt.tokens + self._new(messages, prompt.messages) for prompt in self._billed if prompt.tools == shown
        ]
        return min([alone, *known])

    def nearly(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], slack: int) -> int | None:
        """As `opening`, where a bill says that the prompt has at most `slack` tokens less; None where none does."""
        shown = _shown(tools)
        for prompt in reversed(self._billed):  # the latest ones are the likeliest
            if prompt.tools == shown:
                new = self._new(messages, prompt.messages)
                if new <= slack and new + self._new(prompt.messages, messages) <= slack:
                    return prompt.tokens + new
        return None

    def learn(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], tokens: int) -> None:
        """What the first prompt of a conversation was billed for."""
        text = "\n".join(message.content for message in messages)
        per_byte = tokens / max(1, _size(text))
        if self._refuted or per_byte < _FEWEST:
            return
        prompt = _Billed(tuple(messages), _shown(tools), tokens)
        if prompt not in self._billed:
            self._billed.append(prompt)
        if per_byte <= _LARGE and len({word.strip().lower() for word in _WORD.findall(text)}) >= _WORDS_NEEDED:
            rate = max(_LEAST_RATE, _SAFETY * per_byte)  # less than 1, since the vocabulary is a large one
            self.rate = max(self.rate, rate) if self.large else rate

    def check(self, bound: int, tokens: int) -> None:
        """What a prompt of that bound was billed for. Where it did not hold, bytes alone count from now on."""
        if tokens > bound:
            self._refuted, self.rate = True, 1.0
            self._billed.clear()

    def _new(self, messages: Sequence[Message], known: Sequence[Message]) -> int:
        """Most tokens that `messages` have beside those of the `known` ones."""
        added = 0
        for here, there in zip(messages, known, strict=False):
            if here is there or here == there:  # as most are
                continue
            if (here.role, _calls(here)) != (there.role, _calls(there)):
                added += self.message(here)
            elif here.content != there.content:
                added += self.text(_changed(here.content, there.content)) + 2 * _SEAM
        return added + sum(self.message(message) for message in messages[len(known) :])


@dataclass(frozen=True, slots=True)
class _Billed:
    """A prompt, and what it was billed for. `tools` as they are shown."""

    messages: tuple[Message, ...]
    tools: str
    tokens: int


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def _shown(tools: Sequence[Mapping[str, Any]]) -> str:
    return json.dumps(tools, indent=4) if tools else ""


def _calls(message: Message) -> str:
    """What a message has beside its content, in more letters than a template writes: it may escape calls once more."""
    calls = [
        json.dumps([call.id, call.name, call.arguments]) * 2 + " " * MESSAGE_OVERHEAD for call in message.tool_calls
    ]
    return "".join(calls) + (message.tool_call_id or "")


def _prose(text: str) -> int:
    """Bytes of the words in English prose."""
    words, prose = _WORD.findall(text), 0
    for start in range(0, len(words), _BLOCK):
        block = words[start : start + _BLOCK]
        if sum(word.strip().lower() in _COMMON for word in block) * _SHARE >= len(block):
            prose += sum(map(len, block))
    return prose


def _changed(new: str, old: str) -> str:
    """What `new` has between the beginning and the end that it shares with `old`, both of whole words."""
    most = min(len(new), len(old))
    start = _shared(new, old, most)
    while start and not new[start - 1].isspace():
        start -= 1
    end = _shared(new[::-1], old[::-1], most - start)
    while end and not new[-end].isspace():
        end -= 1
    return new[start : len(new) - end]


def _shared(one: str, other: str, most: int) -> int:
    """Letters that both begin with, up to `most`."""
    low, high = 0, most
    while low < high:  # by halves: comparing slices is fast, comparing letters is not
        middle = (low + high + 1) // 2
        low, high = (middle, high) if one[:middle] == other[:middle] else (low, middle - 1)
    return low
