"""Imitation as a run in a folder: cross-entropy on what a good agent wrote, and on nothing that it was merely shown.

Two sources: demonstrations of an environment's solver, made as they are needed (every sample is new), and the successful
nodes of recorded trees. Both are trained by `ImitationTrainer`, which is `trl.SFTTrainer` on these rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from recursive_agent.checkpoint import CheckpointSettings, EnvironmentSettings
from recursive_agent.errors import ConfigurationError

from ..config import Curriculum, ImitationConfig
from ..data.folder import left_out_text
from ..data.rows import TokenRow
from ..errors import TrainingStopped
from ..train.folder import (
    CHECKPOINTS,
    METRICS,
    SETTINGS,
    RunProgress,
    StopOnSignal,
    cut_metrics,
    is_first,
    last_checkpoint,
    processes,
    remember,
    show_by,
    steps_done,
)
from ..train.safe_trainer import check_sound
from ..weights.causal_lm import context_window, end_ids
from ..weights.checkpoint import load_checkpoint, write_checkpoint
from ..weights.saving import check_folder, check_savable, saving
from .encoding import RowEncoder, first_tokens
from .lessons import WORDS, DemonstrationBlocks, RecordedBlocks, read_successful, sample_texts
from .policy import Architecture, create, train_tokenizer
from .trainer import Block, ImitationTrainer

TEMPERATURE = 0.5
"""Sampling temperature of a policy trained from scratch."""
_SHOWN = 3
"""Unreadable traces that are named."""
_TEXTS = 4000
"""Demonstrations that the tokenizer is made for."""


_FREE = (
    "learning_rate",
    "warmup_steps",
    "decay",
    "weight_decay",
    "max_grad_norm",
    "bf16",
    "compile",
    "save_steps",
    "logging_steps",
    "max_steps",
    "minutes",
    "traces",
)
"""Settings that may change when a run is resumed: they change neither what is learnt from nor its order."""


def train(policy: Any, tokenizer: Any, block: Block, config: ImitationConfig) -> float:
    """Train `policy` in place on the steps of `block`, and return the mean loss of the last logged steps.

    Checkpoints go to `output_dir/checkpoints`, metrics to `output_dir/metrics.jsonl`. With `resume`, a killed run continues
    from its last checkpoint, with the samples that would have come next, or begins anew where it had none yet. SIGTERM and
    SIGINT end it at the next step, which is saved.

    Raises ConfigurationError where there is nothing to resume or to learn from, or nothing can be written; TrainingDiverged
    for a loss, a gradient or weights that are not finite; TrainingStopped after a signal.
    """
    output = check_folder(config.output_dir)
    checkpoints = output / CHECKPOINTS
    if not any(block(0)):
        raise ConfigurationError("there is nothing to learn from: not one row of tokens is left")
    last = last_checkpoint(checkpoints) if config.resume else None
    if last is None and config.resume and not (output / SETTINGS).is_file():
        raise ConfigurationError(f"{checkpoints} contains no checkpoint to resume from")
    if is_first():
        cut_metrics(output / METRICS, -1 if last is None else steps_done(last))
    trainer = ImitationTrainer(policy, tokenizer, block, config, checkpoints)
    stop = StopOnSignal()
    progress = RunProgress(output / METRICS, trainer.share, lambda logs: f"loss {float(logs['loss']):.4f}")
    show_by(trainer, stop, progress)
    with stop.heeding(), saving(output):
        trainer.train(resume_from_checkpoint=None if last is None else str(last))
    if stop.number is not None and trainer.share(trainer.state.global_step) < 1:
        raise TrainingStopped(stop.number, trainer.state.global_step)
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return float(losses[-1]) if losses else float("nan")


def train_on_demonstrations(
    config: ImitationConfig,
    curriculum: Curriculum,
    architecture: Architecture | None = None,
    *,
    model: str | Path | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> float:
    """Train a model for TextCraft on demonstrations only, and write its checkpoint to `config.output_dir`.

    With `model`, training starts from that checkpoint instead of new weights. `say` is called with a sentence about
    everything that was left out or changed. Returns the last logged loss. Raises like `train`, and ConfigurationError if
    `resume` finds other settings than the run started with, if there is no such checkpoint, or if it cannot be saved.
    """
    shape = architecture or Architecture()
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
            sampling={"temperature": TEMPERATURE, "max_tokens": 512},
            environment=EnvironmentSettings(name="textcraft"),
        )
    else:
        policy, tokenizer, settings = load_checkpoint(model)
    encoder = RowEncoder(tokenizer, end_ids=end_ids(policy, tokenizer))
    window = context_window(policy, tokenizer)
    blocks = DemonstrationBlocks(encoder, curriculum, tokens=config.tokens_per_step, context_length=window)
    _check_ids((row for step in blocks(0) for row in step), policy)
    _end_answers(policy, encoder, say)
    began = {"architecture": asdict(shape)} if model is None else {"model": str(model)}
    _begin(config, policy, tokenizer, settings, curriculum=asdict(curriculum), **began)
    loss = train(policy, tokenizer, blocks, config)
    return _finish(config, policy, tokenizer, settings, loss)


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

    The tokenizer of `model` encodes the text again, so the traces may come from any other model. `epochs` applies if `config`
    sets neither steps nor minutes. Conversations longer than the model's context window are truncated; `say` is called with a
    sentence about them and about everything that is left out. Returns the last logged loss. Raises like `train`, and
    ConfigurationError if there is nothing to learn from, if there is no such checkpoint, or if it cannot be saved.
    """
    recorded = read_successful(traces, threshold=threshold)
    policy, tokenizer, settings = load_checkpoint(model)
    if recorded.left_out:
        say(f"traces left out: {left_out_text(recorded.left_out)}")
    for problem in recorded.problems[:_SHOWN]:
        say(problem)
    encoder = RowEncoder(tokenizer, end_ids=end_ids(policy, tokenizer))
    window = context_window(policy, tokenizer)
    whole = [encoder.encode(messages) for messages in recorded.conversations]
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
    _check_ids(rows, policy)
    _end_answers(policy, encoder, say)
    style = {"prompt_style": recorded.prompt_style, "action_format": recorded.action_format}
    settings = settings.model_copy(update=style)
    counts = {"trained": len(rows), "left_out": len(whole) - len(rows), "longer_than_window": long}
    source = {"model": str(model), "traces": str(traces), "runs": recorded.runs, "threshold": threshold}
    _begin(config, policy, tokenizer, settings, **source, conversations=counts)
    blocks = RecordedBlocks(rows, tokens=config.tokens_per_step, seed=config.seed)
    if config.max_steps is None and config.minutes is None:
        config = replace(config, max_steps=max(1, round(epochs * len(blocks(0)))))
    loss = train(policy, tokenizer, blocks, config)
    return _finish(config, policy, tokenizer, settings, loss)


def _begin(config: ImitationConfig, policy: Any, tokenizer: Any, settings: CheckpointSettings, **about: Any) -> None:
    """Everything that can stop a run, before it is written down and begun."""
    output = Path(config.output_dir)
    if config.minutes is not None and processes() > 1:
        raise ConfigurationError("--minutes works in one process; on several, whose clocks differ, give --steps")
    if not config.resume and last_checkpoint(output / CHECKPOINTS) is not None:
        raise ConfigurationError(
            f"{output} already contains a run: continue it with --resume, or choose another folder"
        )
    if not is_first():
        return
    own = {name: value for name, value in asdict(config).items() if name not in ("output_dir", "resume")}
    check_savable(output, policy, tokenizer, settings)
    remember(output, {**own, **about}, resume=config.resume, free=_FREE)


def _finish(config: ImitationConfig, policy: Any, tokenizer: Any, settings: CheckpointSettings, loss: float) -> float:
    check_sound(policy)
    if is_first():
        with saving(config.output_dir):
            write_checkpoint(config.output_dir, policy, tokenizer, settings)
    return loss


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
