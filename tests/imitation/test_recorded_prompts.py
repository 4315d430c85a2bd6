"""Recorded conversations of the rich style: examples are no lessons, advice is no output."""

from __future__ import annotations

from pathlib import Path

import pytest

from rao_rl.imitation.prompting import MINIMAL
from rao_rl.imitation.recorded import read_successful
from recursive_agent.testing import ScriptedEndpoint, replies
from recursive_agent.worked_examples import Likeness, examples_in, worked_examples
from tests.agent.helpers import agent_on, py

pytestmark = pytest.mark.anyio

ANSWERS = [py("x = 6"), py("x * 7"), py("x * 7"), py("1 / 0"), py("re.sub('a', 'b', 'a')"), py("finish(x)")]


async def test_worked_examples_are_counted_as_given(tmp_path: Path) -> None:
    with ScriptedEndpoint(replies(ANSWERS)) as endpoint:
        await agent_on(endpoint, trace_dir=tmp_path).solve("g")
    recorded = read_successful(tmp_path, threshold=1.0)
    examples = worked_examples("fenced", Likeness(can_launch=True))
    assert recorded.openings == [2 + len(examples)]
    (messages,) = recorded.conversations
    assert examples_in(messages) == len(examples) // 2
    assert [message.content for message in messages[2 + len(examples) :][::2]] == ANSWERS


async def test_in_the_minimal_style_neither_advice_nor_status_is_left(tmp_path: Path) -> None:
    with ScriptedEndpoint(replies(ANSWERS)) as endpoint:
        await agent_on(endpoint, trace_dir=tmp_path).solve("g")
    (messages,) = read_successful(tmp_path, threshold=1.0, prompting=MINIMAL).conversations
    assert [message.content for message in messages[2:-1:2]][:3] == ["(no output)", "42", "42"]
    assert messages[-3].content == py("import re\nre.sub('a', 'b', 'a')")
    assert messages[-2].content == "'b'"
    assert not any("[step" in m.content or "call finish" in m.content for m in messages)
