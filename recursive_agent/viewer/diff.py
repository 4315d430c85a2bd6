"""Two runs side by side: which agent of one is which agent of the other, and what differs.

Agents are paired from the root down, by the content of their launches (see `keys`), never by their position: the same
goal may be launched several times, and launches that run together may come in any order. Among sub-agents of a pair the
first to be paired are those that did exactly the same, all their sub-agents included; then those with the same goal,
inputs and settings; then those with goals that are mostly the same words. In the end agents that were launched by another
agent than in the other run are paired by their keys.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..trace.node import Node, Step
from ..trace.schema import ROOT
from ..trace.tree import ExecutionTree
from . import keys
from .align import by_key, by_words, in_order

_PARTS: Mapping[str, Callable[[Step], bytes]] = {
    "prompt": keys.prompt_key,
    "answer": keys.answer_key,
    "code": keys.code_key,
    "output": keys.output_key,
    "calls": keys.calls_key,
}


@dataclass(frozen=True, slots=True)
class StepPair:
    """A step of each agent of a pair, by number; None where only the other one has it."""

    left: int | None
    right: int | None
    changed: tuple[str, ...] = ()
    """What differs of `prompt`, `answer`, `code`, `output`, `calls`."""

    @property
    def same(self) -> bool:
        """Whether both have it, and nothing differs."""
        return self.left is not None and self.right is not None and not self.changed


@dataclass(frozen=True, slots=True)
class Pair:
    """An agent of each run, by id; None where only the other run has it."""

    left: str | None
    right: str | None
    changed: tuple[str, ...] = ()
    """What differs of the agents themselves (`goal`, `context`, `returns`, `settings`, `model`, `parent`, `status`, `reason`,
    `result`, `score`, `steps`), and `children` where one of them launched an agent that the other one did not."""
    steps: tuple[StepPair, ...] = ()
    below: int = 0
    """How many pairs below this one are not the same."""

    @property
    def same(self) -> bool:
        """Whether both runs have the agent, and nothing of it differs; agents below it may."""
        return self.left is not None and self.right is not None and not self.changed


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two runs side by side. `pairs` come in the order in which they are shown: each before those below it."""

    left: str
    right: str
    pairs: tuple[Pair, ...]

    @property
    def same(self) -> bool:
        """Whether the runs have the same content."""
        return all(pair.same for pair in self.pairs)

    def as_data(self) -> dict[str, Any]:
        """As plain data for a page."""
        return {"left": self.left, "right": self.right, "pairs": [_pair_data(pair) for pair in self.pairs]}


def compare(left: ExecutionTree, right: ExecutionTree) -> Comparison:
    """Put two runs side by side. `compare(right, left)` gives the same pairs, swapped."""
    sides = _Side(left), _Side(right)
    related = left.run == right.run or left.run == right.origin or right.run == left.origin
    pairing = _Pairing(*sides, related=related or (left.origin is not None and left.origin == right.origin))
    if ROOT in left.nodes and ROOT in right.nodes:
        pairing.pair(left.root, right.root)
        pairing.pair_moved()
    return Comparison(left.run, right.run, tuple(_shown(pairing)))


@dataclass(slots=True)
class _Side:
    """One of the runs, and the keys of its agents."""

    tree: ExecutionTree
    launch: dict[str, str] = field(default_factory=dict)
    task: dict[str, bytes] = field(default_factory=dict)
    steps: dict[str, list[tuple[bytes, ...]]] = field(default_factory=dict)
    own: dict[str, bytes] = field(default_factory=dict)
    """What the agent itself did."""
    whole: dict[str, bytes] = field(default_factory=dict)
    """What it and all below it did."""

    def __post_init__(self) -> None:
        for node in reversed(list(self.tree.walk())):  # children before parents
            name = node.id
            self.launch[name] = keys.node_key(node, self.tree)
            self.task[name] = keys.task_key(node)
            self.steps[name] = [tuple(part(step) for part in _PARTS.values()) for step in node.steps]
            did = [keys.key_of(*step) for step in self.steps[name]]
            self.own[name] = keys.key_of(self.launch[name], node.model, keys.outcome_key(node), node.score, *did)
            below = sorted(self.whole[child.id] for child in node.children)
            self.whole[name] = keys.key_of(self.own[name], *below)


class _Pairing:
    """Which agent is which; grows from the root down."""

    def __init__(self, left: _Side, right: _Side, *, related: bool) -> None:
        self.left, self.right = left, right
        self.related = related
        """Whether one record begins with a copy of the other, so that the same agent has the same id and start in both."""
        self.to_right: dict[str, Node] = {}
        self.to_left: dict[str, Node] = {}

    def pair(self, one: Node, other: Node) -> None:
        """Pair two agents, and what is below them."""
        waiting = [(one, other)]
        while waiting:
            ours, theirs = waiting.pop()
            self.to_right[ours.id], self.to_left[theirs.id] = theirs, ours
            waiting += self._children(ours, theirs)

    def _children(self, one: Node, other: Node) -> Iterator[tuple[Node, Node]]:
        """Pairs of their sub-agents that have none yet."""
        ours = {at: child for at, child in enumerate(one.children) if child.id not in self.to_right}
        theirs = {at: child for at, child in enumerate(other.children) if child.id not in self.to_left}
        for of_left, of_right in self._rounds():
            lefts = [(at, of_left(child)) for at, child in ours.items()]
            rights = [(at, of_right(child)) for at, child in theirs.items()]
            for i, j in by_key(lefts, rights, lambda key: key):
                yield ours.pop(i), theirs.pop(j)
            if not ours or not theirs:
                return
        lefts_by_goal = [(at, child.goal) for at, child in ours.items()]
        for i, j in by_words(lefts_by_goal, [(at, child.goal) for at, child in theirs.items()]):
            yield ours.pop(i), theirs.pop(j)

    def _rounds(self) -> Iterator[tuple[Callable[[Node], Hashable], Callable[[Node], Hashable]]]:
        """By which keys agents are paired, the strictest first: a function for each side."""
        if self.related:
            yield (
                lambda node: (node.id, node.started, self.left.launch[node.id]),
                lambda node: (node.id, node.started, self.right.launch[node.id]),
            )
        yield (lambda node: self.left.whole[node.id]), (lambda node: self.right.whole[node.id])
        yield (lambda node: self.left.own[node.id]), (lambda node: self.right.own[node.id])
        yield (
            lambda node: (self.left.launch[node.id], keys.outcome_key(node)),
            lambda node: (self.right.launch[node.id], keys.outcome_key(node)),
        )
        yield (lambda node: self.left.launch[node.id]), (lambda node: self.right.launch[node.id])
        yield (lambda node: self.left.task[node.id]), (lambda node: self.right.task[node.id])
        yield (lambda node: node.goal), (lambda node: node.goal)

    def pair_moved(self) -> None:
        """Pair agents whose parents are not paired with each other, by their keys; then what is below these pairs."""
        moved = []
        for of_left, of_right in ((self.left.whole, self.right.whole), (self.left.launch, self.right.launch)):
            ours = [node for node in self.left.tree.walk() if node.id not in self.to_right]
            theirs = [node for node in self.right.tree.walk() if node.id not in self.to_left]
            lefts = [(at, of_left[node.id]) for at, node in enumerate(ours)]
            rights = [(at, of_right[node.id]) for at, node in enumerate(theirs)]
            for i, j in by_key(lefts, rights, lambda key: key):
                self.to_right[ours[i].id], self.to_left[theirs[j].id] = theirs[j], ours[i]
                moved.append((ours[i], theirs[j]))
        for one, other in moved:
            for ours_below, theirs_below in self._children(one, other):
                self.pair(ours_below, theirs_below)

    def children(self, one: Node | None, other: Node | None) -> Iterator[tuple[Node | None, Node | None]]:
        """The pairs right below a pair, in the order of the left run, and of the right one where only that has them.

        An agent that was launched by another agent in the right run stands where the left one has it.
        """
        ours = [] if one is None else one.children
        rest = [child for child in ([] if other is None else other.children) if child.id not in self.to_left]
        after: dict[str | None, list[Node]] = {}
        before: str | None = None
        alone = {child.id for child in rest}
        for child in [] if other is None else other.children:
            if child.id in alone:
                after.setdefault(before, []).append(child)
            elif one is not None and self.to_left[child.id].parent == one.id:
                before = self.to_left[child.id].id
        yield from ((None, child) for child in after.get(None, ()))
        for child in ours:
            yield child, self.to_right.get(child.id)
            yield from ((None, late) for late in after.get(child.id, ()))


def _shown(pairing: _Pairing) -> Iterator[Pair]:
    """The pairs in their order, with how many below each are not the same."""
    left, right = pairing.left.tree, pairing.right.tree
    if ROOT not in left.nodes and ROOT not in right.nodes:
        return
    order: list[tuple[Pair, int | None]] = []  # each with the place of the pair above it
    waiting: list[tuple[Node | None, Node | None, int | None]] = [(left.nodes.get(ROOT), right.nodes.get(ROOT), None)]
    while waiting:
        one, other, above = waiting.pop()
        order.append((_compared(pairing, one, other), above))
        below = [(*pair, len(order) - 1) for pair in pairing.children(one, other)]
        waiting.extend(reversed(below))
    counts = [0] * len(order)
    for at in reversed(range(len(order))):
        pair, above = order[at]
        if above is not None:
            counts[above] += counts[at] + (not pair.same)
    for (pair, _), below_it in zip(order, counts, strict=True):
        yield Pair(pair.left, pair.right, pair.changed, pair.steps, below_it)


def _compared(pairing: _Pairing, one: Node | None, other: Node | None) -> Pair:
    if one is None or other is None:
        return Pair(None if one is None else one.id, None if other is None else other.id)
    sides = pairing.left, pairing.right
    steps = tuple(_steps(one, other, sides[0].steps[one.id], sides[1].steps[other.id]))
    parents_are_a_pair = one.parent is None or (
        one.parent in pairing.to_right and pairing.to_right[one.parent].id == other.parent
    )
    facts = {
        "goal": one.goal == other.goal,
        "context": keys.key_of(one.context) == keys.key_of(other.context),
        "returns": keys.key_of(one.returns) == keys.key_of(other.returns),
        "settings": keys.given_settings(one, sides[0].tree) == keys.given_settings(other, sides[1].tree),
        "model": (one.model or sides[0].tree.model) == (other.model or sides[1].tree.model),
        "parent": parents_are_a_pair,
        "status": one.status is other.status,
        "reason": one.reason == other.reason,
        "result": keys.key_of(one.result) == keys.key_of(other.result),
        "score": one.score == other.score,
        "steps": all(step.same for step in steps),
        "children": _same_children(pairing, one, other),
    }
    return Pair(one.id, other.id, tuple(name for name, same in facts.items() if not same), steps)


def _same_children(pairing: _Pairing, one: Node, other: Node) -> bool:
    paired = [pairing.to_right.get(child.id) for child in one.children]
    return len(paired) == len(other.children) and all(
        child is not None and child.parent == other.id for child in paired
    )


def _steps(
    one: Node, other: Node, left: Sequence[Sequence[bytes]], right: Sequence[Sequence[bytes]]
) -> Iterator[StepPair]:
    """The steps of a pair in their order."""
    i = j = 0
    for a, b in [*in_order(left, right), (len(left), len(right))]:
        yield from (StepPair(step.number, None) for step in one.steps[i:a])
        yield from (StepPair(None, step.number) for step in other.steps[j:b])
        if a < len(left) and b < len(right):
            named = zip(_PARTS, left[a], right[b], strict=True)
            changed = tuple(name for name, ours, theirs in named if ours != theirs)
            yield StepPair(one.steps[a].number, other.steps[b].number, changed)
        i, j = a + 1, b + 1


def _pair_data(pair: Pair) -> dict[str, Any]:
    return {
        "left": pair.left,
        "right": pair.right,
        "same": pair.same,
        "changed": list(pair.changed),
        "below": pair.below,
        "steps": [
            {"left": step.left, "right": step.right, "same": step.same, "changed": list(step.changed)}
            for step in pair.steps
        ],
    }
