"""From the events of a run to the attributes of spans: pure functions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..node import LAUNCH
from ..schema import SUMMARY, ApprovalAnswered, CellRan, HostCalled, ModelCalled, NodeEnded, NodeStarted, RunStarted
from ..timing import critical_steps
from ..tree import ExecutionTree
from . import names
from .content import Content
from .span import Attribute

PYTHON = "python"
_EXCEPTION = re.compile(r"^([A-Za-z_][\w.]{0,99})(?::|$)")
_MOST_NODES = 100
"""Agents of the critical path that are listed."""


class About:
    """What every span of a run says of it."""

    def __init__(self, start: RunStarted) -> None:
        self.start = start
        watched = start.settings.get("otel")
        name = watched.get("agent_name") if isinstance(watched, Mapping) else None
        self.agent_name = name if isinstance(name, str) and name else names.AGENT

    @property
    def origin(self) -> str | None:
        """The run that this one was forked from; who watches a run that is resumed sees it begin as a fork of itself."""
        return None if self.start.origin == self.start.run else self.start.origin

    def model(self, node: NodeStarted) -> Mapping[str, Any]:
        """The settings of an agent's model."""
        models = self.start.settings.get("models")
        own = models.get(node.model) if isinstance(models, Mapping) and node.model is not None else None
        return own if isinstance(own, Mapping) else {"model": self.start.model, **self.start.settings}

    def common(self, operation: str, node: NodeStarted) -> dict[str, Attribute]:
        """What each span has, also when it begins: samplers look at it."""
        settings = self.model(node)
        return {
            names.OPERATION: operation,
            names.PROVIDER_NAME: _text(settings.get("provider")) or names.PROVIDER,
            names.REQUEST_MODEL: _text(settings.get("model")) or self.start.model,
            names.AGENT_NAME: self.agent_name,
            names.AGENT_ID: f"{self.start.run}/{node.node}",
            names.CONVERSATION: self.start.run,
            "rao.run": self.start.run,
            "rao.node": node.node,
            "rao.depth": node.depth,
        }

    def tool(self, node: NodeStarted, step: int, tool: str) -> dict[str, Attribute]:
        """What the span of a cell or a call has when it begins."""
        common = self.common(names.EXECUTE_TOOL, node)
        del common[names.REQUEST_MODEL]
        common |= {names.TOOL_NAME: tool, names.TOOL_TYPE: "function"}
        if tool == LAUNCH:
            common[names.TRANSFER_MODE] = "return_to_caller"
        return {**common, "rao.step": step}

    def chat(self, node: NodeStarted, step: int) -> dict[str, Attribute]:
        """What the span of a model call has when it begins."""
        settings = self.model(node)
        sampling = {
            names.REQUEST_TEMPERATURE: settings.get("temperature"),
            names.REQUEST_TOP_P: settings.get("top_p"),
            names.REQUEST_MAX_TOKENS: settings.get("max_tokens"),
        }
        stop = settings.get("stop")
        return {
            **self.common(names.CHAT, node),
            **{name: value for name, value in sampling.items() if isinstance(value, int | float)},
            **({names.REQUEST_STOP: [str(each) for each in stop]} if isinstance(stop, list | tuple) and stop else {}),
            "rao.step": step,
        }

    def node(self, node: NodeStarted) -> dict[str, Attribute]:
        """What the span of an agent has when it begins."""
        found = self.common(names.INVOKE_AGENT, node)
        if node.returns is not None:
            found[names.OUTPUT_TYPE] = "json"
        if node.max_steps is not None:
            found["rao.limits.max_steps"] = node.max_steps
        if node.max_tokens is not None:
            found["rao.limits.max_tokens"] = node.max_tokens
        if node.model is not None:
            found["rao.model"] = node.model
        return found

    def run(self, limits: Mapping[str, Any]) -> dict[str, Attribute]:
        """What the root has besides: the limits of the run, and what it belongs to."""
        found: dict[str, Attribute] = {
            f"rao.limits.{name}": value for name, value in limits.items() if isinstance(value, bool | int | float | str)
        }
        for name, value in (("group", self.start.group), ("seed", self.start.seed), ("origin", self.origin)):
            if value is not None:
                found[f"rao.{name}"] = value
        return found


def of_chat(event: ModelCalled, content: Content) -> dict[str, Attribute]:
    """What the answer of a model call adds: all usage of a run is here, and nowhere else."""
    usage = event.usage
    found: dict[str, Attribute] = {
        names.RESPONSE_MODEL: event.model,
        names.FINISH_REASONS: [event.finish_reason],
        names.INPUT_TOKENS: usage.prompt_tokens,
        names.OUTPUT_TOKENS: usage.completion_tokens,
        "rao.attempts": event.attempts,
    }
    if usage.cached_tokens:
        found[names.CACHED_TOKENS] = usage.cached_tokens
    if usage.cost:
        found["rao.cost"] = usage.cost
    if usage.unconfirmed:
        found["rao.unconfirmed_tokens"] = usage.unconfirmed
    if event.version is not None:
        found["rao.model_version"] = event.version
    if event.restart:
        found[names.COMPACTED] = True
    if event.purpose == SUMMARY:
        found["rao.purpose"] = event.purpose
    if content.on:
        found[names.INPUT_MESSAGES] = content.messages(event.messages)
        found[names.OUTPUT_MESSAGES] = content.answer(event)
    return found


def of_cell(event: CellRan, content: Content) -> dict[str, Attribute]:
    """What a cell that ran adds."""
    found: dict[str, Attribute] = {"rao.cell.status": event.status, "rao.cell.cpu_seconds": event.cpu}
    if (error := cell_error(event)) is not None:
        found[names.ERROR_TYPE] = error
    if content.on:
        found[names.TOOL_ARGUMENTS] = content.value({"code": event.code})
        found[names.TOOL_RESULT] = content.value(event.output)
        if event.error:
            found["rao.error"] = content.text(event.error)
    return found


def cell_error(event: CellRan) -> str | None:
    """The class of the error that a cell ended with; None if it did not."""
    if event.status in ("ok", "finished"):
        return None
    lines = (event.error or "").strip().splitlines()
    found = _EXCEPTION.match(lines[-1]) if event.status == "error" and lines else None
    return event.status if found is None else found[1]


def of_call(event: HostCalled, answer: ApprovalAnswered | None, content: Content) -> dict[str, Attribute]:
    """What the end of a call adds."""
    found: dict[str, Attribute] = {}
    if event.child is not None:
        found["rao.child"] = event.child
    if event.shared:
        found["rao.shared"] = True
    if event.refused:
        found["rao.refused"] = True
    if answer is not None:
        found["rao.approval.allowed"] = answer.allowed
        found["rao.approval.seconds"] = max(0.0, answer.time - answer.started)
    if event.error is not None:
        found[names.ERROR_TYPE] = call_error(event.error)
    if content.on:
        found[names.TOOL_ARGUMENTS] = content.value({**dict(event.kwargs), **_positional(event)})
        if event.error is None:
            found[names.TOOL_RESULT] = content.value(event.result)
        else:
            found["rao.error"] = content.text(event.error)
    return found


def call_error(error: str) -> str:
    """The class of the error of a call: `ToolError`, `SubagentError`, `LaunchRefused`, or `cancelled`."""
    kind = error.partition(":")[0].strip()
    return kind if kind.isidentifier() else "_OTHER"


def of_node(event: NodeEnded, goal: str, steps: int, content: Content) -> dict[str, Attribute]:
    """What the end of an agent adds; no usage, which stands on its model calls."""
    found: dict[str, Attribute] = {"rao.status": event.status.value, "rao.steps": steps}
    if not event.status.finished:
        found[names.ERROR_TYPE] = event.status.value
    if content.on:
        found[names.INPUT_MESSAGES] = content.said("user", goal)
        if event.status.finished:
            result = event.result if isinstance(event.result, str) else content.value(event.result)
            found[names.OUTPUT_MESSAGES] = content.said("assistant", result, finish_reason="stop")
        elif event.reason is not None:
            found["rao.reason"] = content.text(event.reason)
    return found


def of_tree(tree: ExecutionTree) -> dict[str, Attribute]:
    """What is known of a run when it is over."""
    if not tree.nodes:
        return {}
    seconds, chain = tree.critical_path
    return {
        "rao.agents": len(tree.nodes),
        "rao.critical_path.seconds": seconds,
        "rao.critical_path.steps": critical_steps(tree.root),
        "rao.critical_path.nodes": [node.id for node in chain[:_MOST_NODES]],
    }


def _positional(event: HostCalled) -> dict[str, Any]:
    return {"*": list(event.args)} if event.args else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
