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
from transformers import TrainingArguments

from recursive_agent.errors import RaoError

from ..config import ImportanceSamplingMode, LossType, OldLogprobs
from ..data.rows import Sample
from ..data.table import export_rows
from ..errors import TrainingDiverged
from .batch import Batch, collate
from .correction import Correction
from .figures import Figures, Places, Policies, metrics_of
from .logprobs import install_scoring
from .loss import Clip, Scored, token_losses
from .memory import SHARE, cost_of, free_memory
from .noise import without_noise
from .packing import SHORT, deal
from .safe_trainer import SafeTrainer
from .together import Together

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

    `old_logprobs` and `importance_sampling_…` are those of `UpdateConfig`, explained in `correction.py`. `num_iterations`
    updates are made of each step, on the same rows.
    `tokens_per_bin` bounds what is forwarded at once (None: as much as the free memory has room for, see `memory.py`),
    `logprob_chunk` the positions whose logits exist at once.
    `padding_free` False forwards right-padded batches instead, for models without an attention interface.
    """

    loss_type: LossType = "cispo"
    epsilon: float = 0.2
    epsilon_high: float = 5.0
    old_logprobs: OldLogprobs = "sampler"
    importance_sampling_mode: ImportanceSamplingMode | None = None
    importance_sampling_clip_max: float | None = 3.0
    importance_sampling_clip_min: float | None = None
    num_iterations: int = 1
    temperature: float = 1.0
    tokens_per_bin: int | None = None
    logprob_chunk: int = 2048
    padding_free: bool = True
    sync_every_bin: bool = False
    """See `UpdateConfig`."""
    schedule_steps: int | None = None
    """Steps over which the learning rate goes its way; None: `max_steps`."""
    max_loss: float = 1e4
    """Largest mean of ρ · |log π| (nats; of ρ with ppo) over the tokens of a step, weighted by their coefficients, beyond which
    the run stops. It is |loss| / Σ|c|, so it depends neither on what the loss is divided by nor on the number of tokens."""


class RaoTrainer(SafeTrainer):
    """Trains `model` on the steps that `steps(first)` gives.

    A run that is not resumed may continue the optimizer of another one's checkpoint (`optimizer_from`), on its own schedule.
    On several processes (`together`), process 0 asks for each step and sends it to the others, which wait for it as long as
    it takes; each trains its share of the bins.
    """

    args: RaoArguments

    def __init__(
        self,
        model: Any,
        args: RaoArguments,
        steps: Steps,
        *,
        pad_id: int = 0,
        together: Together | None = None,
        optimizer_from: Path | None = None,
        **options: Any,
    ) -> None:
        install_scoring(model, padding_free=args.padding_free)
        super().__init__(model=model, args=args, train_dataset=_NO_DATA, data_collator=_identity, **options)
        self.together = together or Together()
        self.optimizer_from = optimizer_from
        self.steps = steps
        self.pad_id = pad_id
        self._gathered: dict[str, list[float]] = defaultdict(list)
        self._tokens_per_bin = args.tokens_per_bin
        self._correction = Correction(
            args.old_logprobs,
            args.importance_sampling_mode,
            args.importance_sampling_clip_max,
            args.importance_sampling_clip_min,
        )

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """See SafeTrainer; the run itself may be endless."""
        return super().create_scheduler(self.args.schedule_steps or num_training_steps, optimizer)

    def get_train_dataloader(self) -> Any:
        """The steps, from the one after the last checkpoint."""
        return _StepLoader(self)

    def get_batch_samples(self, epoch_iterator: Iterator[Step], num_batches: int, device: torch.device) -> Any:
        """The next step; process 0 makes it, and every process holds the whole of it."""
        together = self.together
        if together.first:
            together.waited_for = True
            with together.ending():  # the others must not wait for a step that never comes
                step = next(epoch_iterator, None)
            together.tell(step)
        else:
            step = together.follow()
        if step is None:
            self.control.should_training_stop = True
        return [] if step is None else [step], None

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """Forward and backward of this process's bins of a step; returns the step's loss."""
        step: Step = inputs
        self._step = step
        begun = time.monotonic()
        without_noise(model)
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        if self._tokens_per_bin is None:
            self._tokens_per_bin = self._choose_tokens_per_bin(step.samples)
        bins = deal(step.samples, self._tokens_per_bin, multiple=world)
        mine = bins[rank::world]
        policies = Policies(Places.of(step.samples))
        losses, passes = [], []
        for number in range(self.args.num_iterations):
            if number:
                self._update(model)
            self._look_ahead(step, mine, policies, first=not number)
            loss, figures = self._pass(model, step, mine, policies)
            losses.append(loss)
            passes.append(figures)
        self._take_note(step, passes)
        self._gathered["time/train"].append(time.monotonic() - begun)
        shown: torch.Tensor = losses[0] * world  # averaged over processes when it is logged
        return shown

    def _pass(
        self, model: Any, step: Step, mine: Sequence[Sequence[int]], policies: Policies
    ) -> tuple[torch.Tensor, Figures]:
        """Forward and backward of this process's bins; their loss, and the figures of all processes."""
        total = torch.zeros((), device=self.args.device)
        figures = Figures.none(policies.places.depths)
        for number, rows in enumerate(mine):
            reduced = self.args.sync_every_bin or number == len(mine) - 1
            with nullcontext() if reduced else self.accelerator.no_sync(model):
                with self.compute_loss_context_manager():
                    loss, counted = self._bin(step, rows, policies)
                if self.accelerator.num_processes == 1:
                    self._check_loss(loss)
                # data-parallel training averages gradients: here they add up
                self.accelerator.backward(loss * self.accelerator.num_processes)
            total += loss.detach()
            figures.add(counted)
        figures = figures.over_processes(self.accelerator)
        self._check_size(figures.by_name)
        return total, figures

    def _update(self, model: Any) -> None:
        """An update of the weights between two passes over a step, as `Trainer` makes the one after the last."""
        norm = self._clip_grad_norm(model) if self.args.max_grad_norm > 0 else None  # type: ignore[no-untyped-call]
        self._get_grad_norm(model, grad_norm=norm)
        assert self.optimizer is not None  # it is made before the first step
        self.optimizer.step()
        model.zero_grad()

    @torch.no_grad()
    def _look_ahead(self, step: Step, mine: Sequence[Sequence[int]], policies: Policies, *, first: bool) -> None:
        """Compute the log-probs that a pass needs before it begins: those of π_old, and the ratios of whole nodes.

        One more forward pass, but none where nothing is needed: in a step's only pass, π_old is π_θ.
        """
        correction = self._correction
        trainer = correction.old_logprobs == "trainer"
        if not correction.by_sequence and not (trainer and self.args.num_iterations > 1):
            return
        if trainer and not first:  # π_old is still the same
            return
        away = torch.zeros(policies.places.node_count, dtype=torch.float64)
        for rows in mine:
            with self.compute_loss_context_manager():
                batch, scored = self._forward([step.samples[row] for row in rows], self.args.logprob_chunk)
            nodes, _ = policies.places.of_tokens(rows)
            logps = scored.per_token_logps
            away.index_add_(0, nodes, (logps - batch.sampling_per_token_logps).double().cpu())
            if trainer:
                sizes = [len(policies.places.cells[row]) for row in rows]
                policies.old.update(zip(rows, torch.split(logps, sizes), strict=True))
        if correction.by_sequence:
            if self.accelerator.num_processes > 1:
                away = self.accelerator.reduce(away.to(self.args.device), "sum").cpu()
            policies.sequence = away

    def _bin(self, step: Step, rows: Sequence[int], policies: Policies) -> tuple[torch.Tensor, Figures]:
        """A bin's share of the loss, and the figures of its tokens. An empty bin takes part with nothing."""
        batch, scored = self._forward([step.samples[row] for row in rows], self.args.logprob_chunk)
        clip = Clip(self.args.loss_type, self.args.epsilon, self.args.epsilon_high)
        nodes, cells = policies.places.of_tokens(rows)
        logps, sampling = scored.per_token_logps, batch.sampling_per_token_logps
        sequence = policies.sequence
        corrected = self._correction.apply(
            logps,
            sampling,
            old=torch.cat([policies.old[row] for row in rows]) if policies.old and rows else None,
            sequence=None if sequence is None else sequence[nodes].to(logps),
        )
        coefficients = batch.coefficients / step.denominator
        weighted = coefficients if corrected.factors is None else coefficients * corrected.factors
        losses = token_losses(logps, corrected.old_per_token_logps, weighted, clip)
        figures = Figures.of(
            scored,
            losses,
            corrected,
            cells,
            sampling_per_token_logps=sampling,
            coefficients=coefficients,
            clip=clip,
            forwarded=batch.forwarded,
            real=batch.real,
            depths=policies.places.depths,
        )
        return losses.sum(), figures

    def _forward(self, samples: Sequence[Sample], chunk: int, *, share: bool = True) -> tuple[Batch, Scored]:
        """The rows as a batch, and the scores of their sampled tokens, at most `chunk` at a time."""
        batch = collate(samples, pad_id=self.pad_id, packed=self.args.padding_free, share=share)
        batch = batch.to(self.args.device)
        scored: Scored = self.model_wrapped(
            **batch.arguments,
            at=batch.at,
            targets=batch.targets,
            temperature=self.args.temperature,
            chunk=chunk,
            use_cache=False,
        )
        return batch, batch.of_tokens(scored)

    def _choose_tokens_per_bin(self, samples: Sequence[Sample]) -> int:
        """The tokens that the free memory of every process has room for, by a row like those of a step."""
        example = _example(max(samples, key=len))
        with self.accelerator.no_sync(self.model_wrapped), self.compute_loss_context_manager():
            cost = cost_of(
                self.model,
                lambda rows: self._forward([example] * rows, chunk=1, share=False)[1],
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
        """Refuse a step whose loss is no number, or far beyond what its coefficients can explain (`RaoArguments.max_loss`).

        Several processes find it out here, all of them, so that none waits for another.
        """
        if not math.isfinite(sums["losses"]):
            raise self._diverged(f"the loss is {sums['losses']:g}")
        if abs(sums["losses"]) > self.args.max_loss * sums["coefficients"]:
            mean = abs(sums["losses"]) / sums["coefficients"] if sums["coefficients"] else math.inf
            raise self._diverged(f"the loss is {sums['losses']:g}, {mean:.3g} for each unit of the coefficients,")

    def _diverged(self, what: str) -> RaoError:
        """With the rows of the step in a file, which process 0 writes."""
        if not self.together.first:
            return super()._diverged(what)
        output = Path(str(self.args.output_dir))
        output.mkdir(parents=True, exist_ok=True)
        path = output / f"diverged-step-{self.state.global_step + 1:06d}.parquet"
        export_rows(self._step.samples, path)
        return TrainingDiverged(
            f"{what} at step {self.state.global_step + 1}; its {len(self._step.samples):,} rows are in {path}. {self._advice()}"
        )

    def _take_note(self, step: Step, passes: Sequence[Figures]) -> None:
        rows = {"rao/trained_rows": float(len(step.samples))}
        for name, value in {**metrics_of(passes, self._correction), **rows, **step.metrics}.items():
            self._gathered[name].append(value)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, with the means of what was gathered since the last time."""
        gathered = {name: sum(values) / len(values) for name, values in self._gathered.items()}
        self._gathered.clear()
        super().log({**logs, **gathered}, start_time)

    def floating_point_ops(self, inputs: Any) -> int:
        """Floating-point operations of a step by the usual 6 a parameter and token in each of its updates."""
        model: Any = self.model
        return (
            6 * self.args.num_iterations * sum(len(sample) for sample in inputs.samples) * int(model.num_parameters())
        )

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


_NO_DATA: Any = types.SimpleNamespace()


def _identity(items: Any) -> Any:
    return items


class _StepLoader:
    """The steps as what `Trainer` takes for a data loader; without a length, since a run may be endless."""

    def __init__(self, trainer: RaoTrainer) -> None:
        self.trainer = trainer

    def __iter__(self) -> Iterator[Step]:
        if not self.trainer.together.first:  # it is sent them
            return iter(())
        return self.trainer.steps(self.trainer.state.global_step)
