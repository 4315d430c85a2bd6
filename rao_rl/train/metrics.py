"""The metrics of training: every name in `metrics.jsonl`, with its unit, and those of a step's trees and of their credit.

Names are TRL's where TRL has one. `NAMES` lists them all; what a run writes beside them fails a test.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean, pstdev

from recursive_agent.status import Status
from recursive_agent.trace.tree import ExecutionTree

from ..credit.assign import Credits
from ..credit.rewards import success

NAMES = {
    # of every line
    "step": "optimizer steps done",
    "epoch": "passes over the data; without meaning for online runs",
    "loss": "nats; RAO: Σ of the step's token losses / D, imitation: mean of −log p of the learnt tokens",
    "grad_norm": "L2 norm of the gradient before it is clipped",
    "learning_rate": "of the step that ended",
    "train_runtime": "seconds of the run since it was begun or resumed (last line)",
    "train_samples_per_second": "optimizer steps' batches a second (last line)",
    "train_steps_per_second": "optimizer steps a second (last line)",
    "train_loss": "mean loss (last line)",
    "total_flos": "floating-point operations, estimated (last line)",
    # of the policy at the sampled (imitation: the learnt) tokens
    "entropy": "nats, mean over tokens",
    "mean_token_accuracy": "share of the learnt tokens that are the most likely one (imitation)",
    "num_tokens": "tokens trained on since the run was begun or resumed, prompts included (imitation)",
    "sampling/importance_sampling_ratio/mean": "ρ = π_θ / π_behaviour, mean over tokens",
    "sampling/importance_sampling_ratio/max": "greatest ρ of the step",
    "sampling/sampling_logp_difference/mean": "nats, mean of |log π_θ − log π_behaviour|",
    "clip_ratio/region_mean": "share of the tokens that the clipping holds back",
    "rao/mismatch_kl": "nats, estimate of KL(π_behaviour ‖ π_θ)",
    # the size of a step
    "rao/trained_tokens": "sampled tokens that were trained",
    "rao/trained_rows": "rows that were trained",
    "rao/forwarded_over_logical_tokens": "forwarded tokens / tokens of the rows; above 1 by padding",
    # the trees of a step
    "reward": "mean success of the roots, 0 to 1",
    "reward_std": "standard deviation (population) of the success of the roots",
    "frac_reward_zero_std": "share of the groups in which all advantages are 0",
    "rao/agents_per_tree": "agents, mean over trees",
    "rao/steps_per_tree": "steps of all agents, mean over trees",
    "rao/tokens_per_tree": "sampled tokens, mean over trees",
    "rao/critical_steps": "model calls on the longest chain of dependent calls of a tree, mean over trees",
    "rao/max_depth": "depth of the deepest agent, mean over trees; root = 0",
    "rao/fan_out": "children of an agent that has some, mean",
    "rao/launch_rate": "share of the roots that launched a sub-agent",
    "rao/concurrent_share": "share of the launches that ran beside another one",
    "rao/cancelled_agents": "sub-agents that were cancelled, since their parent ended before them, of all trees",
    "rao/refused_launches": "launches that a limit refused, of all trees",
    "rao/forks": "conversations that did not continue where they had ended",
    "rao/nodes/depth_*": "N_d, agents at a depth",
    "rao/weight/depth_*": "w_d",
    "rao/reward/depth_*": "R, mean over the agents at a depth",
    "rao/success/depth_*": "s̃, mean over the scored agents at a depth",
    "rao/advantage/depth_*": "A, mean over the agents at a depth",
    "rao/launch_rate/depth_*": "share of the agents at a depth that launched a sub-agent",
    "rao/average/depth_*": "moving average of R at a depth after the step (credit.baseline=ema_depth)",
    # what was left of the data, and why the rest was not trained
    "funnel/rollouts*": "trees: all, then _scored, _kept, _trained; _dropped/REASON",
    "funnel/nodes*": "agents: all, then _scored, _kept, _trained; _dropped/REASON",
    "funnel/lost/*": "attempts without a tree, by reason",
    # the online loop
    "rao/generated_tokens": "tokens sampled in training since the run was begun",
    "rao/total_tokens": "the same and those of the prompts, as the endpoint counts them call by call",
    "rao/batch": "number of the batch of attempts",
    "rao/recorded_trees": "trees of the batch that had been recorded before, and were not rolled out again",
    "rao/skipped": "1: the batch had nothing to teach, and no step was taken",
    "rao/push_error": "nats, greatest |Δ log-prob| between sampler and trainer after the push",
    "rao/push_error_mean": "nats, mean |Δ log-prob| between sampler and trainer after the push",
    "rao/push_share": "share of the update that a sampler in half precision shows, where it can be told (see weights/probe.py)",
    "judge/calls": "calls of the judge since the line before (with --judge)",
    "judge/tokens": "tokens that these calls read and wrote; no part of the tokens above",
    "judge/cached": "verdicts that came from the cache since the line before",
    "judge/failed/*": "verdicts that failed since the line before, by reason",
    "time/rollout": "seconds, rolling out the batch",
    "time/wait": "seconds that the training waited for it",
    "time/push": "seconds, pushing the weights and checking them",
    "time/make": "seconds, making the step of the trees",
    "time/train": "seconds, forward and backward",
    "eval/success/*": "share of the evaluation tasks that the root solved, by level",
    "eval/success_low/*": "lower end of its 95 % interval",
    "eval/success_high/*": "upper end of its 95 % interval",
    "eval/agents/*": "agents a tree, mean",
    "eval/tokens/*": "sampled tokens a tree, mean",
    "eval/depth/*": "deepest agent of a tree, mean",
    "eval/concurrent_share/*": "share of the launches that ran beside another one",
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
