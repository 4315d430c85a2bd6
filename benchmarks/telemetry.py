"""What OpenTelemetry costs, on and off: `python -m benchmarks.telemetry`. Counts CPU time of this process alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from statistics import median

import anyio
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from recursive_agent import Agent, Limits, Observer, OpenTelemetry
from recursive_agent.messages import Message
from recursive_agent.status import Status
from recursive_agent.testing import Request, ScriptedEndpoint
from recursive_agent.trace.observer import Work, idle
from recursive_agent.trace.schema import (
    CellRan,
    Event,
    HostCalled,
    ModelCalled,
    NodeEnded,
    NodeStarted,
    RunEnded,
    RunStarted,
)
from recursive_agent.usage import Usage

NODES = 1_000
ROUNDS = 5
RUNS = 10
CHILDREN = 16


def events() -> Iterator[Event]:
    """A root with 1,000 sub-agents of one step each."""
    usage = Usage(calls=1, prompt_tokens=600, completion_tokens=100)
    yield RunStarted(time=0.0, run="r", model="m", interface="chat")
    yield NodeStarted(time=0.0, node="0", parent=None, depth=0, goal="go")
    for number in range(NODES):
        node, at = f"0.{number}", float(number)
        yield NodeStarted(time=at, node=node, parent="0", depth=1, goal="go", step=1, call=number)
        yield ModelCalled(
            time=at + 0.4,
            node=node,
            step=1,
            started=at,
            messages=(Message("user", "hello " * 100),),
            text="text " * 200,
            finish_reason="stop",
            usage=usage,
            model="m",
        )
        yield CellRan(time=at + 0.6, node=node, step=1, started=at + 0.5, code="finish(1)", status="finished")
        yield NodeEnded(time=at + 0.7, node=node, status=Status.FINISHED, result=1, usage=usage)
        yield HostCalled(
            time=at + 0.8,
            node="0",
            step=1,
            call=number,
            started=at,
            name="launch_subagent",
            kwargs={"goal": "go"},
            child=node,
        )
    yield NodeEnded(time=NODES + 1.0, node="0", status=Status.FINISHED)
    yield RunEnded(time=NODES + 1.0, status=Status.FINISHED, usage=usage)


def per_event(content: bool) -> float:
    """Microseconds of CPU for each event of such a run, mapped, as spans of the SDK, queued to be sent."""
    happened = list(events())
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(
        BatchSpanProcessor(InMemorySpanExporter(), max_queue_size=100_000, schedule_delay_millis=10**6)
    )
    observer = OpenTelemetry(provider, content=content).watch(run="r", secrets=["sk-0123456789abcdef"])
    began = time.thread_time()
    for event in happened:
        observer.event(event)
    observer.close(None)
    took = time.thread_time() - began
    provider.shutdown()
    return took / len(happened) * 1e6


def around_idle() -> float:
    """Nanoseconds of a model call, a cell or a host call that nobody watches."""
    rounds = 200_000
    began = time.thread_time()
    for _ in range(rounds):
        with idle(Work("cell", "0", 1, 0.0)):
            pass
    return (time.thread_time() - began) / rounds * 1e9


def answer(request: Request) -> str:
    """The root launches 16 sub-agents, each of which finishes at once."""
    if "the root" in request.first:
        launches = f"[launch_subagent(f'leaf {{i}}') for i in range({CHILDREN})]"
        return f"```python\nimport asyncio\nfinish(await asyncio.gather(*{launches}))\n```"
    return "```python\nfinish(1)\n```"


def whole(observers: Callable[[], list[Observer]]) -> float:
    """Milliseconds of CPU for one run of 17 agents, endpoint and sandbox in this process."""

    async def run() -> float:
        took = []
        async with ScriptedEndpoint(answer) as endpoint:
            limits = Limits(max_agents=CHILDREN + 1, max_children=CHILDREN)
            agent = Agent(
                "scripted",
                endpoint.base_url,
                sandbox="inprocess",
                limits=limits,
                observers=observers(),
                prompt_style="minimal",
            )
            async with agent:
                await agent.solve("the root")
                for _ in range(RUNS):
                    began = time.process_time()
                    result = await agent.solve("the root")
                    took.append((time.process_time() - began) * 1e3)
                    assert len(result.tree.nodes) == CHILDREN + 1, result.status
        return median(took)

    return anyio.run(run)


def watched() -> list[Observer]:
    """OpenTelemetry with spans that are queued and dropped."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(InMemorySpanExporter(), max_queue_size=100_000))
    return [OpenTelemetry(provider)]


def main() -> None:
    """Print each figure on a line."""
    print(f"off: around a model call, cell or host call   {median(around_idle() for _ in range(ROUNDS)):8.0f} ns")
    print(f"on: each event of 1,000 agents                {median(per_event(False) for _ in range(ROUNDS)):8.1f} µs")
    print(f"on, with content: each event of 1,000 agents  {median(per_event(True) for _ in range(ROUNDS)):8.1f} µs")
    print(f"off: a run of {CHILDREN + 1} agents                       {whole(list):8.1f} ms")
    print(f"on: a run of {CHILDREN + 1} agents                        {whole(watched):8.1f} ms")


if __name__ == "__main__":
    main()
