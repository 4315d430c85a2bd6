"""The check of a push: a serving engine that keeps an old weight answers all the same, and training on that goes wrong.

After a push a few answers are sampled, and their log-probs compared with what the trainer's own weights give the same
tokens. Two engines that compute in float32 agree to some 1e-5. One in half precision does not: its rounding moves log-probs
by more than an update does, so their size alone says little. But rounding goes either way, and an update goes one way. With
s the sampler's log-probs, a those by the new weights and b those by the weights before, the *share* of the update that the
sampler shows is the slope of s − b on a − b,

    share = Σ (s − b)(a − b) / Σ (a − b)²,

which is 1 for the new weights and 0 for the old ones; rounding blurs it by an error that is known from the residuals. While
that is too large to tell the two apart (an update of near zero), nothing is concluded, and the next push is compared with the
same weights before, so that what is missed adds up until it shows. A part that the sampler never renews (a layer, the output
embedding where it is tied to the input's) is looked for likewise, with b by weights of which only that part is of the start:
one part at each push, by turns.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import anyio
import anyio.to_thread
import numpy as np
import numpy.typing as npt
import torch

from recursive_agent.concurrency import task_group
from recursive_agent.errors import ConfigurationError
from recursive_agent.model.base import Completion, Message, Model, Sampling
from recursive_agent.model.logprobs import why_no_logprobs

from ..errors import WeightPushError
from .scoring import Scores, Weights, copied, head_name, layers_of, score, unmerged_state

_T = TypeVar("_T")

PROMPTS = (
    "Write one sentence about rivers, one about 12 blue stones and one about what a gear is made of, then say which is best.",
    "7 + 15 = 22, 22 + 31 = 53, 53 + 8 = 61. Go on with the list for as long as you like: a, b, c, 1, 2, 3, x, y, z.",
    "def f(n):\n    return n if n < 2 else f(n - 1) + f(n - 2)\nprint([f(n) for n in range(9)])\nWhat does this print? Why?",
    "A list: oak, iron, copper, paper, rope, glass, wool. Which of them float? Answer in any language and any format.",
)
"""What every probe asks: the same each time, and longer than a block of vLLM's prefix cache, so that a prefix kept from
the old weights is found out; open questions, so that the answer is no foregone conclusion whose log-prob is 0 whatever the
weights are."""
ROUNDING = 1e-3
"""Largest |Δ log-prob| of two engines that compute in float32: far above their rounding, and as an error of an importance
ratio far below what matters."""
MEAN = 0.1
"""Largest mean |Δ log-prob| of an engine in half precision."""
TOKENS = 512
"""Tokens that an engine in half precision is checked by, at least."""
_ROUNDS, _REPEATS, _LENGTH = 4, 4, 32
"""Most rounds of questions for as many tokens; how often each asks each prompt, and for how many tokens."""
SHARPEST = 0.1
"""Largest standard error of a share from which something is concluded."""
_ERRORS, _SLACK = 5.0, 0.05
"""The share may lack as many standard errors, or this much."""
_PRECISIONS = (torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """What a push took and how exact it was.

    `probe_error` is the largest |Δ log-prob| over `probe_tokens` sampled tokens and `probe_mean` the mean. `probe_share` is
    the share of the update that the sampler shows, None where float32 needed no such test or the update is too small for it.
    """

    method: str
    version: int
    seconds: float
    probe_error: float
    probe_tokens: int
    probe_mean: float = 0.0
    probe_share: float | None = None


@dataclass(frozen=True, slots=True)
class Share:
    """The share of an update that a sampler shows, and its standard error."""

    value: float
    error: float

    @classmethod
    def of(cls, sampler: Scores, new: Scores, old: Scores) -> Share:
        """From log-probs of the same tokens: by the sampler, by the new weights and by the old ones."""
        change, seen = new - old, sampler - old
        size = float(change @ change)
        if not size > 0:
            return cls(math.nan, math.inf)
        value = float(seen @ change) / size
        # Tokens that the update moves far are often those that rounding moves far, and a few may weigh more than all others:
        # the estimate of MacKinnon and White (HC3) allows for both.
        residual = (seen - value * change) / np.maximum(1 - change**2 / size, 1e-3)
        return cls(value, float(np.sqrt((residual**2) @ (change**2))) / size)

    @property
    def conclusive(self) -> bool:
        """Whether new and old weights can be told apart."""
        return self.error <= SHARPEST

    @property
    def whole(self) -> bool:
        """Whether the update is there, as far as can be told."""
        return not self.conclusive or self.value >= 1 - max(_SLACK, _ERRORS * self.error)


class Probe:
    """Samples after each of `prompts` at a temperature and compares the log-probs with the trainer's.

    What agrees to ROUNDING has the weights. Anything else fails where `exact` says that the sampler computes in float32, or
    where it did so before; otherwise more is sampled, whose mean |Δ log-prob| must stay below `tolerance` and which must show
    the update (see above). One probe belongs to one sampler, of which it remembers what weights it had.

    What computes with the policy waits for `turns`: probes of the same policy that run at the same time must share it.
    """

    def __init__(
        self,
        prompts: Sequence[str] = PROMPTS,
        *,
        max_tokens: int = 16,
        tolerance: float = MEAN,
        seed: int = 0,
        temperature: float = 1.0,
        exact: bool = False,
        turns: anyio.Lock | None = None,
    ) -> None:
        if not prompts or max_tokens < 1 or not tolerance > 0 or not temperature > 0:
            raise ConfigurationError("a probe needs prompts, tokens, a tolerance and a temperature above 0")
        self.prompts = tuple(prompts)
        self.max_tokens = max_tokens
        self.tolerance = tolerance
        self.seed = seed
        self.temperature = temperature
        self.exact = exact
        self.turns = turns or anyio.Lock()
        self.start: Weights | None = None
        """Weights that the sampler had before the first push; None while that is unknown or does not matter."""
        self._before: tuple[str, Weights] | None = None
        """The weights that the sampler was last shown to have."""
        self._asked = 0
        self._pushes = 0

    async def check(
        self,
        model: Model,
        policy: torch.nn.Module,
        *,
        version: int,
        method: str,
        started: float,
        pushed: Callable[[], Weights] | None = None,
    ) -> Push:
        """The finished push, begun at `started` (of time.perf_counter). Raises WeightPushError.

        `pushed` gives the weights as the sampler got them; by default those that training changes.
        """
        state = pushed or partial(unmerged_state, policy)
        answers = await self._ask(model, version, 1, self.max_tokens)
        of_policy = partial(score, policy, temperature=self.temperature)
        sampler = _given(answers)
        ours = await self._in_turn(partial(of_policy, answers))
        share: Share | None = None
        failure = f"The sampler {model.name} does not have the weights of version {version} (pushed by {method}): "
        if _largest(sampler - ours) <= min(ROUNDING, self.tolerance):
            self.exact, self.start, self._before = True, None, None
        elif self.exact:
            raise WeightPushError(f"{failure}{_differ(sampler - ours)}; in float32 {ROUNDING:g} is allowed.")
        else:
            weights = await self._in_turn(state)
            rounded = await self._in_turn(partial(_precision, of_policy, answers, weights))
            answers += await self._more(model, version, answers)
            sampler = _given(answers)
            of_policy = partial(of_policy, answers, rounded=rounded)
            ours = await self._in_turn(partial(of_policy, weights=weights))
            if not float(np.abs(sampler - ours).mean()) <= self.tolerance:  # also where it is no number
                raise WeightPushError(f"{failure}{_differ(sampler - ours)}; {self.tolerance:g} on average is allowed.")
            once = _distinct(answers)
            for what, old in self._suspects(policy, weights):
                theirs = await self._in_turn(partial(of_policy, **old))
                found = Share.of(sampler[once], ours[once], theirs[once])
                if not found.whole:
                    raise WeightPushError(
                        f"{failure}{_differ(sampler - ours)}, and of the change of {what} they show {found.value:.0%} (± "
                        f"{found.error:.0%}) instead of all."
                    )
                share = share or found
            if self._before is None or (share is not None and share.conclusive):
                self._before = f"version {version}", await self._in_turn(partial(copied, weights))
            self.start = self.start or self._before[1]
        difference = np.abs(sampler - ours)
        return Push(
            method=method,
            version=version,
            seconds=time.perf_counter() - started,
            probe_error=float(difference.max()),
            probe_tokens=difference.size,
            probe_mean=float(difference.mean()),
            probe_share=share.value if share is not None and share.conclusive else None,
        )

    async def _in_turn(self, compute: Callable[[], _T]) -> _T:
        async with self.turns:
            return await anyio.to_thread.run_sync(compute)

    def _suspects(self, policy: torch.nn.Module, weights: Weights) -> Iterator[tuple[str, dict[str, Any]]]:
        """What may be old, and the arguments of `score` for it: all weights first, then a part of them."""
        start = self.start
        if start is None:
            return
        name, before = self._before or ("the start", start)
        yield f"the weights since {name}", {"weights": before}
        number, self._pushes = self._pushes, self._pushes + 1
        head = head_name(policy)
        if number % 2 == 0 and head is not None and head in weights and head in start:
            yield "the output embedding since the start", {"weights": weights, "head": start[head]}
        elif layers := layers_of(weights):
            layer = list(layers)[number // 2 % len(layers)]
            old = {name: start[name] for name in layers[layer] if name in start}
            yield f"{layer.rstrip('.')} since the start", {"weights": {**weights, **old}}

    async def _more(self, model: Model, version: int, first: Sequence[Completion]) -> list[Completion]:
        """Further answers, until TOKENS tokens are different ones, or there are no more to be had."""
        answers: list[Completion] = []
        for _ in range(_ROUNDS):
            if int(_distinct([*first, *answers]).sum()) >= TOKENS:
                break
            answers += await self._ask(model, version, _REPEATS, _LENGTH)
        return answers

    async def _ask(self, model: Model, version: int, repeats: int, max_tokens: int) -> list[Completion]:
        sampling = Sampling(temperature=self.temperature, top_p=1.0, max_tokens=max_tokens)
        answers: list[Completion] = []

        async def ask(seed: int, prompt: str) -> None:
            conversation = model.conversation(sampling=sampling)
            conversation.add(Message("user", prompt))
            answers.append(await conversation.complete(max_tokens=max_tokens, seed=seed))

        async with task_group() as group:
            for number, prompt in itertools.product(range(repeats), self.prompts):
                # Other tokens at every push, so that in the long run the whole vocabulary is looked at.
                seed = self.seed + self._asked
                group.start_soon(ask, seed, f"{prompt} ({seed})" if number else prompt)
                self._asked += 1
        for answer in answers:
            if not answer.token_ids or not answer.prompt_token_ids or answer.logprobs is None:
                raise WeightPushError(f"{model.name} gave no token ids or log-probs, so the push cannot be checked.")
            if (wrong := why_no_logprobs(answer.logprobs)) is not None:
                raise WeightPushError(
                    f"{model.name} gave log-probs that are none ({wrong}), so the push cannot be checked."
                )
            if answer.version != str(version):
                raise WeightPushError(f"{model.name} sampled with version {answer.version} after a push of {version}.")
        return answers


def _precision(of_policy: Callable[..., Scores], answers: Sequence[Completion], weights: Weights) -> torch.dtype:
    """The dtype that the sampler holds the weights in, as far as its log-probs say."""
    sampler = _given(answers)
    misses = {
        dtype: float(np.abs(sampler - of_policy(answers, weights=weights, rounded=dtype)).mean())
        for dtype in _PRECISIONS
    }
    return min(misses, key=lambda dtype: misses[dtype])


def _given(answers: Sequence[Completion]) -> Scores:
    """The sampler's own log-probs of all answers."""
    return np.concatenate([np.asarray(answer.logprobs, np.float64) for answer in answers])


def _distinct(answers: Sequence[Completion]) -> npt.NDArray[np.bool_]:
    """Which tokens are not sampled after the same tokens before: what is rounded twice in the same way counts once."""
    seen: set[tuple[int, ...]] = set()
    first = []
    for answer in answers:
        tokens = [*(answer.prompt_token_ids or ()), *(answer.token_ids or ())]
        for end in range(len(answer.prompt_token_ids or ()) + 1, len(tokens) + 1):
            prefix = tuple(tokens[:end])
            first.append(prefix not in seen)
            seen.add(prefix)
    return np.array(first)


def _largest(differences: Scores) -> float:
    """Infinite where one is no number."""
    most = float(np.abs(differences).max())
    return math.inf if math.isnan(most) else most


def _differ(differences: Scores) -> str:
    return (
        f"over {differences.size} sampled tokens its log-probs differ by up to {np.abs(differences).max():.3g} from the "
        f"trainer's, {np.abs(differences).mean():.3g} on average"
    )
