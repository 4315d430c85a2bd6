"""Saving checkpoints: what can be known is checked before training, and what fails later is one sentence."""

from __future__ import annotations

import errno
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from recursive_agent.checkpoint import CheckpointSettings
from recursive_agent.errors import ConfigurationError
from recursive_agent.model.graph import GRAPH, WEIGHTS

from .checkpoint import write_checkpoint

_OF_FILES = frozenset(
    {
        *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EFBIG, errno.ESTALE),
        *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG),
    }
)
"""Other faults of the system (of a connection, say) are not those of a folder."""
_FILES = (
    "training.json",
    "metrics.jsonl",
    "agent.json",
    "config.json",
    "tokenizer.json",
    WEIGHTS,
    GRAPH,
)
_FOLDERS = ("checkpoints", "traces", "sampler")
_MARGIN = 1 << 20
"""Bytes that a checkpoint takes beside its weights, at least."""


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
    for name in _FILES:
        if (folder / name).is_dir():
            raise ConfigurationError(
                f"{folder / name} is a folder, where a file is to be written; choose another --out"
            )
    for name in _FOLDERS:
        if (folder / name).is_file():
            raise ConfigurationError(f"{folder / name} is a file, where a folder is to be made; choose another --out")
    return folder


def check_apart(output: str | Path, model: str | Path | None) -> None:
    """Raises ConfigurationError where a run would overwrite the model that it begins with: it could not be resumed."""
    if model is not None and Path(model).is_dir() and Path(output).resolve() == Path(model).resolve():
        raise ConfigurationError(
            f"--out {output} is the folder of --model, which it would overwrite; choose another folder"
        )


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
            f"this model could not be saved after training, so training does not start: {reason}"
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
            f"{folder} cannot be written ({reason}); make room and continue from the last complete checkpoint with --resume"
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
