"""Compaction: what an agent is asked when its conversation fills the window, and what its next conversation begins with."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

from .errors import ConfigurationError
from .messages import Message
from .repl.worker.parsing import parse
from .trace.node import Node

_REQUEST_TOKENS = 256
"""Tokens that the request for a summary may take."""
_LEAST_SUMMARY = 32
"""Tokens of a summary below which none is worth asking for."""
_SHOWN_NAMES = 30
"""Variables that an agent is reminded of."""

_REQUEST = (
    "Stop here for a moment: this conversation is too long for the context window, so the older part of it will be removed. "
    "Write down in at most {words} words what you need to go on: what you have found out, what your variables hold, what "
    "failed, and what is left to do. Write plain text without code. Your variables stay, and the output of your last code is "
    "shown to you after this."
)
_LATER = "(The output is shown to you after this.)"
_NOTES = (
    "The older part of this conversation was too long for the context window and was removed. You wrote these notes of it:\n\n"
    "{notes}\n\n{variables} Your last answers and what came of them follow."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Compaction:
    """How an agent's conversation is shortened when its context window fills: `Agent(compact=Compaction(at=0.8))`.

    When the next prompt would take more than the share `at` of the window, the agent is asked for a summary of at most
    `max_tokens` tokens. A new conversation then begins with the goal, the summary and the last `keep` turns: fewer if they are
    so long that it would soon be full again, but at least one. The summary is a model call of its own: it is recorded and
    billed, and is not one of the agent's `max_steps`. `train` says whether its tokens are trained.
    """

    at: float = 0.8
    keep: int = 2
    train: bool = False
    max_tokens: int = 1024

    def __post_init__(self) -> None:
        if isinstance(self.at, bool) or not isinstance(self.at, int | float) or not 0 < self.at < 1:
            raise ConfigurationError(f"compact: at must be a share of the window between 0 and 1, not {self.at!r:.80}")
        for name, value, least in (("keep", self.keep, 1), ("max_tokens", self.max_tokens, _LEAST_SUMMARY)):
            if type(value) is not int or value < least:
                raise ConfigurationError(
                    f"compact: {name} must be a whole number of at least {least}, not {value!r:.80}"
                )
        if type(self.train) is not bool:
            raise ConfigurationError(f"compact: train must be True or False, not {self.train!r:.80}")

    @classmethod
    def of(cls, value: Self | float | None) -> Self | None:
        """From what an Agent is given: a share of the window stands for `at`. Raises ConfigurationError."""
        if value is None or isinstance(value, cls):
            return value
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ConfigurationError(
                f"compact must be a share of the context window, such as 0.8, or Compaction(...), not {value!r:.80}"
            )
        return cls(at=value)

    def is_full(self, prompt: int, window: int) -> bool:
        """Whether a prompt of so many tokens is to be shortened."""
        return prompt > self.at * window

    def is_crowded(self, prompt: int, window: int, *, opening: int) -> bool:
        """Whether a compacted prompt would soon have to be shortened again: more than half of the tokens between those of the
        opening and those at which that happens are taken."""
        return 2 * prompt > opening + self.at * window

    def room(self, prompt: int, window: int) -> int | None:
        """Most tokens of the answer to a prompt, so that a summary still fits behind it; None where that cannot be held."""
        if self.is_full(prompt, window):
            return None
        return max(1, window - prompt - self._reserve(window))

    def words(self, window: int | None) -> int:
        """Words that an agent is asked to need at most."""
        tokens = self.max_tokens if window is None else self._reserve(window) - _REQUEST_TOKENS
        return max(_LEAST_SUMMARY, min(self.max_tokens, tokens)) // 2

    def summary_tokens(self, prompt: int, window: int | None) -> int | None:
        """Most tokens of a summary after this prompt; None where there is no room for one."""
        most = self.max_tokens if window is None else min(self.max_tokens, window - prompt)
        return most if most >= _LEAST_SUMMARY else None

    def _reserve(self, window: int) -> int:
        """Tokens that answers leave free: never more than half of what prompts leave free."""
        return min(self.max_tokens + _REQUEST_TOKENS, int((1 - self.at) * window) // 2)


def request_after(answer: Message, words: int) -> list[Message]:
    """The request for a summary. It takes the place of what the agent was to be shown after its last answer."""
    later = [Message("tool", _LATER, tool_call_id=call.id) for call in answer.tool_calls]
    return [*later, Message("user", _REQUEST.format(words=words))]


def why_unusable(text: str, finish_reason: str) -> str | None:
    """Why an answer is no summary; None where it is one."""
    if finish_reason == "length":
        return "it is longer than the tokens that are left for it"
    return None if text.strip() else "it is empty"


def turns_of(messages: Iterable[Message]) -> list[list[Message]]:
    """Messages as turns: each begins with an answer, and goes on with what the agent was shown after it."""
    turns: list[list[Message]] = []
    for message in messages:
        if message.role == "assistant":
            turns.append([message])
        elif turns:
            turns[-1].append(message)
    return turns


def opening_with(
    opening: Sequence[Message], summary: str, variables: Sequence[str], *, task: str | None = None
) -> list[Message]:
    """The messages that a compacted conversation opens with. `task` is what the agent was asked for after its goal.

    The summary stands in the message with the goal: many chat templates refuse two messages of the user in a row.
    """
    shown = ", ".join(variables[-_SHOWN_NAMES:])
    there = "All your variables are still there" + (f", these among them: {shown}." if shown else ".")
    parts = [opening[-1].content, *([task] if task else []), _NOTES.format(notes=summary.strip(), variables=there)]
    return [*opening[:-1], Message(opening[-1].role, "\n\n".join(parts))]


def variables_of(node: Node) -> list[str]:
    """Names that the agent's code has bound for certain, the latest last."""
    names: dict[str, None] = {}
    for cell in (step.cell for step in node.steps):
        if cell is None:
            continue
        if cell.restarted is not None or cell.status == "killed":
            names.clear()
        if cell.status != "ok":  # it may have stopped anywhere
            continue
        try:
            body = parse(cell.code).body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        for name, bound in _bindings(body):
            names.pop(name, None)
            if bound and not name.startswith("_"):
                names[name] = None
    return list(names)


def _bindings(body: Sequence[ast.stmt]) -> Iterator[tuple[str, bool]]:
    """Names that statements bind (True) or delete (False), whatever the branches that they take."""
    for statement in body:
        match statement:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name, True
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                for alias in aliases:
                    if alias.name != "*":
                        yield alias.asname or alias.name.partition(".")[0], True
            case ast.With(body=inner) | ast.AsyncWith(body=inner):
                yield from _bindings(inner)
            case ast.Assign() | ast.AugAssign() | ast.Delete():
                targets = [statement.target] if isinstance(statement, ast.AugAssign) else statement.targets
                yield from _names_in(targets, bound=not isinstance(statement, ast.Delete))
            case ast.AnnAssign(target=target, value=value) if value is not None:
                yield from _names_in([target], bound=True)


def _names_in(targets: Iterable[ast.expr], *, bound: bool) -> Iterator[tuple[str, bool]]:
    for target in targets:
        for part in ast.walk(target):
            if isinstance(part, ast.Name) and not isinstance(part.ctx, ast.Load):
                yield part.id, bound
