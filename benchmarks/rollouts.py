"""Rollouts under measurement, and the same tokens sampled again by the engine alone, with every batch as full as it gets."""

from __future__ import annotations

import resource
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rao_rl.rollouts.batches import Collector
from recursive_agent.model.batching import BatchEngine, Request, Step
from recursive_agent.model.embedded import EmbeddedModel
from recursive_agent.repl import make_sandbox
from recursive_agent.trace.tree import ExecutionTree


@dataclass(slots=True)
class Call:
    """One model call: the tokens it was given and those it sampled."""

    prompt: list[int]
    completion: list[int]


@dataclass(slots=True)
class Conversation:
    """The calls of one agent, and how many tokens they are made of, each counted once where calls share a beginning."""

    calls: list[Call]
    distinct: int


@dataclass(slots=True)
class Meter:
    """What an engine did: wall and CPU seconds in `run`, passes that decode and the rows they had."""

    seconds: float = 0.0
    cpu: float = 0.0
    passes: int = 0
    decoded: int = 0

    @property
    def rows(self) -> float:
        """Rows of a decoding pass, on average."""
        return self.decoded / max(1, self.passes)


@dataclass(slots=True)
class Rollout:
    """Seconds of a batch of rollouts: wall, of these in the sampler, and CPU by who spent it."""

    seconds: float
    sampling: float
    sampler_cpu: float
    host_cpu: float
    sandbox_cpu: float
    rows: float

    @property
    def cpu(self) -> float:
        """Seconds of all of them."""
        return self.sampler_cpu + self.host_cpu + self.sandbox_cpu


def conversations(trees: Sequence[ExecutionTree]) -> list[Conversation]:
    """One for each agent that called the model."""
    made = []
    for tree in trees:
        for node in tree.nodes.values():
            calls = [
                Call(list(step.model.prompt_token_ids or ()), list(step.model.token_ids or ()))
                for step in node.steps
                if step.model is not None and step.model.token_ids
            ]
            if calls:
                made.append(Conversation(calls, _distinct([call.prompt + call.completion for call in calls])))
    return made


def _distinct(texts: Sequence[Sequence[int]]) -> int:
    """Nodes of the prefix tree of `texts`."""
    count = 0
    for number, text in enumerate(texts):
        count += len(text) - max((_shared(text, before) for before in texts[:number]), default=0)
    return count


def _shared(text: Sequence[int], other: Sequence[int]) -> int:
    if list(text[: len(other)]) == list(other):
        return len(other)
    return next((place for place, (a, b) in enumerate(zip(text, other, strict=False)) if a != b), len(text))


async def measured(collector: Collector, model: EmbeddedModel) -> tuple[Rollout, list[ExecutionTree]]:
    """Roll out batch 0, in a sandbox that is open already, as between two steps of training."""
    before = _children()
    async with make_sandbox("process"):
        pass
    helper = _children() - before
    before = _children()
    async with make_sandbox("process") as sandbox:
        with _metered(model.engine) as meter:
            begun = time.process_time()
            batch = await collector.batch(0, sandbox)
            host_cpu = time.process_time() - begun - meter.cpu
    # The helper process costs something by itself, however many agents there are.
    sandbox_cpu = max(0.0, _children() - before - helper)
    return Rollout(batch.seconds, meter.seconds, meter.cpu, host_cpu, sandbox_cpu, meter.rows), batch.trees


def replayed(model: EmbeddedModel, trees: Sequence[ExecutionTree]) -> Meter:
    """Sample the tokens of the trees again, with as many conversations open as the engine takes, and nothing else to do.

    The arithmetic is that of the rollout, the draw of each token included; what was recorded is then put in its place.
    Turns of a conversation follow one another and read on from what is kept of it.
    """
    engine = model.engine
    waiting = deque(conversations(trees))
    open_: dict[Request, tuple[object, deque[Call]]] = {}
    width = engine._max_batch

    def submit(owner: object, calls: deque[Call]) -> None:
        call = calls.popleft()
        request = _Replay(owner, call.prompt, call.completion)
        open_[request] = (owner, calls)
        engine.submit(request)

    with _metered(engine) as meter, _scripted(engine):
        while waiting or open_:
            while waiting and len(open_) < width:
                submit(_Owner(), deque(waiting.popleft().calls))
            engine.run(1.0)
            for request in [request for request in open_ if request.done]:
                if request.error is not None:
                    raise request.error
                owner, calls = open_.pop(request)
                if calls:
                    submit(owner, calls)
    return meter


class _Owner:
    """What a conversation's cache is kept under."""


class _Replay(Request):
    """A request whose answer is known."""

    def __init__(self, owner: object, prompt: Sequence[int], answer: list[int]) -> None:
        super().__init__(owner, prompt, max_tokens=len(answer), seed=0)
        self.answer = answer


@contextmanager
def _scripted(engine: BatchEngine) -> Iterator[None]:
    draw: Any = engine.draw

    def recorded(requests: Sequence[Any], logits: Any) -> tuple[list[int], list[float]]:
        _, logprobs = draw(requests, logits)
        return [request.answer[len(request.token_ids)] for request in requests], logprobs

    with _replaced(engine, draw=recorded):
        yield


@contextmanager
def _metered(engine: BatchEngine) -> Iterator[Meter]:
    meter = Meter()
    run, forward = engine.run, engine.forward

    def timed(seconds: float) -> None:
        begun, cpu = time.perf_counter(), time.thread_time()
        run(seconds)
        meter.seconds += time.perf_counter() - begun
        meter.cpu += time.thread_time() - cpu

    def counted(step: Step, cache: list[Any]) -> Any:
        if step.ids.shape[1] == 1:
            meter.passes += 1
            meter.decoded += len(step.ids)
        return forward(step, cache)

    with _replaced(engine, run=timed, forward=counted):
        yield meter


@contextmanager
def _replaced(engine: BatchEngine, **methods: Any) -> Iterator[None]:
    """With other methods in this one engine, for a while."""
    for name, method in methods.items():
        setattr(engine, name, method)
    try:
        yield
    finally:
        for name in methods:
            delattr(engine, name)


def _children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
