"""How fast the embedded policy samples: `python -m benchmarks.embedded`. One line for each figure, with its aim."""

from __future__ import annotations

import time

import anyio

from recursive_agent.model.base import Message, Sampling
from recursive_agent.model.embedded import EmbeddedModel

GOAL = "Craft the following items: {}x copper_gear\nget_info view_inventory craft launch_subagent finish"
SEEN = "({'steel_wedge': 1, 'paper_cube': 2}, {}, 3)"
AIMS = {32: "aim: at least 3,000"}


async def _agent(model: EmbeddedModel, number: int, counts: list[int]) -> None:
    """Two turns, hot enough that answers rarely end before their limit."""
    conversation = model.conversation(sampling=Sampling(temperature=30.0, max_tokens=40))
    conversation.add(Message("user", GOAL.format(number + 1)))
    for turn in range(2):
        answer = await conversation.complete(max_tokens=40, seed=1000 * number + turn)
        counts.append(answer.usage.completion_tokens)
        conversation.add(Message("user", SEEN))


async def _crowd(model: EmbeddedModel, size: int) -> int:
    counts: list[int] = []
    async with anyio.create_task_group() as group:
        for number in range(size):
            group.start_soon(_agent, model, number, counts)
    return sum(counts)


def main() -> None:
    """Print the figures."""
    begun = time.perf_counter()
    model = EmbeddedModel()
    print(f"ready after {time.perf_counter() - begun:.2f} s (aim: under 2)")
    for size in (1, 8, 32, 64):
        anyio.run(_crowd, model, size)
        begun, tokens = time.perf_counter(), 0
        while tokens < 8_000:
            tokens += anyio.run(_crowd, model, size)
        rate = tokens / (time.perf_counter() - begun)
        print(f"{size:3} conversations at once: {rate:,.0f} sampled tokens/s {AIMS.get(size, '')}".rstrip())


if __name__ == "__main__":
    main()
