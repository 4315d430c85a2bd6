"""Trees → an optimizer step: rows, credit, D and figures, for online and recorded trees alike."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from ..config import CreditConfig
from ..credit.counterfactual import launch_of
from ..credit.normalization import BY_TOKEN, Normalization
from ..data.rows import TreeRows, with_credit
from .metrics import credit_metrics, tree_metrics
from .trainer import Step


def step_of(
    trees: Sequence[TreeRows],
    credit: CreditConfig,
    *,
    normalization: Normalization = BY_TOKEN,
    version: int | None = None,
    rng: random.Random | None = None,
    update: int = 0,
    averages: Mapping[int, float] = {},
) -> Step:
    """The optimizer step of these trees; without samples where they teach nothing (see its `funnel/` figures).

    Raises DataError for a tree that has not ended.
    """
    batch = with_credit(trees, credit, version=version, rng=rng, update=update, averages=averages)
    credits = batch.credits
    metrics = {
        **tree_metrics([each.tree for each in trees if launch_of(each.tree.group) is None]),
        **credit_metrics(credits),
        "rao/forks": float(batch.forks),
    }
    denominator = normalization.denominator(tokens=credits.tokens, nodes=credits.count, rollouts=credits.rollouts)
    return Step(samples=batch.samples, denominator=denominator, metrics=metrics, averages=credits.averages)
