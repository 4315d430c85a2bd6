"""Approval: calls of tools and launches of sub-agents that wait until the caller says yes or no.

It fails closed: whatever is not a clear yes (an exception, an answer of another type, no answer in time) refuses the call.
The agent sees a refusal as a ToolError or LaunchRefused, and goes on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal

import anyio

from .asking import asked, is_async
from .concurrency import Ended
from .errors import ConfigurationError, described
from .mcp.server import MCPServer
from .plain import NotPlain, plain
from .usage import Usage

_MOST_REASON = 1_000
_MOST_VALUES = 100_000
"""Values in the arguments that an approver gives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingCall:
    """A call that waits for approval. `usage` is what the agent used so far, `run_usage` what the whole run used."""

    run: str
    node: str
    """The agent that makes the call: a path of launch order, such as "0.2"."""
    depth: int
    goal: str
    """The goal of that agent."""
    step: int
    call: int
    """Number of the call, unique for the agent."""
    kind: Literal["tool", "launch"]
    name: str
    """Name of the tool, or `launch_subagent`."""
    arguments: Mapping[str, Any]
    """By name, as plain data; further positional arguments stand under "*". Do not change it: answer with an `Approval`."""
    usage: Usage
    run_usage: Usage

    @property
    def id(self) -> str:
        """Names the call within its run: node and number, "0.2:7"."""
        return f"{self.node}:{self.call}"


@dataclass(frozen=True, slots=True)
class Approval:
    """An answer about a call. `reason` is shown to the agent if the call is refused; `arguments` replace those of the call."""

    allowed: bool
    reason: str | None = None
    arguments: Mapping[str, Any] | None = None


Answer = bool | str | Approval
"""True: run the call. False: refuse it. A text: refuse it for this reason."""
Approver = Callable[[PendingCall], Answer | Awaitable[Answer]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What comes of a call. `error` says why there was no valid answer."""

    allowed: bool
    reason: str | None = None
    arguments: Mapping[str, Any] | None = None
    error: str | None = None


class Approve:
    """Which calls wait for approval, and who is asked: `Approve(ask, tools=["send_mail"], launches=True)`.

    `ask` is a function `call -> bool | str | Approval`, sync or async. A sync function runs in a thread and is asked about one
    call of a run at a time. `tools` lists tools (functions, names, or an
    `MCPServer` for all of its tools); True means all of them. A call that `ask` has not
    answered after `timeout` seconds is refused. While a call waits, the time of `Limits.timeout` stands still.

    Raises ConfigurationError for invalid settings.
    """

    def __init__(
        self,
        ask: Approver,
        *,
        tools: bool | Iterable[str | Callable[..., Any] | MCPServer] = (),
        launches: bool = False,
        timeout: float | None = None,
    ) -> None:
        if not callable(ask):
            raise ConfigurationError(
                f"approve must be a function of a call, or Approve(function, ...), not {ask!r:.80}"
            )
        if isinstance(tools, str):
            raise ConfigurationError(
                f"tools of Approve must be a list of tools, or True for all of them: tools=[{tools!r}]"
            )
        if timeout is not None and (
            isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout > 0
        ):
            raise ConfigurationError(f"timeout of Approve must be a number of seconds above 0, not {timeout!r}")
        self.ask = ask
        self.launches = bool(launches)
        self.timeout = timeout
        listed = [] if isinstance(tools, bool) else list(tools)
        self.servers = frozenset(each.name for each in listed if isinstance(each, MCPServer))
        """Names of the MCP servers whose tools wait, all of them."""
        names = (_name_of(each) for each in listed if not isinstance(each, MCPServer))
        self.tools: frozenset[str] | None = None if tools is True else frozenset(names)
        """Names of the tools whose calls wait; None for all tools."""
        if not self.launches and self.tools is not None and not self.tools and not self.servers:
            raise ConfigurationError("Approve asks about nothing: name tools=[...], or set tools=True or launches=True")

    @property
    def one_at_a_time(self) -> bool:
        """Whether calls of a run are asked about one after the other."""
        return not is_async(self.ask)

    def concerns(self, name: str, *, launch: bool, origin: str | None = None) -> bool:
        """Whether such a call waits for approval; `origin` is the MCP server of the tool."""
        return self.launches if launch else self.tools is None or name in self.tools or origin in self.servers

    async def decide(self, call: PendingCall) -> Decision:
        """Ask about a call. Raises nothing but cancellation (and KeyboardInterrupt)."""
        ended: Ended | None = None
        with anyio.move_on_after(self.timeout):
            ended = await asked(self.ask, call)
        if ended is None:
            return _failed(f"there was no answer after {self.timeout or 0:g} seconds", "nobody answered in time")
        if ended.error is not None:
            return _failed(f"the approver raised {described(ended.error)}")
        return _read(ended.value)


def approve_for(
    approve: Approve | Approver | None, tools: Collection[str], servers: Collection[MCPServer] = ()
) -> Approve | None:
    """The setting of an agent with these tools; a function alone is asked about everything. Raises ConfigurationError.

    With MCP servers, names are checked when these say what tools they have: see `check_approved`.
    """
    if approve is None:
        return None
    if not isinstance(approve, Approve):
        return Approve(approve, tools=True, launches=True)
    if missing := sorted(approve.servers - {server.name for server in servers}):
        raise ConfigurationError(f"Approve names the MCP server {missing[0]!r}, which is none of this agent's tools")
    if not servers:
        check_approved(approve, tools)
    return approve


def check_approved(approve: Approve | None, tools: Collection[str]) -> None:
    """Raises ConfigurationError where calls of a tool should be approved that the agent does not have."""
    if approve is None:
        return
    for name in sorted(approve.tools or ()):
        if name not in tools:
            close = get_close_matches(name, tools, 1)
            hint = f"; do you mean {close[0]!r}?" if close else f"; it has {', '.join(tools) or 'no tools'}"
            raise ConfigurationError(f"Approve names the tool {name!r}, which this agent does not have{hint}")


def _name_of(tool: str | Callable[..., Any]) -> str:
    if isinstance(tool, str):
        return tool
    marked: Mapping[str, Any] = getattr(tool, "__rao_tool__", {})
    name = marked.get("name") or getattr(tool, "__name__", None)
    if not isinstance(name, str):
        raise ConfigurationError(f"tools of Approve must be tools or their names, not {tool!r:.80}")
    return name


def _read(answer: Any) -> Decision:
    """An answer as it was meant; what means nothing refuses the call."""
    if isinstance(answer, bool):
        return Decision(allowed=answer)
    if isinstance(answer, str):
        return Decision(allowed=False, reason=answer[:_MOST_REASON])
    if not isinstance(answer, Approval) or not isinstance(answer.allowed, bool):
        return _failed(f"the approver answered {_shown(answer)}, which is no bool, text or Approval")
    reason = None if answer.reason is None else str(answer.reason)[:_MOST_REASON]
    if not answer.allowed or answer.arguments is None:
        return Decision(allowed=answer.allowed, reason=reason)
    try:
        arguments = plain(answer.arguments, strict=True, most=_MOST_VALUES)
    except (NotPlain, RecursionError) as error:
        return _failed(f"the approver gave arguments that are no plain data: {error}")
    if not isinstance(arguments, dict) or not all(isinstance(name, str) for name in arguments):
        return _failed("the approver gave arguments that are no mapping of names to values")
    return Decision(allowed=True, reason=reason, arguments=arguments)


def _failed(error: str, reason: str = "no approval could be obtained") -> Decision:
    return Decision(allowed=False, reason=reason, error=error)


def _shown(value: object) -> str:
    try:
        return f"{value!r:.80}"
    except Exception:
        return f"a {type(value).__name__}"
