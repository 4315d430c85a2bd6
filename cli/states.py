"""What the agents of a tree do at one moment, in words and in counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping

from recursive_agent.status import LABELS, NEVER_ENDED, Activity, Label, Status
from recursive_agent.trace.activity import Doing, doing
from recursive_agent.trace.tree import ExecutionTree, Node

from .text import count, one_line, seconds

STYLES: Mapping[str, str] = {"active": "yellow", "waiting": "cyan", "good": "green", "bad": "red", "neutral": "dim"}
"""Colours of the tones of labels."""


class Snapshot:
    """The agents of a tree at one moment: what those that run do, and how many are in each state."""

    def __init__(self, tree: ExecutionTree, now: float | None = None) -> None:
        """`now` is the time of the moment, in the time of the events; that of the last one by default."""
        self.tree = tree
        self.now = max(tree.last_time, now or 0.0)
        running = [] if tree.complete else [node for node in tree.nodes.values() if node.running]
        self.doing: dict[str, Doing] = {node.id: found for node in running if (found := doing(node, tree)) is not None}

    def label(self, node: Node) -> Label:
        """How an agent is shown."""
        if node.status is not Status.RUNNING:
            return LABELS[node.status]
        now = self.doing.get(node.id)
        return NEVER_ENDED if now is None else LABELS[now.activity]

    def state(self, node: Node, *, short: bool = False) -> str:
        """What a node does and for how long, or how it ended."""
        label, now = self.label(node), self.doing.get(node.id)
        if now is None:
            return label.short if short else label.words
        words = label.short if short else now.words
        if now.activity is Activity.SUBAGENTS:
            return f"{now.others} {words}" if short and now.others else words
        return f"{words} {seconds(max(0.0, self.now - now.since))}"

    def duration(self, node: Node) -> float:
        """Seconds of an agent's life so far."""
        alive = node.id in self.doing
        return max(0.0, self.now - node.started) if alive else node.duration

    def counts(self, nodes: Iterable[Node]) -> Counter[Status | Activity]:
        """How many of these agents are in each state; RUNNING are those whose end was never written."""
        found: Counter[Status | Activity] = Counter()
        for node in nodes:
            now = self.doing.get(node.id)
            found[node.status if now is None else now.activity] += 1
        return found


def summaries(counts: Mapping[Status | Activity, int]) -> Iterator[str]:
    """How many agents are in which state, from the longest wording to the shortest."""
    groups = [
        (words, mark, states)
        for words, mark, belongs in _GROUPS
        if (states := {key: number for key, number in counts.items() if number and belongs(key)})
    ]
    long: tuple[tuple[str, ...], ...] = (("waiting", "failed"), ("waiting",))
    short: tuple[tuple[str, ...], ...] = (("waiting",), ())
    for split in long:
        yield " · ".join(f"{_sum(states)} {words}{_parts(states, words in split)}" for words, _, states in groups)
    for split in short:
        yield " ".join(f"{mark} {_sum(states)}{_parts(states, words in split)}" for words, mark, states in groups)


def _sum(states: Mapping[Status | Activity, int]) -> str:
    return f"{sum(states.values()):,}"


def _parts(states: Mapping[Status | Activity, int], split: bool) -> str:
    """How many of a group are in which of its states, the most frequent first."""
    if not split:
        return ""
    most = sorted(states.items(), key=lambda item: -item[1])
    return f": {', '.join(f'{LABELS[key].short} {number:,}' for key, number in most)}"


_GROUPS: tuple[tuple[str, str, Callable[[Status | Activity], bool]], ...] = (
    ("working", "●", lambda key: isinstance(key, Activity) and not key.waits),
    ("waiting", "○", lambda key: isinstance(key, Activity) and key.waits),
    ("finished", "✓", lambda key: key is Status.FINISHED),
    ("failed", "✗", lambda key: isinstance(key, Status) and LABELS[key].tone == "bad"),
    ("cancelled", "⊘", lambda key: key is Status.CANCELLED),
    (NEVER_ENDED.words, NEVER_ENDED.mark, lambda key: key is Status.RUNNING),
)


def headline(tree: ExecutionTree, now: float | None = None) -> str:
    """The whole tree in one line."""
    usage = tree.usage
    running = sum(node.running for node in tree.nodes.values())
    agents = count(len(tree.nodes), "agent") + (f" ({running:,} running)" if running and not tree.complete else "")
    parts = [agents, f"depth {tree.max_depth}", count(usage.calls, "model call"), count(usage.total_tokens, "token")]
    if len(tree.settings.get("models") or ()) > 1 or any(node.model is not None for node in tree.nodes.values()):
        by_model = tree.usage_by_model
        if len(by_model) > 1:
            each = ", ".join(f"{one_line(name, 40)} {used.total_tokens:,}" for name, used in by_model.items())
            parts[-1] += f" ({each})"
    if shared := tree.shared_launches:
        parts.append(f"{shared:,} shared")
    if resumed := len(tree.resumptions):
        parts.append("resumed once" if resumed == 1 else f"resumed {resumed:,} times")
    if tree.origin is not None:
        parts.append(f"forked from {one_line(tree.origin, 40)}")
    if is_paused(tree):
        parts.insert(0, "paused")
    took = tree.duration if now is None or tree.complete else max(tree.duration, now - tree.started)
    return " · ".join([*parts, seconds(took)])


def is_paused(tree: ExecutionTree) -> bool:
    """Whether the caller has paused the run."""
    if tree.complete:
        return False
    return next(
        (each.action == "pause" for each in reversed(tree.steered) if each.action in ("pause", "resume")), False
    )


def endpoint_wait(snapshot: Snapshot) -> str | None:
    """That all calls wait for the endpoint, and for how long still; None if they do not."""
    waits = snapshot.tree.waits.get(None)
    if waits is None or waits.reason is None:
        return None
    left = 0.0 if waits.seconds is None else waits.time + waits.seconds - snapshot.now
    when = f": calls go on in {seconds(left)}" if left > 0 else ": calls go on one after the other"
    return f"rate limit{when} · {one_line(waits.reason, 200)}"
