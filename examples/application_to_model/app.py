"""A workshop that takes orders: an application with tools and a stock of its own, which knows nothing of training.

    python app.py --attempts 8 --trace-dir traces/     fill each order of the book several times, and record it
    rao score traces/ --with app:score                 say how well each agent did, from the recording alone

The agents run on the policy that comes with the package, or on another checkpoint with `--model DIR`.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from dataclasses import replace
from itertools import islice
from pathlib import Path

import anyio

from rao_rl.envs.textcraft import TextCraft, TextCraftSession, make_world, parse_goal
from recursive_agent import Agent, EmbeddedModel, Limits, Node, Sandbox, make_sandbox

TEMPERATURE = 0.7
LIMITS = Limits(max_agents=256, max_steps=25, max_tokens=None, timeout=300.0)
CRAFTED = re.compile(r"Crafted (\d+)x (\w+)")


class Order:
    """What a customer wants, and what is in stock when work on it begins."""

    def __init__(self, wish: str, world: int, stock: dict[str, int]) -> None:
        self.wish = wish
        self._world = world
        self._stock = stock

    def workshop(self) -> TextCraftSession:
        """A workshop to work on the order: recipes, the stock, and the tools `get_info`, `view_inventory`, `craft`."""
        return TextCraftSession(make_world(self._world, "words"), self._stock)


def order_book(difficulty: str, skip: int, number: int) -> list[Order]:
    """Some orders of the book, always the same ones."""
    tasks = TextCraft().tasks("train", seed=0, level=difficulty, limit=skip + number)
    return [Order(task.goal, task.data["world"], task.data["inventory"]) for task in islice(tasks, skip, None)]


async def fill(
    order: Order, model: EmbeddedModel, sandbox: Sandbox, trace_dir: Path, *, depth: int, attempt: int
) -> bool:
    """Work on an order once. Nothing here is about training: the trace is all that it will need."""
    agent = Agent(
        model,
        tools=order.workshop().tools,
        limits=replace(LIMITS, max_depth=depth),
        # Attempts must differ to be compared. Training is told the temperature, and takes nothing from top_p.
        sampling={"temperature": TEMPERATURE, "top_p": 1.0},
        sandbox=sandbox,
        trace_dir=trace_dir,
    )
    result = await agent.solve(order.wish, seed=attempt)
    return result.status.finished


def score(node: Node) -> float:
    """Whether an agent, with those it launched, crafted all that its own goal asked for: for `rao score --with app:score`."""
    wanted = parse_goal(node.goal)
    if wanted is None or not node.finished:
        return 0.0
    made: Counter[str] = Counter()
    for agent in node.walk():
        for step in agent.steps:
            for call in step.calls:
                crafted = CRAFTED.fullmatch(str(call.result)) if call.name == "craft" else None
                if crafted is not None:
                    made[crafted[2]] += int(crafted[1])
    return float(all(made[item] >= count for item, count in wanted.items()))


async def main(settings: argparse.Namespace) -> None:
    model = EmbeddedModel(settings.model)
    orders = order_book(settings.difficulty, settings.skip, settings.orders)
    work = [(order, attempt) for order in orders for attempt in range(settings.attempts)]
    finished: list[bool] = []
    at_once = anyio.CapacityLimiter(16)

    async with make_sandbox("process") as sandbox:

        async def one(order: Order, attempt: int) -> None:
            async with at_once:
                finished.append(
                    await fill(order, model, sandbox, settings.trace_dir, depth=settings.depth, attempt=attempt)
                )
            print(f"\r{len(finished)}/{len(work)} attempts, {sum(finished)} finished", end="", file=sys.stderr)

        async with anyio.create_task_group() as group:
            for order, attempt in work:
                group.start_soon(one, order, attempt)
    await model.aclose()
    print(f"\nrecorded in {settings.trace_dir}", file=sys.stderr)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="checkpoint directory; the policy of the package unless given")
    parser.add_argument("--difficulty", default="easy", help="easy, medium or hard orders")
    parser.add_argument("--depth", type=int, default=8, help="levels of agents below the first; 0: it works alone")
    parser.add_argument("--orders", type=int, default=48, help="how many orders")
    parser.add_argument("--skip", type=int, default=0, help="orders of the book to leave out before them")
    parser.add_argument("--attempts", type=int, default=8, help="how often each is worked on")
    parser.add_argument("--trace-dir", type=Path, default=Path("traces"), help="where the runs are recorded")
    anyio.run(main, parser.parse_args())
