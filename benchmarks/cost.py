"""A model of cost: training a 4B policy on TextCraft-Synth as the RAO paper did. `python -m benchmarks.cost`

No part of it was run at this size. It multiplies the figures of `Inputs`, each of which names its source: *measured* by us,
*published* by others, or *assumed*. Change one with `--set NAME=VALUE` to see what it does.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass, fields, replace

HOUR = 3600.0


@dataclass(frozen=True)
class Inputs:
    """All figures that the model multiplies, with the source of each."""

    tasks: float = 16
    """Tasks in an optimizer step. Published: RAO, arXiv 2605.06639."""
    attempts: float = 8
    """Attempts at each task. Published: the same."""
    agents: float = 8.1
    """Agents in a tree of a medium task. Derived from published and measured: agents trained by RAO take 694 steps for a
    hard task (the paper), which at 4.6 steps an agent are 151 agents; plain recursion, one agent for each item to be crafted,
    needs 650 (mean of 300 hard training tasks of the authors' world, `rao_rl.envs.textcraft.tree_nodes`). Medium tasks
    need 34.8 by plain recursion (mean of 300), and the same share of that is 8.1. `PLAIN_RECURSION` takes all 34.8."""
    calls: float = 4.6
    """Model calls (steps) of an agent. Published: the three trees that the page of the authors' data set
    `apurvaga/textcraft-synth-recursive-agent` shows have 12 agents and 55 steps."""
    sampled: float = 130
    """Sampled tokens in a call. Derived from published: 180 s for 252 steps of one agent (the paper) are 0.71 s a step, and
    a 4B shape in bfloat16 on an H100 takes 5.5 ms a token (see `sampling_rate`)."""
    observed: float = 60
    """Tokens of the observation between two calls. Assumed."""
    opening: float = 1290
    """Tokens before an agent's first answer: prompt, examples and goal. Measured: 4,299 characters in textcraft's rich style;
    assumed: 0.3 tokens a character."""
    own_opening: float = 88
    """Tokens of the opening that another agent's do not share: its goal and functions, 292 characters. Measured, as above."""
    sampling_rate: float = 4177
    """Tokens a second that one H100 samples. Published for another server and a similar model, so assumed here: Qwen3.5-4B in
    bfloat16 on an H100 NVL, 24 requests at once, 5.5 ms a token (pull request 24 of wejoncy/sfllm). More requests at once
    give more: Qwen3-14B in vLLM on an H100 goes from 2,023 to 5,760 tokens a second between 32 and 256 (the ML.ENERGY
    leaderboard)."""
    prompt_rate: float = 32417
    """New prompt tokens a second that one H100 reads. Published for a larger model, so assumed here: Qwen3.5-9B in vLLM, long
    prompts (the long-context profile of GPUStack's performance lab)."""
    training_rate: float = 7727
    """Tokens a second that one H100 trains, LoRA of rank 32 on a 4B shape. Measured: README.md, `benchmarks.training`."""
    agent_cpu: float = 0.006
    """CPU seconds of an agent's sandbox process. Measured: README.md, 6 s for 1,000 interpreters."""
    call_cpu: float = 0.0016
    """CPU seconds of the host for a model call. Measured: README.md, 6.3 s for 1,000 agents of four calls."""


PLAIN_RECURSION = 34.8
"""Agents in a tree of a medium task where every item to be crafted has an agent of its own. Measured: see `Inputs.agents`."""


@dataclass(frozen=True)
class Cost:
    """What a number of optimizer steps costs. Tokens are counts, hours are of one GPU or one core."""

    agents: float
    sampled_tokens: float
    prompt_tokens: float
    """Of all calls, as an endpoint bills them."""
    new_prompt_tokens: float
    """Those that a server with prefix caching reads."""
    trained_tokens: float
    """Forwarded by the trainer: an agent is one row, its opening once."""
    sampling_hours: float
    training_hours: float
    cpu_hours: float

    @property
    def cores(self) -> float:
        """Cores with which the sandboxes and the host keep up with one sampling GPU."""
        return self.cpu_hours / self.sampling_hours


def cost(inputs: Inputs, steps: float) -> Cost:
    """The cost of `steps` optimizer steps.

    An agent of n calls with an opening of P tokens, s sampled in a call and o observed between two is prompted with
    n·P + n(n-1)/2·(s+o) tokens in all, and its row has P + n·s + (n-1)·o.
    """
    agents = steps * inputs.tasks * inputs.attempts * inputs.agents
    calls, observed = inputs.calls, (inputs.calls - 1) * inputs.observed
    sampled = agents * calls * inputs.sampled
    new = agents * (inputs.own_opening + observed)
    trained = agents * (inputs.opening + calls * inputs.sampled + observed)
    return Cost(
        agents=agents,
        sampled_tokens=sampled,
        prompt_tokens=agents * (calls * inputs.opening + calls * (calls - 1) / 2 * (inputs.sampled + inputs.observed)),
        new_prompt_tokens=new,
        trained_tokens=trained,
        sampling_hours=(sampled / inputs.sampling_rate + new / inputs.prompt_rate) / HOUR,
        training_hours=trained / inputs.training_rate / HOUR,
        cpu_hours=agents * (inputs.agent_cpu + calls * inputs.call_cpu) / HOUR,
    )


def table(inputs: Inputs, steps: tuple[int, ...]) -> list[str]:
    """A row for each number of steps, in Markdown."""
    lines = [
        "| steps | agents | sampled tokens | prompt tokens (new with prefix caching) | trained tokens | GPU-hours sampling "
        "+ training | CPU core-hours | cores a sampling GPU |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for count in steps:
        found = cost(inputs, count)
        cells = [
            f"{count:,}",
            f"{found.agents:,.0f}",
            _millions(found.sampled_tokens),
            f"{_millions(found.prompt_tokens)} ({_millions(found.new_prompt_tokens)})",
            _millions(found.trained_tokens),
            f"{found.sampling_hours:.2f} + {found.training_hours:.2f}",
            f"{found.cpu_hours:.3f}",
            f"{found.cores:.2f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _millions(tokens: float) -> str:
    return f"{tokens / 1e6:,.1f} M"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cost", description="cost of training a 4B policy")
    parser.add_argument("--steps", default="1,25,100,200", help="optimizer steps, with commas")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="change an input")
    options = parser.parse_args()
    known = {field.name for field in fields(Inputs)}
    inputs = Inputs()
    for name, _, value in (setting.partition("=") for setting in options.set):
        if name not in known:
            parser.error(f"there is no input {name!r}; choose from {', '.join(sorted(known))}")
        try:
            inputs = replace(inputs, **{name: float(value)})
        except ValueError:
            parser.error(f"{name} must be a number, not {value!r}")
    steps = tuple(int(count) for count in options.steps.split(","))
    for name, figure in asdict(inputs).items():
        print(f"{name:>14} {figure:g}")
    print(f"\nTrees of {inputs.agents:g} agents:\n", *table(inputs, steps), sep="\n")
    if inputs.agents != PLAIN_RECURSION:
        plain = replace(inputs, agents=PLAIN_RECURSION)
        print(
            f"\nTrees of {plain.agents:g} agents (one for each item to be crafted):\n", *table(plain, steps), sep="\n"
        )


if __name__ == "__main__":
    main()
