"""Which options of `rao train` belong to which way of training: one that would do nothing is refused by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, Literal

import typer

from rao_rl.config import (
    CollectConfig,
    CreditConfig,
    Curriculum,
    ImitationSettings,
    JudgeConfig,
    UpdateConfig,
    check_groups,
    current_name,
)
from recursive_agent.errors import ConfigurationError

from .usage import flag_of, is_given

Kind = Literal[
    "reinforcement learning on traces",
    "reinforcement learning with --online",
    "imitation of traces",
    "imitation of an environment",
]
_OFFLINE: Kind = "reinforcement learning on traces"
_ONLINE: Kind = "reinforcement learning with --online"
_TRACES: Kind = "imitation of traces"
_ENV: Kind = "imitation of an environment"

_OPTIONS: dict[str, tuple[Kind, ...]] = {
    "epochs": (_OFFLINE, _TRACES),
    "optimizer_from": (_OFFLINE,),
    "generated": (_ONLINE,),
    "eval_tasks": (_ONLINE,),
    "judge": (_ONLINE,),
    "judge_base_url": (_ONLINE,),
    "ray": (_ONLINE,),
    "ray_actors": (_ONLINE,),
    "ray_resource": (_ONLINE,),
    "minutes": (_TRACES, _ENV),
    "tokens": (_TRACES, _ENV),
    "threshold": (_TRACES,),
    "noise": (_ENV,),
    "compile": (_TRACES, _ENV),
}
"""Parameter to the ways of training that it belongs to; those of all are not here."""
_SETTINGS: dict[Kind, tuple[str, ...]] = {
    _OFFLINE: ("credit.", "update.", "collect.tasks_per_step", "collect.temperature"),
    _ONLINE: ("credit.", "update.", "collect.", "online.", "sampler.", "judge."),
    _TRACES: ("imitation.",),
    _ENV: ("imitation.", "lessons."),
}
_TWICE = {
    "lr": ("update.learning_rate", "imitation.learning_rate"),
    "save_steps": ("update.save_steps", "imitation.save_steps"),
    "noise": ("lessons.drop_child", "lessons.wrong_count"),
    "report_to": ("update.report_to", "imitation.report_to"),
    "judge": ("judge.model",),
    "judge_base_url": ("judge.base_url",),
}
"""Options that only give a setting another default. (--steps and --generated take precedence over theirs.)"""


def kind_of(objective: str, *, online: bool, traces: bool) -> Kind:
    """The way of training that a command line means."""
    if objective == "imitation":
        return _TRACES if traces else _ENV
    return _ONLINE if online else _OFFLINE


def check_applies(
    context: typer.Context, chosen: Mapping[str, Any], defaults: Mapping[str, Any], texts: Sequence[str], kind: Kind
) -> None:
    """Raises ConfigurationError for an option or setting that would do nothing, and for one that is given twice.

    `chosen` and `defaults` are the sections of settings, `texts` what `--set` was given.
    """
    given = {text: flag_of(context, text) for text in {*_OPTIONS, *_TWICE} if is_given(context, text)}
    for name, flag in sorted(given.items()):
        if name in _OPTIONS and kind not in _OPTIONS[name]:
            raise ConfigurationError(f"{flag} has no effect on {kind}; it belongs to {' and '.join(_OPTIONS[name])}")
    named = {current_name(text.partition("=")[0].strip()) for text in texts}
    for name, flag in sorted(given.items()):
        if both := named.intersection(_TWICE.get(name, ())):
            raise ConfigurationError(f"{flag} and --set {min(both)} are the same setting: give one of them")
    for section, default in defaults.items():
        for item in fields(default):
            name = f"{section}.{item.name}"
            unused = not name.startswith(_SETTINGS[kind])
            if unused and name in named and getattr(chosen[section], item.name) != getattr(default, item.name):
                raise ConfigurationError(f"--set {name} has no effect on {kind}; leave it out")


def check_demonstrations(
    imitation: ImitationSettings, lessons: Curriculum, env: str | None, *, lessons_fit: bool
) -> None:
    """Raises ConfigurationError for a setting of which demonstrations that does not belong to where they come from.

    `lessons_fit`: they are TextCraft's lessons. Otherwise those of `env`, or recorded traces if that is None.
    """
    names = ("levels", "single_share", "short_first")
    own = [name for name in names if getattr(imitation, name) != getattr(ImitationSettings(), name)]
    if env is None and (chosen := sorted({*own} - {"short_first"})):
        raise ConfigurationError(f"imitation.{chosen[0]} chooses demonstrations of --env; recorded traces have none")
    if own and lessons_fit:
        instead = {"levels": "difficulties", "single_share": "single_share"}.get(own[0])
        raise ConfigurationError(
            f"imitation.{own[0]} has no effect on the lessons of textcraft"
            + (f": set lessons.{instead}" if instead else "")
        )
    plain = Curriculum(seed=lessons.seed)
    changed = [item.name for item in fields(Curriculum) if getattr(lessons, item.name) != getattr(plain, item.name)]
    if changed and env is not None and not lessons_fit:
        instead = {"single_share": "imitation.single_share", "difficulties": "imitation.levels"}.get(changed[0])
        raise ConfigurationError(
            f"lessons.{changed[0]} (or --noise) belongs to the lessons of --env textcraft without --env-set"
            + (f"; set {instead}" if instead else "")
        )


def check_together(chosen: Mapping[str, Any], *, online: bool, eval_tasks: str) -> None:
    """Raises ConfigurationError for settings that contradict each other, or of which one needs another."""
    credit, update, collect = chosen["credit"], chosen["update"], chosen["collect"]
    if credit.depth_discount != 1 and credit.depth_weighting != "discount":
        raise ConfigurationError("credit.depth_discount has no effect without credit.depth_weighting=discount")
    if credit.shaping_updates != CreditConfig().shaping_updates and not (credit.parallel_bonus or credit.finish_bonus):
        raise ConfigurationError(
            "credit.shaping_updates has no effect without credit.parallel_bonus or credit.finish_bonus"
        )
    if credit.baseline == "ema_depth" and credit.min_group != CreditConfig().min_group:
        raise ConfigurationError("credit.min_group has no effect with credit.baseline=ema_depth, which needs no group")
    if credit.baseline != "ema_depth" and credit.ema_decay != CreditConfig().ema_decay:
        raise ConfigurationError("credit.ema_decay has no effect without credit.baseline=ema_depth")
    if update.constant != 1 and update.normalize != "constant":
        raise ConfigurationError("update.constant has no effect without update.normalize=constant")
    if update.loss_type == "cispo" and update.epsilon != UpdateConfig().epsilon:
        raise ConfigurationError(
            "update.epsilon has no effect without update.loss_type=ppo; cispo uses update.epsilon_high"
        )
    if update.loss_type == "ppo" and update.epsilon_high != UpdateConfig().epsilon_high:
        raise ConfigurationError(
            "update.epsilon_high has no effect without update.loss_type=cispo; ppo uses update.epsilon"
        )
    if not online:
        return
    if chosen["judge"].model is None and chosen["judge"] != JudgeConfig():
        raise ConfigurationError("settings of the judge have no effect without one: name it with --judge MODEL")
    sampler = chosen["sampler"]
    check_groups(credit, collect)
    if (
        not collect.counterfactual_children
        and collect.counterfactual_launches != CollectConfig().counterfactual_launches
    ):
        raise ConfigurationError(
            "collect.counterfactual_launches has no effect without collect.counterfactual_children"
        )
    served = [name for name in ("base_url", "served_model", "served_folder") if getattr(sampler, name) is not None]
    if not sampler.name.startswith("vllm"):
        if served:
            raise ConfigurationError(
                f"sampler.{served[0]} needs a sampler.name that begins with vllm, not {sampler.name}"
            )
    elif not {"base_url", "served_model"} <= set(served):
        raise ConfigurationError(f"sampler.name={sampler.name} needs sampler.base_url and sampler.served_model")
    elif sampler.name == "vllm-reload" and "served_folder" not in served:
        raise ConfigurationError("sampler.name=vllm-reload needs sampler.served_folder, which vLLM serves")
    elif sampler.name == "vllm-lora" and update.lora_rank is None:
        raise ConfigurationError("sampler.name=vllm-lora pushes an adapter: set update.lora_rank, or use vllm-reload")
    if chosen["online"].eval_every and not eval_tasks:
        raise ConfigurationError("online.eval_every has no effect without --eval, which says on which tasks")
