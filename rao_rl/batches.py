"""Trees → an optimizer step: rows, credit, D and figures, for online and recorded trees alike."""

from __future__ import annotations

import random
from collections.abc import Sequence

from recursive_agent.trace.tree import ExecutionTree

from .credit import CreditConfig, assign
from .loss import Normalize
from .metrics import credit_metrics, tree_metrics
from .samples import forks, samples, sizes, tree_rows
from .trainer import Step, denominator


def step_of(
    trees: Sequence[ExecutionTree],
    credit: CreditConfig,
    *,
    normalize: Normalize = "token",
    constant: float = 1.0,
    version: int | None = None,
    rng: random.Random | None = None,
) -> Step:
    """The optimizer step of these trees; without samples where they teach nothing (see its `funnel/` figures).

    Raises ConfigurationError for a tree that has not ended and for one without token ids.
    """
    rows = [tree_rows(tree) for tree in trees]
    credits = assign(trees, credit, sizes=[sizes(of_tree) for of_tree in rows], version=version, rng=rng)
    metrics = {
        **tree_metrics(trees),
        **credit_metrics(credits),
        "rao/forks": float(sum(forks(of_tree) for of_tree in rows)),
    }
    amount = denominator(
        normalize, tokens=credits.tokens, nodes=credits.count, rollouts=credits.rollouts, constant=constant
    )
    return Step(samples=samples(trees, rows, credits), denominator=amount, metrics=metrics)
