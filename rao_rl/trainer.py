"""The trainer: `transformers.Trainer` with RAO's loss, so accelerate, FSDP, peft, checkpoints and loggers come along.

One item of its data is a whole optimizer step (`Step`): every bin of it is forwarded and backed in `training_step`, and D is
one number for all of them, so neither packing nor the number of processes changes what is learnt.
"""

from __future__ import annotations

import time
import types
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.distributed import broadcast_object_list
from transformers import TrainingArguments

from recursive_agent.errors import ConfigurationError

from .loss import Clip, LossType, Normalize, clipped, importance_ratio, mismatch_kl, token_losses
from .packing import Layout, pack
from .safe_trainer import SafeTrainer
from .samples import Sample, export
from .saving import TrainingDiverged
from .scoring import install_scoring

__all__ = ["Batch", "RaoArguments", "RaoTrainer", "Step", "Steps", "TrainingDiverged", "collate", "denominator"]

Steps = Callable[[int], Iterator["Step"]]
"""The optimizer steps of a run from a step number on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What one optimizer step is made of. `denominator` is D: the same for all bins and all processes."""

    samples: Sequence[Sample]
    denominator: float
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass
class RaoArguments(TrainingArguments):
    """How to train; names as in TRL's GRPOConfig where it has them. Credit is configured apart (`CreditConfig`).

    `tokens_per_bin` bounds what is forwarded at once, `logprob_chunk` the positions whose logits exist at once.
    `padding_free` False forwards right-padded batches instead, for models without an attention interface.
    """

    loss_type: LossType = "cispo"
    epsilon: float = 0.2
    epsilon_high: float = 5.0
    temperature: float = 1.0
    tokens_per_bin: int = 16_384
    logprob_chunk: int = 2048
    padding_free: bool = True
    max_loss: float = 1e4
    """Absolute value of a step's loss beyond which the run stops."""


class RaoTrainer(SafeTrainer):
    """Trains `model` on the steps that `steps(first)` gives, on process 0 if there are several."""

    args: RaoArguments

    def __init__(self, model: Any, args: RaoArguments, steps: Steps, *, pad_id: int = 0, **options: Any) -> None:
        install_scoring(model, padding_free=args.padding_free)
        super().__init__(model=model, args=args, train_dataset=_NO_DATA, data_collator=_identity, **options)
        self.steps = steps
        self.pad_id = pad_id
        self._gathered: dict[str, list[float]] = defaultdict(list)

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
        model.train()
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        bins = pack([len(sample) for sample in step.samples], self.args.tokens_per_bin, multiple=world)
        mine = bins[rank::world]
        sums = torch.zeros(len(_SUMS), dtype=torch.float64)
        most = torch.zeros((), dtype=torch.float64)
        total = torch.zeros((), device=self.args.device)
        for number, rows in enumerate(mine):
            last = number == len(mine) - 1
            with nullcontext() if last else self.accelerator.no_sync(model):
                with self.compute_loss_context_manager():
                    loss, counted, highest = self._bin([step.samples[row] for row in rows], step.denominator)
                self._check_loss(loss, self.args.max_loss)
                self.accelerator.backward(loss * world)  # data-parallel training averages gradients: here they add up
            total += loss.detach()
            sums += counted
            most = torch.maximum(most, highest)
        if world > 1:
            sums = self.accelerator.reduce(sums.to(self.args.device), "sum").cpu()
            most = self.accelerator.gather(most.to(self.args.device)[None]).max().cpu()
        self._take_note(step, dict(zip(_SUMS, sums.tolist(), strict=True)), float(most))
        self._gathered["time/train"].append(time.monotonic() - begun)
        shown: torch.Tensor = total * world  # averaged over processes when it is logged
        return shown

    def _bin(self, samples: Sequence[Sample], denominator: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """A bin's share of the loss, the sums of `_SUMS`, and the greatest ρ. An empty bin takes part with nothing."""
        batch = collate(samples, pad_id=self.pad_id, packed=self.args.padding_free).to(self.args.device)
        scored = self.model_wrapped(
            input_ids=batch.input_ids,
            position_ids=batch.position_ids,
            layout=batch.layout,
            at=batch.at,
            targets=batch.targets,
            temperature=self.args.temperature,
            chunk=self.args.logprob_chunk,
            use_cache=False,
        )
        clip = Clip(self.args.loss_type, self.args.epsilon, self.args.epsilon_high)
        losses = token_losses(scored.logprobs, batch.behaviour, batch.coefficients / denominator, clip)
        with torch.no_grad():
            ratio = importance_ratio(scored.logprobs, batch.behaviour)
            held = clipped(ratio, batch.coefficients, clip)
            kl = mismatch_kl(scored.logprobs, batch.behaviour)
            difference = (scored.logprobs - batch.behaviour).abs()
            columns = (torch.ones_like(ratio), scored.entropy, ratio, held.float(), kl, difference)
            sums = torch.stack([column.double().sum() for column in columns]).cpu()
            sums = torch.cat([sums, torch.tensor([float(batch.forwarded), float(batch.real)], dtype=torch.float64)])
            highest = ratio.max().double().cpu() if len(ratio) else torch.zeros((), dtype=torch.float64)
        return losses.sum(), sums, highest

    def _diverged(self, what: str) -> TrainingDiverged:
        """With the rows of the step in a file."""
        output = Path(str(self.args.output_dir))
        output.mkdir(parents=True, exist_ok=True)
        path = output / f"diverged-step-{self.state.global_step + 1:06d}.parquet"
        export(self._step.samples, path)
        return TrainingDiverged(
            f"{what} at step {self.state.global_step + 1}; its {len(self._step.samples):,} rows are in {path}. {self._advice()}"
        )

    def _take_note(self, step: Step, sums: Mapping[str, float], most: float) -> None:
        tokens = max(1.0, sums["tokens"])
        told = {
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
        for name, value in told.items():
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


_SUMS = ("tokens", "entropy", "ratio", "clipped", "kl", "difference", "forwarded", "real")
_NO_DATA: Any = types.SimpleNamespace()


def _identity(items: Any) -> Any:
    return items


class _StepLoader:
    """The steps as what `Trainer` takes for a data loader; without a length, since a run may go on for ever."""

    def __init__(self, trainer: RaoTrainer) -> None:
        self.trainer = trainer

    def __iter__(self) -> Iterator[Step]:
        return self.trainer.steps(self.trainer.state.global_step)


@dataclass(slots=True)
class Batch:
    """Rows as tensors. `at` [N] are the positions, in the flattened input, whose next token was sampled."""

    input_ids: torch.Tensor
    """Packed [1, T], or right-padded [B, S]."""
    position_ids: torch.Tensor
    layout: Layout | None
    at: torch.Tensor
    targets: torch.Tensor
    """[N], as `behaviour` and `coefficients`."""
    behaviour: torch.Tensor
    coefficients: torch.Tensor
    forwarded: int
    real: int

    def to(self, device: torch.device | str) -> Batch:
        """The same on a device."""
        if torch.device(device).type != "cpu":
            for name in ("input_ids", "position_ids", "at", "targets", "behaviour", "coefficients"):
                setattr(self, name, getattr(self, name).to(device, non_blocking=True))
            if self.layout is not None:
                self.layout = self.layout.to(device)
        return self


def collate(samples: Sequence[Sample], *, pad_id: int, packed: bool) -> Batch:
    """Rows as one batch: behind each other (`packed`), or right-padded. No rows make a batch that teaches nothing."""
    if not samples:
        nothing = torch.zeros(0)
        ids = torch.full((1, 2), pad_id)
        return Batch(
            ids,
            torch.arange(2)[None],
            Layout.of([2]) if packed else None,
            nothing.long(),
            nothing.long(),
            nothing,
            nothing,
            2,
            0,
        )
    lengths = [len(sample) for sample in samples]
    longest = max(lengths)
    starts = np.cumsum([0, *lengths[:-1]]) if packed else np.arange(len(samples)) * longest
    at, targets, behaviour, coefficients = [], [], [], []
    for start, sample in zip(starts, samples, strict=True):
        (sampled,) = np.nonzero(sample.completion_mask)
        if sampled[:1].tolist() == [0]:
            raise ConfigurationError("a row begins with a sampled token: there is nothing to predict it from")
        at.append(start + sampled - 1)
        targets.append(sample.input_ids[sampled])
        behaviour.append(sample.logprobs[sampled])
        coefficients.append(np.full(len(sampled), sample.coefficient, np.float32))
    if packed:
        tokens = np.concatenate([sample.input_ids for sample in samples])[None]
        places = np.concatenate([np.arange(length) for length in lengths])[None]
    else:
        tokens = np.full((len(samples), longest), pad_id, np.int32)
        for row, sample in enumerate(samples):
            tokens[row, : len(sample)] = sample.input_ids
        places = np.broadcast_to(np.arange(longest), tokens.shape)
    return Batch(
        torch.from_numpy(tokens.astype(np.int64)),
        torch.from_numpy(places.astype(np.int64)),
        Layout.of(lengths) if packed else None,
        torch.from_numpy(np.concatenate(at).astype(np.int64)),
        torch.from_numpy(np.concatenate(targets).astype(np.int64)),
        torch.from_numpy(np.concatenate(behaviour).astype(np.float32)),
        torch.from_numpy(np.concatenate(coefficients)),
        int(tokens.size),
        sum(lengths),
    )


def denominator(normalize: Normalize, *, tokens: int, nodes: int, rollouts: int, constant: float = 1.0) -> float:
    """D, from the totals of the whole step before any sub-sampling. Never 0."""
    return max({"token": tokens, "node": nodes, "rollout": rollouts, "constant": constant}[normalize], 1e-9)
