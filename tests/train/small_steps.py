"""Optimizer steps for tests of the trainer: random policies of several families, random rows, and what a step does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.distributed.tensor import DTensor
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    TrainerCallback,
)
from transformers.trainer_callback import PrinterCallback

from rao_rl.data.rows import Row, Sample
from rao_rl.train.trainer import RaoArguments, RaoTrainer, Step

VOCABULARY = 60


def qwen3(**more: Any) -> Any:
    """The shape of the policies that are trained in earnest, with grouped queries."""
    return _made(Qwen3ForCausalLM, Qwen3Config, head_dim=8, tie_word_embeddings=False, **_DECODER, **more)


def llama(**more: Any) -> Any:
    """Tied embeddings."""
    return _made(LlamaForCausalLM, LlamaConfig, tie_word_embeddings=True, **_DECODER, **more)


def gpt2(**more: Any) -> Any:
    """Learnt positions, tied embeddings, biases, no grouped queries."""
    still = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    return _made(GPT2LMHeadModel, GPT2Config, n_embd=16, n_layer=2, n_head=2, n_positions=400, **still, **more)


def windowed(window: int = 4) -> Any:
    """Layers that attend to the last few tokens only."""
    return _made(MistralForCausalLM, MistralConfig, sliding_window=window, **_DECODER)


def slopes() -> Any:
    """Attention that falls off with distance, which the attention interface of transformers does not know."""
    still = {"hidden_dropout": 0.0, "attention_dropout": 0.0}
    return _made(BloomForCausalLM, BloomConfig, hidden_size=16, n_layer=2, n_head=2, **still)


def scaled() -> Any:
    """Logits that are no product of the output embedding alone."""
    return _made(GraniteForCausalLM, GraniteConfig, logits_scaling=4.0, **_DECODER)


_DECODER = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 400,
    "pad_token_id": 0,
}


def _made(model: Any, config: Any, **settings: Any) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = model(config(vocab_size=VOCABULARY, bos_token_id=None, eos_token_id=0, **settings))
        # Far from uniform, so that what one position sees makes a difference.
        for value in made.parameters():
            if value.ndim > 1:
                value.data.normal_(std=0.3)
    return made


def row(length: int, *, seed: int, given: int = 2) -> Row:
    """Random tokens, of which the first `given` and some of the others were not sampled."""
    rng = np.random.default_rng(seed)
    mask = (np.arange(length) >= given) & (rng.random(length) < 0.7)
    mask[-1] = True
    logprobs = np.where(mask, rng.uniform(-6, -2, length), 0.0)
    return Row(rng.integers(1, VOCABULARY, length).astype(np.int32), mask, logprobs.astype(np.float32), "0")


def sample(row: Row, *, advantage: float = 1.0, weight: float = 1.0, node: str = "0") -> Sample:
    return Sample(
        row=row,
        advantage=advantage,
        weight=weight,
        group="g",
        rollout="r",
        node=node,
        parent=None,
        depth=node.count("."),
    )


def samples(*lengths: int) -> list[Sample]:
    """Rows of these lengths, with advantages and weights of all sorts."""
    return [
        sample(row(length, seed=place), advantage=(-1) ** place * (0.3 + place / 7), weight=0.5 + place % 3)
        for place, length in enumerate(lengths)
    ]


def near(model: Any, made: Sequence[Sample], spread: float = 0.4) -> list[Sample]:
    """The samples as a policy near the model would have sampled them: log-probs off by at most `spread` nats."""
    rng = np.random.default_rng(0)
    found = []
    with torch.no_grad():
        for each in made:
            ids = torch.from_numpy(each.input_ids.astype(np.int64))
            logps = torch.log_softmax(model(input_ids=ids[None]).logits[0, :-1], -1).gather(1, ids[1:, None])[:, 0]
            off = rng.uniform(-spread, spread, len(each))
            sampled = np.concatenate([[0.0], logps.numpy()]) + off
            logprobs = np.where(each.completion_mask, sampled, 0).astype(np.float32)
            found.append(replace(each, row=replace(each.row, logprobs=logprobs)))
    return found


def step(made: Sequence[Sample]) -> Step:
    return Step(samples=made, denominator=float(sum(int(each.completion_mask.sum()) for each in made)))


@dataclass(frozen=True)
class Learnt:
    """What happened at the last step: its loss, the gradient by parameter, and the line of the log."""

    loss: float
    gradient: dict[str, torch.Tensor]
    log: dict[str, float]


def _whole(gradient: torch.Tensor) -> torch.Tensor:
    """A copy, gathered from all processes where it is spread over them."""
    return gradient.full_tensor() if isinstance(gradient, DTensor) else gradient.clone()


class _Watch(TrainerCallback):
    def __init__(self) -> None:
        self.gradient: dict[str, torch.Tensor] = {}
        self.logs: list[dict[str, float]] = []

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.gradient = {
            name.removeprefix("module."): _whole(value.grad)
            for name, value in kwargs["model"].named_parameters()
            if value.grad is not None
        }

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if "loss" in logs:
            self.logs.append(dict(logs))


def learn(model: Any, folder: Path, *steps: Step, optimizer_from: Path | None = None, **arguments: Any) -> Learnt:
    """Train on the steps, one after the other, without clipping of the gradient."""
    settings: dict[str, Any] = {
        "output_dir": str(folder),
        "max_steps": len(steps),
        "max_grad_norm": 0.0,
        "optim": "sgd",
        "lr_scheduler_type": "constant",
        "learning_rate": 1e-2,
        "use_cpu": True,
        "save_strategy": "no",
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        **arguments,
    }
    watch = _Watch()
    trainer = RaoTrainer(
        model,
        RaoArguments(**settings),
        lambda first: iter(steps[first:]),
        callbacks=[watch],
        optimizer_from=optimizer_from,
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return Learnt(watch.logs[-1]["loss"] if watch.logs else 0.0, watch.gradient, watch.logs[-1] if watch.logs else {})


class DealtOut(torch.nn.DataParallel[Any]):
    """What transformers does with a model in one process on several GPUs."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        raise AssertionError("the model is dealt out to several GPUs")


def forked(whole: Sample) -> list[Sample]:
    """The sample as two rows of the same node: what was sampled in the first is only given in the second."""
    sampled = np.nonzero(whole.completion_mask)[0]
    cut = int(sampled[len(sampled) // 2])
    before = np.arange(len(whole)) < cut
    made = whole.row
    first = Row(made.input_ids[:cut], made.completion_mask[:cut], made.logprobs[:cut], made.version)
    rest = made.completion_mask & ~before
    second = Row(made.input_ids, rest, np.where(rest, made.logprobs, 0).astype(np.float32), made.version)
    return [replace(whole, row=first), replace(whole, row=second)]
