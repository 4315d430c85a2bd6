"""Pushing a policy's weights into the model that samples with them. Every push ends with a probe of log-probs.

A serving engine that keeps an old weight answers all the same, and training on its samples goes wrong without a word. So
after each push a few tokens are sampled and their log-probs compared with what the trainer's own model gives them.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import anyio
import anyio.to_thread
import numpy as np
import torch

from recursive_agent.concurrency import task_group
from recursive_agent.errors import ConfigurationError
from recursive_agent.model.base import Completion, Message, Model, Sampling
from recursive_agent.model.embedded import EmbeddedModel

from ..errors import WeightPushError
from .causal_lm import evaluating
from .files import GRAPH, WEIGHTS, plain_state, rewrite_weights
from .torch_model import TorchModel

PROMPTS = (
    "Write one sentence about rivers, one about 12 blue stones and one about what a gear is made of, then say which is best.",
    "7 + 15 = 22, 22 + 31 = 53, 53 + 8 = 61. Go on with the list for as long as you like: a, b, c, 1, 2, 3, x, y, z.",
    "def f(n):\n    return n if n < 2 else f(n - 1) + f(n - 2)\nprint([f(n) for n in range(9)])\nWhat does this print? Why?",
    "A list: oak, iron, copper, paper, rope, glass, wool. Which of them float? Answer in any language and any format.",
)
"""What every probe asks: the same each time, and longer than a block of vLLM's prefix cache, so that a prefix kept from
the old weights is found out; open questions, so that the answer is no foregone conclusion whose log-prob is 0 whatever the
weights are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """What a push took and how exact it was: `probe_error` is the largest |Δ log-prob| over `probe_tokens` sampled tokens."""

    method: str
    version: int
    seconds: float
    probe_error: float
    probe_tokens: int


class WeightSync(Protocol):
    """A way to push weights."""

    @property
    def model(self) -> Model:
        """Samples with what was pushed last; its calls carry `str(version)`."""

    async def push(self, policy: torch.nn.Module, version: int) -> Push:
        """Make `model` sample with the policy's present weights, and prove it. Raises WeightPushError."""


class Probe:
    """Samples after each of `prompts` at temperature 1 and compares log-probs with those of the trainer's forward pass.

    `tolerance` bounds the largest |Δ log-prob|. In float32 on both sides the two agree to some 1e-5, so 1e-3 is far above
    rounding; and it moves an importance ratio by a thousandth, so what stays below does not matter either. Engines that
    compute in bfloat16 need more.
    """

    def __init__(
        self, prompts: Sequence[str] = PROMPTS, *, max_tokens: int = 16, tolerance: float = 1e-3, seed: int = 0
    ) -> None:
        if not prompts or max_tokens < 1 or not tolerance > 0:
            raise ConfigurationError("a probe needs prompts, tokens and a tolerance above 0")
        self.prompts = tuple(prompts)
        self.max_tokens = max_tokens
        self.tolerance = tolerance
        self.seed = seed

    async def check(self, model: Model, policy: torch.nn.Module, *, version: int, method: str, started: float) -> Push:
        """The finished push, begun at `started` (of time.perf_counter). Raises WeightPushError."""
        answers = await self._ask(model, version)
        differences = await anyio.to_thread.run_sync(partial(_differences, policy, answers))
        worst = int(np.abs(differences).argmax())
        largest = float(np.abs(differences[worst]))
        if not largest <= self.tolerance:  # also where it is no number
            raise WeightPushError(
                f"The sampler {model.name} does not have the weights of version {version} (pushed by {method}): over "
                f"{differences.size} sampled tokens its log-probs differ by up to {largest:.3g} from the trainer's, "
                f"{float(np.abs(differences).mean()):.3g} on average; {self.tolerance:g} is allowed."
            )
        return Push(
            method=method,
            version=version,
            seconds=time.perf_counter() - started,
            probe_error=largest,
            probe_tokens=differences.size,
        )

    async def _ask(self, model: Model, version: int) -> list[Completion]:
        sampling = Sampling(temperature=1.0, top_p=1.0, max_tokens=self.max_tokens)
        answers: list[Completion] = []

        async def ask(number: int, prompt: str) -> None:
            conversation = model.conversation(sampling=sampling)
            conversation.add(Message("user", prompt))
            # Other tokens at every push, so that in the long run the whole vocabulary is looked at.
            seed = self.seed + version * len(self.prompts) + number
            answers.append(await conversation.complete(max_tokens=self.max_tokens, seed=seed))

        async with task_group() as group:
            for number, prompt in enumerate(self.prompts):
                group.start_soon(ask, number, prompt)
        for answer in answers:
            if not answer.token_ids or not answer.prompt_token_ids or answer.logprobs is None:
                raise WeightPushError(f"{model.name} gave no token ids or log-probs, so the push cannot be checked.")
            if answer.version != str(version):
                raise WeightPushError(f"{model.name} sampled with version {answer.version} after a push of {version}.")
        return answers


class EmbeddedSync:
    """Pushes into an embedded model by way of `directory`, a checkpoint of the policy's shape that is rewritten each time.

    A directory without a checkpoint gets a copy of the model's own. Only the weights are written again: the layout of their
    file stays, byte for byte, so that the graph beside it stays true. A reader finds the old weights or the new ones whole.
    """

    def __init__(self, model: EmbeddedModel, directory: str | Path, *, probe: Probe | None = None) -> None:
        self.model = model
        self.directory = Path(directory)
        self.probe = probe or Probe()
        if not (self.directory / GRAPH).is_file():
            self.directory.mkdir(parents=True, exist_ok=True)
            for path in model.directory.iterdir():
                if path.is_file():
                    shutil.copyfile(path, self.directory / path.name)  # an installed policy may be read-only

    async def push(self, policy: torch.nn.Module, version: int) -> Push:
        """See `WeightSync.push`. Raises ConfigurationError for a policy of another shape than the checkpoint."""
        started = time.perf_counter()
        await anyio.to_thread.run_sync(rewrite_weights, self.directory / WEIGHTS, plain_state(policy))
        await self.model.load(self.directory, version=str(version))
        return await self.probe.check(self.model, policy, version=version, method="embedded", started=started)


class TorchSync:
    """Pushes into a model that torch samples from in this process: a copy of the weights, or none where they are shared."""

    def __init__(self, model: TorchModel, *, probe: Probe | None = None) -> None:
        self.model = model
        self.probe = probe or Probe()

    async def push(self, policy: torch.nn.Module, version: int) -> Push:
        """See `WeightSync.push`. Raises ConfigurationError for a policy of another shape."""
        started = time.perf_counter()
        await self.model.load(policy, version=str(version))
        return await self.probe.check(self.model, policy, version=version, method="torch", started=started)


def _differences(policy: torch.nn.Module, answers: Sequence[Completion]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The sampler's log-prob less the trainer's, for every sampled token."""
    device = next(policy.parameters()).device
    # Under accelerate `forward` computes in mixed precision; the sampler holds the float32 weights themselves.
    forward: Any = getattr(policy, "_original_forward", policy)
    differences = []
    with evaluating(policy):
        for answer in answers:
            prompt, sampled = list(answer.prompt_token_ids or ()), list(answer.token_ids or ())
            logits = forward(input_ids=torch.tensor([prompt + sampled], device=device), use_cache=False).logits
            scores = torch.log_softmax(logits[0, len(prompt) - 1 : -1].double(), dim=-1).cpu()
            ours = scores.gather(1, torch.tensor(sampled)[:, None])[:, 0].numpy()
            differences.append(np.asarray(answer.logprobs, np.float64) - ours)
    return np.concatenate(differences)
