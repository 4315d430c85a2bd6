"""The arguments of `transformers.Trainer` that both objectives share: precision, saving, and where metrics are reported."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Any

from recursive_agent.errors import ConfigurationError

from ..config import ImitationConfig, UpdateConfig
from ..weights.hardware import multiplies_bf16, training_device
from .optimizers import check_optimizer, read_arguments
from .reporters import OWN, check_wandb


def common(output: Path, settings: UpdateConfig | ImitationConfig, *, report_to: str = "none") -> dict[str, Any]:
    """Arguments that are alike for the RAO objective and imitation. Checkpoints go to `output`.

    Raises ConfigurationError for an optimizer that cannot be used here.
    """
    check_optimizer(settings.optim)
    read_arguments("optim_args", settings.optim_args)
    return {
        "output_dir": str(output),
        "per_device_train_batch_size": 1,
        "learning_rate": settings.learning_rate,
        "weight_decay": settings.weight_decay,
        "max_grad_norm": settings.max_grad_norm,
        "use_cpu": training_device().type == "cpu",
        "bf16": multiplies_bf16() if settings.bf16 is None else settings.bf16,
        "seed": settings.seed,
        "save_steps": settings.save_steps,
        "save_total_limit": settings.save_total_limit,
        "optim": settings.optim,
        "optim_args": settings.optim_args or None,
        "logging_nan_inf_filter": False,
        "report_to": [name for name in check_reporters(report_to) if name not in OWN] or ["none"],
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "ignore_data_skip": True,
        "dataloader_pin_memory": False,
    }


def check_reporters(names: str) -> list[str]:
    """The names in a `report_to`. Raises ConfigurationError for an unknown one, and for one whose package is missing."""
    from transformers.integrations import integration_utils

    known: dict[str, Any] = integration_utils.INTEGRATION_TO_CALLBACK
    reporters = [name.strip() for name in names.split(",") if name.strip()]
    if reporters in ([], ["none"]):
        return ["none"]
    if reporters == ["all"]:
        reporters = list(integration_utils.get_available_reporting_integrations())  # type: ignore[no-untyped-call]
    for name in reporters:
        if name not in known:
            close = get_close_matches(name, known, 1)
            meant = f"did you mean {close[0]}?" if close else f"there are {', '.join(sorted(known))}, all and none"
            raise ConfigurationError(f"report_to: there is no reporter {name!r}; {meant}")
        try:
            known[name]()
        except Exception as error:  # each library has its own way to say that it is not there
            reason = " ".join(str(error).split())[:200]
            hint = f": pip install 'rao[{name}]'" if name in OWN else ""
            raise ConfigurationError(
                f"report_to={name} does not work here{hint} ({reason or type(error).__name__})"
            ) from None
    if "wandb" in reporters:
        check_wandb()
    return reporters
