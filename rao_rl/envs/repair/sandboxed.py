"""Runs functions that agents wrote, each time in a fresh sandbox, with limits on steps, time and memory.

What comes back is data: the form of each result, which the host compares with the reference's. The results of the reference
never enter the sandbox.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

from recursive_agent.errors import ConfigurationError
from recursive_agent.repl import CellStatus, HostRequest, ProcessSandbox, ReplLimits, Sandbox, make_sandbox
from recursive_agent.repl.registry import UNSET, Require, Unset, check_sandbox
from recursive_agent.repl.worker.parsing import parse

from .trusted import counted, quiet
from .values import FORM

MOST_SOURCE = 4_000
"""Characters of one function."""
_STEPS = 20_000
"""Calls and rounds of loops of one case. Counted, not timed: on a slow machine the same function passes."""
_LIMITS = ReplLimits(cell_timeout=5.0, memory_mb=128, output_chars=200)
_MOST_TIMEOUTS = 3
"""Jobs of one call that may run into the time limit; those after it are not run."""
_MOST_ERROR = 120
_DRIVER = (
    FORM
    + f"""
import copy
steps = [0]
def spend():
    steps[0] += 1
    if steps[0] > {_STEPS}:
        raise TimeoutError("it took too many steps")
"""
)
_CALLS = """
outcomes = []
for arguments in context[{index}]:
    steps[0] = 0
    try:
        outcomes.append([True, form_of({name}(*copy.deepcopy(arguments)))])
    except Exception as error:
        outcomes.append([False, (type(error).__name__ + ": " + str(error))[:{most}]])
finish(outcomes)
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one call gave: the form of its result, or the error in words."""

    form: Any = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """Calls of one function of a program; each job runs in a cell of its own."""

    sources: Mapping[str, str]
    name: str
    calls: Sequence[list[Any]]

    def key(self) -> str:
        """The same for jobs that do the same."""
        held = (sorted(needed(self.sources, self.name).items()), self.name, list(self.calls))
        return hashlib.sha256(repr(held).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Workshop:
    """Where functions of agents run. `sandbox` is a name, for which one is started each time, or a sandbox that is open;
    `require` as for `make_sandbox`."""

    sandbox: str | Sandbox = "process"
    require: Literal["kernel", "none"] | None = None

    def __post_init__(self) -> None:
        if self.require not in (None, "kernel", "none"):
            raise ConfigurationError(f"repair: require must be kernel or none, not {self.require!r}")
        if isinstance(self.sandbox, str):
            check_sandbox(self.sandbox, self._required())

    async def run(self, jobs: Sequence[Job]) -> list[list[Outcome]]:
        """The outcomes of all calls of each job. Raises SandboxError where the sandbox cannot be started."""
        found: list[list[Outcome]] = []
        timeouts = 0
        async with self._fresh() as sandbox:
            repl = await sandbox.open(
                call=_refuse, context=[list(job.calls) for job in jobs], launcher=False, limits=_LIMITS
            )
            try:
                for index, job in enumerate(jobs):
                    if timeouts >= _MOST_TIMEOUTS:
                        found.append([Outcome(error="not run: functions before it took too long")] * len(job.calls))
                        continue
                    try:
                        code = _program(job, index)
                    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
                        found.append(
                            [Outcome(error=f"{type(error).__name__}: it is not valid Python")] * len(job.calls)
                        )
                        continue
                    result = await repl.run(code)
                    timeouts += result.status in (CellStatus.TIMEOUT, CellStatus.MEMORY, CellStatus.KILLED)
                    found.append(_outcomes(result.status, result.value, result.error, len(job.calls)))
            finally:
                await repl.aclose()
        return found

    def _fresh(self) -> AbstractAsyncContextManager[Sandbox]:
        required = self._required()
        if not isinstance(self.sandbox, str):
            return nullcontext(self.sandbox)
        if self.sandbox == "process":  # one worker is used, so none is started in advance
            return (
                ProcessSandbox(spares=0) if isinstance(required, Unset) else ProcessSandbox(require=required, spares=0)
            )
        return make_sandbox(self.sandbox, require=required)

    def _required(self) -> Require | Unset:
        if self.require is None:
            return UNSET
        return "kernel" if self.require == "kernel" else None


def problem_of(name: str, source: object, parameters: Iterable[str]) -> str | None:
    """Why a source cannot stand for the function: it must be this one function, with the same parameters, and not long."""
    if not isinstance(source, str) or len(source) > MOST_SOURCE:
        return f"the source must be a text of at most {MOST_SOURCE:,} characters"
    try:
        with quiet():
            body = parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return f"the source is not valid Python ({type(error).__name__})"
    wanted = ", ".join(parameters)
    if len(body) != 1 or not isinstance(body[0], ast.FunctionDef) or body[0].decorator_list:
        return f"the source must be one function and nothing else: def {name}({wanted})"
    taken = body[0].args
    plain = not (taken.posonlyargs or taken.kwonlyargs or taken.vararg or taken.kwarg)
    if body[0].name != name or not plain or ", ".join(one.arg for one in taken.args) != wanted:
        return f"the function must be called {name} and take ({wanted})"
    return None


def needed(sources: Mapping[str, str], name: str) -> dict[str, str]:
    """The function and all that it names, directly or not, in the order of the repository."""
    seen: set[str] = set()
    todo = [name]
    while todo:
        if (one := todo.pop()) not in seen:
            seen.add(one)
            todo += [word for word in re.findall(r"\w+", sources[one]) if word in sources]
    return {one: source for one, source in sources.items() if one in seen}


def _program(job: Job, index: int) -> str:
    sources = needed(job.sources, job.name)
    parts = [ast.unparse(counted(source)) for source in sources.values()]
    return "\n".join([_DRIVER, *parts, _CALLS.format(index=index, name=job.name, most=_MOST_ERROR)])


def _outcomes(status: CellStatus, value: Any, error: str | None, count: int) -> list[Outcome]:
    """What a cell handed over. Agents' code runs in it: nothing about the value is certain."""
    if status is not CellStatus.FINISHED:
        words = {CellStatus.TIMEOUT: "it took too long", CellStatus.KILLED: "it took too long or too much memory"}
        last = (error or "").strip().splitlines()[-1:] or ["it failed"]
        return [Outcome(error=words.get(status, last[0][:_MOST_ERROR]))] * count
    if not isinstance(value, list) or len(value) != count:
        return [Outcome(error="it ended the run of its tests")] * count
    return [
        (Outcome(form=pair[1]) if pair[0] is True else Outcome(error=str(pair[1])[:_MOST_ERROR]))
        if isinstance(pair, list) and len(pair) == 2
        else Outcome(error="it changed the run of its tests")
        for pair in value
    ]


async def _refuse(request: HostRequest) -> Any:
    raise RuntimeError("functions under test may not call the host")
