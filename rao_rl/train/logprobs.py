"""Models that give log-probs of chosen tokens, padding-free or not, and the proof that they are those of their logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

from recursive_agent.errors import ConfigurationError

from ..weights.causal_lm import attends_fully, base_model, evaluating
from .loss import score_tokens
from .packing import ATTENTION, Layout

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
    causal = base_model(model)
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
    if expected is not None:
        hint = f"; turn padding_free off ({_OFF})" * padding_free
        _compare(
            causal, expected, partial(_as_trained, causal, packed=padding_free), " padding-free" * padding_free, hint
        )


def use_packed_attention(model: Any) -> bool:
    """Switch a model to the packed attention where that leaves its log-probs as they are; whether it does."""
    causal = base_model(model)
    before = causal.config._attn_implementation
    if not attends_fully(causal.config):
        return False
    expected = _by_logits(causal)
    try:
        causal.set_attn_implementation(ATTENTION)
        _compare(causal, expected, partial(_packed_logits, causal))
    except (ConfigurationError, ValueError, AttributeError):
        if causal.config._attn_implementation != before:
            causal.set_attn_implementation(before)
        return False
    return True


def check_loss(model: Any, loss: Callable[[Sequence[torch.Tensor]], torch.Tensor]) -> None:
    """Raises ConfigurationError where `loss` is not the cross-entropy of some rows of tokens by the model's own logits.

    `loss` takes rows of token ids and gives the mean of −log p over all tokens but the first of each.
    """
    causal = base_model(model)
    with evaluating(model):
        _compare(causal, -_by_logits(causal).mean(), lambda: loss(_rows(causal)))


def _compare(
    causal: Any, expected: torch.Tensor, score: Callable[[], torch.Tensor], how: str = "", hint: str = ""
) -> None:
    """Raises ConfigurationError where `score` fails, or is off by more than rounding."""
    if not bool(expected.isfinite().all()):  # of a model that is broken already, which training finds out
        return
    try:
        difference = float((score() - expected).abs().max())
    except (TypeError, AttributeError, ValueError, RuntimeError) as error:  # arguments or parts that it lacks
        reason = " ".join(str(error).split())[:200]
        raise ConfigurationError(f"{type(causal).__name__} cannot be trained{how}: {reason}{hint}") from error
    if not difference <= (_TOLERANCE if next(causal.parameters()).dtype == torch.float32 else _COARSE):
        raise ConfigurationError(
            f"{type(causal).__name__} cannot be trained{how}: its log-probs would be off by {difference:.2g}, since its "
            f"attention or its output is of a kind that is not known here{hint}"
        )


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


def _packed_logits(causal: Any) -> torch.Tensor:
    """The same with the rows packed."""
    rows = _rows(causal)
    device = rows[0].device
    places = torch.cat([torch.arange(len(row), device=device) for row in rows])
    layout = Layout.of(_LENGTHS).to(device)
    with evaluating(causal):
        ids = torch.cat(rows)
        logits = causal(input_ids=ids[None], position_ids=places[None], layout=layout, use_cache=False).logits[0]
    at = (places > 0).nonzero()[:, 0]
    return torch.log_softmax(logits.float(), dim=-1)[at - 1].gather(1, ids[at, None])[:, 0]


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
    logps: torch.Tensor = scored.per_token_logps
    return logps
