"""What a trace costs: `python -m benchmarks.trace`. Prints one line for each figure, with its aim."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median, quantiles

from recursive_agent.model.base import Message
from recursive_agent.status import Status
from recursive_agent.trace.schema import CellRan, Event, ModelCalled, NodeEnded, NodeStarted, RunStarted
from recursive_agent.trace.store import TraceWriter
from recursive_agent.trace.tree import ExecutionTree
from recursive_agent.usage import Usage

EVENTS = 2_000
NODES = 1_000
DOCUMENT = 50_000_000


def model_called(step: int, *, tokens: int = 0, node: str = "0") -> ModelCalled:
    """A call of a prompt of 600 and an answer of 1,000 characters, with token ids where `tokens` says how many."""
    ids = list(range(tokens)) if tokens else None
    return ModelCalled(
        time=1.0,
        node=node,
        step=step,
        started=0.5,
        messages=(Message("user", "hello " * 100),),
        text="text " * 200,
        finish_reason="stop",
        usage=Usage(calls=1, prompt_tokens=tokens, completion_tokens=100),
        model="m",
        prompt_token_ids=ids,
        token_ids=ids and ids[:100],
        logprobs=ids and [-0.1] * 100,
    )


def cell_ran(step: int) -> CellRan:
    """A cell of 20 lines."""
    return CellRan(time=1.0, node="0", step=step, started=0.5, code="print(1)\n" * 20, status="ok", output="1\n" * 20)


def appending(path: Path, make: Callable[[int], Event]) -> list[float]:
    """Milliseconds of each of `EVENTS` appends."""
    took = []
    with TraceWriter(path, secrets=["sk-0123456789abcdef"]) as writer:
        writer.append(RunStarted(time=0.0, run="r", model="m", interface="tokens"))
        for number in range(1, EVENTS + 1):
            event = make(number)
            begun = time.perf_counter()
            writer.append(event)
            took.append((time.perf_counter() - begun) * 1e3)
    return took


def line(name: str, took: Sequence[float], aim: str = "") -> None:
    """Print median and 95th percentile."""
    print(f"{name:<48} p50 {median(took):8.3f} ms   p95 {quantiles(took, n=20)[-1]:8.3f} ms   {aim}")


def main() -> None:
    """Print every figure."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        line("append a cell", appending(place / "cell", cell_ran), "aim ≤ 0.1")
        line("append a model call", appending(place / "call", model_called), "aim ≤ 0.1")
        with_ids = appending(place / "ids", lambda step: model_called(step, tokens=2_000))
        line("append a model call with 2,000 prompt token ids", with_ids, "aim ≤ 0.1")

        document, took = "x" * DOCUMENT, []
        with TraceWriter(place / "doc") as writer:
            writer.append(RunStarted(time=0.0, run="r", model="m", interface="chat"))
            for number in range(33):
                begun = time.perf_counter()
                context = {"doc": document}
                writer.append(NodeStarted(time=0.0, node=f"{number}", parent=None, depth=0, goal="g", context=context))
                took.append((time.perf_counter() - begun) * 1e3)
        size = (place / "doc").stat().st_size / DOCUMENT
        spent = f"{took[0]:8.0f} ms, {sum(took[1:]):6.1f} ms; {size:.2f} times in the file"
        print(f"{'50 MB for one agent, then for 32 more':<48} {spent}")

        with TraceWriter(place / "tree") as writer:
            writer.append(RunStarted(time=0.0, run="r", model="m", interface="tokens"))
            for number in range(NODES):
                node = "0" if number == 0 else f"0.{number}"
                parent = None if number == 0 else "0"
                writer.append(NodeStarted(time=0.0, node=node, parent=parent, depth=int(number > 0), goal="g"))
                for step in range(1, 5):
                    writer.append(model_called(step, tokens=200, node=node))
                writer.append(NodeEnded(time=2.0, node=node, status=Status.FINISHED))
        begun = time.perf_counter()
        tree = ExecutionTree.load(place / "tree")
        loaded = time.perf_counter()
        _ = tree.critical_path
        print(f"{'load a tree of 1,000 agents, 4,000 calls':<48} {(loaded - begun) * 1e3:8.0f} ms")
        print(f"{'its critical path':<48} {(time.perf_counter() - loaded) * 1e3:8.1f} ms")


if __name__ == "__main__":
    main()
