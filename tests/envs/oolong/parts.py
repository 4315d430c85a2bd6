"""Nodes for scorers, made by hand, and the cells of experts without a sandbox."""

from __future__ import annotations

import ast
import asyncio
import inspect
import io
from collections.abc import Generator
from contextlib import redirect_stdout, suppress
from typing import Any

from rao_rl.envs.oolong.experts import Expert
from recursive_agent import Status
from recursive_agent.messages import Message
from recursive_agent.trace.node import Clock, Node
from recursive_agent.trace.schema import ModelCalled
from recursive_agent.usage import Usage


def node(
    goal: str,
    context: Any,
    result: Any = None,
    *,
    id: str = "0",
    status: Status = Status.FINISHED,
    shown: tuple[str, ...] = (),
    children: tuple[Node, ...] = (),
) -> Node:
    """An agent that ended; `shown` are the messages before each of its answers."""
    made = Node(
        id=id,
        parent=id.rpartition(".")[0] or None,
        depth=id.count("."),
        goal=goal,
        context=context,
        started=0.0,
        status=status,
        result=result,
        children=list(children),
        _clock=Clock(0.0),
    )
    for number, text in enumerate(shown, start=1):
        made.step(number).model = ModelCalled(
            time=0.0,
            node=id,
            step=number,
            started=0.0,
            messages=[Message("user", text)],
            text="",
            finish_reason="stop",
            usage=Usage(),
            model="test",
        )
    return made


class _Finished(BaseException):
    pass


class Cells:
    """Runs an expert's cells at once, without a sandbox, and keeps every agent's goal, context and value."""

    def __init__(self, expert: Expert) -> None:
        self.expert = expert
        self.ended: list[tuple[str, Any, Any]] = []

    async def run(self, goal: str, context: Any = None) -> Any:
        """The value that the agent with this goal and context finishes with."""
        found: list[Any] = []

        def finish(value: Any) -> None:
            found.append(value)
            raise _Finished

        names = {"context": context, "launch_subagent": self.run, "finish": finish, "asyncio": asyncio}
        cells = self.expert(goal, context)
        code = next(iter(cells))
        while not found:
            shown = io.StringIO()
            with redirect_stdout(shown):
                made = compile(code, "<cell>", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
                with suppress(_Finished):
                    waiting = eval(made, names)
                    if made.co_flags & inspect.CO_COROUTINE:
                        await waiting
            if not found:
                code = cells.send(shown.getvalue()) if isinstance(cells, Generator) else next(cells)
        self.ended.append((goal, context, found[0]))
        return found[0]
