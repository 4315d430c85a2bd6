"""Recursive Agent Optimization as a run in a folder: a checkpoint and trees in, a better checkpoint out.

The loop on one page, with the names of this package and without resuming:

    policy, tokenizer, settings = load_checkpoint(model)            # weights/checkpoint.py
    policy = policy.to(training_device())                           # weights/hardware.py
    sync = open_sync(sampler, folder, policy)                       # weights/choose.py: a sampler, and the way to push weights
    collector = Collector(environment, sync.model, collect, folder) # rollouts/batches.py
    for number in range(online.max_steps):
        await sync.push(policy, number)                             # weights/sync.py: the sampler samples with these weights
        batch = await collector.batch(number)                       # G attempts at each task, one trace a tree
        rows = [TreeRows.of(tree) for tree in batch.trees]          # data/rows.py: the tokens that were sampled
        step = step_of(rows, credit, version=number)                # steps.py: reward, baseline, A, w_d, D
        for bin in deal(step.samples, tokens_per_bin):              # packing.py
            bin = collate(bin)                                      # batch.py: tensors, rows behind each other
            scored = policy(**bin.arguments, at=…, targets=…)       # logprobs.py: log π_θ of the sampled tokens
            token_losses(scored.per_token_logps, bin.sampling_per_token_logps, bin.coefficients / D).sum().backward()
        optimizer.step()
    write_checkpoint(folder, policy, tokenizer, settings)

`online.py` is the outer part of the loop, `trainer.py` the inner one. `offline.py` gives the steps of recorded trees instead.
What a run writes is said in `folder.py`, every metric in `metrics.py`, every setting in `rao_rl/config.py`, and how several
processes share the work in `together.py`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from recursive_agent.checkpoint import FILE_NAME, CheckpointSettings
from recursive_agent.model.base import Model
from recursive_agent.repl import UNSET, Require, Unset

from ..config import CollectConfig, CreditConfig, OnlineConfig, SamplerConfig, UpdateConfig, check_groups
from ..data.folder import Recorded, check_one_policy, temperature_of
from ..envs.arguments import Plain, as_texts
from ..envs.base import Environment, Task
from ..errors import TrainingStopped
from ..processes import spreads_weights
from ..rollouts.attempt import PublishingRunner
from ..rollouts.batches import Collector
from ..scoring.config import NO_JUDGE, JudgeConfig
from ..scoring.needs import check_scored
from ..scoring.opening import check_judge
from ..weights.adapters import adapted, halves_base, merged
from ..weights.checkpoint import load_checkpoint, write_checkpoint
from ..weights.choose import open_sync
from ..weights.hardware import training_device
from ..weights.published import PublishedSync
from ..weights.saving import check_savable, saving
from .begin import (
    FREE,
    SAMPLER,
    TRACES,
    check_sampling,
    check_update,
    check_vocabulary,
    make_trainer,
    open_reporters,
    passed_over,
    position,
    redrawn,
    run_folder,
    within_positions,
)
from .divergence import noted, set_aside
from .folder import METRICS, StopOnSignal, cut_metrics, place_of, remember
from .offline import OfflineSteps
from .online import OnlineLoop, Progress
from .optimizers import optimizer_state_of
from .provenance import not_its_own
from .record import Record, Say, silent
from .safe_trainer import check_given, check_sound
from .together import Together
from .trainer import Step
from .whole import WholePolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class _Begun:
    """An online run before its first step, as process 0 has prepared its folder."""

    place: Path
    """A checkpoint for the sampler."""
    last: Path | None
    """The checkpoint to resume from."""
    progress: Progress
    rows: list[dict[str, Any]]
    """The lines of metrics that the run has already."""
    passed_over: frozenset[int]


def train_online(
    output: str | Path,
    model: str | Path,
    environment: Environment,
    *,
    collect: CollectConfig,
    credit: CreditConfig,
    update: UpdateConfig,
    online: OnlineConfig,
    sampler: SamplerConfig | None = None,
    judge: JudgeConfig = NO_JUDGE,
    eval_tasks: Sequence[Task] = (),
    arguments: Mapping[str, Plain] | None = None,
    resume: bool = False,
    require: Require | Unset = UNSET,
    runner: Callable[[Model], PublishingRunner | None] = lambda sampler: None,
    say: Say = silent,
) -> Path:
    """Roll out → update → push the weights → repeat, from the checkpoint `model`; returns the folder of the new one.

    `judge` names the model that scores the agents whose score the environment does not know; without one they are not trained
    on. `arguments` are those that the environment was made with. `require` is passed to the sandbox of the rollouts (see
    `make_sandbox`). `runner` makes what runs the attempts elsewhere with the sampler, such as `RayAttempts`; None: they run in
    process 0. `say` is called with a sentence about whatever was left out or goes wrong without ending the run.

    With `resume`, a killed run continues with the same data order, optimizer, counters and metrics, and does not repeat
    recorded trees. SIGTERM and SIGINT save the run and end it at the next step, or at once during rollouts. Raises
    ConfigurationError for invalid settings, TrainingDiverged if the loss is not finite, WeightPushError if the sampler
    does not use the trainer's weights, and TrainingStopped after a signal.

    On several processes all call this alike. Process 0 rolls out, writes and says why the run ends; in the others
    EndedElsewhere is raised where it fails.
    """
    folder = Path(output)
    sampler = sampler or SamplerConfig()
    together = Together()
    with together.ending():
        if not together.first:
            last = together.follow()
        else:
            check_judge(judge)
            if (line := check_scored(environment, judge, credit, collect.mode)) is not None:
                say(line)
            check_groups(credit, collect)
            check_update(update)
            run_folder(folder, resume, model)
        policy, tokenizer, settings = load_checkpoint(model, as_stored=halves_base(update))
        begun: _Begun | None = None
        if together.first:
            check_given(policy, model)
            check_sampling(settings, model)
            if (own := settings.environment) is not None:  # a policy of another environment is one of none
                same = own.name == environment.name
                now = own.model_copy(update={"arguments": dict(arguments or {})}) if same else None
                settings = settings.model_copy(update={"environment": now})
            check_savable(folder, policy, tokenizer, settings)
            about = {
                "objective": "rao",
                "model": place_of(model),
                "environment": environment.name,
                "environment_arguments": as_texts(arguments or {}),
                "collect": asdict(collect),
                "credit": asdict(credit),
                "update": asdict(update),
                "online": asdict(online),
                "judge": judge.recorded(),
            }
            begun = _begin(folder, about, policy, tokenizer, settings, resume=resume, say=say)
            together.tell(last := begun.last)
        credit = within_positions(credit, policy)
        policy = adapted(policy, update)
        whole = WholePolicy(policy, together)
        if not spreads_weights():
            policy.to(training_device())
        progress = Progress() if begun is None else begun.progress
        rows = [] if begun is None else begun.rows
        stop = StopOnSignal(together.agree if together.count > 1 else None)
        others = open_reporters(folder, update, rows) if together.first else []
        record = Record(folder, say, rows=rows, reporters=others, writes=together.first)
        opened: list[OnlineLoop] = []
        with (
            stop.heeding(),
            record.ending(),
            ExitStack() as stack,
            noted(folder, lambda: progress.batches - 1, write=together.first),
        ):

            def steps(first: int) -> Iterator[Step]:
                """Of process 0, which is first asked when the policy is where it is trained: then a sampler is chosen."""
                assert begun is not None
                current = whole()
                sync = open_sync(sampler, begun.place, current, temperature=collect.temperature, device=whole.device)
                if (elsewhere := runner(sync.model)) is not None:
                    sync = PublishedSync(sync, elsewhere)
                loop = OnlineLoop(
                    Collector(environment, sync.model, collect, folder / TRACES),
                    sync,
                    policy,
                    credit,
                    online,
                    whole=whole,
                    normalization=update.normalization,
                    judge=judge,
                    progress=progress,
                    metrics=folder / METRICS,
                    record=record.write,
                    eval_tasks=eval_tasks,
                    evaluated=[row["step"] for row in rows if any(name.startswith("eval/") for name in row)],
                    require=require,
                    stopping=lambda: stop.number is not None,
                    passed_over=begun.passed_over,
                    runner=elsewhere,
                    say=say,
                )
                opened.append(stack.enter_context(loop))
                yield from loop.steps(first)

            def share(step: int) -> float:
                return opened[0].share(step) if opened else 0.0

            trainer = make_trainer(
                *(folder, policy, update, steps, share, tokenizer, collect.temperature, [progress, stop], record),
                length=online.max_steps,
                together=together,
            )
            with saving(folder):
                trainer.train(resume_from_checkpoint=None if last is None else str(last))
            if not together.first:
                together.follow()
                return folder
            together.waited_for = True
            done = trainer.state.global_step
            if stop.number is not None and share(done) < 1:
                raise TrainingStopped(stop.number, done)
            check_sound(whole())
            if not opened[0].finish(done) and stop.number is not None:
                raise TrainingStopped(stop.number, done)
        with saving(folder):
            write_checkpoint(folder, merged(whole()), tokenizer, settings)
        together.tell(None)
    return folder


def _begin(
    folder: Path,
    about: Mapping[str, Any],
    policy: Any,
    tokenizer: Any,
    settings: CheckpointSettings,
    *,
    resume: bool,
    say: Say,
) -> _Begun:
    """Write down what the run is, or find the place where it continues."""
    with saving(folder):
        changed = remember(folder, about, resume=resume, free=FREE)
    last, done, counters = position(folder, resume, say)
    progress = Progress(**counters)
    with saving(folder):
        if aside := set_aside(folder / TRACES, max(0, done), changed, schedule=about["update"]["lr_scheduler_type"]):
            say(f"{aside:,} recorded attempts are set aside: weights sampled them that the run will not have again")
    with saving(folder):
        place = write_checkpoint(folder / SAMPLER, policy, tokenizer, settings)
    with saving(folder):
        rows = cut_metrics(
            folder / METRICS,
            done,
            lambda row: "train_runtime" in row or row.get("rao/batch", -1) >= progress.batches,
        )
    skipped = passed_over(folder, say) if resume else frozenset[int]()
    return _Begun(place=place, last=last, progress=progress, rows=rows, passed_over=skipped)


def train_offline(
    output: str | Path,
    model: str | Path,
    recorded: Recorded,
    *,
    credit: CreditConfig,
    update: UpdateConfig,
    groups_per_step: int = 16,
    epochs: float = 1.0,
    max_steps: int | None = None,
    temperature: float | None = None,
    resume: bool = False,
    optimizer_from: str | Path | None = None,
    say: Say = silent,
) -> Path:
    """Update the checkpoint `model` on recorded groups of trees; returns the folder of the new one.

    `temperature` is the sampling temperature of the traces (see `temperature_of`). `optimizer_from` is the folder of another
    run, of the round before, whose optimizer goes on; the schedule of the learning rate begins anew. `say` is called with a
    sentence about whatever was left out, does not fit or goes wrong without ending the run. SIGTERM and SIGINT end the run at
    the next step, and save it. Raises DataError where the traces are of several models or were sampled from another
    distribution than a model's own, ConfigurationError if a model with another vocabulary sampled them, TrainingStopped after
    a signal, and otherwise like `train_online`. On several processes all call this alike.
    """
    folder = Path(output)
    together = Together()
    with together.ending():
        source: OfflineSteps | None = None
        rows: list[dict[str, Any]] = []
        if not together.first:
            last, steps, temperature = together.follow()
        else:
            check_one_policy(recorded)
            temperature = temperature_of(recorded.trees, temperature)
            check_update(update)
            run_folder(folder, resume, model)
        carried = None
        if optimizer_from is not None:
            sharded = spreads_weights() and together.count > 1
            carried = optimizer_state_of(
                optimizer_from, optim=update.optim, lora_rank=update.lora_rank, sharded=sharded
            )
        policy, tokenizer, settings = load_checkpoint(model, as_stored=halves_base(update))
        if together.first:
            check_given(policy, model)
            source = OfflineSteps(
                recorded,
                within_positions(credit, policy),
                groups_per_step=groups_per_step,
                seed=update.seed,
                normalization=update.normalization,
            )
            check_vocabulary(recorded, policy.config.get_text_config().vocab_size, model)
            if (line := source.left_out()) is not None:
                say(line)
            check_savable(folder, policy, tokenizer, settings)
            about = {
                "objective": "rao",
                "model": place_of(model),
                "runs": sorted(tree.run for tree in recorded.trees),
                "credit": asdict(credit),
                "update": asdict(update),
                "groups_per_step": groups_per_step,
                "temperature": temperature,
            }
            with saving(folder):
                remember(folder, about, resume=resume, free=FREE)
            last, done, _ = position(folder, resume, say)
            if resume:
                source.redrawn = redrawn(folder, say)
            with saving(folder):
                rows = cut_metrics(folder / METRICS, done, lambda row: "train_runtime" in row)
            steps = max_steps or max(1, round(epochs * source.steps_per_epoch))
            if update.warmup_steps is not None and update.warmup_steps > steps:
                say(
                    f"update.warmup_steps={update.warmup_steps:,} is more than the {steps:,} steps of the run, which ends "
                    "before the learning rate has risen to its value"
                )
            together.tell((last, steps, temperature))

        def rest(first: int) -> Iterator[Step]:
            assert source is not None  # process 0 alone is asked
            return itertools.islice(source.steps(first), max(0, steps - first))

        policy = adapted(policy, update)
        whole = WholePolicy(policy, together)
        stop = StopOnSignal(together.agree if together.count > 1 else None)
        record = Record(
            folder,
            say,
            rows=rows,
            reporters=open_reporters(folder, update, rows) if together.first else (),
            writes=together.first,
            on_first=lambda figures: not_its_own(figures, recorded, tokenizer, trained=settings.name),
        )
        trainer = make_trainer(
            *(folder, policy, update, rest, lambda step: step / steps, tokenizer, temperature, [stop], record),
            length=steps,
            together=together,
            optimizer_from=carried,
        )

        def draw() -> int:
            return 0 if source is None else source.number

        with stop.heeding(), record.ending(), saving(folder), noted(folder, draw, write=together.first):
            trainer.train(resume_from_checkpoint=None if last is None else str(last))
        if not together.first:
            together.follow()
            return folder
        together.waited_for = True
        if stop.number is not None and trainer.state.global_step < steps:
            raise TrainingStopped(stop.number, trainer.state.global_step)
        if not (Path(model) / FILE_NAME).is_file():  # the traces say how the agents were prompted
            prompted = recorded.trees[0].settings
            settings = settings.model_copy(
                update={key: prompted[key] for key in ("prompt_style", "action_format") if key in prompted}
            )
        trained = whole()
        check_sound(trained)
        with saving(folder):
            write_checkpoint(folder, merged(trained), tokenizer, settings)
        together.tell(None)
    return folder
