"""`--approve`: which calls wait for approval, and the question on the terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import anyio
import typer

from recursive_agent.errors import ConfigurationError

from .text import as_json, clean, count, one_line

if TYPE_CHECKING:
    from recursive_agent import Approve, PendingCall

_LAUNCHES, _TOOLS = "launches", "tools"
_YES, _NO = frozenset({"y", "yes"}), frozenset({"n", "no", ""})
_SHOWN = 2_000
"""Characters of the arguments that are shown."""

RunApproveOption = Annotated[
    str | None,
    typer.Option(
        "--approve",
        metavar="WHAT",
        help="Ask on the terminal before these calls run: launches, tools (all of them), or names of tools, separated by "
        "commas.",
        show_default=False,
    ),
]
ServeApproveOption = Annotated[
    str | None,
    typer.Option(
        "--approve",
        metavar="WHAT",
        help="Let these calls wait until a client approves them: launches, tools (all of them), or names of tools, separated "
        "by commas.",
        show_default=False,
        rich_help_panel="Server",
    ),
]


def parse_approve(text: str) -> dict[str, Any]:
    """The arguments `tools` and `launches` of `Approve`. Raises ConfigurationError."""
    names = [name.strip() for name in text.split(",")]
    if not all(name.isidentifier() for name in names):
        raise ConfigurationError(
            f"--approve takes launches, tools, or names of tools, separated by commas: not {text!r:.80}"
        )
    tools = [name for name in names if name not in (_LAUNCHES, _TOOLS)]
    return {"tools": True if _TOOLS in names else tools, "launches": _LAUNCHES in names}


def approve_on_terminal(text: str) -> Approve:
    """Calls are asked about on the terminal. Raises ConfigurationError if there is none."""
    from recursive_agent import Approve

    chosen = parse_approve(text)
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise ConfigurationError(
            "--approve asks on the terminal, so standard input and error must be one; leave it out"
        )
    return Approve(_Questions().ask, **chosen)


class _Questions:
    """Asks about one call after the other."""

    def __init__(self) -> None:
        self._one_at_a_time = anyio.Lock()

    async def ask(self, call: PendingCall) -> bool | str:
        from recursive_agent.threads import call_in_thread

        async with self._one_at_a_time:
            print(question(call), file=sys.stderr, flush=True)
            while True:
                print("Run it? [y/N, or the reason to refuse] ", end="", file=sys.stderr, flush=True)
                line = await call_in_thread(sys.stdin.readline)
                answer = line.strip()
                if answer.lower() in _YES:
                    return True
                return False if answer.lower() in _NO else clean(answer)


def question(call: PendingCall) -> str:
    """A call as it is shown."""
    cost = "" if not call.run_usage.cost else f", cost {call.run_usage.cost:.4g}"
    used = f"{count(call.run_usage.total_tokens, 'token')} in {count(call.run_usage.calls, 'call')}{cost}"
    arguments = clean(as_json(dict(call.arguments)))
    if len(arguments) > _SHOWN:
        arguments = f"{arguments[:_SHOWN]}… ({len(arguments):,} characters)"
    what = "launch a sub-agent" if call.kind == "launch" else f"call {one_line(call.name, 80)}"
    return f"\nAgent {call.node} ({one_line(call.goal, 80)}) wants to {what}; the run has used {used}.\n{arguments}"
