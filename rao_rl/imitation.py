"""Imitation: cross-entropy on what a good agent wrote, and on nothing that it was merely shown.

Two sources: demonstrations of an environment's solver, made as they are needed (every sample is new), and the successful
nodes of recorded trees. Both end in the same `transformers.Trainer`, so checkpoints, resuming, several devices and
logging are its own.
"""

from __future__ import annotations

import itertools
import operator
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import IterableDataset
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from recursive_agent.checkpoint import CheckpointSettings, EnvironmentSettings
from recursive_agent.errors import ConfigurationError

from .encoding import IGNORED, RowEncoder, TokenRow, bins
from .export import load_checkpoint, write_checkpoint
from .lessons import WORDS, Curriculum, DemonstrationBlocks, RecordedBlocks, read_successful, sample_texts
from .packing import ATTENTION
from .policy import Architecture, create, train_tokenizer
from .runs import CHECKPOINTS, METRICS, RunProgress, cut_metrics, last_checkpoint, multiplies_bf16, remember, steps_done

Block = Callable[[int], Sequence[Sequence[TokenRow]]]
"""The rows of the steps of a block, by the number of the block: a function of that number alone."""

TEMPERATURE = 0.5
"""Sampling temperature of a policy trained from scratch."""
DEFAULT_STEPS = 2200
_NO_END = 10**9
_TEXTS = 4000
"""Demonstrations that the tokenizer is made for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImitationConfig:
    """How to train. The length is `max_steps` (2,200 where not given), or `minutes` of wall time.

    The learning rate warms up, stays, and falls to zero over the last `decay` of the run. `bf16` None: where the
    processor multiplies bfloat16 matrices in hardware. `compile` pays for its minute of preparation on long runs.
    """

    output_dir: str
    max_steps: int | None = None
    minutes: float | None = None
    tokens_per_step: int = 4096
    learning_rate: float = 2e-3
    warmup_steps: int = 50
    decay: float = 0.4
    weight_decay: float = 0.1
    max_grad_norm: float = 1.0
    seed: int = 0
    bf16: bool | None = None
    compile: bool = False
    save_steps: int = 200
    logging_steps: int = 20
    resume: bool = False


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
        self.warmup = config.warmup_steps
        self.decay = config.decay
        self.max_steps = config.max_steps or DEFAULT_STEPS
        self.seconds = None if config.minutes is None else 60 * config.minutes
        self.elapsed = 0.0

    def __call__(self, step: int) -> float:
        """The factor at an optimizer step."""
        left = 1 - self.progress(step)
        return max(0.0, min(1.0, (step + 1) / max(1, self.warmup), left / self.decay))

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
    from its last checkpoint, with the samples that would have come next. Raises ConfigurationError when there is none.
    """
    output = Path(config.output_dir)
    checkpoints = output / CHECKPOINTS
    output.mkdir(parents=True, exist_ok=True)
    stream = StepStream(block, parts=parts, pad_id=pad_id)
    last = last_checkpoint(checkpoints) if config.resume else None
    if last is not None:
        stream.start = steps_done(last)
    elif config.resume:
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
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=stream,
        data_collator=operator.itemgetter(0),
        optimizers=(optimizer, LambdaLR(optimizer, schedule)),
        callbacks=[
            _Clock(schedule),
            RunProgress(output / METRICS, schedule.progress, lambda logs: f"loss {float(logs['loss']):.4f}"),
        ],
    )
    for printer in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(printer)
    trainer.train(resume_from_checkpoint=None if last is None else str(last))
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return float(losses[-1]) if losses else float("nan")


def train_on_demonstrations(
    config: ImitationConfig,
    curriculum: Curriculum,
    architecture: Architecture | None = None,
    *,
    model: str | Path | None = None,
) -> float:
    """Make a policy for TextCraft from nothing but demonstrations, and write its checkpoint to `config.output_dir`.

    With `model`, that checkpoint is trained on instead of a fresh policy. Returns the last logged loss. Raises
    ConfigurationError where `resume` meets other settings than the run began with, and for no such checkpoint.
    """
    shape = architecture or Architecture()
    output = Path(config.output_dir)
    began = {"architecture": asdict(shape)} if model is None else {"model": str(model)}
    remember(output, _told(config, curriculum=asdict(curriculum), **began), resume=config.resume)
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
    policy.set_attn_implementation(ATTENTION)
    window = policy.config.max_position_embeddings
    encoder = RowEncoder(tokenizer, end_ids=[tokenizer.eos_token_id])
    blocks = DemonstrationBlocks(encoder, curriculum, tokens=config.tokens_per_step, context_length=window)
    loss = train(policy, blocks, config, pad_id=tokenizer.pad_token_id)
    write_checkpoint(output, policy, tokenizer, settings)
    return loss


def train_on_traces(
    config: ImitationConfig, traces: str | Path, model: str | Path, *, threshold: float = 1.0, epochs: float = 3.0
) -> float:
    """Train the checkpoint `model` on what the successful agents of recorded trees wrote.

    The text is tokenised anew by `model`'s tokenizer, so the traces may come from any other model. `epochs` counts where
    `config` gives neither steps nor minutes. Returns the last logged loss. Raises ConfigurationError where there is
    nothing to learn from, or no such checkpoint.
    """
    recorded = read_successful(traces, threshold=threshold)
    output = Path(config.output_dir)
    told = _told(config, model=str(model), traces=str(traces), threshold=threshold)
    remember(output, told, resume=config.resume)
    policy, tokenizer, settings = load_checkpoint(model)
    ends = policy.generation_config.eos_token_id
    encoder = RowEncoder(tokenizer, end_ids=ends if isinstance(ends, list) else [ends])
    window = policy.config.max_position_embeddings
    rows = [
        row for messages in recorded.conversations if any((row := encoder.encode(messages).cut(window)).completion_mask)
    ]
    blocks = RecordedBlocks(rows, tokens=config.tokens_per_step, seed=config.seed)
    if config.max_steps is None and config.minutes is None:
        config = replace(config, max_steps=max(1, round(epochs * len(blocks(0)))))
    loss = train(policy, blocks, config, pad_id=tokenizer.pad_token_id or 0)
    style = {"prompt_style": recorded.prompt_style, "action_format": recorded.action_format}
    write_checkpoint(output, policy, tokenizer, settings.model_copy(update=style))
    return loss


def _told(config: ImitationConfig, **about: Any) -> dict[str, Any]:
    """What makes the run what it is; it may become longer, and be saved and logged otherwise."""
    free = ("output_dir", "resume", "save_steps", "logging_steps", "compile", "max_steps", "minutes")
    return {**{name: value for name, value in asdict(config).items() if name not in free}, **about}
