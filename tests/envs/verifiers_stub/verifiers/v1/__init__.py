"""As much of `verifiers.v1` as a taskset and the bridge touch, written by hand."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any


def reward(weight: float = 1.0) -> Callable[[Any], Any]:
    def mark(function: Any) -> Any:
        function.reward, function.weight = True, weight
        return function

    return mark


def stop(function: Any) -> Any:
    function.stop = True
    return function


def tool(function: Any) -> Any:
    function.tool = True
    return function


@dataclass
class State:
    pass


@dataclass
class SubprocessConfig:
    type: str = "subprocess"


@dataclass
class Message:
    role: str
    content: Any = None
    tool_calls: Any = None
    tool_call_id: str = ""
    name: str = ""


def UserMessage(**fields: Any) -> Message:
    return Message("user", **fields)


def SystemMessage(**fields: Any) -> Message:
    return Message("system", **fields)


def AssistantMessage(**fields: Any) -> Message:
    return Message("assistant", **fields)


def ToolMessage(**fields: Any) -> Message:
    return Message("tool", **fields)


@dataclass
class ToolCall:
    id: str
    name: str
    arguments: str


@dataclass
class MessageNode:
    parent: int | None
    message: Message
    sampled: bool


@dataclass
class TraceTask:
    type: str
    data: Any
    key: str
    hash: str


@dataclass
class AgentConfig:
    pass


@dataclass
class AgentInfo:
    config: AgentConfig


@dataclass
class Reward:
    score: float
    weight: float


@dataclass
class Trace:
    task: TraceTask
    agent: AgentInfo
    nodes: list[MessageNode] = field(default_factory=list)
    rewards: dict[str, Reward | None] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    stopped: str | None = None
    ok: bool = False

    def stop(self, condition: str) -> None:
        self.stopped = condition

    @property
    def reward(self) -> float:
        return sum(each.score * each.weight for each in self.rewards.values() if each is not None)

    @property
    def last_reply(self) -> str:
        return str(self.nodes[-1].message.content)


@dataclass
class TaskData:
    prompt: Any = None
    answer: Any = None
    system_prompt: str | None = None
    idx: int | None = None
    image: str | None = None


class Task:
    NEEDS_CONTAINER = False

    def __init__(self, data: TaskData, config: Any = None) -> None:
        self.data, self.config = data, config

    @property
    def hash(self) -> str:
        return hashlib.sha256(json.dumps(asdict(self.data), default=str).encode()).hexdigest()

    @property
    def key(self) -> str:
        return self.hash

    async def setup(self, trace: Any, runtime: Any) -> None: ...

    async def finalize(self, trace: Any, runtime: Any) -> None: ...

    async def stage_verifier(self, trace: Any, runtime: Any) -> None: ...

    def hooks(self, mark: str) -> list[Any]:
        return [each for name in dir(type(self)) if hasattr(each := getattr(self, name), mark)]

    def plugged_judges(self) -> list[Any]:
        return []

    @classmethod
    def toolsets(cls, config: Any) -> list[Any]:
        return []

    async def score(self, trace: Trace, runtime: Any = None) -> None:
        for each in self.hooks("reward"):
            if "runtime" not in inspect.signature(each).parameters:
                trace.rewards[each.__name__] = Reward(await each(trace), each.weight)
        trace.metrics["messages"] = float(len(trace.nodes))


@dataclass
class Config:
    id: str = ""
    task: Any = None
    split: str = "train"
    count: int = 20


class Taskset:
    def __init__(self, config: Config) -> None:
        self.config = config

    @classmethod
    def task_type(cls) -> type[Task]:
        return cls.TASK  # type: ignore[attr-defined, no-any-return]

    def __iter__(self) -> Iterator[Task]:
        for index, task in enumerate(self.load()):  # type: ignore[attr-defined]
            task.data.idx = index
            yield task

    @classmethod
    def toolsets(cls, config: Any) -> list[Any]:
        return []


class SingleAgentEnv:
    pass


class Toolset:
    def __init__(self, config: Any = None) -> None:
        self.config = config
        self.server_name = type(self).__name__.lower()
        self._state_cls: type[State] = State

    async def setup(self) -> None: ...

    async def setup_task(self, data: Any) -> None: ...

    def register(self, server: Any) -> None:
        for name in dir(self):
            if hasattr(function := getattr(self, name), "tool"):
                server.add_tool(function, name=name, description=function.__doc__)


def _class(name: str) -> Any:
    return importlib.import_module(name.replace("-", "_")).TASKSET


def taskset_config_type(name: str) -> type[Config]:
    return getattr(_class(name), "CONFIG", Config)


def load_taskset(config: Config) -> Any:
    return _class(config.id)(config)


def environment_class(name: str) -> Any:
    return getattr(_class(name), "ENVIRONMENT", SingleAgentEnv)
