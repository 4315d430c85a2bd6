"""Recursive Agent Optimization as a run in a folder: a checkpoint and trees in, a better checkpoint out."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from recursive_agent.checkpoint import FILE_NAME
from recursive_agent.errors import ConfigurationError
from recursive_agent.repl import UNSET, Require, Unset

from .bounds import Amount, Count, Positive, Seed, Share, Whole, check
from .collect import CollectConfig, Collector
from .credit import CreditConfig
from .envs.base import Environment, Task
from .export import load_checkpoint, write_checkpoint
from .loss import LossType, Normalize
from .offline import OfflineSteps, Recorded
from .online import OnlineConfig, OnlineLoop, Progress
from .runs import (
    CHECKPOINTS,
    METRICS,
    RunProgress,
    StopOnSignal,
    TrainingStopped,
    cut_metrics,
    last_checkpoint,
    multiplies_bf16,
    remember,
)
from .safe_trainer import warmup_steps
from .samplers import SamplerConfig, open_sync
from .saving import check_folder, check_reporters, check_savable, check_sound, saving
from .traces import temperature_of
from .trainer import RaoArguments, RaoTrainer, Step, Steps

TRACES = "traces"
SAMPLER = "sampler"
_WARMUP = 5
"""Steps of the warm-up of a long run."""
_FREE_TO_CHANGE = (
    "learning_rate",
    "warmup_steps",
    "weight_decay",
    "max_grad_norm",
    "tokens_per_bin",
    "padding_free",
    "gradient_checkpointing",
    "bf16",
    "save_steps",
    "report_to",
)
_FREE = (
    *(f"update.{name}" for name in _FREE_TO_CHANGE),
    *("online.max_steps", "online.max_generated_tokens", "online.eval_concurrency"),
    *("collect.max_in_flight",),
)
"""Settings that may change when a run is resumed: how far and how fast it goes, not what it learns from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateConfig:
    """How weights are updated. `lora_rank` trains an adapter instead of all weights; `bf16` None: where hardware has it.

    The authors' settings: 3e-6 for full fine-tuning of a 4B model and 3e-5 with LoRA of rank 32, weight decay 0.017, betas
    0.9 and 0.95, clipped at 1. A small policy takes larger steps.
    """

    learning_rate: Positive = 3e-6
    warmup_steps: Whole | None = None
    """Steps over which the learning rate rises to its value; None: 5, or a tenth of a shorter run."""
    weight_decay: Amount = 0.017
    max_grad_norm: Amount = 1.0
    """0 does not clip."""
    loss_type: LossType = "cispo"
    epsilon: Share = 0.2
    epsilon_high: Positive = 5.0
    normalize: Normalize = "token"
    constant: Positive = 1.0
    tokens_per_bin: Count = 16_384
    padding_free: bool = True
    """False forwards right-padded batches: for models with sliding windows or without an attention interface."""
    gradient_checkpointing: bool = False
    lora_rank: Count | None = None
    bf16: bool | None = None
    seed: Seed = 0
    save_steps: Count = 5
    report_to: str = "none"
    """Where else the metrics go (wandb, tensorboard, …), by transformers' names, separated by commas."""

    def __post_init__(self) -> None:
        check(self)


def train_online(
    output: str | Path,
    model: str | Path,
    environment: Environment,
    *,
    collect: CollectConfig,
    credit: CreditConfig,
    update: UpdateConfig,
    online: OnlineConfig,
    sampler: SamplerConfig | None = None,
    eval_tasks: Sequence[Task] = (),
    resume: bool = False,
    require: Require | Unset = UNSET,
) -> Path:
    """Roll out → update → push the weights → repeat, from the checkpoint `model`; returns the folder of the new one.

    `require` is that of the sandbox the rollouts run in (see `make_sandbox`).

    With `resume` a killed run goes on where it stood: same data order, optimizer, counters and metrics, and no tree that
    had been recorded is rolled out again. Raises ConfigurationError for settings that make no sense, TrainingDiverged for
    a loss that is no number, WeightPushError where the sampler does not hold the trainer's weights.
    """
    if _processes() > 1:
        raise ConfigurationError(
            "online training runs in one process; on several, roll out with `rao rollout` and train on its traces"
        )
    folder = _folder(output, resume)
    told = {
        "objective": "rao",
        "model": str(model),
        "environment": environment.name,
        "collect": asdict(collect),
        "credit": asdict(credit),
        "update": asdict(update),
        "online": asdict(online),
    }
    check_reporters(update.report_to)
    policy, tokenizer, settings = load_checkpoint(model)
    check_savable(folder, policy, tokenizer, settings)
    remember(folder, told, resume=resume, free=_FREE)
    last, done, counters = _position(folder, resume)
    with saving(folder):
        place = write_checkpoint(folder / SAMPLER, policy, tokenizer, settings)
    policy = adapted(policy, update)
    sync = open_sync(sampler or SamplerConfig(), place, policy)
    collector = Collector(environment, sync.model, collect, folder / TRACES)
    progress = Progress(**counters)
    metrics = folder / METRICS
    rows = cut_metrics(
        metrics, done, lambda row: "train_runtime" in row or row.get("rao/batch", -1) >= progress.batches
    )
    with OnlineLoop(
        collector,
        sync,
        policy,
        credit,
        online,
        normalize=update.normalize,
        constant=update.constant,
        progress=progress,
        metrics=metrics,
        eval_tasks=eval_tasks,
        evaluated=[row["step"] for row in rows if any(name.startswith("eval/") for name in row)],
        require=require,
    ) as loop:
        trainer = _trainer(
            folder,
            policy,
            update,
            loop.steps,
            loop.share,
            tokenizer,
            collect.temperature,
            [progress],
            length=online.max_steps,
        )
        with saving(folder):
            trainer.train(resume_from_checkpoint=None if last is None else str(last))
        check_sound(policy)
        loop.finish(trainer.state.global_step)
    with saving(folder):
        return write_checkpoint(folder, merged(policy), tokenizer, settings)


def train_offline(
    output: str | Path,
    model: str | Path,
    recorded: Recorded,
    *,
    credit: CreditConfig,
    update: UpdateConfig,
    groups_per_step: int = 16,
    epochs: float = 1.0,
    max_steps: int | None = None,
    temperature: float | None = None,
    resume: bool = False,
) -> Path:
    """Update the checkpoint `model` on recorded groups of trees; returns the folder of the new one.

    `temperature` is that of the traces (see `temperature_of`). SIGTERM and SIGINT end the run at the next step, which is
    saved. Raises ConfigurationError where the traces were not sampled by a model with this vocabulary, TrainingStopped after
    a signal, and as `train_online`.
    """
    temperature = temperature_of(recorded.trees, temperature)
    first = int(os.environ.get("RANK", "0")) == 0  # of the processes that accelerate starts
    folder = _folder(output, resume) if first else Path(output)
    told = {
        "objective": "rao",
        "model": str(model),
        "runs": sorted(tree.run for tree in recorded.trees),
        "credit": asdict(credit),
        "update": asdict(update),
        "groups_per_step": groups_per_step,
        "temperature": temperature,
    }
    check_reporters(update.report_to)
    policy, tokenizer, settings = load_checkpoint(model)
    source = OfflineSteps(
        recorded,
        credit,
        groups_per_step=groups_per_step,
        seed=update.seed,
        normalize=update.normalize,
        constant=update.constant,
    )
    check_vocabulary(recorded, policy.config.get_text_config().vocab_size, model)
    if first:
        check_savable(folder, policy, tokenizer, settings)
        remember(folder, told, resume=resume, free=_FREE)
    policy = adapted(policy, update)
    last, done, _ = _position(folder, resume)
    if first:
        cut_metrics(folder / METRICS, done, lambda row: "train_runtime" in row)
    steps = max_steps or max(1, round(epochs * source.steps_per_epoch))

    def rest(first: int) -> Iterator[Step]:
        return itertools.islice(source.steps(first), max(0, steps - first))

    stop = StopOnSignal()
    trainer = _trainer(
        folder, policy, update, rest, lambda step: step / steps, tokenizer, temperature, [stop], length=steps
    )
    with stop.heeding(), saving(folder):
        trainer.train(resume_from_checkpoint=None if last is None else str(last))
    if stop.number is not None and trainer.state.global_step < steps:
        raise TrainingStopped(stop.number, trainer.state.global_step)
    prompted = recorded.trees[0].settings
    if not (Path(model) / FILE_NAME).is_file():  # the traces say how the agents were prompted
        settings = settings.model_copy(
            update={key: prompted[key] for key in ("prompt_style", "action_format") if key in prompted}
        )
    # Sharded weights (FSDP) are gathered by all processes together; an adapter's are whole in each.
    sharded = _processes() > 1 and update.lora_rank is None
    weights = trainer.accelerator.get_state_dict(trainer.model_wrapped) if sharded else None
    if first:
        if weights is None:
            check_sound(policy)
        with saving(folder):
            write_checkpoint(folder, merged(policy), tokenizer, settings, weights=weights)
    return folder


def _processes() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def adapted(policy: Any, update: UpdateConfig) -> Any:
    """The policy, with a fresh LoRA adapter around it where one is to be trained."""
    if update.lora_rank is None:
        return policy
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=update.lora_rank, lora_alpha=2 * update.lora_rank, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    try:
        return get_peft_model(policy, config)
    except ValueError as error:  # an architecture without layers that it knows
        raise ConfigurationError(f"update.lora_rank: no adapter fits this model: {error}") from None


def merged(policy: Any) -> Any:
    """The policy with its adapter, if it has one, worked into the weights."""
    return policy.merge_and_unload() if hasattr(policy, "merge_and_unload") else policy


def check_vocabulary(recorded: Recorded, size: int, model: str | Path) -> None:
    """Raises ConfigurationError where a trace holds a token id that the model does not have."""
    for tree in recorded.trees:
        for node in tree.nodes.values():
            for step in node.steps:
                call = step.model
                ids = [*(call.prompt_token_ids or ()), *(call.token_ids or ())] if call is not None else []
                if ids and max(ids) >= size:
                    raise ConfigurationError(
                        f"run {tree.run} was sampled by {tree.model} with token ids up to {max(ids)}, and {model} has only "
                        f"{size}: train the model that made the traces"
                    )


def _folder(output: str | Path, resume: bool) -> Path:
    """Where the run goes. Trees and checkpoints of another run there would be taken for this one's."""
    folder = Path(output)
    if folder.exists():
        check_folder(folder)
    if not resume and any((folder / name).exists() for name in (TRACES, CHECKPOINTS)):
        raise ConfigurationError(f"{folder} holds a run: go on with --resume, or take another folder")
    return folder


def _position(folder: Path, resume: bool) -> tuple[Path | None, int, dict[str, int]]:
    """The checkpoint to go on from, its steps, and the loop's counters there. A killed run may not have come to one."""
    last = last_checkpoint(folder / CHECKPOINTS) if resume else None
    if last is None:
        return None, -1, {}
    state = json.loads((last / "trainer_state.json").read_text(encoding="utf-8"))
    counters = state.get("stateful_callbacks", {}).get(Progress.__name__, {}).get("args", {})
    return last, int(state["global_step"]), counters


def _trainer(
    folder: Path,
    policy: Any,
    update: UpdateConfig,
    steps: Steps,
    share: Callable[[int], float],
    tokenizer: Any,
    temperature: float,
    callbacks: list[Any],
    *,
    length: int,
) -> RaoTrainer:
    arguments = RaoArguments(
        output_dir=str(folder / CHECKPOINTS),
        max_steps=10**9,
        per_device_train_batch_size=1,
        learning_rate=update.learning_rate,
        lr_scheduler_type="constant_with_warmup",
        warmup_steps=warmup_steps(update.warmup_steps, _WARMUP, length),
        weight_decay=update.weight_decay,
        adam_beta1=0.9,
        adam_beta2=0.95,
        max_grad_norm=update.max_grad_norm,
        gradient_checkpointing=update.gradient_checkpointing,
        use_cpu=not torch.cuda.is_available(),
        bf16=multiplies_bf16() if update.bf16 is None else update.bf16,
        seed=update.seed,
        save_steps=update.save_steps,
        save_total_limit=1,
        logging_steps=1,
        logging_nan_inf_filter=False,
        report_to=check_reporters(update.report_to),
        disable_tqdm=True,
        remove_unused_columns=False,
        ignore_data_skip=True,
        dataloader_pin_memory=False,
        loss_type=update.loss_type,
        epsilon=update.epsilon,
        epsilon_high=update.epsilon_high,
        temperature=temperature,
        tokens_per_bin=update.tokens_per_bin,
        padding_free=update.padding_free,
    )
    trainer = RaoTrainer(
        policy,
        arguments,
        steps,
        pad_id=tokenizer.pad_token_id or 0,
        callbacks=[RunProgress(folder / METRICS, share, _describe), *callbacks],
    )
    logging: Any = transformers.utils.logging
    logging.disable_progress_bar()  # a bar for each checkpoint would break ours
    for printer in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(printer)
    return trainer


def _describe(logs: dict[str, Any]) -> str:
    return f"reward {float(logs.get('reward', 0.0)):.3f} · entropy {float(logs.get('entropy', 0.0)):.3f}"
