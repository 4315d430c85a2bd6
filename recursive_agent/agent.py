"""`Agent`: the configuration, and the ways to run it."""

from __future__ import annotations

import copy
import json
import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Literal, Self, get_args

import anyio

from ._version import __version__
from .checkpoint import ActionFormat, CheckpointSettings, PromptStyle
from .errors import ConfigurationError, ModelError
from .limits import Limits, Prices
from .model import connect, resolve_endpoint
from .model.base import Model, Sampling
from .model.endpoint import PLACEHOLDER_KEY
from .plain import plain
from .repl import Sandbox, make_sandbox
from .result import Result
from .returns import Returns
from .scoring import Scorer
from .stream import Stream
from .tools import tool_set
from .trace.store import TraceWriter, trace_path
from .tree import RunConfig, Sink, Tree

SandboxName = Literal["process", "inprocess"]


class Agent:
    """A recursive agent: it writes Python in a sandbox and may launch copies of itself.

        agent = Agent(model="…", base_url="http://localhost:8000/v1", tools=[search])
        result = await agent.solve("…", context={"doc": text}, returns=list[str])

    `model` is a name at an OpenAI-compatible endpoint, or a `Model` object. `model`, `base_url` and `api_key` default to
    RAO_MODEL, OPENAI_BASE_URL and OPENAI_API_KEY. `prices` (per million tokens) are needed for `Limits.max_cost`.
    `context_limit` caps each agent's context window below the model's own. With `require="kernel"` runs refuse to start
    on a machine whose kernel cannot lock the sandbox; `sandbox` may also be an open `Sandbox` that many agents share. One
    Agent may run many goals at once. `async with agent:` keeps the connection and the sandbox's helper process between
    runs.

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
        sandbox: SandboxName | Sandbox = "process",
        require: Literal["kernel"] | None = None,
        trace_dir: str | Path | None = None,
        prices: Mapping[str, float] | Prices | None = None,
        interface: Literal["chat", "tokens"] = "chat",
        prompt_style: PromptStyle | None = None,
        action_format: ActionFormat | None = None,
        context_limit: int | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self.tools = tool_set(tools)
        self.instructions = instructions
        self.trace_dir = None if trace_dir is None else Path(trace_dir)
        self.prices = Prices.of(prices)
        _check_prices(self.limits, self.prices)
        settings: CheckpointSettings | None = getattr(model, "settings", None)
        self.prompt_style: PromptStyle = prompt_style or (settings.prompt_style if settings else "rich")
        self.action_format: ActionFormat = action_format or (settings.action_format if settings else "fenced")
        self.context_limit = context_limit
        if context_limit is not None and (not isinstance(context_limit, int) or context_limit < 1):
            raise ConfigurationError(f"context_limit must be a whole number of at least 1, not {context_limit!r}")
        _one_of("prompt_style", self.prompt_style, get_args(PromptStyle))
        _one_of("action_format", self.action_format, get_args(ActionFormat))
        _one_of("interface", interface, ("chat", "tokens"))
        _one_of("require", require, (None, "kernel"))
        if isinstance(sandbox, str):
            _one_of("sandbox", sandbox, get_args(SandboxName))
        self.sampling = _sampling(model.sampling if isinstance(model, Model) else Sampling(), sampling)
        self._sandbox: SandboxName | Sandbox = sandbox
        self._require: Literal["kernel"] | None = require
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
        self._kept: tuple[Model, Sandbox] | None = None
        self._stack: AsyncExitStack | None = None

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
        other._stack = None
        if tools is not None:
            other.tools = tool_set(tools)
        if limits is not None:
            _check_prices(limits, self.prices)
            other.limits = limits
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

        What the agent does is a status on the result. Raises ModelError (with what there was as `.result`) when the
        endpoint fails, SandboxError when there is no sandbox to be had.
        """
        return await self._solve(goal, context=context, returns=returns, seed=seed, score=score, group=group)

    def solve_sync(self, goal: str, **arguments: Any) -> Result:
        """`solve` for programs without an event loop; takes the same arguments."""

        async def run() -> Result:
            return await self.solve(goal, **arguments)

        return anyio.run(run)

    def stream(self, goal: str, **arguments: Any) -> Stream:
        """Run one goal and watch: `async for event in agent.stream(goal)`; takes the arguments of `solve`.

        Leaving the loop stops the run. `stream.result` is there after the last event. Use `async with` around it to wait
        until a run that was left has really stopped.
        """

        async def run(sink: Sink) -> Result:
            return await self._solve(goal, sink=sink, **arguments)

        return Stream(run)

    async def __aenter__(self) -> Self:
        if self._stack is not None:
            raise ConfigurationError("this Agent is already open; one `async with` at a time")
        async with AsyncExitStack() as stack:
            self._kept = await self._open(stack)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exc: Any) -> None:
        stack, self._stack, self._kept = self._stack, None, None
        if stack is not None:
            await stack.__aexit__(*exc)

    async def _open(self, stack: AsyncExitStack) -> tuple[Model, Sandbox]:
        if isinstance(self._sandbox, str):
            sandbox = await stack.enter_async_context(make_sandbox(self._sandbox, require=self._require))
        else:
            sandbox = self._sandbox
        if self._given_model is not None:
            return self._given_model, sandbox
        model = connect(self._endpoint, interface=self._interface, sampling=self.sampling)
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
        wanted = Returns(returns)
        try:
            context = plain(context, strict=True)
        except (ValueError, RecursionError) as error:
            raise ConfigurationError(f"context must be plain data: {error}") from None
        async with AsyncExitStack() as stack:
            model, sandbox = self._kept or await self._open(stack)
            run = uuid.uuid4().hex[:12]
            sinks: list[Sink] = [] if sink is None else [sink]
            path = None
            if self.trace_dir is not None:
                path = trace_path(self.trace_dir, run)
                writer = stack.enter_context(TraceWriter(path, secrets=self._secrets))
                sinks.insert(0, writer.append)
            tree = Tree(
                self._config(model),
                sandbox,
                run=run,
                seed=seed,
                group=group,
                settings=self._settings(sandbox),
                sinks=tuple(sinks),
            )
            outcome = await tree.solve(goal, context, wanted, score)
            result = Result(outcome.status, tree.record, outcome.reason, path, outcome.output)
            if tree.failure is not None:
                if isinstance(tree.failure, ModelError):
                    tree.failure.result = result
                raise tree.failure
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
            context_limit=self.context_limit,
        )

    def _settings(self, sandbox: Sandbox) -> dict[str, Any]:
        return {
            "version": __version__,
            "prompt_style": self.prompt_style,
            "action_format": self.action_format,
            "context_limit": self.context_limit,
            "temperature": self.sampling.temperature,
            "top_p": self.sampling.top_p,
            "max_tokens": self.sampling.max_tokens,
            "stop": list(self.sampling.stop),
            "tools": list(self.tools),
            "sandbox": type(sandbox).__name__,
            "enforced": sorted(sandbox.enforced),
        }


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


def _one_of(name: str, value: Any, choices: Iterable[Any]) -> None:
    if value not in (known := tuple(choices)):
        raise ConfigurationError(f"{name} must be one of {', '.join(map(repr, known))}, not {value!r}")
