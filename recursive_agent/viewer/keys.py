"""What agents and steps of different runs are recognised by: their content, never their number, position or time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ..messages import Message
from ..trace.keys import digest, launch_key
from ..trace.node import Node, Step
from ..trace.redact import Redactor
from ..trace.schema import HostCalled, ModelCalled
from ..trace.tree import ExecutionTree

_NOTHING = Redactor()
"""Secrets are gone from what a trace holds."""


def node_key(node: Node, tree: ExecutionTree) -> str:
    """Key of an agent's launch, in hexadecimal: goal, inputs, the type asked for, and the settings that its parent gave.

    It is equal for the same launch in different runs, whatever their limits: as when a run is resumed, steps that an agent
    had from the limits of its run do not count.
    """
    return launch_key(_NOTHING, node.goal, node.context, node.returns, given_settings(node, tree)).hex()


def given_settings(node: Node, tree: ExecutionTree) -> dict[str, Any]:
    """The settings that an agent got from its parent; None where it had those of the run."""
    common = {limits.get("max_steps") for limits in (tree.first_limits, tree.limits)}
    return {
        "max_steps": None if node.parent is None or node.max_steps in common else node.max_steps,
        "max_tokens": None if node.parent is None else node.max_tokens,
    }


def task_key(node: Node) -> bytes:
    """Key of what an agent was asked, whatever settings it had."""
    return launch_key(_NOTHING, node.goal, node.context, node.returns, {})


def key_of(*values: Any) -> bytes:
    """Key of plain values."""
    return digest(_NOTHING, list(values))


def prompt_key(step: Step) -> bytes:
    """Key of the messages that were added for a step."""
    return key_of(*([*map(_message, call.messages), call.restart] for call in step.model_calls))


def answer_key(step: Step) -> bytes:
    """Key of what the model answered in a step."""
    return key_of(*map(_answer, step.model_calls))


def code_key(step: Step) -> bytes:
    """Key of the code that ran in a step."""
    return key_of(None if step.cell is None else step.cell.code)


def output_key(step: Step) -> bytes:
    """Key of what came of the code of a step."""
    cell = step.cell
    return key_of(*(() if cell is None else (cell.status, cell.output, cell.error)))


def calls_key(step: Step) -> bytes:
    """Key of the calls of tools and the launches of a step, in whatever order they ended."""
    return key_of(*sorted(map(_call, step.calls)))


def outcome_key(node: Node) -> bytes:
    """Key of how an agent ended, and with what."""
    return key_of(node.status.value, node.reason, node.result)


def _message(message: Message) -> Sequence[Any]:
    calls = [[call.name, call.arguments] for call in message.tool_calls]  # their ids are random
    return [message.role, message.content, calls]


def _answer(call: ModelCalled) -> Sequence[Any]:
    tools: Iterable[Any] = ([each.name, each.arguments] for each in call.tool_calls)
    return [call.purpose, call.text, call.reasoning, *tools]


def _call(call: HostCalled) -> bytes:
    return key_of(call.name, list(call.args), dict(call.kwargs), call.result, call.error, call.refused)
