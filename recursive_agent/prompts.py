"""The messages that an agent begins with.

Two styles over the same loop. `rich` is for general models; what all agents of a run share stands first, so that
endpoints can cache it. `minimal` is the goal and the names of the functions, for specialists trained with exactly that.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from .checkpoint import ActionFormat, PromptStyle
from .model.base import Message
from .tools import Tool
from .type_words import type_words
from .worked_examples import LAUNCH_CALL, callable_line, worked_examples

_LEAST_ROOM = 8_192
"""Tokens of a window, or of an agent's budget, from which worked examples are affordable: they take some 900 of each call."""

_FEW_STEPS = 3
"""Answers that are so few that an agent must know before its first one."""
_SHOWN_NESTING = 3
"""Levels of a context that an opening message describes; each may show eight keys for every one above it."""
_SHOWN_CHARS = 200
_SHOWN_TEXT = 40
"""Characters of a text in the context up to which an opening message shows it. Of longer ones nothing is: the beginning would
be taken for all of it."""

_ACTIONS: dict[ActionFormat, str] = {
    "fenced": "Each of your answers holds exactly one block of code, fenced as ```python … ```",
    "tags": "Each of your answers holds exactly one block of code between <python> and </python>",
    "tool": "Each of your answers calls the tool `python` exactly once",
}

_SYSTEM = """\
You reach a goal by writing Python, which is run for you in a persistent interpreter.
{action}; it is run, and you are shown what it printed and the value of its last expression. Variables stay from one \
answer to the next. You may use `await` at top level. The interpreter has no files and no network; math, json, re, \
statistics, itertools, collections, datetime and similar modules can be imported, and asyncio is there.

These exist already; use them, do not define them:
  finish(value)
      ends your work with `value` as the result. Call it as soon as you know the answer, in the block that computes it where \
you can. Only what finish is given counts, not what is printed.
  context
      the data you were given with the goal (None if there was none). Look at parts of it; do not print all of a large one.
{launcher}{tools}{instructions}"""

_LAUNCHER = """\
  await launch_subagent(goal, context=None, returns=None, max_steps=None, max_tokens=None)
      starts a fresh agent like you, with its own interpreter and an empty conversation, and gives its result. It knows only \
the goal and the context you pass, so say everything that it needs. `returns` is the type that its result must have \
(list[str], a dataclass, a JSON schema). Split work that is large or has independent parts; run parts at the same time with
      `await asyncio.gather(launch_subagent(a), launch_subagent(b))`. Do small things yourself. A sub-agent that fails raises
      SubagentError (with .status, .message, .partial); the others go on, and `subagents` lists all of yours with .goal, \
.status and .result.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What an agent's prompts are made of."""

    goal: str
    context: Any
    schema: Mapping[str, Any] | None
    tools: Mapping[str, Tool]
    can_launch: bool
    launcher: bool
    """Whether launching exists at all in this run (`can_launch` is False at the deepest level as well)."""
    depth: int
    max_depth: int
    max_steps: int
    instructions: str | None
    room: int | None = None
    """Tokens that the agent may use at most, in one call or in all; None: no limit is known."""

    def has_examples(self, style: PromptStyle) -> bool:
        """Whether worked examples open the conversation."""
        return style == "rich" and (self.room is None or self.room >= _LEAST_ROOM)


def opening(style: PromptStyle, action_format: ActionFormat, situation: Situation) -> list[Message]:
    """The messages a node starts with."""
    if style == "minimal":
        return [Message("user", _minimal(situation))]
    system = _SYSTEM.format(
        action=_ACTIONS[action_format],
        launcher=_LAUNCHER if situation.launcher else "",
        tools=_describe_tools(situation.tools),
        instructions=f"\n{situation.instructions.strip()}\n" if situation.instructions else "",
    )
    parts = [f"Goal: {situation.goal}"]
    if situation.context is not None:
        parts.append(f"`context` holds {describe_data(situation.context, shown=True)}.")
    calls = [f"await {tool.signature}" for tool in situation.tools.values()]
    if len("; ".join(calls)) > 2 * _SHOWN_CHARS:
        calls = []
    if situation.can_launch:
        calls.append(LAUNCH_CALL)
    if calls:
        parts.append(callable_line(calls))
    if situation.schema is not None:
        words = type_words(situation.schema)
        parts.append(
            f"finish(value) takes a value of this JSON schema: {json.dumps(situation.schema, ensure_ascii=False)}"
            if words is None
            else f"The value of finish(value) must be: {words}"
        )
    if situation.launcher and not situation.can_launch:
        parts.append("You are at the deepest level: launch_subagent is not available to you. Do the work yourself.")
    if situation.max_steps <= _FEW_STEPS:
        parts.append(f"You have {situation.max_steps} answer{'s' if situation.max_steps > 1 else ''} in all.")
    examples: list[Message] = []
    if situation.has_examples(style):
        examples = worked_examples(action_format, tools=bool(situation.tools), can_launch=situation.can_launch)
    return [Message("system", system.strip()), *examples, Message("user", "\n\n".join(parts))]


def _minimal(situation: Situation) -> str:
    names = [*situation.tools, *(["launch_subagent"] if situation.can_launch else []), "finish"]
    lines = [situation.goal, " ".join(names)]
    if situation.context is not None:
        lines.append(f"context: {describe_data(situation.context)}")
    return "\n".join(lines)


def _describe_tools(tools: Mapping[str, Tool]) -> str:
    if not tools:
        return ""
    lines = ["Tools (await them):"]
    for tool in tools.values():
        lines.append(f"  await {tool.signature}")
        lines.extend(f"      {line}" for line in tool.description.splitlines())
        lines.extend(f"      {line}" for line in tool.parameters)
    classes: dict[str, Sequence[str]] = {}
    for tool in tools.values():
        for name, definition in tool.classes.items():
            classes.setdefault(name, definition)
    if classes:
        lines.append("What the types above hold (pass dicts and values; the classes themselves are not there):")
    for name, (first, *rest) in classes.items():
        lines.append(f"  {name}: {first}")
        lines.extend(f"  {line}" for line in rest)
    return "\n" + "\n".join(lines) + "\n"


def describe_data(value: Any, nesting: int = 0, *, shown: bool = False) -> str:
    """Type and size of a value; with `shown`, short texts as they are: what a date or a duration looks like must be seen."""
    if isinstance(value, str):
        return repr(value) if shown and len(value) <= _SHOWN_TEXT else f"a string of {len(value):,} characters"
    if isinstance(value, bytes):
        return f"{len(value):,} bytes"
    if isinstance(value, Mapping):
        if nesting == _SHOWN_NESTING:
            return f"a dict with {len(value):,} keys"
        items = [(_short(key), describe_data(item, nesting + 1, shown=shown)) for key, item in islice(value.items(), 8)]
        inside = ", ".join(f"{key}: {item}" for key, item in items)
        return f"a dict with {len(value):,} keys ({inside}{', …' if len(value) > 8 else ''})"
    if isinstance(value, list | tuple):
        if not value or nesting == _SHOWN_NESTING:
            return f"a list of {len(value):,} items"
        return f"a list of {len(value):,} items, the first {describe_data(value[0], nesting + 1, shown=shown)}"
    if isinstance(value, int) and value.bit_length() > _SHOWN_CHARS:  # Python refuses to spell the longest ones
        return f"a whole number of {value.bit_length():,} bits"
    return _short(value)


def _short(value: Any) -> str:
    if isinstance(value, tuple):  # a key
        return f"a tuple of {len(value):,} items"
    if isinstance(value, str | bytes):
        value = value[: _SHOWN_CHARS + 1]
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "…"
