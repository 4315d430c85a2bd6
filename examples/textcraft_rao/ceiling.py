"""At how many test tasks one agent alone succeeds under a limit of context if it makes no mistake: the reference solver.

python -m examples.textcraft_rao.ceiling --out examples/textcraft_rao/results
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import median

from transformers import AutoTokenizer

from examples.textcraft_rao.campaign import LEVELS, TASKS
from rao_rl.envs.textcraft import TextCraft, demonstrate, make_world, parse_goal
from recursive_agent import SHIPPED

LIMITS = (512, 1024, 2048)


def sizes(level: str) -> list[int]:
    """Tokens of the reference solver's whole conversation, for each test task of a level."""
    tokenizer = AutoTokenizer.from_pretrained(SHIPPED)
    found = []
    for task in TextCraft().tasks("test", 0, level=level, limit=TASKS):
        world = make_world(task.data["world"], task.data["names"])
        demonstration = demonstrate(world, parse_goal(task.goal) or {}, mode="single")
        # As the minimal style writes it: the goal and the names that may be called, then code and what it shows in turn.
        messages = [{"role": "user", "content": f"{demonstration.goal}\n{' '.join(demonstration.functions)}"}]
        for code, shown in demonstration.cells:
            messages.append({"role": "assistant", "content": f"```python\n{code}\n```"})
            messages += [] if shown is None else [{"role": "user", "content": shown}]
        found.append(len(tokenizer.apply_chat_template(messages, tokenize=True)["input_ids"]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    rows = {}
    for level in LEVELS:
        tokens = sizes(level)
        rows[level] = {
            "tasks": len(tokens),
            "median_tokens": median(tokens),
            "within": {limit: sum(size <= limit for size in tokens) for limit in LIMITS},
        }
    (given.out / "ceiling.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
