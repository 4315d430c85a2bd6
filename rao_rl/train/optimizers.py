"""Optimizers and schedules of the learning rate by the names of transformers, checked before anything is loaded."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers.optimization import get_scheduler
from transformers.trainer_utils import SchedulerType
from transformers.training_args import OptimizerNames

from recursive_agent.errors import ConfigurationError

from .folder import CHECKPOINTS, SETTINGS, last_checkpoint

Argument = float | int | str
_UNFIT = ("galore", "apollo", "lomo", "adalomo", "schedule_free", "adamw_torch_xla", "adamw_torch_npu", "anyprecision")
"""Families that want modules of a model named, update within the backward pass, hold other weights than those that are
trained, or belong to other devices."""
_PACKAGES = {
    "adamw_torch_4bit": "torchao",
    "adamw_torch_8bit": "torchao",
    "stable_adamw": "torch-optimi",
    "grokadamw": "grokadamw",
    **dict.fromkeys(
        (
            *("adamw_bnb_8bit", "adamw_8bit", "ademamix", "ademamix_8bit", "lion_8bit", "lion_32bit"),
            *("paged_adamw_32bit", "paged_adamw_8bit", "paged_ademamix_32bit", "paged_ademamix_8bit"),
            *("paged_lion_32bit", "paged_lion_8bit", "rmsprop_bnb", "rmsprop_bnb_8bit", "rmsprop_bnb_32bit"),
        ),
        "bitsandbytes",
    ),
}
"""The packages of the optimizers that torch and transformers do not have."""
_MODULES = {"torch-optimi": "optimi"}
_ELSEWHERE = {"params", "lr", "weight_decay"}
"""Arguments of optimizers that are settings of their own."""
_TRUTH = {"true": True, "false": False}
_MOMENTS = ("exp_avg", "exp_avg_sq", "momentum_buffer", "square_avg", "sum", "state1", "state2")
"""State of optimizers that has the shape of the parameter."""
_BY_RESULTS = ("reduce_lr_on_plateau", "greedy")
"""Schedules that follow an evaluation of the loss."""


def check_optimizer(name: str) -> None:
    """Raises ConfigurationError for an optimizer that there is not, and for one whose package is missing."""
    known = [each.value for each in OptimizerNames if not any(part in each.value for part in _UNFIT)]
    _check_name("optim", "optimizer", name, known)
    package = _PACKAGES.get(name)
    if package is not None and find_spec(_MODULES.get(package, package)) is None:
        raise ConfigurationError(f"optim={name} needs the package {package}: pip install {package}")


def check_schedule(name: str, arguments: Mapping[str, Argument] | None = None, *, learning_rate: float = 1.0) -> None:
    """Raises ConfigurationError for a schedule that there is not, and for one that does not work with these arguments."""
    known = [each.value for each in SchedulerType if each.value not in _BY_RESULTS]
    _check_name("lr_scheduler_type", "schedule", name, known)
    own = dict(arguments or {})
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=learning_rate)
    try:
        made: Any = get_scheduler(name, optimizer, 1, 10**6, scheduler_specific_kwargs=own)
        for schedule in made.lr_lambdas:
            schedule(2)
    except (TypeError, ValueError) as error:
        given = ",".join(f"{key}={value}" for key, value in own.items()) or "no lr_scheduler_kwargs"
        raise ConfigurationError(f"lr_scheduler_type={name} does not work with {given}: {_short(error)}") from None


def with_arguments(kind: Any, held: Mapping[str, Any], text: str) -> dict[str, Any]:
    """The arguments of an optimizer of class `kind`: `held`, those by transformers, and those of `optim_args`.

    transformers passes over most of the latter. `beta1`, `beta2`, … are the parts of `betas`. Raises ConfigurationError for
    an argument that the optimizer does not have, or does not take.
    """
    arguments = dict(held)
    known = set(inspect.signature(kind).parameters) - _ELSEWHERE
    betas = list(arguments.get("betas", ()))
    names = sorted(known - {"betas"} | {f"beta{number}" for number in range(1, 1 + len(betas))})
    for name, value in read_arguments("optim_args", text).items():
        if name not in names:
            raise ConfigurationError(
                f"optim_args: {kind.__name__} has no {name!r} to set; there are {', '.join(names)}"
            )
        if name not in known:
            betas[int(name.removeprefix("beta")) - 1] = value
        else:
            arguments[name] = _TRUTH.get(value.lower(), value) if isinstance(value, str) else value
    if betas:
        arguments["betas"] = tuple(betas)
    if text:
        try:
            kind([torch.nn.Parameter(torch.zeros(1))], **arguments)
        except (TypeError, ValueError) as error:
            raise ConfigurationError(f"optim_args={text} does not work with {kind.__name__}: {_short(error)}") from None
    return arguments


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _check_name(setting: str, what: str, name: str, known: list[str]) -> None:
    if name not in known:
        close = get_close_matches(name, known, 1)
        meant = f"did you mean {close[0]}?" if close else f"there are {', '.join(sorted(known))}"
        raise ConfigurationError(f"{setting}: there is no {what} {name!r}; {meant}")


def read_arguments(setting: str, text: str) -> dict[str, Argument]:
    """`name=value,…` by name, numbers as numbers. Raises ConfigurationError."""
    found: dict[str, Argument] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not name:
            raise ConfigurationError(f"{setting} takes NAME=VALUE, separated by commas, not {part!r}")
        try:
            number = float(value)
        except ValueError:
            found[name] = value
            continue
        found[name] = int(number) if value.lstrip("+-").isdecimal() else number
    return found


def optimizer_state_of(run: str | Path, *, optim: str, lora_rank: int | None, sharded: bool) -> Path:
    """The last checkpoint of another run, whose optimizer this one continues.

    Raises ConfigurationError where there is none, or where it is of another optimizer, another adapter or another way of
    keeping the weights.
    """
    folder = Path(run)
    last = last_checkpoint(folder / CHECKPOINTS)
    if last is None:
        raise ConfigurationError(
            f"{folder} contains no checkpoint with the state of an optimizer; leave --optimizer-from out"
        )
    try:
        update: dict[str, Any] = json.loads((folder / SETTINGS).read_text(encoding="utf-8")).get("update", {})
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{folder / SETTINGS} cannot be read ({error}); leave --optimizer-from out") from None
    for name, now in (("optim", optim), ("lora_rank", lora_rank)):
        before = update.get(name, now if name == "optim" else None)
        if before != now:
            raise ConfigurationError(
                f"the optimizer of {folder} is of a run with update.{name}={before}, and this one has {now}: use the same, or "
                "leave --optimizer-from out"
            )
    if sharded == (last / "optimizer.pt").is_file():
        kind = "without FSDP" if sharded else "with FSDP"
        raise ConfigurationError(
            f"the optimizer of {folder} was saved {kind}; train as it was, or leave --optimizer-from out"
        )
    return last


def check_moments(optimizer: Any, source: Path) -> None:
    """Raises ConfigurationError where the state of an optimizer does not fit its parameters."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            shape = tuple(parameter.shape)
            factors = {"exp_avg_sq_row": shape[:-1], "exp_avg_sq_col": shape[:-2] + shape[-1:]}  # of Adafactor
            for name, value in optimizer.state.get(parameter, {}).items():
                expected = factors.get(name, shape)
                known = name in factors or name in _MOMENTS
                if known and isinstance(value, torch.Tensor) and tuple(value.shape) != expected:
                    raise ConfigurationError(
                        f"the optimizer in {source} is of a model of another shape; leave --optimizer-from out"
                    )
