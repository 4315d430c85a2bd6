"""The metrics of a step's trees and of their credit.

`NAMES` lists every name in `metrics.jsonl` (see `evaluation/metric_names.py`); what a run writes beside them fails a test.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean, pstdev

from recursive_agent.status import Status
from recursive_agent.trace.tree import ExecutionTree

from ..credit.assign import Credits
from ..credit.rewards import success
from ..evaluation.metric_names import METRICS

NAMES = {
    name: f"{metric.unit}; {metric.meaning}" if metric.unit else metric.meaning for name, metric in METRICS.items()
}
"""Name (`*` stands for what varies) to unit and meaning."""


def tree_metrics(trees: Sequence[ExecutionTree]) -> dict[str, float]:
    """Shape and cost of the trees of a step; none for no trees.

    `reward` is the roots' mean s̃ as training counts it (a root that failed by its own or the tree's doing: 0), and
    `reward_std` its standard deviation (population); roots whose s̃ is missing are left out.
    """
    if not trees:
        return {}
    roots = (success(tree.root, root=True).value for tree in trees)
    scores = [value for value in roots if value is not None]
    launches = sum(tree.launches for tree in trees)
    together = sum(tree.concurrent_share * tree.launches for tree in trees)
    fans = [len(node.children) for tree in trees for node in tree.nodes.values() if node.children]
    figures = {
        "rao/agents_per_tree": mean(len(tree.nodes) for tree in trees),
        "rao/steps_per_tree": mean(sum(len(node.steps) for node in tree.nodes.values()) for tree in trees),
        "rao/tokens_per_tree": mean(tree.usage.completion_tokens for tree in trees),
        "rao/critical_steps": mean(tree.critical_steps for tree in trees),
        "rao/max_depth": mean(tree.max_depth for tree in trees),
        "rao/fan_out": mean(fans) if fans else 0.0,
        "rao/launch_rate": mean(bool(tree.root.children) for tree in trees),
        "rao/concurrent_share": together / launches if launches else 0.0,
        "rao/cancelled_agents": float(
            sum(node.status is Status.CANCELLED for tree in trees for node in tree.nodes.values() if node.parent)
        ),
        "rao/refused_launches": float(sum(tree.refused_launches for tree in trees)),
    }
    if scores:
        figures |= {"reward": mean(scores), "reward_std": pstdev(scores)}
    return figures


def credit_metrics(credits: Credits) -> dict[str, float]:
    """Per depth: nodes, w_d, reward, success, advantage, launch rate; and the data funnel with the reason of each loss."""
    figures: dict[str, float] = {"frac_reward_zero_std": credits.frac_reward_zero_std}
    for depth, stats in sorted(credits.depths.items()):
        figures[f"rao/nodes/depth_{depth}"] = float(stats.nodes)
        figures[f"rao/weight/depth_{depth}"] = stats.weight
        figures[f"rao/reward/depth_{depth}"] = stats.reward
        if stats.success is not None:
            figures[f"rao/success/depth_{depth}"] = stats.success
        figures[f"rao/advantage/depth_{depth}"] = stats.advantage
        figures[f"rao/launch_rate/depth_{depth}"] = stats.launch_rate
    for depth, average in sorted(credits.averages.items()):
        figures[f"rao/average/depth_{depth}"] = average
    funnel = credits.funnel
    for name in ("rollouts", "nodes"):
        for stage in ("", "_scored", "_kept", "_trained"):
            figures[f"funnel/{name}{stage}"] = float(getattr(funnel, f"{name}{stage}"))
    for name, dropped in (("rollouts", funnel.dropped_rollouts), ("nodes", funnel.dropped)):
        for reason, count in sorted(dropped.items()):
            figures[f"funnel/{name}_dropped/{reason}"] = float(count)
    return figures
