"""What must hold after every tree, whatever was done to it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recursive_agent import ExecutionTree, RaoError, Result, Status
from recursive_agent.limits import Budget, Slots
from recursive_agent.trace.otel.export import readable_spans, spans_of
from recursive_agent.trace.store import read_events
from tests.trace.spans import billed, comparable, faults, tokens

from . import cells
from .answers import KINDS
from .endpoint import KEY, CampaignEndpoint
from .machine import CANCELLED, DISK, SIGKILLED, Machine
from .plan import NodePlan, Plan

GRACE = 5.0
"""Seconds (of the tree's clock) after its time-out by which a tree must have come back."""
BLOCKED = 0.5
"""Seconds of CPU for which nothing may keep the event loop (a busy machine does not change them)."""


@dataclass(slots=True, kw_only=True)
class Observed:
    """What was seen of one tree."""

    plan: Plan
    machine: Machine
    endpoint: CampaignEndpoint | None = None
    result: Result | None = None
    error: BaseException | None = None
    seconds: float = 0.0
    overdue: str | None = None
    """What waits for what, where the tree did not come back in time."""
    traces: list[Path] = field(default_factory=list)
    budgets: list[Budget] = field(default_factory=list)
    slots: list[tuple[Slots, int]] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    """What was not there before."""
    broken: str | None = None
    """Why the sandbox is of no use to the next tree."""
    noise: list[str] = field(default_factory=list)
    """What reached the event loop's exception handler, and warnings."""
    block: float = 0.0

    @property
    def tree(self) -> ExecutionTree | None:
        """The tree that the caller has in hand."""
        carried = self.result or getattr(self.error, "result", None)
        return carried.tree if isinstance(carried, Result) else None


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that did not hold: which invariant, and how."""

    invariant: str
    how: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.how}"


Check = Callable[[Observed], Iterator[str]]
CHECKS: list[tuple[str, Check]] = []


def invariant(name: str) -> Callable[[Check], Check]:
    def enter(check: Check) -> Check:
        CHECKS.append((name, check))
        return check

    return enter


def check(seen: Observed) -> list[Violation]:
    """All that did not hold. A check that cannot even be made counts as well."""
    found = []
    for name, one in CHECKS:
        try:
            found += [Violation(name, how) for how in one(seen)]
        except Exception as error:
            found.append(Violation(name, f"could not be checked ({type(error).__name__}: {error})"))
    return found


# -- how it ends -----------------------------------------------------------------------------------------------------


@invariant("bounded")
def _(seen: Observed) -> Iterator[str]:
    timeout = seen.plan.limits.get("timeout", 900.0)
    if seen.overdue is not None:
        yield f"not back {GRACE:g} s after its time-out of {timeout:g} s; {seen.overdue}"
    elif timeout is not None and seen.seconds > timeout + GRACE:
        yield f"took {seen.seconds:.1f} s with a time-out of {timeout:g} s"


@invariant("responsive")
def _(seen: Observed) -> Iterator[str]:
    if seen.block > BLOCKED:
        yield f"the event loop stood still for {seen.block:.2f} s of CPU"


@invariant("documented")
def _(seen: Observed) -> Iterator[str]:
    error = seen.error
    if error is None or seen.overdue is not None:
        return
    if isinstance(error, asyncio.CancelledError):
        if not seen.machine.cancelled:
            yield "cancelled, and nobody did"
    elif not isinstance(error, RaoError):
        yield f"{type(error).__module__}.{type(error).__name__}: {_show(error)}"
    elif not str(error).strip():
        yield f"{type(error).__name__} says nothing"


@invariant("carries its result")
def _(seen: Observed) -> Iterator[str]:
    paid = seen.endpoint is not None and bool(seen.endpoint.bills)
    if isinstance(seen.error, RaoError) and paid and seen.tree is None and seen.overdue is None:
        yield f"{type(seen.error).__name__} without .result after {len(seen.endpoint.bills)} calls"  # type: ignore[union-attr]


@invariant("quiet")
def _(seen: Observed) -> Iterator[str]:
    yield from dict.fromkeys(seen.noise)


# -- the tree --------------------------------------------------------------------------------------------------------


def _trees(seen: Observed) -> Iterator[tuple[str, ExecutionTree]]:
    if seen.tree is not None:
        yield "in the result", seen.tree
    if not disk_failed(seen) and seen.overdue is None:
        for path in seen.traces:
            yield "in the trace", ExecutionTree.load(path)


@invariant("every agent has ended")
def _(seen: Observed) -> Iterator[str]:
    for where, tree in _trees(seen):
        running = [node.id for node in tree.nodes.values() if node.status is Status.RUNNING]
        if running:
            yield f"{where}, still running: {', '.join(running)}"
        if not tree.complete:
            yield f"{where}, the run has no end"
        silent = [node.id for node in tree.nodes.values() if not node.status.finished and not node.reason]
        if silent:
            yield f"{where}, no reason for the end of {', '.join(silent)}"


@invariant("trace")
def _(seen: Observed) -> Iterator[str]:
    if not seen.plan.trace:
        return
    vanished = any("vanishes" in what for what in seen.machine.struck)
    never_began = seen.tree is None and seen.endpoint is not None and not seen.endpoint.bills
    if len(seen.traces) != 1 and not vanished and not never_began:
        yield f"{len(seen.traces)} trace files"
    for path in seen.traces:
        tree = ExecutionTree.load(path)
        if seen.tree is not None and not disk_failed(seen):
            ours, theirs = dump(seen.tree), dump(tree)
            if ours != theirs:
                yield f"the trace differs from the result: {_difference(ours, theirs)}"


@invariant("spans")
def _(seen: Observed) -> Iterator[str]:
    """One trace without orphans whose model calls have the tree's usage, live and from the record."""
    if seen.overdue is not None:
        return
    live = seen.machine.spans.get_finished_spans()
    ids = {span.context.span_id for span in live if span.context}
    if len(ids) != len(live):
        yield "live spans with the same id"
    if live and sum(span.parent is None for span in live) != 1:
        yield f"{sum(span.parent is None for span in live)} live roots"
    yield from (
        f"the live span {s.name} is an orphan" for s in live if s.parent is not None and s.parent.span_id not in ids
    )
    if any(KEY in span.to_json() for span in live):
        yield "the key is in a live span"
    if disk_failed(seen):
        return
    for path in seen.traces:
        events = list(read_events(path))
        spans = spans_of(events)
        yield from faults(spans)
        tree = ExecutionTree.from_events(events)
        if tokens(spans) != billed(tree.usage):
            yield f"spans have {tokens(spans)} tokens, the tree {billed(tree.usage)}"
        ours, theirs = comparable(live), comparable(readable_spans(events, content=True))
        if missing := theirs.keys() - ours.keys():
            yield f"recorded and not live: {[theirs[each][0] for each in missing]}"
        for each in theirs.keys() & ours.keys():
            # What never came to an end has no start in a record.
            if theirs[each] != ours[each] and theirs[each][5][1] != "cancelled":
                yield f"live {ours[each]!r:.2000} and recorded {theirs[each]!r:.2000}"


@invariant("clean trees finish")
def _(seen: Observed) -> Iterator[str]:
    """Nothing was done to it, or nothing that asking again or waiting does not mend: its caller must not notice."""
    plan = seen.plan
    if not forgiving(plan) or any(not KINDS[fault.kind].mends for fault in plan.faults if fault.kind in KINDS):
        return
    if any(fault.kind not in KINDS for fault in plan.faults) or any(not plain(node) for node in plan.root.walk()):
        return
    if any(fault.times > 2 and not KINDS[fault.kind].waits for fault in plan.faults):
        return
    if seen.result is None or not seen.result.status.finished:
        how = seen.result.reason if seen.result else _show(seen.error)
        yield f"did not finish ({how})"
        return
    if seen.result.output != cells.value("0"):
        yield f"finished with {seen.result.output!r:.100}"
    finished = {node.result for node in seen.result.tree.nodes.values() if node.finished}
    for node in reached(plan.root):
        if cells.value(node.name) not in finished:
            yield f"agent {node.name} did not finish"


@invariant("siblings")
def _(seen: Observed) -> Iterator[str]:
    """What the endpoint does to one agent ends nobody beside it."""
    plan, tree = seen.plan, seen.tree
    if tree is None or not forgiving(plan) or plan.machine == "own fds":
        return
    struck = {fault.node for fault in plan.faults if fault.kind not in KINDS or _hard(fault)}
    if any(fault.kind not in KINDS or KINDS[fault.kind].fatal for fault in plan.faults) or plan.root.name in struck:
        return
    found = {found[1]: node for node in tree.nodes.values() if (found := cells.NAME.search(node.goal)) is not None}
    for node in reached(plan.root):
        touched = any(
            name == node.name or name.startswith(f"{node.name}.") or node.name.startswith(f"{name}.") for name in struck
        )
        if touched or not all(plain(above) for above in _line_to(plan.root, node)):
            continue
        given = found.get(node.name)
        if given is None:
            yield f"agent {node.name} never started"
        elif not given.finished:
            yield f"agent {node.name}, beside the faults, ended {given.status.value} ({given.reason})"


@invariant("a killed worker costs its variables")
def _(seen: Observed) -> Iterator[str]:
    """Nothing but processes were killed: then no agent ends for want of an interpreter."""
    kinds = {what.rpartition(" at ")[0] for what in seen.machine.struck}
    faults = any(not fault.kind.startswith("strike") for fault in seen.plan.faults)
    if not kinds or not kinds <= set(SIGKILLED) or faults or seen.tree is None:
        return
    for node in seen.tree.nodes.values():
        if node.status is Status.INFRA_ERROR:
            yield f"agent {node.id} ended after {', '.join(sorted(kinds))}: {node.reason}"


# -- what it cost ----------------------------------------------------------------------------------------------------


@invariant("ledger")
def _(seen: Observed) -> Iterator[str]:
    tree, endpoint = seen.tree, seen.endpoint
    if tree is None or endpoint is None:
        return
    usage = tree.usage
    numbers = (
        usage.calls,
        usage.prompt_tokens,
        usage.completion_tokens,
        usage.cached_tokens,
        usage.cost,
        usage.unconfirmed,
    )
    if any(not 0 <= number < math.inf for number in numbers):
        yield f"impossible usage {usage}"
        return
    honest = sum(bill.tokens for bill in endpoint.bills if not bill.lies)
    billed = sum(bill.tokens for bill in endpoint.bills)
    lies = any(bill.lies for bill in endpoint.bills)
    least = honest + 2 * sum(
        bill.lies and bill.entry.delivered for bill in endpoint.bills
    )  # a prompt and an answer each
    if usage.total_tokens + usage.unconfirmed < least:
        counted = f"{usage.total_tokens} confirmed and {usage.unconfirmed} unconfirmed"
        yield f"at least {least} tokens were billed; {counted} are fewer"
    if not lies and usage.total_tokens > billed:
        yield f"{usage.total_tokens} tokens confirmed, {billed} were billed"
    untouched = not any(bill.kind for bill in endpoint.bills) and not seen.machine.struck and not seen.machine.cancelled
    untouched = untouched and not any(node.status is Status.CANCELLED for node in tree.nodes.values())
    if untouched and all(bill.entry.delivered for bill in endpoint.bills):
        if usage.total_tokens != billed:
            yield f"{usage.total_tokens} tokens confirmed, {billed} billed, with nothing in the way"
        if usage.unconfirmed:
            yield f"{usage.unconfirmed} tokens unconfirmed with nothing in the way"
    if endpoint.strangers:
        yield f"a request that nobody planned: {endpoint.strangers[0]!r}"


# -- limits ----------------------------------------------------------------------------------------------------------


@invariant("limits")
def _(seen: Observed) -> Iterator[str]:
    limits, endpoint = seen.plan.limits, seen.endpoint
    if endpoint is not None:
        bills = [bill for bill in endpoint.bills if not bill.lies]
        most = limits.get("max_tokens", 500_000)
        if most is not None and (spent := sum(bill.tokens for bill in bills)) > most:
            yield f"{spent} tokens billed of {most}"
        most = limits.get("max_concurrency", 16)
        if endpoint.peak > most:
            yield f"{endpoint.peak} calls at once, {most} allowed"
        if limits.get("max_cost") is not None:
            cost = (
                sum(b.entry.prompt_tokens * 1.0 + b.entry.completion_tokens * 2.0 for b in bills if b.entry.billed)
                / 1e6
            )
            if cost > limits["max_cost"] * (1 + 1e-9):
                yield f"{cost:g} spent of {limits['max_cost']:g}"
    for where, tree in _trees(seen):
        nodes = list(tree.nodes.values())
        for what, used, most in (
            ("agents", len(nodes), limits.get("max_agents", 64)),
            ("levels", tree.max_depth, limits.get("max_depth", 4)),
            ("children", max((len(node.children) for node in nodes), default=0), limits.get("max_children", 16)),
            ("steps", max((len(node.steps) for node in nodes), default=0), limits.get("max_steps", 20)),
        ):
            if used > most:
                yield f"{where}, {used} {what}, {most} allowed"


@invariant("nothing is held")
def _(seen: Observed) -> Iterator[str]:
    if seen.overdue is not None:
        return
    for slots, total in seen.slots:
        if slots._free != total:
            yield f"{total - slots._free} of {total} slots"
    lied_to = seen.endpoint is not None and any(bill.lies for bill in seen.endpoint.bills)
    for budget in seen.budgets:
        if abs(budget.reserved) > 1e-6:
            yield f"a reservation of {budget.reserved:g}"
        if budget.limit is not None and budget.settled > budget.limit * (1 + 1e-9) and not lied_to:
            yield f"{budget.settled:g} settled of {budget.limit:g}"
        if not budget.settled >= 0:
            yield f"{budget.settled:g} settled"


@invariant("nothing is left")
def _(seen: Observed) -> Iterator[str]:
    if seen.overdue is None:
        yield from seen.left


@invariant("the sandbox recovers")
def _(seen: Observed) -> Iterator[str]:
    if seen.broken is not None and seen.overdue is None:
        yield seen.broken


# -- helpers ---------------------------------------------------------------------------------------------------------


def disk_failed(seen: Observed) -> bool:
    """Whether the trace cannot be whole."""
    return any(what.startswith(DISK) or "descriptors" in what for what in seen.machine.struck)


def forgiving(plan: Plan) -> bool:
    """Whether nothing but faults of the endpoint can keep the tree from its end."""
    limits = plan.limits
    wide = limits.get("max_tokens", 0) is None and (limits.get("timeout", 0) or 1e9) >= 10_000 and not plan.prices
    narrow = {"max_agents", "max_depth", "max_children", "max_steps", "max_cost"} & set(limits)
    strikes = any(fault.kind.startswith("strike") for fault in plan.faults)
    return wide and not narrow and not strikes and not plan.returns and plan.entry in ("solve", "stream")


def plain(node: NodePlan) -> bool:
    """Whether an agent does nothing but print, use tools that work, and launch in ways that wait for all."""
    for step in node.steps:
        if step.kind == "launch":
            if step.mode not in ("safe", "sequential") or step.share or step.returns:
                return False
        elif step.kind not in ("print", "error") and not (
            step.kind in ("act", "work") and step.what in ("fine", "slow")
        ):
            return False
    return node.end == "finish"


def reached(root: NodePlan) -> Iterator[NodePlan]:
    """Agents that are launched if all above them live."""
    yield root
    launched = {name for step in root.steps if step.kind == "launch" for name in step.children}
    for child in root.children:
        if child.name in launched:
            yield from reached(child)


def _line_to(root: NodePlan, node: NodePlan) -> Iterator[NodePlan]:
    for one in root.walk():
        if node.name == one.name or node.name.startswith(f"{one.name}."):
            yield one


def _hard(fault: Any) -> bool:
    kind = KINDS[fault.kind]
    return not kind.good and (not kind.mends or (fault.times > 2 and not kind.waits))


def dump(tree: ExecutionTree) -> dict[str, Any]:
    """All of a tree that a trace must give back."""
    return {
        node.id: {
            "parent": node.parent,
            "goal": node.goal,
            "context": node.context,
            "returns": node.returns,
            "status": node.status,
            "result": _comparable(node.result),
            "reason": node.reason,
            "usage": node.usage,
            "score": (node.score, node.score_status, node.score_source),
            "children": [child.id for child in node.children],
            "steps": [
                (
                    step.number,
                    step.model and (step.model.text, step.model.usage, step.model.attempts, list(step.model.messages)),
                    step.cell and (step.cell.code, step.cell.status, step.cell.output, step.cell.error),
                    [
                        (c.call, c.name, c.child, c.error, _comparable(c.args), _comparable(c.result))
                        for c in step.calls
                    ],
                )
                for step in node.steps
            ],
        }
        for node in tree.nodes.values()
    }


def _comparable(value: Any) -> str:
    """Values as text: NaN equals itself, tuples are lists."""
    return repr(value).replace("(", "[").replace(",)", "]").replace(")", "]")


def _difference(ours: dict[str, Any], theirs: dict[str, Any]) -> str:
    if ours.keys() != theirs.keys():
        return f"agents {sorted(ours)} and {sorted(theirs)}"
    for node, mine in ours.items():
        for key, value in mine.items():
            if value != theirs[node][key]:
                return f"{key} of {node}: {value!r:.150} became {theirs[node][key]!r:.150}"
    return "nothing"


def _show(error: BaseException | None) -> str:
    try:
        return f"{type(error).__name__}: {error}"[:300]
    except Exception:
        return f"{type(error).__name__}, which cannot be shown"


__all__ = ["CANCELLED", "Observed", "Violation", "check", "dump"]
