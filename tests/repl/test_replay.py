"""Recorded cells that are replayed in another process do what they did, in the same order, at the same times."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import anyio
import pytest

from recursive_agent.repl import (
    CellResult,
    HostCallError,
    HostFunction,
    HostRequest,
    ProcessSandbox,
    Replay,
    ReplLimits,
    can_record,
    same_text,
)
from recursive_agent.testing.sandbox_conformance.record import Record, Recorder
from tests.waiting import PATIENCE

pytestmark = pytest.mark.anyio
FUNCTIONS = (HostFunction("tool"), HostFunction("fail"), HostFunction("hang"))
LIMITS = ReplLimits(cell_timeout=PATIENCE)


async def tool(request: HostRequest) -> Any:
    """Answers with its first argument after so many seconds."""
    if request.name == "hang":
        await anyio.sleep_forever()
    await anyio.sleep(request.args[0])
    if request.name == "fail":
        raise HostCallError("ToolError", f"no {request.args[0]}")
    return request.args[0]


class Two:
    """Two sandboxes that have nothing in common: one for the records, one for the replays."""

    def __init__(self, first: ProcessSandbox, second: ProcessSandbox) -> None:
        self.first = first
        self.second = second

    async def record(self, codes: Sequence[str], *, limits: ReplLimits = LIMITS, seed: int = 1) -> Record:
        """Run cells in a fresh process."""
        recorder = Recorder(tool)
        repl = await recorder.open(self.first, FUNCTIONS, limits=limits, seed=seed)
        await recorder.run(repl, codes)
        await repl.aclose()
        return recorder.record(codes)

    async def replay(
        self, known: Record, *, limits: ReplLimits = LIMITS, seed: int = 1
    ) -> tuple[list[CellResult], Recorder]:
        """Run the same cells from what is known of them, in a process of the other sandbox."""
        recorder = Recorder(tool, known)
        repl = await recorder.open(self.second, FUNCTIONS, limits=limits, seed=seed)
        results = await recorder.run(repl, known.codes)
        await repl.aclose()
        return results, recorder


@pytest.fixture
async def two() -> AsyncIterator[Two]:
    async with ProcessSandbox(spares=1) as first, ProcessSandbox(spares=1) as second:
        yield Two(first, second)


def assert_same(first: CellResult, second: CellResult) -> None:
    assert second.diverged is None
    assert second.output == first.output
    assert second.error == first.error
    assert (second.status, second.value, second.running) == (first.status, first.value, first.running)


HELPERS = """
import asyncio, random, time, datetime
async def call(n, name=None):
    r = await tool(n)
    print("got", name or n)
    return r
"""

PROGRAMS: dict[str, Sequence[str]] = {
    "random": (
        "import random, statistics\nprint(random.random(), random.randint(1, 10**9), random.choices(range(99), k=5))",
        "r = random.Random()\nprint(r.random(), r.gauss(0, 1))\nr.seed()\nprint(r.random(), random.Random(5).random())",
        "random.seed(3)\nprint(random.random())\nrandom.seed()\nprint(random.random(), random.sample(range(100), 7))",
        "x = list(range(30))\nrandom.shuffle(x)\nprint(x, statistics.NormalDist().samples(3), random.randbytes(4))",
        "print(statistics.NormalDist.samples(statistics.NormalDist(1, 2), 2), random.Random(None).random())",
    ),
    "sets": (
        "class S(str): pass\nwords = 'the quick brown fox jumps over the lazy dog again and again'.split()",
        "print(set(words), list({w: 1 for w in set(map(S, words))}), {S(w) + '!' for w in words})",
        "print(hash('x'), hash(S('x')), frozenset(words), {b'a', b'b', b'c', b'd'})",
        "import datetime\nprint({datetime.date(2020, 1, d) for d in range(1, 9)})",
    ),
    "clocks": (
        "import time, datetime\nprint(time.time(), time.time_ns(), time.monotonic(), time.perf_counter())",
        "print(time.process_time(), time.localtime(), time.gmtime(), time.ctime(), time.asctime(), time.strftime('%c'))",
        "print(datetime.datetime.now(), datetime.datetime.utcnow(), datetime.datetime.today(), datetime.date.today())",
        "print(datetime.datetime.now(datetime.timezone.utc), datetime.datetime(2020, 1, 1).now())",
    ),
    "waiting by hand": (
        "import time\nend = time.monotonic() + 0.1\nn = 0\nwhile time.monotonic() < end:\n    time.sleep(0.01)\n    n += 1",
        "print(n)",
        "end = time.perf_counter() + 0.2\nn = 0\nwhile time.perf_counter() < end: n += 1\nprint(n)",
    ),
    "gather": (HELPERS, "print(await asyncio.gather(call(0.03), call(0.01), call(0.02)))"),
    "as_completed": (
        HELPERS,
        "for c in asyncio.as_completed([call(0.03), call(0.0), call(0.01), call(0.0)]): print(await c)",
    ),
    "wait_for": (
        HELPERS,
        "try: print(await asyncio.wait_for(call(30), 0.02))\nexcept TimeoutError: print('late')",
        "print(await asyncio.wait_for(call(0.01), 30))",
        "async with asyncio.timeout(30): print(await call(0.01))",
        "async with asyncio.timeout_at(time.monotonic() + 30): print(await call(0.0))",
        "await call(0)",
    ),
    "races": (
        HELPERS,
        "out = []\nfor i in range(20):\n    try: out.append(await asyncio.wait_for(tool(0.005), 0.005))\n"
        "    except TimeoutError: out.append('late')",
        "print(out)",
    ),
    "timers and prints": (
        HELPERS,
        "async def tick(name, seconds):\n    for i in range(4):\n        await asyncio.sleep(seconds)\n        print(name, i)",
        "await asyncio.gather(tick('a', 0.01), tick('b', 0.011), tick('c', 0.009), call(0.015), call(0.025))",
    ),
    "semaphore": (
        HELPERS,
        "gate = asyncio.Semaphore(2)\nasync def one(i):\n    async with gate:\n        print('in', i)\n"
        "        await tool(0.01 * (i % 3))\n        print('out', i)\nawait asyncio.gather(*[one(i) for i in range(9)])",
    ),
    "queue": (
        HELPERS,
        "q = asyncio.Queue()\nasync def work(n):\n    while True:\n        i = await q.get()\n"
        "        print(n, i, await tool(0.002 * i))\n        q.task_done()",
        "for i in range(6): q.put_nowait(i)\nw = [asyncio.create_task(work(n)) for n in 'ab']\nawait q.join()\n"
        "for t in w: t.cancel()",
    ),
    "tasks that outlive a cell": (
        HELPERS,
        "a, b = asyncio.create_task(call(0.05)), asyncio.create_task(call(0.03))\nawait asyncio.sleep(0)",
        "print('between')\nawait asyncio.sleep(0.04)",
        "c = asyncio.create_task(asyncio.sleep(0.02, 'slept'))\nprint(await a, await b)",
        "print(await c)\nd = asyncio.create_task(call(30, 'never'))\nawait asyncio.sleep(0)\n",
        "d.cancel()\ntry: await d\nexcept asyncio.CancelledError: print('cancelled')",
    ),
    "busy loops": (
        HELPERS,
        "t = asyncio.create_task(call(0.02))\nn = 0\nwhile not t.done():\n    n += 1\n    await asyncio.sleep(0)",
        "print(n, await t)",
    ),
    "errors": (
        HELPERS,
        "1 / 0",
        "await fail(0)",
        "print(await asyncio.gather(fail(0.01), call(0.0), fail(0.0), return_exceptions=True))",
        "async def bad():\n    await call(0.0)\n    raise ValueError('x')\n"
        "asyncio.create_task(bad())\nawait asyncio.sleep(0.05)",
        "syntax error",
    ),
    "groups": (
        HELPERS,
        "try:\n    async with asyncio.TaskGroup() as g:\n        g.create_task(call(30))\n        g.create_task(fail(0.01))\n"
        "        g.create_task(call(0.0))\nexcept* ToolError as e:\n    print(e.exceptions)",
        "d, p = await asyncio.wait([asyncio.create_task(call(s)) for s in (30, 0.0, 0.01)], "
        "return_when='FIRST_COMPLETED')\n"
        "print(len(d), len(p))\nfor t in p: t.cancel()",
    ),
    "finish": (HELPERS, "x = await asyncio.gather(call(0.01), call(0.0))", "finish([x, time.time()])"),
    "unawaited": (
        HELPERS,
        "tool(1)\nprint(tool(2))",
        "y = asyncio.create_task(hang(1))\nawait asyncio.sleep(0.01)",
        "y.cancel()",
    ),
}


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=list(PROGRAMS))
async def test_a_replay_does_what_the_record_did(two: Two, program: Sequence[str]) -> None:
    known = await two.record(program)
    results, recorder = await two.replay(known)
    for number, result in enumerate(results):
        assert_same(known.results[number], result)
    assert recorder.called == []
    assert recorder.record(program).entries == known.entries


async def test_time_that_passed_in_the_record_does_not_pass_in_its_replay(two: Two) -> None:
    known = await two.record(
        [HELPERS, "await asyncio.sleep(1)\ntime.sleep(0.5)\nprint(await asyncio.gather(call(0.5), call(1)))"]
    )
    began = time.monotonic()
    recorder = Recorder(tool, known)
    async with ProcessSandbox(spares=1) as sandbox:
        repl = await recorder.open(sandbox, FUNCTIONS, limits=LIMITS)
        began = time.monotonic()
        results = await recorder.run(repl, known.codes)
    assert time.monotonic() - began < 1
    assert_same(known.results[1], results[1])


@pytest.mark.parametrize(
    "code", ["await asyncio.sleep(100)", "time.sleep(100)", "while True: time.monotonic()", "while True: pass"]
)
async def test_a_cell_that_ran_out_of_time_does_so_again(two: Two, code: str) -> None:
    limits = ReplLimits(cell_timeout=0.5)
    known = await two.record(["import asyncio, time", code, "print('after')"], limits=limits)
    assert known.results[1].status == "timeout"
    results, _ = await two.replay(known, limits=limits)
    assert [result.status for result in results] == ["ok", "timeout", "ok"]
    assert [result.diverged for result in results] == [None] * 3


async def test_a_cell_that_ran_out_of_memory_does_so_again(two: Two) -> None:
    known = await two.record(["x = 1", "y = bytes(10**9)", "x"])
    assert known.results[1].status == "memory"
    results, _ = await two.replay(known)
    for number, result in enumerate(results):
        assert_same(known.results[number], result)


async def test_after_a_replay_time_goes_on_from_the_record(two: Two) -> None:
    known = await two.record(
        [HELPERS, "before = time.monotonic()\nt = asyncio.create_task(asyncio.sleep(0.2))\nawait asyncio.sleep(0)"]
    )
    recorder = Recorder(tool, known)
    async with ProcessSandbox(spares=1) as sandbox:
        repl = await recorder.open(sandbox, FUNCTIONS, limits=LIMITS)
        await recorder.run(repl, known.codes)
        live = await repl.run(
            "print(0 <= time.monotonic() - before < 30)\nawait t\nprint(time.monotonic() - before >= 0.2)"
        )
    assert live.output == "True\nTrue\n"


async def test_a_seed_makes_the_randomness(two: Two) -> None:
    code = ["import random\nprint(random.random(), random.Random().random())"]
    first, again, other = [(await two.record(code, seed=seed)).results[0].output for seed in (1, 1, 2)]
    assert first == again != other


async def test_without_recording_randomness_differs_from_repl_to_repl() -> None:
    outputs = set()
    async with ProcessSandbox(spares=1) as sandbox:
        for _ in range(2):
            repl = await sandbox.open(call=tool)
            outputs.add((await repl.run("import random\nrandom.random()")).output)
    assert len(outputs) == 2


DIVERGENCES = {
    "more readings": ("import time\ntime.time()", "import time\ntime.time()\ntime.time()\n", "more often"),
    "fewer readings": ("import time\ntime.time()", "1", "as often as recorded"),
    "another wait": ("import asyncio\nawait asyncio.sleep(0.01)", "await asyncio.gather(tool(0), tool(0))", "waited"),
    "no call": ("await asyncio.gather(tool(0), tool(0))", "print(1)", "as often as recorded"),
    "an unknown call": ("print(1)", "await tool(0)", "does not answer"),
    "a later turn": (
        "await asyncio.gather(tool(0), tool(0.01))",
        "await asyncio.sleep(0)\nawait asyncio.gather(tool(0), tool(0.01))",
        "recorded cell went on|more often|as often as|did not make",
    ),
}


@pytest.mark.parametrize(("recorded", "replayed", "message"), DIVERGENCES.values(), ids=list(DIVERGENCES))
async def test_a_divergence_is_named_and_ends_the_cell(two: Two, recorded: str, replayed: str, message: str) -> None:
    known = await two.record([recorded])
    results, recorder = await two.replay(Record([replayed, "print('alive')"], known.entries))
    assert results[0].diverged is not None
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(results[0].diverged)
    assert recorder.called == []


async def test_a_damaged_log_is_a_divergence() -> None:
    for clock in ([1.0], [5.0, 0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [1e300, 0.0, 0.0]):
        async with ProcessSandbox(spares=1) as sandbox:
            recorder = Recorder(tool)
            repl = await recorder.open(sandbox, FUNCTIONS, limits=LIMITS)
            result = await repl.run("print(1)", Replay(clock=clock))
            assert (result.status, result.output, result.diverged) == ("error", "", "the log of the cell is damaged")


CUT = [
    HELPERS,
    "t = asyncio.create_task(call(0.04, 'first'))\nseen = []\nprint(random.random(), time.time())\nawait asyncio.sleep(0.001)",
    "for c in asyncio.as_completed([call(0.02), call(0.0), call(0.01)]): seen.append(await c)\n"
    "try: await asyncio.wait_for(call(9), 0.01)\nexcept TimeoutError: seen.append('late')\n"
    "for i in range(3): seen.append(await tool(0.0))\nseen.append(await t)\nprint(seen, random.random())",
    "print(sorted(map(str, seen)), random.random())\nfinish(sorted(map(str, seen)))",
]


async def test_a_run_that_was_cut_anywhere_goes_on_to_the_same_end(two: Two) -> None:
    """And no call whose answer is known is made again; the record of the second run is as good as that of one run."""
    known = await two.record(CUT)
    end = known.results[3]
    for length in range(len(known.entries) + 1):
        part = known.cut(length)
        results, recorder = await two.replay(part)
        for number, result in part.results.items():
            assert_same(result, results[number])
        assert (results[3].status, results[3].value, results[3].output) == (end.status, end.value, end.output), length
        assert not set(recorder.called) & set(part.answers)
        whole = recorder.record(CUT)
        again, second = await two.replay(whole)
        for number, result in enumerate(results):
            assert_same(result, again[number])
        assert second.called == []


async def test_calls_in_flight_at_the_cut_are_made_once_the_record_is_used_up(two: Two) -> None:
    """Although the cell sends nothing more before it waits for them."""
    for code in ("await t", "time.time()\nawait t", "await asyncio.sleep(0)\nprint(time.time(), await t)"):
        known = await two.record([HELPERS, "t = asyncio.create_task(hang(1))\nawait asyncio.sleep(0)"])
        recorder = Recorder(answer_hang, known)
        repl = await recorder.open(two.second, FUNCTIONS, limits=LIMITS)
        with anyio.fail_after(PATIENCE):
            results = await recorder.run(repl, [*known.codes, code])
        await repl.aclose()
        assert results[2].status == "ok"
        assert recorder.called == [1]


async def answer_hang(request: HostRequest) -> str:
    return "at last"


async def test_a_call_that_was_given_up_in_the_record_is_not_made_again(two: Two) -> None:
    known = await two.record(
        [
            HELPERS,
            "try: await asyncio.wait_for(hang(1), 0.01)\nexcept TimeoutError: print('late')",
            "print(await tool(0))",
        ]
    )
    for length in range(len(known.entries) + 1):
        part = known.cut(length)
        results, recorder = await two.replay(part)
        assert results[2].output == "0\n"
        if 1 in part.results:
            assert 1 not in recorder.called


async def test_an_interpreter_that_was_restarted_is_so_in_the_replay() -> None:
    recorder = Recorder(tool)
    codes = ["x = 1", "print('new', 'x' in globals())\n1 / 0", "print(2)"]
    async with ProcessSandbox(spares=1) as sandbox:
        repl: Any = await recorder.open(sandbox, FUNCTIONS, limits=LIMITS)
        await recorder.run(repl, codes[:1])
        repl.kill("for the test")
        recorder._cell = 1
        result = await repl.run(codes[1])
    assert result.restarted is not None
    assert result.output == f"{result.restarted}new False\n"
    async with ProcessSandbox(spares=1) as sandbox:
        repl = await recorder.open(sandbox, FUNCTIONS, limits=LIMITS)
        again = await repl.run(codes[1], Replay(restarted=result.restarted))
    assert_same(result, again)
    assert again.restarted == result.restarted


async def test_addresses_are_no_difference() -> None:
    assert same_text("<f at 0x7f12ab>", "<f at 0x7f0000>")
    assert not same_text("<f at 0x7f12ab>", "<g at 0x7f12ab>")


def test_our_sandboxes_record() -> None:
    assert can_record(ProcessSandbox())
    assert not can_record(object())
