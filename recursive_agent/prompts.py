"""The messages an agent gets: its opening messages, and what it is shown after each cell.

Two styles over the same loop. `rich` is for general models; what all agents of a run share stands first, so that
endpoints can cache it. `minimal` is the goal and the names of the functions, for specialists trained with exactly that.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .actions import Action
from .actions.fences import parsed
from .checkpoint import ActionFormat, PromptStyle
from .model.base import Message, ToolCall
from .repl.base import CellResult, CellStatus
from .tools import Tool

_SHOWN_NESTING = 3
"""Levels of a context that an opening message describes; each may show eight keys for every one above it."""
_SHOWN_CHARS = 200

_GATHERERS = frozenset({"gather", "create_task", "ensure_future", "wait", "wait_for", "as_completed", "run"})

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

Always available:
  finish(value)
      ends your work with `value` as the result. Call it as soon as the goal is reached, with a value that really is the \
answer.
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
        parts.append(f"`context` holds {describe_data(situation.context)}.")
    if situation.schema is not None:
        parts.append(
            f"finish(value) takes a value of this JSON schema: {json.dumps(situation.schema, ensure_ascii=False)}"
        )
    if situation.launcher and not situation.can_launch:
        parts.append("You are at the deepest level: launch_subagent is not available to you. Do the work yourself.")
    parts.append(status_line(step=0, max_steps=situation.max_steps, tokens_left=None, situation=situation))
    return [Message("system", system.strip()), Message("user", "\n\n".join(parts))]


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


def describe_data(value: Any, nesting: int = 0) -> str:
    """Type and size of a value, without the value."""
    if isinstance(value, str):
        return f"a string of {len(value):,} characters"
    if isinstance(value, bytes):
        return f"{len(value):,} bytes"
    if isinstance(value, Mapping):
        if nesting == _SHOWN_NESTING:
            return f"a dict with {len(value):,} keys"
        shown = ", ".join(f"{_short(key)}: {describe_data(item, nesting + 1)}" for key, item in list(value.items())[:8])
        return f"a dict with {len(value):,} keys ({shown}{', …' if len(value) > 8 else ''})"
    if isinstance(value, list | tuple):
        return f"a list of {len(value):,} items" + (
            f", the first {describe_data(value[0], nesting + 1)}" if value and nesting < _SHOWN_NESTING else ""
        )
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


def status_line(*, step: int, max_steps: int, tokens_left: int | None, situation: Situation) -> str:
    """What is left of the node's own share: `[step 3/20 · 41,200 tokens left · depth 1/4]`."""
    tokens = "" if tokens_left is None else f" · {tokens_left:,} tokens left"
    return f"[step {step}/{max_steps}{tokens} · depth {situation.depth}/{situation.max_depth}]"


def observation(style: PromptStyle, cell: CellResult, action: Action, refusal: str | None, status: str) -> str:
    """What an agent is shown after a cell. `refusal` says why `finish` did not take the value."""
    parts = [cell.output.rstrip("\n")] if cell.output.strip() else []
    if cell.error:
        parts.append(cell.error.rstrip("\n"))
    if refusal is not None:
        parts.append(f"finish() was refused: {refusal}")
    if cell.unawaited:
        line = None if style == "minimal" else awaited(action.code or "", cell.unawaited)
        how = "Put `await` before the call." if line is None else f"Put `await` before the call: `{line}`"
        parts.append(f"Never awaited, so never run: {', '.join(cell.unawaited)}. {how}")
    if cell.running:
        parts.append(f"Still running: {', '.join(cell.running)}.")
    if not parts and cell.status is CellStatus.OK:
        parts.append("(no output)")
    if action.note:
        parts.append(action.note)
    return with_status(style, "\n".join(parts), status)


def without_code(style: PromptStyle, action: Action, status: str, *, again: bool) -> str:
    """What an agent is shown after an answer without code; the right form only for the first time."""
    example = "" if again or style == "minimal" or action.example is None else f"\n{action.example}"
    return with_status(style, f"{action.note or ''}{example}", status)


def awaited(code: str, names: Sequence[str]) -> str | None:
    """The first line of the agent's own code that calls one of `names` without `await`, with it; None where none is clear."""
    tree = parsed(code)
    if tree is None:
        return None
    calls: list[ast.Call] = []
    waiting: list[tuple[ast.AST, bool]] = [(tree, False)]
    wrapped: set[int] = set()
    while waiting:
        node, held = waiting.pop()
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names and not held:
            calls.append(node)
        if isinstance(node, ast.Attribute | ast.Subscript):
            wrapped.add(id(node.value))
        # What a method takes (asyncio.gather, list.append) may be awaited later, and a plain function cannot await at all.
        taken = isinstance(node, ast.Call) and not (isinstance(node.func, ast.Name) and node.func.id not in _GATHERERS)
        held = held or isinstance(node, ast.Await | ast.FunctionDef | ast.Lambda)
        called = node.func if isinstance(node, ast.Call) else None
        waiting.extend((child, held or (taken and child is not called)) for child in ast.iter_child_nodes(node))
    if not calls:
        return None
    call = min(calls, key=lambda call: (call.lineno, call.col_offset))
    if call.end_lineno != call.lineno or call.end_col_offset is None:
        return None
    line = code.split("\n")[call.lineno - 1].encode()
    before, inside, after = (
        line[: call.col_offset],
        line[call.col_offset : call.end_col_offset],
        line[call.end_col_offset :],
    )
    inside = b"(await " + inside + b")" if id(call) in wrapped else b"await " + inside
    shown = (before + inside + after).decode().strip()
    return shown if len(shown) <= _SHOWN_CHARS and "`" not in shown else None


def with_status(style: PromptStyle, text: str, status: str) -> str:
    """An observation, ended by the status line where the style has one."""
    return text if style == "minimal" else f"{text}\n{status}"


def replies(calls: Sequence[ToolCall], text: str) -> list[Message]:
    """The messages that carry an observation: answers to native tool calls where the model made some."""
    if not calls:
        return [Message("user", text)]
    rest = [Message("tool", "not run", tool_call_id=call.id) for call in calls[1:]]
    return [Message("tool", text, tool_call_id=calls[0].id), *rest]
