"""`Agent`: the configuration, and the ways to run it."""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from contextvars import copy_context
from pathlib import Path
from pickle import PicklingError
from typing import Any, Literal, Self, Unpack, get_args

import anyio
from anyio.lowlevel import current_token

from .background import Held
from .checkpoint import ActionFormat, PromptStyle
from .checks import check_prices, is_whole, of_kind, one_of, sampling_over, seconds
from .errors import ConfigurationError, SandboxError
from .goal import Goal, SolveOptions, check_names, lists_options, read_options
from .limits import Limits, Prices
from .model import attempt_timeout, connect, resolve_endpoint
from .model.base import Keyed, Model, Sampling, Trained
from .repl import UNSET, InProcessSandbox, ProcessSandbox, Require, Sandbox, Unset, make_sandbox
from .repl.kernel import KERNEL_LAYERS, warning
from .repl.registry import check_sandbox
from .result import Result
from .run import run_goal
from .stream import Stream
from .threads import outside_the_loop
from .tools import tool_set
from .tree import RunConfig, Sink

_log = logging.getLogger("recursive_agent")
_log_root = logging.getLogger("recursive_agent.root")
_said_root = False


class Agent:
    """A recursive agent: it writes Python in a sandbox and may launch copies of itself.

        agent = Agent(model="…", base_url="http://localhost:8000/v1", tools=[search])
        result = await agent.solve("…", context={"doc": text}, returns=list[str])

    `model` is a name at an OpenAI-compatible endpoint, or a `Model` object. `model`, `base_url` and `api_key` default to
    RAO_MODEL, OPENAI_BASE_URL and OPENAI_API_KEY. `prices` (per million tokens) are needed for `Limits.max_cost`.
    `context_limit` (tokens) makes each agent's context window smaller than the model's. One Agent may run many goals at
    the same time. Use `async with agent:` to keep the connection and the sandbox's helper process open between runs.

    `sandbox` is a name ("process", "namespaces", "inprocess", or one that an installed package registers), or an open
    `Sandbox` that many agents share. If the machine's kernel cannot isolate the agents' code, a run raises SandboxError;
    pass `require=None` to run anyway. `result.tree.settings["enforced"]` lists the protections that were active.

    `request_timeout` (seconds) limits each request to the endpoint; the default is `limits.timeout`, but at least 600.

    The default `prompt_style`, "rich", opens each conversation with worked examples: a prefix of some 900 tokens that endpoints
    can cache, left out where the window or the budget is known to be below 8,192 tokens. It adds what code lacks beyond doubt
    (an `await` before a call of a tool, the import of a well-known module, brackets at the end) and tells the agent. "minimal"
    is for models that were trained with it.

    By default, with the rich style, an answer that contains only Python code is run even if it is not in the form of
    `action_format`; `bare_code=False` rejects it. A model trained for one format must always use that format.

    Raises ConfigurationError for invalid settings.
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
        of_kind("limits", limits, Limits, "Limits(...)")
        of_kind("instructions", instructions, str, "text")
        of_kind("trace_dir", trace_dir, str | os.PathLike, "the path of a folder")
        of_kind("base_url", base_url, str, "text")
        of_kind("api_key", api_key, str, "text")
        of_kind("model", model, str | Model, "a name or a Model")
        self.limits = limits or Limits()
        self.tools = tool_set(tools)
        self.instructions = instructions
        self.trace_dir = None if trace_dir is None else Path(trace_dir)
        self.prices = Prices.of(prices)
        check_prices(self.limits, self.prices)
        settings = model.settings if isinstance(model, Trained) else None
        self.prompt_style: PromptStyle = prompt_style or (settings.prompt_style if settings else "rich")
        self.action_format: ActionFormat = action_format or (settings.action_format if settings else "fenced")
        self.bare_code: bool = self.prompt_style == "rich" if bare_code is None else bare_code
        self.context_limit = context_limit
        if context_limit is not None and (not is_whole(context_limit) or context_limit < 1):
            raise ConfigurationError(f"context_limit must be a whole number of at least 1, not {context_limit!r}")
        self.request_timeout = seconds("request_timeout", request_timeout)
        if request_timeout is not None and isinstance(model, Model):
            raise ConfigurationError(
                "request_timeout works only with a model name; for a Model object, pass connect(timeout=...)"
            )
        one_of("prompt_style", self.prompt_style, get_args(PromptStyle))
        one_of("action_format", self.action_format, get_args(ActionFormat))
        one_of("interface", interface, ("chat", "tokens"))
        if not isinstance(require, Unset):
            one_of("require", require, (None, "kernel"))
        if isinstance(sandbox, str):
            check_sandbox(sandbox, require)
        elif not isinstance(sandbox, Sandbox):
            raise ConfigurationError(f"sandbox must be the name of a sandbox or a Sandbox, not {sandbox!r}")
        self.sampling = sampling_over(model.sampling if isinstance(model, Model) else Sampling(), sampling)
        self._sandbox: str | Sandbox = sandbox
        self._require: Require | Unset = require
        self._model_object: Model | None = None
        if model is None or isinstance(model, str):
            self._endpoint = resolve_endpoint(model, base_url, api_key)
            self._interface: Literal["chat", "tokens"] = interface
            self._secrets = self._endpoint.secrets
        else:
            self._model_object = model
            self._secrets = model.secrets if isinstance(model, Keyed) else ()
        self._held: Held[tuple[Model, Sandbox]] | None = None
        self._holds = False
        """Whether this agent opened `_held` (and not the agent that this one is a variant of)."""

    @property
    def model_name(self) -> str:
        """The model's name."""
        return self._endpoint.model if self._model_object is None else self._model_object.name

    def variant(
        self,
        *,
        tools: Iterable[Callable[..., Any]] | None = None,
        limits: Limits | None = None,
        instructions: str | None = None,
        sampling: Mapping[str, Any] | None = None,
    ) -> Agent:
        """A copy of this agent with the settings passed here; `sampling` is merged into the agent's own.

        While this agent is open (`async with`), the copy shares its connection and sandbox. Raises ConfigurationError.
        """
        other = copy.copy(self)
        if tools is not None:
            other.tools = tool_set(tools)
        if limits is not None:
            of_kind("limits", limits, Limits, "Limits(...)")
            check_prices(limits, self.prices)
            other.limits = limits
        of_kind("instructions", instructions, str, "text")
        if instructions is not None:
            other.instructions = instructions
        other.sampling = sampling_over(self.sampling, sampling)
        return other

    @lists_options
    async def solve(self, goal: str, **options: Unpack[SolveOptions]) -> Result:
        """Run one goal to its end.

        `context` becomes a variable in the agent's REPL, not part of the prompt. `returns` is a type, a pydantic model or a
        JSON schema that the result must fit. To train on the run later, pass `score`, a sync or async function `node -> float
        | None` that scores every node in [0, 1], and `group`, a name shared by all attempts at one task. With the same
        `seed`, the model is asked for the same samples.

        If an agent fails or hits a limit, `solve` still returns: check `result.status`. It raises ConfigurationError for
        invalid settings, TraceError if the trace file cannot be created, SandboxError if the sandbox cannot start,
        ModelError if the endpoint fails, and RunFailed for any other exception that ends the run. All of them are RaoErrors,
        and their `.result` contains the run up to that point. If the trace file cannot be written later, the run goes on:
        see `result.trace_error`.
        """
        return await self._solve(read_options(goal, options))

    @lists_options
    def solve_sync(self, goal: str, **options: Unpack[SolveOptions]) -> Result:
        """`solve` for programs without an event loop; takes the same options."""
        try:
            current_token()
        except RuntimeError:
            pass
        else:
            raise ConfigurationError(
                "solve_sync cannot run where an event loop is already running (a notebook, for example): write "
                "`result = await agent.solve(...)`"
            )

        async def run() -> Result:
            return await self.solve(goal, **options)

        def start() -> Result:
            outside_the_loop()  # a thread started from a loop has its context, and no loop
            return anyio.run(run)

        return copy_context().run(start)

    @lists_options
    def stream(self, goal: str, **options: Unpack[SolveOptions]) -> Stream:
        """Run one goal and receive its events: `async for event in agent.stream(goal)`; takes the options of `solve`.

        If you leave the loop early, the run is stopped. Read `stream.result` after the last event. Use `async with` around
        the stream to wait until a stopped run has ended.
        """
        check_names(options)

        async def run(sink: Sink) -> Result:
            return await self._solve(read_options(goal, options), sink)

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
        if self._model_object is not None:
            return self._model_object, sandbox
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

    async def _solve(self, goal: Goal, sink: Sink | None = None) -> Result:
        return await run_goal(
            goal,
            self._ready,
            limits=self.limits,
            trace_dir=self.trace_dir,
            secrets=self._secrets,
            sinks=() if sink is None else (sink,),
        )

    async def _ready(self, stack: AsyncExitStack) -> tuple[RunConfig, Sandbox]:
        """What a run needs: kept open by this agent, or opened for the run."""
        model, sandbox = self._kept or await self._open(stack)
        return self._config(model), sandbox

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
