"""Tasksets that need what rao does not have: which one, says RAO_TEST_ODD."""

import os
from collections.abc import Iterator
from typing import Any

import verifiers.v1 as vf


class Plain(vf.Task):
    @vf.reward()
    async def right(self, trace: vf.Trace) -> float:
        return 1.0


class Container(Plain):
    NEEDS_CONTAINER = True


class Prepared(Plain):
    async def setup(self, trace: Any, runtime: Any) -> None: ...


class OfRuntime(Plain):
    @vf.reward()
    async def tests_pass(self, trace: vf.Trace, runtime: Any) -> float:
        return 1.0


class Stopping(Plain):
    @vf.stop
    async def enough(self, trace: vf.Trace) -> bool:
        return False


class Counted(vf.State):
    pass


class Counter(vf.Toolset):
    def __init__(self) -> None:
        super().__init__()
        self._state_cls = Counted


class Stateful(Plain):
    @classmethod
    def toolsets(cls, config: Any) -> list[Any]:
        return [Counter()]


class Launching(vf.Toolset):
    @vf.tool
    def finish(self) -> None:
        """A name that agents have already."""


class Reserved(Plain):
    @classmethod
    def toolsets(cls, config: Any) -> list[Any]:
        toolset = Launching()
        toolset.server_name = ""
        return [toolset]


class Pair:
    """An environment of two agents."""


TASKS: dict[str, tuple[type[vf.Task], list[vf.TaskData]]] = {
    "plain": (Plain, [vf.TaskData(prompt="p")]),
    "pair": (Plain, [vf.TaskData(prompt="p")]),
    "container": (Container, [vf.TaskData(prompt="p")]),
    "setup": (Prepared, [vf.TaskData(prompt="p")]),
    "runtime": (OfRuntime, [vf.TaskData(prompt="p")]),
    "stop": (Stopping, [vf.TaskData(prompt="p")]),
    "state": (Stateful, [vf.TaskData(prompt="p")]),
    "reserved": (Reserved, [vf.TaskData(prompt="p")]),
    "no reward": (vf.Task, [vf.TaskData(prompt="p")]),
    "no prompt": (Plain, [vf.TaskData()]),
    "image": (Plain, [vf.TaskData(prompt="p"), vf.TaskData(prompt="p", image="ubuntu")]),
    "picture": (Plain, [vf.TaskData(prompt=[vf.UserMessage(content=[vf.SubprocessConfig("image_url")])])]),
    "conversation": (Plain, [vf.TaskData(prompt=[vf.AssistantMessage(content="hello")])]),
    "none": (Plain, []),
}
ODD = os.environ["RAO_TEST_ODD"]


class Odd(vf.Taskset):
    TASK = TASKS.get(ODD, (Plain, []))[0]
    ENVIRONMENT = Pair if ODD == "pair" else vf.SingleAgentEnv

    def load(self) -> Iterator[vf.Task]:
        if ODD == "faulty":
            raise FileNotFoundError("no such data set")
        for data in TASKS[ODD][1]:
            yield self.TASK(data)


TASKSET = Odd
