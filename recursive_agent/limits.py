"""What a tree may use, and the budgets that enforce it.

A budget is reserved *before* a call leaves and settled when its bill is known, so a tree never overshoots. A call that
does not fit because others are still out waits for them to settle (first come, first served) and fails only when what is
really left is not enough; so a limit never depends on who was faster. A share is carved out of its parent's budget when
it is given, and what was not used of it goes back: nobody else can spend it, and its owner cannot spend more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, fields
from typing import Any

import anyio

from .errors import ConfigurationError
from .status import Status
from .usage import Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of one run, most of them shared by all agents of its tree. Where None is allowed, it means no limit."""

    max_depth: int = 4
    """Deepest level at which an agent may exist; the root has depth 0."""
    max_agents: int = 64
    """Agents in the tree, root included."""
    max_children: int = 16
    """Agents that one agent may launch."""
    max_steps: int = 20
    """Model calls of one agent."""
    max_tokens: int | None = 500_000
    """Prompt and completion tokens of the whole tree, as billed."""
    max_cost: float | None = None
    """Money for the whole tree, in the currency of `prices`."""
    timeout: float | None = 900.0
    """Wall-clock seconds for the whole tree."""
    cell_timeout: float = 30.0
    """Seconds (CPU and wall) of one cell; waiting for tools and sub-agents does not count.

    On a busy machine, waiting for a CPU does not count either, but a cell never lasts more than five times the limit.
    """
    cell_memory_mb: int = 256
    """Memory of one agent's interpreter, in MiB."""
    max_concurrency: int = 16
    """Model calls at the same time. (It does not limit agents, so parents that wait cannot block their children.)"""
    max_malformed: int = 3
    """Answers in a row without code after which an agent is stopped."""
    max_calls: int = 10_000
    """Calls of tools and sub-agents for each agent; further calls fail."""
    max_tree_calls: int = 100_000
    """The same for the whole tree."""
    max_call_mb: int = 64
    """MiB of memory for the arguments of all calls of one agent; further calls fail.

    The same limit applies to the answers of its tools that the tree and the trace record; the agent still receives answers
    beyond it.
    """
    max_tree_call_mb: int = 1_024
    """The same for the whole tree."""
    max_memory_mb: int = 4_096
    """Memory of all interpreters of the tree together, in MiB; above it, the interpreter that uses most is stopped."""
    max_trace_mb: int = 1_024
    """Size of the trace file, in MiB; above it, large values are no longer recorded."""

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            optional = "None" in str(item.type)
            if value is None and optional:
                continue
            whole = "int" in str(item.type)
            if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
                kind = "a whole number" if whole else "a number"
                raise ConfigurationError(
                    f"Limits.{item.name} must be {kind}{' or None' if optional else ''}: {value!r}"
                )
            if value != value:
                raise ConfigurationError(f"Limits.{item.name} must be a number, not NaN")
            least = 0 if item.name in ("max_depth", "max_children") else 1 if whole else 0
            if value < least or (not whole and value <= 0):
                raise ConfigurationError(
                    f"Limits.{item.name} must be {'more than 0' if not whole else f'at least {least}'}: {value!r}"
                )

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for the trace."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """Prices per million tokens. `cached` (tokens from the endpoint's cache) defaults to the price of `prompt`."""

    prompt: float
    completion: float
    cached: float | None = None

    @classmethod
    def of(cls, prices: Mapping[str, float] | Prices | None) -> Prices | None:
        """Prices from a mapping with the keys `prompt`, `completion` and optionally `cached`."""
        if prices is None:
            return None
        try:
            rates = prices if isinstance(prices, Prices) else cls(**prices)
        except TypeError:
            raise ConfigurationError(
                f"prices must have the keys 'prompt', 'completion' and optionally 'cached' (per million tokens): {prices!r}"
            ) from None
        numbers = (rates.prompt, rates.completion, rates.cached or 0.0)
        if not all(isinstance(number, int | float) and 0 <= number < float("inf") for number in numbers):
            raise ConfigurationError(f"prices must be numbers of at least 0: {prices!r}")
        return rates

    def of_usage(self, usage: Usage) -> float:
        """The cost of the tokens that the endpoint reported."""
        cached = self.prompt if self.cached is None else self.cached
        fresh = usage.prompt_tokens - usage.cached_tokens
        return (fresh * self.prompt + usage.cached_tokens * cached + usage.completion_tokens * self.completion) / 1e6

    def bound(self, prompt: int, completion: int) -> float:
        """Upper bound of the cost of a call of this size."""
        dearest = max(self.prompt, self.cached or 0.0)
        return (prompt * dearest + completion * self.completion) / 1e6


OnDelay = Callable[[str], None]
"""Called when something is not to be had at once, with what is waited for, in words."""


class LimitReached(Exception):
    """A limit ends a node. Internal: the node turns it into its status and reason."""

    def __init__(self, status: Status, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class NotEnough(Exception):
    """A budget cannot give what was asked for, whatever the others give back. Internal."""


@dataclass(slots=True, eq=False)
class _Waiter:
    least: float
    most: float
    turn: anyio.Event
    granted: float = 0.0
    refused: bool = False


class Budget:
    """An amount (tokens or money) that is reserved before it is spent. `limit` None only counts."""

    def __init__(self, limit: float | None) -> None:
        self.limit = limit
        self.settled = 0.0
        self.reserved = 0.0
        self._out = 0
        """Reservations that have not come back. Fractions that do need not add up to 0, so `reserved` does not say it."""
        self.held = 0
        """How many tasks may still spend from it although its agent has ended."""
        self.owner: Budget | None = None
        """Where it returns to, once nobody holds it any more."""
        self._queue: deque[_Waiter] = deque()

    @property
    def free(self) -> float:
        """What is neither spent nor reserved."""
        return float("inf") if self.limit is None else self.limit - self.settled - self.reserved

    async def reserve(self, least: float, most: float, on_delay: Callable[[], None] | None = None) -> float:
        """Take `most`, waiting for others to settle; `on_delay` is called where that is necessary. Raises NotEnough.

        Less than `most`, down to `least`, is given only when nothing is out that could come back.
        """
        waiter = _Waiter(least, most, anyio.Event())
        self._queue.append(waiter)
        self._serve()
        if on_delay is not None and not waiter.turn.is_set():
            on_delay()
        try:
            await waiter.turn.wait()
        except BaseException:
            if waiter in self._queue:
                self._queue.remove(waiter)
                self._serve()
            elif not waiter.refused:
                self.settle(waiter.granted, 0)
            raise
        if waiter.refused:
            raise NotEnough
        return waiter.granted

    def take(self, amount: float) -> bool:
        """Reserve exactly `amount` at once, or say no (a share for a child)."""
        if self._queue or amount > self.free:
            return False
        self.lend(amount)
        return True

    def lend(self, amount: float) -> None:
        """Reserve `amount`, whoever waits."""
        self._out += 1
        self.reserved += amount

    def settle(self, reserved: float, spent: float) -> None:
        """Give a reservation back, with what was really spent of it."""
        self._out -= 1
        self.reserved = self.reserved - reserved if self._out else 0.0
        self.settled += spent
        self._serve()

    def _serve(self) -> None:
        while self._queue:
            first = self._queue[0]
            free = self.free
            if free >= first.most or (not self._out and free >= first.least):
                first.granted = min(first.most, free)
                self.lend(first.granted)
            elif self.limit is not None and self.limit - self.settled < first.least:
                first.refused = True
            else:
                return
            self._queue.popleft()
            first.turn.set()


class Slots:
    """Model calls under way at once.

    Agents that have begun go before those that have not: a wide tree then has few agents half done at any time, and as few
    processes.
    """

    def __init__(self, total: int, within: Slots | None = None) -> None:
        """With `within`, each slot takes one of those as well: the slots of one model within those of the tree."""
        self.total = total
        self._free = total
        self._within = within
        self._begun: deque[anyio.Event] = deque()
        self._fresh: deque[anyio.Event] = deque()

    @asynccontextmanager
    async def slot(self, *, begun: bool, on_delay: OnDelay | None = None) -> AsyncIterator[Slot]:
        """Hold a slot, waiting for one where all are taken."""
        await self._take(begun, on_delay)
        slot = Slot(self, on_delay)
        try:
            yield slot
        finally:
            if slot.held:
                self._release()

    async def _take(self, begun: bool, on_delay: OnDelay | None = None) -> None:
        await self._take_own(begun, on_delay)
        if self._within is None:
            return
        try:
            await self._within._take(begun, on_delay)
        except BaseException:
            self._release_own()
            raise

    async def _take_own(self, begun: bool, on_delay: OnDelay | None) -> None:
        if self._free > 0:
            self._free -= 1
            return
        if on_delay is not None:
            on_delay(f"{self.total:,} of {self.total:,} calls {'of its model ' if self._within else ''}are under way")
        queue = self._begun if begun else self._fresh
        turn = anyio.Event()
        queue.append(turn)
        try:
            await turn.wait()
        except BaseException:
            if turn in queue:
                queue.remove(turn)
            else:  # the slot was handed over at the same moment
                self._release_own()
            raise

    def _release(self) -> None:
        self._release_own()
        if self._within is not None:
            self._within._release()

    def _release_own(self) -> None:
        queue = self._begun or self._fresh
        if queue:
            queue.popleft().set()
        else:
            self._free += 1


class Slot:
    """A place among the model calls under way."""

    def __init__(self, slots: Slots, on_delay: OnDelay | None = None) -> None:
        self.held = True
        self._slots = slots
        self._on_delay = on_delay

    @asynccontextmanager
    async def lent(self) -> AsyncIterator[None]:
        """Leave the slot to others meanwhile: who waits for the budget must not block those who hold some of it."""
        self._slots._release()
        self.held = False
        yield
        await self._slots._take(True, self._on_delay)
        self.held = True


class CallBudget:
    """Calls of host functions, and bytes of their arguments: of one agent (`parent` is its tree's), or of a whole tree.

    `whose` names them where a call is refused ("your calls").
    """

    def __init__(self, most: int, most_mb: int, whose: str, parent: CallBudget | None = None) -> None:
        self.calls = 0
        self.bytes = 0
        self._most = most
        self._most_mb = most_mb
        self._whose = whose
        self._parent = parent

    def refusal(self, size: int) -> str | None:
        """Count a call of this size; or say why there may be none, and count nothing."""
        if self.calls >= self._most:
            return f"{self._whose} have reached {self._most:,}, which is the limit"
        if self.bytes + size > self._most_mb * 2**20:
            return (
                f"the arguments of {self._whose} may have {self._most_mb:,} MiB in all: {self.bytes / 2**20:,.1f} are used "
                f"and this call needs {size / 2**20:,.1f}"
            )
        if self._parent is not None and (reason := self._parent.refusal(size)) is not None:
            return reason
        self.calls += 1
        self.bytes += size
        return None


class ByteBudget:
    """Bytes that are kept for one agent (`parent` is its tree's), or for a whole tree."""

    def __init__(self, most_mb: int, parent: ByteBudget | None = None) -> None:
        self.bytes = 0
        self._most_mb = most_mb
        self._parent = parent

    def take(self, size: int) -> bool:
        """Count so many bytes; or say that there is no room for them, and count nothing."""
        if self.bytes + size > self._most_mb * 2**20 or (self._parent is not None and not self._parent.take(size)):
            return False
        self.bytes += size
        return True


class Account:
    """Where one node's calls are paid from: its own share of tokens, or its parent's account, and the tree's money."""

    def __init__(
        self, tokens: Budget, cost: Budget, prices: Prices | None, *, own_share: bool, parent: Account | None = None
    ) -> None:
        self.tokens = tokens
        self.cost = cost
        self.prices = prices
        self.own_share = own_share
        self._parent = parent
        """The account that this share is carved out of."""
        self.lent = 0.0
        """Tokens in the shares of children that have not ended."""

    def share(self, amount: int) -> Account | None:
        """Carve a child's own share out of this account; None where there is not enough."""
        if not self.tokens.take(amount):
            return None
        self.lent += amount
        return Account(Budget(amount), self.cost, self.prices, own_share=True, parent=self)

    def at(self, prices: Prices | None) -> Account:
        """The same tokens and money, for calls of a model with these prices."""
        if prices == self.prices:
            return self
        return Account(self.tokens, self.cost, prices, own_share=self.own_share, parent=self._parent)

    def take_over(self, amount: int, usage: Usage) -> Account:
        """A child's own share of `amount`, of which it had used `usage` before the run was interrupted; it is counted here so
        far. The share is smaller where others have used what was left.
        """
        spent = usage.total_tokens + usage.unconfirmed
        self.tokens.settled -= spent
        room = max(float(spent), min(float(amount), self.tokens.free))
        self.tokens.lend(room)
        self.lent += room
        share = Account(Budget(room), self.cost, self.prices, own_share=True, parent=self)
        share.tokens.settled = spent
        return share

    def already_spent(self, usage: Usage, before: Usage) -> None:
        """Count what was used before the run was interrupted, apart from what was used for earlier questions (`before`)."""
        unconfirmed = usage.unconfirmed - before.unconfirmed
        dearest = 0.0 if self.prices is None else max(self.prices.bound(1, 0), self.prices.bound(0, 1))
        self.tokens.settled += usage.total_tokens - before.total_tokens + unconfirmed
        self.cost.settled += usage.cost - before.cost + dearest * unconfirmed

    def give_back(self, share: Account) -> None:
        """End a share: what it did not spend returns to this account, as soon as nobody holds the share open any more."""
        budget = share.tokens
        if budget is self.tokens or budget.limit is None:  # no share, but this account itself
            return
        self.lent -= budget.limit
        if budget.held:
            budget.owner = self.tokens
        else:
            self.tokens.settle(budget.limit, budget.settled)

    def hold(self) -> None:
        """Keep this account's share, and those that it is carved out of, open beyond the end of their agents."""
        account: Account | None = self
        while account is not None:
            account.tokens.held += 1
            account = account._parent

    def let_go(self) -> None:
        """End one `hold`: shares that were given back meanwhile return now."""
        account: Account | None = self
        while account is not None:
            budget = account.tokens
            budget.held -= 1
            if not budget.held and budget.owner is not None and budget.limit is not None:
                owner, budget.owner = budget.owner, None
                owner.settle(budget.limit, budget.settled)
            account = account._parent

    async def reserve(self, prompt: int, completion: int, on_delay: OnDelay | None = None) -> Reservation:
        """Reserve one call of at most these sizes; the completion may be cut to what is left, but not below 1 token.

        Raises LimitReached.
        """

        def delayed(budget: Budget, needed: float, unit: str) -> None:
            if on_delay is not None:
                on_delay(f"it needs {needed:,.6g}{unit}, and {max(0.0, budget.free):,.6g} are not held by other calls")

        try:
            tokens = await self.tokens.reserve(
                prompt + 1, prompt + completion, lambda: delayed(self.tokens, prompt + completion, " tokens")
            )
        except NotEnough:
            left = 0 if self.tokens.limit is None else int(self.tokens.limit - self.tokens.settled)
            raise LimitReached(
                Status.TOKEN_LIMIT if self.own_share else Status.TREE_BUDGET,
                f"{'its own share' if self.own_share else 'the tree'} has {left:,} of {int(self.tokens.limit or 0):,} tokens "
                f"left; the next call needs at least {prompt + 1:,}",
            ) from None
        completion = int(tokens) - prompt
        if self.prices is None:
            return Reservation(self, prompt, completion, tokens, 0.0, on_delay)
        try:
            most = self.prices.bound(prompt, completion)
            cost = await self.cost.reserve(
                self.prices.bound(prompt, 1), most, lambda: delayed(self.cost, most, " of the money")
            )
        except BaseException as error:
            self.tokens.settle(tokens, 0)
            if not isinstance(error, NotEnough):
                raise
            left_money = (self.cost.limit or 0.0) - self.cost.settled
            raise LimitReached(
                Status.COST_LIMIT,
                f"the tree has {left_money:.6g} of {self.cost.limit or 0.0:.6g} left to spend; "
                f"the next call may cost {self.prices.bound(prompt, 1):.6g}",
            ) from None
        if cost < self.prices.bound(prompt, completion) and self.prices.completion > 0:
            spare = cost - self.prices.bound(prompt, 0)
            completion = max(1, min(completion, int(spare * 1e6 / self.prices.completion + 1e-9)))
        return Reservation(self, prompt, completion, tokens, cost, on_delay)


class Reservation:
    """Tokens and money held for one model call."""

    def __init__(
        self,
        account: Account,
        prompt: int,
        completion: int,
        tokens: float,
        cost: float,
        on_delay: OnDelay | None = None,
    ) -> None:
        self._account = account
        self.prompt = prompt
        self.completion = completion
        self._tokens = tokens
        self._cost = cost
        self._on_delay = on_delay
        self.lost = 0
        self._open = True

    async def renew(self, lost: int) -> None:
        """An attempt was lost and may have been billed `lost` tokens: count them, and reserve anew for the next attempt.

        Raises LimitReached when another attempt no longer fits.
        """
        self.settle(Usage(), unconfirmed=lost)
        fresh = await self._account.reserve(self.prompt, self.completion, self._on_delay)
        if fresh.completion < self.completion:
            fresh.settle(Usage())
            raise LimitReached(
                Status.TOKEN_LIMIT if self._account.own_share else Status.TREE_BUDGET,
                "an answer was lost on the way, and too few tokens are left to ask again",
            )
        self._tokens, self._cost, self._open = fresh._tokens, fresh._cost, True

    def settle(self, usage: Usage, *, unconfirmed: int = 0) -> None:
        """The bill is known (or bounded): give the rest back. Safe to call twice."""
        if not self._open:
            return
        self._open = False
        self.lost += unconfirmed
        account = self._account
        account.tokens.settle(self._tokens, usage.total_tokens + unconfirmed)
        if account.prices is not None:
            doubtful = account.prices.bound(min(unconfirmed, self.prompt), max(0, unconfirmed - self.prompt))
            account.cost.settle(self._cost, account.prices.of_usage(usage) + doubtful)
