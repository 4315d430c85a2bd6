"""Log-probs of sampled tokens by a policy, always computed in float32, with its present weights or with others.

A sampler that serves a policy in half precision holds rounded weights, and an old sampler holds old ones. Both are scored
here without a second copy of the policy: each layer gets the other weights while it computes, and no longer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from recursive_agent.model.base import Completion

from .causal_lm import base_model, evaluating
from .files import plain_state

Weights = Mapping[str, torch.Tensor]
"""Weights by name: as `adapter_state` names them, or else as `plain_state` does, with a LoRA worked in."""
Scores = npt.NDArray[np.float64]

_ADAPTER = ".lora_"
_LAYER = re.compile(r"[^0-9]*\.\d+\.")


def adapter_state(policy: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The weights of a LoRA around a policy, by peft's names."""
    return {name: value for name, value in policy.named_parameters() if _ADAPTER in name}


def unmerged_state(policy: torch.nn.Module) -> dict[str, torch.Tensor]:
    """What training changes: the adapter's weights where there is one, else all."""
    return adapter_state(policy) or plain_state(policy)


def copied(weights: Weights) -> dict[str, torch.Tensor]:
    """A copy in the memory of the CPU, whatever becomes of the originals."""
    return {name: value.detach().to("cpu", copy=True) for name, value in weights.items()}


def without_adapter(weights: Weights) -> dict[str, torch.Tensor]:
    """Adapter weights that add nothing."""
    zero = {name: torch.zeros_like(value, device="cpu") for name, value in weights.items() if ".lora_B" in name}
    return {**copied(weights), **zero}


def head_name(policy: torch.nn.Module) -> str | None:
    """What `plain_state` calls the output embedding, or the input's where they are tied; None where there is none."""
    plain: Any = base_model(policy)
    output = plain.get_output_embeddings()
    weight = getattr(output, "weight", None)
    named = plain.named_parameters()
    return next((name.replace(".base_layer.", ".") for name, value in named if value is weight), None)


def layers_of(weights: Weights) -> dict[str, list[str]]:
    """The names of the weights of each layer, by what they begin with, up to the layer's number."""
    layers: dict[str, list[str]] = {}
    for name in weights:
        if found := _LAYER.match(name):
            layers.setdefault(found[0], []).append(name)
    return layers


def score(
    policy: torch.nn.Module,
    answers: Sequence[Completion],
    *,
    temperature: float = 1.0,
    weights: Weights | None = None,
    head: torch.Tensor | None = None,
    rounded: torch.dtype = torch.float32,
) -> Scores:
    """Log-probs of the sampled tokens of all answers, one after the other, at a sampling temperature.

    By the policy's own weights or by `weights`, rounded to a dtype beforehand; `head` is another output embedding.
    """
    device = next(policy.parameters()).device
    # Under accelerate `forward` computes in mixed precision.
    forward: Any = getattr(policy, "_original_forward", policy)
    scores = []
    with evaluating(policy), holding(policy, weights, rounded, head):
        for answer in answers:
            prompt, sampled = list(answer.prompt_token_ids or ()), list(answer.token_ids or ())
            logits = forward(input_ids=torch.tensor([prompt + sampled], device=device), use_cache=False).logits
            logprobs = torch.log_softmax(logits[0, len(prompt) - 1 : -1].double() / temperature, dim=-1).cpu()
            scores.append(logprobs.gather(1, torch.tensor(sampled)[:, None])[:, 0].numpy())
    return np.concatenate(scores)


@contextmanager
def holding(
    policy: torch.nn.Module, weights: Weights | None, rounded: torch.dtype, head: torch.Tensor | None = None
) -> Iterator[None]:
    """While this lasts, the policy computes in float32 by `weights` (by its own where that names none), rounded first."""
    plain: Any = base_model(policy)
    merged = weights is not None and not any(_ADAPTER in name for name in weights)
    places = _places(plain, policy, merged=merged)
    other = {id(places[name]): value for name, value in (weights or {}).items() if name in places}
    output: Any = plain.get_output_embeddings()
    held: dict[int, tuple[torch.nn.Parameter, torch.Tensor]] = {}

    def enter(module: torch.nn.Module, arguments: Any) -> None:
        for parameter in module.parameters(recurse=False):
            own = parameter.data
            held[id(parameter)] = parameter, own
            value = other.get(id(parameter), own)
            if head is not None and module is output and parameter is output.weight:  # which may be tied to the input's
                value = head
            parameter.data = value.detach().to(own.device).to(rounded).float()

    def leave(module: torch.nn.Module, arguments: Any, result: Any) -> None:
        for parameter in module.parameters(recurse=False):
            if id(parameter) in held:
                parameter.data = held.pop(id(parameter))[1]

    with ExitStack() as stack:
        adapters: Callable[[], Any] | None = getattr(policy, "disable_adapter", None)
        if merged and adapters is not None:
            stack.enter_context(adapters())
        for module in {*_to_change(plain, other, rounded), *([output] if head is not None else [])}:
            stack.callback(module.register_forward_pre_hook(enter).remove)
            stack.callback(module.register_forward_hook(leave).remove)
        try:
            yield
        finally:
            for parameter, own in held.values():  # of a forward pass that failed
                parameter.data = own


def _places(plain: torch.nn.Module, policy: torch.nn.Module, *, merged: bool) -> dict[str, torch.nn.Parameter]:
    """The parameters that weights of a name belong to."""
    if not merged:
        return dict(policy.named_parameters())
    named = plain.named_parameters()
    return {name.replace(".base_layer.", "."): value for name, value in named if _ADAPTER not in name}


def _to_change(plain: torch.nn.Module, other: Mapping[int, Any], rounded: torch.dtype) -> list[torch.nn.Module]:
    """The modules that own a parameter which is not what is to be computed with."""
    return [
        module
        for module in plain.modules()
        if any(
            id(parameter) in other or {parameter.dtype, rounded} != {torch.float32}
            for parameter in module.parameters(recurse=False)
        )
    ]
