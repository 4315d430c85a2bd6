"""Models that give log-probs of chosen tokens, padding-free or not, and the proof that they are those of their logits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

from recursive_agent.errors import ConfigurationError

from .loss import score_tokens
from .packing import ATTENTION, Layout, attends_fully

_TOLERANCE = 1e-3
"""Largest |Δ log-prob| that is put down to rounding in float32."""
_COARSE = 0.3
"""The same in half precision."""
_LENGTHS = (9, 5)
_OFF = "--set update.padding_free=false"


def install_scoring(model: Any, *, padding_free: bool) -> None:
    """Teach `model.forward` to give the log-probs of chosen tokens (arguments `at`, `targets`); else it is what it was.

    In `forward` itself, so that the hooks of DDP, FSDP and peft run around it. With `padding_free` the attention is
    switched to the packed one. Raises ConfigurationError for a model that has no attention interface or whose layers do
    not all attend to everything before them, and for one whose log-probs would not be those of its own logits.
    """
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    if getattr(causal.forward, "scores_tokens", False):
        return
    at_hand = all(value.numel() and not value.is_meta for value in causal.parameters())
    expected = _by_logits(causal) if at_hand else None
    if padding_free:
        _check_layers(causal)
        try:
            causal.set_attn_implementation(ATTENTION)
        except (ValueError, AttributeError) as error:
            raise ConfigurationError(
                f"{type(causal).__name__} cannot be trained padding-free; turn padding_free off ({_OFF}): {error}"
            ) from error
    plain = causal.forward

    def forward(*args: Any, at: torch.Tensor | None = None, **options: Any) -> Any:
        if at is None:
            return plain(*args, **options)
        targets, temperature, chunk = options.pop("targets"), options.pop("temperature"), options.pop("chunk")
        hidden = causal.base_model(*args, **options).last_hidden_state
        states = hidden.reshape(-1, hidden.shape[-1])[at]
        return score_tokens(causal.get_output_embeddings(), states, targets, temperature=temperature, chunk=chunk)

    forward.scores_tokens = True  # type: ignore[attr-defined]
    causal.forward = forward
    if expected is not None and bool(expected.isfinite().all()):
        try:
            difference = float((_as_trained(causal, packed=padding_free) - expected).abs().max())
        except (TypeError, AttributeError, ValueError, RuntimeError) as error:  # arguments or parts that it lacks
            reason = " ".join(str(error).split())[:200]
            raise ConfigurationError(
                f"{type(causal).__name__} cannot be trained{' padding-free' * padding_free}: {reason}"
                + f"; turn padding_free off ({_OFF})" * padding_free
            ) from error
        if not difference <= (_TOLERANCE if next(causal.parameters()).dtype == torch.float32 else _COARSE):
            raise ConfigurationError(
                f"{type(causal).__name__} cannot be trained{' padding-free' * padding_free}: its log-probs would be off by "
                f"{difference:.2g}, since its attention or its output is of a kind that is not known here"
                + f"; turn padding_free off ({_OFF})"
                * padding_free
            )


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """No dropout and no gradients."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)


def _check_layers(causal: Any) -> None:
    """A window may be longer than the rows of the proof."""
    if not attends_fully(causal.config):
        raise ConfigurationError(
            f"{type(causal).__name__} cannot be trained padding-free, since some of its layers do not attend to everything "
            f"before them; turn padding_free off ({_OFF})"
        )


def _rows(causal: Any) -> list[torch.Tensor]:
    """A few rows of token ids; any will do."""
    size, device = causal.config.get_text_config().vocab_size, next(causal.parameters()).device
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(size, (length,), generator=generator).to(device) for length in _LENGTHS]


def _by_logits(causal: Any) -> torch.Tensor:
    """Log-probs of all tokens of the rows but the first ones, each row by itself, from the model's own logits."""
    scores = []
    with evaluating(causal):
        for row in _rows(causal):
            logits = causal(input_ids=row[None], use_cache=False).logits[0, :-1]
            scores.append(torch.log_softmax(logits.float(), dim=-1).gather(1, row[1:, None])[:, 0])
    return torch.cat(scores)


def _as_trained(causal: Any, *, packed: bool) -> torch.Tensor:
    """The same, as a bin with these rows is scored in training."""
    rows = _rows(causal)
    device, longest = rows[0].device, max(_LENGTHS)
    places = [torch.arange(len(row), device=device) for row in rows]
    starts = (sum(_LENGTHS[:number]) if packed else number * longest for number in range(len(rows)))
    with evaluating(causal):
        scored = causal(
            input_ids=torch.cat(rows)[None] if packed else pad_sequence(rows, batch_first=True),
            position_ids=torch.cat(places)[None] if packed else places[0].expand(len(rows), longest),
            layout=Layout.of(_LENGTHS).to(device) if packed else None,
            at=torch.cat([start + place[:-1] for start, place in zip(starts, places, strict=True)]),
            targets=torch.cat([row[1:] for row in rows]),
            temperature=1.0,
            chunk=sum(_LENGTHS),
            use_cache=False,
        )
    logprobs: torch.Tensor = scored.logprobs
    return logprobs
