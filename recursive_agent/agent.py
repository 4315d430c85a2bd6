"""`Agent`: the configuration, and the ways to run it."""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from contextvars import copy_context
from dataclasses import replace
from functools import partial
from pathlib import Path
from pickle import PicklingError
from typing import Any, Literal, Self, Unpack, get_args

import anyio
from anyio.lowlevel import current_token

from .approval import Approve, Approver, approve_for, check_approved
from .background import Held
from .checks import check_prices, is_whole, of_kind, one_of, sampling_over, seconds
from .compaction import Compaction
from .errors import ConfigurationError, SandboxError
from .goal import Goal, SolveOptions, check_names, lists_options, read_options
from .limits import Limits, Prices
from .mcp.server import MCPServer
from .mcp.servers import Connected, split_tools
from .model import preload, resolve_endpoints
from .model.base import Keyed, Model, Sampling, Trained
from .model_choice import (
    Defaults,
    ModelChoice,
    OtherModel,
    at_endpoint,
    check_all_prices,
    check_base_url,
    check_choice,
    read_models,
    read_rule,
    resolve,
    secrets_of,
)
from .repl import UNSET, InProcessSandbox, ProcessSandbox, Require, Sandbox, Unset, make_sandbox
from .repl.kernel import KERNEL_LAYERS, warning
from .repl.registry import check_sandbox
from .result import Result
from .resume import Continuation, Edit, Trace
from .resumption import Diverged
from .run import run_goal
from .run_config import Rule, RunConfig
from .scoring import Scorer
from .steering import Steering
from .stream import Stream
from .styles import ActionFormat, PromptStyle
from .threads import call_in_thread, outside_the_loop
from .tools import tool_set
from .trace.events import events_of
from .trace.node import LAUNCH
from .trace.observer import Observer
from .tree import Sink

_Opened = tuple[Model, Sandbox, Mapping[str, Model], Connected]
"""The agent's own model, the sandbox, the other models by name, and the MCP servers."""
_log = logging.getLogger("recursive_agent")
_log_root = logging.getLogger("recursive_agent.root")
_said_root = False


class Agent:
    """A recursive agent: it writes Python in a sandbox and may launch copies of itself.

        agent = Agent(model="…", base_url="http://localhost:8000/v1", tools=[search])
        result = await agent.solve("…", context={"doc": text}, returns=list[str])

    `model` is a name at an OpenAI-compatible endpoint, or a `Model` object. `model`, `base_url` and `api_key` default to
    RAO_MODEL, OPENAI_BASE_URL and OPENAI_API_KEY. `base_url` may be a list of endpoints that serve the same model: see
    `PoolModel` for how calls are spread over them. `prices` (per million tokens) are needed for `Limits.max_cost`.
    `context_limit` (tokens) makes each agent's context window smaller than the model's. One Agent may run many goals at
    the same time. Use `async with agent:` to keep the connection and the sandbox's helper process open between runs.

    `sandbox` is a name ("process", "namespaces", "inprocess", or one that an installed package registers), or an open
    `Sandbox` that many agents share. If the machine's kernel cannot isolate the agents' code, a run raises SandboxError;
    pass `require=None` to run anyway. `result.tree.settings["enforced"]` lists the protections that were active.

    `request_timeout` (seconds) limits each request to the endpoint; the default is `limits.timeout`, but at least 600.

    With `compact` (a share of the context window, such as 0.8, or a `Compaction`), an agent whose conversation fills the window
    is asked for a summary of it, and goes on with the summary; without it, such an agent ends with CONTEXT_OVERFLOW.

    The default `prompt_style`, "rich", opens each conversation with worked examples: a prefix of some 900 tokens that endpoints
    can cache, left out where the window or the budget is known to be below 8,192 tokens. It adds what code lacks beyond doubt
    (an `await` before a call of a tool, the import of a well-known module, brackets at the end) and tells the agent. "minimal"
    is for models that were trained with it.

    `approve` is asked before tools and launches run: a sync or async function `call -> bool | str | Approval` for all of them,
    or `Approve(function, tools=[...], launches=True)` for some. See `PendingCall` and `Approval`.

    By default, with the rich style, an answer that contains only Python code is run even if it is not in the form of
    `action_format`; `bare_code=False` rejects it. A model trained for one format must always use that format.

    `models` are further models by name: a name at the same endpoint, a `Model`, or a `ModelChoice` with an endpoint, prices
    and settings of its own. `model` may be one of these names. By default a parent chooses the model of a sub-agent
    (`launch_subagent(..., model="fast")`) among those that its prompt lists, and a sub-agent has its parent's model if the
    parent names none. `choose` decides instead: a mapping of depths to names, or a function `LaunchInfo -> name | None`
    (None: as without it). The agent's own model is known by its name in `models`, or else by `model_name`.

    With `share_identical`, agents that launch the same goal with the same inputs share one sub-agent and its result. Leave it
    off if attempts at one goal must differ (voting, best of N), or if you train on the runs.

    `observers` watch each run while it goes on: `OpenTelemetry()` sends it to a collector.

    `tools` are functions, sync or async, and MCP servers (`MCPServer.stdio(...)`, `MCPServer.http(...)`), whose tools the
    agents call like functions.

    Raises ConfigurationError for invalid settings.
    """

    def __init__(
        self,
        model: str | Model | None = None,
        base_url: str | Sequence[str] | None = None,
        api_key: str | None = None,
        *,
        tools: Iterable[Callable[..., Any] | MCPServer] = (),
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
        compact: Compaction | float | None = None,
        approve: Approve | Approver | None = None,
        request_timeout: float | None = None,
        models: Mapping[str, str | Model | ModelChoice] | None = None,
        choose: Mapping[int, str] | Rule | None = None,
        share_identical: bool = False,
        observers: Iterable[Observer] = (),
    ) -> None:
        defaults = Defaults(
            base_url=base_url,
            api_key=api_key,
            interface=interface,
            prompt_style=prompt_style,
            action_format=action_format,
            bare_code=bare_code,
            context_limit=context_limit,
        )
        named = read_models(models)
        self._own = own = named.pop(model, None) if isinstance(model, str) else None
        name = model if own is not None and isinstance(model, str) else None
        if own is not None:  # the agent's own model is one of the named ones, whose settings go first
            check_choice(f"models[{name!r}]", own)
            if own.base_url is not None and own.base_url != base_url:
                api_key = own.api_key  # a key is sent to its own endpoint only
            model, base_url, api_key = own.model, own.base_url or base_url, own.api_key or api_key
            prices = prices if own.prices is None else own.prices
            interface, prompt_style = own.interface or interface, own.prompt_style or prompt_style
            action_format = own.action_format or action_format
            bare_code = bare_code if own.bare_code is None else own.bare_code
            context_limit = context_limit if own.context_limit is None else own.context_limit
        of_kind("limits", limits, Limits, "Limits(...)")
        of_kind("instructions", instructions, str, "text")
        of_kind("trace_dir", trace_dir, str | os.PathLike, "the path of a folder")
        check_base_url("base_url", base_url)
        of_kind("api_key", api_key, str, "text")
        of_kind("model", model, str | Model, "a name or a Model")
        self.limits = limits or Limits()
        functions, self.mcp_servers = split_tools(tools)
        self.tools = tool_set(functions)
        self.instructions = instructions
        self.trace_dir = None if trace_dir is None else Path(trace_dir)
        self.approve = approve_for(approve, self.tools, self.mcp_servers)
        self.observers = _observers(observers)
        self.prices = Prices.of(prices)
        check_prices(self.limits, self.prices)
        settings = model.settings if isinstance(model, Trained) else None
        self.prompt_style: PromptStyle = prompt_style or (settings.prompt_style if settings else "rich")
        self.action_format: ActionFormat = action_format or (settings.action_format if settings else "fenced")
        self.bare_code: bool = self.prompt_style == "rich" if bare_code is None else bare_code
        self.context_limit = context_limit
        if context_limit is not None and (not is_whole(context_limit) or context_limit < 1):
            raise ConfigurationError(f"context_limit must be a whole number of at least 1, not {context_limit!r}")
        self.compact = Compaction.of(compact)
        if self.compact is not None and self.prompt_style == "minimal":
            raise ConfigurationError(
                "compact works only with prompt_style='rich': the minimal style is for models trained with it, which were "
                "never asked for a summary; leave compact out"
            )
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
        if not isinstance(share_identical, bool):
            raise ConfigurationError(f"share_identical must be True or False, not {share_identical!r:.80}")
        self.share_identical = share_identical
        _check_shared(share_identical, self.approve)
        self._changes: Mapping[str, Any] = sampling or {}
        """The caller's `sampling`, which models have that have none of their own."""
        if own is not None and own.sampling is not None:
            sampling = own.sampling
        self.sampling = sampling_over(model.sampling if isinstance(model, Model) else Sampling(), sampling)
        self._sandbox: str | Sandbox = sandbox
        self._require: Require | Unset = require
        self._model_object: Model | None = None
        if model is None or isinstance(model, str):
            self._endpoints = resolve_endpoints(model, base_url, api_key)
            self._interface: Literal["chat", "tokens"] = interface
            self._secrets = secrets_of(self._endpoints)
        else:
            self._model_object = model
            self._secrets = model.secrets if isinstance(model, Keyed) else ()
        self._others: dict[str, OtherModel] = {key: resolve(key, choice, defaults) for key, choice in named.items()}
        self._name: str | None = None
        """The own model's name among those of the run; None where there are no others."""
        if models:
            self._name = name or self.model_name
            if self._name in self._others:
                raise ConfigurationError(
                    f"models[{self._name!r}] has the name of the agent's own model; give it another name, or pass it as "
                    f"model={self._name!r}"
                )
        self._rule = read_rule(choose, [] if self._name is None else [self._name, *self._others])
        check_all_prices(self.limits, self._others)
        self._secrets = (*self._secrets, *(secret for other in self._others.values() for secret in other.secrets))
        self._held: Held[_Opened] | None = None
        self._holds = False
        """Whether this agent opened `_held` (and not the agent that this one is a variant of)."""

    @property
    def model_name(self) -> str:
        """The model's name."""
        return self._endpoints[0].model if self._model_object is None else self._model_object.name

    def variant(
        self,
        *,
        tools: Iterable[Callable[..., Any] | MCPServer] | None = None,
        limits: Limits | None = None,
        instructions: str | None = None,
        sampling: Mapping[str, Any] | None = None,
        approve: Approve | Approver | None = None,
        observers: Iterable[Observer] | None = None,
    ) -> Agent:
        """A copy of this agent with the settings passed here; `sampling` is merged into the agent's own.

        While this agent is open (`async with`), the copy shares its connection and sandbox. Raises ConfigurationError.
        """
        other = copy.copy(self)
        if tools is not None:
            functions, other.mcp_servers = split_tools(tools)
            other.tools = tool_set(functions)
        if tools is not None or approve is not None:
            asked = self.approve if approve is None else approve
            other.approve = approve_for(asked, other.tools, other.mcp_servers)
            _check_shared(other.share_identical, other.approve)
        if limits is not None:
            of_kind("limits", limits, Limits, "Limits(...)")
            check_prices(limits, self.prices)
            check_all_prices(limits, self._others)
            other.limits = limits
        of_kind("instructions", instructions, str, "text")
        if instructions is not None:
            other.instructions = instructions
        if observers is not None:
            other.observers = _observers(observers)
        other.sampling = sampling_over(self.sampling, sampling)
        other._changes = {**self._changes, **(sampling or {})}
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
        ToolServerError if an MCP server cannot be started or reached, ModelError if the endpoint fails, and RunFailed for any
        other exception that ends the run. All of them are RaoErrors, and their `.result` contains the run up to that point.
        If the trace file cannot be written later, the run goes on: see `result.trace_error`.
        """
        return await self._solve(read_options(goal, options))

    @lists_options
    def solve_sync(self, goal: str, **options: Unpack[SolveOptions]) -> Result:
        """`solve` for programs without an event loop; takes the same options."""

        async def run() -> Result:
            return await self.solve(goal, **options)

        return _outside_a_loop(run, "solve")

    @lists_options
    def stream(self, goal: str, **options: Unpack[SolveOptions]) -> Stream:
        """Run one goal and receive its events: `async for event in agent.stream(goal)`; takes the options of `solve`.

        If you leave the loop early, the run is stopped. Read `stream.result` after the last event. Use `async with` around
        the stream to wait until a stopped run has ended.
        """
        check_names(options)

        steering = Steering()

        async def run(sink: Sink) -> Result:
            return await self._solve(read_options(goal, options), sink, steering)

        return Stream(run, steering)

    async def resume(
        self,
        trace: Trace,
        *,
        at: str | None = None,
        step: int | None = None,
        edit: Edit | None = None,
        returns: Any = None,
        score: Scorer | None = None,
        diverged: Diverged = "stop",
    ) -> Result:
        """Go on with a run whose process died, that was cancelled, hit a limit, or failed at its endpoint.

        `trace` is the path of a trace file, a Result or an ExecutionTree. No model call that was recorded is ever sent again,
        and no tool call that was recorded is run again; a call in flight at the kill may be. Each agent that had not ended gets
        its variables back: its cells are run again in a sandbox, against the recorded answers. If they do something else than
        recorded, `diverged` says what to do: "stop" (raises ReplayDiverged), "redo" that agent's steps from there, or "keep" to
        the record. Limits of tokens, cost, agents and steps count what was used before; `limits.timeout` begins anew. A
        trace file is continued in its place; a run that has finished is returned as it is.

        With `at` (an agent) or `step`, a new run is forked from that point instead: agent `at` (the root by default) takes its
        step `step` (its last by default) anew, with the model, limits and tools of this Agent, and what it reads before it
        can be changed by `edit`. Agents that had ended by then keep their results. The new trace goes to `trace_dir` and names
        the old run as its origin.

        `returns` is needed if the output should be of the type that was asked for, which a trace does not hold. Raises what
        `solve` raises, and TraceError if the trace cannot be read.
        """
        continuation = Continuation(trace=trace, at=at, step=step, edit=edit, returns=returns, diverged=diverged)
        return await self._go_on(continuation, score)

    def resume_sync(self, trace: Trace, **options: Any) -> Result:
        """`resume` for programs without an event loop; takes the same options."""

        async def run() -> Result:
            return await self.resume(trace, **options)

        return _outside_a_loop(run, "resume")

    def resume_stream(
        self,
        trace: Trace,
        *,
        at: str | None = None,
        step: int | None = None,
        edit: Edit | None = None,
        returns: Any = None,
        score: Scorer | None = None,
        diverged: Diverged = "stop",
    ) -> Stream:
        """`resume` as a stream of events: what is recorded, then what is new; see `stream`."""
        continuation = Continuation(trace=trace, at=at, step=step, edit=edit, returns=returns, diverged=diverged)

        steering = Steering()

        async def run(sink: Sink) -> Result:
            return await self._go_on(continuation, score, sink, steering)

        return Stream(run, steering)

    async def follow_up(
        self, trace: Trace, question: str, *, returns: Any = None, score: Scorer | None = None
    ) -> Result:
        """Ask the root of a finished run another question: its variables and the results of its sub-agents are still there.

        The trace goes on in its file. `limits` are those of the new question; see also `Result.follow_up`.
        """
        if not isinstance(question, str) or not question.strip():
            raise ConfigurationError(f"question must be a text that says what to do, not {question!r:.80}")
        return await self._go_on(Continuation(trace=trace, question=question, returns=returns), score)

    async def _go_on(
        self,
        continuation: Continuation,
        score: Scorer | None,
        sink: Sink | None = None,
        steering: Steering | None = None,
    ) -> Result:
        done = await call_in_thread(partial(continuation.check, scores=score is not None))
        if done is not None:
            if sink is not None:
                for event in events_of(done.tree, done.tree.run, whole=True):
                    sink(event)
            return done
        goal = read_options("resume", {"score": score})
        return await self._solve(goal, sink, steering, continuation)

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
    def _kept(self) -> _Opened | None:
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

    async def _open(self, stack: AsyncExitStack) -> _Opened:
        sandbox = self._sandbox if isinstance(self._sandbox, Sandbox) else self._launched(self._sandbox, stack)
        run, timeout = self.limits.timeout, self.request_timeout
        model = self._model_object
        if model is None:  # what it takes to import is imported while the sandbox's helper process starts
            model = at_endpoint(self._endpoints, self._interface, self.sampling, timeout=timeout, run=run)
            preload()
        if sandbox is self._sandbox:
            if self._require == "kernel" and (missing := KERNEL_LAYERS - sandbox.enforced):
                raise SandboxError(f"the sandbox given to this Agent does not enforce {', '.join(sorted(missing))}")
        else:
            sandbox = await stack.enter_async_context(sandbox)
            _warn_of(sandbox)
        others = {
            name: other.open(stack, changes=self._changes, timeout=timeout, run=run)
            for name, other in self._others.items()
        }
        servers = Connected()
        await servers.connect(stack, self.mcp_servers)
        if self._model_object is None:
            stack.push_async_callback(model.aclose)
        return model, sandbox, others, servers

    def _launched(self, name: str, stack: AsyncExitStack) -> Sandbox:
        """The sandbox of that name, to be entered, whose helper process is starting. The stack ends that in any case."""
        sandbox = make_sandbox(name, require=self._require)
        if isinstance(sandbox, ProcessSandbox):
            stack.push_async_exit(sandbox)
            sandbox.launch()
        return sandbox

    async def _solve(
        self,
        goal: Goal,
        sink: Sink | None = None,
        steering: Steering | None = None,
        continuation: Continuation | None = None,
    ) -> Result:
        result = await run_goal(
            goal,
            self._ready,
            limits=self.limits,
            trace_dir=self.trace_dir,
            secrets=(*self._secrets, *(secret for server in self.mcp_servers for secret in server.secrets)),
            sinks=() if sink is None else (sink,),
            observers=self.observers,
            steering=steering,
            continuation=continuation,
        )
        return replace(result, _agent=self)

    async def _ready(self, stack: AsyncExitStack) -> tuple[RunConfig, Sandbox]:
        """What a run needs: kept open by this agent, or opened for the run."""
        model, sandbox, others, servers = self._kept or await self._open(stack)
        config = self._config(model)
        if self.mcp_servers:
            tools = await servers.toolbox(stack, self.tools, self.mcp_servers)
            check_approved(self.approve, tools)
            config = replace(config, tools=tools)
        configs = {name: self._others[name].config(name, each, config, self._changes) for name, each in others.items()}
        return replace(config, others=configs, rule=self._rule), sandbox

    def _config(self, model: Model) -> RunConfig:
        own = self._own
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
            name=self._name,
            description=None if own is None else own.description,
            trainable=own is None or own.trainable,
            max_concurrency=None if own is None else own.max_concurrency,
            share_identical=self.share_identical,
            approve=self.approve,
            compact=self.compact,
        )


def _observers(observers: Iterable[Observer]) -> tuple[Observer, ...]:
    found = tuple(observers) if isinstance(observers, Iterable) else (observers,)
    for observer in found:
        if not isinstance(observer, Observer) or isinstance(observer, type):
            raise ConfigurationError(
                f"observers must be a list of observers, such as [OpenTelemetry()], not {observer!r:.80}"
            )
    return found


def _check_shared(share_identical: bool, approve: Approve | None) -> None:
    """Raises ConfigurationError where launches are to be approved one by one and shared as well."""
    if share_identical and approve is not None and approve.concerns(LAUNCH, launch=True):
        raise ConfigurationError(
            "share_identical cannot be combined with the approval of launches; leave out one of them"
        )


def _outside_a_loop(run: Callable[[], Awaitable[Result]], name: str) -> Result:
    """Run to the end in an event loop of its own. Raises ConfigurationError where one is already running."""
    try:
        current_token()
    except RuntimeError:
        pass
    else:
        raise ConfigurationError(
            f"{name}_sync cannot run where an event loop is already running (a notebook, for example): write "
            f"`result = await agent.{name}(...)`"
        )

    def start() -> Result:
        outside_the_loop()  # a thread started from a loop has its context, and no loop
        return anyio.run(run)

    return copy_context().run(start)


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
