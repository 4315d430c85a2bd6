"""rao beside other packages for recursive agents, on one scripted endpoint.

    scripts/peers.sh && python -m benchmarks.peers

A root starts N children at once, and each finishes with its first answer: N + 1 calls of 50 ms each. Then one agent takes
25 steps on an endpoint without latency. Packages take turns, so that a busy moment of the machine meets all of them.
README.md says how each is driven and what it lacks.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import sys
from collections import defaultdict
from collections.abc import Sequence

from .measure import PEERS, NotMeasured, Peer, Process, endpoint, measure
from .table import Row, fan_out, steps

LATENCY = 0.05


def collect(
    peers: Sequence[Peer],
    works: Sequence[tuple[str, int]],
    base_url: str,
    *,
    runs: int,
    memory_at: int | None,
    timeout: float,
) -> list[Row]:
    """A row for each package. `works` are pairs of work and count; the work `fan_out` is the package's own."""
    processes: dict[Peer, dict[int, list[Process]]] = {peer: defaultdict(list) for peer in peers}
    memory: dict[Peer, dict[int, Process]] = {peer: {} for peer in peers}
    missing: dict[Peer, dict[int, str]] = {peer: {} for peer in peers}
    for work, count in works:
        for turn in range(runs + (count == memory_at)):
            for peer in peers:
                if count in missing[peer]:
                    continue
                named = peer.fan_out if work == "fan_out" else work
                print(f"{peer.name}: {named} {count}, turn {turn + 1}", file=sys.stderr)
                try:
                    if turn < runs:
                        processes[peer][count].append(measure(peer, named, count, base_url, timeout=timeout))
                    else:
                        memory[peer][count] = measure(
                            peer, named, count, base_url, solves=1, memory=True, timeout=timeout
                        )
                except NotMeasured as error:
                    missing[peer][count] = str(error)
                    processes[peer].pop(count, None)
    return [Row(peer, processes[peer], memory[peer], missing[peer]) for peer in peers]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description="rao beside other packages")
    parser.add_argument("--counts", default="4,32,128", help="how many children, with commas")
    parser.add_argument("--steps", type=int, default=25, help="steps of the agent that works alone")
    parser.add_argument("--runs", type=int, default=3, help="processes of each package; figures are medians over them")
    parser.add_argument("--only", help="packages, with commas (ours is always measured): rlms,rlmflow,smolagents")
    parser.add_argument(
        "--all", action="store_true", help="also ways that take minutes: rlmflow with a workspace on disk"
    )
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds after which a process is ended")
    options = parser.parse_args()
    counts = [int(count) for count in options.counts.split(",")]
    wanted = {"ours", *(options.only.split(",") if options.only else (peer.adapter for peer in PEERS))}
    peers = [peer for peer in PEERS if peer.adapter in wanted and (options.all or not peer.slow)]
    before = os.getloadavg()[0]
    with endpoint(LATENCY) as base_url:
        fanned = collect(
            peers,
            [("fan_out", count) for count in counts],
            base_url,
            runs=options.runs,
            memory_at=max(counts),
            timeout=options.timeout,
        )
    alone = [peer for peer in peers if peer.fan_out == "fan_out"]
    with endpoint(0.0) as base_url:
        stepped = collect(
            alone, [("steps", options.steps)], base_url, runs=options.runs, memory_at=None, timeout=options.timeout
        )
    print(
        f"{datetime.date.today()}, {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"medians of {options.runs}, load {before:.1f} before and {os.getloadavg()[0]:.1f} after\n"
    )
    print("\n".join(fan_out(fanned, counts)), end="\n\n")
    print("\n".join(steps(stepped, options.steps)))


if __name__ == "__main__":
    main()
