"""The engine that samples from an ONNX policy (see `rao_rl.weights.onnx` for the graph), on one thread, without torch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import ConfigurationError
from .batching import Array, BatchEngine, Request, Step

Floats = npt.NDArray[np.float32]


class OnnxEngine(BatchEngine):
    """The policy of a checkpoint directory. Raises ConfigurationError where the graph cannot be loaded."""

    def __init__(
        self, path: Path, *, end_ids: Sequence[int], max_batch: int = 64, threads: int = 1, cache_bytes: int = 256 << 20
    ) -> None:
        self._threads = threads
        self._session = self._load(path)
        inputs = _shapes(self._session)
        self._cache_names = [name for name in inputs if name.startswith("past_") and name != "past_lengths"]
        _, heads, _, width = inputs[self._cache_names[0]]
        self._heads, self._width = int(heads), int(width)
        super().__init__(arrays=len(self._cache_names), end_ids=end_ids, max_batch=max_batch, cache_bytes=cache_bytes)

    def reload(self, path: Path, *, version: str | None) -> None:
        """Go on with the weights of the graph at `path`, which must have the shapes of the present one (see `renew`).

        Raises ConfigurationError, and changes nothing, where the graph cannot be loaded.
        """
        session = self._load(path)
        if (theirs := _shapes(session)) != (ours := _shapes(self._session)):
            raise ConfigurationError(f"{path} has other inputs ({theirs}) than the policy that runs ({ours})")
        self.renew(partial(setattr, self, "_session", session), version=version)

    def empty(self, rows: int, length: int) -> Floats:
        """See `BatchEngine.empty`."""
        return np.zeros((rows, self._heads, length, self._width), np.float32)

    def copy(self, array: Array) -> Array:
        """See `BatchEngine.copy`."""
        return array.copy()

    def forward(self, step: Step, cache: list[Array]) -> Floats:
        """See `BatchEngine.forward`."""
        count, size = step.ids.shape
        feed: dict[str, Any] = dict(zip(self._cache_names, cache, strict=True))
        last = np.arange(count) * size + np.maximum(step.taken - 1, 0)
        feed.update(input_ids=step.ids, past_lengths=step.lengths, logits_at=last)
        logits, *new = self._session.run(None, feed)
        rows, columns, slots = step.places()
        for whole, part in zip(cache, new, strict=True):
            whole[rows, :, slots] = part[rows, :, columns]
        given: Floats = logits
        return given

    def draw(self, requests: Sequence[Request], logits: Array) -> tuple[list[int], list[float]]:
        """See `BatchEngine.draw`."""
        temperature = np.array([request.temperature or 1.0 for request in requests])
        scores = logits.astype(np.float64) / temperature[:, None]
        scores -= scores.max(axis=1, keepdims=True)
        logprobs = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
        for row, request in enumerate(requests):
            if request.top_p < 1.0 and request.temperature:
                logprobs[row] = _nucleus(logprobs[row], request.top_p)
        total = np.exp(logprobs).cumsum(axis=1)
        points = np.array([request.rng.random() for request in requests])[:, None] * total[:, -1:]
        greedy = np.array([request.temperature == 0 for request in requests])
        drawn = np.where(greedy, logprobs.argmax(axis=1), (total > points).argmax(axis=1))
        return drawn.tolist(), logprobs[np.arange(len(requests)), drawn].tolist()

    def _load(self, path: Path) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # An idle policy must not burn the processor that the agents' code runs on.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the runtime has no common base class for its errors
            raise ConfigurationError(f"{path} cannot be loaded: {error}") from None


def _shapes(session: Any) -> dict[str, list[Any]]:
    """Inputs of a graph; a number is a size that is fixed."""
    return {value.name: value.shape for value in session.get_inputs()}


def _nucleus(logprobs: npt.NDArray[np.float64], top_p: float) -> npt.NDArray[np.float64]:
    """The distribution [V] cut to the fewest tokens that hold `top_p` of it, normalised again."""
    order = np.argsort(-logprobs, kind="stable")
    before = np.concatenate([[0.0], np.exp(logprobs[order]).cumsum()[:-1]])
    kept = order[before < top_p]
    cut = np.full_like(logprobs, -np.inf)
    cut[kept] = logprobs[kept] - np.log(np.exp(logprobs[kept]).sum())
    return cut
