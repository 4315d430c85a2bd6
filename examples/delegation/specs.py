"""What is compared: for each row an environment, the policy that both ways of working start from, and the limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from rao_rl.envs import Mode

MODES: tuple[Mode, ...] = ("recursive", "single")
TEMPERATURE = 0.7
"""Of training and of evaluation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """One row."""

    environment: str
    note: str = ""
    """What tells the row from others of its environment."""
    start: tuple[str, ...]
    """Options of `rao train` that make the policy to start from, which imitates both ways of working."""
    base: str | None = None
    """Name of the open model (`examples.open_model`) that the start is made from, sampled through vLLM; None: new weights."""
    start_of: str | None = None
    """The row whose start is taken instead of a start of its own."""
    arguments: tuple[str, ...] = ()
    """NAME=VALUE of `--env-set`, in training and evaluation."""
    trained: tuple[str, ...]
    """Levels of the training tasks."""
    tasks: Mapping[str, int]
    """Test tasks of each level: of those of `trained`, and of harder ones."""
    context_limit: int
    """Tokens of an agent's conversation."""
    max_steps: Mapping[Mode, int]
    """Answers of one agent: a few more than the longest reference solution has."""
    max_answer: int
    """Tokens of one answer: a few more than the longest of the reference solution has."""
    max_agents: int
    budgets: tuple[int, ...]
    """Sampled tokens after which a run is evaluated; it ends at the last."""
    training: tuple[str, ...] = ()
    """Options of RAO that this row has besides those of all rows, which they replace."""


_SEQUENCE = Spec(
    environment="sequence",
    start=(
        "--set=imitation.levels=2k,10k",
        "--set=imitation.demonstrations=200",
        "--set=imitation.single_share=0.3",
        "--set=imitation.decay=0",
        "--set=imitation.warmup_steps=20",
        "--tokens=2048",
        "--steps=112",
    ),
    trained=("2k", "10k"),
    tasks={"2k": 60, "10k": 60, "40k": 10},
    context_limit=512,
    max_steps={"recursive": 3, "single": 3},
    max_answer=160,
    max_agents=200,
    budgets=(60_000, 180_000),
)
_OPEN_MODEL = (
    "--set=collect.tasks_per_step=4",
    "--set=update.lora_rank=16",
    "--set=update.tokens_per_bin=1024",
    "--set=update.bf16=true",
    "--save-steps=1",
)
_DEEPDIVE = Spec(
    environment="deepdive-synth",
    note="SmolLM2-135M",
    base="smollm2-135m",
    start=(
        "--set=imitation.levels=2-hop,3-hop",
        "--set=imitation.demonstrations=400",
        "--set=imitation.single_share=0.5",
        "--set=imitation.lora_rank=16",
        "--set=imitation.decay=0",
        "--set=imitation.warmup_steps=3",
        "--lr=1e-3",
        "--steps=120",
        "--tokens=1536",
        "--save-steps=10",
    ),
    trained=("2-hop", "3-hop"),
    tasks={f"{hops}-hop": 40 if hops < 4 else 20 for hops in range(2, 7)},
    context_limit=2048,
    max_steps={"recursive": 6, "single": 30},
    max_answer=128,
    max_agents=16,
    budgets=(20_000,),
    training=_OPEN_MODEL,
)
SPECS: Mapping[str, Spec] = MappingProxyType(
    {
        "deepdive": _DEEPDIVE,
        "deepdive-hot": replace(
            _DEEPDIVE,
            note="SmolLM2-135M, larger steps",
            start=(),
            start_of="deepdive",
            budgets=(40_000,),
            training=(*_OPEN_MODEL, "--lr=6e-4", "--set=collect.temperature=1"),
        ),
        "email": Spec(
            environment="email-synth",
            note="SmolLM2-135M",
            base="smollm2-135m",
            start=(
                "--set=imitation.demonstrations=200",
                "--set=imitation.single_share=0.5",
                "--set=imitation.lora_rank=16",
                "--set=imitation.decay=0",
                "--set=imitation.warmup_steps=3",
                "--lr=1e-3",
                "--steps=70",
                "--tokens=1536",
                "--save-steps=10",
            ),
            trained=("small", "large"),
            tasks={"small": 60, "large": 60},
            context_limit=4096,
            max_steps={"recursive": 4, "single": 5},
            max_answer=448,
            max_agents=60,
            budgets=(20_000,),
            training=(*_OPEN_MODEL, "--lr=6e-4"),
        ),
        "sequence": _SEQUENCE,
        "sequence-early": replace(_SEQUENCE, note="weaker start", start=(*_SEQUENCE.start[:-1], "--steps=96")),
        "sequence-window": replace(_SEQUENCE, arguments=("window=5",), start=(), start_of="sequence"),
    }
)


def start_row(name: str) -> str:
    """The row whose attempts of the start are those of row `name`: another one where start and arguments are the same."""
    origin = SPECS[name].start_of
    return origin if origin is not None and SPECS[origin].arguments == SPECS[name].arguments else name
