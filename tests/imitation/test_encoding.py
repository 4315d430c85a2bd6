"""Token rows: what is given and what the policy must produce."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rao_rl.data.rows import TokenRow
from rao_rl.imitation.encoding import RowEncoder
from rao_rl.imitation.lessons import DemonstrationBlocks
from recursive_agent.errors import ConfigurationError
from recursive_agent.model.base import Message
from recursive_agent.model.template import CheckpointRenderer

from ..train.policies import CURRICULUM, make_encoder

TALK = [
    Message("user", "Craft the following items: 2x copper_gear\nget_info finish"),
    Message("assistant", "```python\nx=12\n```"),
    Message("user", "({'copper_gear': 1})"),
    Message("assistant", "```python\nfinish(x)\n```"),
]


def test_only_answers_and_their_ends_are_to_be_learnt(tokenizer: Any) -> None:
    row = make_encoder(tokenizer).encode(TALK)
    learnt = [token for token, wanted in zip(row.input_ids, row.completion_mask, strict=True) if wanted]
    assert tokenizer.decode(learnt) == "```python\nx=12\n```<|end|>```python\nfinish(x)\n```<|end|>"
    given = [token for token, wanted in zip(row.input_ids, row.completion_mask, strict=True) if not wanted]
    assert "copper_gear\nget_info finish<|end|><|assistant|>" in tokenizer.decode(given)


def test_worked_examples_belong_to_the_prompt(tokenizer: Any) -> None:
    encoder = make_encoder(tokenizer)
    row, whole = encoder.encode(TALK, opening=3), encoder.encode(TALK)
    assert row.input_ids.tolist() == whole.input_ids.tolist()
    learnt = [token for token, wanted in zip(row.input_ids, row.completion_mask, strict=True) if wanted]
    assert tokenizer.decode(learnt) == "```python\nfinish(x)\n```<|end|>"
    assert not encoder.encode(TALK, opening=4).completion_mask.any()


def test_a_row_is_what_the_runtime_would_send_and_sample(tokenizer: Any, tmp_path: Any) -> None:
    tokenizer.save_pretrained(tmp_path)
    row = make_encoder(tokenizer).encode(TALK)
    assert row.input_ids.tolist() == CheckpointRenderer(tmp_path).encode(TALK, generation_prompt=False)


def test_names_have_the_same_tokens_wherever_they_stand(tokenizer: Any) -> None:
    for text in ("copper_gear", "2x copper_gear, 1x", "{'copper_gear': 2}", "('copper_gear',3*k)"):
        tokens = tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"])
        assert "copper" in tokens
        assert "_gear" in tokens


@given(text=st.text(max_size=60))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_tokenizer_loses_nothing(tokenizer: Any, text: str) -> None:
    ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    assert tokenizer.decode(ids) == text


def test_a_template_that_drops_answers_is_refused(tokenizer: Any) -> None:
    class Forgetful:
        chat_template = "{{ messages }}"

        def apply_chat_template(self, messages: list[dict[str, str]], tokenize: bool) -> str:
            return "".join(message["content"] for message in messages if message["role"] == "user")

        def convert_ids_to_tokens(self, token: int) -> str:
            return f"<{token}>"

    with pytest.raises(ConfigurationError, match="leaves out an earlier answer"):
        RowEncoder(Forgetful(), end_ids=[1]).encode(TALK)


def ids(block: list[list[TokenRow]]) -> list[list[list[int]]]:
    return [[row.input_ids.tolist() for row in step] for step in block]


def test_a_block_depends_on_its_number_alone(tokenizer: Any) -> None:
    def made() -> DemonstrationBlocks:
        return DemonstrationBlocks(make_encoder(tokenizer), CURRICULUM, tokens=500, context_length=256)

    first = made()
    first(0)
    assert ids(first(1)) == ids(made()(1))
    assert ids(first(1)) != ids(first(0))


def test_both_modes_are_shown_in_their_shares(tokenizer: Any) -> None:
    blocks = DemonstrationBlocks(make_encoder(tokenizer), CURRICULUM, tokens=2000, context_length=256)
    alone = total = 0
    for step in blocks(0):
        for row in step:
            total += len(row)
            text = tokenizer.decode(row.input_ids)
            alone += len(row) * ("launch_subagent" not in text)
    assert alone / total == pytest.approx(CURRICULUM.single_share, abs=0.03)


@pytest.mark.parametrize("end", ["<|end|>", "<|end|>\n", "<|end|><|end|>"])
def test_an_end_that_an_endpoint_left_in_the_text_does_not_stand_twice(end: str, tokenizer: Any) -> None:
    recorded = [Message(each.role, each.content + end * (each.role == "assistant")) for each in TALK]
    row = make_encoder(tokenizer).encode(recorded)
    assert tokenizer.decode(row.input_ids).count("<|end|>") == len(TALK)
    assert tokenizer.decode(row.input_ids).rstrip() == tokenizer.decode(make_encoder(tokenizer).encode(TALK).input_ids)
