"""Conversations → token rows: which tokens there are, and which of them the policy itself must produce."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jinja2 import TemplateError

from recursive_agent.errors import ConfigurationError
from recursive_agent.model.base import Message
from recursive_agent.worked_examples import examples_in

from ..data.rows import TokenRow


class RowEncoder:
    """Renders conversations by a tokenizer's own chat template, each answer tokenised apart from what surrounds it.

    That is how the runtime meets them too: the prompt is given, the answer is sampled token by token, and the end-of-turn
    token closes it. `end_ids` are the tokens that are known to end a turn; another special token that the template writes
    behind an answer is taken for one too. `ends` are those that were met.

    Where the template knows no system messages, their text stands before the first message of the user (`folded`).
    """

    def __init__(self, tokenizer: Any, *, end_ids: Iterable[int | None]) -> None:
        self.tokenizer = tokenizer
        self.end_ids = frozenset(token for token in end_ids if token is not None)
        self.ends: set[int] = set()
        self.folded = False
        special = getattr(tokenizer, "added_tokens_decoder", {})
        self._special = {token for token, added in special.items() if added.special}

    def encode(self, messages: Sequence[Message], *, opening: int | None = None) -> TokenRow:
        """The row of a conversation; its answers and the tokens that end them are the completion.

        Worked examples belong to the prompt: answers among the first `opening` messages; None: those that rao writes now.

        Raises ConfigurationError where there is no chat template, where it refuses the messages, and where it does not
        close an answer with an end-of-turn token.
        """
        examples = (
            examples_in(messages)
            if opening is None
            else sum(message.role == "assistant" for message in messages[:opening])
        )
        answers = [self._bare(message.content) for message in messages if message.role == "assistant"]
        marked, count = [], 0
        for message in messages:
            content = message.content
            if message.role == "assistant":
                content, count = _mark(count), count + 1
            marked.append({"role": message.role, "content": content})
        rendered = self._rendered(marked)
        pieces: list[str] = []
        for number in range(count):
            before, found, rendered = rendered.partition(_mark(number))
            if not found:
                raise ConfigurationError(
                    "the chat template leaves out an earlier answer: it cannot be trained turn by turn"
                )
            pieces += [before, answers[number]]
        pieces.append(rendered)
        encoded = self.tokenizer(pieces, add_special_tokens=False, verbose=False)["input_ids"]
        ids: list[int] = list(encoded[0])
        mask = [False] * len(ids)
        for number, (answer, after) in enumerate(zip(encoded[1::2], encoded[2::2], strict=True)):
            last = len(answer) + self._end(after) + 1
            ids += [*answer, *after]
            mask += [number >= examples] * last + [False] * (len(answer) + len(after) - last)
        # What the template writes behind the last answer is nobody's.
        kept = len(ids) - mask[::-1].index(True) if count > examples else len(ids)
        return TokenRow(np.array(ids[:kept], np.int32), np.array(mask[:kept], np.bool_))

    def _bare(self, answer: str) -> str:
        """An answer without the end of its turn, which some endpoints leave in the text: the template writes one too."""
        ends = [text for token in self.end_ids if (text := self.tokenizer.convert_ids_to_tokens(token))]
        bare = answer
        while last := next((end for end in ends if bare.rstrip().endswith(end)), None):
            bare = bare.rstrip().removesuffix(last)
        return bare

    def _rendered(self, messages: list[dict[str, str]]) -> str:
        if not getattr(self.tokenizer, "chat_template", None):
            raise ConfigurationError(
                "the model has no chat template, so a conversation cannot be written in its tokens; put the "
                "chat_template.jinja of a model of its family into its folder"
            )
        system = messages[0]["content"].strip() if messages and messages[0]["role"] == "system" else ""
        try:
            text: str = self.tokenizer.apply_chat_template(messages, tokenize=False)
            if not system or system in text:
                return text
        except (TemplateError, ValueError, TypeError, LookupError) as error:
            if not system:
                raise ConfigurationError(f"the chat template refuses the messages: {error}") from None
        self.folded = True
        return self._rendered(_fold(messages))

    def _end(self, after: Sequence[int]) -> int:
        """Where in the tokens behind an answer its turn ends: first of all, or behind white space."""
        for place, token in enumerate(after):
            if token in self.end_ids or (place == 0 and token in self._special):
                self.ends.add(token)
                return place
            if self.tokenizer.decode([token]).strip():
                break
        raise ConfigurationError(
            "the chat template ends an answer with no special token, so the model would not learn to stop; take a template "
            "that writes the tokenizer's end-of-turn token behind every answer"
        )


def _fold(messages: list[dict[str, str]]) -> list[dict[str, str]]:
    """The messages with the system's text before the first one of the user."""
    system, *rest = messages
    if not rest or rest[0]["role"] != "user":
        return [{"role": "user", "content": system["content"]}, *rest]
    return [{"role": "user", "content": f"{system['content']}\n\n{rest[0]['content']}"}, *rest[1:]]


def _mark(number: int) -> str:
    return f"\x02{number}\x03"


def first_tokens(row: TokenRow, length: int | None) -> TokenRow:
    """The first `length` tokens of a row; None: all."""
    if length is None or len(row) <= length:
        return row
    return TokenRow(row.input_ids[:length], row.completion_mask[:length])


def longest_answer(rows: Iterable[TokenRow]) -> int:
    """Tokens of the longest answer in some rows; 0 where there is none."""
    longest = 0
    for row in rows:
        edges = np.flatnonzero(np.diff(np.concatenate([[False], row.completion_mask, [False]]).astype(np.int8)))
        longest = max(longest, int((edges[1::2] - edges[::2]).max(initial=0)))
    return longest
