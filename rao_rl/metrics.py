"""What a training step is described by: figures of its trees and of their credit, under the names that the log uses."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean, pstdev

from recursive_agent.trace.tree import ExecutionTree

from .credit import Credits
from .evaluate import LOST


def tree_metrics(trees: Sequence[ExecutionTree]) -> dict[str, float]:
    """Shape and cost of the trees of a step; none for no trees.

    `reward` is the roots' mean success and `reward_std` its standard deviation (population); those without a score, and
    those that ended by nobody's doing, are left out.
    """
    if not trees:
        return {}
    scores = [tree.root.score for tree in trees if tree.root.score is not None and tree.root.status not in LOST]
    launches = sum(tree.launches for tree in trees)
    together = sum(tree.concurrent_share * tree.launches for tree in trees)
    fans = [len(node.children) for tree in trees for node in tree.nodes.values() if node.children]
    told = {
        "rao/agents_per_tree": mean(len(tree.nodes) for tree in trees),
        "rao/steps_per_tree": mean(sum(len(node.steps) for node in tree.nodes.values()) for tree in trees),
        "rao/tokens_per_tree": mean(tree.usage.completion_tokens for tree in trees),
        "rao/max_depth": mean(tree.max_depth for tree in trees),
        "rao/fan_out": mean(fans) if fans else 0.0,
        "rao/concurrent_share": together / launches if launches else 0.0,
        "rao/refused_launches": float(sum(tree.refused_launches for tree in trees)),
    }
    if scores:
        told |= {"reward": mean(scores), "reward_std": pstdev(scores)}
    return told


def credit_metrics(credits: Credits) -> dict[str, float]:
    """Per depth: nodes, w_d, reward, success, advantage, launch rate; and the data funnel with the reason of each loss."""
    told: dict[str, float] = {"frac_reward_zero_std": credits.frac_reward_zero_std}
    for depth, stats in sorted(credits.depths.items()):
        told[f"rao/nodes/depth_{depth}"] = float(stats.nodes)
        told[f"rao/weight/depth_{depth}"] = stats.weight
        told[f"rao/reward/depth_{depth}"] = stats.reward
        if stats.success is not None:
            told[f"rao/success/depth_{depth}"] = stats.success
        told[f"rao/advantage/depth_{depth}"] = stats.advantage
        told[f"rao/launch_rate/depth_{depth}"] = stats.launch_rate
    funnel = credits.funnel
    for name in ("rollouts", "nodes"):
        for stage in ("", "_scored", "_kept", "_trained"):
            told[f"funnel/{name}{stage}"] = float(getattr(funnel, f"{name}{stage}"))
    for name, dropped in (("rollouts", funnel.dropped_rollouts), ("nodes", funnel.dropped)):
        for reason, count in sorted(dropped.items()):
            told[f"funnel/{name}_dropped/{reason}"] = float(count)
    return told
