"""The online loop: push the weights, roll out, make the step; `RaoTrainer` asks for one step after the other.

It runs in one process, which rolls out and trains; `train_online` refuses to start on several. To train on several devices,
roll out with `rao rollout` and train on its traces: there process 0 makes each step of the traces and sends it to the others.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from anyio.from_thread import BlockingPortal, start_blocking_portal
from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

from recursive_agent.repl import UNSET, Require, Sandbox, Unset, make_sandbox

from ..config import CreditConfig, OnlineConfig
from ..credit.normalization import BY_TOKEN, Normalization
from ..credit.rewards import success
from ..data.rows import TreeRows
from ..envs.base import Environment, Mode, Task
from ..errors import DataError, NothingToLearn
from ..evaluation.run import evaluate
from ..evaluation.summary import summarize
from ..rollouts.attempt import AttemptSettings
from ..rollouts.batches import Collector, TreeBatch, attempt_settings
from ..scoring.config import NO_JUDGE, JudgeConfig
from ..scoring.opening import open_attempt_judge
from ..weights.sync import WeightSync
from .folder import append_metrics
from .record import Say, silent
from .safe_trainer import check_sound
from .steps import step_of
from .trainer import Step

HOPELESS = 50
"""Batches in a row that teach nothing after which a run without a budget of tokens gives up."""
IDLE = 5
"""Such batches after which that is said, and after which a run ends if nothing is sampled, or no root gets a score."""
STOP_SECONDS = 0.2
"""Seconds after which a signal that ends the run is noticed while agents are at work."""
_T = TypeVar("_T")


class _Stopping(Exception):
    """A signal has ended the run while something was waited for."""


class Progress(TrainerCallback, ExportableState):
    """How far the loop is, kept in the trainer's checkpoints: batches used (some teach nothing), and tokens of the agents'
    calls, generated and of their prompts.

    `averages` are the moving averages of `credit.baseline=ema_depth`, by depth (text, where a checkpoint gives them).
    """

    def __init__(
        self,
        batches: int = 0,
        generated_tokens: int = 0,
        prompt_tokens: int = 0,
        averages: Mapping[int, float] | Mapping[str, float] = {},
    ) -> None:
        self.batches = batches
        self.generated_tokens = generated_tokens
        self.prompt_tokens = prompt_tokens
        self.averages: Mapping[int, float] = {int(depth): average for depth, average in averages.items()}

    def state(self) -> dict[str, Any]:
        """What goes into `trainer_state.json`."""
        counters = {
            "batches": self.batches,
            "generated_tokens": self.generated_tokens,
            "prompt_tokens": self.prompt_tokens,
            "averages": {str(depth): average for depth, average in self.averages.items()},
        }
        return {"args": counters, "attributes": {}}


class OnlineLoop:
    """Gives the optimizer steps of a run (`steps`), and knows how much of it is done (`share`).

    `record` takes each line of metrics that is not of a step; without it they go to the file `metrics`.
    `evaluated` are steps whose weights need no evaluation any more. `stopping` says whether the run is to end before its
    next step, whatever is under way. Batches in `passed_over` are neither rolled out nor trained on. A context manager: it
    holds the event loop in which the agents run, their sandbox, and the judge that `judge` names.
    """

    def __init__(
        self,
        collector: Collector,
        sync: WeightSync,
        policy: torch.nn.Module,
        credit: CreditConfig,
        config: OnlineConfig,
        *,
        normalization: Normalization = BY_TOKEN,
        judge: JudgeConfig = NO_JUDGE,
        progress: Progress,
        metrics: Path,
        record: Callable[[Mapping[str, Any]], None] | None = None,
        eval_tasks: Sequence[Task] = (),
        evaluated: Iterable[int] = (),
        require: Require | Unset = UNSET,
        stopping: Callable[[], bool] = lambda: False,
        passed_over: Collection[int] = (),
        say: Say = silent,
    ) -> None:
        self.collector = collector
        self.sync = sync
        self.policy = policy
        self.credit = replace(credit, max_staleness=config.max_staleness)
        self.config = config
        self.normalization = normalization
        self.judge = judge
        self._judge_figures: dict[str, float] = {}
        self.progress = progress
        self.metrics = metrics
        self._record = record or (lambda row: append_metrics(metrics, row))
        self.eval_tasks = list(eval_tasks)
        self._pending: dict[int, Future[TreeBatch]] = {}
        self._evaluated = set(evaluated)
        self._require: Require | Unset = require
        self._stopping = stopping
        self._passed_over = frozenset(passed_over)
        self._say = say

    def __enter__(self) -> OnlineLoop:
        with ExitStack() as stack:
            self._portal: BlockingPortal = stack.enter_context(start_blocking_portal("asyncio"))
            portal = self._portal
            self._sandbox: Sandbox = stack.enter_context(
                portal.wrap_async_context_manager(make_sandbox("process", require=self._require))
            )
            stack.callback(lambda: portal.call(self.sync.model.aclose))
            if self.judge.model is not None:
                opened = open_attempt_judge(self.judge, say=self._say)
                self.collector.judge = stack.enter_context(portal.wrap_async_context_manager(opened))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: Any) -> None:
        for future in self._pending.values():
            future.cancel()
        self._stack.__exit__(*exc)

    def share(self, step: int) -> float:
        """Share of the run that is done after `step` updates."""
        spent = self.config.max_generated_tokens
        tokens = 0.0 if spent is None else self.progress.generated_tokens / spent
        return max(step / self.config.max_steps, tokens)

    def steps(self, first: int) -> Iterator[Step]:
        """The optimizer steps from `first` on. A batch that teaches nothing is passed over; its tokens count.

        Ends early where the run is to stop: what was being rolled out is taken up again when the run is resumed.
        """
        with suppress(_Stopping):
            yield from self._steps(first)

    def _steps(self, first: int) -> Iterator[Step]:
        version = first
        pushed = self._push(version)
        idle = barren = 0
        while self.share(version) < 1:
            if self.config.eval_every and version % self.config.eval_every == 0 and (version or self.config.eval_start):
                self.evaluate(version)
            begun = time.monotonic()
            while self.progress.batches in self._passed_over:
                self.progress.batches += 1
            number = self.progress.batches
            for ahead in range(number, number + self.config.max_staleness + 1):
                if ahead not in self._pending and ahead not in self._passed_over:
                    self._pending[ahead] = self._portal.start_task_soon(self.collector.batch, ahead, self._sandbox)
            batch = self._awaited(self._pending[number])
            del self._pending[number]
            waited = time.monotonic() - begun
            self.progress.batches += 1
            generated = sum(tree.usage.completion_tokens for tree in batch.trees)
            self.progress.generated_tokens += generated
            self.progress.prompt_tokens += sum(tree.usage.prompt_tokens for tree in batch.trees)
            rng = random.Random(f"nodes/{self.config.seed}/{number}")
            step = step_of(
                self._rows(batch),
                self.credit,
                normalization=self.normalization,
                version=version,
                rng=rng,
                update=version,
                averages=self.progress.averages,
            )
            self.progress.averages = step.averages
            figures = {
                **step.metrics,
                **{f"funnel/lost/{reason}": float(count) for reason, count in batch.lost.items()},
                **self._tokens(),
                **self._judged(),
                "rao/batch": float(number),
                "rao/recorded_trees": float(batch.recorded),
                "time/rollout": batch.seconds,
                "time/wait": waited,
                "time/push": pushed.seconds,
                "time/make": time.monotonic() - begun - waited,
                "rao/push_error": pushed.probe_error,
                "rao/push_error_mean": pushed.probe_mean,
                **({} if pushed.probe_share is None else {"rao/push_share": pushed.probe_share}),
            }
            if not step.samples:
                self._record({"step": version, "rao/skipped": 1.0, **figures})
                idle, barren = idle + 1, 0 if generated and _is_scored(batch) else barren + 1
                if idle == IDLE:
                    self._say(f"{_nothing(idle, batch, figures)}; the run goes on")
                # Without a token there is no end to it, though a budget is set; without a score the budget would be wasted.
                if barren >= IDLE or (idle >= HOPELESS and self.config.max_generated_tokens is None):
                    raise NothingToLearn(f"{_nothing(idle, batch, figures)}.")
                continue
            idle = barren = 0
            yield replace(step, metrics=figures)
            version += 1
            pushed = self._push(version)

    def _rows(self, batch: TreeBatch) -> list[TreeRows]:
        """The tokens of a batch's trees. One whose tokens are not exact is lost: the run would meet it again if resumed."""
        rows: list[TreeRows] = []
        for tree in batch.trees:
            try:
                rows.append(TreeRows.of(tree))
            except DataError as error:
                batch.lost["inexact_tokens"] += 1
                self._say(f"an attempt is left out: {error}")
        return rows

    def evaluate(self, step: int) -> None:
        """Attempt the evaluation tasks with the weights that were pushed last; the rates go into the metrics file."""
        if step in self._evaluated or not self.eval_tasks:
            return
        self._evaluated.add(step)
        collect = self.collector.config
        temperature = collect.temperature if self.config.eval_temperature is None else self.config.eval_temperature
        settings = replace(
            attempt_settings(collect, self.collector.environment),
            sampling={**collect.sampling, "temperature": temperature},
            sandbox=self._sandbox,
            concurrency=self.config.eval_concurrency,
            places=self.collector.places,
            judge=self.collector.judge,
        )
        attempts = self._portal.start_task_soon(
            _rates,
            self.collector.environment,
            self.eval_tasks,
            self.sync.model,
            settings,
            collect.mode,
            self.config.seed,
        )
        try:
            rates = self._awaited(attempts)
        except _Stopping:
            self._evaluated.discard(step)
            raise
        self._record({"step": step, **self._tokens(), **self._judged(), **rates})

    def _tokens(self) -> dict[str, float]:
        generated = self.progress.generated_tokens
        return {
            "rao/generated_tokens": float(generated),
            "rao/total_tokens": float(generated + self.progress.prompt_tokens),
        }

    def _judged(self) -> dict[str, float]:
        """What the judge has cost since this was asked last; no part of the agents' tokens."""
        if self.collector.judge is None:
            return {}
        judge = self.collector.judge.judge
        now = {
            "judge/calls": float(judge.usage.calls),
            "judge/tokens": float(judge.usage.total_tokens),
            "judge/cached": float(judge.cached),
            **{f"judge/failed/{reason}": float(number) for reason, number in judge.failures.items()},
        }
        before, self._judge_figures = self._judge_figures, now
        return {name: value - before.get(name, 0.0) for name, value in now.items()}

    def _awaited(self, future: Future[_T]) -> _T:
        """What the agents give. Raises _Stopping, and cancels them, where the run is to end first."""
        try:
            while not wait([future], timeout=STOP_SECONDS).done:
                if self._stopping():
                    raise _Stopping
        except BaseException:
            future.cancel()
            raise
        return future.result()

    def finish(self, step: int) -> bool:
        """Push the last weights and evaluate them; whether that was done before the run was to stop."""
        self._push(step)
        try:
            self.evaluate(step)
        except _Stopping:
            return False
        return True

    def _push(self, version: int) -> Any:
        check_sound(self.policy)  # what it samples would be taken for batches that teach nothing
        return self._portal.call(self.sync.push, self.policy, version)


def _nothing(idle: int, batch: TreeBatch, figures: Mapping[str, float]) -> str:
    """Why the last batches taught nothing, and what to change."""
    dropped = Counter(
        {
            name.rpartition("/")[2]: int(count)
            for name, count in figures.items()
            if name.startswith("funnel/rollouts_dropped/") and count
        }
    )
    dropped.update({reason: count for reason, count in batch.lost.items() if count})
    if not _is_scored(batch):
        broken = [tree.root.score_source for tree in batch.trees if tree.root.score_status == "judge_error"]
        why = (
            f"no attempt got a score, since its scorer failed ({broken[0]})"
            if broken
            else "no attempt got a score. Give the environment a verifier of roots, or let a model judge them (--judge)"
        )
    elif set(dropped) <= {"zero_advantage"}:
        why = (
            f"every attempt at a task did equally well (mean reward {figures.get('reward', 0.0):.2f}). Take easier or harder "
            "tasks, or a better policy to start from"
        )
    else:
        listed = ", ".join(f"{count:,} {reason.replace('_', ' ')}" for reason, count in dropped.most_common())
        why = f"their attempts could not be compared (left out of the last batch: {listed})"
    text = f"{idle} batches in a row taught nothing: {why}"
    ends = Counter(str(tree.root.status) for tree in batch.trees)
    ends.update({reason: count for reason, count in batch.lost.items() if count})
    failed = [f"{count} {status}" for status, count in ends.most_common() if status != "finished"]
    return f"{text} (the last {ends.total()} attempts ended as {', '.join(failed)})" if failed else text


def _is_scored(batch: TreeBatch) -> bool:
    """Whether the success of a root is known. True as well where all were lost, which is counted elsewhere."""
    roots = [tree.root for tree in batch.trees if not tree.root.status.external]
    return not roots or any(success(root, root=True).value is not None for root in roots)


async def _rates(
    environment: Environment, tasks: Sequence[Task], model: Any, settings: AttemptSettings, mode: Mode, seed: int
) -> dict[str, float]:
    attempts = await evaluate(environment, tasks, model, settings, modes=(mode,), seed=seed)
    figures: dict[str, float | None] = {}
    for item in summarize(attempts):
        figures |= {
            f"eval/success/{item.level}": item.success,
            f"eval/success_low/{item.level}": item.low,
            f"eval/success_high/{item.level}": item.high,
            f"eval/tasks/{item.level}": float(item.tasks),
            f"eval/agents/{item.level}": item.agents,
            f"eval/tokens/{item.level}": item.completion_tokens,
            f"eval/depth/{item.level}": item.depth,
            f"eval/concurrent_share/{item.level}": item.concurrent_share,
        }
    return {name: value for name, value in figures.items() if value is not None}
