"""smolagents: managed agents, which exist before the run.

`fan_out`: a `CodeAgent` whose cell calls its managed agents in a thread pool. `tool_calls`: a `ToolCallingAgent` that
calls them all in one answer, which smolagents runs in threads; it needs a second call of the model to finish.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

from benchmarks.peers.adapters.protocol import serve


def prepare(options: argparse.Namespace) -> Callable[[], object]:
    from smolagents import CodeAgent, LogLevel, OpenAIModel, ToolCallingAgent

    model = OpenAIModel(options.model, api_base=options.base_url, api_key="none")
    quiet = LogLevel.OFF
    goal = f"{options.work.replace('_', ' ')} {options.count}"
    if options.work == "steps":
        alone = CodeAgent(tools=[], model=model, max_steps=options.count + 1, verbosity_level=quiet)
        return lambda: alone.run(goal)
    children = [
        CodeAgent(tools=[], model=model, name=f"child_{n}", description="Does one task.", verbosity_level=quiet)
        for n in range(options.count)
    ]
    if options.work == "tool_calls":
        caller = ToolCallingAgent(
            tools=[], model=model, managed_agents=children, max_tool_threads=options.count, verbosity_level=quiet
        )
        return lambda: caller.run(goal)
    root = CodeAgent(
        tools=[],
        model=model,
        managed_agents=children,
        additional_authorized_imports=["concurrent.futures"],
        executor_kwargs={"timeout_seconds": None},
        verbosity_level=quiet,
    )
    return lambda: root.run(goal)


if __name__ == "__main__":
    serve(prepare, "smolagents")
