"""What the reference solver reaches and needs, with sub-agents and alone: the bounds of the comparison.

    python -m benchmarks.oolong_reference --tokenizer runs/print-recursive-0/start --out examples/oolong_rao/results

Real agents run its code. Tokens are those of the policy in `--tokenizer`: the prompt of every call counts, as in an evaluation.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import anyio
from transformers import AutoTokenizer

from examples.oolong_rao.campaign import ARMS, Arm
from rao_rl import make
from rao_rl.envs import Demonstrating
from rao_rl.imitation.expert import ExpertModel
from rao_rl.imitation.prompting import MINIMAL
from rao_rl.rollouts.attempt import ROLLOUT_LIMITS, AttemptSettings, rollout
from recursive_agent.trace.tree import ExecutionTree, Node

ALONE = "print-single"
"""The arm that no policy is trained for: its conversation has to hold the whole document."""
SETTINGS: dict[str, Arm] = {
    **ARMS,
    ALONE: replace(ARMS["print-recursive"], mode="single", leaf=150),
}


def calls(node: Node, tokenizer: Any) -> list[tuple[int, int]]:
    """Tokens of the prompt and of the answer, for each model call of an agent."""
    messages: list[dict[str, str]] = []
    found = []
    for step in node.steps:
        if step.model is None:
            continue
        messages += [{"role": message.role, "content": message.content} for message in step.model.messages]
        prompt = len(tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"])
        messages.append({"role": "assistant", "content": step.model.text})
        found.append((prompt, len(tokenizer.apply_chat_template(messages)["input_ids"]) - prompt))
    return found


def figures(tree: ExecutionTree, tokenizer: Any) -> dict[str, float]:
    """What one attempt took."""
    agents = [calls(node, tokenizer) for node in tree.nodes.values()]
    return {
        "score": tree.root.score or 0.0,
        "agents": len(agents),
        "longest": max(sum(each[-1]) for each in agents),
        "sampled": sum(answer for each in agents for _, answer in each),
        "total": sum(prompt + answer for each in agents for prompt, answer in each),
        "critical_steps": tree.critical_steps,
        "concurrent": tree.concurrent_share,
    }


def measure(name: str, level: str, count: int, tokenizer: Any) -> dict[str, float]:
    """Means over the first test tasks of a length; `longest` is the maximum."""
    arm = SETTINGS[name]
    environment = make(
        "oolong-synth", reading=arm.reading, mode=arm.mode, leaf=arm.leaf, rules=False, lengths=level, taught=level
    )
    assert isinstance(environment, Demonstrating)
    expert = next(iter(environment.demonstrations())).expert
    limits = replace(ROLLOUT_LIMITS, max_steps=1000, timeout=3600.0, cell_timeout=600.0)
    settings = AttemptSettings(mode=arm.mode, limits=limits)
    rows = []
    for task in environment.tasks("test", 0, level=level, limit=count):
        result = anyio.run(rollout, environment, task, ExpertModel(expert, MINIMAL), settings)
        rows.append(figures(result.tree, tokenizer))
    return {"tasks": len(rows)} | {
        key: max(row[key] for row in rows) if key == "longest" else mean(row[key] for row in rows) for key in rows[0]
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", type=Path, required=True, metavar="POLICY")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--levels", nargs="+", default=["2k", "8k", "32k"])
    parser.add_argument("--tasks", type=int, default=5)
    given = parser.parse_args(arguments)
    tokenizer = AutoTokenizer.from_pretrained(given.tokenizer)
    path = given.out / "reference.json"
    found: dict[str, dict[str, dict[str, float]]] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    for level in given.levels:
        for name in SETTINGS:
            if level not in found.setdefault(name, {}):
                found[name][level] = measure(name, level, given.tasks, tokenizer)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
                print(name, level, found[name][level], flush=True)


if __name__ == "__main__":
    main()
