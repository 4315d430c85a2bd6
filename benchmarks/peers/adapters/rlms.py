"""rlms: `rlm_query_batched`, a recursive child for each prompt, one thread each.

`plain_calls` is `llm_query_batched` instead: calls of the model without an agent, 16 at a time, which is its limit.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

from benchmarks.peers.adapters.protocol import serve


def prepare(options: argparse.Namespace) -> Callable[[], object]:
    from rlm import RLM

    agent = RLM(
        backend="openai",
        backend_kwargs={"model_name": options.model, "base_url": options.base_url, "api_key": "none"},
        environment="local",
        max_depth=2,
        max_iterations=options.count + 1 if options.work == "steps" else 30,
        max_concurrent_subcalls=options.count,
    )
    goal = f"{options.work.replace('_', ' ')} {options.count}"
    return lambda: agent.completion("nothing", root_prompt=goal).response


if __name__ == "__main__":
    serve(prepare, "rlms")
