"""A small policy run in this process by onnxruntime: no endpoint, no torch, token ids and log-probs as from vLLM."""

from __future__ import annotations

import json
from functools import partial
from hashlib import blake2b
from pathlib import Path

import anyio.to_thread

from ..checkpoint import CheckpointSettings
from ..errors import ConfigurationError
from .base import Sampling
from .local import LocalModel
from .onnx_engine import OnnxEngine

SHIPPED = Path(__file__).parents[1] / "policies" / "textcraft"
"""The checkpoint that comes with the package."""


class EmbeddedModel(LocalModel):
    """The policy in a checkpoint directory (default: the one shipped), as a `Model` with the interface `tokens`.

    Conversations that wait at the same time are sampled in one batch. `sampling` overrides the settings in `agent.json`.
    Calls without a seed get one drawn from `seed`. At most `max_batch` calls are sampled together, on `threads` threads.
    `cache_mb` limits the memory that keeps conversations between their turns. Raises ConfigurationError if the directory
    is not such a checkpoint.
    """

    engine: OnnxEngine

    def __init__(
        self,
        directory: str | Path | None = None,
        *,
        sampling: Sampling | None = None,
        seed: int | None = None,
        max_batch: int = 64,
        threads: int = 1,
        cache_mb: int = 256,
    ) -> None:
        folder = SHIPPED if directory is None else Path(directory)
        if (folder / "config.json").is_file():
            _check_graph(folder)
        super().__init__(folder, CheckpointSettings.load(folder), sampling=sampling, seed=seed)
        self.engine = OnnxEngine(
            self.directory / "model.onnx",
            end_ids=self.end_ids,
            max_batch=max_batch,
            threads=threads,
            cache_bytes=cache_mb << 20,
        )
        self.engine.version = self.settings.version or _fingerprint(self.directory)

    async def load(self, directory: str | Path, *, version: str) -> None:
        """Replace the weights with those of another checkpoint with the same shape and tokenizer; `version` is their name.

        Calls that are running continue with the new weights, and report the version they began with. If the checkpoint cannot
        be loaded, raises ConfigurationError and keeps the old weights.
        """
        path = Path(directory) / "model.onnx"
        await anyio.to_thread.run_sync(partial(self.engine.reload, path, version=version))


def _check_graph(folder: Path) -> None:
    """Raises ConfigurationError, saying what runs here and what to use instead, for a checkpoint without a graph."""
    if (folder / "model.onnx").is_file():
        return
    try:
        kind = json.loads((folder / "config.json").read_bytes()).get("model_type")
    except (OSError, ValueError, AttributeError):
        kind = None
    raise ConfigurationError(
        f"{folder} has no model.onnx{f' (it is a {kind} model)' if isinstance(kind, str) else ''}: the embedded engine runs "
        "plain Qwen3-shaped float32 policies, for which `rao train` writes that file; serve any other model with vLLM: "
        f"rao serve {folder}"
    )


def _fingerprint(directory: Path) -> str:
    """Names the weights where the checkpoint gives itself no version."""
    try:
        return blake2b((directory / "model.safetensors").read_bytes(), digest_size=6).hexdigest()
    except OSError as error:
        raise ConfigurationError(f"{directory / 'model.safetensors'} cannot be read ({error.strerror})") from None
