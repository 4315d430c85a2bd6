"""Answers in words: what makes two of them the same without asking a judge."""

from __future__ import annotations

import re
import string
import unicodedata

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_PUNCTUATION = re.compile("[" + re.escape(string.punctuation) + "‘’“”–—…]")


def normalised(text: str) -> str:
    """A text without differences of case, width, accents, punctuation, articles and spacing.

    The usual normalisation of question answering (SQuAD's), with accents removed as well. A text of nothing else stays as it
    is, so that no two such texts are the same by chance.
    """
    decomposed = unicodedata.normalize("NFKD", text).casefold()
    plain = "".join(char for char in decomposed if not unicodedata.combining(char))
    words = " ".join(_ARTICLES.sub(" ", _PUNCTUATION.sub(" ", plain)).split())
    return words or " ".join(text.split())
