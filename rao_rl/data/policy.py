"""Which of several models is trained: runs of `Agent(models=...)` hold the agents of each.

Agents of another model, and those that are not trainable, are left out of the rows. They stay in the tree, so that their
scores count as those of sub-agents, and in the baselines, as any agent that is not trained does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from recursive_agent.trace.tree import ExecutionTree, Node

from ..errors import DataError


def choose_policy(
    trees: Iterable[ExecutionTree], name: str | None = None, start: str | Path | None = None
) -> str | None:
    """The model to train on these runs; None if none of them has several models.

    It is `name`, or the only model whose agents are trainable, or the one that the checkpoint `start` has the name of. A
    model is named as in `Agent(models=...)`, or as at its endpoint. Raises DataError where that leaves several, or none.
    """
    trees = list(trees)
    if name is None and not any(_models(tree) for tree in trees):
        return None
    counts: Counter[str] = Counter()
    known: set[str] = set()
    for tree in trees:
        for node in tree.nodes.values():
            if node.trainable and node.usage.calls:
                counts[model_of(tree, node)] += 1
                known |= {model_of(tree, node)} | ({node.model} if node.model is not None else set())
    listed = ", ".join(f"{model} ({count:,} agent{'s' * (count > 1)})" for model, count in counts.most_common())
    if name is not None:
        if name not in known:
            raise DataError(f"no agent of the model {name!r} can be trained on; the runs have: {listed or 'none'}")
        return name
    if not counts:
        raise DataError("no agent of these runs is trainable: all have frozen models")
    if len(counts) == 1:
        return next(iter(counts))
    short = None if start is None else Path(start).name
    for guess in (str(start), short):
        if guess in known:
            return guess
    raise DataError(f"the runs hold trainable agents of several models: {listed}; name the one to train with --policy")


def model_of(tree: ExecutionTree, node: Node) -> str:
    """The name that an agent's model has at its endpoint."""
    settings = _models(tree).get(node.model or "")
    name = settings.get("model") if isinstance(settings, Mapping) else None
    return tree.model if not isinstance(name, str) else name


def focus(tree: ExecutionTree, policy: str) -> frozenset[str]:
    """Give a tree the model and the settings of `policy`, as if it had no other; returns the ids of the other agents.

    Raises DataError where agents of one model have different settings.
    """
    models = _models(tree)
    others = others_of(tree, policy)
    mine = {node.model for node in tree.nodes.values() if node.id not in others and node.trainable and node.usage.calls}
    found = [dict(models[name]) for name in sorted(filter(None, mine)) if isinstance(models.get(name), Mapping)]
    for settings in found[1:]:
        if _sampled(settings) != _sampled(found[0]):
            names = ", ".join(sorted(filter(None, mine)))
            raise DataError(
                f"run {tree.run}: the agents of {policy!r} were sampled with different settings; name one of {names} with "
                "--policy"
            )
    if found:
        first = found[0]
        name, interface = first.pop("model", tree.model), first.pop("interface", tree.interface)
        tree.model, tree.interface = str(name), str(interface)
        tree.settings = {**{key: value for key, value in tree.settings.items() if key != "sampling"}, **first}
    return others


def others_of(tree: ExecutionTree, policy: str) -> frozenset[str]:
    """The ids of the agents that have another model than `policy`."""
    return frozenset(node.id for node in tree.nodes.values() if policy not in (node.model, model_of(tree, node)))


def settings_of(tree: ExecutionTree, node: Node) -> Mapping[str, Any]:
    """The settings of an agent: those of its model over those of the run."""
    own = _models(tree).get(node.model or "")
    return {**tree.settings, **own} if isinstance(own, Mapping) else tree.settings


def _models(tree: ExecutionTree) -> Mapping[str, Any]:
    models = tree.settings.get("models")
    return models if isinstance(models, Mapping) else {}


def _sampled(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: value
        for key, value in settings.items()
        if key not in ("prices", "trainable", "context_limit", "max_tokens", "bare_code")
    }
