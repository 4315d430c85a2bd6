"""Training throughput of larger shapes on a GPU, with random weights: `python -m benchmarks.training --cuda`."""

from __future__ import annotations

import argparse
import copy
import gc
import math
import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM, TrainerCallback
from transformers.trainer_callback import PrinterCallback

from rao_rl.config import UpdateConfig
from rao_rl.data.rows import Row, Sample
from rao_rl.train.trainer import RaoArguments, RaoTrainer, Step
from rao_rl.weights.adapters import adapted, merged
from rao_rl.weights.torch_model import TorchEngine, copy_weights
from recursive_agent.model.batching import Request

SHAPES: dict[str, dict[str, int]] = {
    "0.6B": {"hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 16},
    "4B": {"hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36, "num_attention_heads": 32},
}
"""Those of Qwen3; what all of them share is in `qwen3`."""
PEAKS = {"H200": 989.0, "H100 PCIe": 756.0, "H100": 989.0, "A100": 312.0, "L40S": 362.0, "B200": 2250.0}
"""TFLOP/s of dense bfloat16 by their makers' data sheets; the first that a GPU's name contains counts."""
SHORTEST, LONGEST = 256, 8192


@dataclass(frozen=True, slots=True)
class Measured:
    """Of a whole optimizer step: seconds (median), its tokens, its floating-point operations and the most memory taken."""

    seconds: float
    tokens: int
    flops: float
    memory: int


def qwen3(**shape: int) -> Qwen3Config:
    """A Qwen3 of this shape."""
    shared: dict[str, Any] = {
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 151_936,
        "max_position_embeddings": 32_768,
    }
    return Qwen3Config(tie_word_embeddings=True, bos_token_id=None, eos_token_id=0, **{**shared, **shape})


def random_step(tokens: int, vocabulary: int, *, longest: int = LONGEST, seed: int = 0) -> Step:
    """Rows of `SHORTEST` to `longest` tokens, many short and few long, of some `tokens` together; every second is sampled."""
    lengths, rng = random.Random(seed), np.random.default_rng(seed)
    made: list[Sample] = []
    while sum(map(len, made)) < tokens:
        low = min(SHORTEST, longest)
        length = round(math.exp(lengths.uniform(math.log(low), math.log(longest))))
        mask = np.arange(length) % 2 == 1
        logprobs = np.where(mask, -math.log(vocabulary), 0).astype(np.float32)
        row = Row(rng.integers(1, vocabulary, length).astype(np.int32), mask, logprobs, "0")
        name = str(len(made))
        made.append(
            Sample(row=row, advantage=1.0, weight=1.0, group=name, rollout=name, node="0", parent=None, depth=0)
        )
    return Step(samples=made, denominator=float(sum(int(sample.completion_mask.sum()) for sample in made)))


def operations(config: Any, lengths: Sequence[int], sampled: int, *, lora: bool) -> float:
    """Floating-point operations of a step that its mathematics asks for: what is computed twice counts once.

    A multiplication of matrices costs two operations a weight and token, forward, for the inputs' gradients and for the
    weights' own; frozen weights need no third, and adapters are too small to count. The head is multiplied with sampled
    tokens alone. Attention is causal, so a row of L tokens has L²/2 pairs, for each two products of a head's width,
    forward, and twice that backward.
    """
    pairs = sum(length * length / 2 for length in lengths)
    return operations_of(config, sum(lengths), pairs, sampled, lora=lora)


def operations_of(config: Any, tokens: int, pairs: float, sampled: int, *, lora: bool) -> float:
    """The same, of so many tokens and pairs of a token and one that it attends to."""
    heads = config.num_attention_heads * config.head_dim
    keys = config.num_key_value_heads * config.head_dim
    layer = config.hidden_size * (2 * heads + 2 * keys + 3 * config.intermediate_size)
    each = 4 if lora else 6
    weights = each * (layer * config.num_hidden_layers * tokens + config.hidden_size * config.vocab_size * sampled)
    return float(weights) + 3 * 4 * pairs * float(heads * config.num_hidden_layers)


class _Clock(TrainerCallback):
    """When each step ended."""

    def __init__(self) -> None:
        self.marks: list[float] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._mark()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._mark()

    def _mark(self) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.marks.append(time.perf_counter())


def measure(config: Any, step: Step, *, tokens_per_bin: int, lora_rank: int | None, repeats: int) -> Measured:
    """Optimizer steps of a policy with random weights, the first two left out. LoRA's frozen weights are in bfloat16."""
    cuda = torch.cuda.is_available()
    lora = lora_rank is not None
    with torch.device("cuda" if cuda else "cpu"):
        policy: Any = Qwen3ForCausalLM(config)  # type: ignore[no-untyped-call]
    if lora:
        policy = adapted(policy.to(torch.bfloat16), UpdateConfig(lora_rank=lora_rank))
    clock = _Clock()
    with tempfile.TemporaryDirectory() as folder:
        arguments = RaoArguments(
            output_dir=folder,
            max_steps=repeats + 2,
            learning_rate=1e-6,
            bf16=cuda,
            use_cpu=not cuda,
            gradient_checkpointing=lora,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=False,
            tokens_per_bin=tokens_per_bin,
        )
        trainer = RaoTrainer(policy, arguments, lambda first: iter([step] * (repeats + 2)), callbacks=[clock])
        trainer.remove_callback(PrinterCallback)
        if cuda:
            torch.cuda.reset_peak_memory_stats()
        trainer.train()
    took = [after - before for before, after in zip(clock.marks[2:], clock.marks[3:], strict=False)]
    lengths = [len(sample) for sample in step.samples]
    flops = operations(config, lengths, int(step.denominator), lora=lora)
    return Measured(median(took), sum(lengths), flops, torch.cuda.max_memory_allocated() if cuda else 0)


class _Conversation:
    """What a request belongs to."""


def sampled(engine: TorchEngine, rows: int, vocabulary: int, *, prompt: int = 400, answer: int = 64) -> float:
    """Seconds in which `rows` answers of `answer` tokens are sampled at once, after prompts of `prompt` tokens."""
    rng = random.Random(rows)
    begun = time.perf_counter()
    requests = [
        Request(_Conversation(), [rng.randrange(1, vocabulary) for _ in range(prompt)], max_tokens=answer, seed=row)
        for row in range(rows)
    ]
    for request in requests:
        engine.submit(request)
    while not all(request.done for request in requests):
        engine.run(1.0)
    if errors := [request.error for request in requests if request.error is not None]:
        raise errors[0]
    return time.perf_counter() - begun


def loop(config: Any, *, rank: int, rows: Sequence[int]) -> None:
    """Print what the parts of online training cost with the torch sampler: sampling, pushing a LoRA, and an update."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with torch.device(device):
        policy: Any = Qwen3ForCausalLM(config)  # type: ignore[no-untyped-call]
    policy = adapted(policy.to(torch.bfloat16), UpdateConfig(lora_rank=rank))
    engine = TorchEngine(merged(copy.deepcopy(policy)).to(device, torch.bfloat16), end_ids=(), max_batch=max(rows))
    sampled(engine, min(rows), config.vocab_size, answer=4)
    for count in rows:
        seconds = sampled(engine, count, config.vocab_size)
        print(
            f"sampling by torch, {count} answers of 64 tokens after prompts of 400: {64 * count / seconds:,.0f} tokens/s",
            flush=True,
        )
    begun = time.perf_counter()
    engine.renew(lambda: copy_weights(policy, engine.policy), version="1")
    if device == "cuda":
        torch.cuda.synchronize()
    print(f"push of a LoRA into it, without the check: {time.perf_counter() - begun:.2f} s", flush=True)


def main(options: argparse.Namespace) -> None:
    """Print the figures."""
    if not torch.cuda.is_available():
        raise SystemExit(
            "--cuda needs a CUDA GPU, and torch finds none here; without it the other figures are measured"
        )
    name = torch.cuda.get_device_name()
    peak = options.peak or next((peak for known, peak in PEAKS.items() if known in name), None)
    told = "no peak known: give --peak for the MFU" if peak is None else f"peak {peak:,.0f} TFLOP/s in bfloat16"
    print(f"# {name}, torch {torch.__version__}, CUDA {torch.version.cuda}, {told}", flush=True)
    loop(qwen3(**SHAPES["0.6B"]), rank=16, rows=(64, 256))
    gc.collect()
    torch.cuda.empty_cache()
    for shape, lora_rank, aim in (
        ("0.6B", 16, ""),
        ("0.6B", None, " (aim on an H200: 15,000 and 14 %)"),
        ("4B", 32, ""),
    ):
        config = qwen3(**SHAPES[shape])
        step = random_step(8 * 16_384, config.vocab_size)
        found = measure(config, step, tokens_per_bin=16_384, lora_rank=lora_rank, repeats=options.repeats)
        mfu = "" if peak is None else f", MFU {found.flops / found.seconds / peak / 1e12:.1%}"
        kind = "all weights" if lora_rank is None else f"LoRA r={lora_rank}, gradient checkpointing"
        print(
            f"Qwen3-{shape} shape, {kind}, bins of 16,384 tokens: {found.tokens / found.seconds:,.0f} tokens/s{mfu}{aim}, "
            f"peak memory {found.memory / 2**30:.1f} GiB, step of {found.tokens:,} tokens {found.seconds:.2f} s",
            flush=True,
        )
        gc.collect()  # a trainer and its callbacks hold one another
        torch.cuda.empty_cache()
