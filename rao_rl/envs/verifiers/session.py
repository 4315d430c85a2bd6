"""One attempt at a task of a taskset: its tools through the bridge, and the root scored by the taskset's own rewards."""

from __future__ import annotations

import json
import math
import uuid
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recursive_agent.errors import ConfigurationError
from recursive_agent.threads import call_in_thread
from recursive_agent.tools import ToolContext

from ..base import ScoredNode
from ..rewards import RewardRange
from ..schema_tools import schema_tool
from .process import Bridge, BridgeFailed, ToolRefused

ROOT = "0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A taskset with its config, in the other Python."""

    bridge: Bridge
    taskset: str
    config: Mapping[str, Any]
    timeout: float

    def request(self, op: str, **request: Any) -> Any:
        """As `Bridge.request`."""
        return self.bridge.request({"op": op, "taskset": self.taskset, "config": self.config, **request}, self.timeout)


@dataclass(frozen=True, slots=True, kw_only=True)
class Called:
    """A call of a tool that was answered: by whom, and with what."""

    node: str
    tool: str
    arguments: Mapping[str, Any]
    result: Any


class VerifiersSession:
    """The state of one tree. The task with its answer stays in the other process; agents have the tools only."""

    def __init__(
        self, source: Source, index: int | None, tools: Sequence[Mapping[str, Any]], rewards: RewardRange
    ) -> None:
        self._source, self._index, self._rewards = source, index, rewards
        self._id = uuid.uuid4().hex
        self._generation: int | None = None
        self.ledger: list[Called] = []
        """Which agent called what, in order of the answers."""
        self.failure: str | None = None
        """Why a tool was out of order, so that no answer of this tree is anybody's fault; None if none was."""
        self._measured: Mapping[str, float] = {}
        self.tools: Sequence[Callable[..., Any]] = tuple(self._tool(each) for each in tools)

    def _tool(self, described: Mapping[str, Any]) -> Callable[..., Any]:
        name = str(described["name"])
        text, schema = str(described["description"]), dict(described["schema"])

        def call(arguments: dict[str, Any], context: ToolContext) -> Any:
            return self._call(name, arguments, context.node)

        return schema_tool("verifiers", name, text, schema, call)

    def _call(self, name: str, arguments: dict[str, Any], node: str) -> Any:
        if self.failure is not None:
            raise BridgeFailed(self.failure)
        try:
            result = self._source.request("call", index=self._index, session=self._id, tool=name, arguments=arguments)
        except ToolRefused as refused:
            self.ledger.append(Called(node=node, tool=name, arguments=arguments, result=f"Error: {refused}"))
            raise
        except (BridgeFailed, ConfigurationError) as failure:
            self.failure = str(failure)
            raise
        generation = self._source.bridge.generation
        if self._generation is None:
            self._generation = generation
            weakref.finalize(self, self._source.bridge.forget, session=self._id)
        elif self._generation != generation:
            self.failure = "the process of verifiers was started anew and has forgotten what was done before"
            raise BridgeFailed(self.failure)
        self.ledger.append(Called(node=node, tool=name, arguments=arguments, result=result))
        return result

    async def score(self, node: ScoredNode) -> float | None:
        """The taskset's reward for the root's answer, as a score; None for sub-agents and where nothing can be known.

        0.0 where the root did not finish. Raises BridgeFailed where a tool or a reward was out of order, and
        ConfigurationError for a reward outside the range: the status of the score then says why it is not known.
        """
        if node.id != ROOT or self._index is None or node.status.external:
            return None
        if self.failure is not None:
            raise BridgeFailed(self.failure)
        if not node.status.finished:
            return 0.0
        answer = (
            node.result if isinstance(node.result, str) else json.dumps(node.result, ensure_ascii=False, default=str)
        )
        calls = [{"tool": each.tool, "arguments": each.arguments, "result": each.result} for each in self.ledger]
        rewarded = await call_in_thread(self._rewarded, answer, calls)
        self._measured = _numbers({**rewarded["metrics"], **rewarded["rewards"]})
        return self._rewards.score(rewarded["reward"])

    def _rewarded(self, answer: str, calls: list[dict[str, Any]]) -> Mapping[str, Any]:
        found = self._source.request(
            "score", index=self._index, answer=answer, calls=calls, timeout=self._source.timeout
        )
        if not isinstance(found, Mapping) or not {"reward", "rewards", "metrics"} <= found.keys():
            raise BridgeFailed(f"the process of verifiers answered nonsense ({found!r:.80})")
        return found

    def metrics(self, node: ScoredNode) -> Mapping[str, float]:
        """Each reward and metric of the taskset for the root's answer."""
        return self._measured

    def judgeable(self, node: ScoredNode) -> bool:
        """False where a tool was out of order."""
        return self.failure is None


def _numbers(found: Mapping[str, Any]) -> dict[str, float]:
    return {
        name: float(value) for name, value in found.items() if isinstance(value, int | float) and math.isfinite(value)
    }
