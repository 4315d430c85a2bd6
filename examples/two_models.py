"""A tree of two models: a large one plans, a small one reads. `python examples/two_models.py NOTES.txt`

OPENAI_BASE_URL and OPENAI_API_KEY name the endpoint, RAO_MODEL the large model and FAST_MODEL the small one; FAST_BASE_URL,
where set, is the endpoint of the small one (a vLLM on this machine, say). The prompt lists both, and each agent chooses with
`launch_subagent(..., model="fast")`. To decide by depth instead, pass choose={1: "fast"}.
"""

import os
import sys
from pathlib import Path

from recursive_agent import Agent, Limits, ModelChoice

GOAL = "Which decisions do these notes contain? Have each section read by a sub-agent, and list every decision once."


def two_models() -> Agent:
    fast = ModelChoice(
        model=os.environ["FAST_MODEL"],
        base_url=os.environ.get("FAST_BASE_URL"),
        prices={"prompt": 0.1, "completion": 0.4},
        max_concurrency=4,
        trainable=False,  # a frozen helper: if these runs are trained on, only the large model learns
        description="cheap and quick; good at finding things in a text of a few pages",
    )
    return Agent(
        prices={"prompt": 2.0, "completion": 8.0},
        models={"fast": fast},
        limits=Limits(max_depth=2, max_cost=0.50),  # one budget for both models
        trace_dir="traces",
    )


def main() -> None:
    notes = Path(sys.argv[1]).read_text()
    result = two_models().solve_sync(GOAL, context=notes.split("\n\n"), returns=list[str])
    print(*result.output, sep="\n")
    for name, usage in result.tree.usage_by_model.items():
        print(f"{name}: {usage.calls} calls, {usage.total_tokens:,} tokens, cost {usage.cost:.4f}", file=sys.stderr)


if __name__ == "__main__":
    main()
