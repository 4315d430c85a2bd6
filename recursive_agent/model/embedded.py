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
from .graph import GRAPH, strange_graph, unlike_qwen3
from .local import LocalModel
from .onnx_engine import OnnxEngine

SHIPPED = Path(__file__).parents[1] / "policies" / "textcraft"
"""The checkpoint that comes with the package."""


class EmbeddedModel(LocalModel):
    """The policy in a checkpoint directory (default: the one shipped), as a `Model` with the interface `tokens`.

    Conversations that wait at the same time are sampled in one batch. `sampling` overrides the settings in `agent.json`.
    Calls without a seed get one drawn from `seed`. At most `max_batch` calls are sampled together, on `threads` threads.
    `cache_mb` limits the memory that keeps conversations between their turns. `settings` take the place of `agent.json`.
    Raises ConfigurationError if the directory is not such a checkpoint.
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
        settings: CheckpointSettings | None = None,
    ) -> None:
        folder = SHIPPED if directory is None else Path(directory)
        if (folder / "config.json").is_file():
            _check_graph(folder)
        super().__init__(folder, settings or CheckpointSettings.of(folder), sampling=sampling, seed=seed)
        self.engine = OnnxEngine(
            self.directory / GRAPH,
            end_ids=self.end_ids,
            max_batch=max_batch,
            threads=threads,
            cache_bytes=cache_mb << 20,
        )
        self.weights = self.directory
        """The directory whose weights it samples with."""
        self.engine.version = self.settings.version or _fingerprint(self.directory)

    async def load(self, directory: str | Path, *, version: str) -> None:
        """Replace the weights with those of another checkpoint with the same shape and tokenizer; `version` is their name.

        Calls that are running continue with the new weights, and report the version they began with. If the checkpoint cannot
        be loaded, raises ConfigurationError and keeps the old weights.
        """
        path = Path(directory) / GRAPH
        await anyio.to_thread.run_sync(partial(self.engine.reload, path, version=version))
        self.weights = Path(directory)


def _check_graph(folder: Path) -> None:
    """Raises ConfigurationError, saying what runs here and what to use instead, for a checkpoint without a graph of its own."""
    if (folder / GRAPH).is_file():
        if (strange := strange_graph(folder)) is not None:
            raise ConfigurationError(
                f"{folder / GRAPH} is not the graph of this checkpoint: {strange}; serve it with vLLM (rao serve {folder}), or "
                "load and write it with rao_rl.weights.checkpoint"
            )
        return
    try:
        config = json.loads((folder / "config.json").read_bytes())
        kind = config.get("model_type")
        reason = unlike_qwen3(config) if kind == "qwen3" else None
    except (OSError, ValueError, AttributeError):
        kind = reason = None
    what = f" (it is a {kind} model{f' with {reason}' if reason else ''})" if isinstance(kind, str) else ""
    raise ConfigurationError(
        f"{folder} has no {GRAPH}{what}: EmbeddedModel runs only plain Qwen3-shaped float32 policies, for which `rao train` "
        "writes that file; rao_rl.open_folder runs any other model"
    )


def _fingerprint(directory: Path) -> str:
    """Names the weights where the checkpoint gives itself no version."""
    try:
        return blake2b((directory / "model.safetensors").read_bytes(), digest_size=6).hexdigest()
    except OSError as error:
        raise ConfigurationError(f"{directory / 'model.safetensors'} cannot be read ({error.strerror})") from None
