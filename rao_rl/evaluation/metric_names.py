"""Every metric of training by its name in `metrics.jsonl`: what it means, its unit, and where pictures show it.

Names are TRL's where TRL has one. They are the same in `metrics.jsonl`, TensorBoard, Weights & Biases, `rao plot` and on the
training page.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

SUCCESS, POLICY, UPDATE, SHAPE = "Success", "Policy and sampler", "Update", "Delegation"
CREDIT, DATA, TOKENS, TIME, ALARMS, JUDGE, OTHER = "Credit", "Data", "Tokens", "Time", "Alarms", "Judge", "Other"
GROUPS = (SUCCESS, SHAPE, POLICY, UPDATE, CREDIT, DATA, TOKENS, TIME, JUDGE, ALARMS, OTHER)
"""The parts of the training page, in order."""


@dataclass(frozen=True, slots=True)
class Metric:
    """What a metric is. `series` is its name within its chart; metrics with the same `chart` are drawn together."""

    label: str
    unit: str
    group: str
    meaning: str
    chart: str = ""
    series: str = ""


def _m(group: str, unit: str, label: str, meaning: str, chart: str = "", series: str = "") -> Metric:
    return Metric(label, unit, group, meaning, chart or label, series)


METRICS: Mapping[str, Metric] = {
    # of every line
    "step": _m(OTHER, "steps", "optimizer steps", "optimizer steps done"),
    "epoch": _m(OTHER, "passes", "passes over the data", "passes over the data; without meaning for online runs"),
    "loss": _m(
        UPDATE,
        "nats",
        "loss",
        "nats; RAO: Σ of the step's token losses / D, imitation: mean of −log p of the learnt tokens",
    ),
    "grad_norm": _m(UPDATE, "", "gradient norm", "L2 norm of the gradient before it is clipped"),
    "learning_rate": _m(UPDATE, "", "learning rate", "of the step that ended"),
    "train_runtime": _m(TIME, "s", "run time", "seconds of the run since it was begun or resumed (last line)"),
    "train_samples_per_second": _m(OTHER, "1/s", "batches a second", "optimizer steps' batches a second (last line)"),
    "train_steps_per_second": _m(OTHER, "1/s", "steps a second", "optimizer steps a second (last line)"),
    "train_loss": _m(OTHER, "nats", "mean loss", "mean loss (last line)"),
    "total_flos": _m(OTHER, "", "floating-point operations", "floating-point operations, estimated (last line)"),
    # of the policy at the sampled (imitation: the learnt) tokens
    "entropy": _m(POLICY, "nats a token", "entropy", "nats, mean over tokens"),
    "mean_token_accuracy": _m(
        SUCCESS, "share", "token accuracy", "share of the learnt tokens that are the most likely one (imitation)"
    ),
    "num_tokens": _m(
        TOKENS,
        "tokens",
        "tokens trained on",
        "tokens trained on since the run was begun or resumed, prompts included (imitation)",
    ),
    "sampling/importance_sampling_ratio/mean": _m(
        POLICY, "", "importance ratio ρ, mean", "ρ = π_θ / π_behaviour, mean over tokens"
    ),
    "sampling/importance_sampling_ratio/max": _m(POLICY, "", "importance ratio ρ, greatest", "greatest ρ of the step"),
    "sampling/sampling_logp_difference/mean": _m(
        POLICY,
        "nats a token",
        "difference of log-probs",
        "nats, mean of |log π_θ − log π_behaviour|",
    ),
    "clip_ratio/region_mean": _m(
        POLICY, "share", "tokens held back by clipping", "share of the tokens that the clipping holds back"
    ),
    "rao/mismatch_kl": _m(POLICY, "nats a token", "KL(sampler ‖ policy)", "nats, estimate of KL(π_behaviour ‖ π_θ)"),
    "rao/ratio_mean/depth_*": _m(
        POLICY,
        "",
        "ρ at depth *, mean",
        "ρ, mean over the tokens of agents at a depth",
        "importance ratio ρ by depth, mean",
        "depth *",
    ),
    "rao/ratio_max/depth_*": _m(
        POLICY,
        "",
        "ρ at depth *, greatest",
        "ρ, greatest over the tokens of agents at a depth",
        "importance ratio ρ by depth, greatest",
        "depth *",
    ),
    "rao/mismatch_kl/depth_*": _m(
        POLICY,
        "nats a token",
        "KL at depth *",
        "nats, KL(π_behaviour ‖ π_θ) over the tokens of agents at a depth",
        "KL(sampler ‖ policy) by depth",
        "depth *",
    ),
    "rao/ratio_mean/position_*": _m(
        POLICY,
        "",
        "ρ at tokens *, mean",
        "ρ, mean over the tokens at these places among those that an agent sampled, the first is 0",
        "importance ratio ρ by position, mean",
        "tokens *",
    ),
    "rao/ratio_max/position_*": _m(
        POLICY,
        "",
        "ρ at tokens *, greatest",
        "ρ, greatest over the tokens at these places among those that an agent sampled, the first is 0",
        "importance ratio ρ by position, greatest",
        "tokens *",
    ),
    "rao/mismatch_kl/position_*": _m(
        POLICY,
        "nats a token",
        "KL at tokens *",
        "nats, KL(π_behaviour ‖ π_θ) over the tokens at these places among those that an agent sampled, the first is 0",
        "KL(sampler ‖ policy) by position",
        "tokens *",
    ),
    "rao/importance_weight/mean": _m(
        POLICY,
        "",
        "importance weight, bounded",
        "importance weight after truncation or masking, mean over tokens (with update.importance_sampling_mode)",
    ),
    "rao/importance_weight/bounded": _m(
        POLICY,
        "share",
        "tokens truncated or masked",
        "share of the tokens whose importance weight was truncated or masked",
    ),
    "rao/policy_ratio/mean": _m(
        POLICY,
        "",
        "policy change π_θ / π_old, mean",
        "π_θ / π_old, mean over tokens and updates of a step (with update.old_logprobs=trainer)",
    ),
    "rao/policy_ratio/max": _m(
        POLICY, "", "policy change π_θ / π_old, greatest", "greatest π_θ / π_old (with update.old_logprobs=trainer)"
    ),
    # the size of a step
    "rao/trained_tokens": _m(TOKENS, "tokens", "tokens trained in a step", "sampled tokens that were trained"),
    "rao/trained_rows": _m(DATA, "rows", "rows trained in a step", "rows that were trained"),
    "rao/forwarded_over_logical_tokens": _m(
        OTHER,
        "",
        "forwarded / real tokens",
        "forwarded tokens / tokens of the rows; above 1 by padding, below 1 where rows repeat each other",
    ),
    # the trees of a step
    "reward": _m(SUCCESS, "share", "root success while training", "mean success of the roots, 0 to 1"),
    "reward_std": _m(
        SUCCESS,
        "",
        "spread of root success",
        "standard deviation (population) of the success of the roots",
    ),
    "frac_reward_zero_std": _m(
        CREDIT, "share", "groups without advantage", "share of the groups in which all advantages are 0"
    ),
    "rao/agents_per_tree": _m(SHAPE, "agents", "agents a tree", "agents, mean over trees"),
    "rao/steps_per_tree": _m(SHAPE, "steps", "steps a tree", "steps of all agents, mean over trees"),
    "rao/tokens_per_tree": _m(TOKENS, "tokens", "sampled tokens a tree", "sampled tokens, mean over trees"),
    "rao/critical_steps": _m(
        SHAPE,
        "model calls",
        "critical steps",
        "model calls on the longest chain of dependent calls of a tree, mean over trees",
    ),
    "rao/max_depth": _m(
        SHAPE, "levels", "depth of the deepest agent", "depth of the deepest agent, mean over trees; root = 0"
    ),
    "rao/fan_out": _m(
        SHAPE, "agents", "children of an agent that has some", "children of an agent that has some, mean"
    ),
    "rao/launch_rate": _m(SHAPE, "share", "roots that launch", "share of the roots that launched a sub-agent"),
    "rao/concurrent_share": _m(
        SHAPE, "share", "launches beside another", "share of the launches that ran beside another one"
    ),
    "rao/cancelled_agents": _m(
        SHAPE,
        "agents",
        "cancelled agents",
        "sub-agents that were cancelled, since their parent ended before them, of all trees",
    ),
    "rao/refused_launches": _m(SHAPE, "launches", "refused launches", "launches that a limit refused, of all trees"),
    "rao/forks": _m(
        DATA, "conversations", "forked conversations", "conversations that did not continue where they had ended"
    ),
    "rao/nodes/depth_*": _m(
        CREDIT, "agents", "agents at depth *", "N_d, agents at a depth", "agents by depth", "depth *"
    ),
    "rao/weight/depth_*": _m(CREDIT, "", "weight at depth *", "w_d", "weight w_d by depth", "depth *"),
    "rao/reward/depth_*": _m(
        CREDIT, "", "reward at depth *", "R, mean over the agents at a depth", "reward by depth", "depth *"
    ),
    "rao/success/depth_*": _m(
        SUCCESS,
        "share",
        "success at depth *",
        "s̃, mean over the scored agents at a depth",
        "success by depth",
        "depth *",
    ),
    "rao/advantage/depth_*": _m(
        CREDIT, "", "advantage at depth *", "A, mean over the agents at a depth", "advantage by depth", "depth *"
    ),
    "rao/launch_rate/depth_*": _m(
        SHAPE,
        "share",
        "launch rate at depth *",
        "share of the agents at a depth that launched a sub-agent",
        "launch rate by depth",
        "depth *",
    ),
    "rao/average/depth_*": _m(
        CREDIT,
        "",
        "average reward at depth *",
        "moving average of R at a depth after the step (credit.baseline=ema_depth)",
        "moving average of the reward by depth",
        "depth *",
    ),
    # what was left of the data, and why the rest was not trained
    "funnel/rollouts_dropped/*": _m(
        DATA, "trees", "trees left out: *", "trees that were left out, by reason", "trees left out, by reason", "*"
    ),
    "funnel/nodes_dropped/*": _m(
        DATA, "agents", "agents left out: *", "agents that were left out, by reason", "agents left out, by reason", "*"
    ),
    "funnel/rollouts*": _m(
        DATA, "trees", "trees*", "trees: all, then _scored, _kept, _trained", "from recorded to trained: trees", "*"
    ),
    "funnel/nodes*": _m(
        DATA, "agents", "agents*", "agents: all, then _scored, _kept, _trained", "from recorded to trained: agents", "*"
    ),
    "funnel/lost/*": _m(
        DATA, "attempts", "attempts lost: *", "attempts without a tree, by reason", "attempts lost, by reason", "*"
    ),
    # the online loop
    "rao/generated_tokens": _m(
        TOKENS,
        "tokens",
        "sampled",
        "tokens sampled in training since the run was begun",
        "tokens since the start",
        "sampled",
    ),
    "rao/total_tokens": _m(
        TOKENS,
        "tokens",
        "prompt and sampled",
        "the same and those of the prompts, as the endpoint counts them call by call",
        "tokens since the start",
        "prompt and sampled",
    ),
    "rao/batch": _m(OTHER, "", "number of the batch", "number of the batch of attempts"),
    "rao/recorded_trees": _m(
        DATA,
        "trees",
        "trees recorded before",
        "trees of the batch that had been recorded before, and were not rolled out again",
    ),
    "rao/skipped": _m(DATA, "batches", "skipped batches", "1: the batch had nothing to teach, and no step was taken"),
    "rao/push_error": _m(
        POLICY,
        "nats",
        "greatest",
        "nats, greatest |Δ log-prob| between sampler and trainer after the push",
        "sampler against trainer after the push",
        "greatest",
    ),
    "rao/push_error_mean": _m(
        POLICY,
        "nats",
        "mean",
        "nats, mean |Δ log-prob| between sampler and trainer after the push",
        "sampler against trainer after the push",
        "mean",
    ),
    "rao/push_share": _m(
        POLICY,
        "share",
        "update that the sampler shows",
        "share of the update that a sampler in half precision shows, where it can be told (see weights/probe.py)",
    ),
    "judge/calls": _m(JUDGE, "calls", "calls", "calls of the judge since the line before (with --judge)"),
    "judge/tokens": _m(
        JUDGE, "tokens", "tokens of the judge", "tokens that these calls read and wrote; no part of the tokens above"
    ),
    "judge/cached": _m(JUDGE, "verdicts", "cached verdicts", "verdicts that came from the cache since the line before"),
    "judge/failed/*": _m(
        JUDGE,
        "verdicts",
        "failed verdicts: *",
        "verdicts that failed since the line before, by reason",
        "failed verdicts",
        "*",
    ),
    "time/rollout": _m(TIME, "s", "rollout", "seconds, rolling out the batch", "seconds of a step", "rollout"),
    "time/wait": _m(
        TIME, "s", "waiting for it", "seconds that the training waited for it", "seconds of a step", "waiting for it"
    ),
    # the queue of attempts; "idle" does not count evaluations, and "left" means: for later steps
    "flow/trainer_wait": _m(
        TIME, "share", "trainer waits", "share of the time that training waited", "shares of waiting", "trainer"
    ),
    "flow/sampler_idle": _m(
        TIME, "share", "sampler idle", "share with free places and nothing to begin", "shares of waiting", "sampler"
    ),
    "flow/in_flight": _m(TIME, "trees", "trees in flight", "trees in flight, mean since the step before"),
    "flow/wait_for_old": _m(
        TIME, "s", "waiting for old groups", "seconds of waiting for a group that would become too old"
    ),
    "flow/staleness_mean": _m(
        DATA, "updates", "staleness", "updates that the oldest weights of the groups are behind", "staleness", "mean"
    ),
    "flow/staleness_max": _m(DATA, "updates", "staleness", "the same, greatest", "staleness", "greatest"),
    "flow/groups_left": _m(DATA, "groups", "groups left", "groups that have begun and are left for later steps"),
    "flow/taken_seconds": _m(
        SHAPE, "s", "seconds of trees taken", "seconds of a tree, mean over the step's", "seconds of a tree", "taken"
    ),
    "flow/left_seconds": _m(
        SHAPE, "s", "seconds of trees left", "of those left, seconds so far; at least", "seconds of a tree", "left"
    ),
    "flow/taken_tokens": _m(
        SHAPE, "tokens", "tokens of trees taken", "sampled tokens of a tree, mean", "tokens of a tree", "taken"
    ),
    "flow/left_tokens": _m(
        SHAPE, "tokens", "tokens of trees left", "the same of trees that have ended", "tokens of a tree", "left"
    ),
    "flow/length_bias": _m(
        SHAPE, "ratio", "length bias", "mean seconds of the trees used so far, over those of all that have begun"
    ),
    "time/push": _m(
        TIME,
        "s",
        "pushing weights",
        "seconds, pushing the weights and checking them",
        "seconds of a step",
        "pushing weights",
    ),
    "time/make": _m(
        TIME, "s", "making the step", "seconds, making the step of the trees", "seconds of a step", "making the step"
    ),
    "time/train": _m(
        TIME,
        "s",
        "forward and backward",
        "seconds, forward and backward",
        "seconds of a step",
        "forward and backward",
    ),
    "time/elapsed": _m(
        TIME,
        "s",
        "time of the run",
        "seconds of the run until this line, without the time between a stop and --resume",
    ),
    "eval/success/*": _m(
        SUCCESS,
        "share",
        "success on * tasks",
        "share of the evaluation tasks that the root solved, by level",
        "success on evaluation tasks",
        "*",
    ),
    "eval/success_low/*": _m(SUCCESS, "share", "lower end, * tasks", "lower end of its 95 % interval"),
    "eval/success_high/*": _m(SUCCESS, "share", "upper end, * tasks", "upper end of its 95 % interval"),
    "eval/tasks/*": _m(SUCCESS, "tasks", "evaluation tasks, *", "evaluation tasks that were attempted, by level"),
    "eval/agents/*": _m(
        SHAPE, "agents", "agents a tree, * tasks", "agents a tree, mean", "agents a tree, evaluation", "*"
    ),
    "eval/tokens/*": _m(
        TOKENS,
        "tokens",
        "sampled tokens a tree, * tasks",
        "sampled tokens a tree, mean",
        "sampled tokens a tree, evaluation",
        "*",
    ),
    "eval/depth/*": _m(SHAPE, "levels", "depth, * tasks", "deepest agent of a tree, mean", "depth, evaluation", "*"),
    "eval/concurrent_share/*": _m(
        SHAPE,
        "share",
        "launches beside another, * tasks",
        "share of the launches that ran beside another one",
        "launches beside another, evaluation",
        "*",
    ),
    "alarms/*": _m(ALARMS, "", "alarm: *", "1 while an alarm lasts, 0 where it ends", "alarms that last", "*"),
}
"""Name (`*` stands for what varies) to what it is. More special names stand before more general ones."""

_STAGES = {"": "recorded", "_scored": "scored", "_kept": "kept", "_trained": "trained"}


def metric(name: str) -> Metric:
    """What a metric is, with what `*` stands for put in; a metric that is not listed is named by itself."""
    if (found := METRICS.get(name)) is not None:
        return found
    for pattern, general in METRICS.items():
        if "*" in pattern and fnmatchcase(name, pattern):
            varies = name[len(pattern) - 1 :]
            shown = _STAGES.get(varies, varies).replace("_", " ")
            gap = " " if general.label.endswith("s*") else ""
            return replace(
                general,
                label=general.label.replace("*", gap + shown),
                series=general.series.replace("*", shown),
            )
    return Metric(name, "", OTHER, "", name)


def titled(name: str) -> str:
    """The label of a metric with its unit, as axes and panels show it."""
    found = metric(name)
    return f"{found.label} ({found.unit})" if found.unit else found.label
