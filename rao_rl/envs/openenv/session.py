"""One attempt: an episode on the server that all agents of a tree share, and the root's score from its rewards."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from recursive_agent.errors import ConfigurationError
from recursive_agent.threads import call_in_thread
from recursive_agent.tools import ToolContext

from ..base import ScoredNode
from ..rewards import RewardRange
from ..schema_tools import schema_tool
from .connection import ActionRefused, Connection, Observed, ServerFailed
from .server import Description, ServedTool

ROOT = "0"
Return: TypeAlias = Literal["sum", "last", "best"]
"""How the rewards of an episode become one number."""
RETURNS: tuple[Return, ...] = get_args(Return)
_RETURN: Mapping[Return, Callable[[list[float]], float]] = {"sum": sum, "last": lambda found: found[-1], "best": max}
_HIDDEN = ("metadata",)
_NOT_THE_AGENT = ("transport_error", "timeout")


@dataclass(frozen=True, slots=True, kw_only=True)
class Acted:
    """An action that the environment carried out: whose it was, and what came of it."""

    node: str
    action: Mapping[str, Any]
    reward: float | None
    done: bool


class OpenEnvSession:
    """The state of one tree: one episode, begun at the first call of a tool.

    Agents do not see rewards. Only the root has a score, since rewards belong to the episode and not to an agent; `ledger`
    says which agent did what.
    """

    def __init__(
        self,
        connection: Connection,
        description: Description,
        reset: Mapping[str, Any],
        rewards: RewardRange,
        returned: Return,
        *,
        state: bool,
    ) -> None:
        self._connection, self._reset = connection, reset
        self._rewards, self._returned = rewards, returned
        self._lock = threading.Lock()
        self._latest: Observed | None = None
        self.ledger: list[Acted] = []
        """The actions of all agents, in order."""
        self.failure: str | None = None
        """Why the server was out of order, so that nobody's score is known; None if it was not."""
        actions = (
            [self._step_tool(description.action)]
            if description.tools is None
            else [self._served_tool(each) for each in description.tools]
        )
        self.tools: Sequence[Callable[..., Any]] = (self.observe, *actions, *([self.state] if state else []))
        weakref.finalize(self, connection.abort)

    def observe(self) -> dict[str, Any]:
        """The latest observation of the environment: {'observation': ..., 'done': ...}. The first call begins the episode."""
        with self._lock:
            return _shown(self._begun())

    def state(self) -> dict[str, Any]:
        """The environment's own state, such as its step count."""
        with self._lock:
            self._begun()
            return dict(self._reached(self._connection.state))

    def _step_tool(self, schema: Mapping[str, Any]) -> Callable[..., Any]:
        def step(action: dict[str, Any], context: ToolContext) -> Any:
            return _shown(self._act(action, context.node))

        text = (
            "Act in the environment. Returns {'observation': ..., 'done': ...}; nothing can be done once done is True."
        )
        return schema_tool("openenv", "step", text, schema, step, hidden=_HIDDEN)

    def _served_tool(self, tool: ServedTool) -> Callable[..., Any]:
        def call(arguments: dict[str, Any], context: ToolContext) -> Any:
            action = {"type": "call_tool", "tool_name": tool.name, "arguments": arguments}
            return self._result(self._act(action, context.node).observation)

        return schema_tool("openenv", tool.name, tool.description, tool.schema, call)

    def _result(self, observation: Mapping[str, Any]) -> Any:
        """What a tool of the environment gave. Raises ActionRefused, or ServerFailed where the environment lost its tools."""
        error = observation.get("error")
        if isinstance(error, Mapping):
            if error.get("error_type") in _NOT_THE_AGENT:
                self.failure = f"the environment cannot reach its tools ({error.get('message')})"
                raise ServerFailed(self.failure)
            raise ActionRefused(str(error.get("message")))
        result = observation.get("result")
        if isinstance(result, Mapping):
            if result.get("data") is not None:
                return result["data"]
            if isinstance(content := result.get("content"), list) and content:
                return "\n".join(str(each.get("text", each)) for each in content if isinstance(each, Mapping))
        return result

    def _act(self, action: Mapping[str, Any], node: str) -> Observed:
        with self._lock:
            if self._begun().done:
                raise ValueError("the episode is over: no further action is possible; call finish")
            observed: Observed = self._reached(lambda: self._connection.step(action))
            self._latest = observed
            self.ledger.append(Acted(node=node, action=action, reward=observed.reward, done=observed.done))
            return observed

    def _begun(self) -> Observed:
        if self._latest is None:
            self._latest = self._reached(lambda: self._connection.reset(self._reset))
        return self._latest

    def _reached(self, ask: Callable[[], Any]) -> Any:
        if self.failure is not None:
            raise ServerFailed(self.failure)
        try:
            return ask()
        except ServerFailed as failure:
            if not self._connection.closed:  # a call that outlives its tree is cut off, and costs nobody a score
                self.failure = str(failure)
            raise

    async def score(self, node: ScoredNode) -> float | None:
        """The root's episode as a score; None for sub-agents, and where the episode ended without any reward.

        0.0 where the root did not finish, did nothing, or gave up before there was a reward. Raises ServerFailed where the
        server was out of order, and ConfigurationError for a return outside the range: the status of the score says why it
        is not known. The tree has ended, so the episode is closed.
        """
        await call_in_thread(self._connection.close)
        if node.id != ROOT or node.status.external:
            return None
        if self.failure is not None:
            raise ServerFailed(self.failure)
        if not node.status.finished or not self.ledger:
            return 0.0
        total = self._total()
        if total is None:
            return None if self.ledger[-1].done else 0.0
        return self._rewards.score(total)

    def _total(self) -> float | None:
        rewards = [each.reward for each in self.ledger if each.reward is not None]
        if not rewards:
            return None
        return _RETURN[self._returned](rewards)

    def metrics(self, node: ScoredNode) -> Mapping[str, float]:
        """The actions of the whole tree, and the episode's return as the environment gave it."""
        total = self._total()
        return {"actions": float(len(self.ledger)), **({} if total is None else {"return": total})}

    def judgeable(self, node: ScoredNode) -> bool:
        """False where the server was out of order."""
        return self.failure is None


def _shown(observed: Observed) -> dict[str, Any]:
    return {"observation": dict(observed.observation), "done": observed.done}


def check_tools(session: OpenEnvSession) -> None:
    """Raises ConfigurationError where two tools have one name."""
    names = [each.__name__ for each in session.tools]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ConfigurationError(
            f"openenv: the environment has a tool called {min(twice)}, a name that rao uses for its own"
        )
