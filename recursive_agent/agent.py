"""`Agent`: the configuration, and the ways to run it."""

from __future__ import annotations

import copy
import json
import logging
import math
import operator
import os
import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from contextvars import copy_context
from pathlib import Path
from pickle import PicklingError
from typing import Any, Literal, Self, get_args

import anyio
from anyio.lowlevel import current_token

from ._version import __version__
from .background import Held
from .checkpoint import ActionFormat, CheckpointSettings, PromptStyle
from .errors import ConfigurationError, RaoError, SandboxError, described, documented
from .groups import the_cause
from .limits import Limits, Prices
from .model import attempt_timeout, connect, resolve_endpoint
from .model.base import Model, Sampling
from .model.endpoint import PLACEHOLDER_KEY
from .node import Outcome
from .plain import plain
from .repl import UNSET, InProcessSandbox, ProcessSandbox, Require, Sandbox, Unset, make_sandbox
from .repl.kernel import KERNEL_LAYERS, warning
from .repl.registry import check_sandbox
from .result import Result
from .returns import Returns
from .scoring import Scorer
from .stream import Stream
from .threads import outside_the_loop
from .tools import tool_set
from .trace.recorder import Recorder
from .trace.schema import ROOT
from .trace.store import TraceWriter, trace_path
from .tree import RunConfig, Sink, Tree

_log = logging.getLogger("recursive_agent")
_log_root = logging.getLogger("recursive_agent.root")
_said_root = False
_OPEN_SECONDS = 60.0
"""How long opening them may take at least, before the run's own time begins."""
_CLOSE_SECONDS = 10.0
"""How long closing the sandbox and the connection may take before it is left."""


class Agent:
    """A recursive agent: it writes Python in a sandbox and may launch copies of itself.

        agent = Agent(model="…", base_url="http://localhost:8000/v1", tools=[search])
        result = await agent.solve("…", context={"doc": text}, returns=list[str])

    `model` is a name at an OpenAI-compatible endpoint, or a `Model` object. `model`, `base_url` and `api_key` default to
    RAO_MODEL, OPENAI_BASE_URL and OPENAI_API_KEY. `prices` (per million tokens) are needed for `Limits.max_cost`.
    `context_limit` caps each agent's context window below the model's own. One Agent may run many goals at once.
    `async with agent:` keeps the connection and the sandbox's helper process between runs.

    `sandbox` is a name ("process", "namespaces", "inprocess", or one that an installed package registers), or an open
    `Sandbox` that many agents share. Runs refuse to start, with SandboxError, on a machine whose kernel cannot lock the
    sandbox; `require=None` allows it, and `result.tree.settings["enforced"]` says what held.

    `request_timeout` (seconds) cuts one attempt at an answer; by default it is `limits.timeout`, and never under 600.
    `bare_code=False` takes code only in the form of `action_format`; by default an answer that is Python as a whole is run
    too (with the rich prompt style; a specialist is held to the form it was trained with).

    Raises ConfigurationError for settings that make no sense.
    """

    def __init__(
        self,
        model: str | Model | None = None,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        tools: Iterable[Callable[..., Any]] = (),
        limits: Limits | None = None,
        instructions: str | None = None,
        sampling: Mapping[str, Any] | None = None,
        sandbox: str | Sandbox = "process",
        require: Require | Unset = UNSET,
        trace_dir: str | Path | None = None,
        prices: Mapping[str, float] | Prices | None = None,
        interface: Literal["chat", "tokens"] = "chat",
        prompt_style: PromptStyle | None = None,
        action_format: ActionFormat | None = None,
        bare_code: bool | None = None,
        context_limit: int | None = None,
        request_timeout: float | None = None,
    ) -> None:
        _of_kind("limits", limits, Limits, "Limits(...)")
        _of_kind("instructions", instructions, str, "text")
        _of_kind("trace_dir", trace_dir, str | os.PathLike, "the path of a folder")
        _of_kind("base_url", base_url, str, "text")
        _of_kind("api_key", api_key, str, "text")
        _of_kind("model", model, str | Model, "a name or a Model")
        self.limits = limits or Limits()
        self.tools = tool_set(tools)
        self.instructions = instructions
        self.trace_dir = None if trace_dir is None else Path(trace_dir)
        self.prices = Prices.of(prices)
        _check_prices(self.limits, self.prices)
        settings: CheckpointSettings | None = getattr(model, "settings", None)
        self.prompt_style: PromptStyle = prompt_style or (settings.prompt_style if settings else "rich")
        self.action_format: ActionFormat = action_format or (settings.action_format if settings else "fenced")
        self.bare_code: bool = self.prompt_style == "rich" if bare_code is None else bare_code
        self.context_limit = context_limit
        if context_limit is not None and (not _is_whole(context_limit) or context_limit < 1):
            raise ConfigurationError(f"context_limit must be a whole number of at least 1, not {context_limit!r}")
        self.request_timeout = _seconds("request_timeout", request_timeout)
        if request_timeout is not None and isinstance(model, Model):
            raise ConfigurationError(
                "request_timeout is for an endpoint by name; a Model has its own: connect(timeout=...)"
            )
        _one_of("prompt_style", self.prompt_style, get_args(PromptStyle))
        _one_of("action_format", self.action_format, get_args(ActionFormat))
        _one_of("interface", interface, ("chat", "tokens"))
        if not isinstance(require, Unset):
            _one_of("require", require, (None, "kernel"))
        if isinstance(sandbox, str):
            check_sandbox(sandbox, require)
        elif not isinstance(sandbox, Sandbox):
            raise ConfigurationError(f"sandbox must be the name of a sandbox or a Sandbox, not {sandbox!r}")
        self.sampling = _sampling(model.sampling if isinstance(model, Model) else Sampling(), sampling)
        self._sandbox: str | Sandbox = sandbox
        self._require: Require | Unset = require
        self._given_model: Model | None = None
        self._secrets: tuple[str, ...] = ()
        if model is None or isinstance(model, str):
            self._endpoint = resolve_endpoint(model, base_url, api_key)
            self._interface: Literal["chat", "tokens"] = interface
            key = self._endpoint.api_key
        else:
            self._given_model = model
            key = getattr(getattr(model, "endpoint", None), "api_key", PLACEHOLDER_KEY)
        # The placeholder of endpoints without a key is no secret, and redacting it would harm the trace.
        self._secrets = () if key == PLACEHOLDER_KEY else (key,)
        if (password := getattr(getattr(self, "_endpoint", None), "password", None)) is not None:
            self._secrets = (*self._secrets, password)
        self._held: Held[tuple[Model, Sandbox]] | None = None
        self._holds = False
        """Whether what is held was opened here (and not by the agent that this one is a variant of)."""

    @property
    def model_name(self) -> str:
        """The model's name."""
        return self._endpoint.model if self._given_model is None else self._given_model.name

    def variant(
        self,
        *,
        tools: Iterable[Callable[..., Any]] | None = None,
        limits: Limits | None = None,
        instructions: str | None = None,
        sampling: Mapping[str, Any] | None = None,
    ) -> Agent:
        """This agent with other settings (`sampling` on top of its own); what is not given stays.

        It uses the connection and the sandbox that this agent keeps, while this one is open. Raises ConfigurationError.
        """
        other = copy.copy(self)
        if tools is not None:
            other.tools = tool_set(tools)
        if limits is not None:
            _of_kind("limits", limits, Limits, "Limits(...)")
            _check_prices(limits, self.prices)
            other.limits = limits
        _of_kind("instructions", instructions, str, "text")
        if instructions is not None:
            other.instructions = instructions
        other.sampling = _sampling(self.sampling, sampling)
        return other

    async def solve(
        self,
        goal: str,
        *,
        context: Any = None,
        returns: Any = None,
        seed: int | None = None,
        score: Scorer | None = None,
        group: str | None = None,
    ) -> Result:
        """Run one goal to its end.

        `context` is data for the agent's REPL, never prompt text. `returns` is a type, a pydantic model or a JSON schema
        that the result must fit. `score` (sync or async, `node -> float | None`) puts a success in [0, 1] on every node,
        and `group` ties attempts at one task together, so that the run can be trained on. The same `seed` asks the model
        for the same samples.

        What the agent does is a status on the result. Raises ConfigurationError for settings that make no sense,
        TraceError where the trace cannot be begun, SandboxError when there is no sandbox to be had, ModelError when the
        endpoint fails, RunFailed for whatever else ends the run; all of them RaoErrors, whose `.result` is the run as far
        as it came. A trace that can no longer be written does not end a run: see `result.trace_error`.
        """
        return await self._solve(goal, context=context, returns=returns, seed=seed, score=score, group=group)

    def solve_sync(self, goal: str, **arguments: Any) -> Result:
        """`solve` for programs without an event loop; takes the same arguments."""

        try:
            current_token()
        except RuntimeError:
            pass
        else:
            raise ConfigurationError(
                "solve_sync starts an event loop of its own, and one is running here already (in a notebook always): write "
                "`result = await agent.solve(...)`"
            )

        async def run() -> Result:
            return await self.solve(goal, **arguments)

        def start() -> Result:
            outside_the_loop()  # a thread started from a loop has its context, and no loop
            return anyio.run(run)

        return copy_context().run(start)

    def stream(self, goal: str, **arguments: Any) -> Stream:
        """Run one goal and watch: `async for event in agent.stream(goal)`; takes the arguments of `solve`.

        Leaving the loop stops the run. `stream.result` is there after the last event. Use `async with` around it to wait
        until a run that was left has really stopped.
        """

        async def run(sink: Sink) -> Result:
            return await self._solve(goal, sink=sink, **arguments)

        return Stream(run)

    async def __aenter__(self) -> Self:
        if self._holds and self._held is not None and not self._held.is_gone:
            raise ConfigurationError("this Agent is already open; one `async with` at a time")
        held = self._held = Held(self._open)
        self._holds = True
        try:
            await held.opened()
        except BaseException:
            if self._held is held:
                self._held, self._holds = None, False
            raise
        return self

    async def __aexit__(self, *exc: Any) -> None:
        held = self._held if self._holds else None
        if held is not None and not held.is_gone and not held.is_here:
            raise ConfigurationError(
                "this Agent was opened in another event loop, which still runs: leave `async with agent` there"
            )
        self._held, self._holds = None, False
        if held is not None:
            await held.aclose()

    @property
    def _kept(self) -> tuple[Model, Sandbox] | None:
        """What is held open in this event loop."""
        return None if self._held is None else self._held.value

    def __copy__(self) -> Agent:
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__, _holds=False)
        return other

    def __deepcopy__(self, memo: Any) -> Agent:
        return self.variant()  # its parts never change, and connections cannot be copied

    def __getstate__(self) -> dict[str, Any]:
        """What another process needs to have this agent: its settings and tools, no connection and no sandbox."""
        if not isinstance(self._sandbox, str):
            raise PicklingError("an Agent with an open sandbox cannot be pickled: give the sandbox by its name")
        return {**self.__dict__, "_held": None, "_holds": False}

    async def _open(self, stack: AsyncExitStack) -> tuple[Model, Sandbox]:
        if isinstance(self._sandbox, str):
            sandbox = await stack.enter_async_context(make_sandbox(self._sandbox, require=self._require))
            _warn_of(sandbox)
        else:
            sandbox = self._sandbox
            if self._require == "kernel" and (missing := KERNEL_LAYERS - sandbox.enforced):
                raise SandboxError(f"the sandbox given to this Agent does not enforce {', '.join(sorted(missing))}")
        if self._given_model is not None:
            return self._given_model, sandbox
        limit = self.limits.timeout  # of the whole run, which ends a call that waits as well
        model = connect(
            self._endpoint,
            interface=self._interface,
            sampling=self.sampling,
            timeout=self.request_timeout or attempt_timeout(limit),
            patience=900.0 if limit is None else None,
        )
        stack.push_async_callback(model.aclose)
        return model, sandbox

    async def _solve(
        self,
        goal: str,
        *,
        context: Any = None,
        returns: Any = None,
        seed: int | None = None,
        score: Scorer | None = None,
        group: str | None = None,
        sink: Sink | None = None,
    ) -> Result:
        if not isinstance(goal, str) or not goal.strip():
            raise ConfigurationError(f"goal must be a text that says what to do, not {goal!r}")
        _of_kind("group", group, str, "text")
        try:
            seed = None if seed is None else operator.index(seed)
        except TypeError:
            raise ConfigurationError(f"seed must be a whole number, not {seed!r:.80}") from None
        if score is not None and not callable(score):
            raise ConfigurationError(f"score must be a function of a node, not {score!r:.80}")
        wanted = Returns(returns)
        try:
            context = plain(context, strict=True)
        except (ValueError, RecursionError) as error:
            raise ConfigurationError(f"context must be plain data: {error}") from None
        tree: Tree | None = None
        outcome: Outcome | None = None
        path: Path | None = None
        failure: RaoError | None = None
        try:
            # Around the run lies the time to open what it needs, and to close it; in between, the tree has its own.
            with anyio.CancelScope() as scope:
                async with AsyncExitStack() as stack:
                    scope.deadline = anyio.current_time() + max(_OPEN_SECONDS, self.limits.timeout or math.inf)
                    model, sandbox = self._kept or await self._open(stack)
                    scope.deadline = math.inf
                    run = uuid.uuid4().hex[:12]
                    recorder = None
                    if self.trace_dir is not None:
                        path = trace_path(self.trace_dir, run)
                        most = self.limits.max_trace_mb * 1024**2
                        recorder = Recorder(TraceWriter(path, secrets=self._secrets, max_bytes=most))
                        stack.callback(recorder.release)
                    tree = Tree(
                        self._config(model),
                        sandbox,
                        run=run,
                        seed=seed,
                        group=group,
                        settings=self._settings(sandbox),
                        sinks=() if sink is None else (sink,),
                        recorder=recorder,
                    )
                    outcome = await tree.solve(goal, context, wanted, score)
                    scope.deadline = anyio.current_time() + _CLOSE_SECONDS
            if scope.cancelled_caught and tree is None:
                raise SandboxError("the sandbox and the connection were not open in time; is this machine overloaded?")
        except Exception as error:
            # Once the run has ended, what fails while its sandbox and connection are closed takes nothing from it.
            failure = None if outcome is not None else _documented(error, opening=tree is None)
        if tree is None or ROOT not in tree.record.nodes:
            assert failure is not None
            raise failure
        failure = tree.failure or failure
        if outcome is None:
            outcome = Outcome(tree.record.status, reason=tree.record.root.reason)
        result = Result(outcome.status, tree.record, outcome.reason, path, tree.trace_error, outcome.output)
        if failure is not None:
            failure.result = result
            raise failure
        return result

    def _config(self, model: Model) -> RunConfig:
        return RunConfig(
            model=model,
            tools=self.tools,
            limits=self.limits,
            prices=self.prices,
            sampling=self.sampling,
            instructions=self.instructions,
            prompt_style=self.prompt_style,
            action_format=self.action_format,
            bare_code=self.bare_code,
            context_limit=self.context_limit,
        )

    def _settings(self, sandbox: Sandbox) -> dict[str, Any]:
        return {
            "version": __version__,
            "prompt_style": self.prompt_style,
            "action_format": self.action_format,
            "bare_code": self.bare_code,
            "context_limit": self.context_limit,
            "temperature": self.sampling.temperature,
            "top_p": self.sampling.top_p,
            "max_tokens": self.sampling.max_tokens,
            "stop": list(self.sampling.stop),
            "tools": list(self.tools),
            "sandbox": type(sandbox).__name__,
            "enforced": sorted(sandbox.enforced),
            "as_root": os.geteuid() == 0,
        }


def _warn_of(sandbox: Sandbox) -> None:
    """Log what the user should know of the sandbox that was just entered."""
    global _said_root
    missing = KERNEL_LAYERS - sandbox.enforced
    if missing and not isinstance(sandbox, InProcessSandbox | ProcessSandbox):  # they warn by themselves
        _log.warning("%s", warning(missing))
    if os.geteuid() == 0 and not _said_root:
        _said_root = True
        _log_root.warning(
            "running as root: agents' code runs as nobody, but this process has all rights; use an ordinary user"
        )


def _documented(error: Exception, *, opening: bool) -> RaoError:
    if isinstance(error, BaseExceptionGroup):
        cause = the_cause(error)
        error = cause if isinstance(cause, Exception) else error
    if (
        opening and isinstance(error, OSError) and not isinstance(error, RaoError)
    ):  # no process, no descriptor to be had
        failed = SandboxError(f"the sandbox or the connection cannot be opened ({described(error)})")
        failed.__cause__ = error
        return failed
    return documented(error)


def _check_prices(limits: Limits, prices: Prices | None) -> None:
    if limits.max_cost is not None and prices is None:
        raise ConfigurationError("Limits.max_cost needs prices={'prompt': …, 'completion': …} (per million tokens)")


def _sampling(own: Sampling, given: Mapping[str, Any] | None) -> Sampling:
    try:
        sampling = own.updated(given)
        json.dumps(sampling.extra)  # goes into every request
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"sampling: {error}") from error
    return sampling


def _seconds(name: str, value: float | None) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        raise ConfigurationError(f"{name} must be a number of seconds above 0, not {value!r}")
    return float(value)


def _of_kind(name: str, value: Any, kind: Any, meant: str) -> None:
    if value is not None and not isinstance(value, kind):
        raise ConfigurationError(f"{name} must be {meant}, not {value!r:.80}")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _one_of(name: str, value: Any, choices: Iterable[Any]) -> None:
    if value not in (known := tuple(choices)):
        raise ConfigurationError(f"{name} must be one of {', '.join(map(repr, known))}, not {value!r}")
