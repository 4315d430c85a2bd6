"""Text as it grows token by token: whole characters, stop strings, and which conversation goes on."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from rao_rl.serve.engine.answers import Answer, Conversations, GrowingText, Manner


def byte_tokenizer() -> Tokenizer:
    """One token a byte, which the tokenizers of real models fall back to, and one special token."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={symbol: number for number, symbol in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|end|>"])
    return tokenizer


TOKENIZER = byte_tokenizer()
END = len(pre_tokenizers.ByteLevel.alphabet())


def ids(text: str) -> list[int]:
    return list(TOKENIZER.encode(text, add_special_tokens=False).ids)


def growing(*stops: str, keep_stop: bool = False, prompt: Sequence[int] = (), skip_special: bool = True) -> GrowingText:
    return GrowingText(TOKENIZER, prompt, stops=stops, keep_stop=keep_stop, skip_special=skip_special)


def grow(text: GrowingText, tokens: Sequence[int]) -> tuple[str | None, list[str]]:
    """The stop string that ended it, and what was certain after each token."""
    certain = []
    for token in tokens:
        found = text.add(token)
        certain.append(text.certain)
        if found is not None:
            return found, certain
    return None, certain


def test_only_whole_characters_come_out() -> None:
    text = growing()
    _, certain = grow(text, ids("aé😀b"))
    assert certain == ["a", "a", "aé", "aé", "aé", "aé", "aé😀", "aé😀b"]


def test_a_character_that_never_ends_is_left_out() -> None:
    text = growing()
    grow(text, ids("a😀")[:-1])
    assert text.text == "a"


def test_bytes_that_are_no_text_do_not_end_the_answer() -> None:
    text = growing()
    grow(text, [*ids("a"), *ids("é")[1:], *ids("é")[1:], *ids("é")[:1], *ids("bcdefgh")])
    assert text.text.startswith("a")
    assert text.text.endswith("cdefgh")


def test_a_prompt_that_ends_within_a_character_does_no_harm() -> None:
    text = growing(prompt=ids("x😀")[:-2])
    grow(text, ids("abcdefgh"))
    assert text.text.endswith("cdefgh")


def test_special_tokens_are_shown_only_where_asked_for() -> None:
    for skip, expected in ((True, "ab"), (False, "a<|end|>b")):
        text = growing(skip_special=skip)
        grow(text, [*ids("a"), END, *ids("b")])
        assert text.text == expected


@pytest.mark.parametrize(
    ("whole", "stops", "stop", "cut", "kept"),
    [
        ("one END two", ("END",), "END", "one ", "one END"),
        ("aab", ("ab",), "ab", "a", "aab"),
        ("aaab", ("aab",), "aab", "a", "aaab"),
        ("abc", ("c", "bc"), "c", "ab", "abc"),  # both end here: as listed
        ("abc", ("bc", "c"), "bc", "a", "abc"),
        ("abcd", ("abcd", "bc"), "bc", "a", "abc"),  # the one completed first
        ("x😀y", ("😀",), "😀", "x", "x😀"),
        ("END", ("END",), "END", "", "END"),
    ],
)
def test_a_stop_string_ends_the_text(whole: str, stops: tuple[str, ...], stop: str, cut: str, kept: str) -> None:
    for keep, expected in ((False, cut), (True, kept)):
        text = growing(*stops, keep_stop=keep)
        found, _ = grow(text, ids(whole))
        assert (found, text.text) == (stop, expected)


def test_a_stop_string_of_the_prompt_does_not_count() -> None:
    text = growing("END", prompt=ids("EN"))
    assert grow(text, ids("D and on"))[0] is None


@settings(deadline=None)
@given(
    whole=st.text(alphabet="ab\né😀", max_size=30),
    stops=st.lists(st.text(alphabet="ab\né😀", min_size=1, max_size=4), max_size=3),
)
def test_nothing_of_a_stop_string_is_ever_certain(whole: str, stops: list[str]) -> None:
    text = growing(*stops)
    found, certain = grow(text, ids(whole))
    ends = [whole.index(stop) + len(stop) for stop in stops if stop in whole]
    assert (found is not None) == bool(ends)
    if found is not None:
        assert whole.index(found) + len(found) == min(ends)
        assert text.text == whole[: min(ends) - len(found)]
    else:
        assert text.text == whole
    for earlier, later in zip(["", *certain], [*certain, text.text], strict=True):
        assert later.startswith(earlier)


@settings(deadline=None)
@given(
    whole=st.text(st.characters(exclude_characters="\ufffd", codec="utf-8"), max_size=30)
)  # the sign for a broken one
def test_any_text_comes_out_as_it_went_in(whole: str) -> None:
    text = growing()
    grow(text, ids(whole))
    assert text.text == whole


def answer(conversations: Conversations, prompt: list[int], sampled: list[int]) -> Answer:
    manner: Any = Manner(temperature=1.0, top_p=1.0, stops=(), stop_ids=frozenset(), keep_stop=False, skip_special=True)
    owner = conversations.take(prompt)
    made = Answer(0, prompt, manner, tokenizer=TOKENIZER, owner=owner, max_tokens=9, seed=0)
    made.request.token_ids.extend(sampled)
    return made


def test_a_conversation_that_goes_on_is_recognised_by_all_that_was_said() -> None:
    conversations = Conversations()
    first = answer(conversations, [1, 2], [3])
    conversations.keep(first)
    assert conversations.take([1, 2, 4, 5]) is not first.owner
    assert conversations.take([1, 2]) is not first.owner
    second = answer(conversations, [1, 2, 3, 9], [7])
    assert second.owner is first.owner
    assert conversations.take([1, 2, 3, 9]) is not first.owner  # in use
    conversations.keep(second)
    assert conversations.take([1, 2, 3, 9, 7, 7]) is first.owner


def test_the_longest_of_several_beginnings_goes_on() -> None:
    conversations = Conversations()
    short, long = answer(conversations, [1], [2]), answer(conversations, [1], [2, 3])
    conversations.keep(long)
    conversations.keep(short)
    assert conversations.take([1, 2, 3, 4]) is long.owner


def test_only_so_many_conversations_are_remembered() -> None:
    conversations = Conversations()
    answers = [answer(conversations, [number], [1]) for number in range(1000)]
    for made in answers:
        conversations.keep(made)
    assert conversations.take([999, 1]) is answers[999].owner
    assert conversations.take([0, 1]) is not answers[0].owner
    owners = [weakref.ref(made.owner) for made in answers]
    del answers, made
    gc.collect()
    assert 0 < sum(owner() is not None for owner in owners) < 500
