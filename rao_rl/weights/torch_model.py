"""Sampling from a torch model in this process: batched decoding with a KV cache, and the same interface as vLLM's.

For training on a CPU or on one GPU without a server. Which requests share a batch, what is kept between the turns of a
conversation and how they end is `recursive_agent.model`'s; here is the forward pass and the draw.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import anyio.to_thread
import numpy as np
import torch
from transformers import PreTrainedModel
from transformers.cache_utils import Cache

from recursive_agent.checkpoint import CheckpointSettings
from recursive_agent.errors import ConfigurationError
from recursive_agent.model.base import Sampling
from recursive_agent.model.batching import Array, BatchEngine, Request, Step
from recursive_agent.model.local import LocalModel
from recursive_agent.model.template import CheckpointRenderer

from .adapters import merged
from .causal_lm import attends_fully, base_model, window_of
from .files import plain_state


class TorchModel(LocalModel):
    """A transformers causal LM in this process, as a `Model` with the interface `tokens`.

    `directory` gives tokenizer, chat template and settings, as a checkpoint of the policy would. With `share` the weights are
    the policy's own tensors: no second copy, and what an optimizer does to them is sampled from at once, so roll out and
    train by turns. Otherwise they are a copy on `device` and in `dtype` (default: as they are); a LoRA of peft is worked in, in
    float32.
    `max_batch` calls are sampled at once (default: 64, on a GPU 256); `cache_mb` bounds what is remembered of conversations
    between their turns (default: 256, on a GPU a quarter of the memory that is free). `settings` and `renderer` take the
    place of the directory's own; `engine` is what samples (default: `TorchEngine`).

    Raises ConfigurationError for models whose layers do not all attend to everything before them.
    """

    engine: TorchEngine

    def __init__(
        self,
        policy: torch.nn.Module,
        directory: str | Path,
        *,
        share: bool = False,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
        sampling: Sampling | None = None,
        seed: int | None = None,
        max_batch: int | None = None,
        cache_mb: int | None = None,
        settings: CheckpointSettings | None = None,
        renderer: CheckpointRenderer | None = None,
        engine: type[TorchEngine] | None = None,
    ) -> None:
        if share and (device is not None or dtype is not None):
            raise ConfigurationError("shared weights stay where and as they are: leave device and dtype out")
        folder = Path(directory)
        settings = settings or CheckpointSettings.of(folder)
        super().__init__(folder, settings, sampling=sampling, seed=seed, renderer=renderer)
        self.shared = policy if share else None
        # With its parameters in the memo a deep copy has modules, modes and settings of its own over the same tensors.
        copied: Any = copy.deepcopy(
            policy, {id(parameter): parameter for parameter in policy.parameters()} if share else {}
        )
        if not share and hasattr(copied, "peft_config"):
            # An adapter beside its weights costs every token two more products a layer; bfloat16 would round most of it away.
            copied = merged(copied.float())
        copied.to(device)
        for parameter in copied.parameters() if dtype is not None else ():
            parameter.data = parameter.data.to(dtype)  # buffers, such as the frequencies of the positions, stay exact
        rows, room = _room(next(copied.parameters()).device)
        self.engine = (engine or TorchEngine)(
            copied,
            end_ids=self.end_ids,
            max_batch=rows if max_batch is None else max_batch,
            cache_bytes=room if cache_mb is None else cache_mb << 20,
        )
        self.engine.version = self.settings.version

    async def load(self, policy: torch.nn.Module, *, version: str) -> None:
        """Go on with the weights that `policy` has now, which are named `version`.

        Calls in flight go on with them as well, and report the version they began with. Raises ConfigurationError, with the
        old weights still in place, for a policy of another shape.
        """
        if self.shared is not None and policy is not self.shared:
            raise ConfigurationError("this model shares the weights of another policy than the one that is pushed")
        change = partial(copy_weights, policy, self.engine.policy) if self.shared is None else lambda: None
        await anyio.to_thread.run_sync(partial(self.engine.renew, change, version=version))


class TorchEngine(BatchEngine):
    """Samples from `policy`, which it takes over: evaluation mode, attention by torch's own kernels."""

    def __init__(
        self, policy: torch.nn.Module, *, end_ids: Sequence[int], max_batch: int = 64, cache_bytes: int = 256 << 20
    ) -> None:
        base = base_model(policy)
        if not isinstance(base, PreTrainedModel):
            raise ConfigurationError(f"a causal language model of transformers is needed, not {type(base).__name__}")
        config: Any = base.config.get_text_config()
        if not attends_fully(config):
            raise ConfigurationError(
                f"{type(base).__name__} cannot be sampled in this process, since {_other_layers(config)}; sample from vLLM "
                "instead (sampler.name=vllm-lora, for example)"
            )
        base.set_attn_implementation("sdpa")
        self.policy: torch.nn.Module = policy.eval()
        parameter = next(base.parameters())
        self._device, self._dtype = parameter.device, parameter.dtype
        self._heads: int = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        self._width: int = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self._layers: int = config.num_hidden_layers
        self._picks = "logits_to_keep" in inspect.signature(base.forward).parameters
        # One array holds the keys and values of all layers, as heads behind each other: what moves, moves in one operation.
        super().__init__(arrays=1, end_ids=end_ids, max_batch=max_batch, cache_bytes=cache_bytes)

    def empty(self, rows: int, length: int) -> torch.Tensor:
        """See `BatchEngine.empty`: zeros [rows, 2 * layers * K, length, D]."""
        heads = 2 * self._layers * self._heads
        return torch.zeros(rows, heads, length, self._width, dtype=self._dtype, device=self._device)

    def copy(self, array: Array) -> Array:
        """See `BatchEngine.copy`."""
        return array.clone()

    @torch.no_grad()
    def forward(self, step: Step, cache: list[Array]) -> torch.Tensor:
        """See `BatchEngine.forward`."""
        whole = step.lengths + step.taken
        used = int(whole.max())
        # A pad has its row's last position: one behind it may be beyond those that the model knows.
        last_position = np.maximum(whole - 1, 0)[:, None]
        positions = self._tensor(np.minimum(step.lengths[:, None] + np.arange(step.ids.shape[1]), last_position))
        # A token sees what its row's cache holds up to itself. What stands behind is a pad's or was never written: zeros.
        seen = torch.arange(used, device=self._device) <= positions[:, :, None]
        last = np.maximum(step.taken - 1, 0)
        wanted, which = np.unique(last, return_inverse=True)
        places = self._tensor(np.stack(step.places())).unbind()
        given: Any = self.policy(
            input_ids=self._tensor(step.ids),
            position_ids=positions,
            attention_mask=seen[:, None],
            past_key_values=_Slots(cache[0], self._heads, places, used),
            use_cache=True,
            **({"logits_to_keep": self._tensor(wanted)} if self._picks else {}),
        )
        at = self._tensor(which if self._picks else last)
        logits: torch.Tensor = given.logits[torch.arange(len(last), device=self._device), at]
        return logits

    @torch.no_grad()
    def draw(self, requests: Sequence[Request], logits: Array) -> tuple[list[int], list[float]]:
        """See `BatchEngine.draw`."""
        scale = [[1 / (request.temperature or 1.0)] for request in requests]
        scores = logits.double() * torch.tensor(scale, dtype=torch.float64, device=self._device)
        logprobs = torch.log_softmax(scores, dim=-1)
        cut = [request.top_p < 1 and request.temperature > 0 for request in requests]
        if any(cut):
            most = [[request.top_p if cuts else 2.0] for request, cuts in zip(requests, cut, strict=True)]
            logprobs = _nucleus(logprobs, torch.tensor(most, dtype=torch.float64, device=self._device))
        total = logprobs.exp().cumsum(dim=-1)
        points = torch.tensor([[request.rng.random()] for request in requests], dtype=torch.float64)
        drawn = torch.searchsorted(total, points.to(self._device) * total[:, -1:], right=True).clamp_(
            max=logprobs.shape[1] - 1
        )
        greedy = torch.tensor([[request.temperature == 0] for request in requests], device=self._device)
        drawn = torch.where(greedy, logprobs.argmax(dim=-1, keepdim=True), drawn)
        tokens, chosen = torch.cat(
            [drawn.double(), logprobs.gather(1, drawn)], dim=1
        ).T.tolist()  # one wait for the device
        return [int(token) for token in tokens], chosen

    def _tensor(self, array: np.ndarray[Any, Any]) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._device)


def _room(device: torch.device) -> tuple[int, int]:
    """The calls that are sampled at once, and the bytes for what is remembered between turns.

    A step of decoding takes a GPU about the same time for one row as for hundreds.
    """
    if device.type != "cuda":
        return 64, 256 << 20
    return 256, torch.cuda.mem_get_info(device)[0] // 4


def _other_layers(config: Any) -> str:
    """What keeps a model from being sampled here."""
    if window := window_of(config):
        return f"its layers attend to the last {window:,} tokens only"
    kinds = sorted(set(config.layer_types) - {"full_attention"})
    return f"some of its layers are of the kind {', '.join(kinds)}"


class _Slots(Cache):
    """Keys and values in rows of different lengths: new ones are written into their slots, all `used` slots are attended to.

    The caller's mask says which of them count.
    """

    def __init__(self, stored: torch.Tensor, heads: int, places: Sequence[torch.Tensor], used: int) -> None:
        super().__init__(layers=[])
        self._stored = stored
        self._heads = heads
        self._places = places
        self._used = used

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Take in the new keys and values [B, K, S, D] of a layer; all of them [B, K, P, D]."""
        rows, columns, slots = self._places
        first = 2 * layer_idx * self._heads
        keys = self._stored[:, first : first + self._heads]
        values = self._stored[:, first + self._heads : first + 2 * self._heads]
        for array, new in ((keys, key_states), (values, value_states)):
            array[rows, :, slots] = new[rows, :, columns].to(array.dtype)
        return keys[:, :, : self._used], values[:, :, : self._used]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Positions and masks are given, so nobody needs to know."""
        return 0


def _nucleus(logprobs: torch.Tensor, top_p: torch.Tensor) -> torch.Tensor:
    """Each distribution [B, V] cut to the fewest tokens that hold its `top_p` [B, 1], normalised again."""
    ordered, order = logprobs.sort(dim=-1, descending=True, stable=True)
    before = ordered.exp().cumsum(dim=-1) - ordered.exp()
    kept = torch.zeros_like(before, dtype=torch.bool).scatter_(1, order, before < top_p)
    cut = logprobs.masked_fill(~kept, -torch.inf)
    return cut - cut.logsumexp(dim=-1, keepdim=True)


@torch.no_grad()
def copy_weights(source: torch.nn.Module, target: torch.nn.Module) -> None:
    """Put the weights of `source`, a LoRA worked in, into `target`.

    Raises ConfigurationError, before anything is copied, where names or shapes differ.
    """
    theirs, ours = plain_state(source), target.state_dict()
    for name in theirs.keys() | ours.keys():
        if name not in theirs or name not in ours or theirs[name].shape != ours[name].shape:
            raise ConfigurationError(f"the policy that is pushed and the one that samples differ in {name}")
    for name, tensor in ours.items():
        tensor.copy_(theirs[name])
