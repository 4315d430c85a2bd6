"""What an agent is shown after an answer: what came of it, and what to do next."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .actions import Action
from .actions.fences import parsed
from .model.base import Message, ToolCall
from .repl.base import CellResult, CellStatus
from .styles import PromptStyle
from .type_words import type_words

_MOST_HINTS = 2
"""Times that an agent reads the same hint: a third time it would only be copied."""
_SHOWN_CHARS = 200
_FEW_LEFT = 3
"""Answers from which on an agent is reminded of what is left of its share."""

# Advice. No answer stands in it ready-made: small models copy what does. What it holds of code is harmless when copied.
_FINISH = "If you know the answer now, call finish with it. If not, go on."
_SHOW = "To see a value, print it. To give the result, call finish."
_MEND = "Find what is wrong in this line, and write the code without the mistake."
_FAILS = "The same code fails in the same way. Write other code."
_FAILS_LOOK = f"{_FAILS} Look at the data first: print(str(context)[:300])"
_AWAIT = "Put `await` before the call."
_OTHER_CODE = "Write other code."
_AGAIN = "You have run this code before. If you know the answer, call finish with it. If not, try another way."
_UNCHANGED = "This changes nothing. Write other code, or call finish."
_LAST = "You have one more answer: call finish in it, with the best result that you have."
_ADVICE = frozenset({_FINISH, _SHOW, _MEND, _FAILS, _FAILS_LOOK, _OTHER_CODE, _AGAIN, _UNCHANGED, _LAST})
_SUPPLIED = re.compile(r"`[^\n]+` was (added|left out)[^\n]*\.")
_STATUS = re.compile(r"\[step \d+/\d+ [^\n]*\]")
_GATHERERS = frozenset({"gather", "create_task", "ensure_future", "wait", "wait_for", "as_completed", "run"})


def status_line(
    *, step: int, max_steps: int, tokens_left: int | None, max_tokens: int | None, depth: int, max_depth: int
) -> str:
    """What is left of the node's own share, once that is little: `[step 18/20 · 41,200 tokens left · depth 1/4]`.

    Empty before: small models copy it, and nobody needs it.
    """
    much = tokens_left is None or max_tokens is None or tokens_left > max_tokens // 4
    if max_steps - step > _FEW_LEFT and much:
        return ""
    tokens = "" if tokens_left is None else f" · {tokens_left:,} tokens left"
    return f"[step {step}/{max_steps}{tokens} · depth {depth}/{max_depth}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A cell that was run, and what is to be said of it.

    `refusal` says why `finish` did not take the value, `added` what was supplied to the code, `left` how many answers the agent
    still has; `wrap_up` asks for the result in the next one.
    """

    cell: CellResult
    action: Action
    refusal: str | None = None
    added: Sequence[str] = ()
    left: int | None = None
    wrap_up: bool = False


class Observations:
    """What one agent is shown, turn by turn. The same hint is given twice at most.

    The minimal style has no hints and no status line. In the rich one the status line, where there is one, stands above the
    rest: what ends a message is copied into answers.
    """

    def __init__(self, style: PromptStyle, *, schema: Mapping[str, Any] | None = None, context: bool = False) -> None:
        self._hints = style == "rich"
        self._words = None if schema is None else type_words(schema)
        self._context = context
        self._given: Counter[str] = Counter()
        self._run: Counter[str] = Counter()
        self._showed_form = False

    def after_cell(self, turn: Turn, status: str) -> str:
        """The observation of a cell: `outcome`, and what to do next."""
        parts = [self.outcome(turn)]
        if turn.action.note:
            parts.append(self._say(turn.action.note) if self._hints else turn.action.note)
        if self._hints:
            parts.extend(self._say(note) for note in turn.added)
            parts.append(self._next(turn))
        return self._with_status("\n".join(part for part in parts if part), status)

    def outcome(self, turn: Turn) -> str:
        """What came of a cell, without advice."""
        cell = turn.cell
        parts = [cell.output.rstrip("\n")] if cell.output.strip() else []
        if cell.error:
            parts.append(cell.error.rstrip("\n"))
        if turn.refusal is not None:
            parts.append(f"finish() was refused: {turn.refusal}")
        if cell.unawaited:
            names = list(dict.fromkeys(cell.unawaited))
            how = _how_to_await(turn.action.code or "", names) if self._hints else _AWAIT
            parts.append(f"Never awaited, so never run: {', '.join(cell.unawaited)}. {how}")
        if cell.running:
            parts.append(f"Still running: {', '.join(cell.running)}.")
        if not parts and cell.status is CellStatus.OK:
            parts.append("(no output)")
        return "\n".join(parts)

    def without_code(self, action: Action, status: str, *, wrap_up: bool = False) -> str:
        """The observation of an answer without code; the right form is shown only for the first time."""
        if not self._hints:
            return action.note or ""
        parts = [self._say(action.note or "", "Again there was no code in your answer, so nothing was run.")]
        if action.example is not None and not self._showed_form:
            self._showed_form = True
            parts.append(action.example)
        if wrap_up:
            parts.append(_LAST)
        return self._with_status("\n".join(part for part in parts if part), status)

    def _next(self, turn: Turn) -> str:
        """What to do now."""
        code = (turn.action.code or "").strip()
        self._run[code] += 1
        again = self._run[code] > 1
        if turn.left == 1 or turn.wrap_up:
            return _LAST
        if turn.refusal is not None:
            needed = "" if self._words is None else f" The value must be: {self._words}"
            return self._say(f"Call finish again with a value that fits.{needed}")
        if turn.cell.unawaited or turn.cell.running:
            return ""
        if turn.cell.status is not CellStatus.OK:
            if again:
                return self._say(_FAILS_LOOK if self._context else _FAILS, _OTHER_CODE)
            return self._say(_MEND)
        if again:
            return self._say(_AGAIN, _UNCHANGED)
        return self._say(_FINISH if turn.cell.output.strip() else _SHOW)

    def _say(self, text: str, instead: str = "") -> str:
        """`text` for the first two times, then `instead` for two, then nothing."""
        self._given[text] += 1
        if self._given[text] <= _MOST_HINTS:
            return text
        return self._say(instead) if instead else ""

    def _with_status(self, text: str, status: str) -> str:
        if not self._hints or not status:
            return text
        return f"{status}\n{text}"


def without_advice(text: str) -> str:
    """An observation as it would be without status line and advice: what came of the cell."""
    lines = text.split("\n")
    if _STATUS.fullmatch(lines[0]):
        lines.pop(0)
    while lines and (lines[-1] in _ADVICE or _SUPPLIED.fullmatch(lines[-1]) or _STATUS.fullmatch(lines[-1])):
        lines.pop()
    return "\n".join(lines)


def _how_to_await(code: str, names: Sequence[str]) -> str:
    """How calls of `names` in `code` can be awaited."""
    if (first := _before_lambda(code, names)) is not None:
        return f"A lambda cannot await, so get the values before: `{first}`"
    line = awaited(code, names)
    return _AWAIT if line is None else f"{_AWAIT.removesuffix('.')}: `{line}`"


def _before_lambda(code: str, names: Sequence[str]) -> str | None:
    """A line that gets what a lambda in the agent's own code calls one of `names` for; None where there is no such lambda."""
    for taker in ast.walk(parsed(code) or ast.Module([], [])):
        if not isinstance(taker, ast.Call):
            continue
        for value in (*taker.args, *(keyword.value for keyword in taker.keywords)):
            over = next((arg for arg in taker.args if arg is not value), None)
            if not isinstance(value, ast.Lambda) or len(value.args.args) != 1 or over is None:
                continue
            name = value.args.args[0].arg
            for call in ast.walk(value.body):
                if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in names:
                    try:
                        line = f"values = {{{name}: await {ast.unparse(call)} for {name} in {ast.unparse(over)}}}"
                    except RecursionError:
                        return None
                    return line if len(line) <= _SHOWN_CHARS and "`" not in line else None
    return None


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


def replies(calls: Sequence[ToolCall], text: str) -> list[Message]:
    """The messages that carry an observation: answers to native tool calls where the model made some."""
    if not calls:
        return [Message("user", text)]
    rest = [Message("tool", "not run", tool_call_id=call.id) for call in calls[1:]]
    return [Message("tool", text, tool_call_id=calls[0].id), *rest]
