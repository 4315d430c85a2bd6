"""The online loop: push the weights, take complete groups, make the step; `RaoTrainer` asks for one step after the other.

Attempts flow beside it, also while a step is trained (`rao_rl/rollouts/flow.py`).

It runs in one process. Where several train together (`together.py`) that is process 0, which sends each step to the others.
"""

from __future__ import annotations

import random
import time
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
from ..data.rows import TreeRows
from ..data.used_groups import UsedGroups, add_used, forget_used, read_used
from ..envs.base import Environment, Mode, Task
from ..errors import DataError, NothingToLearn
from ..evaluation.run import evaluate
from ..evaluation.summary import summarize
from ..rollouts.attempt import AttemptSettings, PublishingRunner
from ..rollouts.batches import Collector, TreeBatch, attempt_settings
from ..rollouts.flow import Flow
from ..scoring.config import NO_JUDGE, JudgeConfig
from ..scoring.opening import open_attempt_judge
from ..weights.sync import WeightSync
from .folder import append_metrics
from .nothing_learnt import is_scored, why_nothing
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

    `whole` gives the policy as it is pushed, where its weights are spread over processes (see `WholePolicy`).
    `record` takes each line of metrics that is not of a step; without it they go to the file `metrics`, beside which it is
    written down which groups each batch consists of (see `data.used_groups`).
    `evaluated` are steps whose weights need no evaluation any more. `stopping` says whether the run is to end before its
    next step, whatever is under way. Batches in `passed_over` are neither rolled out nor trained on. A context manager: it
    holds the event loop in which the agents run, their sandbox, the judge that `judge` names, and `runner`, which runs the
    attempts elsewhere.
    """

    def __init__(
        self,
        collector: Collector,
        sync: WeightSync,
        policy: torch.nn.Module,
        credit: CreditConfig,
        config: OnlineConfig,
        *,
        whole: Callable[[], torch.nn.Module] | None = None,
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
        runner: PublishingRunner | None = None,
        say: Say = silent,
    ) -> None:
        self.collector = collector
        self.sync = sync
        self._whole = whole or (lambda: policy)
        self.credit = replace(credit, max_staleness=config.max_staleness)
        self.config = config
        self.normalization = normalization
        self.judge = judge
        self._judge_figures: dict[str, float] = {}
        self.progress = progress
        self.metrics = metrics
        self._record = record or (lambda row: append_metrics(metrics, row))
        self.eval_tasks = list(eval_tasks)
        self.flow: Flow | None = None
        """The queue of attempts, once there are steps."""
        self._evaluated = set(evaluated)
        self._require: Require | Unset = require
        self._stopping = stopping
        self._passed_over = frozenset(passed_over)
        self._runner = runner
        self._say = say

    def __enter__(self) -> OnlineLoop:
        with ExitStack() as stack:
            self._portal: BlockingPortal = stack.enter_context(start_blocking_portal("asyncio"))
            portal = self._portal
            self._sandbox: str | Sandbox = "process"
            # A runner has sandboxes of its own, and this machine need not be able to isolate anything.
            if self._runner is None:
                opening = make_sandbox(self._sandbox, require=self._require)
                self._sandbox = stack.enter_context(portal.wrap_async_context_manager(opening))
            stack.callback(lambda: portal.call(self.sync.model.aclose))
            if self._runner is not None:
                self.collector.runner = stack.enter_context(portal.wrap_async_context_manager(self._runner))
            if self.judge.model is not None:
                opened = open_attempt_judge(self.judge, say=self._say)
                self.collector.judge = stack.enter_context(portal.wrap_async_context_manager(opened))
            self._flowing = stack.enter_context(ExitStack())
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: Any) -> None:
        self._stack.__exit__(*exc)

    def share(self, step: int) -> float:
        """Share of the run that is done after `step` updates."""
        spent = self.config.max_generated_tokens
        tokens = 0.0 if spent is None else self.progress.generated_tokens / spent
        return max(step / self.config.max_steps, tokens)

    def steps(self, first: int) -> Iterator[Step]:
        """The optimizer steps from `first` on. A batch that teaches nothing is passed over; its tokens count.

        Ends early where the run is to stop: what was being rolled out is taken up again when the run is resumed. Groups that
        steps after the last checkpoint had taken are taken by the same steps again.
        """
        with suppress(_Stopping):
            yield from self._steps(first)

    def _steps(self, first: int) -> Iterator[Step]:
        version = first
        flow = self._begin_flow()
        pushed = self._push(version)
        idle = barren = 0
        while self.share(version) < 1:
            if self.config.eval_every and version % self.config.eval_every == 0 and (version or self.config.eval_start):
                self.evaluate(version)
            begun = time.monotonic()
            while self.progress.batches in self._passed_over:
                self.progress.batches += 1
            number = self.progress.batches
            again = self._places(number) if number in self._used else None
            taken = self._awaited(self._portal.start_task_soon(flow.take, self.config.max_steps - version, again))
            if again is None:
                names = tuple(group.attempts[0].plan.group for group in taken.groups)
                self._used[number] = UsedGroups(number, version, names)
                add_used(self.metrics.parent, self._used[number])
            batch = TreeBatch.of(number, taken)
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
                **taken.figures,
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
                idle, barren = idle + 1, 0 if generated and is_scored(batch) else barren + 1
                if idle == IDLE:
                    self._say(f"{why_nothing(idle, batch, figures)}; the run goes on")
                # Without a token there is no end to it, though a budget is set; without a score the budget would be wasted.
                if barren >= IDLE or (idle >= HOPELESS and self.config.max_generated_tokens is None):
                    raise NothingToLearn(f"{why_nothing(idle, batch, figures)}.")
                continue
            idle = barren = 0
            yield replace(step, metrics=figures)
            version += 1
            pushed = self._push(version)

    def _begin_flow(self) -> Flow:
        """Open the queue, without the groups that the steps before have used, and those that are passed over."""
        self._flowing.close()
        forget_used(self.metrics.parent)  # a line that was torn
        self._used = read_used(self.metrics.parent)
        gone = {*range(self.progress.batches), *self._passed_over}
        opened = self._portal.wrap_async_context_manager(
            self.collector.flow(
                self._sandbox,
                staleness=self.config.max_staleness,
                order=self.config.order,
                used={place for number in gone for place in self._places(number)},
            )
        )
        self.flow = opened.__enter__()
        self._flowing.callback(opened.__exit__, None, None, None)
        return self.flow

    def _places(self, number: int) -> list[int]:
        """The places in the plan of the groups of a batch; in a run of an older version, those of its folder."""
        size = self.collector.config.tasks_per_step
        if (used := self._used.get(number)) is None:
            return list(range(number * size, (number + 1) * size))
        return [int(folder) * size + int(place) for folder, place, _ in (name.split("/", 2) for name in used.groups)]

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
            runner=self.collector.runner,
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
        self._count_time(False)
        try:
            rates = self._awaited(attempts)
        except _Stopping:
            self._evaluated.discard(step)
            raise
        self._count_time(True)
        self._record({"step": step, **self._tokens(), **self._judged(), **rates})

    def _count_time(self, counted: bool) -> None:
        """Whether the queue counts the time from here on as its own: an evaluation has the sampler."""
        if self.flow is not None:
            self._portal.call(self.flow.count_time, counted)

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
        """Push the last weights and evaluate them; whether that was done before the run was to stop.

        No further attempt begins. Whole trees that no step has used stay recorded for a run that is made longer.
        """
        if self.flow is not None:
            self._portal.call(self.flow.end)
        try:
            self._push(step)
            self.evaluate(step)
        except _Stopping:
            return False
        return True

    def _push(self, version: int) -> Any:
        policy = self._whole()
        check_sound(policy)  # what it samples would be taken for batches that teach nothing
        if self.flow is not None and self.config.across_push == "drain":
            self._awaited(self._portal.start_task_soon(self.flow.drain))
        pushed = self._portal.call(self.sync.push, policy, version)
        if self.flow is not None:
            self._portal.call(self.flow.pushed, version)
        return pushed


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
