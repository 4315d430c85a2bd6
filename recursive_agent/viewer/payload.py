"""A tree as the data of a page. Times are in seconds since the start of the run, and a number that is not known is None.

The data are made of the tree alone, so that the same trace always gives the same. `run_data` is a run with its agents,
`head_data` the run without them, `node_data` one agent.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from operator import add
from typing import Any

from ..messages import Message, ToolCall
from ..status import Status
from ..trace.node import Node, Step
from ..trace.schema import ROOT, ApprovalAnswered, CellRan, HostCalled, ModelCalled, RunResumed
from ..trace.timing import critical_parts
from ..trace.tree import ExecutionTree
from ..usage import Usage
from ..written import as_json
from .keys import node_key
from .texts import SHORT, bounded, brief, plain, seconds, spelled

Json = dict[str, Any]
FORMAT = 1
"""Version of the data; a page refuses one that it does not know."""


def page_data(
    title: str,
    *,
    kind: str = "run",
    runs: Sequence[Json] = (),
    rows: Sequence[Json] = (),
    compare: Json | None = None,
    training: Json | None = None,
    live: Json | None = None,
    note: str | None = None,
) -> Json:
    """All that a page shows. `note` is a sentence about what it lacks."""
    return {
        "format": FORMAT,
        "title": title,
        "kind": kind,
        "runs": list(runs),
        "rows": list(rows),
        "compare": compare,
        "training": training,
        "live": live,
        "note": note,
    }


def run_data(
    tree: ExecutionTree, *, file: str | None = None, state: str | None = None, credit: Mapping[str, Json] | None = None
) -> Json:
    """A run with all its agents, each before those that it launched. `credit` is by node id (see `rao_rl.credit.explain`)."""
    credit = credit or {}
    usages = Usages(tree)
    nodes = [node_data(node, tree, usages, credit=credit.get(node.id)) for node in tree.walk()]
    return {**head_data(tree, file=file, state=state), "nodes": nodes}


def head_data(tree: ExecutionTree, *, file: str | None = None, state: str | None = None, critical: bool = True) -> Json:
    """A run without its agents. `state` is a `TraceState` value, of the file that it is from.

    `critical` False leaves out `critical_steps` and `critical_path`, which take longer than all the rest.
    """
    usage = Usages(tree)
    return {
        "id": tree.run,
        "file": file,
        "state": state,
        "model": tree.model,
        "interface": tree.interface,
        "status": _status(tree).value,
        "started": tree.started if math.isfinite(tree.started) else None,
        "duration": seconds(tree.duration),
        "complete": tree.complete,
        "incomplete": tree.incomplete,
        "usage": usage.of_nodes(tree.nodes.values()),
        "usage_by_model": {
            name: usage.of_nodes(node for node in tree.nodes.values() if _model(node, tree) == name)
            for name in tree.usage_by_model
        },
        "limits": plain(dict(tree.limits)),
        "settings": plain(dict(tree.settings)),
        "group": tree.group,
        "seed": plain(tree.seed),
        "origin": tree.origin,
        "max_depth": tree.max_depth,
        "launches": tree.launches,
        "refused_launches": tree.refused_launches,
        "shared_launches": tree.shared_launches,
        "concurrent_share": tree.concurrent_share,
        **(_critical(tree) if critical else {}),
        "resumptions": [_resumption(each, tree) for each in tree.resumptions],
        "steered": [
            {"time": _since(each.time, tree), "action": each.action, "node": each.node, "text": _text(each.text)}
            for each in tree.steered
        ],
        "approvals": [_approval(each, tree) for each in tree.approvals],
    }


def node_data(node: Node, tree: ExecutionTree, usage: Usages, *, credit: Json | None = None) -> Json:
    """One agent, with its steps. `usage` is `Usages(tree)`, which serves for all agents."""
    return {
        "id": node.id,
        "parent": node.parent,
        "depth": node.depth,
        "goal": bounded(node.goal),
        "context": None if node.context is None else spelled(node.context, SHORT),
        "returns": None if node.returns is None else plain(node.returns),
        "max_steps": plain(node.max_steps),
        "max_tokens": plain(node.max_tokens),
        "status": node.status.value,
        "reason": _text(node.reason),
        "result": spelled(node.result) if node.finished or node.result is not None else None,
        "model": node.model,
        "trainable": node.trainable,
        "started": _since(node.started, tree),
        "ended": None if node.ended is None else _since(node.ended, tree),
        "launched_at": None if node.launched_at is None else list(node.launched_at),
        "usage": usage.of_nodes([node]),
        "score": _number(node.score),
        "score_status": node.score_status,
        "score_source": _text(node.score_source),
        "key": node_key(node, tree),
        "steps": [_step(step, node, usage) for step in node.steps],
        "credit": credit,
    }


def usage_data(tree: ExecutionTree) -> Json:
    """What a run has used."""
    return Usages(tree).of_nodes(tree.nodes.values())


class Usages:
    """Usages in a tree as it is now, with None for what it does not say.

    A trace does not tell a cost of 0 from one that is not known, because no prices were given: the cost of a model is known
    if its prices are recorded, or if any of its calls cost something. Cached tokens are known if any call reported some.
    Reasoning tokens are not recorded apart from the others.
    """

    def __init__(self, tree: ExecutionTree) -> None:
        self.tree = tree
        sums = tree.usage_by_model
        self._cached = any(each.cached_tokens for each in sums.values())
        self._priced = {name for name, each in sums.items() if each.cost} | set(_priced(tree.settings.get("models")))

    @property
    def known(self) -> tuple[bool, frozenset[str]]:
        """Whether cached tokens are known, and the models whose costs are: while a run goes on, more becomes known."""
        return self._cached, frozenset(self._priced)

    def of_nodes(self, nodes: Iterable[Node]) -> Json:
        """The sum over some agents."""
        members = list(nodes)
        known = all(_model(node, self.tree) in self._priced for node in members if node.usage.calls)
        return self._data(reduce(add, (node.usage for node in members), Usage()), known and bool(self._priced))

    def of_call(self, usage: Usage, node: Node) -> Json:
        """That of one call of an agent."""
        return self._data(usage, _model(node, self.tree) in self._priced)

    def _data(self, usage: Usage, priced: bool) -> Json:
        return {
            "prompt": usage.prompt_tokens,
            "cached": usage.cached_tokens if self._cached else None,
            "completion": usage.completion_tokens,
            "reasoning": None,
            "total": usage.total_tokens,
            "unconfirmed": usage.unconfirmed,
            "calls": usage.calls,
            "cost": _number(usage.cost) if priced else None,
        }


def _priced(models: Any) -> Iterable[str]:
    for name, settings in models.items() if isinstance(models, Mapping) else ():
        if isinstance(settings, Mapping) and settings.get("prices") is not None:
            yield str(name)


def _model(node: Node, tree: ExecutionTree) -> str:
    return tree.model if node.model is None else node.model


def _status(tree: ExecutionTree) -> Status:
    return tree.nodes[ROOT].status if ROOT in tree.nodes else Status.RUNNING


def _critical(tree: ExecutionTree) -> Json:
    there = ROOT in tree.nodes
    return {
        "critical_steps": tree.critical_steps if there else None,
        "critical_path": _critical_path(tree) if there else None,
    }


def _critical_path(tree: ExecutionTree) -> Json:
    path = tree.critical_path
    return {
        "seconds": seconds(path.seconds),
        "nodes": [node.id for node in path.nodes],
        "parts": [
            {
                "kind": part.kind,
                "node": part.node.id,
                "step": part.step,
                "start": _since(part.start, tree),
                "end": _since(part.end, tree),
            }
            for part in critical_parts(tree.root)
        ],
    }


def _resumption(event: RunResumed, tree: ExecutionTree) -> Json:
    return {
        "time": _since(event.time, tree),
        "at": event.at if math.isfinite(event.at) else None,
        "model": event.model,
        "version": event.version,
        "limits": plain(dict(event.limits)),
        "question": _text(event.question),
        "returns": None if event.returns is None else plain(event.returns),
    }


def _approval(event: ApprovalAnswered, tree: ExecutionTree) -> Json:
    return {
        "start": _since(event.started, tree),
        "end": _since(event.time, tree),
        "node": event.node,
        "step": event.step,
        "call": event.call,
        "name": event.name,
        "allowed": event.allowed,
        "reason": _text(event.reason),
        "arguments": None if event.arguments is None else spelled(event.arguments, SHORT),
        "error": _text(event.error),
    }


def _step(step: Step, node: Node, usage: Usages) -> Json:
    return {
        "number": step.number,
        "model": [_model_call(call, node, usage) for call in step.model_calls],
        "cell": None if step.cell is None else _cell(step.cell, usage.tree),
        "calls": [_call(call, usage.tree) for call in sorted(step.calls, key=lambda each: each.call)],
    }


def _model_call(call: ModelCalled, node: Node, usage: Usages) -> Json:
    return {
        "start": _since(call.started, usage.tree),
        "end": _since(call.time, usage.tree),
        "purpose": call.purpose,
        "restart": call.restart,
        "messages": [_message(message) for message in call.messages],
        "text": bounded(call.text),
        "reasoning": _text(call.reasoning),
        "finish_reason": call.finish_reason,
        "usage": usage.of_call(call.usage, node),
        "model": call.model,
        "version": call.version,
        "attempts": call.attempts,
        "tool_calls": [_tool_call(each) for each in call.tool_calls],
    }


def _message(message: Message) -> Json:
    data: Json = {"role": message.role, "content": bounded(message.content)}
    if message.tool_calls:
        data["tool_calls"] = [_tool_call(each) for each in message.tool_calls]
    if message.tool_call_id is not None:
        data["tool_call_id"] = message.tool_call_id
    return data


def _tool_call(call: ToolCall) -> Json:
    return {"id": call.id, "name": call.name, "arguments": bounded(call.arguments)}


def _cell(cell: CellRan, tree: ExecutionTree) -> Json:
    return {
        "start": _since(cell.started, tree),
        "end": _since(cell.time, tree),
        "code": bounded(cell.code),
        "status": cell.status,
        "output": bounded(cell.output),
        "error": _text(cell.error),
        "cpu": seconds(cell.cpu),
        "restarted": _text(cell.restarted),
    }


def _call(call: HostCalled, tree: ExecutionTree) -> Json:
    answered = call.error is None and not call.refused
    return {
        "call": call.call,
        "start": _since(call.started, tree),
        "end": _since(call.time, tree),
        "name": call.name,
        "args": ", ".join(_argument(each) for each in call.args),
        "kwargs": ", ".join(f"{name}={_argument(each)}" for name, each in call.kwargs.items() if each is not None),
        "result": spelled(call.result, SHORT) if answered else None,
        "error": _text(call.error),
        "child": call.child,
        "refused": call.refused,
        "shared": call.shared,
        "omitted": call.omitted,
    }


def _argument(value: Any) -> str:
    return as_json(brief(value, SHORT))


def _text(text: str | None) -> str | None:
    return None if text is None else bounded(text)


def _number(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _since(time: float, tree: ExecutionTree) -> float | None:
    return seconds(time - tree.started)
