"""The trainer of imitation: `trl.SFTTrainer` on rows that are tokens already, packed as those of the RAO objective are.

TRL gives the loss (cross-entropy of the labelled tokens, in chunks that never hold the logits of a whole batch), its figures
and the data-parallel averages; transformers gives optimizer and schedule. Its own packing needs FlashAttention, which a CPU
lacks, and cuts rows that are too long, so the rows are collated here (`rao_rl.train.packing`).
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from transformers import TrainerCallback
from trl import SFTConfig, SFTTrainer  # type: ignore[attr-defined]

from ..config import ImitationConfig
from ..data.rows import TokenRow
from ..train.arguments import common
from ..train.logprobs import check_loss, use_packed_attention
from ..train.packing import pack, stretch, to_device
from ..train.safe_trainer import SafeTrainer, warmup_steps
from .agent import learning_rate

Block = Callable[[int], Sequence[Sequence[TokenRow]]]
"""The rows of the steps of a block, by the number of the block: a function of that number alone."""

IGNORED = -100
"""Label of a token that is shown, not learnt."""
DEFAULT_STEPS = 2200
_NO_END = 10**9
_NO_BUDGET = 10**12
_WARMUP = 50
"""Steps of the warm-up of a long run."""


def steps(block: Block, first: int) -> Iterator[Sequence[TokenRow]]:
    """The steps of all blocks without end, from number `first` on: where a killed run stood, it continues exactly."""
    position = 0
    for number in itertools.count():
        of_block = block(number)
        yield from of_block[max(0, first - position) :]
        position += len(of_block)


def bins(rows: Sequence[TokenRow], count: int, *, packed: bool) -> list[list[TokenRow]]:
    """The rows of a step in `count` batches, of which some are empty where there are fewer rows.

    Packed batches are balanced by the work of attention; padded ones hold rows of similar length.
    """
    if packed:
        places = pack([len(row) for row in rows], _NO_BUDGET, multiple=count)
    else:
        order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
        places = [part.tolist() for part in np.array_split(np.array(order, np.int64), count)]
    return [[rows[index] for index in part] for part in places]


def collate(rows: Sequence[TokenRow], *, pad_id: int, packed: bool) -> dict[str, Any]:
    """Rows as the arguments of a model, with `labels`: IGNORED where nothing is to be learnt, which padding is."""
    arguments, starts = stretch(rows, pad_id=pad_id, packed=packed)
    labels = np.full(arguments["input_ids"].numel(), IGNORED, np.int64)
    for start, row in zip(starts, rows, strict=False):  # no rows have one start
        of_row = labels[start : start + len(row)]
        of_row[row.completion_mask] = row.input_ids[row.completion_mask]
        of_row[:1] = IGNORED  # nothing stands before it to predict it from
    shape = arguments["input_ids"].shape
    if not packed:  # every model takes a mask, some no positions
        sizes = torch.tensor([len(row) for row in rows] or [2])
        del arguments["position_ids"]
        arguments["attention_mask"] = (torch.arange(shape[1]) < sizes[:, None]).long()
    return {**arguments, "labels": torch.from_numpy(labels.reshape(shape))}


class Clock(TrainerCallback):
    """The length and the schedule of a run that is given in minutes: they go by the time spent in training.

    It is the schedule of LambdaLR, whose checkpoints hold its `__dict__`: the time spent and nothing else, so that a run may
    be made longer or shorter when it is resumed.
    """

    __slots__ = ("last", "schedule", "seconds", "warmup")

    def __init__(self, minutes: float) -> None:
        self.seconds = 60 * minutes
        self.elapsed = 0.0
        self.last = time.monotonic()
        self.warmup = 0
        self.schedule: Callable[[int], float] = lambda step: 1.0

    def __call__(self, step: int) -> float:
        """The factor of the learning rate: `schedule` at the share of the time that is spent, but its warm-up by steps."""
        return self.schedule(step if step < self.warmup else max(self.warmup, int(self.share() * _NO_END)))

    def share(self) -> float:
        """Share of the time that is spent."""
        return self.elapsed / self.seconds

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start."""
        self.last = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Add the time of a step."""
        now = time.monotonic()
        self.elapsed += now - self.last
        self.last = now


class ImitationTrainer(SafeTrainer, SFTTrainer):
    """Trains `policy` on the steps of `block`, each in `parts` batches; its checkpoints go to `output`.

    Rows are packed where the model's attention allows it, otherwise right-padded (also with `compile`, which wants few
    shapes). On several processes each takes its share of the batches of every step, and the loss is that of one process.
    Raises ConfigurationError for a model whose log-probs TRL does not compute rightly.
    """

    def __init__(
        self, policy: Any, tokenizer: Any, block: Block, config: ImitationConfig, output: Path, *, parts: int = 4
    ) -> None:
        self.block = block
        self.parts = parts
        self.clock = None if config.minutes is None else Clock(config.minutes)
        self.length = _NO_END if self.clock is not None else config.max_steps or DEFAULT_STEPS
        self.packed = use_packed_attention(policy) and not config.compile
        self.pad_id = tokenizer.pad_token_id or 0
        arguments = SFTConfig(
            **{
                **common(output, config, report_to=config.report_to),
                "learning_rate": learning_rate(policy, config, scratch=False),
            },
            max_steps=self.length,
            gradient_accumulation_steps=parts,
            gradient_checkpointing=config.gradient_checkpointing,
            lr_scheduler_type="warmup_stable_decay",
            lr_scheduler_kwargs={"num_decay_steps": config.decay * self.length, "decay_type": "linear"},
            warmup_steps=warmup_steps(config.warmup_steps, _WARMUP, self.length),
            adam_beta2=0.98,
            torch_compile=config.compile,
            logging_steps=config.logging_steps,
            max_length=None,
            dataset_kwargs={"skip_prepare_dataset": True},
        )
        first = next(row for step in steps(block, 0) for row in step)
        super().__init__(
            model=policy,
            args=arguments,
            # SFTTrainer looks at its data when it is made; the steps come from `get_train_dataloader`.
            train_dataset=datasets.Dataset.from_list([{"input_ids": first.input_ids.tolist()}]),
            data_collator=_as_it_is,
            processing_class=tokenizer,
            callbacks=[] if self.clock is None else [self.clock],
        )
        self.processing_class = None  # whose special tokens would replace those of the model
        self.model_accepts_loss_kwargs = True  # its loss is divided by the tokens of the step, whatever the model
        check_loss(policy, self._loss_of)

    def _loss_of(self, rows: Sequence[torch.Tensor]) -> torch.Tensor:
        """The loss of a batch of these rows of token ids, of which all but the first token is learnt."""
        learnt = [TokenRow(row.cpu().numpy(), np.ones(len(row), np.bool_)) for row in rows]
        batch = collate(learnt, pad_id=self.pad_id, packed=self.packed)
        loss: torch.Tensor = self.compute_loss(  # type: ignore[no-untyped-call]
            self.model, to_device(batch, self.args.device)
        )
        return loss

    def share(self, step: int) -> float:
        """Share of the run that is done after `step` steps."""
        return step / self.length if self.clock is None else self.clock.share()

    def factor(self, schedule: Callable[[int], float], warmup: int) -> Callable[[int], float]:
        """See SafeTrainer."""
        factor = super().factor(schedule, warmup)
        if self.clock is None:
            return factor
        self.clock.schedule, self.clock.warmup = factor, warmup
        return self.clock

    def get_train_dataloader(self) -> Any:
        """The batches of this process, from the step after the last checkpoint."""
        return _Loader(self)

    def training_step(self, *args: Any, **options: Any) -> torch.Tensor:
        """Forward and backward of one batch; its loss, which must be finite. On several processes the gradient tells all."""
        loss: torch.Tensor = super().training_step(*args, **options)  # type: ignore[no-untyped-call]
        if self.accelerator.num_processes == 1:
            self._check_loss(loss)
        return loss

    def create_model_card(self, *args: Any, **options: Any) -> None:
        """No README in the folder of checkpoints."""

    def _send_telemetry(self) -> None:
        """TRL would report each run to its makers; nothing that runs here is reported to anybody."""


def _as_it_is(batch: Any) -> Any:
    return batch


class _Loader:
    """The batches of a run as what `Trainer` takes for a data loader; without a length, since it has no end."""

    def __init__(self, trainer: ImitationTrainer) -> None:
        self.trainer = trainer

    def __iter__(self) -> Iterator[dict[str, Any]]:
        trainer = self.trainer
        world, rank = trainer.accelerator.num_processes, trainer.accelerator.process_index
        for rows in steps(trainer.block, trainer.state.global_step):
            for own in bins(rows, trainer.parts * world, packed=trainer.packed)[rank::world]:
                batch = collate(own, pad_id=trainer.pad_id, packed=trainer.packed)
                yield to_device(batch, trainer.args.device)
