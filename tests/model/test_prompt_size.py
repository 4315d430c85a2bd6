"""Upper bounds of prompts that nobody counts: they hold for every text and tokenizer here, before and after bills came."""

from __future__ import annotations

import base64
import os
import random
import string
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from pydoc_data.topics import topics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from recursive_agent.model import Message
from recursive_agent.model.embedded import SHIPPED
from recursive_agent.model.prompt_size import PromptSizes
from recursive_agent.testing import ScriptedTokenizer

Count = Callable[[str], int]
PROSE = "\n".join(topics.values())
CODE = "\n".join(
    path.read_text(encoding="utf-8", errors="replace") for path in sorted(Path(os.__file__).parent.glob("*.py"))[:40]
)
TOKENIZERS = ("bytes", "scripted", "policy", "bpe", "small bpe", "words with bytes below")


@cache
def counter(name: str) -> Count:
    """A tokenizer: what it counts."""
    if name == "bytes":
        return lambda text: len(text.encode())
    if name == "scripted":
        scripted = ScriptedTokenizer()
        return lambda text: len(scripted.encode(text))
    tokenizer = Tokenizer.from_file(str(SHIPPED / "tokenizer.json")) if name == "policy" else _trained(name)
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)


def _trained(name: str) -> Tokenizer:
    corpus = [PROSE[:1_000_000], CODE[:1_000_000], *(text for text in OTHER for _ in range(3))]
    if name == "words with bytes below":  # as sentencepiece does it: blanks belong to words, the rest falls to bytes
        tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        specials = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
        trainer = trainers.BpeTrainer(
            vocab_size=16_000, special_tokens=specials, show_progress=False, limit_alphabet=200
        )
    else:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        trainer = trainers.BpeTrainer(
            vocab_size=16_000 if name == "bpe" else 2_000,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
    tokenizer.train_from_iterator(corpus, trainer)
    return tokenizer


OTHER = (
    "智能代理把一个大任务分成许多小任务，然后把结果合在一起。" * 20,
    "Агент делит большую задачу на части и собирает ответы. " * 20,
    "エージェントは大きな仕事を小さな仕事に分けます。" * 20,
)


def _piece(kind: str, seed: int) -> str:
    rng = random.Random(f"{kind}/{seed}")

    def word(letters: str, low: int, high: int) -> str:
        return "".join(rng.choice(letters) for _ in range(rng.randint(low, high)))

    def spoken() -> str:
        return "".join(rng.choice("bcdfghjklmnpqrstvwxz") + rng.choice("aeiou") for _ in range(rng.randint(2, 6)))

    def cut(text: str) -> str:
        start = rng.randrange(len(text) - 800)
        return text[start : start + rng.randint(50, 800)]

    match kind:
        case "prose":
            return cut(PROSE)
        case "code":
            return cut(CODE)
        case "letters":
            return " ".join(word(string.ascii_lowercase, 2, 12) for _ in range(80))
        case "spoken":
            return rng.choice((" ", "_", "\n")).join(spoken() for _ in range(80))
        case "names":
            return " ".join(spoken().capitalize() for _ in range(80))
        case "base64":
            return base64.b64encode(rng.randbytes(300)).decode()
        case "hex":
            return rng.randbytes(200).hex()
        case "digits":
            return rng.choice((" ", ", ", "")).join(str(rng.randrange(10**7)) for _ in range(60))
        case "blank":
            return word(" \n\t\r", 50, 400)
        case "cjk":
            return "".join(chr(rng.randint(0x4E00, 0x9FFF)) for _ in range(200))
        case "emoji":
            return "".join(chr(rng.randint(0x1F300, 0x1F64F)) for _ in range(100))
        case "signs":
            return word(string.punctuation, 50, 400)
        case _:
            return cut(rng.choice(OTHER) * 3)


KINDS = ("prose", "code", "letters", "spoken", "names", "base64", "hex", "digits", "blank", "cjk", "emoji", "signs",
         "other")  # fmt: skip
pieces = st.builds(_piece, st.sampled_from(KINDS), st.integers(0, 10**6)) | st.text(max_size=80)
texts = st.lists(pieces, max_size=4).map("".join)
SEEN = [Message("system", PROSE[:3000]), Message("user", CODE[:1500])]


def prompt(messages: Sequence[Message]) -> str:
    """A chat template."""
    return "".join(f"<{message.role}>\n{message.content}\n" for message in messages) + "<assistant>\n"


def learnt(count: Count, *openings: Sequence[Message]) -> PromptSizes:
    sizes = PromptSizes()
    for opening in openings:
        sizes.learn(opening, [], count(prompt(opening)))
    return sizes


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(max_examples=400, deadline=None)
@given(text=texts)
def test_no_message_has_more_tokens_than_its_bound(name: str, text: str) -> None:
    count = counter(name)
    message = Message("user", text.encode("utf-8", "replace").decode())
    for sizes in (PromptSizes(), learnt(count, SEEN)):
        assert count(message.content) <= sizes.message(message)


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(max_examples=400, deadline=None)
@given(before=texts, old=texts, new=texts, after=texts, more=st.lists(texts, max_size=2), data=st.data())
def test_no_opening_has_more_tokens_than_what_it_shares_was_billed_for_and_what_is_new(
    name: str, before: str, old: str, new: str, after: str, more: list[str], data: st.DataObject
) -> None:
    count = counter(name)
    first = [Message("system", before), Message("user", before + old + after)]
    second = [Message("system", before), Message("user", before + new + after), *(Message("user", t) for t in more)]
    if data.draw(st.booleans()):
        first, second = second, first
    for sizes in (learnt(count, first), learnt(count, SEEN, first)):
        assert count(prompt(second)) <= sizes.opening(second, [])


def test_a_large_vocabulary_is_known_from_a_bill_and_a_small_one_is_not() -> None:
    rates = {name: learnt(counter(name), SEEN).rate for name in TOKENIZERS}
    assert {name for name, rate in rates.items() if rate < 1} == {"bpe", "words with bytes below"}, rates
    policy = [Message("user", "Craft the following items: 2x copper_gear, 3x iron_rod. " * 40)]
    assert learnt(counter("policy"), policy).rate == 1.0, "a few words say nothing of others"


def test_the_next_agents_prompt_is_held_at_what_it_costs_and_what_is_new_in_it() -> None:
    count = counter("bpe")
    goals = ["Sum the numbers in `context`.", "Find the year in which the bridge was built, and who paid for it."]
    first, second = ([Message("system", PROSE[:2500]), Message("user", goal)] for goal in goals)
    fresh, known = PromptSizes().opening(second, []), learnt(count, first).opening(second, [])
    actual = count(prompt(second))
    assert fresh > 3 * actual
    assert known <= actual + len(goals[1]) + 40


def test_prompts_with_other_tools_share_nothing() -> None:
    count, tools = counter("bpe"), [{"type": "function", "function": {"name": "python"}}]
    sizes = learnt(count, SEEN)
    assert sizes.opening(SEEN, []) == count(prompt(SEEN))
    assert sizes.opening(SEEN, tools) > count(prompt(SEEN)) + 512


def test_a_bill_above_the_bound_ends_what_was_learnt_for_good() -> None:
    count = counter("bpe")
    sizes = learnt(count, SEEN)
    sizes.check(100, 101)
    sizes.learn(SEEN, [], count(prompt(SEEN)))
    assert (sizes.rate, sizes.opening(SEEN, [])) == (1.0, PromptSizes().opening(SEEN, []))


def test_a_bill_that_cannot_be_one_teaches_nothing() -> None:
    sizes = PromptSizes()
    sizes.learn(SEEN, [], 5)
    assert sizes.opening(SEEN, []) == PromptSizes().opening(SEEN, [])
