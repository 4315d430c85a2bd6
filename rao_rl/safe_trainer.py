"""What both objectives want of `transformers.Trainer` when a run is saved, resumed, or goes wrong."""

from __future__ import annotations

import math
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR
from transformers import Trainer

from .runs import last_checkpoint
from .saving import TrainingDiverged, check_sound, saving


def warm_up(step: int, *, steps: int) -> float:
    """Factor of the learning rate at an optimizer step: rises over `steps` steps, from above 0, and stays at 1."""
    return min(1.0, (step + 1) / max(1, steps))


def warmup_steps(given: int | None, most: int, length: int) -> int:
    """The steps of the warm-up of a run of `length` steps: as `given`, else `most`, or a tenth of a shorter run."""
    return min(most, math.ceil(length / 10)) if given is None else given


class SafeTrainer(Trainer):
    """Saves nothing that is no number, and goes on with the learning rate and weight decay that it is now given."""

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """As Trainer's, but that the first step of `constant_with_warmup` learns too."""
        if self.lr_scheduler is None and self.args.lr_scheduler_type == "constant_with_warmup":
            steps = self.args.get_warmup_steps(num_training_steps)
            chosen: Any = optimizer or self.optimizer
            self.lr_scheduler = LambdaLR(chosen, partial(warm_up, steps=steps))
            self._created_lr_scheduler = True
        return super().create_scheduler(num_training_steps, optimizer)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """The state of a checkpoint, with the settings of the run that goes on."""
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
            for group, base, factor in zip(
                self.optimizer.param_groups, scheduler.base_lrs, scheduler.lr_lambdas, strict=True
            ):
                group["lr"] = base * factor(scheduler.last_epoch)
            scheduler._last_lr = [group["lr"] for group in self.optimizer.param_groups]

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Refuse weights that are no numbers, and leave nothing half-written behind."""
        if self.accelerator.num_processes == 1:
            try:
                check_sound(self.model)
            except TrainingDiverged as error:
                raise TrainingDiverged(f"{error} after step {self.state.global_step}; {self._advice()}") from None
        folder = Path(str(self.args.output_dir)) / f"checkpoint-{self.state.global_step}"
        try:
            with saving(folder):
                super()._save_checkpoint(model, trial)
        except BaseException:
            if self.accelerator.num_processes == 1:
                shutil.rmtree(folder, ignore_errors=True)  # of no use, and it takes room
            raise

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        """The norm, refused before the optimizer sees a gradient that is no number."""
        norm: Any = super()._get_grad_norm(model, grad_norm=grad_norm)  # type: ignore[no-untyped-call]
        if norm is not None and not math.isfinite(float(norm)):
            raise self._diverged(f"the norm of the gradient is {float(norm):g}")
        return norm

    def _check_loss(self, loss: torch.Tensor, most: float = math.inf) -> None:
        """Refuse a loss that is no number, or more than `most`."""
        value = float(loss.detach())
        if not math.isfinite(value) or abs(value) > most:
            raise self._diverged(f"the loss is {value:g}")

    def _diverged(self, what: str) -> TrainingDiverged:
        return TrainingDiverged(f"{what} at step {self.state.global_step + 1}. {self._advice()}")

    def _advice(self) -> str:
        if last_checkpoint(Path(str(self.args.output_dir))) is None:
            return "No step is saved yet: begin anew with --resume and a lower learning rate."
        return "Go on from the last checkpoint with --resume and a lower learning rate."
