"""Worked examples that open a conversation, as real turns of it: a goal, and the answers that reach it.

Small models copy what they see done and read little of what they are told. The turns are the same for all agents of a kind,
so that endpoints can cache them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from .messages import Message
from .styles import ActionFormat

Data = Literal["text", "long text", "items"] | None
"""What a context is: one text, one that is too long to be read at a glance, or something with parts."""

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
    data: Data = None

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
        "Ask a sub-agent how many days the years 1990 to 2000 had, and return half of that.",
        "",
        (
            "days = await launch_subagent('How many days did the years 1990 to 2000 have?', returns=int)\n"
            "finish(days / 2)",
        ),
        launches=True,
    ),
    _Example(
        "Have a sub-agent translate the note in `context` into French, and return the translation in capitals.",
        "holds a string of 412 characters",
        (
            "french = await launch_subagent('Translate the note in `context` into French.', context=context, returns=str)\n"
            "finish(french.upper())",
        ),
        launches=True,
        data="text",
    ),
    _Example(
        "`context` maps towns to reports. Have one sub-agent for each report find the year that it is about. Return a dict "
        "from town to year.",
        "holds a dict of 3 keys: {'Lund': <9,310 characters>, 'Visby': <8,874 characters>, 'Ystad': <9,102 characters>}",
        (
            "towns = list(context)\n"
            "years = await asyncio.gather(*[\n"
            "    launch_subagent('Which year is the report in `context` about?', context=context[town], returns=int)\n"
            "    for town in towns\n"
            "])\n"
            "finish(dict(zip(towns, years)))",
        ),
        launches=True,
        data="items",
    ),
    _Example(
        "Let one sub-agent for each diary find out how old its writer was. Return the average age.",
        "holds a list of 3 items: [<2,310 characters>, <1,874 characters>, … 3 in all]",
        (
            "ages = await asyncio.gather(*[\n"
            "    launch_subagent('How old was the writer of the diary in `context`?', context=diary, returns=int)\n"
            "    for diary in context\n"
            "])\n"
            "finish(sum(ages) / len(ages))",
        ),
        launches=True,
        data="items",
    ),
    _Example(
        "Give the squares of the odd numbers from 1 to 15.",
        "",
        ("finish([n * n for n in range(1, 16) if n % 2 == 1])",),
        returns="list[int]",
    ),
    _Example(
        "How long is each word of 'calm seas never made a skilled sailor'?",
        "",
        ("words = 'calm seas never made a skilled sailor'.split()\nfinish({word: len(word) for word in words})",),
        returns="dict[str, int]",
    ),
    _Example(
        "A tank of 340 litres loses 2.5 percent of its content every day. How many litres are left after 10 days, rounded to 1 "
        "decimal?",
        "",
        ("litres = 340\nfor day in range(10):\n    litres = litres * (1 - 0.025)\nfinish(round(litres, 1))",),
    ),
    _Example(
        "Which word of 'calm seas never made a skilled sailor' has the most different letters?",
        "",
        (
            "words = 'calm seas never made a skilled sailor'.split()\n"
            "finish(max(words, key=lambda word: len(set(word))))",
        ),
    ),
    _Example(
        "Add up the price of all sold items, and name the dearest one.",
        "holds a list of 40 items: [{'item': 'desk', 'price': '120', 'sold': True}, {'item': 'lamp', 'price': '35', 'sold': "
        "False}, … 40 in all]",
        (
            "sold = [row for row in context if row['sold']]\n"
            "total = sum(row['price'] for row in sold)\n"
            "dearest = max(sold, key=lambda row: row['price'])\n"
            "finish({'total': total, 'dearest': dearest['item']})",
            "Traceback (most recent call last):\n"
            '  File "<cell 1>", line 2, in <module>\n'
            "    total = sum(row['price'] for row in sold)\n"
            "TypeError: unsupported operand type(s) for +: 'int' and 'str'\n"
            "Here sold = [{'item': 'desk', 'price': '120', 'sold': True}, {'item': 'bed', 'price': '310', 'sold': True}, "
            "… 17 in all]\n"
            "Find what is wrong in this line, and write the code without the mistake.",
            "total = sum(int(row['price']) for row in sold)\n"
            "dearest = max(sold, key=lambda row: int(row['price']))\n"
            "finish({'total': total, 'dearest': dearest['item']})",
        ),
        returns='a dict {"total": int, "dearest": str}',
        data="items",
    ),
    _Example(
        "Which harbour did the ships of the owner Berg carry the most tons to?",
        "holds a list of 80 items: [{'owner': 'Lind', 'harbour': 'Kiel', 'tons': 35}, {'owner': 'Holm', 'harbour': 'Turku', "
        "'tons': 12}, … 80 in all]",
        (
            "tons = {}\n"
            "for row in context:\n"
            "    if row['owner'] == 'Berg':\n"
            "        tons[row['harbour']] = tons.get(row['harbour'], 0) + row['tons']\n"
            "finish(max(tons, key=tons.get))",
        ),
        data="items",
    ),
    _Example(
        "How many different words does the speech in `context` use?",
        "holds a string of 2,745 characters",
        ("words = context.lower().split()\nfinish(len(set(words)))",),
        data="text",
    ),
    _Example(
        "How many lines of the poem in `context` end with a full stop?",
        "holds a string of 934 characters",
        ("lines = context.splitlines()\nfinish(len([line for line in lines if line.endswith('.')]))",),
        data="text",
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
        data="long text",
    ),
    _Example(
        "How many seats do the buses in `context` have together?",
        "holds a string of 61,370 characters",
        (
            "import re\nprint([s for s in re.split(r'[.\\n]', context) if 'seats' in s][:3])",
            "['bus 1, red, seats: 40', 'bus 2, green, seats: 52', 'bus 4, red, seats: 38']\n"
            "If you know the answer now, call finish with it. If not, go on.",
            "finish(sum(int(n) for n in re.findall(r'seats: (\\d+)', context)))",
        ),
        data="long text",
    ),
    _Example(
        "In which country does the tallest friend of Mo live?",
        "",
        ("friend = await tallest_friend('Mo')\nfinish(await country_of(friend))",),
        tool="await tallest_friend(person: str) -> str; await country_of(person: str) -> str",
    ),
    _Example(
        "What do 4 tickets for zone B and one for zone C cost?",
        "",
        ("finish(4 * await fare('B') + await fare('C'))",),
        tool="await fare(zone: str) -> float",
    ),
    _Example(
        "Which of the lakes Ebb, Orn and Tal is the deepest?",
        "",
        ("depths = {lake: await depth(lake) for lake in ['Ebb', 'Orn', 'Tal']}\nfinish(max(depths, key=depths.get))",),
        tool="await depth(lake: str) -> float",
    ),
)
"""In the order in which they are shown where nothing else decides."""
_SHOWN = 6
"""Examples of one conversation."""
_FORMS: Mapping[ActionFormat, str] = {"fenced": "```python\n{}\n```", "tags": "<python>\n{}\n</python>"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Likeness:
    """What decides which examples are shown to an agent, and which of them stand nearest to its goal."""

    tools: bool = False
    can_launch: bool = False
    asks_to_launch: bool = False
    """Whether the goal speaks of sub-agents."""
    typed: bool = False
    data: Data = None

    def fits(self, example: _Example) -> bool:
        """Whether the agent has all that the example uses."""
        return (
            (self.tools or example.tool is None)
            and (self.can_launch or not example.launches)
            and (example.data in (None, self.data) or (example.data, self.data) == ("text", "long text"))
            and (example.launches or example.data is None or not self.asks_to_launch)
        )

    def rank(self, example: _Example) -> int:
        """The greater, the nearer to the goal the example stands."""
        if example.launches:
            return (6 if example.data else 5) if self.asks_to_launch else 0
        if example.tool is not None:
            return 4
        if example.data is not None:
            return 2 + (example.data == "long text")
        return 2 if example.returns is not None and self.typed else 1


def worked_examples(action_format: ActionFormat, likeness: Likeness) -> list[Message]:
    """The turns. What is shown last is copied most, so the examples that are most like the goal come last.

    An agent that can launch is shown at least one that does. None for native tool calls: some endpoints refuse calls that
    they did not make themselves.
    """
    return list(_turns(action_format, likeness))


@lru_cache(maxsize=64)
def _turns(action_format: ActionFormat, likeness: Likeness) -> Sequence[Message]:
    """The same objects each time, so that the agents of a run share them."""
    if action_format not in _FORMS:
        return ()
    form = _FORMS[action_format]
    able = sorted(filter(likeness.fits, _ALL), key=likeness.rank)
    chosen = able[-_SHOWN:]
    if likeness.can_launch and not any(example.launches for example in chosen):
        chosen[0] = next(example for example in reversed(able) if example.launches)
    messages = []
    for example in chosen:
        messages.append(Message("user", example.asked(can_launch=likeness.can_launch)))
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
