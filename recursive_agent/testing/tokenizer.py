"""The scripted endpoint's tokenizer: deterministic, reversible, without a file, and real enough to be counted on."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

_SPECIALS = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")
_MERGES = (
    "    ", "  ", "```", "python", "\n```", "await ", "launch_subagent", "subagent", "asyncio", "gather", "finish",
    "return", "print", "import ", "def ", "for ", " in ", " = ", "the ", "and ", "ing", "ion", "tion", "er", "th",
    "he", "in", "an", "re", "on", "at", "en", "st", "or", "es", "it", "is", "ar", "ou", "le", "te", "al", "nd",
    "\n\n", "()", "):", ", ", ". ", '("', '")', "user", "system", "assistant", "tool",
)  # fmt: skip


class Tokenizer(Protocol):
    """What the scripted endpoint needs of a tokenizer with a chat template; give your own to imitate a real model."""

    vocab_size: int
    end_of_turn: int
    """Id that ends an answer; appended to every scripted answer that was not cut."""

    def encode(self, text: str) -> list[int]:
        """Ids of plain text."""

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids, without special tokens; bytes that are no UTF-8 become U+FFFD."""

    def render(
        self, messages: Sequence[Mapping[str, Any]], *, tools: Sequence[Any] = (), generation_prompt: bool = True
    ) -> list[int]:
        """Ids of a conversation under the chat template."""

    def parse(self, ids: Sequence[int]) -> list[dict[str, Any]]:
        """The messages of a rendered prompt ([] if it is none), so that scripts see conversations either way."""


class ScriptedTokenizer:
    """Bytes, some merges and ChatML.

    Ids 0–255 are bytes, then come about 60 frequent strings (longest match first), then the special tokens. Merges
    give one text several spellings, as in real vocabularies: ids that were sampled need not be those that `encode`
    gives. Special tokens in a message's text are plain text.
    """

    def __init__(self) -> None:
        pieces = [piece.encode() for piece in sorted(_MERGES, key=lambda piece: (-len(piece), piece))]
        self._pieces: list[bytes] = [bytes([byte]) for byte in range(256)] + pieces
        self._ids = {piece: index for index, piece in enumerate(self._pieces)}
        self._split = re.compile(b"|".join(re.escape(piece) for piece in pieces) + b"|.", re.DOTALL)
        first = len(self._pieces)
        self.start, self.end_of_turn, self.end_of_text = range(first, first + len(_SPECIALS))
        self.vocab_size = first + len(_SPECIALS)

    def encode(self, text: str) -> list[int]:
        """Ids of plain text; at most one for each UTF-8 byte."""
        ids = self._ids
        return [ids[piece] for piece in self._split.findall(text.encode("utf-8", "surrogatepass"))]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids; special tokens and ids out of range give nothing."""
        pieces = self._pieces
        return b"".join(pieces[i] for i in ids if 0 <= i < len(pieces)).decode("utf-8", "replace")

    def render(
        self, messages: Sequence[Mapping[str, Any]], *, tools: Sequence[Any] = (), generation_prompt: bool = True
    ) -> list[int]:
        """ChatML; tools stand as JSON in a system turn of their own, tool calls as JSON after an answer's text."""
        turns = [("system", "# Tools\n" + json.dumps(list(tools)))] if tools else []
        turns += [(str(message.get("role", "user")), self._content(message)) for message in messages]
        ids: list[int] = []
        for role, content in turns:
            ids += [self.start, *self.encode(f"{role}\n{content}"), self.end_of_turn, *self.encode("\n")]
        if generation_prompt:
            ids += [self.start, *self.encode("assistant\n")]
        return ids

    def parse(self, ids: Sequence[int]) -> list[dict[str, Any]]:
        """The messages of a ChatML prompt; the open turn of the generation prompt is left out."""
        messages: list[dict[str, Any]] = []
        turn: list[int] | None = None
        for token in ids:
            if token == self.start:
                turn = []
            elif token == self.end_of_turn:
                if turn is not None:
                    role, _, content = self.decode(turn).partition("\n")
                    messages.append({"role": role, "content": content})
                turn = None
            elif turn is not None:
                turn.append(token)
        return messages

    @staticmethod
    def _content(message: Mapping[str, Any]) -> str:
        content = message.get("content")
        if isinstance(content, list):
            content = "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
        text = str(content or "")
        if message.get("tool_calls"):
            text += "\n" + json.dumps(message["tool_calls"])
        return text
