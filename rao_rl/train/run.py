"""Recursive Agent Optimization as a run in a folder: a checkpoint and trees in, a better checkpoint out.

The loop on one page, with the names of this package and without resuming:

    policy, tokenizer, settings = load_checkpoint(model)            # weights/checkpoint.py
    policy = policy.to(training_device())                           # weights/hardware.py
    sync = open_sync(sampler, folder, policy)                       # weights/choose.py: a sampler, and the way to push weights
    collector = Collector(environment, sync.model, collect, folder) # rollouts/batches.py
    for number in range(online.max_steps):
        await sync.push(policy, number)                             # weights/sync.py: the sampler samples with these weights
        batch = await collector.batch(number)                       # G attempts at each task, one trace a tree
        rows = [TreeRows.of(tree) for tree in batch.trees]          # data/rows.py: the tokens that were sampled
        step = step_of(rows, credit, version=number)                # steps.py: reward, baseline, A, w_d, D
        for bin in pack(map(len, step.samples), tokens_per_bin):    # packing.py
            bin = collate(bin)                                      # trainer.py: tensors, rows behind each other
            scored = policy(**bin.arguments, at=…, targets=…)       # logprobs.py: log π_θ of the sampled tokens
            token_losses(scored.per_token_logps, bin.sampling_per_token_logps, bin.coefficients / D).sum().backward()
        optimizer.step()
    write_checkpoint(folder, policy, tokenizer, settings)

`online.py` is the outer part of the loop, `trainer.py` the inner one. `offline.py` gives the steps of recorded trees instead.
What a run writes is said in `folder.py`, every metric in `metrics.py`, every setting in `rao_rl/config.py`.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from recursive_agent.checkpoint import FILE_NAME, CheckpointSettings
from recursive_agent.errors import ConfigurationError
from recursive_agent.repl import UNSET, Require, Unset

from ..config import CollectConfig, CreditConfig, OnlineConfig, SamplerConfig, UpdateConfig, check_groups
from ..data.folder import Recorded, check_one_policy, temperature_of
from ..data.sampling import narrowing
from ..envs.arguments import Plain, as_texts
from ..envs.base import Environment, Task
from ..errors import TrainingStopped
from ..rollouts.batches import Collector
from ..scoring.config import NO_JUDGE, JudgeConfig
from ..scoring.needs import check_scored
from ..scoring.opening import check_judge
from ..weights.adapters import adapted, halves_base, merged
from ..weights.causal_lm import position_limit
from ..weights.checkpoint import load_checkpoint, write_checkpoint
from ..weights.choose import open_sync
from ..weights.hardware import training_device
from ..weights.saving import check_apart, check_folder, check_savable, saving
from .arguments import check_reporters, common
from .divergence import diverged_draws, noted, set_aside
from .folder import (
    CHECKPOINTS,
    METRICS,
    RunProgress,
    StopOnSignal,
    broken_checkpoints,
    cut_metrics,
    is_first,
    last_checkpoint,
    place_of,
    processes,
    remember,
    show_by,
)
from .offline import OfflineSteps
from .online import OnlineLoop, Progress
from .provenance import not_its_own
from .record import Record, Say, silent
from .reporters import reporters
from .safe_trainer import check_given, check_sound, warmup_steps
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
    *("collect.max_in_flight", "collect.max_failures"),
    *("judge.base_url", "judge.concurrency", "judge.timeout", "judge.max_failures"),
)
"""Settings that may change when a run is resumed: how far and how fast it goes, not what it learns from."""


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
    judge: JudgeConfig = NO_JUDGE,
    eval_tasks: Sequence[Task] = (),
    arguments: Mapping[str, Plain] | None = None,
    resume: bool = False,
    require: Require | Unset = UNSET,
    say: Say = silent,
) -> Path:
    """Roll out → update → push the weights → repeat, from the checkpoint `model`; returns the folder of the new one.

    `judge` names the model that scores the agents whose score the environment does not know; without one they are not trained
    on. `arguments` are those that the environment was made with. `require` is passed to the sandbox of the rollouts (see
    `make_sandbox`). `say` is called with a sentence about whatever was left out or goes wrong without ending the run.

    With `resume`, a killed run continues with the same data order, optimizer, counters and metrics, and does not repeat
    recorded trees. SIGTERM and SIGINT save the run and end it at the next step, or at once during rollouts. Raises
    ConfigurationError for invalid settings, TrainingDiverged if the loss is not finite, WeightPushError if the sampler
    does not use the trainer's weights, and TrainingStopped after a signal.
    """
    if processes() > 1:
        raise ConfigurationError(
            "online training runs in one process; on several, roll out with `rao rollout` and train on its traces"
        )
    folder = _folder(output, resume, model)
    about = {
        "objective": "rao",
        "model": place_of(model),
        "environment": environment.name,
        "environment_arguments": as_texts(arguments or {}),
        "collect": asdict(collect),
        "credit": asdict(credit),
        "update": asdict(update),
        "online": asdict(online),
        "judge": judge.recorded(),
    }
    check_judge(judge)
    if (line := check_scored(environment, judge, credit, collect.mode)) is not None:
        say(line)
    check_groups(credit, collect)
    check_reporters(update.report_to)
    policy, tokenizer, settings = load_checkpoint(model, as_stored=halves_base(update))
    check_given(policy, model)
    check_sampling(settings, model)
    credit = within_positions(credit, policy)
    if (own := settings.environment) is not None:  # a policy of another environment is one of none
        now = own.model_copy(update={"arguments": dict(arguments or {})}) if own.name == environment.name else None
        settings = settings.model_copy(update={"environment": now})
    check_savable(folder, policy, tokenizer, settings)
    with saving(folder):
        changed = remember(folder, about, resume=resume, free=_FREE)
    last, done, counters = _position(folder, resume, say)
    with saving(folder):
        if aside := set_aside(folder / TRACES, max(0, done), changed):
            say(f"{aside:,} recorded attempts are set aside: weights sampled them that the run will not have again")
    with saving(folder):
        place = write_checkpoint(folder / SAMPLER, policy, tokenizer, settings)
    policy = adapted(policy, update).to(training_device())  # before a sampler is chosen for it
    sync = open_sync(sampler or SamplerConfig(), place, policy, temperature=collect.temperature)
    collector = Collector(environment, sync.model, collect, folder / TRACES)
    progress = Progress(**counters)
    metrics = folder / METRICS
    with saving(folder):
        rows = cut_metrics(
            metrics, done, lambda row: "train_runtime" in row or row.get("rao/batch", -1) >= progress.batches
        )
    stop = StopOnSignal()
    record = Record(folder, say, rows=rows, reporters=_reporters(folder, update, rows))
    with (
        stop.heeding(),
        record.ending(),
        OnlineLoop(
            collector,
            sync,
            policy,
            credit,
            online,
            normalization=update.normalization,
            judge=judge,
            progress=progress,
            metrics=metrics,
            record=record.write,
            eval_tasks=eval_tasks,
            evaluated=[row["step"] for row in rows if any(name.startswith("eval/") for name in row)],
            require=require,
            stopping=lambda: stop.number is not None,
            passed_over=_passed_over(folder, say) if resume else (),
            say=say,
        ) as loop,
        noted(folder, lambda: progress.batches - 1),
    ):
        trainer = _trainer(
            folder,
            policy,
            update,
            loop.steps,
            loop.share,
            tokenizer,
            collect.temperature,
            [progress, stop],
            record,
            length=online.max_steps,
        )
        with saving(folder):
            trainer.train(resume_from_checkpoint=None if last is None else str(last))
        if stop.number is not None and loop.share(trainer.state.global_step) < 1:
            raise TrainingStopped(stop.number, trainer.state.global_step)
        check_sound(policy)
        if not loop.finish(trainer.state.global_step) and stop.number is not None:
            raise TrainingStopped(stop.number, trainer.state.global_step)
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
    say: Say = silent,
) -> Path:
    """Update the checkpoint `model` on recorded groups of trees; returns the folder of the new one.

    `temperature` is the sampling temperature of the traces (see `temperature_of`). `say` is called with a sentence about
    whatever was left out, does not fit or goes wrong without ending the run. SIGTERM and SIGINT end the run at the
    next step, and save it. Raises DataError where the traces are of several models or were sampled from another distribution
    than a model's own, ConfigurationError if a model with another vocabulary sampled them, TrainingStopped after a signal,
    and otherwise like `train_online`.
    """
    check_one_policy(recorded)
    temperature = temperature_of(recorded.trees, temperature)
    first = is_first()
    folder = _folder(output, resume, model) if first else Path(output)
    about = {
        "objective": "rao",
        "model": place_of(model),
        "runs": sorted(tree.run for tree in recorded.trees),
        "credit": asdict(credit),
        "update": asdict(update),
        "groups_per_step": groups_per_step,
        "temperature": temperature,
    }
    check_reporters(update.report_to)
    policy, tokenizer, settings = load_checkpoint(model, as_stored=halves_base(update))
    check_given(policy, model)
    credit = within_positions(credit, policy)
    source = OfflineSteps(
        recorded,
        credit,
        groups_per_step=groups_per_step,
        seed=update.seed,
        normalization=update.normalization,
    )
    check_vocabulary(recorded, policy.config.get_text_config().vocab_size, model)
    if first and (line := source.left_out()) is not None:
        say(line)
    if first:
        check_savable(folder, policy, tokenizer, settings)
        with saving(folder):
            remember(folder, about, resume=resume, free=_FREE)
    policy = adapted(policy, update)
    last, done, _ = _position(folder, resume, say if first else silent)
    rows: list[dict[str, Any]] = []
    if resume:
        source.redrawn = diverged_draws(folder)
        if source.redrawn and first:
            listed = ", ".join(f"{number + 1:,}" for number in sorted(source.redrawn))
            say(
                f"the run diverged at step {listed}: other groups take the place of those that it was to learn from there"
            )
    if first:
        with saving(folder):
            rows = cut_metrics(folder / METRICS, done, lambda row: "train_runtime" in row)
    steps = max_steps or max(1, round(epochs * source.steps_per_epoch))

    if first and update.warmup_steps is not None and update.warmup_steps > steps:
        say(
            f"update.warmup_steps={update.warmup_steps:,} is more than the {steps:,} steps of the run, which ends before the "
            "learning rate has risen to its value"
        )

    def rest(first: int) -> Iterator[Step]:
        return itertools.islice(source.steps(first), max(0, steps - first))

    stop = StopOnSignal()
    record = Record(
        folder,
        say,
        rows=rows,
        reporters=_reporters(folder, update, rows) if first else (),
        writes=first,
        on_first=lambda figures: not_its_own(figures, recorded, tokenizer, trained=settings.name),
    )
    trainer = _trainer(
        *(folder, policy, update, rest, lambda step: step / steps, tokenizer, temperature, [stop], record), length=steps
    )
    with stop.heeding(), record.ending(), saving(folder), noted(folder, lambda: source.number, write=first):
        trainer.train(resume_from_checkpoint=None if last is None else str(last))
    if stop.number is not None and trainer.state.global_step < steps:
        raise TrainingStopped(stop.number, trainer.state.global_step)
    prompted = recorded.trees[0].settings
    if not (Path(model) / FILE_NAME).is_file():  # the traces say how the agents were prompted
        settings = settings.model_copy(
            update={key: prompted[key] for key in ("prompt_style", "action_format") if key in prompted}
        )
    # Sharded weights (FSDP) are gathered by all processes together; an adapter's are whole in each.
    sharded = processes() > 1 and update.lora_rank is None
    weights = trainer.accelerator.get_state_dict(trainer.model_wrapped) if sharded else None
    if first:
        if weights is None:
            check_sound(policy)
        with saving(folder):
            write_checkpoint(folder, merged(policy), tokenizer, settings, weights=weights)
    return folder


def _passed_over(folder: Path, say: Say) -> frozenset[int]:
    """The batches on which an online run diverged, which it does not train on again."""
    numbers = frozenset(diverged_draws(folder))
    if numbers:
        listed = ", ".join(f"{number:,}" for number in sorted(numbers))
        say(f"the run diverged on batch {listed} of its attempts, which is left out from here on")
    return numbers


def check_vocabulary(recorded: Recorded, size: int, model: str | Path) -> None:
    """Raises ConfigurationError where a trace holds a token id that the model does not have."""
    for each in recorded.rows:
        highest = max((int(row.input_ids.max()) for rows in each.rows.values() for row in rows), default=0)
        if highest >= size:
            raise ConfigurationError(
                f"run {each.tree.run} was sampled by {each.tree.model} with token ids up to {highest}, and {model} has only "
                f"{size}: train the model that made the traces"
            )


def _folder(output: str | Path, resume: bool, model: str | Path) -> Path:
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


def _position(folder: Path, resume: bool, say: Say) -> tuple[Path | None, int, dict[str, Any]]:
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


def _trainer(
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
) -> RaoTrainer:
    arguments = RaoArguments(
        **common(folder / CHECKPOINTS, update, report_to=update.report_to),
        max_steps=10**9,
        lr_scheduler_type="constant_with_warmup",
        warmup_steps=warmup_steps(update.warmup_steps, _WARMUP, length),
        adam_beta1=0.9,
        adam_beta2=0.95,
        gradient_checkpointing=update.gradient_checkpointing,
        logging_steps=1,
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
    )
    also: Sequence[Any] = record.reporters  # each is a callback of the trainer too
    show_by(trainer, RunProgress(record, share, _describe), *also, *callbacks)
    return trainer


def _reporters(folder: Path, update: UpdateConfig, rows: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Where else the figures go. A run that is resumed after `rows` hides what it had reported after them."""
    last = max((int(row.get("step", 0)) for row in rows), default=-1)
    with saving(folder):
        return reporters(check_reporters(update.report_to), folder, last=last)


def _describe(logs: dict[str, Any]) -> str:
    return f"reward {float(logs.get('reward', 0.0)):.3f} · entropy {float(logs.get('entropy', 0.0)):.3f}"
