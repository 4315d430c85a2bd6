"""Models and sandboxes that work but for one place, where they raise what they are given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from recursive_agent.model.base import Completion, Conversation, Message, Model, Sampling
from recursive_agent.repl.base import CellResult, Repl, Sandbox

Raise = Callable[[], None]


class FaultyModel:
    """A model whose conversations raise at `seam` in the agents whose prompt holds `victim`."""

    def __init__(self, model: Model, seam: str, fault: Raise, victim: str = "") -> None:
        self._model = model
        self.seam, self.fault, self.victim = seam, fault, victim
        self.name, self.interface, self.sampling = model.name, model.interface, model.sampling

    async def context_length(self) -> int | None:
        return await self._model.context_length()

    def conversation(
        self, *, tools: Sequence[Mapping[str, Any]] = (), sampling: Sampling | None = None
    ) -> Conversation:
        if self.seam == "conversation":
            self.fault()
        return FaultyConversation(self, self._model.conversation(tools=tools, sampling=sampling))

    async def aclose(self) -> None:
        await self._model.aclose()
        if self.seam == "model.aclose":
            self.fault()


class FaultyConversation:
    def __init__(self, model: FaultyModel, inner: Conversation) -> None:
        self._model, self._inner = model, inner
        self.exact = inner.exact

    @property
    def messages(self) -> list[Message]:
        return self._inner.messages

    def _at(self, seam: str) -> None:
        if self._model.seam == seam and any(self._model.victim in message.content for message in self.messages):
            self._model.fault()

    def add(self, *messages: Message) -> None:
        self._inner.add(*messages)
        self._at("add")

    async def prompt_tokens(self) -> int:
        self._at("prompt_tokens")
        return await self._inner.prompt_tokens()

    async def complete(self, **arguments: Any) -> Completion:
        self._at("complete")
        completion = await self._inner.complete(**arguments)
        self._at("completed")
        return completion


class FaultySandbox:
    """A sandbox that raises at `seam` for the agents whose context is `victim` (for all where that is None)."""

    def __init__(self, sandbox: Sandbox, seam: str, fault: Raise, victim: Any = None) -> None:
        self._sandbox = sandbox
        self.seam, self.fault, self.victim = seam, fault, victim

    @property
    def enforced(self) -> frozenset[str]:
        return self._sandbox.enforced

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        pass

    async def open(self, *, context: Any = None, **arguments: Any) -> Repl:
        hit = self.victim is None or context == self.victim
        if hit and self.seam == "open":
            self.fault()
        repl = await self._sandbox.open(context=context, **arguments)
        return FaultyRepl(repl, self.seam, self.fault) if hit else repl


class FaultyRepl:
    def __init__(self, repl: Repl, seam: str, fault: Raise) -> None:
        self._repl, self._seam, self._fault = repl, seam, fault

    async def run(self, code: str) -> CellResult:
        if self._seam == "run":
            self._fault()
        result = await self._repl.run(code)
        if self._seam == "ran":
            self._fault()
        return result

    async def aclose(self) -> None:
        await self._repl.aclose()
        if self._seam == "aclose":
            self._fault()
