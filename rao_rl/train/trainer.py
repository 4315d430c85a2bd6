"""The trainer: `transformers.Trainer` with RAO's loss, so accelerate, FSDP, peft, checkpoints and loggers come along.

One item of its data is a whole optimizer step (`Step`): every bin of it is forwarded and backed in `training_step`, and D is
one number for all of them, so neither packing nor the number of processes changes what is learnt.
"""

from __future__ import annotations

import logging
import math
import time
import types
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.distributed import broadcast_object_list
from transformers import TrainingArguments

from ..config import LossType
from ..data.rows import Sample
from ..data.table import export_rows
from ..errors import DataError, TrainingDiverged
from .logprobs import install_scoring
from .loss import Clip, clipped, importance_ratio, mismatch_kl, token_losses
from .memory import SHARE, cost_of, free_memory
from .noise import without_noise
from .packing import SHORT, pack, stretch, to_device
from .safe_trainer import SafeTrainer

__all__ = ["Batch", "RaoArguments", "RaoTrainer", "Step", "Steps", "TrainingDiverged", "collate"]

_log = logging.getLogger(__name__)
Steps = Callable[[int], Iterator["Step"]]
"""The optimizer steps of a run from a step number on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What one optimizer step is made of. `denominator` is D: the same for all bins and all processes."""

    samples: Sequence[Sample]
    denominator: float
    metrics: Mapping[str, float] = field(default_factory=dict)
    averages: Mapping[int, float] = field(default_factory=dict)
    """With `baseline="ema_depth"`: by depth, the moving average of the reward after this step."""


@dataclass
class RaoArguments(TrainingArguments):
    """How to train; names as in TRL's GRPOConfig where it has them. Credit is configured apart (`CreditConfig`).

    `tokens_per_bin` bounds what is forwarded at once (None: as much as the free memory has room for, see `memory.py`),
    `logprob_chunk` the positions whose logits exist at once.
    `padding_free` False forwards right-padded batches instead, for models without an attention interface.
    """

    loss_type: LossType = "cispo"
    epsilon: float = 0.2
    epsilon_high: float = 5.0
    temperature: float = 1.0
    tokens_per_bin: int | None = None
    logprob_chunk: int = 2048
    padding_free: bool = True
    max_loss: float = 1e4
    """Largest mean of ρ · |log π| (nats; of ρ with ppo) over the tokens of a step, weighted by their coefficients, beyond which
    the run stops. It is |loss| / Σ|c|, so it depends neither on what the loss is divided by nor on the number of tokens."""


class RaoTrainer(SafeTrainer):
    """Trains `model` on the steps that `steps(first)` gives.

    On several processes, process 0 asks for each step and sends it to the others; each trains its share of the bins.
    """

    args: RaoArguments

    def __init__(self, model: Any, args: RaoArguments, steps: Steps, *, pad_id: int = 0, **options: Any) -> None:
        install_scoring(model, padding_free=args.padding_free)
        super().__init__(model=model, args=args, train_dataset=_NO_DATA, data_collator=_identity, **options)
        self.steps = steps
        self.pad_id = pad_id
        self._gathered: dict[str, list[float]] = defaultdict(list)
        self._tokens_per_bin = args.tokens_per_bin

    def get_train_dataloader(self) -> Any:
        """The steps, from the one after the last checkpoint."""
        return _StepLoader(self)

    def get_batch_samples(self, epoch_iterator: Iterator[Step], num_batches: int, device: torch.device) -> Any:
        """The next step; process 0 makes it, and every process holds the whole of it."""
        held: list[Any] = [None]
        if self.accelerator.is_main_process:
            try:
                held = [next(epoch_iterator, None)]
            except Exception as error:
                if self.accelerator.num_processes == 1:
                    raise
                held = [error]  # the others must not wait for a step that never comes
        if self.accelerator.num_processes > 1:
            broadcast_object_list(held, src=0)
        if isinstance(held[0], Exception):
            raise held[0]
        if held[0] is None:
            self.control.should_training_stop = True
        return [step for step in held if step is not None], None

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """Forward and backward of this process's bins of a step; returns the step's loss."""
        step: Step = inputs
        self._step = step
        begun = time.monotonic()
        without_noise(model)
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        if self._tokens_per_bin is None:
            self._tokens_per_bin = self._choose_tokens_per_bin(step.samples)
        bins = pack([len(sample) for sample in step.samples], self._tokens_per_bin, multiple=world)
        mine = bins[rank::world]
        sums = torch.zeros(len(_SUMS), dtype=torch.float64)
        most = torch.zeros((), dtype=torch.float64)
        total = torch.zeros((), device=self.args.device)
        for number, rows in enumerate(mine):
            last = number == len(mine) - 1
            with nullcontext() if last else self.accelerator.no_sync(model):
                with self.compute_loss_context_manager():
                    loss, counted, highest = self._bin([step.samples[row] for row in rows], step.denominator)
                self._check_loss(loss)
                self.accelerator.backward(loss * world)  # data-parallel training averages gradients: here they add up
            total += loss.detach()
            sums += counted
            most = torch.maximum(most, highest)
        if world > 1:
            sums = self.accelerator.reduce(sums.to(self.args.device), "sum").cpu()
            most = self.accelerator.gather(most.to(self.args.device)[None]).max().cpu()
        of_step = dict(zip(_SUMS, sums.tolist(), strict=True))
        self._check_size(of_step)
        self._take_note(step, of_step, float(most))
        self._gathered["time/train"].append(time.monotonic() - begun)
        shown: torch.Tensor = total * world  # averaged over processes when it is logged
        return shown

    def _bin(self, samples: Sequence[Sample], denominator: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """A bin's share of the loss, the sums of `_SUMS`, and the greatest ρ. An empty bin takes part with nothing."""
        batch, scored = self._forward(samples, self.args.logprob_chunk)
        clip = Clip(self.args.loss_type, self.args.epsilon, self.args.epsilon_high)
        losses = token_losses(
            scored.per_token_logps, batch.sampling_per_token_logps, batch.coefficients / denominator, clip
        )
        with torch.no_grad():
            ratio = importance_ratio(scored.per_token_logps, batch.sampling_per_token_logps)
            held = clipped(ratio, batch.coefficients, clip)
            kl = mismatch_kl(scored.per_token_logps, batch.sampling_per_token_logps)
            difference = (scored.per_token_logps - batch.sampling_per_token_logps).abs()
            size = (batch.coefficients / denominator).abs()
            columns = (torch.ones_like(ratio), scored.entropy, ratio, held.float(), kl, difference, losses, size)
            sums = torch.stack([column.double().sum() for column in columns]).cpu()
            sums = torch.cat([sums, torch.tensor([float(batch.forwarded), float(batch.real)], dtype=torch.float64)])
            highest = ratio.max().double().cpu() if len(ratio) else torch.zeros((), dtype=torch.float64)
        return losses.sum(), sums, highest

    def _forward(self, samples: Sequence[Sample], chunk: int) -> tuple[Batch, Any]:
        """The rows as a batch, and the scores of their sampled tokens, at most `chunk` at a time."""
        batch = collate(samples, pad_id=self.pad_id, packed=self.args.padding_free).to(self.args.device)
        scored = self.model_wrapped(
            **batch.arguments,
            at=batch.at,
            targets=batch.targets,
            temperature=self.args.temperature,
            chunk=chunk,
            use_cache=False,
        )
        return batch, scored

    def _choose_tokens_per_bin(self, samples: Sequence[Sample]) -> int:
        """The tokens that the free memory of every process has room for, by a row like those of a step."""
        example = _example(max(samples, key=len))
        with self.accelerator.no_sync(self.model_wrapped), self.compute_loss_context_manager():
            cost = cost_of(
                self.model,
                lambda rows: self._forward([example] * rows, chunk=1)[1],
                len(example),
                logprob_chunk=self.args.logprob_chunk,
                checkpointing=self.args.gradient_checkpointing,
            )
        free = free_memory(self.args.device)
        tokens = cost.fitting(int(SHARE * free))
        longest = max(tokens, max(map(len, samples)))
        needed = cost.of(longest)
        if self.accelerator.num_processes > 1:
            tokens = int(self.accelerator.gather(torch.tensor([tokens], device=self.args.device)).min())
        if self.accelerator.is_main_process:
            _log.info(
                "Bins of %s tokens: %.1f GB are free on %s. Change it with update.tokens_per_bin.",
                f"{tokens:,}",
                free / 1e9,
                self.args.device,
            )
            if needed > free:
                _log.warning(
                    "Training on %s tokens at once takes some %.1f GB, and %.1f GB are free: it may run out of memory. Set "
                    "update.gradient_checkpointing=true or update.lora_rank, or train on shorter rows.",
                    f"{longest:,}",
                    needed / 1e9,
                    free / 1e9,
                )
        return tokens

    def _check_size(self, sums: Mapping[str, float]) -> None:
        """Refuse a step whose loss is far beyond what its coefficients can explain; see `RaoArguments.max_loss`."""
        if abs(sums["losses"]) > self.args.max_loss * sums["coefficients"]:
            mean = abs(sums["losses"]) / sums["coefficients"] if sums["coefficients"] else math.inf
            raise self._diverged(f"the loss is {sums['losses']:g}, {mean:.3g} for each unit of the coefficients,")

    def _diverged(self, what: str) -> TrainingDiverged:
        """With the rows of the step in a file."""
        output = Path(str(self.args.output_dir))
        output.mkdir(parents=True, exist_ok=True)
        path = output / f"diverged-step-{self.state.global_step + 1:06d}.parquet"
        export_rows(self._step.samples, path)
        return TrainingDiverged(
            f"{what} at step {self.state.global_step + 1}; its {len(self._step.samples):,} rows are in {path}. {self._advice()}"
        )

    def _take_note(self, step: Step, sums: Mapping[str, float], most: float) -> None:
        tokens = max(1.0, sums["tokens"])
        figures = {
            "entropy": sums["entropy"] / tokens,
            "sampling/importance_sampling_ratio/mean": sums["ratio"] / tokens,
            "sampling/importance_sampling_ratio/max": most,
            "sampling/sampling_logp_difference/mean": sums["difference"] / tokens,
            "clip_ratio/region_mean": sums["clipped"] / tokens,
            "rao/mismatch_kl": sums["kl"] / tokens,
            "rao/trained_tokens": sums["tokens"],
            "rao/trained_rows": float(len(step.samples)),
            "rao/forwarded_over_logical_tokens": sums["forwarded"] / max(1.0, sums["real"]),
            **step.metrics,
        }
        for name, value in figures.items():
            self._gathered[name].append(value)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, with the means of what was gathered since the last time."""
        gathered = {name: sum(values) / len(values) for name, values in self._gathered.items()}
        self._gathered.clear()
        super().log({**logs, **gathered}, start_time)

    def floating_point_ops(self, inputs: Any) -> int:
        """Floating-point operations of a step by the usual 6 a parameter and token."""
        model: Any = self.model
        return 6 * sum(len(sample) for sample in inputs.samples) * int(model.num_parameters())

    def _track_num_input_tokens(self, inputs: Any) -> None:
        if self.args.include_num_input_tokens_seen != "no":
            self.state.num_input_tokens_seen += sum(len(sample) for sample in inputs.samples)


def _example(sample: Sample) -> Sample:
    """The first tokens of a sample as a row of its own, of which the last two count as sampled."""
    size = min(len(sample), SHORT)
    mask = np.arange(size) >= max(1, size - 2)
    return replace(
        sample,
        row=replace(
            sample.row, input_ids=sample.input_ids[:size], completion_mask=mask, logprobs=np.zeros(size, np.float32)
        ),
    )


_SUMS = ("tokens", "entropy", "ratio", "clipped", "kl", "difference", "losses", "coefficients", "forwarded", "real")
_NO_DATA: Any = types.SimpleNamespace()


def _identity(items: Any) -> Any:
    return items


class _StepLoader:
    """The steps as what `Trainer` takes for a data loader; without a length, since a run may be endless."""

    def __init__(self, trainer: RaoTrainer) -> None:
        self.trainer = trainer

    def __iter__(self) -> Iterator[Step]:
        return self.trainer.steps(self.trainer.state.global_step)


@dataclass(slots=True)
class Batch:
    """Rows as tensors. `at` [N] are the positions, in the flattened input, whose next token was sampled."""

    arguments: dict[str, Any]
    """Of the model: see `stretch`."""
    at: torch.Tensor
    targets: torch.Tensor
    """[N], as `sampling_per_token_logps` and `coefficients`."""
    sampling_per_token_logps: torch.Tensor
    """Log-prob (nats) of each target under the policy that sampled it."""
    coefficients: torch.Tensor
    forwarded: int
    """Tokens that are forwarded, padding included."""
    real: int

    def to(self, device: torch.device | str) -> Batch:
        """The same on a device."""
        if torch.device(device).type != "cpu":
            self.arguments = to_device(self.arguments, device)
            for name in ("at", "targets", "sampling_per_token_logps", "coefficients"):
                setattr(self, name, getattr(self, name).to(device, non_blocking=True))
        return self


def collate(samples: Sequence[Sample], *, pad_id: int, packed: bool) -> Batch:
    """Rows as one batch: behind each other (`packed`), or right-padded. No rows make a batch that teaches nothing."""
    arguments, starts = stretch(samples, pad_id=pad_id, packed=packed)
    at, targets = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    logps, coefficients = [np.zeros(0, np.float32)], [np.zeros(0, np.float32)]
    for start, sample in zip(starts, samples, strict=False):  # no samples have one start
        (sampled,) = np.nonzero(sample.completion_mask)
        if sampled[:1].tolist() == [0]:
            raise DataError("a row begins with a sampled token: there is nothing to predict it from")
        at.append(start + sampled - 1)
        targets.append(sample.input_ids[sampled].astype(np.int64))
        logps.append(sample.logprobs[sampled])
        coefficients.append(np.full(len(sampled), sample.coefficient, np.float32))
    return Batch(
        arguments,
        torch.from_numpy(np.concatenate(at)),
        torch.from_numpy(np.concatenate(targets)),
        torch.from_numpy(np.concatenate(logps).astype(np.float32)),
        torch.from_numpy(np.concatenate(coefficients)),
        arguments["input_ids"].numel(),
        sum(map(len, samples)),
    )
