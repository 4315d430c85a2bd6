"""Speed and size of the `process` sandbox: `python benchmarks/sandbox.py [--many 500]`. Percentiles in milliseconds."""

from __future__ import annotations

import argparse
import os
import platform
import resource
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio

from recursive_agent.repl import HostFunction, HostRequest, ProcessSandbox, Repl, ReplLimits


def show(name: str, seconds: Sequence[float], target: str = "") -> None:
    ranked = sorted(seconds)
    p50, p95, p99 = (ranked[min(len(ranked) - 1, int(len(ranked) * q))] * 1e3 for q in (0.5, 0.95, 0.99))
    print(f"{name:<44} p50 {p50:8.3f}  p95 {p95:8.3f}  p99 {p99:8.3f} ms   n={len(ranked)}  {target}")


async def answer(request: HostRequest) -> Any:
    return request.args[0] if request.args else None


FUNCTIONS = [HostFunction("tool")]


def pss(pid: int) -> float:
    """Proportional set size in MB."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise ValueError("no Pss")


async def ready(count: int) -> None:
    """Opening with a spare at hand, without one, and what both cost this process."""
    for spares, name in ((8, "open, a spare at hand"), (0, "open, forked on demand")):
        async with ProcessSandbox(spares=spares) as sandbox:
            times, first = [], []
            await (await sandbox.open(call=answer)).aclose()
            cpu = resource.getrusage(resource.RUSAGE_SELF)
            for _ in range(count):
                start = time.perf_counter()
                repl = await sandbox.open(call=answer, functions=FUNCTIONS)
                times.append(time.perf_counter() - start)
                await repl.run("1")
                first.append(time.perf_counter() - start)
                await repl.aclose()
                await anyio.sleep(0.003 if spares else 0)
            after = resource.getrusage(resource.RUSAGE_SELF)
            used = after.ru_utime + after.ru_stime - cpu.ru_utime - cpu.ru_stime
        show(name, times, "target p50 <= 8")
        show("  and the first cell run", first)
        print(f"{'  host CPU per open, cell and close':<44} {used / count * 1e3:8.3f} ms   target <= 3")


async def cells(count: int) -> None:
    """Round trips of cells that do almost nothing."""
    async with ProcessSandbox(spares=1) as sandbox:
        repl = await sandbox.open(call=answer, functions=FUNCTIONS)
        for name, code, target in (
            ("cell: x = 1", "x = 1", "target p50 <= 0.15"),
            ("cell: print and echo", "print('hello')\nx", ""),
            ("cell: one host call", "await tool(1)", ""),
            (
                "cell: gather of 20 host calls",
                "import asyncio\nr = await asyncio.gather(*[tool(i) for i in range(20)])",
                "",
            ),
        ):
            times = []
            for _ in range(count):
                start = time.perf_counter()
                result = await repl.run(code)
                times.append(time.perf_counter() - start)
                assert result.status == "ok", result
            show(name, times[count // 10 :], target)


async def burst(width: int) -> None:
    """Many children at once, each running one cell."""
    async with ProcessSandbox() as sandbox:
        await anyio.sleep(0.2)  # the parent's first model call, in which spares are forked
        cpu = time.process_time()
        start = time.perf_counter()

        async def child() -> None:
            repl = await sandbox.open(call=answer, functions=FUNCTIONS)
            await repl.run("x = 1")
            await repl.aclose()

        async with anyio.create_task_group() as group:
            for _ in range(width):
                group.start_soon(child)
        took = time.perf_counter() - start
        used = time.process_time() - cpu
    print(
        f"{f'{width} at once: open, one cell, close':<44} {took * 1e3:8.1f} ms, host CPU {used / width * 1e3:.2f} ms each"
    )


async def many(count: int) -> None:
    """All alive together."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 2 * count + 200)), hard))
    async with ProcessSandbox() as sandbox:
        repls: list[Repl] = []
        start = time.perf_counter()
        for _ in range(count):
            repl = await sandbox.open(call=answer, functions=FUNCTIONS)
            await repl.run("x = [1, 2, 3]\nprint(x)")
            repls.append(repl)
        took = time.perf_counter() - start
        sizes = sorted(pss(pid) for repl in repls if (pid := getattr(repl, "pid", None)))
        print(
            f"{f'{count} alive at once':<44} {took:8.2f} s; PSS p50 {sizes[len(sizes) // 2]:.2f} MB, "
            f"max {sizes[-1]:.2f} MB, sum {sum(sizes):.0f} MB   target <= 5 MB each"
        )


async def context(megabytes: int, children: int) -> None:
    """One large document for many children."""
    text = "0123456789abcdef" * (megabytes * 65536)
    async with ProcessSandbox() as sandbox:
        start = time.perf_counter()
        cpu = time.process_time()
        repls = []
        for _ in range(children):
            repls.append(await sandbox.open(call=answer, context={"doc": text}, limits=ReplLimits(memory_mb=128)))
        took = time.perf_counter() - start
        used = time.process_time() - cpu
        assert (await repls[-1].run("len(context['doc'])")).output == f"{len(text)}\n"
        print(
            f"{f'{megabytes} MB context to {children} children':<44} {took * 1e3:8.1f} ms, host CPU {used * 1e3:.1f} ms"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backend", default="asyncio", choices=("asyncio", "trio"))
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--many", type=int, default=500)
    options = parser.parse_args()
    model = next(
        (x.split(":")[1].strip() for x in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in x), ""
    )
    print(
        f"{platform.node()}: {model or platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}, ",
        end="",
    )
    print(f"Python {platform.python_version()}, {options.backend}, load {os.getloadavg()[0]:.1f}")
    for step, arguments in ((ready, (options.count,)), (cells, (options.count * 5,)), (burst, (128,))):
        anyio.run(step, *arguments, backend=options.backend)
    anyio.run(many, options.many, backend=options.backend)
    anyio.run(context, 50, 32, backend=options.backend)


if __name__ == "__main__":
    main()
