"""A cell that any model must write, with a number of its own choice in it: the grammar leaves nothing else."""

from __future__ import annotations

from typing import Any

from .conftest import Served

_BEFORE = "```python\ntry:\n    found = await launch_subagent('Choose a number.')\nexcept Exception:\n    found = "
_AFTER = "\nfinish(found)\n```"
NUMBER = r"found = (\d+)\n"


def delegating(server: Served) -> dict[str, Any]:
    """Sampling settings with which every agent launches one like itself, or returns its number where it cannot."""
    if server.forced == "grammar":
        quoted = [text.replace("\n", "\\n") for text in (_BEFORE, _AFTER)]
        return {"grammar": f'root ::= "{quoted[0]}" [1-9] [0-9]? "{quoted[1]}"'}
    before = _BEFORE.replace("(", r"\(").replace(")", r"\)").replace(".", r"\.")
    after = _AFTER.replace("(", r"\(").replace(")", r"\)")
    return {"structured_outputs": {"regex": f"{before}[1-9][0-9]?{after}"}}
