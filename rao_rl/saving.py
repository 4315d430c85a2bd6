"""That nothing is lost when a run is saved: what can be known is checked before training, and the rest is one sentence."""

from __future__ import annotations

import errno
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from recursive_agent.checkpoint import CheckpointSettings
from recursive_agent.errors import ConfigurationError, RaoError

from .export import write_checkpoint

_PROBE_TOKENS = 4
_HUGE = 1e9
"""No weight of a model that works; the squares of such weights, which norms take, soon overflow."""
_OF_FILES = frozenset(
    {
        *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EFBIG, errno.ESTALE),
        *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG),
    }
)
"""Other faults of the system (of a connection, say) are not those of a folder."""
_MARGIN = 1 << 20
"""Bytes that a checkpoint takes beside its weights, at least."""


class TrainingDiverged(RaoError):
    """The loss, its gradient or the weights are no longer numbers; the message says what to do."""


def check_folder(output: str | Path) -> Path:
    """The folder, made where it is missing. Raises ConfigurationError where nothing can be written there."""
    folder = Path(output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x" * 4096)
    except FileExistsError:
        raise ConfigurationError(f"{folder} is a file; give the name of a folder with --out") from None
    except NotADirectoryError:
        raise ConfigurationError(f"{folder} cannot be a folder: a part of its path is a file") from None
    except OSError as error:
        raise ConfigurationError(f"{folder} cannot be written ({error.strerror}); choose another --out") from None
    return folder


def check_savable(output: str | Path, policy: Any, tokenizer: Any, settings: CheckpointSettings) -> None:
    """Write a checkpoint without its weights into the folder and delete it. Raises ConfigurationError where that fails.

    What a library refuses to write (a configuration with contradictions, say) is known here, before anything is trained.
    """
    folder = check_folder(output)
    needed = sum(value.numel() * value.element_size() for value in policy.parameters()) + _MARGIN
    if (free := shutil.disk_usage(folder).free) < needed:
        raise ConfigurationError(
            f"the disk of {folder} has {free / 1e6:,.0f} MB left, and a checkpoint needs at least {needed / 1e6:,.0f} MB"
        )
    probe = Path(tempfile.mkdtemp(prefix=".probe-", dir=folder))
    try:
        with saving(folder):
            write_checkpoint(probe, policy, tokenizer, settings, weights={"probe": torch.zeros(1)}, graph=False)
    except ConfigurationError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ConfigurationError(
            f"this model could not be saved after training, so it is not trained: {reason}"
        ) from error
    finally:
        shutil.rmtree(probe, ignore_errors=True)


@contextmanager
def saving(folder: str | Path) -> Iterator[None]:
    """Make one sentence of a disk that is full or gone. Raises ConfigurationError."""
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = _reason(error)
        if reason is None:
            raise
        raise ConfigurationError(
            f"{folder} cannot be written ({reason}); make room and go on from the last whole checkpoint with --resume"
        ) from error


def _reason(error: BaseException) -> str | None:
    """Why a file could not be written; None for what has nothing to do with files."""
    if isinstance(error, OSError):
        return error.strerror if error.errno in _OF_FILES else None
    text = " ".join(str(error).split())
    if isinstance(error, SafetensorError):
        return text.rpartition("I/O error: ")[2].partition(" (os error")[0]
    # torch's own writer of zip files knows no reason.
    return "the disk is full, or gone" if "PytorchStreamWriter" in text or "inline_container" in text else None


@torch.no_grad()
def check_sound(policy: Any) -> None:
    """Raises TrainingDiverged where a weight is no number, or where what the model computes is none.

    Weights that are spread over several processes are left alone.
    """
    values = [value for value in policy.parameters() if value.numel() and not value.is_meta]
    if len(values) < len(list(policy.parameters())) or any(type(value.data) is not torch.Tensor for value in values):
        return
    if not all(bool(value.isfinite().all()) for value in values):
        raise TrainingDiverged("the weights are no longer numbers")
    if any(float(value.abs().max()) > _HUGE for value in values):
        raise TrainingDiverged(f"there are weights beyond {_HUGE:g}, with which nothing can be learnt")
    plain = policy.get_base_model() if hasattr(policy, "get_base_model") else policy
    training = policy.training
    policy.eval()
    try:
        size = plain.get_input_embeddings().weight.shape[0]
        tokens = torch.arange(_PROBE_TOKENS, device=values[0].device)[None] % size
        logits = plain(input_ids=tokens, use_cache=False).logits
    finally:
        policy.train(training)
    if not bool(logits.isfinite().all()):
        raise TrainingDiverged("the weights have grown so large that the model no longer computes numbers")


def check_reporters(names: str) -> list[str]:
    """The names in a `report_to`. Raises ConfigurationError for an unknown one, and for one whose package is missing."""
    from transformers.integrations import integration_utils

    known: dict[str, Any] = integration_utils.INTEGRATION_TO_CALLBACK
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    if wanted in ([], ["none"]):
        return ["none"]
    if wanted == ["all"]:
        return list(integration_utils.get_available_reporting_integrations())  # type: ignore[no-untyped-call]
    for name in wanted:
        if name not in known:
            close = get_close_matches(name, known, 1)
            meant = f"did you mean {close[0]}?" if close else f"there are {', '.join(sorted(known))}, all and none"
            raise ConfigurationError(f"report_to: there is no reporter {name!r}; {meant}")
        try:
            known[name]()
        except Exception as error:  # each library has its own way to say that it is not there
            said = " ".join(str(error).split())[:200]
            raise ConfigurationError(f"report_to={name} does not work here: {said or type(error).__name__}") from None
    return wanted
