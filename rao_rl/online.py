"""The online loop: push the weights, roll out, make the step; `RaoTrainer` asks for one step after the other."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from anyio.from_thread import BlockingPortal, start_blocking_portal
from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

from recursive_agent.errors import RaoError
from recursive_agent.repl import UNSET, Require, Sandbox, Unset, make_sandbox

from .batches import step_of
from .bounds import Amount, Count, Seed, Whole, check
from .collect import Collector, TreeBatch
from .credit import CreditConfig
from .envs.base import Environment, Task
from .evaluate import evaluate, summarize
from .loss import Normalize
from .runs import append_metrics
from .trainer import Step
from .weights import WeightSync

HOPELESS = 50
"""Batches in a row that teach nothing after which a run without a budget of tokens gives up."""


class NothingToLearn(RaoError):
    """No batch has anything to teach; the message says what to change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OnlineConfig:
    """How the loop runs. `max_staleness` s lets batches be rolled out by weights up to s updates old, beside the training.

    Every `eval_every` steps, and at the end, `eval_tasks` are attempted (`eval_temperature` None: as in training).
    The run ends after `max_steps` updates or `max_generated_tokens` sampled in training, whichever comes first.
    """

    max_steps: Count = 100
    max_generated_tokens: Count | None = None
    max_staleness: Whole = 0
    seed: Seed = 0
    eval_every: Whole = 0
    eval_start: bool = True
    """Whether the policy that the run begins with is evaluated too."""
    eval_concurrency: Count = 16
    eval_temperature: Amount | None = None

    def __post_init__(self) -> None:
        check(self)


class Progress(TrainerCallback, ExportableState):
    """How far the loop is, kept in the trainer's checkpoints: batches used (some teach nothing) and tokens generated."""

    def __init__(self, batches: int = 0, generated_tokens: int = 0) -> None:
        self.batches = batches
        self.generated_tokens = generated_tokens

    def state(self) -> dict[str, Any]:
        """What goes into `trainer_state.json`."""
        return {"args": {"batches": self.batches, "generated_tokens": self.generated_tokens}, "attributes": {}}


class OnlineLoop:
    """Gives the optimizer steps of a run (`steps`), and knows how much of it is done (`share`).

    `evaluated` are steps whose weights need no evaluation any more. A context manager: it holds the event loop in which
    the agents run, and their sandbox.
    """

    def __init__(
        self,
        collector: Collector,
        sync: WeightSync,
        policy: torch.nn.Module,
        credit: CreditConfig,
        config: OnlineConfig,
        *,
        normalize: Normalize = "token",
        constant: float = 1.0,
        progress: Progress,
        metrics: Path,
        eval_tasks: Sequence[Task] = (),
        evaluated: Iterable[int] = (),
        require: Require | Unset = UNSET,
    ) -> None:
        self.collector = collector
        self.sync = sync
        self.policy = policy
        self.credit = replace(credit, max_staleness=config.max_staleness)
        self.config = config
        self.normalize: Normalize = normalize
        self.constant = constant
        self.progress = progress
        self.metrics = metrics
        self.eval_tasks = list(eval_tasks)
        self._pending: dict[int, Future[TreeBatch]] = {}
        self._evaluated = set(evaluated)
        self._require: Require | Unset = require

    def __enter__(self) -> OnlineLoop:
        self._stack = start_blocking_portal("asyncio")
        self._portal: BlockingPortal = self._stack.__enter__()
        self._sandbox_context = self._portal.wrap_async_context_manager(make_sandbox("process", require=self._require))
        self._sandbox: Sandbox = self._sandbox_context.__enter__()
        return self

    def __exit__(self, *exc: Any) -> None:
        for future in self._pending.values():
            future.cancel()
        try:
            self._portal.call(self.sync.model.aclose)
            self._sandbox_context.__exit__(*exc)
        finally:
            self._stack.__exit__(*exc)

    def share(self, step: int) -> float:
        """Share of the run that is done after `step` updates."""
        spent = self.config.max_generated_tokens
        tokens = 0.0 if spent is None else self.progress.generated_tokens / spent
        return max(step / self.config.max_steps, tokens)

    def steps(self, first: int) -> Iterator[Step]:
        """The optimizer steps from `first` on. A batch that teaches nothing is passed over; its tokens count."""
        version = first
        pushed = self._push(version)
        idle = 0
        while self.share(version) < 1:
            if self.config.eval_every and version % self.config.eval_every == 0 and (version or self.config.eval_start):
                self.evaluate(version)
            begun = time.monotonic()
            number = self.progress.batches
            for ahead in range(number, number + self.config.max_staleness + 1):
                if ahead not in self._pending:
                    self._pending[ahead] = self._portal.start_task_soon(self.collector.batch, ahead, self._sandbox)
            batch = self._pending.pop(number).result()
            waited = time.monotonic() - begun
            self.progress.batches += 1
            generated = sum(tree.usage.completion_tokens for tree in batch.trees)
            self.progress.generated_tokens += generated
            rng = random.Random(f"nodes/{self.config.seed}/{number}")
            step = step_of(
                batch.trees, self.credit, normalize=self.normalize, constant=self.constant, version=version, rng=rng
            )
            told = {
                **step.metrics,
                **{f"funnel/lost/{reason}": float(count) for reason, count in batch.lost.items()},
                "rao/generated_tokens": float(self.progress.generated_tokens),
                "rao/batch": float(number),
                "rao/recorded_trees": float(batch.recorded),
                "time/rollout": batch.seconds,
                "time/wait": waited,
                "time/push": pushed.seconds,
                "time/make": time.monotonic() - begun - waited,
                "rao/push_error": pushed.probe_error,
            }
            if not step.samples:
                append_metrics(self.metrics, {"step": version, "rao/skipped": 1.0, **told})
                idle += 1
                if idle >= HOPELESS and self.config.max_generated_tokens is None:
                    raise NothingToLearn(
                        f"{idle} batches in a row taught nothing: every attempt at a task did equally well (mean reward "
                        f"{told.get('reward', 0.0):.2f}). Take easier or harder tasks, or a better policy to start from."
                    )
                continue
            idle = 0
            yield replace(step, metrics=told)
            version += 1
            pushed = self._push(version)

    def evaluate(self, step: int) -> None:
        """Attempt the evaluation tasks with the weights that were pushed last; the rates go into the metrics file."""
        if step in self._evaluated or not self.eval_tasks:
            return
        self._evaluated.add(step)
        collect = self.collector.config
        temperature = collect.temperature if self.config.eval_temperature is None else self.config.eval_temperature
        rates = self._portal.call(
            _rates,
            self.collector.environment,
            self.eval_tasks,
            self.sync.model,
            {
                "modes": (collect.mode,),
                "seed": self.config.seed,
                "concurrency": self.config.eval_concurrency,
                "context_limit": collect.context_limit,
                "sampling": {**collect.sampling, "temperature": temperature},
                "limits": collect.limits,
                "sandbox": self._sandbox,
            },
        )
        append_metrics(
            self.metrics, {"step": step, "rao/generated_tokens": float(self.progress.generated_tokens), **rates}
        )

    def finish(self, step: int) -> None:
        """Push the last weights and evaluate them."""
        self._push(step)
        self.evaluate(step)

    def _push(self, version: int) -> Any:
        return self._portal.call(self.sync.push, self.policy, version)


async def _rates(
    environment: Environment, tasks: Sequence[Task], model: Any, settings: Mapping[str, Any]
) -> dict[str, float]:
    attempts = await evaluate(environment, tasks, model, **settings)
    told: dict[str, float | None] = {}
    for item in summarize(attempts):
        told |= {
            f"eval/success/{item.difficulty}": item.success,
            f"eval/success_low/{item.difficulty}": item.low,
            f"eval/success_high/{item.difficulty}": item.high,
            f"eval/agents/{item.difficulty}": item.agents,
            f"eval/tokens/{item.difficulty}": item.completion_tokens,
            f"eval/depth/{item.difficulty}": item.depth,
            f"eval/concurrent_share/{item.difficulty}": item.concurrent_share,
        }
    return {name: value for name, value in told.items() if value is not None}
