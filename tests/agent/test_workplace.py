"""A node's interpreter: opened beside the first model call, and ended with the node."""

from __future__ import annotations

import anyio
import pytest

from recursive_agent.errors import SandboxError
from recursive_agent.repl import Repl
from recursive_agent.workplace import Workplace


async def _never() -> Repl:
    await anyio.sleep_forever()
    raise AssertionError


@pytest.mark.anyio
async def test_an_agent_that_is_cancelled_as_its_model_answers_is_cancelled_and_has_no_broken_sandbox() -> None:
    answered, opening = anyio.Event(), anyio.Event()
    scope = anyio.CancelScope()
    ended: list[str] = []

    async def open_repl() -> Repl:
        opening.set()
        return await _never()

    async def agent() -> None:
        with scope:
            async with anyio.create_task_group() as own:
                workplace = Workplace(own, open_repl)
                workplace.prepare()
                await answered.wait()
                try:
                    await workplace.repl()
                except SandboxError as error:
                    ended.append(str(error))
                except anyio.get_cancelled_exc_class():
                    ended.append("cancelled")
                    raise

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(agent)
            await opening.wait()
            answered.set()
            scope.cancel()
    assert ended in (["cancelled"], [])  # trio cancels before the answer is seen


@pytest.mark.anyio
async def test_a_sandbox_that_cancels_its_own_opening_holds_up_nobody() -> None:
    async def cancelled() -> Repl:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await anyio.sleep_forever()
        return None  # type: ignore[return-value]

    with anyio.fail_after(10):
        async with anyio.create_task_group() as own:
            with pytest.raises(SandboxError, match="gave no interpreter"):
                await Workplace(own, cancelled).repl()
