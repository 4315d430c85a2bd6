"""Every setting of training, in one place and without torch: import them from here.

    credit     CreditConfig     how trees become rewards, advantages and weights
    update     UpdateConfig     how an optimizer step of the RAO objective is taken
    collect    CollectConfig    what is rolled out for a step
    online     OnlineConfig     how the loop of rolling out and training runs
    sampler    SamplerConfig    which model the rollouts are sampled from
    judge      JudgeConfig      which model scores the agents whose score the environment does not know
    lessons    Curriculum       which demonstrations of TextCraft-Synth a model is shown
    imitation  ImitationConfig  how imitation is trained

The names on the left are the sections of `rao train --set SECTION.NAME=VALUE`; `sections` gives their defaults. Every class
checks its values when it is made and raises ConfigurationError, naming the setting.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from recursive_agent.errors import ConfigurationError
from recursive_agent.styles import ActionFormat, PromptStyle

from .bounds import Amount, Count, Few, Positive, Rank, Seed, Share, Whole, check
from .credit.config import CreditConfig
from .credit.normalization import Normalization, Normalize
from .envs.textcraft.tasks import level_named
from .rollouts.batches import CollectConfig
from .rollouts.choice import Order
from .scoring.config import JudgeConfig

__all__ = [
    "AcrossPush",
    "CollectConfig",
    "CreditConfig",
    "Curriculum",
    "ImitationConfig",
    "ImitationSettings",
    "ImportanceSamplingMode",
    "JudgeConfig",
    "LossType",
    "Normalization",
    "Normalize",
    "OldLogprobs",
    "OnlineConfig",
    "Order",
    "SamplerConfig",
    "SamplerName",
    "UpdateConfig",
    "check_groups",
    "current_name",
    "sections",
]

_RENAMED = {"collect.difficulty": "collect.level"}
"""Settings that older versions called otherwise: on command lines, and in the folders of their runs."""

AcrossPush = Literal["continue", "drain"]
LossType = Literal["cispo", "ppo"]
OldLogprobs = Literal["sampler", "trainer"]
ImportanceSamplingMode = Literal["token_truncate", "token_mask", "sequence_truncate", "sequence_mask"]
SamplerName = Literal["auto", "embedded", "torch", "vllm-lora", "vllm-reload", "vllm-nccl", "vllm-ipc"]


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateConfig:
    """Settings of updates with the RAO objective, with the names of TRL's GRPOConfig where it has the setting.

    The authors' settings: a learning rate of 3e-6 for full fine-tuning of a 4B model and 3e-5 with LoRA of rank 32, weight
    decay 0.017, betas 0.9 and 0.95, gradients clipped at a norm of 1. A small model needs a higher learning rate.
    """

    learning_rate: Positive = 3e-6
    warmup_steps: Whole | None = None
    """Steps over which the learning rate rises to its value; None: 5, or a tenth of a shorter run."""
    lr_scheduler_type: str = "constant_with_warmup"
    """How the learning rate goes on after the warm-up, by transformers' names: `cosine`, `linear`, … over the steps of the
    run."""
    lr_scheduler_kwargs: str = ""
    """Arguments of the schedule: NAME=VALUE, separated by commas."""
    optim: str = "adamw_torch_fused"
    """The optimizer, by transformers' names: `adamw_bnb_8bit` has 2 bytes of state a parameter instead of 8, `paged_adamw_8bit`
    moves them to the CPU where the GPU is full, `adafactor` has next to none."""
    optim_args: str = ""
    """Further arguments of the optimizer: NAME=VALUE, separated by commas."""
    weight_decay: Amount = 0.017
    max_grad_norm: Amount = 1.0
    """Largest norm of the gradient; a larger one is scaled down to it. 0 does not clip."""
    loss_type: LossType = "cispo"
    epsilon: Share = 0.2
    """PPO's clip range: ρ from 1 − epsilon to 1 + epsilon."""
    epsilon_high: Positive = 5.0
    """CISPO's largest ρ."""
    old_logprobs: OldLogprobs = "sampler"
    """The policy that ρ compares with: `sampler`, by the log-probs in the traces (the paper's); `trainer`, by log-probs that
    the trainer computes with its weights before the step's first update. Then the difference between trainer and sampler is
    a weight of its own, which `importance_sampling_mode` bounds."""
    importance_sampling_mode: ImportanceSamplingMode | None = None
    """How importance weights are bounded, for each token or for all tokens of an agent together (`sequence_…`): truncated to
    the bounds below, or left out (`…_mask`) beyond them. See `rao_rl/train/correction.py`."""
    importance_sampling_clip_max: Positive | None = 3.0
    """Largest importance weight; None: no upper bound."""
    importance_sampling_clip_min: Positive | None = None
    """Smallest importance weight; None: no lower bound."""
    num_iterations: Few = 1
    """Updates of each step, all on the same rows."""
    normalize: Normalize = "token"
    """What the loss of a step is divided by: its sampled tokens, its nodes, its rollouts, or `constant`."""
    constant: Positive = 1.0
    """The divisor of `normalize="constant"`."""
    tokens_per_bin: Count | None = None
    """Most tokens that are forwarded at once; a longer row is forwarded alone. None: what the free memory has room for, at
    most 16,384. What is learnt does not depend on it."""
    padding_free: bool = True
    """False forwards right-padded batches: for models with sliding windows or without an attention interface."""
    gradient_checkpointing: bool = False
    sync_every_bin: bool = False
    """On several processes: False adds the gradients of a step up in each process and reduces them once, after its last bin;
    with FSDP a process then holds a gradient of all weights (4 bytes a parameter). True reduces them after every bin, so that
    with N processes each holds 4/N bytes a parameter, and more is sent. What is learnt is the same."""
    lora_rank: Rank | None = None
    """Rank of a LoRA adapter to train instead of all weights."""
    bf16: bool | None = None
    """Mixed precision; None: on GPUs, and on processors with instructions for bfloat16 (avx512_bf16, AMX)."""
    seed: Seed = 0
    save_steps: Count = 5
    """Steps between checkpoints."""
    save_total_limit: Count = 1
    """Checkpoints that are kept. One is deleted only when a newer one, of sound weights, is whole."""
    async_save: bool = False
    """With FSDP: write checkpoints while training goes on, from a copy in the memory of the CPU (12/N bytes a parameter and
    process); one checkpoint more is kept."""
    report_to: str = "none"
    """Where else the metrics go (wandb, tensorboard, …), by transformers' names, separated by commas."""

    def __post_init__(self) -> None:
        check(self)
        if self.epsilon_high < 1:
            raise ConfigurationError(
                f"epsilon_high must be at least 1, not {self.epsilon_high:g}: it is the largest ρ, which is 1 as long as the "
                "policy has not changed"
            )
        if self.loss_type == "ppo" and not self.epsilon:
            raise ConfigurationError("epsilon must be more than 0 with loss_type=ppo, which would clip every update")
        if self.old_logprobs == "trainer" and self.importance_sampling_mode is None:
            raise ConfigurationError(
                "old_logprobs=trainer needs an importance_sampling_mode (such as token_truncate): otherwise nothing would "
                "correct the difference between the sampler's log-probs and the trainer's"
            )
        most, least = self.importance_sampling_clip_max, self.importance_sampling_clip_min
        if (most is not None and most < 1) or (least is not None and least > 1):
            raise ConfigurationError(
                "importance_sampling_clip_max must be at least 1 and importance_sampling_clip_min at most 1: where sampler and "
                "trainer agree, importance weights are 1"
            )

    @property
    def normalization(self) -> Normalization:
        """What the loss of a step is divided by."""
        return Normalization(normalize=self.normalize, constant=self.constant)


@dataclass(frozen=True, slots=True, kw_only=True)
class OnlineConfig:
    """Settings of the online loop. It ends after `max_steps` updates or `max_generated_tokens`, whichever comes first."""

    max_steps: Count = 100
    """Most updates."""
    max_generated_tokens: Count | None = None
    """Most tokens sampled in training."""
    max_staleness: Whole = 0
    """Attempts may be rolled out beside the training, by weights up to this many updates old."""
    order: Order = "completed"
    """Which groups a step takes: the first that are complete, or those that the plan has next. No difference without
    staleness."""
    across_push: AcrossPush = "continue"
    """Whether trees in flight go on across a push, each call by the weights of its time, or are waited for first (`drain`)."""
    seed: Seed = 0
    eval_every: Whole = 0
    """Steps between evaluations; 0: none. The last step is evaluated too."""
    eval_start: bool = True
    """Whether the policy that the run begins with is evaluated too."""
    eval_concurrency: Count = 16
    """Most evaluation trees at a time."""
    eval_temperature: Amount | None = None
    """Sampling temperature of evaluations; None: as in training."""

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplerConfig:
    """Which sampler makes the rollouts. `base_url` and `served_model` name a vLLM server, for the `vllm-…` samplers: or several
    that serve the same model, their URLs with commas between them."""

    name: SamplerName = "auto"
    """auto: embedded for a small policy on the CPU that has a graph for the light runtime, else torch, where the policy is."""
    base_url: str | None = None
    served_model: str | None = None
    served_folder: str | None = None
    """The checkpoint that `vllm-reload` rewrites: the one the server was started with, a copy of the model that is trained,
    never the only one. Several servers share it."""
    probe_tolerance: Positive | None = None
    """What the log-probs (in nats) of a server in half precision may differ by on average after a push; None: 0.1. That it has
    the new weights and not the old ones is tested besides."""

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImitationSettings:
    """Settings of imitation that are the same for every run of a kind.

    The learning rate rises during the warm-up, stays constant, and falls to zero over the last fraction `decay` of the run.
    """

    prompt_style: PromptStyle | None = None
    """How the model is prompted, in training and afterwards; None: as the traces were, or as the model's `agent.json` says,
    else `minimal`."""
    action_format: ActionFormat | None = None
    """The form of its answers, `fenced` or `tags`; None: like `prompt_style`, else `fenced`."""
    temperature: Amount | None = None
    """Sampling temperature of the trained model; None: that of the traces or of the model's `agent.json`, else 0.5."""
    demonstrations: Count = 200
    """Most demonstrations of an environment of your own that are run and imitated; of TextCraft they never end."""
    levels: tuple[str, ...] = ()
    """Levels of the tasks that such an environment demonstrates; none: all levels."""
    single_share: Share | None = None
    """Share of the text that agents write which work alone, of an environment whose argument `mode` is `single` or
    `recursive`; None: all demonstrations are those of the environment as it is."""
    short_first: Whole = 0
    """Steps until which the longer conversations are left out, fewer and fewer of them: what new weights learn on long
    conversations, they learn sooner on short ones. Of demonstrations of TextCraft none are left out."""
    context_length: Count | None = None
    """Tokens of the window of a policy from new weights; None: 2,048."""
    learning_rate: Positive | None = None
    """None: 2e-3 from scratch, 2e-4 for LoRA; for all weights 5e-4 of a small policy, 1e-4, or 2e-5 from a billion on."""
    lora_rank: Rank | None = None
    """Rank of a LoRA adapter to train instead of all weights."""
    warmup_steps: Whole | None = None
    """Steps over which the learning rate rises to its value; None: 50, or a tenth of a shorter run."""
    decay: Share = 0.4
    weight_decay: Amount = 0.1
    max_grad_norm: Amount = 1.0
    """0 does not clip."""
    gradient_checkpointing: bool = False
    seed: Seed = 0
    bf16: bool | None = None
    """Mixed precision; None: on GPUs, and on processors with instructions for bfloat16 (avx512_bf16, AMX)."""
    save_steps: Count = 200
    """Steps between checkpoints."""
    save_total_limit: Count = 1
    """Checkpoints that are kept."""
    optim: str = "adamw_torch_fused"
    """The optimizer, by transformers' names (see `UpdateConfig`)."""
    optim_args: str = ""
    """Further arguments of the optimizer: NAME=VALUE, separated by commas."""
    report_to: str = "none"
    """Where else the metrics go (wandb, tensorboard, …), by transformers' names, separated by commas."""
    logging_steps: Count = 1
    """Steps between lines of metrics."""

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImitationConfig(ImitationSettings):
    """A run of imitation. Training ends after `max_steps` (2,200 if neither is set) or `minutes` of wall time."""

    output_dir: str
    max_steps: Count | None = None
    minutes: Positive | None = None
    tokens_per_step: Few = 4096
    """Tokens of an optimizer step, prompts included."""
    compile: bool = False
    """torch.compile: pays for its minute of preparation on long runs."""
    resume: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Curriculum:
    """Which demonstrations of TextCraft-Synth a model is trained on."""

    seed: Seed = 0
    single_share: Share = 0.15
    """Share of the tokens that one agent alone writes."""
    difficulties: tuple[str, ...] = ("easy", "medium", "hard")
    single_difficulties: tuple[str, ...] = ("easy", "medium")
    """The difficulties of the tasks that one agent does alone."""
    drop_child: Share = 0.0
    """Probability of a delegation that forgets a child: a mistake leaves the policy something to learn."""
    wrong_count: Share = 0.0
    """Probability of a delegation that asks for a wrong number."""

    def __post_init__(self) -> None:
        for difficulty in (*self.difficulties, *self.single_difficulties):
            level_named(difficulty)
        if not self.difficulties or not self.single_difficulties:
            raise ConfigurationError("difficulties and single_difficulties must name at least one difficulty each")
        check(self)


def check_groups(credit: CreditConfig, collect: CollectConfig) -> None:
    """Raises ConfigurationError if a task gets fewer attempts than the baseline compares."""
    if collect.num_generations < 2 <= credit.least_group:
        raise ConfigurationError(
            "collect.num_generations must be at least 2, since an attempt is compared with the others at its task; one is "
            "enough with credit.baseline=ema_depth only"
        )
    if credit.baseline == "counterfactual" and not collect.counterfactual_children:
        raise ConfigurationError(
            "credit.baseline=counterfactual needs collect.counterfactual_children: how many further children are rolled out at "
            "a launch"
        )
    if collect.counterfactual_children and credit.baseline != "counterfactual":
        raise ConfigurationError("collect.counterfactual_children has no effect without credit.baseline=counterfactual")
    if credit.least_group > collect.num_generations:
        raise ConfigurationError(
            f"credit.min_group={credit.min_group} is more than collect.num_generations={collect.num_generations}, so no group "
            "could be trained on"
        )


def current_name(setting: str) -> str:
    """The name of a setting (`section.name`) today, for one that may be of an older version."""
    return _RENAMED.get(setting, setting)


def sections(
    *,
    seed: int = 0,
    learning_rate: float | None = None,
    save_steps: int | None = None,
    noise: float = 0.0,
    report_to: str = "none",
) -> dict[str, Any]:
    """The sections that `rao train --set` changes, with the defaults of a small policy."""
    # A policy of a few million parameters, which is what a CPU trains, takes larger steps than a large one.
    rate = 3e-4 if learning_rate is None else learning_rate
    update = UpdateConfig(learning_rate=rate, seed=seed, report_to=report_to)
    imitation = ImitationSettings(learning_rate=learning_rate, seed=seed, report_to=report_to)
    return {
        "credit": CreditConfig(),
        "update": update if save_steps is None else replace(update, save_steps=save_steps),
        "imitation": imitation if save_steps is None else replace(imitation, save_steps=save_steps),
        "collect": CollectConfig(seed=seed),
        "online": OnlineConfig(seed=seed),
        "sampler": SamplerConfig(),
        "judge": JudgeConfig(),
        "lessons": Curriculum(seed=seed, drop_child=noise, wrong_count=noise),
    }
