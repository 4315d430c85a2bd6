"""`python -m tests.campaign`: run seeds, and shrink what fails."""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections import Counter

from .draw import draw
from .plan import Plan
from .runner import Report, run
from .shrink import shrink


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__)
    parser.add_argument("--seed", type=int, help="only this one")
    parser.add_argument("--plan", help="a plan as a failing run prints it, instead of a seed; - reads it from stdin")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--keep", action="store_true", help="do not shrink what fails")
    parser.add_argument("--show", action="store_true", help="print every plan before it runs")
    options = parser.parse_args()
    if options.plan is not None:
        plans = [Plan.from_json(sys.stdin.read() if options.plan == "-" else options.plan)]
    elif options.seed is not None:
        plans = [draw(options.seed)]
    else:
        plans = [draw(seed) for seed in range(options.first, options.first + options.count)]
    if options.show or options.seed is not None or options.plan is not None:
        for plan in plans:
            print(plan.outline(), flush=True)
    began = time.monotonic()
    reports: list[Report] = []
    for report in run(plans):
        reports.append(report)
        if len(reports) % 200 == 0:
            print(f"{len(reports)} trees, {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
        if report.failed:
            print(f"seed {report.plan.seed} failed ({report.status}):", flush=True)
            for violation in report.violations:
                print(f"    {violation}", flush=True)
    failed = [report for report in reports if report.failed]
    _summary(reports, time.monotonic() - began)
    if failed and not options.keep:
        for report, count in kinds(failed):
            print(explain(report) + (f"\n  and {count - 1} more of the kind" if count > 1 else ""), flush=True)
    raise SystemExit(1 if failed else 0)


def explain(report: Report) -> str:
    """A failure, with the least plan that still shows it and the command that runs it."""
    small = shrink(report)
    return (
        f"\n{small.plan.outline()}\n    "
        + "\n    ".join(map(str, small.violations))
        + f"\n  again: python -m tests.campaign --seed {report.plan.seed}\n"
        + f"  small: python -m tests.campaign --plan '{small.plan.to_json()}'"
    )


def kinds(failed: list[Report]) -> list[tuple[Report, int]]:
    """The first failure of each kind, with how many there are of it: kinds tell the same apart from their numbers."""
    first: dict[str, Report] = {}
    count: Counter[str] = Counter()
    for report in failed:
        for sentence in {re.sub(r"[\d.]+", "N", str(violation))[:90] for violation in report.violations}:
            first.setdefault(sentence, report)
            count[sentence] += 1
    chosen: dict[int, tuple[Report, int]] = {}
    for sentence, report in first.items():
        chosen.setdefault(report.plan.seed, (report, count[sentence]))
    return list(chosen.values())


def _summary(reports: list[Report], seconds: float) -> None:
    agents, calls, faults = (sum(getattr(r, name) for r in reports) for name in ("agents", "calls", "faults"))
    virtual = sum(report.virtual_seconds for report in reports)
    print(f"{len(reports)} trees, {agents} agents, {calls} calls, {faults} faults: {virtual:,.0f} s in {seconds:.1f} s")
    print("  ended:", ", ".join(f"{status} {n}" for status, n in Counter(r.status for r in reports).most_common()))
    broken = Counter(violation.invariant for report in reports for violation in report.violations)
    print(f"  failed: {sum(report.failed for report in reports)}", dict(broken.most_common()))


if __name__ == "__main__":
    main()
