"""Updates without the noise of training modes: dropout, dropped layers and the jitter of routers.

The importance ratio compares the policy with itself: with noise, its log-probs are those of another policy at each pass, and
the ratio is wrong before anything has changed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformers.modeling_layers import GradientCheckpointingLayer


def without_noise(model: Any) -> None:
    """Put a model in evaluation mode, with gradients, and with gradient checkpointing where that is on."""
    model.eval()
    for module in model.modules():
        if isinstance(module, GradientCheckpointingLayer) and module.gradient_checkpointing:
            module.training = True  # otherwise it does not checkpoint
            checkpoint: Any = getattr(module, "_gradient_checkpointing_func", None)
            if checkpoint is not None and not isinstance(checkpoint, _InEvaluation):
                object.__setattr__(module, "_gradient_checkpointing_func", _InEvaluation(module, checkpoint))


class _InEvaluation:
    """How a layer is checkpointed, but in evaluation mode, in the forward pass and when it is computed again."""

    def __init__(self, layer: Any, checkpoint: Callable[..., Any]) -> None:
        self._layer = layer
        self._checkpoint = checkpoint

    def __call__(self, run: Callable[..., Any], *args: Any, **options: Any) -> Any:
        def evaluated(*inputs: Any) -> Any:
            self._layer.training = False
            try:
                return run(*inputs)
            finally:
                self._layer.training = True

        return self._checkpoint(evaluated, *args, **options)
