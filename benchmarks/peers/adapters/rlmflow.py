"""rlmflow: `rlm_delegate` for each child, then one `await rlm_wait`; as many threads as children, everything in memory.

`plain_calls` is its `llm_query_batched` instead: calls of the model without an agent. `on_disk` is `fan_out` with a workspace
in a folder, as in the package's first example.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable

from benchmarks.peers.adapters.protocol import serve


def prepare(options: argparse.Namespace) -> Callable[[], object]:
    from rlmflow import OpenAIClient, RLMConfig, RLMFlow, Workspace
    from rlmflow.runtime.local import LocalRuntime

    client = OpenAIClient(options.model, base_url=options.base_url, api_key="none")
    work = "fan out" if options.work == "on_disk" else options.work.replace("_", " ")
    goal = f"{work} {options.count}"
    config = RLMConfig(
        max_iterations=options.count + 1 if options.work == "steps" else 30,
        max_concurrency=max(2, options.count) if options.work != "steps" else 1,
    )

    def solve() -> object:
        if options.work == "on_disk":
            with tempfile.TemporaryDirectory() as folder:
                return RLMFlow(client, workspace=Workspace.create(folder), config=config).run(goal)
        # A flow keeps the graph of its run: the second run gets a new flow, the client stays.
        return RLMFlow(client, runtime=LocalRuntime(), config=config).run(goal)

    return solve


if __name__ == "__main__":
    serve(prepare, "rlmflow")
