"""The guards of both trainers: what is not finite is neither trained on nor saved; a run resumes with its present settings."""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.distributed.tensor import DTensor
from torch.optim.lr_scheduler import LambdaLR
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer import SCHEDULER_NAME

from recursive_agent.errors import ConfigurationError, RaoError

from ..errors import EndedElsewhere, TrainingDiverged
from ..weights.causal_lm import base_model, evaluating
from ..weights.saving import saving
from .divergence import advice
from .optimizers import check_moments, with_arguments
from .sharded_saving import BackgroundSaving

_log = logging.getLogger(__name__)
_PROBE_TOKENS = 4
_HUGE = 1e9
"""No weight of a model that works; the squares of such weights, which norms take, soon overflow."""


def _on_numbered_cpu(storage: Any, place: str) -> Any:
    return storage if place.startswith("cpu:") else None


# Where several processes train on CPUs, transformers reads a checkpoint to `cpu:0`, a place that torch does not know.
torch.serialization.register_package(100, lambda storage: None, _on_numbered_cpu)


def warmup_steps(setting: int | None, most: int, length: int) -> int:
    """The steps of the warm-up of a run of `length` steps: the setting, else `most`, or a tenth of a shorter run."""
    return min(most, math.ceil(length / 10)) if setting is None else setting


def use_one_gpu(args: TrainingArguments) -> None:
    """Train on one GPU in this process, however many there are; a warning says how to train on all.

    `Trainer` would copy the model to each of them (`torch.nn.DataParallel`) and cut the batch along its first dimension,
    which packed rows do not have.
    """
    if args.n_gpu > 1:
        _log.warning(
            "This machine has %d GPUs; this process trains on one of them (%s). To use them all, start one process for "
            "each GPU: accelerate launch --num_processes %d -m rao_cli train …",
            args.n_gpu,
            args.device,
            args.n_gpu,
        )
        args._n_gpu = 1


class SafeTrainer(Trainer):
    """Saves nothing that is not finite, and resumes with the learning rate and weight decay of its present arguments.

    One process trains on one device. Mix it in before another trainer (`class T(SafeTrainer, SFTTrainer)`).
    """

    optimizer_from: Path | None = None
    """A checkpoint of another run, whose optimizer is continued."""
    saves_in_background = False
    """Whether checkpoints of FSDP2 are written while training goes on."""
    _background: BackgroundSaving | None = None

    def __init__(self, model: Any, args: Any, **options: Any) -> None:
        use_one_gpu(args)
        super().__init__(model=model, args=args, **options)
        self.add_callback(_PresentIntervals())

    @staticmethod
    def get_optimizer_cls_and_kwargs(args: TrainingArguments, model: Any = None) -> tuple[Any, Any]:
        """The optimizer that the arguments name, with all of `optim_args`."""
        kind, arguments = Trainer.get_optimizer_cls_and_kwargs(args, model)
        return kind, with_arguments(kind, arguments, str(args.optim_args or ""))

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """The schedule that the arguments name, but with a warm-up that begins above 0: the first step learns too."""
        new = self.lr_scheduler is None
        scheduler: Any = super().create_scheduler(num_training_steps, optimizer)
        if new and isinstance(scheduler, LambdaLR):
            warmup = self.args.get_warmup_steps(num_training_steps)
            scheduler.lr_lambdas = [self.factor(each, warmup) for each in scheduler.lr_lambdas]
            _set_rates(scheduler)
        return scheduler

    def factor(self, schedule: Callable[[int], float], warmup: int) -> Callable[[int], float]:
        """The factor of the learning rate at an optimizer step, after a schedule of transformers."""
        return partial(_warmed_up, schedule=schedule, warmup=warmup)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """The state of a checkpoint, with the settings of the run that continues."""
        if checkpoint is None or self.optimizer is None:
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        held = ("params", "lr")
        ours = [{name: group[name] for name in group if name not in held} for group in self.optimizer.param_groups]
        super()._load_optimizer_and_scheduler(checkpoint)
        scheduler: Any = self.lr_scheduler
        for group, own in zip(self.optimizer.param_groups, ours, strict=True):
            group.update(own)
        if isinstance(scheduler, LambdaLR):
            scheduler.base_lrs = [group["initial_lr"] for group in self.optimizer.param_groups]
            _set_rates(scheduler)

    def _prepare_for_training(self, max_steps: int, train_dataloader: Any, resume_from_checkpoint: Any) -> Any:
        """With the optimizer of another run, where one is named and this run is not resumed."""
        prepared = super()._prepare_for_training(max_steps, train_dataloader, resume_from_checkpoint)  # type: ignore[no-untyped-call]
        if resume_from_checkpoint is None and self.optimizer_from is not None:
            scheduler: Any = self.lr_scheduler
            before = scheduler.state_dict()
            try:
                self._load_optimizer_and_scheduler(str(self.optimizer_from))
            except (ValueError, RuntimeError, KeyError) as error:
                reason = " ".join(str(error).split())[:200]
                raise ConfigurationError(
                    f"the optimizer in {self.optimizer_from} does not fit this model ({reason}); leave --optimizer-from out"
                ) from error
            check_moments(self.optimizer, self.optimizer_from)
            scheduler.load_state_dict(before)
            if isinstance(scheduler, LambdaLR):
                _set_rates(scheduler)
        return prepared

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Refuse weights that are not finite, and leave nothing half-written behind.

        The checkpoint before stays until this one is written.
        """
        fault: str | None = None
        try:
            check_sound(self.model)
        except TrainingDiverged as error:
            fault = str(error)
        if self._somewhere(fault is not None or not _finite_parts(self.model)):
            what = f"{fault or 'the weights are no longer finite numbers'} after step {self.state.global_step}"
            if not self.accelerator.is_main_process:
                raise EndedElsewhere(what)
            raise TrainingDiverged(f"{what}. {self._advice()}")
        folder = Path(str(self.args.output_dir)) / f"checkpoint-{self.state.global_step}"
        try:
            with saving(folder):
                super()._save_checkpoint(model, trial)
        except BaseException:
            if self.accelerator.num_processes == 1:
                shutil.rmtree(folder, ignore_errors=True)  # of no use, and it takes room
            raise

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        """In the background where that is asked for; the schedule is a small file of process 0."""
        if self._background is None and not (self.saves_in_background and self.accelerator.is_fsdp2):
            super()._save_optimizer_and_scheduler(output_dir)
            return
        self._background = self._background or BackgroundSaving()
        model: Any = self.model
        optimizer: Any = self.optimizer
        self._background.save(model, optimizer.optimizer, Path(output_dir))
        if self.args.should_save:
            scheduler: Any = self.lr_scheduler
            torch.save(scheduler.state_dict(), Path(output_dir) / SCHEDULER_NAME)

    def train(self, *args: Any, **options: Any) -> Any:
        """Until the last checkpoint is written, too."""
        result = super().train(*args, **options)
        if self._background is not None:
            self._background.wait()
        return result

    def _somewhere(self, found: bool) -> bool:
        """Whether something was found in any of the processes."""
        if self.accelerator.num_processes == 1:
            return found
        flag = torch.tensor([int(found)], device=self.args.device)
        return bool(self.accelerator.reduce(flag, "sum").item())

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        """The norm, refused before the optimizer sees a gradient that is not finite."""
        norm: Any = super()._get_grad_norm(model, grad_norm=grad_norm)  # type: ignore[no-untyped-call]
        if norm is not None and not math.isfinite(float(norm)):
            raise self._diverged(f"the norm of the gradient is {float(norm):g}")
        return norm

    def _check_loss(self, loss: torch.Tensor) -> None:
        """Refuse a loss that is not finite."""
        value = float(loss.detach())
        if not math.isfinite(value):
            raise self._diverged(f"the loss is {value:g}")

    def _diverged(self, what: str) -> RaoError:
        """What all processes raise alike; process 0 says it."""
        if not self.accelerator.is_main_process:
            return EndedElsewhere(what)
        return TrainingDiverged(f"{what} at step {self.state.global_step + 1}. {self._advice()}")

    def _advice(self) -> str:
        return advice(Path(str(self.args.output_dir)))


class _PresentIntervals(TrainerCallback):
    """A checkpoint carries the intervals of saving and logging; a run that is resumed with others follows its own."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """After the state of the checkpoint was read."""
        state.save_steps, state.logging_steps = args.save_steps, args.logging_steps


@torch.no_grad()
def check_sound(policy: Any) -> None:
    """Raises TrainingDiverged where a weight is not finite, or where what the model computes is not.

    Weights that are spread over several processes are left alone.
    """
    values = [value for value in policy.parameters() if value.numel() and not value.is_meta]
    if len(values) < len(list(policy.parameters())) or any(type(value.data) is not torch.Tensor for value in values):
        return
    if not all(bool(value.isfinite().all()) for value in values):
        raise TrainingDiverged("the weights are no longer finite numbers")
    if any(float(value.abs().max()) > _HUGE for value in values):
        raise TrainingDiverged(f"there are weights beyond {_HUGE:g}, with which nothing can be learnt")
    plain = base_model(policy)
    with evaluating(policy):
        size = plain.get_input_embeddings().weight.shape[0]
        tokens = torch.arange(_PROBE_TOKENS, device=values[0].device)[None] % size
        logits = plain(input_ids=tokens, use_cache=False).logits
    if not bool(logits.isfinite().all()):
        raise TrainingDiverged("the weights have grown so large that the model no longer computes numbers")


@torch.no_grad()
def _finite_parts(policy: Any) -> bool:
    """Whether what this process has of the weights are finite numbers."""
    parts = (value.to_local() if isinstance(value, DTensor) else value for value in policy.parameters())
    return all(bool(part.isfinite().all()) for part in parts if part.numel() and not part.is_meta)


def check_given(policy: Any, model: object) -> None:
    """Raises ConfigurationError where the model that a run begins with does not compute numbers."""
    try:
        check_sound(policy)
    except TrainingDiverged as error:
        raise ConfigurationError(f"{model} cannot be trained: {error}; start from another checkpoint") from None


def _warmed_up(step: int, *, schedule: Callable[[int], float], warmup: int) -> float:
    return (step + 1) / warmup if step < warmup else schedule(step)


def _set_rates(scheduler: LambdaLR) -> None:
    """Give the optimizer the learning rates of the step that the scheduler is at."""
    groups, bases = scheduler.optimizer.param_groups, scheduler.base_lrs
    for group, base, factor in zip(groups, bases, scheduler.lr_lambdas, strict=True):
        group["lr"] = base * factor(scheduler.last_epoch)
    scheduler._last_lr = [group["lr"] for group in groups]
