"""Imitation as a run in a folder: cross-entropy on what a good agent wrote, and on nothing that it was merely shown.

Three sources: demonstrations of TextCraft's solver, made as they are needed (every sample is new), the successful nodes of
recorded trees, and demonstrations of any environment, which are recorded first. All are trained by `ImitationTrainer`, which
is `trl.SFTTrainer` on these rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from recursive_agent.checkpoint import CheckpointSettings, EnvironmentSettings
from recursive_agent.errors import ConfigurationError
from recursive_agent.repl import UNSET, Require, Unset

from ..config import Curriculum, ImitationConfig
from ..data.folder import left_out_text
from ..data.rows import TokenRow
from ..envs.arguments import Plain, as_texts
from ..envs.base import Environment
from ..errors import TrainingStopped
from ..processes import is_first, processes
from ..train.arguments import check_reporters
from ..train.folder import (
    CHECKPOINTS,
    METRICS,
    SETTINGS,
    RunProgress,
    StopOnSignal,
    cut_metrics,
    last_checkpoint,
    place_of,
    remember,
    show_by,
    steps_done,
)
from ..train.record import Record
from ..train.reporters import reporters
from ..train.safe_trainer import check_given, check_sound
from ..train.together import Together
from ..train.whole import WholePolicy
from ..weights.adapters import adapted, merged
from ..weights.causal_lm import context_window, end_ids
from ..weights.checkpoint import load_checkpoint, write_checkpoint
from ..weights.saving import check_apart, check_folder, check_savable, saving
from .agent import agent_settings, forget_sampling, learning_rate, own_settings, prompting_asked, prompting_of
from .encoding import RowEncoder, first_tokens, longest_answer
from .expert import record_demonstrations
from .lessons import ANY_WORDS, WORDS, DemonstrationBlocks, RecordedBlocks, cut_steps, sample_texts
from .mixture import mixed
from .policy import Architecture, create, train_tokenizer
from .recorded import Recorded, environment_of, read_successful
from .trainer import Block, ImitationTrainer

DEMONSTRATIONS = "demonstrations"
"""Folder, in that of a run, of the trees that an environment demonstrated."""
_SHOWN = 3
"""Unreadable traces that are named."""
_TEXTS = 4000
"""Demonstrations that the tokenizer is made for."""
_VOCABULARY = 2048
"""Entries of the tokenizer of a policy that imitates an environment from new weights."""
_MEAN = 20
"""Last steps whose mean loss is that of the run."""

_FREE = (
    "learning_rate",
    "warmup_steps",
    "decay",
    "weight_decay",
    "max_grad_norm",
    "bf16",
    "compile",
    "save_steps",
    "report_to",
    "logging_steps",
    "gradient_checkpointing",
    "temperature",
    "max_steps",
    "minutes",
    "traces",
)
"""Settings that may change when a run is resumed: they change neither what is learnt from nor its order."""


def train(policy: Any, tokenizer: Any, block: Block, config: ImitationConfig) -> float:
    """Train `policy` in place on the steps of `block`, and return the mean loss of the last steps.

    Checkpoints go to `output_dir/checkpoints`, metrics to `output_dir/metrics.jsonl`. With `resume`, a killed run continues
    from its last checkpoint, with the samples that would have come next, or begins anew where it had none yet. SIGTERM and
    SIGINT end it at the next step, which is saved.

    Raises ConfigurationError where there is nothing to resume or to learn from, or nothing can be written; TrainingDiverged
    for a loss, a gradient or weights that are not finite; TrainingStopped after a signal.
    """
    output = check_folder(config.output_dir)
    checkpoints = output / CHECKPOINTS
    check_reporters(config.report_to)
    if not any(block(0)):
        raise ConfigurationError("there is nothing to learn from: not one row of tokens is left")
    last = last_checkpoint(checkpoints) if config.resume else None
    if last is None and config.resume and not (output / SETTINGS).is_file():
        raise ConfigurationError(f"{checkpoints} contains no checkpoint to resume from")
    rows: list[dict[str, Any]] = []
    if is_first():
        rows = cut_metrics(output / METRICS, -1 if last is None else steps_done(last))
    trainer = ImitationTrainer(policy, tokenizer, block, config, checkpoints)
    done = max((int(row.get("step", 0)) for row in rows), default=-1)
    others = reporters(check_reporters(config.report_to), output, last=done) if is_first() else []
    record = Record(output, rows=rows, reporters=others, writes=is_first())
    stop = StopOnSignal(Together().agree)
    progress = RunProgress(record, trainer.share, lambda logs: f"loss {float(logs['loss']):.4f}")
    show_by(trainer, progress, *others, stop)
    with stop.heeding(), record.ending(), saving(output):
        trainer.train(resume_from_checkpoint=None if last is None else str(last))
    if stop.number is not None and trainer.share(trainer.state.global_step) < 1:
        raise TrainingStopped(stop.number, trainer.state.global_step)
    losses = [float(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]
    return fmean(losses[-max(1, _MEAN // config.logging_steps) :]) if losses else float("nan")


def train_on_demonstrations(
    config: ImitationConfig,
    curriculum: Curriculum,
    architecture: Architecture | None = None,
    *,
    model: str | Path | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> float:
    """Train a model for TextCraft on demonstrations only, and write its checkpoint to `config.output_dir`.

    With `model`, training starts from that checkpoint instead of new weights: all of them, or a LoRA adapter that is worked
    into them at the end. The demonstrations are written as the model will be prompted afterwards (`prompting_of`), by its
    own chat template. `say` is called with a sentence about everything that was left out or changed. Returns the mean loss
    of the last steps. Raises like `train`, and ConfigurationError if `resume` finds other settings than the run started
    with, if there is no such checkpoint, or if it cannot be saved.
    """
    shape = _shaped(architecture or Architecture(), config, model)
    if model is None:
        tokenizer = train_tokenizer(
            sample_texts(curriculum, _TEXTS),
            words=WORDS,
            vocabulary=shape.vocabulary,
            context_length=shape.context_length,
        )
        policy: Any = create(shape, tokenizer, seed=config.seed)
        settings = CheckpointSettings(
            name="rao-textcraft",
            prompt_style="minimal",
            action_format="fenced",
            context_length=shape.context_length,
        )
    else:
        policy, tokenizer, settings = load_checkpoint(model)
    prompting = prompting_of(config, model)
    encoder = RowEncoder(tokenizer, end_ids=end_ids(policy, tokenizer))
    window = context_window(policy, tokenizer)
    blocks = DemonstrationBlocks(
        encoder, curriculum, tokens=config.tokens_per_step, context_length=window, prompting=prompting
    )
    seen = [row for step in blocks(0) for row in step]
    settings = agent_settings(
        settings,
        prompting,
        own=own_settings(model) is not None,
        temperature=config.temperature,
        window=window,
        longest=longest_answer(seen),
        environment=EnvironmentSettings(name="textcraft"),
    )
    began = {"architecture": asdict(shape)} if model is None else {"model": place_of(model)}
    config = replace(config, learning_rate=learning_rate(policy, config, scratch=model is None))
    return _run(config, policy, encoder, settings, blocks, seen, say, curriculum=asdict(curriculum), **began)


def train_on_traces(
    config: ImitationConfig,
    traces: str | Path,
    model: str | Path,
    *,
    threshold: float = 1.0,
    epochs: float = 3.0,
    say: Callable[[str], None] = lambda line: None,
) -> float:
    """Train the checkpoint `model` on what the successful agents of recorded trees wrote.

    The tokenizer of `model` encodes the text again, so the traces may come from any other model. They are written in the
    style that the model is prompted with, where they were recorded in another (`prompting_asked`, `rewrite`). `epochs` applies
    if `config` sets neither steps nor minutes. Conversations longer than the model's context window are truncated; `say` is
    called with a sentence about them and about everything that is left out. Returns the mean loss of the last steps. Raises
    like `train`, DataError if there is nothing to learn from, and ConfigurationError if there is no such checkpoint, or if it
    cannot be saved.
    """
    _shaped(Architecture(), config, model)
    recorded = read_successful(traces, threshold=threshold, prompting=prompting_asked(config, model))
    temperature = config.temperature if config.temperature is not None else recorded.temperature
    own = own_settings(model)
    environment = None if own is not None and own.environment is not None else environment_of(recorded)
    about = {"traces": place_of(traces), "runs": recorded.runs, "threshold": threshold}
    return _train_on_recorded(
        replace(config, temperature=temperature), recorded, model, environment, epochs=epochs, say=say, **about
    )


def train_on_environment(
    config: ImitationConfig,
    environment: Environment,
    model: str | Path | None,
    *,
    alone: Environment | None = None,
    architecture: Architecture | None = None,
    name: str | None = None,
    arguments: Mapping[str, Plain] | None = None,
    threshold: float = 1.0,
    epochs: float = 3.0,
    require: Require | Unset = UNSET,
    say: Callable[[str], None] = lambda line: None,
) -> float:
    """Train the checkpoint `model` on up to `config.demonstrations` of an environment (see `Demonstrating`).

    Without `model`, a small policy of `architecture` is trained from new weights, with a tokenizer for the demonstrations.
    Their code is first run as that of real agents: the traces stay in `output_dir/demonstrations`, and a run that was stopped
    makes none twice. With `config.single_share`, `environment` is the one whose agents delegate, and `alone` gives the
    demonstrations of agents that work alone, as many tasks again. `name` and `arguments` are what `make` makes the
    environment from. Everything else is as in `train_on_traces`. Raises ConfigurationError if the environment has no
    demonstrations, DataError if none of them succeeds.
    """
    output = check_folder(config.output_dir)
    _check_new(config)
    shape = _shaped(architecture or Architecture(vocabulary=_VOCABULARY), config, model)
    prompting = prompting_of(config, model)
    if (alone is None) != (config.single_share is None):
        raise ConfigurationError("single_share needs an environment whose agents work alone (`alone`), and the reverse")
    folder = output / DEMONSTRATIONS / f"{prompting.style}-{prompting.action_format}"
    if processes() > 1:
        raise ConfigurationError(
            f"demonstrations are recorded by one process: record them by one with --steps 1, then train on {folder} by several"
        )

    def demonstrated(source: Environment, place: Path) -> Recorded:
        most, seed = config.demonstrations, config.seed
        record_demonstrations(
            source, place, prompting, most=most, seed=seed, require=require, say=say, levels=config.levels
        )
        return read_successful(place, threshold=threshold, prompting=prompting)

    if alone is None or config.single_share is None:
        recorded = demonstrated(environment, folder)
    else:
        delegating = demonstrated(environment, folder / "recursive")
        recorded = mixed(delegating, demonstrated(alone, folder / "single"), config.single_share)
    settings = EnvironmentSettings(name=name or environment.name, arguments=dict(arguments or {}))
    about = {
        "demonstrations_of": settings.name,
        "environment_arguments": as_texts(arguments or {}),
        "threshold": threshold,
    }
    if model is not None:
        return _train_on_recorded(config, recorded, model, settings, epochs=epochs, say=say, **about)
    new = _new_policy(shape, recorded, name=f"rao-{environment.name}", seed=config.seed)
    return _train_on_recorded(
        config, recorded, new, settings, epochs=epochs, say=say, architecture=asdict(shape), **about
    )


_New = tuple[Any, Any, CheckpointSettings]
"""A policy from new weights, its tokenizer and its settings."""


def _new_policy(shape: Architecture, recorded: Recorded, *, name: str, seed: int) -> _New:
    tokenizer = train_tokenizer(
        [message.content for messages in recorded.conversations for message in messages],
        words=ANY_WORDS,
        vocabulary=shape.vocabulary,
        context_length=shape.context_length,
    )
    settings = CheckpointSettings(
        name=name,
        prompt_style=recorded.prompting.style,
        action_format=recorded.prompting.action_format,
        context_length=shape.context_length,
    )
    return create(shape, tokenizer, seed=seed, words=ANY_WORDS), tokenizer, settings


def _train_on_recorded(
    config: ImitationConfig,
    recorded: Recorded,
    model: str | Path | _New,
    environment: EnvironmentSettings | None,
    *,
    epochs: float,
    say: Callable[[str], None],
    **about: Any,
) -> float:
    """Train `model` on recorded conversations. `about` says where they come from."""
    old = model if isinstance(model, str | Path) else None
    policy, tokenizer, settings = model if isinstance(model, tuple) else load_checkpoint(model)
    if old is not None:
        about["model"] = place_of(old)
    _tell(recorded, say)
    encoder = RowEncoder(tokenizer, end_ids=end_ids(policy, tokenizer))
    window = context_window(policy, tokenizer)
    whole = [
        encoder.encode(messages, opening=opening)
        for messages, opening in zip(recorded.conversations, recorded.openings, strict=True)
    ]
    rows = [row for each in whole if (row := first_tokens(each, window)).completion_mask.any()]
    long = sum(first_tokens(row, window) is not row for row in whole)
    if long:
        say(
            f"{long:,} of {len(whole):,} conversations are longer than the model's window of {window:,} tokens: "
            f"{len(whole) - len(rows):,} left out (no answer begins in it), {long - len(whole) + len(rows):,} cut there"
        )
    if not rows:
        raise ConfigurationError(
            f"nothing to learn from: each of the {len(whole):,} conversations is too long, no answer begins within the "
            f"{window or 0:,} tokens of the model's window"
        )
    if encoder.folded:
        say(
            "the model's chat template knows no system messages: their text stands before the first message of the user"
        )
    settings = agent_settings(
        settings,
        recorded.prompting,
        own=own_settings(old) is not None,
        temperature=config.temperature,
        window=window,
        longest=longest_answer(rows),
        environment=environment,
    )
    counts = {"trained": len(rows), "left_out": len(whole) - len(rows), "longer_than_window": long}
    tokens, short_first = config.tokens_per_step, config.short_first
    blocks = RecordedBlocks(rows, tokens=tokens, seed=config.seed, short_first=short_first)
    if config.max_steps is None and config.minutes is None:
        config = replace(config, max_steps=max(1, round(epochs * len(cut_steps(rows, tokens)))))
    config = replace(config, learning_rate=learning_rate(policy, config, scratch=old is None))
    return _run(config, policy, encoder, settings, blocks, rows, say, conversations=counts, **about)


def _tell(recorded: Recorded, say: Callable[[str], None]) -> None:
    """What was left out of recorded trees, and what was changed."""
    if recorded.left_out:
        say(f"traces left out: {left_out_text(recorded.left_out)}")
    for problem in recorded.problems[:_SHOWN]:
        say(problem)
    if recorded.rewritten:
        say(f"{recorded.rewritten:,} conversations were recorded in another style, and are written in the minimal one")
    if recorded.unclear:
        say(
            f"{recorded.unclear:,} successful agents are left out: what they saw cannot be written in the minimal style"
        )


def _run(
    config: ImitationConfig,
    policy: Any,
    encoder: RowEncoder,
    settings: CheckpointSettings,
    block: Block,
    rows: Sequence[TokenRow],
    say: Callable[[str], None],
    **about: Any,
) -> float:
    """Train, and write the checkpoint. `rows` are some or all that are learnt from; `about` says what the run is."""
    _check_ids(rows, policy)
    forget_sampling(policy)
    _end_answers(policy, encoder, say)
    _begin(config, policy, encoder.tokenizer, settings, **about)
    policy = adapted(policy, config)
    together = Together()
    whole = WholePolicy(policy, together)
    with together.ending():
        together.waited_for = False  # all train by themselves
        loss = train(policy, encoder.tokenizer, block, config)
        if not together.first:
            together.follow()
            return loss
        together.waited_for = True
        trained = whole()
        check_sound(trained)
        with saving(config.output_dir):
            write_checkpoint(config.output_dir, merged(trained), encoder.tokenizer, settings)
        together.tell(None)
    return loss


def _begin(config: ImitationConfig, policy: Any, tokenizer: Any, settings: CheckpointSettings, **about: Any) -> None:
    """Everything that can stop a run, before it is written down and begun."""
    output = Path(config.output_dir)
    if config.minutes is not None and processes() > 1:
        raise ConfigurationError("--minutes works in one process; on several, whose clocks differ, give --steps")
    _check_new(config)
    check_apart(output, about.get("model"))
    check_given(policy, about.get("model", "the new model"))
    if not is_first():
        return
    own = {name: value for name, value in asdict(config).items() if name not in ("output_dir", "resume")}
    check_savable(output, policy, tokenizer, settings)
    with saving(output):
        remember(output, {**own, **about}, resume=config.resume, free=_FREE)


def _shaped(architecture: Architecture, config: ImitationConfig, model: str | Path | None) -> Architecture:
    """The shape of a policy from new weights. Raises ConfigurationError for a window of a model that exists."""
    if config.context_length is None:
        return architecture
    if model is not None:
        raise ConfigurationError(
            "imitation.context_length sets the window of a policy from new weights: leave it out to train an existing model"
        )
    return replace(architecture, context_length=config.context_length)


def _check_new(config: ImitationConfig) -> None:
    """Raises ConfigurationError where the folder has a run that would be lost."""
    output = Path(config.output_dir)
    if not config.resume and last_checkpoint(output / CHECKPOINTS) is not None:
        raise ConfigurationError(
            f"{output} already contains a run: continue it with --resume, or choose another folder"
        )


def _end_answers(policy: Any, encoder: RowEncoder, say: Callable[[str], None]) -> None:
    """Let the checkpoint name the tokens that its answers end with, or nothing that samples from it would stop."""
    config = policy.generation_config
    known = config.eos_token_id
    named = {known} if isinstance(known, int) else set(known or ())
    if new := sorted(encoder.ends - named):
        ends = sorted(named | encoder.ends)
        config.eos_token_id = ends[0] if len(ends) == 1 else ends
        tokens = ", ".join(repr(encoder.tokenizer.convert_ids_to_tokens(token)) for token in new)
        say(f"answers end with {tokens}, which the model did not name as an end; its generation_config does now")


def _check_ids(rows: Iterable[TokenRow], policy: Any) -> None:
    size = policy.get_input_embeddings().weight.shape[0]
    most = max((int(row.input_ids.max()) for row in rows), default=0)
    if most >= size:
        raise ConfigurationError(
            f"the tokenizer gives token ids up to {most:,}, and the model has only {size:,} tokens: they do not belong together"
        )
