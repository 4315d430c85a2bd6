"""What a run in a folder begins with, online and on recorded trees alike: checks, the place to resume from, the trainer."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from recursive_agent.checkpoint import FILE_NAME, CheckpointSettings
from recursive_agent.errors import ConfigurationError

from ..config import CreditConfig, UpdateConfig
from ..data.folder import Recorded
from ..data.sampling import narrowing
from ..processes import spreads_weights
from ..weights.causal_lm import position_limit
from ..weights.saving import check_apart, check_folder, saving
from .arguments import check_reporters, common
from .divergence import diverged_draws
from .folder import CHECKPOINTS, RunProgress, broken_checkpoints, last_checkpoint, show_by
from .online import Progress
from .optimizers import check_optimizer, check_schedule, read_arguments
from .record import Record, Say
from .reporters import reporters
from .safe_trainer import warmup_steps
from .together import Together
from .trainer import RaoArguments, RaoTrainer, Steps

TRACES = "traces"
SAMPLER = "sampler"
_WARMUP = 5
"""Steps of the warm-up of a long run."""
_FREE_TO_CHANGE = (
    "learning_rate",
    "warmup_steps",
    "lr_scheduler_type",
    "lr_scheduler_kwargs",
    "weight_decay",
    "max_grad_norm",
    "tokens_per_bin",
    "padding_free",
    "gradient_checkpointing",
    "sync_every_bin",
    "bf16",
    "save_steps",
    "save_total_limit",
    "async_save",
    "report_to",
)
FREE = (
    *(f"update.{name}" for name in _FREE_TO_CHANGE),
    *("online.max_steps", "online.max_generated_tokens", "online.eval_concurrency"),
    *("collect.max_in_flight", "collect.max_failures"),
    *("judge.base_url", "judge.concurrency", "judge.timeout", "judge.max_failures"),
)
"""Settings that may change when a run is resumed: how far and how fast it goes, not what it learns from."""


def check_update(update: UpdateConfig) -> None:
    """Raises ConfigurationError for names of an optimizer, a schedule or a reporter that do not work here."""
    check_reporters(update.report_to)
    check_optimizer(update.optim)
    read_arguments("optim_args", update.optim_args)
    check_schedule(
        update.lr_scheduler_type,
        read_arguments("lr_scheduler_kwargs", update.lr_scheduler_kwargs),
        learning_rate=update.learning_rate,
    )


def run_folder(output: str | Path, resume: bool, model: str | Path) -> Path:
    """Where the run goes. Trees and checkpoints of another run there would be taken for this one's."""
    folder = Path(output)
    check_apart(folder, model)
    if folder.exists():
        check_folder(folder)
    if not resume and any((folder / name).exists() for name in (TRACES, CHECKPOINTS)):
        raise ConfigurationError(
            f"{folder} already contains a run: continue it with --resume, or choose another folder"
        )
    return folder


def position(folder: Path, resume: bool, say: Say) -> tuple[Path | None, int, dict[str, Any]]:
    """The checkpoint to resume from, its steps, and the loop's counters there. A killed run may not have come to one."""
    last = last_checkpoint(folder / CHECKPOINTS) if resume else None
    if resume:
        for line in broken_checkpoints(folder / CHECKPOINTS):
            say(line)
        say("no checkpoint to resume from: the run begins anew" if last is None else f"resuming from {last.name}")
    if last is None:
        return None, -1, {}
    state = json.loads((last / "trainer_state.json").read_text(encoding="utf-8"))
    counters = state.get("stateful_callbacks", {}).get(Progress.__name__, {}).get("args", {})
    return last, int(state["global_step"]), counters


def passed_over(folder: Path, say: Say) -> frozenset[int]:
    """The batches on which an online run diverged, which it does not train on again."""
    numbers = frozenset(diverged_draws(folder))
    if numbers:
        listed = ", ".join(f"{number:,}" for number in sorted(numbers))
        say(f"the run diverged on batch {listed} of its attempts, which is left out from here on")
    return numbers


def redrawn(folder: Path, say: Say) -> Mapping[int, int]:
    """How often a run on recorded traces diverged at each of its steps, for which it takes other groups."""
    draws = diverged_draws(folder)
    if draws:
        listed = ", ".join(f"{number + 1:,}" for number in sorted(draws))
        say(f"the run diverged at step {listed}: other groups take the place of those that it was to learn from there")
    return draws


def check_vocabulary(recorded: Recorded, size: int, model: str | Path) -> None:
    """Raises ConfigurationError where a trace holds a token id that the model does not have."""
    for each in recorded.rows:
        highest = max((int(row.input_ids.max()) for rows in each.rows.values() for row in rows), default=0)
        if highest >= size:
            raise ConfigurationError(
                f"run {each.tree.run} was sampled by {each.tree.model} with token ids up to {highest}, and {model} has only "
                f"{size}: train the model that made the traces"
            )


def within_positions(credit: CreditConfig, policy: Any) -> CreditConfig:
    """No row longer than the positions that the model has is trained; `credit.max_length` may be lower still."""
    most = position_limit(policy)
    if most is None or (credit.max_length is not None and credit.max_length <= most):
        return credit
    return replace(credit, max_length=most)


def check_sampling(settings: CheckpointSettings, model: str | Path) -> None:
    """Raises ConfigurationError where `agent.json` has the model sampled from another distribution than its own.

    Temperature and top_p are those of `collect` in training.
    """
    own = {name: value for name, value in settings.sampling.items() if name not in ("temperature", "top_p")}
    if cut := narrowing(own):
        raise ConfigurationError(
            f"the {FILE_NAME} of {model} samples with {', '.join(cut)}, so log-probs would not be those of the policy; remove "
            "that from its sampling settings for the training"
        )


def make_trainer(
    folder: Path,
    policy: Any,
    update: UpdateConfig,
    steps: Steps,
    share: Callable[[int], float],
    tokenizer: Any,
    temperature: float,
    callbacks: list[Any],
    record: Record,
    *,
    length: int,
    together: Together,
    optimizer_from: Path | None = None,
) -> RaoTrainer:
    """The trainer of a run of `length` steps, which ends when `share(step)` is 1. `callbacks` end with `StopOnSignal`."""
    arguments = RaoArguments(
        **common(folder / CHECKPOINTS, update, report_to=update.report_to),
        max_steps=10**9,
        lr_scheduler_type=update.lr_scheduler_type,
        lr_scheduler_kwargs=read_arguments("lr_scheduler_kwargs", update.lr_scheduler_kwargs),
        schedule_steps=length,
        warmup_steps=warmup_steps(update.warmup_steps, _WARMUP, length),
        adam_beta1=0.9,
        adam_beta2=0.95,
        gradient_checkpointing=update.gradient_checkpointing,
        logging_steps=1,
        loss_type=update.loss_type,
        epsilon=update.epsilon,
        epsilon_high=update.epsilon_high,
        old_logprobs=update.old_logprobs,
        importance_sampling_mode=update.importance_sampling_mode,
        importance_sampling_clip_max=update.importance_sampling_clip_max,
        importance_sampling_clip_min=update.importance_sampling_clip_min,
        num_iterations=update.num_iterations,
        temperature=temperature,
        tokens_per_bin=update.tokens_per_bin,
        padding_free=update.padding_free,
        sync_every_bin=update.sync_every_bin,
    )
    trainer = RaoTrainer(
        policy,
        arguments,
        steps,
        pad_id=tokenizer.pad_token_id or 0,
        together=together,
        optimizer_from=optimizer_from,
    )
    if update.async_save and spreads_weights():
        trainer.saves_in_background = True
        trainer.args.save_total_limit = update.save_total_limit + 1  # the newest may not be complete yet
    also: Sequence[Any] = record.reporters  # each is a callback of the trainer too
    show_by(trainer, RunProgress(record, share, _describe), *also, *callbacks)
    return trainer


def open_reporters(folder: Path, update: UpdateConfig, rows: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Where else the figures go. A run that is resumed after `rows` hides what it had reported after them."""
    last = max((int(row.get("step", 0)) for row in rows), default=-1)
    with saving(folder):
        return reporters(check_reporters(update.report_to), folder, last=last)


def _describe(logs: dict[str, Any]) -> str:
    return f"reward {float(logs.get('reward', 0.0)):.3f} · entropy {float(logs.get('entropy', 0.0)):.3f}"
