"""How the credit of each node came about: its numbers, and in plain words what they were computed from.

The numbers are those of `assign` and `batch_of`, which training uses; nothing is computed a second time here, only listed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from typing import Any

from recursive_agent.trace.tree import ExecutionTree, Node

from .assign import assign
from .averages import Averages
from .batch import Group, Rollout, batch_of
from .compared import LISTED, Compared, compared_with
from .config import PAPER, CreditConfig
from .credits import Credits, NodeCredit, Size
from .rewards import Earned, bonus_children, success
from .shaping import Shaping, annealed, r_finish, r_parallel


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """The credit of one node. What is not known, or does not exist for it, is None."""

    reward: float | None = None
    baseline: float | None = None
    """b, where the advantage is R(X) − b; None for schemes of another form."""
    advantage: float | None = None
    weight: float | None = None
    """w_d, times the scale of sub-sampling."""
    coefficient: float | None = None
    """Weight · advantage: the factor of each token that the node sampled. None for a node that is not trained."""
    left_out: str | None = None
    """Why it is not trained, in a sentence; None where it is."""
    why: tuple[str, ...] = ()
    """How each number came about, a sentence for each."""

    def as_data(self) -> dict[str, Any]:
        """As plain data."""
        return {**asdict(self), "why": list(self.why)}


def explain(
    trees: Sequence[ExecutionTree],
    config: CreditConfig = PAPER,
    *,
    sizes: Sequence[Mapping[str, Size]] | None = None,
    version: int | None = None,
    update: int = 0,
    averages: Mapping[int, float] = {},
    batch: str = "the batch",
) -> list[dict[str, Explained]]:
    """The credit of every node of a batch, tree by tree, by node id. Arguments and errors are those of `assign`.

    `batch` is what the sentences call all these trees together.

    With `max_nodes_per_depth`, which picks nodes at random, every node has the credit that it has if it is picked.
    """
    most = config.max_nodes_per_depth
    config = replace(config, max_nodes_per_depth=None)
    credits = assign(trees, config, sizes=sizes, version=version, update=update, averages=averages)
    shaping = annealed(config.parallel_bonus, config.finish_bonus, update, config.shaping_updates)
    parts = batch_of(trees, config, shaping, sizes, version, averages)
    words = _Words(config, shaping, credits, most, averages, batch)
    explained: list[dict[str, Explained]] = [{} for _ in trees]
    for index, reason in parts.unusable.items():
        sentence = _rollout_words(reason, trees[index], config)
        explained[index] = {node: Explained(left_out=sentence) for node in trees[index].nodes}
    trained = {(credit.tree, credit.node): credit for credit in credits.nodes}
    for group in parts.groups:
        compared = bool(group.advantages) and len(group.members) > 1  # of one alone, with moving averages
        others = compared_with([member.earned for member in group.members], config.baseline) if compared else None
        for number, rollout in enumerate(group.members):
            tree = trees[rollout.tree]
            found = explained[rollout.tree]
            for node in tree.nodes.values():
                found[node.id] = Explained(left_out=_missing_words(node))
            for place, earned in enumerate(rollout.earned):
                pool = None if others is None else others[number][place]
                credit = trained.get((rollout.tree, earned.node.id))
                found[earned.node.id] = words.of(group, number, place, pool, credit)
    return explained


class _Words:
    """The sentences about the nodes of one batch."""

    def __init__(
        self, config: CreditConfig, shaping: Shaping, credits: Credits, most: int | None, averages: Averages, batch: str
    ) -> None:
        self.config, self.shaping, self.credits, self.most = config, shaping, credits, most
        self.averages, self.batch = averages, batch

    def of(self, group: Group, number: int, place: int, pool: Compared | None, credit: NodeCredit | None) -> Explained:
        """The credit of one node that has a reward."""
        rollout = group.members[number]
        earned = rollout.earned[place]
        why = [self._reward(earned, rollout)]
        if not group.advantages:
            return Explained(reward=float(earned.reward), left_out=_group_words(group, self.config), why=tuple(why))
        advantage = group.advantages[number][place]
        baseline, sentences = self._advantage(group, number, earned, advantage, pool)
        why += sentences
        if credit is None:
            reason = rollout.left_out.get(earned.node.id)
            return Explained(
                reward=float(earned.reward),
                baseline=None if baseline is None else float(baseline),
                advantage=float(advantage),
                left_out=_group_words(group, self.config) if reason is None else _node_words(reason, self.config),
                why=tuple(why),
            )
        weight, sentence = self._weight(credit)
        why += [
            sentence,
            f"coefficient {_n(weight * credit.advantage)} = weight {_n(weight)} × advantage {_n(credit.advantage)}: the "
            "gradient of each token that the agent sampled is multiplied with it",
        ]
        return Explained(
            reward=credit.reward,
            baseline=None if baseline is None else float(baseline),
            advantage=credit.advantage,
            weight=weight,
            coefficient=weight * credit.advantage,
            why=tuple(why),
        )

    def _reward(self, earned: Earned, rollout: Rollout) -> str:
        """How R came about."""
        config, node = self.config, earned.node
        if config.reward == "root" or config.baseline == "inherit":
            root = rollout.earned[0]
            if node.parent is not None:
                setting = "baseline=inherit" if config.baseline == "inherit" else "reward=root"
                return f"reward {_n(earned.reward)} = reward of the root of its run ({setting})"
            earned = root
        assert earned.success is not None or config.reward == "root" or config.baseline == "inherit"
        text = f"reward {_n(earned.reward)} = score {_n(earned.success or Fraction(0))}"
        text += _own_words(node)
        if config.delegation_bonus and node.children:
            known = {
                child.id: value for child in node.children if (value := success(child, root=False).value) is not None
            }
            scores = [Fraction(known[child.id]) for child in bonus_children(node, known, config.bonus_for_forwarding)]
            text += f" + {_n(config.delegation_bonus)} × {_n(_mean(scores))} (delegation bonus × mean score of "
            named = f"{_count(len(scores), 'sub-agent')} with a score: {_listed(scores)})"
            text += named if scores else "its sub-agents, of which none has a score that counts)"
        elif config.delegation_bonus:
            text += " (no delegation bonus: it launched no sub-agent)"
        if self.shaping.parallel:
            share = r_parallel(node)
            text += (
                f" + {_n(self.shaping.parallel)} × {_n(share)} (share of its sub-agents that ran beside another one)"
            )
        if self.shaping.finish:
            text += (
                f" + {_n(self.shaping.finish)} × {_n(r_finish(node))} (share of its sub-agents that returned a result)"
            )
        return text

    def _advantage(
        self, group: Group, number: int, earned: Earned, advantage: Fraction, pool: Compared | None
    ) -> tuple[Fraction | None, list[str]]:
        """b, where there is one, and how A came about."""
        reward, kind = earned.reward, self.config.baseline
        roots = [member.earned[0].reward for member in group.members]
        if kind == "max_rl":
            mean = _mean(roots)
            told = f"mean {_n(mean)} = mean reward of all {len(roots)} roots of the group: {_listed(roots)}"
            formula = (
                f"(reward {_n(reward)} − mean) / mean" if mean else "0, because every root of the group has reward 0"
            )
            return None, [told, f"advantage {_n(advantage)} = {formula}"]
        if kind == "inherit" and earned.node.parent is not None:
            return None, [f"advantage {_n(advantage)} = advantage of the root of its run (baseline=inherit)"]
        baseline = reward - advantage
        if kind == "ema_depth":
            words = f"moving average of the rewards at depth {earned.node.depth} before this step"
            if earned.node.depth not in self.averages:
                words += ", which begins at 0"
        elif kind == "counterfactual" and (further := group.further[number].get(earned.node.id)):
            count = _count(len(further), "further sub-agent")
            words = f"mean reward of {count} with the same goal and inputs: {_listed(further)}"
        else:
            assert pool is not None
            what = "score" if kind == "root_success" else "reward"
            words = f"mean {what} of {_pool_words(pool, earned.node)}: {_listed(pool.values, pool.count)}"
        return baseline, [
            f"baseline {_n(baseline)} = {words}",
            f"advantage {_n(advantage)} = reward {_n(reward)} − baseline {_n(baseline)}",
        ]

    def _weight(self, credit: NodeCredit) -> tuple[float, str]:
        """Depth weight and scale of a node that is trained."""
        depths = self.credits.depths
        here, total = depths[credit.depth].nodes, self.credits.count
        match self.config.depth_weighting:
            case "none":
                text = f"weight {_n(credit.weight)}: depths are not weighted (depth_weighting=none)"
            case "inverse_frequency":
                text = (
                    f"weight {_n(credit.weight)} = {_count(total, 'agent')} of {self.batch} / "
                    f"({_count(len(depths), 'depth')} × {_count(here, 'agent')} at depth {credit.depth})"
                )
            case "discount":
                text = (
                    f"weight {_n(credit.weight)}: {_n(self.config.depth_discount)} to the power of the depth "
                    f"({credit.depth}), scaled so that the mean over the {_count(total, 'agent')} of {self.batch} is 1"
                )
        if self.most is None or here <= self.most:
            return credit.weight, text
        weight = credit.weight * here / self.most
        return weight, (
            f"{text}; × {here} / {self.most} because {self.most} of the {here} agents at this depth are picked at random and "
            f"the others are not trained: {_n(weight)}"
        )


def _pool_words(pool: Compared, node: Node) -> str:
    """Whose rewards a baseline is the mean of."""
    count = pool.count
    match pool.pool:
        case "roots":
            return f"{_count(count, 'other root')} of the group"
        case "depth":
            return f"{_count(count, 'agent')} at depth {node.depth} of the other runs of the group"
        case "goal":
            return f"{_count(count, 'agent')} of the other runs with the same goal and inputs"
        case "siblings":
            return f"{_count(count, 'other sub-agent')} of the same parent with a goal of the same kind"


def _own_words(node: Node) -> str:
    """Why a score is 0 that nobody gave."""
    if node.status.own_failure:
        return f" (the agent failed: {_status(node)})"
    if node.status.shared_limit:
        return f" (the run failed: {_status(node)})"
    return ""


def _missing_words(node: Node) -> str:
    """Why a node has no reward."""
    match success(node, root=node.parent is None).missing:
        case "unscored":
            return "It has no score: nothing is known of its reward."
        case "judge_error":
            return "It has no score: the judge failed."
        case _ if node.status.shared_limit:
            return f"It was stopped because the whole run reached a limit ({_status(node)}), which counts for the root only."
        case _:
            return f"It was stopped from outside ({_status(node)}), which is not the agent's doing."


def _rollout_words(reason: str, tree: ExecutionTree, config: CreditConfig) -> str:
    """Why a whole run is not trained."""
    match reason:
        case "baseline_only":
            return "The run is a further attempt at a launch of another run: a baseline only, which is not trained."
        case "stale":
            return f"The run is more than {config.max_staleness} updates older than the weights that are trained."
        case "version_unknown":
            return "The run does not say which version of the weights sampled it."
        case "root_unscored":
            return "The run is left out: its root has no score (`rao score` gives one)."
        case "root_judge_error":
            return "The run is left out: the judge failed to score its root."
        case _:
            return f"The run is left out: its root was stopped from outside ({_status(tree.root)})."


def _group_words(group: Group, config: CreditConfig) -> str:
    """Why no node of a group is trained, or none of one of its runs."""
    count = len(group.members)
    match group.verdict:
        case "group_too_small" if count == 1:
            return (
                "There is no baseline: no other scored attempt at this task is here, and an attempt is compared with others "
                f"(at least {config.least_group} are needed)."
            )
        case "group_too_small":
            return f"The group has {count} scored attempts, and at least {config.least_group} are needed."
        case "zero_advantage":
            return f"The group of {count} attempts teaches nothing: every advantage in it is 0."
        case _:
            return "No agent of its run can be trained."


def _node_words(reason: str, config: CreditConfig) -> str:
    match reason:
        case "untrainable":
            return "It is not trained: its model is frozen, or it checks another agent's work. Its reward counts in baselines."
        case "other_model":
            return "It is of another model than the one that is trained. Its reward counts in baselines."
        case "no_tokens":
            return "It sampled no tokens."
        case _:
            return f"Its conversation is longer than {config.max_length:,} tokens (max_length)."


def _status(node: Node) -> str:
    return node.status.value.replace("_", " ")


def _mean(values: Sequence[Fraction]) -> Fraction:
    return sum(values, Fraction(0)) / len(values) if values else Fraction(0)


def _listed(values: Sequence[Fraction], count: int | None = None) -> str:
    """The first of `count` numbers."""
    count = len(values) if count is None else count
    shown = ", ".join(map(_n, values[:LISTED]))
    return shown if count <= LISTED else f"{shown}, … ({count:,} in all)"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _n(value: Fraction | float) -> str:
    """A number with at most four significant digits after the point."""
    return f"{float(value) + 0.0:.4g}".replace("-", "−")
