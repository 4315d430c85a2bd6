"""Worked examples that open a conversation, as real turns of it: a goal, and the answers that reach it.

Small models copy what they see done and read little of what they are told. The turns are the same for all agents of a kind,
so that endpoints can cache them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .checkpoint import ActionFormat
from .messages import Message

LAUNCH_CALL = "await launch_subagent(goal, context=None, returns=None)"
"""How launching is named beside a goal."""


def callable_line(calls: Sequence[str]) -> str:
    """What stands beside a goal of the functions that there are to call: beside it they are called; far from it, hardly."""
    return f"You can call: {'; '.join(calls)}"


@dataclass(frozen=True, slots=True)
class _Example:
    """A goal with what stands beside it, and the turns that reach it: answers, with what is shown between them.

    Every value is computed or was seen before: after one that comes from nowhere, models guess.
    """

    goal: str
    context: str
    turns: tuple[str, ...]
    tool: str | None = None
    returns: str | None = None
    launches: bool = False

    def asked(self, *, can_launch: bool) -> str:
        """The message with the goal. An agent that can launch sees in most examples that it need not."""
        calls = [*([self.tool] if self.tool else []), *([LAUNCH_CALL] if can_launch else [])]
        parts = [f"Goal: {self.goal}"]
        if self.context:
            parts.append(f"`context` {self.context}.")
        if calls:
            parts.append(callable_line(calls))
        if self.returns:
            parts.append(f"The value of finish(value) must be: {self.returns}")
        return "\n\n".join(parts)


_ALL = (
    _Example(
        "Have a sub-agent translate the note in `context` into French, and return the translation in capitals.",
        "holds a string of 412 characters",
        (
            "french = await launch_subagent('Translate the note in `context` into French.', context=context, returns=str)\n"
            "finish(french.upper())",
        ),
        launches=True,
    ),
    _Example(
        "Let one sub-agent for each report find the year that it is about. Return the earliest year.",
        "holds a list of 3 items, the first a string of 9,310 characters",
        (
            "years = await asyncio.gather(*[\n"
            "    launch_subagent('Which year is the report in `context` about?', context=report, returns=int)\n"
            "    for report in context\n"
            "])\n"
            "finish(min(years))",
        ),
        launches=True,
    ),
    _Example(
        "Add up the price of all sold items, and name the dearest one.",
        "holds a list of 40 items, the first a dict with 3 keys ('item': 'desk', 'price': '120', 'sold': True)",
        (
            "sold = [row for row in context if row['sold']]\n"
            "total = sum(row['price'] for row in sold)\n"
            "dearest = max(sold, key=lambda row: row['price'])\n"
            "finish({'total': total, 'dearest': dearest['item']})",
            "Traceback (most recent call last):\n"
            '  File "<cell 1>", line 2, in <module>\n'
            "    total = sum(row['price'] for row in sold)\n"
            "TypeError: unsupported operand type(s) for +: 'int' and 'str'\n"
            "Find what is wrong in this line, and write the code without the mistake.",
            "total = sum(int(row['price']) for row in sold)\n"
            "dearest = max(sold, key=lambda row: int(row['price']))\n"
            "finish({'total': total, 'dearest': dearest['item']})",
        ),
        returns='a dict {"total": int, "dearest": str}',
    ),
    _Example(
        "How much higher is Mount Ombra than Mount Selk?",
        "",
        ("finish(await height('Ombra') - await height('Selk'))",),
        tool="await height(mountain: str) -> int",
    ),
    _Example(
        "When was the old mill built, according to the text in `context`?",
        "holds a string of 8,214 characters",
        (
            "import re\nprint([s for s in re.split(r'[.\\n]', context) if 'mill' in s])",
            "[' Nobody lives near the old mill', 'The old mill was built in May 1743', 'The new mill is taller']\n"
            "If you know the answer now, call finish with it. If not, go on.",
            "finish('May 1743')",
        ),
    ),
    _Example(
        "How long are the words of 'calm seas never made a skilled sailor' on average?",
        "",
        (
            "words = 'calm seas never made a skilled sailor'.split()\nfinish(sum(len(word) for word in words) / len(words))",
        ),
    ),
)
"""In the order in which they are shown. What is shown last is copied most, so what few goals need does not stand there."""
_FORMS: Mapping[ActionFormat, str] = {"fenced": "```python\n{}\n```", "tags": "<python>\n{}\n</python>"}


def worked_examples(action_format: ActionFormat, *, tools: bool, can_launch: bool) -> list[Message]:
    """The turns. None for native tool calls: some endpoints refuse calls that they did not make themselves."""
    if action_format not in _FORMS:
        return []
    form = _FORMS[action_format]
    messages = []
    for example in _ALL:
        if (example.tool and not tools) or (example.launches and not can_launch):
            continue
        messages.append(Message("user", example.asked(can_launch=can_launch)))
        for place, text in enumerate(example.turns):
            messages.append(Message("user", text) if place % 2 else Message("assistant", form.format(text)))
    return messages


_ASKED = tuple(
    text for example in _ALL for can in (False, True) for text in (example.asked(can_launch=can), *example.turns[1::2])
)
_ANSWERED = frozenset(form.format(text) for form in _FORMS.values() for example in _ALL for text in example.turns[::2])


def examples_in(messages: Sequence[Message]) -> int:
    """How many answers at the beginning of a conversation are those of worked examples."""
    answers = [message.content for message in messages if message.role == "assistant"]
    return next((place for place, answer in enumerate(answers) if answer not in _ANSWERED), len(answers))


def without_examples(messages: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The messages of a conversation, in OpenAI's form, without the turns of examples.

    What stands before the first of them (a system message, where the endpoint has no such role) is kept, before the goal.
    """
    kept: list[Mapping[str, Any]] = []
    before = ""
    for message in messages:
        content = message.get("content")
        if not isinstance(content, str):
            kept.append(message)
        elif message.get("role") == "assistant":
            if content not in _ANSWERED:
                kept.append(message)
        elif (example := next((text for text in _ASKED if content.endswith(text)), None)) is not None:
            before += content.removesuffix(example)
        elif before and message.get("role") == "user":
            kept.append({**message, "content": before + content})
            before = ""
        else:
            kept.append(message)
    return kept
