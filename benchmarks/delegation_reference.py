"""What delegation saves and costs where nobody makes a mistake: reference solvers, alone and with sub-agents.

    python -m benchmarks.delegation_reference [--out RESULTS] [--only deepdive-synth …] [--tasks 10]

Real agents run their code at training tasks. Lengths are in characters, so that no tokenizer has to be chosen: the prompt of
every call counts, as in an evaluation. Environments that are measured already are passed over.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import mean

import anyio

from examples.delegation.report import REFERENCE, RESULTS
from examples.delegation.specs import MODES
from rao_rl import make
from rao_rl.envs import Demonstrating, Demonstration, Mode
from rao_rl.imitation.expert import ExpertModel
from rao_rl.imitation.prompting import MINIMAL
from rao_rl.rollouts.attempt import ROLLOUT_LIMITS, AttemptSettings, rollout
from recursive_agent import Result
from recursive_agent.trace.node import Node
from recursive_agent.trace.tree import ExecutionTree

LEVELS: Mapping[str, tuple[str, ...]] = {
    "textcraft": ("easy", "medium"),
    "oolong-synth": ("8k", "32k"),
    "deepdive-synth": ("2-hop", "6-hop"),
    "email-synth": ("small", "large"),
    "repair": ("small", "large"),
    "sequence": ("2k", "10k", "40k"),
    "algebra": ("depth-2", "depth-4"),
    "maze": ("8x8", "20x20"),
    "dialogue": ("6-turns", "18-turns"),
}
SETTINGS = AttemptSettings(limits=replace(ROLLOUT_LIMITS, max_steps=1000, timeout=3600.0, cell_timeout=600.0))


def figures(tree: ExecutionTree) -> dict[str, float]:
    """What one attempt took; lengths in characters."""
    agents = [_calls(node) for node in tree.nodes.values()]
    return {
        "score": tree.root.score or 0.0,
        "agents": len(agents),
        "calls": sum(map(len, agents)),
        "critical_steps": tree.critical_steps,
        "longest": max(sum(calls[-1]) for calls in agents),
        "total": sum(prompt + answer for calls in agents for prompt, answer in calls),
        "launches": tree.launches,
        "concurrent": tree.concurrent_share * tree.launches,
    }


def measure(name: str, level: str, mode: Mode, count: int) -> dict[str, float]:
    """Means over the demonstrations of a level; `longest` is the maximum, `concurrent` a share of the launches."""
    environment = make(name, mode=mode, **({"lengths": level, "taught": level} if name == "oolong-synth" else {}))
    assert isinstance(environment, Demonstrating)
    shown = islice((each for each in environment.demonstrations() if each.task.level == level), count)

    async def attempt(demonstration: Demonstration) -> Result:
        model = ExpertModel(demonstration.expert, MINIMAL)
        return await rollout(environment, demonstration.task, model, replace(SETTINGS, mode=mode))

    rows = [figures(anyio.run(partial(attempt, each)).tree) for each in shown]
    launches = sum(row["launches"] for row in rows)
    return {
        "tasks": len(rows),
        **{key: mean(row[key] for row in rows) for key in ("score", "agents", "calls", "critical_steps", "total")},
        "longest": max(row["longest"] for row in rows),
        "concurrent": sum(row["concurrent"] for row in rows) / launches if launches else 0.0,
    }


def _calls(node: Node) -> list[tuple[int, int]]:
    """Characters of the prompt and of the answer, for each model call of an agent."""
    read, found = 0, []
    for step in node.steps:
        if step.model is not None:
            read += sum(len(message.content) for message in step.model.messages)
            found.append((read, len(step.model.text)))
            read += len(step.model.text)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--only", nargs="+", choices=LEVELS, default=list(LEVELS), metavar="ENVIRONMENT")
    parser.add_argument("--tasks", type=int, default=10)
    given = parser.parse_args()
    path = given.out / REFERENCE
    found: dict[str, dict[str, dict[str, dict[str, float]]]] = (
        json.loads(path.read_text("utf-8")) if path.is_file() else {}
    )
    for name in given.only:
        for level in LEVELS[name]:
            if level in found.get(name, {}):
                continue
            found.setdefault(name, {})[level] = {mode: measure(name, level, mode, given.tasks) for mode in MODES}
            path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
            print(name, level, found[name][level], flush=True)


if __name__ == "__main__":
    main()
