"""What the way of spreading agents over replicas does to their prefix caches: `python -m benchmarks.routing [--traces DIR]`.

Takes the calls of recorded trees (by default: of scripted agents, run for this) and plays them, in simulated time, to replicas
with a prefix cache each: blocks of 16 tokens as vLLM has them, the longest unused evicted first. Prints, by ways to choose the
replica, the share of prompt tokens that were cached, without those that all prompts begin with, and how unevenly the calls were
spread. What is played are the recorded prompts and who waited for whom; how long calls take is made up.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import random
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio

from recursive_agent import Agent, ExecutionTree, Limits, Node
from recursive_agent.model.chat import ChatModel
from recursive_agent.model.endpoint import Endpoint
from recursive_agent.model.replicas import Replica, Replicas, opening_of
from recursive_agent.testing import Answer, Request, ScriptedEndpoint
from recursive_agent.trace.folder import trace_files

BLOCK = 16
CAPACITY = 100_000
"""Tokens that the cache of one replica holds."""
AT_ONCE = 24
"""Trees that run at the same time."""
TASKS, ATTEMPTS, CHILDREN, STEPS = 8, 8, 8, 4
_PAPER = "The findings of the survey, in the words of its authors: " + "one result and then another, " * 60
"""What the parents of every second task put into the goal of all their sub-agents."""


def script(request: Request) -> Answer:
    """A root launches children at its first step; each child looks at something large for some steps, and finishes."""
    if "part" not in request.first:
        if request.step:
            return "```python\nfinish(sum(results))\n```"
        task = int(request.first.rpartition("task ")[2].split()[0])
        text = _PAPER if task % 2 else ""
        goals = f"(f'{text}task {task} part {{n}}' for n in range({CHILDREN}))"
        return f"```python\nresults = await asyncio.gather(*(launch_subagent(goal) for goal in {goals}))\n```"
    if request.step < STEPS - 1:
        return f"```python\nprint(list(range({request.step * 100}, {request.step * 100 + 150})))\n```"
    return "```python\nfinish(1)\n```"


async def run_trees() -> list[ExecutionTree]:
    """TASKS × ATTEMPTS trees of scripted agents."""
    trees: list[ExecutionTree] = []
    with ScriptedEndpoint(script) as endpoint:
        limits = Limits(max_children=CHILDREN, max_tokens=None)
        async with Agent("scripted", endpoint.base_url, "none", limits=limits, interface="tokens") as agent:
            for task, _ in itertools.product(range(TASKS), range(ATTEMPTS)):
                trees.append((await agent.solve(f"Answer task {task} with the help of sub-agents.")).tree)
    random.Random(0).shuffle(trees)
    return trees


class Cache:
    """A prefix cache: blocks by the hash of all tokens up to their end, the longest unused evicted first."""

    def __init__(self) -> None:
        self._blocks: OrderedDict[int, None] = OrderedDict()

    def hits(self, prompt: Sequence[int]) -> int:
        """Tokens of the prompt that are cached; the whole prompt is cached afterwards."""
        key, hits, whole = 0, 0, True
        for start in range(0, len(prompt) - BLOCK + 1, BLOCK):
            key = hash((key, *prompt[start : start + BLOCK]))
            whole = whole and key in self._blocks
            hits += BLOCK if whole else 0
            self._blocks[key] = None
            self._blocks.move_to_end(key)
        while len(self._blocks) * BLOCK > CAPACITY:
            self._blocks.popitem(last=False)
        return hits


Choose = Callable[[Replicas[ChatModel], str], Replica[ChatModel]]
"""The replica for a conversation with this opening."""


@dataclass(frozen=True, slots=True)
class Way:
    """A way to choose a replica: for each call, or for an agent with its first call."""

    name: str
    choose: Choose
    each_call: bool = False


@dataclass
class Play:
    """Trees in simulated time on replicas."""

    count: int
    way: Way
    common: int
    """Tokens that all prompts begin with."""
    hits: int = 0
    tokens: int = 0
    spread: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        models = [ChatModel(Endpoint("m", f"http://replica{n}.test/v1", "none")) for n in range(self.count)]
        self.replicas = Replicas(models)
        self.caches = {replica: Cache() for replica in self.replicas.all}
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._now = 0.0
        self._durations = random.Random(1)

    def run(self, trees: Sequence[ExecutionTree]) -> None:
        """Play all trees, AT_ONCE at a time."""
        waiting = list(reversed(trees))

        def begin() -> None:
            if waiting:
                tree = waiting.pop()
                self._agent(tree, tree.root, begin)

        for _ in range(AT_ONCE):
            begin()
        while self._events:
            self._now, _, happen = heapq.heappop(self._events)
            happen()

    def _after(self, seconds: float, happen: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self._now + seconds, next(self._order), happen))

    def _agent(self, tree: ExecutionTree, node: Node, ended: Callable[[], None]) -> None:
        calls = [call for call in node.model_calls if call.prompt_token_ids]
        opening = opening_of(calls[0].messages) if calls else ""
        home: list[Replica[ChatModel]] = []
        steps = iter(calls)

        def step() -> None:
            call = next(steps, None)
            if call is None:
                ended()
                return
            if self.way.each_call or not home:
                home[:] = [self.way.choose(self.replicas, opening)]
            at = home[0]
            at.calls.add(id(call))
            self._count(at, call.prompt_token_ids or ())

            def answered() -> None:
                at.calls.discard(id(call))
                children = [
                    child for child in node.children if child.launched_at and child.launched_at.step == call.step
                ]
                left = [len(children)]

                def back() -> None:
                    left[0] -= 1
                    if left[0] <= 0:
                        self._after(0.1, step)

                for child in children:
                    self._agent(tree, child, back)
                if not children:
                    back()

            self._after(self._durations.uniform(0.5, 3.0), answered)

        step()

    def _count(self, at: Replica[ChatModel], prompt: Sequence[int]) -> None:
        self.hits += max(0, self.caches[at].hits(prompt) - self.common)
        self.tokens += len(prompt) - self.common
        loads = [len(replica.calls) for replica in self.replicas.all]
        if sum(loads) >= 8 * self.count:
            self.spread.append(max(loads) * self.count / sum(loads))

    @property
    def line(self) -> str:
        """What came of it."""
        spread = sum(self.spread) / max(1, len(self.spread))
        return f"{self.count:>8}  {self.way.name:24} {self.hits / self.tokens:>7.1%} {spread:>15.2f}"


def ways() -> list[Way]:
    """The ways to choose a replica."""
    rng = random.Random(0)

    def at_random(replicas: Replicas[Any], _: str) -> Replica[Any]:
        return rng.choice(replicas.all)

    def least_busy(replicas: Replicas[Any], _: str) -> Replica[Any]:
        return min(replicas.all, key=lambda replica: len(replica.calls))

    def by_hash(replicas: Replicas[Any], opening: str) -> Replica[Any]:
        empty = Replicas([replica.model for replica in replicas.all])
        return replicas.all[empty.all.index(empty.place(opening))]

    return [
        Way("random, each call", at_random, each_call=True),
        Way("least busy, each call", least_busy, each_call=True),
        Way("random, each agent", at_random),
        Way("least busy, each agent", least_busy),
        Way("hash alone, each agent", by_hash),
        Way("PoolModel's", lambda replicas, opening: replicas.place(opening)),
    ]


def main() -> None:
    """Record or read trees, play them, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--traces", type=Path, help="recorded with token ids, instead of scripted agents")
    folder = parser.parse_args().traces
    trees = anyio.run(run_trees) if folder is None else [ExecutionTree.load(path) for path in trace_files(folder)]
    prompts = [
        call.prompt_token_ids or ()
        for tree in trees
        for node in tree.walk()
        for call in node.model_calls
        if call.prompt_token_ids
    ]
    common = sum(1 for _ in itertools.takewhile(lambda tokens: len(set(tokens)) == 1, zip(*prompts, strict=False)))
    common -= common % BLOCK
    agents = sum(len(tree.nodes) for tree in trees)
    print(
        f"{len(prompts):,} calls of {agents} agents in {len(trees)} trees, {sum(map(len, prompts)):,} prompt tokens; all begin "
        f"with the same {common:,}"
    )
    print(f"{'replicas':>8}  {'way':24} {'cached':>7} {'busiest / mean':>15}")
    for count in (1, 2, 4, 8):
        for way in ways()[: None if count > 1 else 1]:
            play = Play(count, way, common)
            play.run(trees)
            print(play.line)


if __name__ == "__main__":
    main()
