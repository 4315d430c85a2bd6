"""The tokenizer and the first weights of a policy from scratch."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rao_rl.imitation.lessons import ANY_WORDS
from rao_rl.imitation.policy import Architecture, create, train_tokenizer

TEXTS = ["Zoran casts Gale at the marsh.", "r=['Gale', 'Wither']", "How many casts of Wither by Zoran are there?"]
TOKENIZER = train_tokenizer(TEXTS, words=ANY_WORDS, vocabulary=512, context_length=64)


def pieces(text: str) -> list[str]:
    """The tokens of a text, as text."""
    return [TOKENIZER.decode([token]) for token in TOKENIZER(text)["input_ids"]]


def test_a_word_and_the_space_before_it_are_one_token() -> None:
    assert pieces("Zoran casts Wither") == ["Zoran", " casts", " Wither"]


@pytest.mark.parametrize("word", ["Zoran", "Gale", "Wither", "marsh"])
def test_a_word_that_was_seen_only_behind_a_space_is_one_token_without_it_and_the_reverse(word: str) -> None:
    assert pieces(f"'{word}'")[1] == word
    assert pieces(f"x {word}")[1] == f" {word}"


@given(st.text())
def test_encoding_loses_nothing(text: str) -> None:
    assert TOKENIZER.decode(TOKENIZER(text)["input_ids"]) == text


def test_words_behind_a_space_differ_from_the_bare_words_by_one_vector() -> None:
    shape = Architecture(vocabulary=512, width=32, layers=1, heads=1, context_length=64)
    model = create(shape, TOKENIZER, seed=0, words=ANY_WORDS)
    vectors = model.model.embed_tokens.weight.data
    ids = TOKENIZER.get_vocab()
    space = vectors[ids["Ġ"]]
    for word in ("Zoran", "Gale", "Wither", "marsh"):
        torch.testing.assert_close(vectors[ids[f"Ġ{word}"]] - vectors[ids[word]], space)
    torch.testing.assert_close(model.lm_head.weight.data, vectors)
