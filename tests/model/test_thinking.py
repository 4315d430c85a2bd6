"""Drafts of reasoning models: kept, told apart, never taken for the answer."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recursive_agent.model import thinking
from recursive_agent.model.base import NoAnswer
from recursive_agent.model.thinking import part

from .conftest import USER
from .raw import answering, chat, delta, events, last, model_at

DRAFT = "Maybe\n```python\nfinish('draft')\n```\nno, that is wrong"
REAL = "```python\nfinish('real')\n```"

PARTED = {
    "<think>": f"<think>\n{DRAFT}\n</think>\n{REAL}",
    "<THINK>": f"<THINK>{DRAFT}</THINK>{REAL}",
    "<thinking>": f"<thinking>\n{DRAFT}\n</thinking>\n\n{REAL}",
    "<reasoning>": f"<reasoning>{DRAFT}</reasoning>\n{REAL}",
    "with an attribute": f'<think duration="3">\n{DRAFT}\n</think>\n{REAL}',
    "[THINK]": f"[THINK]{DRAFT}[/THINK]{REAL}",
    "Kimi": f"◁think▷{DRAFT}◁/think▷{REAL}",
    "Seed": f"<seed:think>{DRAFT}</seed:think>{REAL}",
    "OpenThinker": f"<|begin_of_thought|>\n{DRAFT}\n<|end_of_thought|>\n<|begin_of_solution|>\n{REAL}\n<|end_of_solution|>",
    "Cohere": f"<|START_THINKING|>{DRAFT}<|END_THINKING|><|START_RESPONSE|>{REAL}<|END_RESPONSE|>",
    "gpt-oss, unparsed": f"<|channel|>analysis<|message|>{DRAFT}<|end|><|start|>assistant<|channel|>final<|message|>{REAL}",
    "the template opened it": f"{DRAFT}\n</think>\n{REAL}",
    "the template opened it, no blank": f"{DRAFT}</think>{REAL}",
    "closed twice": f"{DRAFT}\n</think>\n{DRAFT}\n</think>\n{REAL}",
    "blanks before": f"\n  \n<think>\n{DRAFT}\n</think>\n{REAL}",
    "words before": f"Let me see.\n<think>\n{DRAFT}\n</think>\n{REAL}",
    "twice": f"<think>{DRAFT}</think>\n\n<think>{DRAFT}</think>\n{REAL}",
    "one in the other": f"<think>\n<think>\n{DRAFT}\n</think>\n{DRAFT}\n</think>\n{REAL}",
    "opened twice, closed once": f"<think>\n<think>\n{DRAFT}\n</think>\n{REAL}",
    "the draft talks of tags": f"<think>\nI end with `</think>` later. {DRAFT}\n</think>\n{REAL}",
    "an open code block in the draft": f"<think>\n```python\nfinish('dra\n</think>\n{REAL}",
    "after the answer": f"{REAL}\n<think>\n{DRAFT}\n</think>",
}


@pytest.mark.parametrize("name", PARTED)
def test_a_draft_is_no_part_of_the_answer(name: str) -> None:
    parted = part(PARTED[name])
    assert "draft" not in parted.answer
    assert REAL in parted.answer
    assert "finish('dra" in parted.draft
    assert not parted.open


@pytest.mark.parametrize(
    "answer",
    [
        "```python\nprint('<think>')\nprint('</think>')\n```",
        '```python\ntext = "<think>a</think> b".split("</think>")[-1]\nfinish(text)\n```',
        "```python\nre.sub(r'<think>.*?</think>', '', s)\n```",
        '```python\npage = """\n<think>\nx\n</think>\n"""\nfinish(page)\n```',
        "I think so; reasoning is thinking.\n```python\nfinish(1)\n```",
        "Write `<think>` or `</think>`.",
        "",
        "a < b > c",
    ],
)
def test_programs_and_talk_about_tags_stay_as_they_are(answer: str) -> None:
    assert part(answer) == (answer, "", False)


@pytest.mark.parametrize(
    "text", [f"<think>\n{DRAFT}", f"[THINK]{DRAFT}", f"<|channel|>analysis<|message|>{DRAFT}", "<think>"]
)
def test_a_draft_that_never_ends_is_no_answer(text: str) -> None:
    parted = part(text)
    assert (parted.answer, parted.open) == ("", True)


TAGS = ("<think>", "</think>", "[THINK]", "[/THINK]", "<thinking>", "</thinking>", "<|channel|>analysis<|message|>")
pieces = st.lists(st.sampled_from([*TAGS, "```python\n", "```", "\n", "x ", "'", "finish('draft')"]), max_size=14).map(
    "".join
)


@given(draft=pieces)
def test_whatever_stands_in_a_draft_the_answer_behind_it_is_found(draft: str) -> None:
    if draft.endswith(("'", "`")):
        draft += "\n"
    parted = part(f"<think>\n{draft}\n</think>\n\nThe answer is 7.")
    assert parted.answer.endswith("The answer is 7.") or parted.open


@given(text=pieces)
def test_nothing_is_made_up(text: str) -> None:
    rest = iter(text)
    assert all(character in rest for character in part(text).answer), "the answer is what is left of the text, in order"


def test_many_tags_take_no_time() -> None:
    for text in ("<think>a</think>" * 20_000, "```\n" + "<think>\n" * 20_000, "</think>" * 50_000, "<think>" * 50_000):
        parted = part(text)
        assert len(parted.answer) <= len(text)
    assert part("<think>a</think>" * 20_000).answer == ""


async def ask(model: Any, *, streamed: bool) -> Any:
    conversation = model.conversation()
    conversation.add(USER)
    completion = await conversation.complete(max_tokens=40, on_text=(lambda _: None) if streamed else None)
    assert conversation.messages[-1].content == completion.text
    return completion


FIELDS = {
    "reasoning_content": {"reasoning_content": "hm hm"},
    "reasoning": {"reasoning": "hm hm"},
    "reasoning as an object": {"reasoning": {"content": "hm hm"}},
    "thinking": {"thinking": "hm hm"},
    "reasoning_details": {"reasoning_details": [{"type": "reasoning.text", "text": "hm hm", "signature": "s"}]},
    "thinking_blocks": {"thinking_blocks": [{"type": "thinking", "thinking": "hm hm", "signature": "s"}]},
}


@pytest.mark.anyio
@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("streamed", [False, True])
async def test_reasoning_in_a_field_is_kept_beside_the_text(name: str, streamed: bool) -> None:
    fields = FIELDS[name]
    if streamed:
        answer = events(delta(role="assistant", **fields), delta(content="yes"), last())
    else:
        answer = chat(message={"role": "assistant", "content": "yes", **fields})
    with answering(answer) as server:
        async with model_at(server.base_url) as model:
            completion = await ask(model, streamed=streamed)
    assert (completion.text, completion.reasoning, completion.no_answer) == ("yes", "hm hm", None)


@pytest.mark.anyio
async def test_reasoning_streams_in_pieces_like_text() -> None:
    answer = events(
        *(delta(reasoning_content=word) for word in ("one", " two", " three")), delta(content="yes"), last()
    )
    with answering(answer) as server:
        async with model_at(server.base_url) as model:
            assert (await ask(model, streamed=True)).reasoning == "one two three"


@pytest.mark.anyio
@pytest.mark.parametrize("streamed", [False, True])
async def test_thinking_parts_of_a_content_list_are_drafts(streamed: bool) -> None:
    parts = [{"type": "thinking", "thinking": [{"type": "text", "text": "hm hm"}]}, {"type": "text", "text": "yes"}]
    answer = (
        events(delta(content=parts[:1]), delta(content=parts[1:]), last())
        if streamed
        else chat(message={"content": parts})
    )
    with answering(answer) as server:
        async with model_at(server.base_url) as model:
            completion = await ask(model, streamed=streamed)
    assert (completion.text, completion.reasoning) == ("yes", "hm hm")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("why", "answer"),
    [
        (NoAnswer.CUT_WHILE_THINKING, chat(message={"content": "", "reasoning_content": "hm"}, finish="length")),
        (NoAnswer.CUT_WHILE_THINKING, chat(f"<think>\n{DRAFT}", finish="length")),
        (NoAnswer.CUT_WHILE_THINKING, chat("", finish="max_tokens")),
        (NoAnswer.ONLY_THINKING, chat(message={"content": None, "reasoning": "hm"})),
        (NoAnswer.ONLY_THINKING, chat(f"<think>\n{DRAFT}\n</think>\n")),
        (NoAnswer.FILTERED, chat(message={"content": None}, finish="content_filter")),
        (NoAnswer.FILTERED, chat(message={"content": ""}, finish="stop", native_finish_reason="SAFETY")),
        (NoAnswer.FILTERED, chat("", content_filter_results={"violence": {"filtered": True, "severity": "high"}})),
        (NoAnswer.REFUSED, chat(message={"content": None, "refusal": "I cannot help with that."})),
        (NoAnswer.EMPTY, chat("")),
        (NoAnswer.EMPTY, chat(" \n ")),
        (None, chat("yes", finish="length")),
        (None, chat(f"<think>{DRAFT}</think>yes")),
    ],
)
async def test_why_there_is_no_answer_is_told(why: NoAnswer | None, answer: bytes) -> None:
    with answering(answer) as server:
        async with model_at(server.base_url) as model:
            completion = await ask(model, streamed=False)
    assert completion.no_answer == why
    assert completion.refusal == ("I cannot help with that." if why is NoAnswer.REFUSED else None)


WORDS = "I cannot help."
REFUSALS: dict[str, Any] = {
    "a part": [{"type": "refusal", "refusal": WORDS}],
    "the one part, without a list": {"type": "refusal", "refusal": WORDS},
    "several parts": [{"type": "refusal", "refusal": "I cannot"}, {"type": "refusal", "refusal": " help."}],
    "beside an empty text": [{"type": "text", "text": ""}, {"type": "refusal", "refusal": WORDS}],
    "beside a draft": [{"type": "thinking", "thinking": "hm"}, {"type": "refusal", "refusal": WORDS}],
    "its words under another name": [{"type": "refusal", "text": WORDS}],
    "without a type": [{"refusal": WORDS}],
}


@pytest.mark.anyio
@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("name", REFUSALS)
async def test_a_refusal_may_be_a_part_of_the_content(name: str, streamed: bool) -> None:
    content = REFUSALS[name]
    with answering(
        events(delta(content=content), last()) if streamed else chat(message={"content": content})
    ) as server:
        async with model_at(server.base_url) as model:
            completion = await ask(model, streamed=streamed)
    assert (completion.text, completion.no_answer, completion.refusal) == ("", NoAnswer.REFUSED, WORDS)


@pytest.mark.anyio
@pytest.mark.parametrize("streamed", [False, True])
async def test_text_beside_a_refusal_is_an_answer_and_both_are_kept(streamed: bool) -> None:
    content = [{"type": "text", "text": "yes", "refusal": None}, {"type": "refusal", "refusal": WORDS}]
    with answering(
        events(delta(content=content), last()) if streamed else chat(message={"content": content})
    ) as server:
        async with model_at(server.base_url) as model:
            completion = await ask(model, streamed=streamed)
    assert (completion.text, completion.no_answer, completion.refusal) == ("yes", None, WORDS)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "pieces",
    [
        (delta(refusal="I cannot"), delta(refusal=" help.")),
        (
            delta(content=[{"type": "refusal", "refusal": "I cannot"}]),
            delta(content=[{"type": "refusal", "refusal": " help."}]),
        ),
    ],
)
async def test_a_refusal_that_streams_is_put_together(pieces: Any) -> None:
    with answering(events(*pieces, last())) as server:
        async with model_at(server.base_url) as model:
            completion = await ask(model, streamed=True)
    assert (completion.no_answer, completion.refusal) == (NoAnswer.REFUSED, "I cannot help.")


_TAGS = re.compile(r"<[^<>\n]{1,40}>(?:final<\|message\|>)?|\[/?THINK\]|◁/?think▷", re.IGNORECASE)
_PIECES = sorted({tag for text in PARTED.values() for tag in _TAGS.findall(text)})
_WORDS = [
    "I think so.\n",
    "thought ",
    "reasoning",
    "\n",
    "```python\nx < y[think]\n```\n",
    "<",
    "[",
    "</",
    '"',
    "`",
    "İ",
    "unused94",
]
_MORE = ["<details>", '<details type="reasoning">', "</details>", "<unused94>thought", "<unused95>", "<Thinking >"]


@given(st.lists(st.sampled_from([*_PIECES, *_WORDS, *_MORE]), max_size=8).map("".join))
def test_a_text_without_a_tag_holds_no_draft(text: str) -> None:
    """One search tells whether the tags have to be looked for one after the other; it overlooks none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(thinking, "_ANY_TAG", re.compile(""))
        expected = part(text)
    assert part(text) == expected
