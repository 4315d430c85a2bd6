"""Recursive Agent Optimization as a run in a folder: a checkpoint and trees in, a better checkpoint out."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from recursive_agent.checkpoint import FILE_NAME
from recursive_agent.errors import ConfigurationError

from .collect import CollectConfig, Collector
from .credit import CreditConfig
from .envs.base import Environment, Task
from .export import load_checkpoint, write_checkpoint
from .loss import LossType, Normalize
from .offline import OfflineSteps, Recorded
from .online import OnlineConfig, OnlineLoop, Progress
from .runs import CHECKPOINTS, METRICS, RunProgress, cut_metrics, last_checkpoint, multiplies_bf16, remember
from .samplers import SamplerConfig, open_sync
from .trainer import RaoArguments, RaoTrainer, Step, Steps

TRACES = "traces"
SAMPLER = "sampler"


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateConfig:
    """How weights are updated. `lora_rank` trains an adapter instead of all weights; `bf16` None: where hardware has it.

    The authors' settings: 3e-6 for full fine-tuning of a 4B model and 3e-5 with LoRA of rank 32, weight decay 0.017, betas
    0.9 and 0.95, clipped at 1. A small policy takes larger steps.
    """

    learning_rate: float = 3e-6
    warmup_steps: int = 5
    weight_decay: float = 0.017
    max_grad_norm: float = 1.0
    loss_type: LossType = "cispo"
    epsilon: float = 0.2
    epsilon_high: float = 5.0
    normalize: Normalize = "token"
    constant: float = 1.0
    tokens_per_bin: int = 16_384
    gradient_checkpointing: bool = False
    lora_rank: int | None = None
    bf16: bool | None = None
    seed: int = 0
    save_steps: int = 5
    report_to: str = "none"


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
) -> Path:
    """Roll out → update → push the weights → repeat, from the checkpoint `model`; returns the folder of the new one.

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
        "update": asdict(replace(update, save_steps=0, report_to="none")),
        "online": asdict(replace(online, max_steps=1, max_generated_tokens=None)),
    }
    remember(folder, told, resume=resume)
    policy, tokenizer, settings = load_checkpoint(model)
    last, done, counters = _position(folder, resume)
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
    ) as loop:
        trainer = _trainer(folder, policy, update, loop.steps, loop.share, tokenizer, collect.temperature, [progress])
        trainer.train(resume_from_checkpoint=None if last is None else str(last))
        loop.finish(trainer.state.global_step)
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
    temperature: float = 1.0,
    resume: bool = False,
) -> Path:
    """Update the checkpoint `model` on recorded groups of trees; returns the folder of the new one.

    Raises ConfigurationError where the traces were not sampled by a model with this vocabulary, and as `train_online`.
    """
    first = int(os.environ.get("RANK", "0")) == 0  # of the processes that accelerate starts
    folder = _folder(output, resume) if first else Path(output)
    told = {
        "objective": "rao",
        "model": str(model),
        "runs": sorted(tree.run for tree in recorded.trees),
        "credit": asdict(credit),
        "update": asdict(replace(update, save_steps=0, report_to="none")),
        "groups_per_step": groups_per_step,
        "temperature": temperature,
    }
    if first:
        remember(folder, told, resume=resume)
    policy, tokenizer, settings = load_checkpoint(model)
    source = OfflineSteps(
        recorded,
        credit,
        groups_per_step=groups_per_step,
        seed=update.seed,
        normalize=update.normalize,
        constant=update.constant,
    )
    check_vocabulary(recorded, policy.config.vocab_size, model)
    policy = adapted(policy, update)
    last, done, _ = _position(folder, resume)
    if first:
        cut_metrics(folder / METRICS, done, lambda row: "train_runtime" in row)
    steps = max_steps or max(1, round(epochs * source.steps_per_epoch))

    def rest(first: int) -> Iterator[Step]:
        return itertools.islice(source.steps(first), max(0, steps - first))

    trainer = _trainer(folder, policy, update, rest, lambda step: step / steps, tokenizer, temperature, [])
    trainer.train(resume_from_checkpoint=None if last is None else str(last))
    prompted = recorded.trees[0].settings
    if not (Path(model) / FILE_NAME).is_file():  # the traces say how the agents were prompted
        settings = settings.model_copy(
            update={key: prompted[key] for key in ("prompt_style", "action_format") if key in prompted}
        )
    # Sharded weights (FSDP) are gathered by all processes together; an adapter's are whole in each.
    sharded = _processes() > 1 and update.lora_rank is None
    weights = trainer.accelerator.get_state_dict(trainer.model_wrapped) if sharded else None
    if first:
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
    return get_peft_model(policy, config)


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
    if not resume and any((folder / name).exists() for name in (TRACES, CHECKPOINTS)):
        raise ConfigurationError(f"{folder} holds a run: go on with --resume, or take another folder")
    return folder


def _position(folder: Path, resume: bool) -> tuple[Path | None, int, dict[str, int]]:
    """The checkpoint to go on from, its steps, and the loop's counters there. A killed run may not have come to one."""
    last = last_checkpoint(folder / CHECKPOINTS) if resume else None
    if last is None:
        return None, -1, {}
    state = json.loads((last / "trainer_state.json").read_text(encoding="utf-8"))
    counters = state["stateful_callbacks"].get(Progress.__name__, {}).get("args", {})
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
) -> RaoTrainer:
    arguments = RaoArguments(
        output_dir=str(folder / CHECKPOINTS),
        max_steps=10**9,
        per_device_train_batch_size=1,
        learning_rate=update.learning_rate,
        lr_scheduler_type="constant_with_warmup",
        warmup_steps=update.warmup_steps,
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
        report_to=update.report_to,
        disable_tqdm=True,
        remove_unused_columns=False,
        ignore_data_skip=True,
        dataloader_pin_memory=False,
        loss_type=update.loss_type,
        epsilon=update.epsilon,
        epsilon_high=update.epsilon_high,
        temperature=temperature,
        tokens_per_bin=update.tokens_per_bin,
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
