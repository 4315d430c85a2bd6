"""Runs the cells of a demonstration on a session at once, without a sandbox or an event loop: trusted code only.

The tools never wait, so the coroutines they make run to their end when stepped once.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Awaitable, Coroutine
from types import CodeType, SimpleNamespace
from typing import Any

from recursive_agent.repl.worker.parsing import parse
from recursive_agent.status import Status
from recursive_agent.tools import ToolContext

from .goals import parse_goal
from .session import TextCraftSession
from .solver import SolvedNode

NODE = "0"


class _Finished(BaseException):
    """Raised by `finish` to end the cell at once."""


class Cells:
    """One agent's REPL with the session's tools, for code of the reference solver.

    A launched child is not run: what its goal asks for appears in the inventory, rounded up to the yield.
    """

    def __init__(self, session: TextCraftSession, goal: str) -> None:
        self.session = session
        self.finished = False
        self.value: Any = None
        self._goal = goal
        self._children = 0
        self._context = ToolContext("demonstration", NODE, None, 0, goal)
        self._names: dict[str, Any] = {
            "get_info": session.get_info,
            "view_inventory": session.view_inventory,
            "craft": self._craft,
            "launch_subagent": self._launch,
            "finish": self._finish,
            "asyncio": SimpleNamespace(gather=_gather),
        }

    def run(self, code: str) -> str | None:
        """Run one cell: the repr of its last expression ("" where there is none), or None where it called `finish`."""
        tree = parse(code)
        last = tree.body[-1]
        if isinstance(last, ast.Expr):
            del tree.body[-1]
        try:
            self._evaluate(compile(tree, "<cell>", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True))
            if not isinstance(last, ast.Expr):
                return ""
            shown = compile(
                ast.Expression(last.value), "<cell>", "eval", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True
            )
            value = self._evaluate(shown)
        except _Finished:
            self.finished = True
            return None
        return "" if value is None else repr(value)

    async def score(self) -> float | None:
        """s̃ of this agent as things stand."""
        status = Status.FINISHED if self.finished else Status.RUNNING
        return await self.session.score(SolvedNode(NODE, self._goal, status))

    def _evaluate(self, code: CodeType) -> Any:
        value = eval(code, self._names)
        return step(value) if code.co_flags & inspect.CO_COROUTINE else value

    async def _craft(self, ingredients: dict[str, int], target: tuple[str, int]) -> str:
        return await self.session.craft(ingredients, target, ctx=self._context)

    async def _launch(self, goal: str) -> list[str]:
        child = f"{NODE}.{self._children}"
        self._children += 1
        said = []
        for item, count in (parse_goal(goal) or {}).items():
            recipe = self.session.world.recipes[item]
            units = recipe.times(count) * recipe.yields
            self.session.inventory[item] += units
            self.session.ledger.record(child, item, units)
            said.append(f"Crafted {units}x {item}")
        return said

    def _finish(self, value: Any = None) -> None:
        self.value = value
        raise _Finished


def step(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    coroutine.close()
    raise RuntimeError("a cell of a demonstration waited for something")


async def _gather(*calls: Awaitable[Any]) -> list[Any]:
    return [await call for call in calls]
