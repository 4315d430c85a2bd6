"""What an adapter says to the benchmark, on stdin and stdout. Standard library only: it runs in every environment.

An adapter imports its package inside the function that it passes to `serve`, so that the first solve in a process
contains the import, as it does for a user.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable


def arguments() -> argparse.Namespace:
    """`work` (`fan_out` or `steps`, or another that the adapter has), `count` of children or steps, and the endpoint."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--base-url", required=True)
    parser.add_argument("--model", required=True, help="the name by which the script of the endpoint knows the package")
    parser.add_argument("--work", required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--solves", type=int, default=2)
    return parser.parse_args()


def report(**values: object) -> None:
    """One line for the benchmark; then wait until it has read how much CPU and memory this process has used."""
    # A package may put something else in the place of sys.stdout while agents run.
    print(json.dumps(values), file=sys.__stdout__, flush=True)
    sys.stdin.readline()


def serve(prepare: Callable[[argparse.Namespace], Callable[[], object]], version: str) -> None:
    """Solve the same task `--solves` times in this process, and report each.

    `prepare` imports the package, makes what lasts for all solves, and gives the function that solves once and returns
    the answer, `"done"`. The first solve is measured together with `prepare`. `version` is the name of the distribution.
    """
    from importlib.metadata import version as installed

    options = arguments()
    report(version=installed(version))
    before = time.perf_counter()
    solve = prepare(options)
    for _ in range(options.solves):
        answer = solve()
        report(wall=time.perf_counter() - before, answer=str(answer))
        before = time.perf_counter()
