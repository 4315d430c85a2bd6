"""Demonstrated code as the conversation of an agent, in the very messages of `recursive_agent.prompts`."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from recursive_agent.actions import Action
from recursive_agent.errors import ConfigurationError
from recursive_agent.model.base import Message
from recursive_agent.observations import Observations, Turn, status_line
from recursive_agent.prompts import Situation, opening
from recursive_agent.repl.base import CellResult, CellStatus
from recursive_agent.styles import ActionFormat, PromptStyle
from recursive_agent.tools import Tool, tool_set

from ..envs.textcraft import TextCraft
from ..envs.textcraft.demonstrations import Demonstration
from ..rollouts.attempt import ROLLOUT_LIMITS


@dataclass(frozen=True, slots=True)
class Prompting:
    """How the model will be prompted: the style of its messages, and the form of its answers."""

    style: PromptStyle
    action_format: ActionFormat

    def answer(self, code: str) -> str:
        """An answer that asks to run `code`. Raises ConfigurationError for the format `tool`."""
        if self.action_format == "tool":
            raise ConfigurationError(
                "imitation teaches answers that are text, not native tool calls: set imitation.action_format to fenced or tags"
            )
        return f"```python\n{code}\n```" if self.action_format == "fenced" else f"<python>\n{code}\n</python>"

    def conversation(self, situation: Situation, cells: Iterable[tuple[str, str | None]]) -> list[Message]:
        """What an agent in `situation` is sent and answers; a cell is its code and what it shows, None for the last one."""
        messages = opening(self.style, self.action_format, situation)
        observations = Observations(self.style, schema=situation.schema, context=situation.context is not None)
        for step, (code, shown) in enumerate(cells, 1):
            messages.append(Message("assistant", self.answer(code)))
            if shown is not None:
                status = status_line(
                    step=step,
                    max_steps=situation.max_steps,
                    tokens_left=None,
                    max_tokens=None,
                    depth=situation.depth,
                    max_depth=situation.max_depth,
                )
                turn = Turn(
                    cell=CellResult(status=CellStatus.OK, output=shown),
                    action=Action(code),
                    left=situation.max_steps - step,
                )
                messages.append(Message("user", observations.after_cell(turn, status)))
        return messages


MINIMAL = Prompting("minimal", "fenced")
"""How a policy from scratch is prompted."""


def textcraft_conversation(demonstration: Demonstration, prompting: Prompting = MINIMAL) -> list[Message]:
    """The messages of a demonstration of TextCraft, somewhere in a tree where what it crafts may be asked for."""
    return prompting.conversation(textcraft_situation(demonstration), demonstration.cells)


def textcraft_situation(demonstration: Demonstration) -> Situation:
    """Where an agent with this goal stands in its tree: at any depth that leaves room for what it crafts."""
    recursive = "launch_subagent" in demonstration.functions
    deepest = TextCraft(mode="recursive" if recursive else "single").max_depth
    # Of the goal alone, so that it changes nothing about which demonstrations are drawn.
    depth = random.Random(demonstration.goal).randint(0, max(0, deepest - demonstration.tier))
    return Situation(
        goal=demonstration.goal,
        context=None,
        schema=None,
        tools=_textcraft_tools(),
        can_launch=recursive,
        launcher=recursive,
        depth=depth,
        max_depth=deepest,
        max_steps=ROLLOUT_LIMITS.max_steps,
        instructions=None,
    )


@cache
def _textcraft_tools() -> dict[str, Tool]:
    environment = TextCraft()
    (task,) = environment.tasks("train", limit=1)
    return tool_set(environment.session(task).tools)
