"""Whether recorded runs are this policy's own, by what the first step shows before anything is changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recursive_agent.trace.schema import ModelCalled

from ..data.folder import Recorded

_ROUNDING = 0.01
"""Mean |Δ log-prob| (nats a token) that rounding explains in float32; half precision on one side may give a little more."""
_CALLS = 16
"""Answers whose text is compared."""


def not_its_own(first: Mapping[str, Any], recorded: Recorded, tokenizer: Any, *, trained: str) -> str | None:
    """A sentence where the policy disagrees with whatever sampled the runs; `first` are the figures of the first step."""
    off = first.get("sampling/sampling_logp_difference/mean", 0.0)
    if off <= _ROUNDING:
        return None
    most = first.get("sampling/importance_sampling_ratio/max", 1.0)
    names = sorted({tree.model for tree in recorded.trees})
    guesses = []
    if names != [trained]:
        guesses.append(f"another model sampled them (the traces name {', '.join(names)}, and {trained} is trained)")
    if _spelt_otherwise(recorded, tokenizer):
        guesses.append("another tokenizer wrote their tokens, which spell another text here")
    if any(tree.settings.get("temperature") is None for tree in recorded.trees):
        guesses.append("their temperature was another one (they do not name it: set collect.temperature)")
    guesses.append("another version of the weights sampled them")
    guesses.append("their endpoint cut or bent the distribution, or computes in low precision")
    return (
        f"warning: this policy, as it is, did not sample these runs: before any update its log-probs differ by {off:.2g} nats "
        f"a token, and importance ratios reach {most:.3g}. Perhaps {', or '.join(guesses)}. Record new runs with this model"
    )


def _spelt_otherwise(recorded: Recorded, tokenizer: Any) -> bool:
    """Whether most answers have another text by this tokenizer than the trace has."""
    calls: list[ModelCalled] = []
    for tree in recorded.trees:
        for node in tree.nodes.values():
            calls += [call for call in node.model_calls if call.token_ids]
        if len(calls) >= _CALLS:
            break
    texts = [tokenizer.decode(list(call.token_ids or ()), skip_special_tokens=True) for call in calls[:_CALLS]]
    # An answer may have been cut at a stop string, so the text of the trace need only begin that of the tokens.
    other = sum(not text.startswith(call.text.strip()[:40]) for text, call in zip(texts, calls, strict=False))
    return 2 * other > len(texts)
