"""Special tokens that a conversion lost: they are in the vocabulary, and the tokenizer cuts their text up like any other.

A prompt without them is not what the model was trained on, and an answer whose end is not special shows it as text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tokenizers

_MARKER = re.compile(r"<[|｜][^<>{}\s|｜]{1,40}[|｜]>|</?s>|<(?:start|end)_of_turn>|\[/?INST\]")
"""The texts of special tokens, as the chat templates of many families write them."""


def restore_special(tokenizer: tokenizers.Tokenizer, template: str, ends: Iterable[int]) -> list[str]:
    """Make special again, in place, what must be: the tokens that end an answer, and the markers that `template` writes.

    Returns the texts of the tokens that were not.
    """
    from tokenizers import AddedToken

    added = tokenizer.get_added_tokens_decoder()
    lost: dict[str, None] = {}
    for end in ends:
        text = tokenizer.id_to_token(end)
        if text is not None and not (end in added and added[end].special):
            lost[text] = None
    for text in _MARKER.findall(template):
        token = tokenizer.token_to_id(text)
        if token is not None and token not in added:
            lost[text] = None
    if lost:
        tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in lost])
    return list(lost)
