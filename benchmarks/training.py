"""What training costs beside sampling: `python -m benchmarks.training [--traces FOLDER] [--cuda]`.

Records a batch of rollouts with the embedded policy (or reads FOLDER, as a run leaves it in `traces/`), then measures on
these traces. Prints one line for each figure, with its aim. `--cuda` measures the shapes of larger policies instead.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import anyio
import torch
from transformers.utils import logging

from rao_rl.credit.assign import CreditConfig
from rao_rl.data.rows import Sample, TreeRows, with_credit
from rao_rl.envs.textcraft import TextCraft
from rao_rl.rollouts.batches import CollectConfig, Collector, read_recorded
from rao_rl.train.packing import ATTENTION
from rao_rl.train.trainer import RaoArguments, RaoTrainer, Step
from rao_rl.weights.checkpoint import load_checkpoint, write_checkpoint
from rao_rl.weights.hardware import multiplies_bf16
from rao_rl.weights.sync import EmbeddedSync, Push
from recursive_agent.model.embedded import SHIPPED, EmbeddedModel
from recursive_agent.trace.tree import ExecutionTree

from . import gpu
from .prefixes import prefixes
from .rollouts import Rollout, conversations, measured, replayed


class Variant(NamedTuple):
    """A way to forward the rows of a step: `parts` are what is forwarded at once where the trainer does not pack."""

    name: str
    trainer: RaoTrainer
    parts: list[Step]
    tokens: int
    """Tokens that are forwarded, padding counted."""


def all_samples(trees: Sequence[ExecutionTree]) -> list[Sample]:
    """Every row of the trees, with its credit; what teaches nothing (all attempts succeed) counts with advantage 1."""
    rows = list(map(TreeRows.of, trees))
    credited = {(each.rollout, each.node): each for each in with_credit(rows, CreditConfig()).samples if each.advantage}
    made = []
    for tree, of_tree in zip(trees, rows, strict=True):
        for node, own in of_tree.rows.items():
            known = credited.get((tree.run, node))
            for row in own:
                sample = Sample(
                    row=row,
                    advantage=1.0,
                    weight=1.0,
                    group=tree.group or tree.run,
                    rollout=tree.run,
                    node=node,
                    parent=tree.nodes[node].parent,
                    depth=tree.nodes[node].depth,
                )
                made.append(sample if known is None else replace(known, row=row))
    return made


def step_of(made: Sequence[Sample]) -> Step:
    return Step(samples=made, denominator=float(sum(int(sample.completion_mask.sum()) for sample in made)))


def padded_parts(step: Step, budget: int) -> tuple[list[Step], int]:
    """The step's rows in their order, in batches of at most `budget` tokens with padding; and all tokens so forwarded."""
    batches: list[list[Sample]] = [[]]
    longest = 0
    for sample in step.samples:
        longest = max(longest, len(sample))
        if batches[-1] and longest * (len(batches[-1]) + 1) > budget:
            batches.append([])
            longest = len(sample)
        batches[-1].append(sample)
    forwarded = sum(len(batch) * max(map(len, batch)) for batch in batches)
    return [replace(step, samples=batch) for batch in batches], forwarded


def make_trainer(model: str | Path, folder: Path, *, budget: int, packed: bool, attention: str | None) -> RaoTrainer:
    """A trainer of the policy as `rao train` would make it, ready for `training_step`."""
    policy, tokenizer, _ = load_checkpoint(model)
    if attention is not None:
        policy.set_attn_implementation(attention)
    arguments = RaoArguments(
        output_dir=str(folder),
        max_steps=1,
        use_cpu=True,
        bf16=multiplies_bf16(),
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
        tokens_per_bin=budget,
        padding_free=packed,
    )
    trainer = RaoTrainer(policy, arguments, lambda first: iter(()), pad_id=tokenizer.pad_token_id or 0)
    trainer.model_wrapped = trainer.accelerator.prepare(trainer.model)
    return trainer


def variants(step: Step, model: str | Path, folder: Path, budget: int) -> list[Variant]:
    """Packed first. Padded batches have one bin each, so their trainers have no budget of their own."""
    by_length = replace(step, samples=sorted(step.samples, key=len))
    arrived, arrived_tokens = padded_parts(step, budget)
    ordered, ordered_tokens = padded_parts(by_length, budget)
    every = sum(map(len, step.samples))
    whole = 10**12

    def trainer(budget: int, packed: bool, attention: str | None = None) -> RaoTrainer:
        return make_trainer(model, folder, budget=budget, packed=packed, attention=attention)

    return [
        Variant("packed", trainer(budget, True), [step], every),
        Variant("padded", trainer(whole, False), arrived, arrived_tokens),
        Variant("padded, attention as packed", trainer(whole, False, ATTENTION), arrived, arrived_tokens),
        Variant("the same, rows sorted by length", trainer(whole, False, ATTENTION), ordered, ordered_tokens),
    ]


def forward_backward(variant: Variant) -> tuple[float, float]:
    """Seconds of forward and backward of the whole step, and its loss."""
    variant.trainer.model_wrapped.zero_grad()
    begun = time.perf_counter()
    loss = sum(float(variant.trainer.training_step(variant.trainer.model_wrapped, part)) for part in variant.parts)
    return time.perf_counter() - begun, loss


def throughput(step: Step, model: str | Path, folder: Path, budget: int, repeats: int) -> float:
    """Print how much faster packed rows are; returns the median seconds of a packed step."""
    compared = variants(step, model, folder, budget)
    expected, *_ = [forward_backward(variant)[1] for variant in compared]  # which warms them up
    took: dict[str, list[float]] = {variant.name: [] for variant in compared}
    for _ in range(repeats):
        for variant in compared:
            seconds, loss = forward_backward(variant)
            if abs(loss - expected) > 0.02 * abs(expected) + 1e-3:
                raise SystemExit(f"{variant.name} has the loss {loss:g} where packed rows have {expected:g}")
            took[variant.name].append(seconds)
    tokens = sum(len(sample) for sample in step.samples)
    packed = took["packed"]
    print(f"bins of {budget:,} tokens: packed {tokens / median(packed):,.0f} tokens/s; packed over")
    for variant in compared[1:]:
        ratios = sorted(other / ours for other, ours in zip(took[variant.name], packed, strict=True))
        aim = " (aim ≥ 1.3)" if variant.name == "padded" else ""
        print(
            f"    {variant.name:<34} {median(ratios):5.2f} x{aim:<12} from {ratios[0]:.2f} to {ratios[-1]:.2f}, padding "
            f"{variant.tokens / tokens - 1:.0%}"
        )
    return median(packed)


def merging(trees: Sequence[ExecutionTree], made: Sequence[Sample]) -> None:
    """Print what is forwarded over what there is: the tokens of each agent's conversation, each once however it forks."""
    conversed = conversations(trees)
    logical = sum(conversation.distinct for conversation in conversed)
    calls = sum(len(call.prompt) + len(call.completion) for each in conversed for call in each.calls)
    rows = sum(len(sample) for sample in made)
    print(
        f"forwarded over logical tokens ({logical:,} of {len(conversed):,} agents): "
        f"{rows / logical:.3f} (aim ≤ 1.02); one row for each model call: {calls / logical:.2f}"
    )


async def pushes(sync: EmbeddedSync, policy: Any, repeats: int) -> list[Push]:
    return [await sync.push(policy, version) for version in range(repeats + 1)][1:]


def pushing(sync: EmbeddedSync, repeats: int, rollout_seconds: float | None, train_seconds: float) -> None:
    """Print what a push takes, and its share of a step of rollouts, training and the push itself."""
    policy, _, _ = load_checkpoint(SHIPPED)
    took = anyio.run(pushes, sync, policy, repeats)
    seconds = median(push.seconds for push in took)
    share = "no rollout was measured, so its share of a step is not known"
    if rollout_seconds is not None:
        whole = rollout_seconds + train_seconds + seconds
        share = (
            f"{seconds / whole:.1%} of a step of {whole:.1f} s (aim < 5 %), rollouts {rollout_seconds / whole:.0%}, "
            f"training {train_seconds / whole:.0%}"
        )
    print(f"push of the embedded policy, probe of {took[-1].probe_tokens} tokens included: {seconds:.2f} s, {share}")


def sampling(rollout: Rollout, model: EmbeddedModel, trees: Sequence[ExecutionTree]) -> None:
    """Print what rolling out took over what the sampler alone takes for the same tokens, and where the rest is."""
    alone = sorted((replayed(model, trees) for _ in range(3)), key=lambda meter: meter.seconds)[1]
    cores = os.cpu_count() or 1
    tokens = sum(len(call.completion) for each in conversations(trees) for call in each.calls)
    print(
        f"rollout of {len(trees)} trees, {tokens:,} sampled tokens: {rollout.seconds:.1f} s, "
        f"{rollout.seconds / alone.seconds:.2f} x the sampler's own {alone.seconds:.1f} s at full batch (aim ≤ 1.25)"
    )
    small = rollout.sampler_cpu - alone.cpu
    parts = {
        "sampling at full batch": alone.seconds,
        f"batches of {rollout.rows:.0f} rows on average, not {alone.rows:.0f}": small,
        "the sampler waits for a core or for the interpreter": rollout.sampling - alone.seconds - small,
        "nobody samples: all wait for agents and their sandboxes": rollout.seconds - rollout.sampling,
    }
    for name, seconds in parts.items():
        print(f"    {seconds:7.1f} s  {name}")
    print(
        f"    CPU: sampler {rollout.sampler_cpu:.1f} s, host {rollout.host_cpu:.1f} s, sandbox processes "
        f"{rollout.sandbox_cpu:.1f} s, together {rollout.cpu / rollout.seconds / cores:.0%} of {cores} cores; "
        f"with all of them busy it would be {max(1.0, rollout.cpu / cores / alone.cpu):.2f} x"
    )


def machine() -> str:
    """What the figures were measured on."""
    cpu = ""
    if sys.platform == "linux":
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        cpu = next((line.split(":")[1].strip() for line in lines if "model name" in line), "")
    return (
        f"# {cpu or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, torch {torch.__version__} "
        f"on {torch.get_num_threads()} threads, {'bfloat16' if multiplies_bf16() else 'float32'}, load "
        f"{os.getloadavg()[0]:.1f}"
    )


def cut(made: list[Sample], tokens: int) -> list[Sample]:
    """The first rows that have so many tokens together."""
    kept, count = [], 0
    for sample in made:
        if count >= tokens:
            break
        kept.append(sample)
        count += len(sample)
    return kept


def on_this_machine(options: argparse.Namespace) -> None:
    """Everything that needs no GPU."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        sampler = EmbeddedModel(write_checkpoint(folder / "sampler", *load_checkpoint(SHIPPED)), threads=1)
        rollout: Rollout | None = None
        if options.traces is None:
            config = CollectConfig(
                tasks_per_step=options.tasks, num_generations=options.generations, level=options.level
            )
            collector = Collector(TextCraft(), sampler, config, folder / "traces")
            rollout, trees = anyio.run(measured, collector, sampler)
            if not options.prefixes:
                sampling(rollout, sampler, trees)
        else:
            trees = list(read_recorded(options.traces).values())
            if not trees:
                raise SystemExit(f"{options.traces} holds no whole traces")
        prefixes(trees, load_checkpoint(SHIPPED)[1])
        if options.prefixes:
            return
        made = all_samples(trees)
        merging(trees, made)
        part = cut(made, options.tokens)
        whole, used = (sum(map(len, rows)) for rows in (made, part))
        print(f"training on {len(part):,} rows of {used:,} tokens; the longest has {max(map(len, part)):,}")
        seconds = [
            throughput(step_of(part), SHIPPED, folder / "runs", budget, options.repeats) for budget in options.bins
        ]
        sync = EmbeddedSync(sampler, folder / "sampler")
        pushing(sync, options.repeats, None if rollout is None else rollout.seconds, min(seconds) * whole / used)


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", type=Path, help="a folder of recorded trees; without it they are recorded first")
    parser.add_argument("--tasks", type=int, default=8)
    parser.add_argument("--generations", type=int, default=8)
    parser.add_argument("--level", default="medium")
    parser.add_argument("--tokens", type=int, default=60_000, help="how much of the traces is trained on")
    parser.add_argument("--bins", type=int, nargs="+", default=[4096, 8192, 16_384], metavar="TOKENS")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--prefixes", action="store_true", help="only what the rows of a step share")
    parser.add_argument("--cuda", action="store_true", help="a 0.6B shape in full and a 4B shape with LoRA, on a GPU")
    parser.add_argument("--peak", type=float, help="what the GPU is said to do in bfloat16, TFLOP/s")
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> None:
    """Print the figures."""
    options = arguments(given)
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    run: Callable[[argparse.Namespace], None] = gpu.main if options.cuda else on_this_machine
    if not options.cuda:
        print(machine(), flush=True)
    run(options)


if __name__ == "__main__":
    main()
