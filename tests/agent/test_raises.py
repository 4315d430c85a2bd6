"""What `solve` may raise is a closed list, and what one agent meets is its own affair: faults at every seam."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from pydantic import BaseModel, field_validator

import recursive_agent
from recursive_agent import Agent, ExecutionTree, Limits, RaoError, Result, Status, errors
from recursive_agent.goal import read_options
from recursive_agent.model import connect, resolve_endpoint
from recursive_agent.repl import ProcessSandbox
from recursive_agent.testing import Fault, ScriptedEndpoint, by_goal, replies
from recursive_agent.trace.store import TraceWriter
from tests.waiting import PATIENCE

from .faults import FaultyModel, FaultySandbox
from .helpers import agent_on, py

pytestmark = pytest.mark.anyio

FAMILY = {
    "root": [
        py("x = 1"),
        py(
            """
        first = await launch_subagent('good one', context='good')
        both = await asyncio.gather(
            launch_subagent('victim', context='victim'), launch_subagent('sibling', context='good'),
            return_exceptions=True,
        )
        finish([first, type(both[0]).__name__, both[1]])
        """
        ),
    ],
    "good one": py("finish(1)"),
    "victim": py("finish('unharmed')"),
    "sibling": py("finish(2)"),
}


class Foreign(BaseException):
    """No Exception, no cancellation: what a library with ideas of its own raises."""


class Speechless(Exception):
    """An exception that cannot be shown."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


FAULTS: dict[str, Callable[[], BaseException]] = {
    "lookup": lambda: KeyError("odd"),
    "system": lambda: OSError(errno.EMFILE, "Too many open files"),
    "memory": lambda: MemoryError(),
    "group": lambda: ExceptionGroup("many", [ValueError("a"), TypeError("b")]),
    "own": lambda: errors.ConfigurationError("settings"),
    "sandbox": lambda: errors.SandboxError("no sandbox"),
    "endpoint": lambda: errors.EndpointUnavailable("no endpoint"),
    "iteration": lambda: StopAsyncIteration(),
    "late": lambda: TimeoutError("late"),
    "exit": lambda: SystemExit(3),
    "foreign": Foreign,
    "speechless": Speechless,
}
FEW = ("lookup", "exit", "foreign")
COMMON = tuple(name for name, make in FAULTS.items() if isinstance(make(), Exception))


def raising(make: Callable[[], BaseException]) -> Callable[[], None]:
    def fault() -> None:
        raise FAULTS[fault]()

    return fault


def all_ended(result: Any) -> bool:
    assert isinstance(result, Result)
    return not any(node.running for node in result.tree.walk()) and result.tree.complete


def assert_paid(result: Result, endpoint: ScriptedEndpoint) -> None:
    """What was billed stands in the result, or stands there as unconfirmed."""
    usage = result.usage
    assert usage.total_tokens <= endpoint.ledger.total_tokens <= usage.total_tokens + usage.unconfirmed


async def raised(agent: Agent, *goal: str, **arguments: Any) -> RaoError:
    """What `solve` raises, which must be of this package."""
    with anyio.fail_after(PATIENCE):
        with pytest.raises(RaoError) as caught:
            await agent.solve(*(goal or ("root",)), **arguments)
    assert type(caught.value).__module__ == "recursive_agent.errors"
    return caught.value


def test_every_error_of_the_package_is_drawn_in_the_tree_and_can_carry_a_result() -> None:
    found = {RaoError}
    while (
        new := {sub for one in found for sub in one.__subclasses__() if sub.__module__.startswith("recursive_agent")}
        - found
    ):
        found |= new
    assert {one.__module__ for one in found} == {"recursive_agent.errors"}
    assert errors.__doc__ is not None
    for one in found:
        assert one.__name__ in errors.__doc__
        assert one.result is None
    assert recursive_agent.RaoError is RaoError


# -- one agent's failure is its own ----------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", FEW)
@pytest.mark.parametrize("seam", ["add", "prompt_tokens", "complete", "completed"])
async def test_what_fails_in_the_model_calls_of_one_agent_is_its_own(seam: str, fault: str) -> None:
    with ScriptedEndpoint(by_goal(FAMILY)) as endpoint, anyio.fail_after(PATIENCE):
        model = connect(resolve_endpoint("scripted", endpoint.base_url, "sk-x"))
        agent = Agent(FaultyModel(model, seam, raising(FAULTS[fault]), "Goal: victim"))
        result = await agent.solve("root")
        await model.aclose()
    assert result.output == [1, "SubagentError", 2]
    assert result.tree.nodes["0.1"].status is Status.INFRA_ERROR
    assert all_ended(result)
    assert_paid(result, endpoint)


@pytest.mark.parametrize("fault", FEW)
@pytest.mark.parametrize("seam", ["open", "run", "ran", "aclose"])
async def test_what_fails_in_the_sandbox_of_one_agent_is_its_own(seam: str, fault: str) -> None:
    with ScriptedEndpoint(by_goal(FAMILY)) as endpoint, anyio.fail_after(PATIENCE):
        async with ProcessSandbox() as inner:
            result = await agent_on(
                endpoint, sandbox=FaultySandbox(inner, seam, raising(FAULTS[fault]), "victim")
            ).solve("root")
    closed = seam == "aclose"  # it had ended before
    assert result.output == [1, "str" if closed else "SubagentError", 2]
    assert result.tree.nodes["0.1"].status is (Status.FINISHED if closed else Status.INFRA_ERROR)
    assert all_ended(result)


# -- the root's failure carries the run ------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", FEW)
@pytest.mark.parametrize("seam", ["conversation", "add", "prompt_tokens", "complete", "completed"])
async def test_what_fails_in_the_roots_model_calls_carries_the_run(seam: str, fault: str, tmp_path: Path) -> None:
    with ScriptedEndpoint(by_goal(FAMILY)) as endpoint:
        model = connect(resolve_endpoint("scripted", endpoint.base_url, "sk-x"))
        victim = "[step 1/"  # in its second step: the first was paid for
        faulty = FaultyModel(model, seam, raising(FAULTS[fault]), victim)
        # With few answers in all, every message says which step it is.
        error = await raised(Agent(faulty, trace_dir=tmp_path, limits=Limits(max_steps=4)))
        await model.aclose()
    assert all_ended(error.result)
    assert error.result.status is Status.INFRA_ERROR
    assert isinstance(error, errors.RunFailed) or type(error) is type(FAULTS[fault]())
    (path,) = tmp_path.iterdir()
    assert ExecutionTree.load(path).root.status is Status.INFRA_ERROR


@pytest.mark.parametrize("fault", FEW)
@pytest.mark.parametrize("seam", ["open", "run", "ran"])
async def test_what_fails_in_the_roots_sandbox_carries_the_run(seam: str, fault: str) -> None:
    with ScriptedEndpoint(by_goal(FAMILY)) as endpoint:
        async with ProcessSandbox() as inner:
            error = await raised(agent_on(endpoint, sandbox=FaultySandbox(inner, seam, raising(FAULTS[fault]))))
    assert all_ended(error.result)
    assert error.result is not None
    assert_paid(error.result, endpoint)


@pytest.mark.parametrize("fault", COMMON)
async def test_a_connection_that_fails_to_close_takes_nothing_from_the_run(
    fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ScriptedEndpoint(py("finish(1)")) as endpoint:
        agent = agent_on(endpoint)

        def connected(*arguments: Any, **more: Any) -> Any:
            return FaultyModel(connect(*arguments, **more), "model.aclose", raising(FAULTS[fault]))

        monkeypatch.setattr("recursive_agent.model_choice.connect", connected)
        assert (await agent.solve("go")).output == 1


@pytest.mark.parametrize("fault", COMMON)
async def test_a_sandbox_that_cannot_be_opened_is_an_error_of_the_list(
    fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: Any, **more: Any) -> Any:
        raise FAULTS[fault]()

    monkeypatch.setattr("recursive_agent.agent.make_sandbox", broken)
    with ScriptedEndpoint(py("finish(1)")) as endpoint:
        error = await raised(agent_on(endpoint))
    assert error.result is None
    assert endpoint.ledger.calls == 0


# -- the caller's own code -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", FEW)
async def test_a_validator_that_raises_has_refused_the_value(fault: str) -> None:
    class Strict(BaseModel):
        n: int

        @field_validator("n")
        @classmethod
        def odd(cls, value: int) -> int:
            if value == 1:
                raise FAULTS[fault]()
            return value

    with ScriptedEndpoint(replies([py("finish({'n': 1})"), py("finish({'n': 2})")])) as endpoint:
        with anyio.fail_after(PATIENCE):
            result = await agent_on(endpoint).solve("go", returns=Strict)
    assert result.output == Strict.model_construct(n=2)


async def test_a_validator_that_hangs_costs_the_time_of_the_run_and_no_more() -> None:
    release = threading.Event()

    class Hanging(BaseModel):
        n: int

        @field_validator("n")
        @classmethod
        def hang(cls, value: int) -> int:
            release.wait()
            return value

    try:
        with ScriptedEndpoint(py("finish({'n': 1})")) as endpoint, anyio.fail_after(PATIENCE):
            result = await agent_on(endpoint, timeout=0.5).solve("go", returns=Hanging)
    finally:
        release.set()
    assert result.status is Status.TREE_TIMEOUT


@pytest.mark.parametrize("fault", FEW)
@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_scorer_that_raises_costs_that_score(kind: str, fault: str) -> None:
    def score(node: Any) -> float:
        if node.id == "0.1":
            raise FAULTS[fault]()
        return 1.0

    async def later(node: Any) -> float:
        return score(node)

    with ScriptedEndpoint(by_goal(FAMILY)) as endpoint, anyio.fail_after(PATIENCE):
        result = await agent_on(endpoint).solve("root", score=score if kind == "sync" else later)
    assert {node.id: node.score_status for node in result.tree.walk()} == {
        "0": "scored",
        "0.0": "scored",
        "0.1": "judge_error",
        "0.2": "scored",
    }


@pytest.mark.parametrize("kind", ["sync", "async", "stubborn"])
async def test_a_scorer_that_hangs_ends_with_the_time_of_the_run(kind: str) -> None:
    release = threading.Event()

    def hang(node: Any) -> float:
        release.wait()
        return 1.0

    async def sleep(node: Any) -> float:
        await anyio.sleep_forever()
        return 1.0

    async def stubborn(node: Any) -> float:
        while not release.is_set():
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.01)
        return 1.0

    scorers: dict[str, Any] = {"sync": hang, "async": sleep, "stubborn": stubborn}
    try:
        with ScriptedEndpoint(py("finish(1)")) as endpoint, anyio.fail_after(PATIENCE):
            result = await agent_on(endpoint, timeout=3).solve("go", score=scorers[kind])
    finally:
        release.set()
    assert result.output == 1
    assert result.tree.root.score_status == "judge_error"
    assert "time of the run" in str(result.tree.root.score_source)
    assert all_ended(result)


# -- the trace -------------------------------------------------------------------------------------------------------


async def test_a_full_disk_does_not_cost_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, room = os.write, [6_000]

    def write(fd: int, data: bytes) -> int:
        if not str(Path(f"/proc/self/fd/{fd}").readlink()).startswith(str(tmp_path)):
            return real(fd, data)
        if room[0] <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = real(fd, bytes(data)[: room[0]])
        room[0] -= written
        return written

    monkeypatch.setattr(os, "write", write)
    script = [py("print('x' * 5000)"), py("print('y' * 5000)"), py("finish('paid for')")]
    with ScriptedEndpoint(replies(script)) as endpoint:
        result = await agent_on(endpoint, trace_dir=tmp_path).solve("go", score=lambda node: 1)
    assert result.output == "paid for"
    assert "No space left" in str(result.trace_error)
    assert result.trace_path is not None
    assert not ExecutionTree.load(result.trace_path).complete


async def test_a_disk_full_from_the_start_is_an_error_before_anything_is_paid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: TraceWriter, *arguments: Any, **more: Any) -> None:
        raise errors.TraceError("full")

    monkeypatch.setattr(TraceWriter, "append", full)
    with ScriptedEndpoint(py("finish(1)")) as endpoint:
        error = await raised(agent_on(endpoint, trace_dir=tmp_path))
    assert isinstance(error, errors.TraceError)
    assert endpoint.ledger.calls == 0
    with ScriptedEndpoint(py("finish(1)")) as endpoint:
        assert isinstance(await raised(agent_on(endpoint, trace_dir="/dev/null/x")), errors.TraceError)
        assert isinstance(await raised(agent_on(endpoint, trace_dir="a\0b")), errors.TraceError)


@pytest.mark.parametrize("fault", COMMON)
async def test_a_writer_with_a_fault_of_its_own_does_not_cost_the_run(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = TraceWriter.append

    def append(self: TraceWriter, event: Any, **more: Any) -> None:
        if event.kind == "cell_ran":
            raise FAULTS[fault]()
        real(self, event, **more)

    monkeypatch.setattr(TraceWriter, "append", append)
    with ScriptedEndpoint(py("finish(1)")) as endpoint:
        result = await agent_on(endpoint, trace_dir=tmp_path).solve("go")
    assert result.output == 1
    assert result.trace_error is not None
    assert result.trace_path is not None
    ExecutionTree.load(result.trace_path)


async def test_a_trace_folder_that_vanishes_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "traces"

    def vanish() -> None:
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()

    script = [py("await vanish()"), py("finish(1)")]
    with ScriptedEndpoint(replies(script)) as endpoint:
        result = await agent_on(endpoint, trace_dir=folder, tools=(vanish,)).solve("go")
    assert result.output == 1
    assert "removed" in str(result.trace_error)


async def test_a_trace_at_its_limit_keeps_the_outline_and_says_so(tmp_path: Path) -> None:
    limits = Limits(max_trace_mb=1)
    big = py(
        "x = await launch_subagent('kid', context='y' * 700_000)\nawait launch_subagent('kid', context='z' * 700_000)"
    )
    script = by_goal({"root": [big, py("finish('w' * 2_000_000)")], "kid": py("finish(len(context))")})
    with ScriptedEndpoint(script) as endpoint:
        agent = Agent("scripted", endpoint.base_url, "sk-x", limits=limits, trace_dir=tmp_path)
        result = await agent.solve("root")
    assert len(result.output) == 2_000_000
    assert "Limits.max_trace_mb" in str(result.trace_error)
    assert result.trace_path is not None
    assert result.trace_path.stat().st_size < 1024**2
    tree = ExecutionTree.load(result.trace_path)
    assert tree.complete
    assert tree.incomplete == result.trace_error
    assert tree.usage == result.usage
    assert {node.status for node in tree.walk()} == {Status.FINISHED}
    assert tree.nodes["0.0"].context == "y" * 700_000
    assert "left out" in tree.nodes["0.1"].context
    assert "left out" in str(tree.root.result)


# -- watchers --------------------------------------------------------------------------------------------------------


async def test_who_watches_a_run_cannot_end_it() -> None:
    seen = []

    def watch(event: Any) -> None:
        seen.append(event)
        raise ValueError("no")

    with ScriptedEndpoint(py("finish(1)")) as endpoint:
        result = await agent_on(endpoint)._solve(read_options("go", {}), sink=watch)
    assert result.output == 1
    assert len(seen) == 1


async def test_cancelling_at_any_await_leaves_every_node_with_a_status(tmp_path: Path) -> None:
    """Cancelled after so many events, at whatever await comes next."""
    for count in range(1, 16):
        with ScriptedEndpoint(by_goal(FAMILY)) as endpoint, anyio.fail_after(PATIENCE):
            with anyio.CancelScope() as scope:

                def watch(event: Any, left: list[int] = [count], scope: anyio.CancelScope = scope) -> None:  # noqa: B006
                    left[0] -= 1
                    if not left[0]:
                        scope.cancel()

                await agent_on(endpoint, trace_dir=tmp_path / str(count))._solve(read_options("root", {}), sink=watch)
            assert scope.cancelled_caught
        (path,) = (tmp_path / str(count)).iterdir()
        tree = ExecutionTree.load(path)
        assert tree.complete
        assert not any(node.running for node in tree.walk())
        bill = tree.usage
        assert bill.total_tokens <= endpoint.ledger.total_tokens <= bill.total_tokens + bill.unconfirmed


async def test_a_fatal_error_of_the_endpoint_ends_the_tree_and_others_do_not() -> None:
    script = by_goal(FAMILY | {"victim": Fault.http(400, "bad request")})
    with ScriptedEndpoint(script) as endpoint:
        result = await agent_on(endpoint).solve("root")
    assert result.output == [1, "SubagentError", 2]
    script = by_goal(FAMILY | {"victim": Fault.http(401, "bad key")})
    with ScriptedEndpoint(script) as endpoint:
        error = await raised(agent_on(endpoint))
    assert isinstance(error, errors.AuthenticationFailed)
    assert all_ended(error.result)
