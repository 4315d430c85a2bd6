"""Samples of one prompt from /v1/completions, and what they show about the endpoint; see `probing`."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..usage import Usage
from .bill import reported_usage
from .logprobs import why_no_logprobs

_MOVED = 0.1
"""Difference (median) that a change of temperature makes at least; rounding makes less."""
_SURE = -0.05
"""Log-prob above which a token leaves the temperature nothing to change."""


@dataclass(frozen=True, slots=True)
class Samples:
    """Samples of one prompt with their metadata; None where the endpoint left it out or sent it in another form."""

    prompt: list[int] | None
    ids: list[list[int] | None]
    logprobs: list[list[Any] | None]
    usage: Usage | None

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Samples:
        """Read off an answer of /v1/completions."""
        listed = data.get("choices")
        choices = [choice for choice in listed if isinstance(choice, dict)] if isinstance(listed, list) else []
        first = choices[0] if choices else {}
        parts = [choice.get("logprobs") for choice in choices]
        logprob_lists = [of.get("token_logprobs") if isinstance(of, dict) else None for of in parts]
        return cls(
            prompt=_ids(first.get("prompt_token_ids", data.get("prompt_token_ids"))),
            ids=[_ids(choice.get("token_ids")) for choice in choices],
            logprobs=[values if isinstance(values, list) else None for values in logprob_lists],
            usage=reported_usage(data),
        )

    def prompt_problem(self, sent: Sequence[int]) -> tuple[bool | None, str]:
        """Whether the ids that were sent are those that were continued, and what speaks against it."""
        if self.prompt is not None:
            return self.prompt == list(sent), "it continued another prompt than the ids it was sent"
        if self.usage is not None:
            counted = self.usage.prompt_tokens
            return counted == len(sent), f"a prompt of {len(sent)} ids was counted as {counted} tokens"
        return None, "nothing is said of the prompt"

    def ids_problem(self) -> str | None:
        """What is wrong with the token ids."""
        if not self.ids:
            return "the answer had status 200 and nothing in it"
        if self.prompt is None or any(ids is None for ids in self.ids):
            return "return_token_ids was taken and ignored"
        sampled = sum(len(ids or ()) for ids in self.ids)
        if not sampled or (self.usage is not None and sampled != self.usage.completion_tokens):
            billed = "" if self.usage is None else f" for {self.usage.completion_tokens} tokens that were billed"
            return f"{sampled} token ids came{billed}"
        return None

    def logprobs_problem(self) -> str | None:
        """What is wrong with the log-probs."""
        if not self.logprobs or any(values is None for values in self.logprobs):
            return "logprobs were asked for and none came"
        for ids, values in zip(self.ids, self.logprobs, strict=True):
            if ids is not None and len(ids) != len(values or ()):
                return f"{len(values or ())} log-probs came for {len(ids)} token ids"
            if (wrong := why_no_logprobs(values or ())) is not None:
                return wrong
        return None

    def scaling(self, hot: Samples) -> tuple[bool | None, str]:
        """Whether the temperature shows in the log-probs of what was sampled at both, and what speaks against it."""
        here, there = self._paths(), hot._paths()
        shared = [(here[path], there[path]) for path in here.keys() & there.keys()]
        if not shared:
            return None, "no token was sampled at both of two temperatures"
        moved = statistics.median(abs(cold - warm) for cold, warm in shared)
        if moved > _MOVED:
            return True, ""
        if all(cold > _SURE for cold, _ in shared):
            return None, "the model is too sure of itself to see it"
        return False, "they are the same at every temperature (vLLM: --logprobs-mode processed_logprobs)"

    def _paths(self) -> dict[tuple[int, ...], float]:
        """The log-prob of the last of these ids, after the others."""
        pairs = zip(self.ids, self.logprobs, strict=True)
        return {
            tuple(ids[: end + 1]): float(values[end])
            for ids, values in pairs
            if ids and values
            for end in range(min(len(ids), len(values)))
        }


def _ids(value: Any) -> list[int] | None:
    return value if isinstance(value, list) and all(isinstance(token, int) for token in value) else None
