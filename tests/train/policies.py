"""Tiny policies for tests: a real tokenizer, real demonstrations, some ten thousand weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rao_rl.config import Curriculum
from rao_rl.imitation.encoding import RowEncoder
from rao_rl.imitation.lessons import WORDS, sample_texts
from rao_rl.imitation.policy import Architecture, create, train_tokenizer
from rao_rl.weights.checkpoint import write_checkpoint
from recursive_agent.checkpoint import CheckpointSettings

CURRICULUM = Curriculum(seed=1, difficulties=("easy",), single_difficulties=("easy",))
TINY = Architecture(vocabulary=640, width=32, layers=2, heads=2, head_width=16, feed_forward=48, context_length=256)


def make_tokenizer() -> Any:
    return train_tokenizer(sample_texts(CURRICULUM, 200), words=WORDS, vocabulary=640, context_length=256)


def make_encoder(tokenizer: Any) -> RowEncoder:
    return RowEncoder(tokenizer, end_ids=[tokenizer.eos_token_id])


def make_checkpoint(directory: Path, tokenizer: Any, *, seed: int = 0, shape: Architecture = TINY) -> Any:
    """Write an untrained checkpoint that samples at temperature 1, and return its torch model."""
    model = create(shape, tokenizer, seed=seed).eval()
    settings = CheckpointSettings(name="tiny", prompt_style="minimal", sampling={"temperature": 1.0, "max_tokens": 40})
    write_checkpoint(directory, model, tokenizer, settings)
    return model
