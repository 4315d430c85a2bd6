"""From a model's answer to the code to run."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from .checkpoint import ActionFormat
from .model.base import Completion

PYTHON_TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "python",
        "description": "Run Python code in your persistent REPL.",
        "parameters": {
            "type": "object",
            "properties": {"code": {"type": "string", "description": "the code to run"}},
            "required": ["code"],
        },
    },
}

# A fence may be longer than three backticks, and its code may hold shorter ones.
_FENCE = re.compile(
    r"^[ \t]*(?P<fence>`{3,})[ \t]*(?P<label>[\w+-]*)[^\n`]*\n(?P<code>.*?)(?:^[ \t]*(?P=fence)[ \t]*$|\Z)", re.M | re.S
)
_TAG = re.compile(r"<python>(?P<code>.*?)(?:</python>|\Z)", re.S | re.I)
_LABELS = frozenset({"python", "py", "python3", "repl"})


@dataclass(frozen=True, slots=True)
class Action:
    """Code to run, or (`code` None) the reason why there is none. `note` is for the agent to read with the output."""

    code: str | None
    note: str | None = None


def parse_action(completion: Completion, action_format: ActionFormat) -> Action:
    """The action of an answer. Only the first block counts: what follows was written without having seen its output."""
    if action_format == "tool" or completion.tool_calls:
        return _from_tool_call(completion, action_format)
    pattern, asked = (_TAG, "<python>…</python> block") if action_format == "tags" else (_FENCE, "```python block")
    if not completion.text.strip():
        return Action(None, f"Your answer was empty. Answer with one {asked}.")
    blocks = list(pattern.finditer(completion.text))
    if action_format == "fenced":
        labelled = [block for block in blocks if block["label"].lower() in _LABELS]
        blocks = labelled or [block for block in blocks if not block["label"]]
    if not blocks:
        return Action(None, f"No code was found in your answer. Answer with one {asked}.")
    first = blocks[0]
    if completion.finish_reason == "length" and first.end() == len(completion.text) and not _closed(first):
        return Action(
            None,
            f"Your answer was cut after {completion.usage.completion_tokens:,} tokens, before its {asked} was complete, so "
            "nothing was run. Write a shorter one.",
        )
    if not first["code"].strip():
        return Action(None, f"The code block of your answer was empty. Answer with one {asked} with code in it.")
    note = (
        f"Only the first of your {len(blocks)} code blocks was run; write one for each answer."
        if len(blocks) > 1
        else None
    )
    return Action(first["code"].strip("\n"), note)


def _closed(block: re.Match[str]) -> bool:
    text = block[0].rstrip()
    return text.lower().endswith("</python>") if "fence" not in block.groupdict() else block.end("code") < block.end()


def _from_tool_call(completion: Completion, action_format: ActionFormat) -> Action:
    asked = "Call the tool `python` with the argument `code`."
    if not completion.tool_calls:
        return Action(None, f"Your answer had no tool call. {asked}")
    first = completion.tool_calls[0]
    if first.name != "python":
        return Action(None, f"There is no tool {first.name!r}. {asked}")
    try:
        code = json.loads(first.arguments)["code"]
    except (ValueError, TypeError, KeyError):
        return Action(None, f"The arguments of your tool call could not be read. {asked}")
    if not isinstance(code, str) or not code.strip():
        return Action(None, f"The code of your tool call was empty. {asked}")
    note = (
        "Only the first of your tool calls was run; make one for each answer."
        if len(completion.tool_calls) > 1
        else None
    )
    return Action(code, note)
