"""Why the batches of an online run taught nothing, and what to change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from ..credit.rewards import success
from ..rollouts.batches import TreeBatch


def why_nothing(idle: int, batch: TreeBatch, figures: Mapping[str, float]) -> str:
    """Why the last batches taught nothing, and what to change."""
    dropped = Counter(
        {
            name.rpartition("/")[2]: int(count)
            for name, count in figures.items()
            if name.startswith("funnel/rollouts_dropped/") and count
        }
    )
    dropped.update({reason: count for reason, count in batch.lost.items() if count})
    if not is_scored(batch):
        broken = [tree.root.score_source for tree in batch.trees if tree.root.score_status == "judge_error"]
        why = (
            f"no attempt got a score, since its scorer failed ({broken[0]})"
            if broken
            else "no attempt got a score. Give the environment a verifier of roots, or let a model judge them (--judge)"
        )
    elif set(dropped) <= {"zero_advantage"}:
        why = (
            f"every attempt at a task did equally well (mean reward {figures.get('reward', 0.0):.2f}). Take easier or harder "
            "tasks, or a better policy to start from"
        )
    else:
        listed = ", ".join(f"{count:,} {reason.replace('_', ' ')}" for reason, count in dropped.most_common())
        why = f"their attempts could not be compared (left out of the last batch: {listed})"
    text = f"{idle} batches in a row taught nothing: {why}"
    ends = Counter(str(tree.root.status) for tree in batch.trees)
    ends.update({reason: count for reason, count in batch.lost.items() if count})
    failed = [f"{count} {status}" for status, count in ends.most_common() if status != "finished"]
    return f"{text} (the last {ends.total()} attempts ended as {', '.join(failed)})" if failed else text


def is_scored(batch: TreeBatch) -> bool:
    """Whether the success of a root is known. True as well where all were lost, which is counted elsewhere."""
    roots = [tree.root for tree in batch.trees if not tree.root.status.external]
    return not roots or any(success(root, root=True).value is not None for root in roots)
