"""A part of the campaign without the virtual clock: both event loops as they are, real delays (small ones), the endpoint in
a thread of its own. It shows that the clock hides nothing, and what only the other loop's HTTP client does."""

from __future__ import annotations

import gc
import random
import sys
import tempfile
import time
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import anyio

from .answers import KINDS
from .application import Application
from .draw import draw
from .endpoint import CampaignEndpoint
from .invariants import Observed
from .inventory import Inventory, settle_without_loop
from .machine import SIGKILLED, Machine
from .plan import Fault, Plan, Step
from .runner import Report, report, solve, unraisable, watched

TIMEOUT = 20.0
ATTEMPT = 3.0
_SLOW = ("busy words", "in pieces", "drip", "busy date", "length too long", "stall in the head", "stall in the body")
_CALM = ("hangs", "slow")


class _AtOnce(random.Random):
    """No jitter: the campaign has no time."""

    def uniform(self, a: float, b: float) -> float:
        return 0.0


def draw_real(seed: int) -> Plan:
    """The plan of a seed, without what takes its time."""
    plan = draw(seed)
    faults = tuple(_quick(fault) for fault in plan.faults if _is_quick(fault.kind, fault.times))
    root = plan.root
    steps = {step for node in root.walk() for step in node.steps}
    calm = plan.entry in ("solve", "stream") and plan.score not in _CALM and all(_is_calm(step) for step in steps)
    if not calm:
        return draw_real(seed + 1_000_000)
    limits = {**plan.limits, "timeout": TIMEOUT}
    return replace(plan, seed=seed, faults=faults, limits=limits, machine="own", request_timeout=ATTEMPT)


def run_real(plans: Iterable[Plan], backend: str) -> Iterator[Report]:
    """Carry plans out on an event loop as it is, and check each."""
    anyio.run(anyio.sleep, 0, backend=backend)
    for plan in plans:
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="rao-campaign-") as folder:
            yield report(_one(plan, backend, Path(folder)), time.monotonic() - began)


def _one(plan: Plan, backend: str, folder: Path) -> Observed:
    machine = Machine(folder)
    application = Application(plan, machine)
    seen = Observed(plan=plan, machine=machine)
    before = Inventory.take()
    cancel_after = plan.seed % 97 / 200 if plan.seed % 3 == 0 else None

    async def caller() -> None:
        async with CampaignEndpoint(plan, machine.strike, time.time, threaded=True) as endpoint:
            seen.endpoint = endpoint
            began = anyio.current_time()
            try:
                with anyio.fail_after(TIMEOUT + 10):
                    with anyio.move_on_after(cancel_after) as scope:
                        seen.result = await solve(plan, machine, application, endpoint, None, _AtOnce())
                    if scope.cancelled_caught:
                        machine.cancelled = True
            except Exception as error:
                seen.error = error
            finally:
                seen.seconds = anyio.current_time() - began
                application.release.set()
                with anyio.CancelScope(shield=True), anyio.move_on_after(10):
                    while endpoint.running:
                        await anyio.sleep(0.005)

    with watched(seen), unraisable(seen.noise), warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            with mock.patch.dict("os.environ", {"TMPDIR": str(machine.temporary)}):
                anyio.run(caller, backend=backend)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            seen.error = error
        gc.collect()
        seen.left = settle_without_loop(before)
    seen.traces = sorted(machine.traces.glob("*.jsonl")) if machine.traces.is_dir() else []
    seen.noise += [f"{item.category.__name__}: {item.message}"[:300] for item in warned]
    return seen


def _is_quick(kind: str, times: int) -> bool:
    if kind.startswith("strike "):
        return kind.removeprefix("strike ") in SIGKILLED
    return kind not in _SLOW and kind != "stall" and not (times > 3 and KINDS[kind].waits) and "continue" not in kind


def _quick(fault: Fault) -> Fault:
    return replace(fault, amount=min(fault.amount, 3.0) if fault.kind.startswith("strike") else 0.05)


def _is_calm(step: Step) -> bool:
    strikes: tuple[Any, ...] = ("disk full", "folder vanishes", "few descriptors", "no descriptors for a moment")
    return step.what not in _CALM and step.kind != "spin" and step.what not in (*strikes, "clock jumps")


def main() -> None:
    """`python -m tests.campaign.realtime BACKEND FIRST COUNT`."""
    backend, first, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    for one in run_real([draw_real(seed) for seed in range(first, first + count)], backend):
        print(
            one.plan.seed, one.status, f"{one.real_seconds:.2f} s", *map(str, one.violations), sep="\n    ", flush=True
        )


if __name__ == "__main__":
    main()
