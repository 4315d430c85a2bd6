"""What the record of a run says about going on with it: which agents live again, what each has done, and what of it holds.

An agent that ended by its own doing stays ended. One that was cut (its process died, it was cancelled, its endpoint failed, a
limit of the whole tree was reached) lives again: its cells are run again against the recorded answers, and the first model
call that is not in the record is the first that is sent.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..status import Status
from .keys import call_key, launch_key
from .node import LAUNCH, Node, Step
from .redact import Redactor
from .schema import HostCalled
from .tree import OpenQuestion
from .values import is_cut

_CUT = frozenset({Status.TREE_BUDGET, Status.COST_LIMIT, Status.INFRA_ERROR})
"""How a child may have ended while its parent's cell ran to its end, without anybody's doing in the tree."""


def goes_on(node: Node) -> bool:
    """Whether an agent lives again when its run is resumed. The root does, unless it finished."""
    status = node.status
    if node.parent is None:
        return not status.finished
    return node.running or status.shared_limit or status.external


@dataclass(frozen=True, slots=True)
class Recorded:
    """A call as it is recorded: answered (`event`), a launch that was under way (`child` alone), or a call of a tool that
    must not be repeated and was under way (neither)."""

    number: int
    event: HostCalled | None
    child: Node | None


class Past:
    """What one agent had done: the steps that stand, and its calls, found by what was asked.

    `open` is the first step that does not stand as a whole. Cells before `first` need not be run again: the interpreter's
    variables were lost after them.
    """

    def __init__(
        self, node: Node, *, max_steps: Collection[int], redactor: Redactor, question: OpenQuestion | None = None
    ) -> None:
        """`max_steps` are the limits that the run had so far; `question` is another one to an agent that has finished."""
        self.node = node
        self.question = question
        self.ended = question is None and not goes_on(node) and not is_cut(node.result)
        self.redo: Sequence[int] = ()
        self.usage = node.usage
        self.steps: dict[int, Step] = {
            step.number: replace(step, calls=list(step.calls), clock=list(step.clock)) for step in node.steps
        }
        self.open = self._first_open()
        self.first = max((number + later for number, step in self.steps.items() for later in _lost(step)), default=1)
        self._limits = max_steps
        self._redactor = redactor
        self._taken: set[tuple[int, int]] = set()
        self._calls: dict[bytes, deque[Recorded]] = defaultdict(deque)
        self._refused: dict[tuple[str, str], deque[Recorded]] = defaultdict(deque)
        self.pending: dict[str, Past] = {}
        """The children whose launch has no answer yet, or is made anew."""
        if not self.ended:
            self._index()

    def _first_open(self) -> int:
        """The step to go on with; a cell in which a child was cut, and that no answer of the model followed, is run anew."""
        if not self.steps:
            return 1
        last = self.steps[max(self.steps)]
        if self.question is not None and last.number == self.question.step:
            return last.number + 1
        children = {child.id: child for child in self.node.children}
        # Of a killed process, what was cancelled was cancelled by the agent's own code.
        stopped = last.cell is None and not self.node.running
        self.redo = tuple(
            call.call for call in last.calls if self._was_cut(call, children) or (stopped and call.error == "cancelled")
        )
        if last.cell is not None and not self.redo:
            return last.number + 1
        last.calls = [call for call in last.calls if call.call not in self.redo]
        if last.cell is not None:
            self.steps[last.number] = replace(last, cell=None, clock=[])
        return last.number

    @staticmethod
    def _was_cut(call: HostCalled, children: Mapping[str, Node]) -> bool:
        child = children.get(call.child or "")
        return child is not None and call.error is not None and child.status in _CUT

    def _index(self) -> None:
        answered = {
            call.child
            for step in self.steps.values()
            for call in step.calls
            if call.child is not None and call.error != "cancelled"
        }
        known: list[Recorded] = []
        children = {child.id: child for child in self.node.children}
        for number, step in self.steps.items():
            if number < self.first:
                continue
            known += [
                Recorded(call.call, call, children.get(call.child or ""))
                for call in step.calls
                if call.error != "cancelled" or call.child is None
            ]
        for child in self.node.children:
            at = child.launched_at
            if at is not None and child.id not in answered and at.step >= self.first:
                known.append(Recorded(at.call, None, child))
                self.pending[child.id] = Past(child, max_steps=self._limits, redactor=self._redactor)
        for call in sorted(known, key=lambda call: call.number):
            if call.event is not None and call.event.refused:
                self._refused[call.event.name, str(call.event.kwargs.get("goal", ""))].append(call)
            else:
                self._calls[self._key_of(call)].append(call)
        for step in self.steps.values():
            answers = {call.call for call in step.calls}
            for n, key in step.begun.items():
                if n not in answers:
                    self._calls[bytes.fromhex(key)].append(Recorded(n, None, None))

    def _key_of(self, call: Recorded) -> bytes:
        event, child = call.event, call.child
        if child is not None and (event is None or "returns" not in event.kwargs):
            return self._launch_key(child.goal, child.context, child.returns, child.max_steps, child.max_tokens)
        assert event is not None
        if event.name == LAUNCH:  # as it was asked for: another agent may have been, or it was approved with changes
            asked = event.kwargs.get
            return self._launch_key(
                asked("goal"), asked("context"), asked("returns"), asked("max_steps"), asked("max_tokens")
            )
        return call_key(self._redactor, event.name, event.args, event.kwargs)

    def _launch_key(
        self, goal: Any, context: Any, returns: Any, max_steps: int | None, max_tokens: int | None
    ) -> bytes:
        settings = {"max_steps": self._given_less(max_steps), "max_tokens": max_tokens}
        return launch_key(self._redactor, goal, context, returns, settings)

    def _given_less(self, max_steps: int | None) -> int | None:
        """Steps that an agent was given by its parent; None where it had those of the limit."""
        less = max_steps is not None and max_steps not in self._limits and max_steps < max(self._limits)
        return max_steps if less else None

    def take_call(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Recorded | None:
        """The recorded call of a tool with these arguments, the earliest that was not taken yet; None where there is none."""
        return self._take(call_key(self._redactor, name, args, kwargs), (name, str(kwargs.get("goal", ""))[:100]))

    def take_launch(
        self, goal: str, context: Any, returns: Any, *, max_steps: int | None, max_tokens: int | None
    ) -> Recorded | None:
        """The recorded launch with this goal, these inputs and settings; as `take_call`."""
        key = self._launch_key(goal, context, returns, max_steps, max_tokens)
        return self._take(key, (LAUNCH, goal[:100]))

    def _take(self, key: bytes, refused: tuple[str, str]) -> Recorded | None:
        queues = [queue for queue in (self._calls.get(key), self._refused.get(refused)) if queue]
        if not queues:
            return None
        found = min(queues, key=lambda queue: queue[0].number).popleft()
        if found.event is not None:
            self._taken.add((found.event.step, found.number))
        return found

    def missed(self, step: int) -> str | None:
        """The name of a recorded call of this step that was not made again; None where all were."""
        known = self.steps.get(step)
        for call in known.calls if known is not None else ():
            again = call.error == "cancelled" and call.child is not None  # it goes on as a child, under this number
            if not call.refused and not again and (call.step, call.call) not in self._taken:
                return call.name
        return None

    def allowed_steps(self, limit: int) -> int:
        """Steps that the agent may take under this limit: what it was given less, it was given by its parent."""
        if self.question is not None:
            return self.question.step + limit
        own = None if self.node.parent is None else self._given_less(self.node.max_steps)
        return limit if own is None else min(own, limit)

    def again(self) -> Past:
        """What the agent had done, by its record as it is now."""
        return Past(self.node, max_steps=self._limits, redactor=self._redactor, question=self.question)

    @property
    def partial(self) -> str | None:
        """What came of the agent's last cell, as its parent may see it; None where it ran none."""
        cells = [step.cell for step in self.node.steps if step.cell is not None]
        if not cells:
            return None
        last = cells[-1]
        parts = [last.output.rstrip("\n")] if last.output.strip() else []
        return "\n".join([*parts, *([last.error.rstrip("\n")] if last.error else [])]) or None


def _lost(step: Step) -> tuple[int, ...]:
    """How many steps later variables are there again, if its cell lost those of earlier ones; else nothing."""
    if step.cell is None:
        return ()
    if step.cell.status == "killed":
        return (1,)
    return () if step.cell.restarted is None else (0,)
