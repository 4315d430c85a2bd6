"""Sums, with a tool that adds and one that fails; the answer is scored by two rewards."""

import os
import sys
from collections.abc import Iterator
from typing import Any

import verifiers.v1 as vf


class Adder(vf.Toolset):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.first = 0

    async def setup_task(self, data: Any) -> None:
        self.first = int(data.prompt.split()[0])

    @vf.tool
    async def add(self, number: int) -> dict[str, int]:
        """Add a number to the first one."""
        print("a tool that prints must not break the protocol")
        self.calls += 1
        return {"sum": self.first + number, "calls": self.calls}

    @vf.tool
    def crash(self, how: str) -> str:
        """Fail in one of several ways."""
        if how == "die":
            sys.stderr.write("out of memory\n")
            sys.stderr.flush()
            os._exit(7)
        raise LookupError("nothing here")


class Sum(vf.Task):
    @vf.reward(weight=0.75)
    async def right(self, trace: vf.Trace) -> float:
        reply = trace.last_reply
        if reply == "die":
            os._exit(9)
        if reply == "raise":
            raise ZeroDivisionError("a faulty reward")
        if reply == "hang":
            while True:
                pass
        if reply == "slow":
            import asyncio

            await asyncio.Event().wait()
        return {"nan": float("nan"), "much": 8.0}.get(reply, float(reply == str(self.data.answer)))

    @vf.reward(weight=0.25)
    async def used_tool(self, trace: vf.Trace) -> float:
        roles = [node.message.role for node in trace.nodes]
        assert [node.parent for node in trace.nodes] == [None, *range(len(roles) - 1)]
        return float("tool" in roles)

    @classmethod
    def toolsets(cls, config: Any) -> list[Any]:
        return [Adder()]


class Sums(vf.Taskset):
    TASK = Sum

    def load(self) -> Iterator[Sum]:
        for number in range(self.config.count):
            shift = 100 if self.config.split == "test" else 0
            yield Sum(
                vf.TaskData(
                    prompt=f"{number + shift} + {2 * number}",
                    answer=3 * number + shift,
                    system_prompt="Answer with a number.",
                )
            )


TASKSET = Sums
