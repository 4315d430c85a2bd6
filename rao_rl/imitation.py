"""Imitation: cross-entropy on what a good agent wrote, and on nothing that it was merely shown.

Two sources: demonstrations of an environment's solver, made as they are needed (every sample is new), and the successful
nodes of recorded trees. Both end in the same `transformers.Trainer`, so checkpoints, resuming, several devices and
logging are its own.
"""

from __future__ import annotations

import itertools
import operator
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import IterableDataset
from transformers import TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from recursive_agent.checkpoint import CheckpointSettings, EnvironmentSettings
from recursive_agent.errors import ConfigurationError

from .bounds import Amount, Count, Positive, Seed, Share, Whole, check
from .encoding import IGNORED, RowEncoder, TokenRow, bins
from .export import context_window, end_ids, load_checkpoint, write_checkpoint
from .lessons import WORDS, Curriculum, DemonstrationBlocks, RecordedBlocks, read_successful, sample_texts
from .packing import ATTENTION, attends_fully
from .policy import Architecture, create, train_tokenizer
from .runs import (
    CHECKPOINTS,
    METRICS,
    SETTINGS,
    RunProgress,
    StopOnSignal,
    TrainingStopped,
    cut_metrics,
    last_checkpoint,
    multiplies_bf16,
    remember,
    steps_done,
)
from .safe_trainer import SafeTrainer, warmup_steps
from .saving import check_folder, check_savable, check_sound, saving
from .traces import left_out_text

Block = Callable[[int], Sequence[Sequence[TokenRow]]]
"""The rows of the steps of a block, by the number of the block: a function of that number alone."""

TEMPERATURE = 0.5
"""Sampling temperature of a policy trained from scratch."""
DEFAULT_STEPS = 2200
_NO_END = 10**9
_WARMUP = 50
"""Steps of the warm-up of a long run."""
_SHOWN = 3
"""Unreadable traces that are named."""
_TEXTS = 4000
"""Demonstrations that the tokenizer is made for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImitationConfig:
    """How to train. The length is `max_steps` (2,200 where not given), or `minutes` of wall time.

    The learning rate warms up (over `warmup_steps`; None: 50, or a tenth of a shorter run), stays, and falls to zero over the
    last `decay` of the run. `bf16` None: where the processor multiplies bfloat16 matrices in hardware. `compile` pays for
    its minute of preparation on long runs.
    """

    output_dir: str
    max_steps: Count | None = None
    minutes: Positive | None = None
    tokens_per_step: Count = 4096
    learning_rate: Positive = 2e-3
    warmup_steps: Whole | None = None
    decay: Share = 0.4
    weight_decay: Amount = 0.1
    max_grad_norm: Amount = 1.0
    seed: Seed = 0
    bf16: bool | None = None
    compile: bool = False
    save_steps: Count = 200
    logging_steps: Count = 20
    resume: bool = False

    def __post_init__(self) -> None:
        check(self)


_FREE = (
    "learning_rate",
    "warmup_steps",
    "decay",
    "weight_decay",
    "max_grad_norm",
    "bf16",
    "compile",
    "save_steps",
    "logging_steps",
    "max_steps",
    "minutes",
    "traces",
)
"""Settings that may change when a run is resumed: they change neither what is learnt from nor its order."""


class StepStream(IterableDataset[dict[str, torch.Tensor]]):
    """Batches of an endless stream of steps, each cut into `parts` batches of similar row length.

    The stream is a function of the position alone, so `start` (in steps) continues it exactly where a killed run stood.
    """

    def __init__(self, block: Block, *, parts: int, pad_id: int) -> None:
        self.block = block
        self.parts = parts
        self.pad_id = pad_id
        self.start = 0

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        position = 0
        for number in itertools.count():
            steps = self.block(number)
            for rows in steps[max(0, self.start - position) :]:
                batches = bins(rows, self.parts, pad_id=self.pad_id)
                for batch in batches:
                    yield {name: torch.from_numpy(array) for name, array in batch.items()}
                for _ in range(self.parts - len(batches)):
                    yield _filler(self.pad_id)
            position += len(steps)


def _filler(pad_id: int) -> dict[str, torch.Tensor]:
    """A batch that teaches nothing: an optimizer step always takes `parts` batches."""
    return {"input_ids": torch.full((1, 2), pad_id), "labels": torch.full((1, 2), IGNORED)}


class Schedule:
    """Learning-rate factor by progress: warm up, stay, fall linearly to zero.

    The scheduler's checkpoint holds `__dict__`, which is the time spent and nothing else: the settings are those of the
    run that goes on, so that a run may be made longer or shorter when it is resumed.
    """

    __slots__ = ("__dict__", "decay", "max_steps", "seconds", "warmup")

    def __init__(self, config: ImitationConfig) -> None:
        self.decay = config.decay
        self.max_steps = config.max_steps or DEFAULT_STEPS
        length = self.max_steps if config.minutes is None else _NO_END
        self.warmup = warmup_steps(config.warmup_steps, _WARMUP, length)
        self.seconds = None if config.minutes is None else 60 * config.minutes
        self.elapsed = 0.0

    def __call__(self, step: int) -> float:
        """The factor at an optimizer step."""
        left = 1 - self.progress(step)
        falling = left / self.decay if self.decay else float(left > 0)
        return max(0.0, min(1.0, (step + 1) / max(1, self.warmup), falling))

    def progress(self, step: int) -> float:
        """Share of the run that is done."""
        return step / self.max_steps if self.seconds is None else self.elapsed / self.seconds


class _Clock(TrainerCallback):
    """Adds up the time that training takes, where a run's length is given in minutes."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.last = time.monotonic()

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.last = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        now = time.monotonic()
        self.schedule.elapsed += now - self.last
        self.last = now


class _Imitator(SafeTrainer):
    """Stops where the loss is no number."""

    def training_step(self, *args: Any, **options: Any) -> torch.Tensor:
        """Forward and backward of one batch; its loss."""
        loss: torch.Tensor = super().training_step(*args, **options)
        self._check_loss(loss)
        return loss


def train(
    model: torch.nn.Module,
    block: Block,
    config: ImitationConfig,
    *,
    pad_id: int,
    parts: int = 4,
) -> float:
    """Train `model` in place on the steps of `block`, and return the mean loss of the last logged steps.

    Checkpoints go to `output_dir/checkpoints`, metrics to `output_dir/metrics.jsonl`. With `resume`, a killed run goes on
    from its last checkpoint, with the samples that would have come next, or begins anew where it had none yet. SIGTERM and
    SIGINT end it at the next step, which is saved.

    Raises ConfigurationError where there is nothing to resume or to learn from, or nothing can be written; TrainingDiverged
    for a loss, a gradient or weights that are no numbers; TrainingStopped after a signal.
    """
    output = check_folder(config.output_dir)
    checkpoints = output / CHECKPOINTS
    if not any(block(0)):
        raise ConfigurationError("there is nothing to learn from: not one row of tokens is left")
    stream = StepStream(block, parts=parts, pad_id=pad_id)
    last = last_checkpoint(checkpoints) if config.resume else None
    if last is not None:
        stream.start = steps_done(last)
    elif config.resume and not (output / SETTINGS).is_file():
        raise ConfigurationError(f"{checkpoints} holds no checkpoint to resume from")
    cut_metrics(output / METRICS, stream.start if last is not None else -1)
    schedule = Schedule(config)
    bf16 = config.bf16 if config.bf16 is not None else multiplies_bf16()
    arguments = TrainingArguments(
        output_dir=str(checkpoints),
        max_steps=schedule.max_steps if config.minutes is None else _NO_END,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=parts,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        adam_beta2=0.98,
        max_grad_norm=config.max_grad_norm,
        use_cpu=not torch.cuda.is_available(),
        bf16=bf16,
        torch_compile=config.compile,
        seed=config.seed,
        save_steps=config.save_steps,
        save_total_limit=1,
        logging_steps=config.logging_steps,
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        ignore_data_skip=True,
        dataloader_pin_memory=False,
    )
    decayed = [value for value in model.parameters() if value.ndim > 1]
    plain = [value for value in model.parameters() if value.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}],
        lr=config.learning_rate,
        betas=(0.9, 0.98),
    )
    stop = StopOnSignal()
    trainer = _Imitator(
        model=model,
        args=arguments,
        train_dataset=stream,
        data_collator=operator.itemgetter(0),
        optimizers=(optimizer, LambdaLR(optimizer, schedule)),
        callbacks=[
            _Clock(schedule),
            stop,
            RunProgress(output / METRICS, schedule.progress, lambda logs: f"loss {float(logs['loss']):.4f}"),
        ],
    )
    for printer in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(printer)
    with stop.heeding(), saving(output):
        trainer.train(resume_from_checkpoint=None if last is None else str(last))
    if stop.number is not None and schedule.progress(trainer.state.global_step) < 1:
        raise TrainingStopped(stop.number, trainer.state.global_step)
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return float(losses[-1]) if losses else float("nan")


def train_on_demonstrations(
    config: ImitationConfig,
    curriculum: Curriculum,
    architecture: Architecture | None = None,
    *,
    model: str | Path | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> float:
    """Make a policy for TextCraft from nothing but demonstrations, and write its checkpoint to `config.output_dir`.

    With `model`, that checkpoint is trained on instead of a fresh policy. `say` is told what one should know of the data.
    Returns the last logged loss. Raises as `train`, and ConfigurationError where `resume` meets other settings than the run
    began with, for no such checkpoint and for one that could not be saved.
    """
    shape = architecture or Architecture()
    if model is None:
        tokenizer = train_tokenizer(
            sample_texts(curriculum, _TEXTS),
            words=WORDS,
            vocabulary=shape.vocabulary,
            context_length=shape.context_length,
        )
        policy: Any = create(shape, tokenizer, seed=config.seed)
        settings = CheckpointSettings(
            name="rao-textcraft",
            prompt_style="minimal",
            action_format="fenced",
            context_length=shape.context_length,
            sampling={"temperature": TEMPERATURE, "max_tokens": 512},
            environment=EnvironmentSettings(name="textcraft"),
        )
    else:
        policy, tokenizer, settings = load_checkpoint(model)
    if attends_fully(policy.config) and policy.config.model_type == "qwen3":
        policy.set_attn_implementation(ATTENTION)
    encoder = RowEncoder(tokenizer, end_ids=end_ids(policy, tokenizer))
    window = context_window(policy, tokenizer)
    blocks = DemonstrationBlocks(encoder, curriculum, tokens=config.tokens_per_step, context_length=window)
    _check_ids((row for step in blocks(0) for row in step), policy)
    _end_answers(policy, encoder, say)
    began = {"architecture": asdict(shape)} if model is None else {"model": str(model)}
    _begin(config, policy, tokenizer, settings, curriculum=asdict(curriculum), **began)
    loss = train(policy, blocks, config, pad_id=_pad(tokenizer))
    return _finish(config, policy, tokenizer, settings, loss)


def train_on_traces(
    config: ImitationConfig,
    traces: str | Path,
    model: str | Path,
    *,
    threshold: float = 1.0,
    epochs: float = 3.0,
    say: Callable[[str], None] = lambda line: None,
) -> float:
    """Train the checkpoint `model` on what the successful agents of recorded trees wrote.

    The text is tokenised anew by `model`'s tokenizer, so the traces may come from any other model. `epochs` counts where
    `config` gives neither steps nor minutes. Conversations longer than the model's window are cut there; `say` is told how
    many, as of everything that is left out. Returns the last logged loss. Raises as `train`, and ConfigurationError where
    there is nothing to learn from, for no such checkpoint and for one that could not be saved.
    """
    recorded = read_successful(traces, threshold=threshold)
    policy, tokenizer, settings = load_checkpoint(model)
    if recorded.left_out:
        say(f"traces left out: {left_out_text(recorded.left_out)}")
    for problem in recorded.problems[:_SHOWN]:
        say(problem)
    encoder = RowEncoder(tokenizer, end_ids=end_ids(policy, tokenizer))
    window = context_window(policy, tokenizer)
    whole = [encoder.encode(messages) for messages in recorded.conversations]
    rows = [row for each in whole if any((row := each.cut(window)).completion_mask)]
    long = sum(row.cut(window) is not row for row in whole)
    if long:
        say(
            f"{long:,} of {len(whole):,} conversations are longer than the model's window of {window:,} tokens: "
            f"{len(whole) - len(rows):,} left out (no answer begins in it), {long - len(whole) + len(rows):,} cut there"
        )
    if not rows:
        raise ConfigurationError(
            f"nothing to learn from: each of the {len(whole):,} conversations is too long, no answer begins within the "
            f"{window or 0:,} tokens of the model's window"
        )
    if encoder.folded:
        say(
            "the model's chat template knows no system messages: their text stands before the first message of the user"
        )
    _check_ids(rows, policy)
    _end_answers(policy, encoder, say)
    style = {"prompt_style": recorded.prompt_style, "action_format": recorded.action_format}
    settings = settings.model_copy(update=style)
    counts = {"trained": len(rows), "left_out": len(whole) - len(rows), "longer_than_window": long}
    told = {"model": str(model), "traces": str(traces), "runs": recorded.runs, "threshold": threshold}
    _begin(config, policy, tokenizer, settings, **told, conversations=counts)
    blocks = RecordedBlocks(rows, tokens=config.tokens_per_step, seed=config.seed)
    if config.max_steps is None and config.minutes is None:
        config = replace(config, max_steps=max(1, round(epochs * len(blocks(0)))))
    loss = train(policy, blocks, config, pad_id=_pad(tokenizer))
    return _finish(config, policy, tokenizer, settings, loss)


def _begin(config: ImitationConfig, policy: Any, tokenizer: Any, settings: CheckpointSettings, **about: Any) -> None:
    """Everything that can stop a run, before it is written down and begun."""
    output = Path(config.output_dir)
    if not config.resume and last_checkpoint(output / CHECKPOINTS) is not None:
        raise ConfigurationError(f"{output} holds a run: go on with --resume, or take another folder")
    told = {name: value for name, value in asdict(config).items() if name not in ("output_dir", "resume")}
    check_savable(output, policy, tokenizer, settings)
    remember(output, {**told, **about}, resume=config.resume, free=_FREE)


def _finish(config: ImitationConfig, policy: Any, tokenizer: Any, settings: CheckpointSettings, loss: float) -> float:
    check_sound(policy)
    with saving(config.output_dir):
        write_checkpoint(config.output_dir, policy, tokenizer, settings)
    return loss


def _end_answers(policy: Any, encoder: RowEncoder, say: Callable[[str], None]) -> None:
    """Let the checkpoint name the tokens that its answers end with, or nothing that samples from it would stop."""
    config = policy.generation_config
    known = config.eos_token_id
    named = {known} if isinstance(known, int) else set(known or ())
    if new := sorted(encoder.ends - named):
        ends = sorted(named | encoder.ends)
        config.eos_token_id = ends[0] if len(ends) == 1 else ends
        tokens = ", ".join(repr(encoder.tokenizer.convert_ids_to_tokens(token)) for token in new)
        say(f"answers end with {tokens}, which the model did not name as an end; its generation_config does now")


def _check_ids(rows: Iterable[TokenRow], policy: Any) -> None:
    size = policy.get_input_embeddings().weight.shape[0]
    most = max((max(row.ids) for row in rows), default=0)
    if most >= size:
        raise ConfigurationError(
            f"the tokenizer gives token ids up to {most:,}, and the model has only {size:,} tokens: they do not belong together"
        )


def _pad(tokenizer: Any) -> int:
    return tokenizer.pad_token_id or 0
