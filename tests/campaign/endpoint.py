"""The campaign's endpoint: the scripted one, on the loop of the tree or a thread of its own, with faults by content.

Which attempt fails is decided by who asks (the agent's name in its goal), at which step, and how often that was asked
before: never by the order of arrival, so that concurrency changes nothing.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Self

from recursive_agent.testing import Reply, Request, ScriptedEndpoint
from recursive_agent.testing.http import Exchange, _Connection
from recursive_agent.testing.ledger import Entry
from recursive_agent.testing.protocol import response_body, usage_body

from . import answers, cells
from .plan import Fault, Plan

KEY = "sk-secret-of-the-campaign"
Strike = Callable[[str, str, float], Awaitable[None]]
"""Called with the place ("0.1/2"), what happens to the machine, and how much of it, as a request comes in."""


@dataclass(slots=True)
class Bill:
    """What one request cost, and what was wrong with its answer. `said` is what a lying answer stated."""

    entry: Entry
    node: str
    kind: str = ""
    said: Any = None

    @property
    def tokens(self) -> int:
        return self.entry.prompt_tokens + self.entry.completion_tokens if self.entry.billed else 0

    @property
    def lies(self) -> bool:
        return bool(self.kind) and answers.KINDS[self.kind].lies


class CampaignEndpoint:
    """The endpoint of one plan; `bills` are its books. A context manager, on the running loop or (`threaded`) beside it."""

    def __init__(self, plan: Plan, strike: Strike, now: Callable[[], float], *, threaded: bool = False) -> None:
        self.plan = plan
        self.bills: list[Bill] = []
        self.attempts: Counter[tuple[str, int]] = Counter()
        self.strangers: list[str] = []
        """Requests that no agent of the plan can have made."""
        self._strike = strike
        self._now = now
        self._threaded = threaded
        self._nodes = {node.name: node for node in plan.root.walk()}
        self._faults: dict[tuple[str, int], list[Fault]] = {}
        for fault in plan.faults:
            self._faults.setdefault((fault.node, fault.step), []).append(fault)
        self._scripted = ScriptedEndpoint(self._script, api_key=KEY)
        self._plainly = self._scripted._server.handler
        self._scripted._server.handler = self._handle
        self._listener: asyncio.Server | None = None

    @property
    def base_url(self) -> str:
        return self._scripted.base_url

    @property
    def running(self) -> int:
        """Requests under way."""
        return self._scripted.ledger.running

    @property
    def peak(self) -> int:
        """Most requests ever under way at once."""
        return self._scripted.ledger.max_concurrency

    async def __aenter__(self) -> Self:
        server = self._scripted._server
        if self._threaded:
            self._scripted.start()
            return self
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(lambda: _Connection(server), server.host, 0, backlog=1024)
        server.port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._threaded:
            self._scripted.stop()
            return
        assert self._listener is not None
        self._listener.close()
        handlers = [task for connection in list(self._scripted._server.connections) if (task := connection.close())]
        for handler in handlers:
            handler.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)
        await asyncio.sleep(0)

    # -- one request -------------------------------------------------------------------------------------------------

    async def _handle(self, exchange: Exchange) -> None:
        if exchange.path == "/tokenize" and self.plan.interface == "chat" and not self.plan.tokenize:
            exchange.send_json(404, {"detail": "Not Found"})
            return
        if exchange.method != "POST" or not exchange.path.endswith("/completions"):
            await self._plainly(exchange)
            return
        body = json.loads(exchange.body)
        kind = "chat" if exchange.path.endswith("/chat/completions") else "completions"
        if (kind == "chat") != (self.plan.interface == "chat"):
            if answers.ELSEWHERE not in {fault.kind for fault in self.plan.faults}:
                self.strangers.append(exchange.path)
            exchange.send_json(400, {"error": {"message": "this is no request of this API", "code": 400}})
            return
        ids = self._scripted._prompt_ids(kind, body)
        request = self._scripted._request(
            kind, body, ids, 0, body.get("max_completion_tokens") or body.get("max_tokens"), exchange.headers
        )
        place = self._place(request)
        if place is None:
            self.strangers.append(request.first[:200])
            await self._plainly(exchange)
            return
        attempt = self.attempts[place]
        self.attempts[place] += 1
        fault = None
        for planned in self._faults.get(place, ()):
            if planned.kind.startswith("strike "):
                if attempt == 0:
                    where = f"{place[0]}/{place[1]}"
                    await self._strike(where, planned.kind.removeprefix("strike "), planned.amount)
            elif attempt < planned.times and fault is None:
                fault = planned
        entry = self._scripted.ledger.open(kind, request.model, len(ids))
        bill = Bill(entry, place[0], fault.kind if fault is not None else "")
        self.bills.append(bill)
        try:
            await self._answer(exchange, request, bill, fault)
        except asyncio.CancelledError:
            entry.billed = True  # the client went away; a real endpoint may have sampled everything by now
            entry.completion_tokens = entry.completion_tokens or request.max_tokens
            raise
        finally:
            self._scripted.ledger.close(entry)

    def _place(self, request: Request) -> tuple[str, int] | None:
        found = cells.NAME.search(request.first)
        return (found[1], request.step) if found is not None and found[1] in self._nodes else None

    def _script(self, request: Request) -> Reply:
        place = self._place(request)
        return Reply(
            "I do not know you." if place is None else cells.answer(self.plan, self._nodes[place[0]], place[1])
        )

    async def _answer(self, exchange: Exchange, request: Request, bill: Bill, fault: Fault | None) -> None:
        entry = bill.entry
        choice = self._scripted._choice(request, self._script(request), None)
        completion = len(choice.token_ids)
        usage = usage_body(entry.prompt_tokens, completion, 0)
        good = response_body(request, [choice], usage, fingerprint=None, ids=True)
        if fault is None:
            entry.completion_tokens, entry.billed, entry.status = completion, True, 200
            self._scripted.ledger.close(entry, delivered=True)
            exchange.send_json(200, good)
            return
        kind = answers.KINDS[fault.kind]
        line = answers.Line(exchange._transport, exchange.path, good, fault.amount, self._now())
        if kind.billed:
            entry.completion_tokens, entry.billed = completion, True
        if kind.good:
            entry.delivered = True  # closed with that once it went out
        if fault.kind not in ("stall", "stall in the head", "stall in the body", "drip", "slow", "in pieces"):
            self._scripted.ledger.close(entry, delivered=kind.good)
        await kind.act(line)
        self._scripted.ledger.close(entry, delivered=kind.good)
