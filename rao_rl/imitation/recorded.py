"""The conversations of recorded agents that did well, as they were, or in the messages of another prompt style."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from recursive_agent.actions import Action
from recursive_agent.checkpoint import EnvironmentSettings
from recursive_agent.messages import Message
from recursive_agent.observations import Observations, Turn, without_advice
from recursive_agent.prompts import Situation, opening
from recursive_agent.repl.base import CellResult, CellStatus
from recursive_agent.tools import tool, tool_set
from recursive_agent.trace.folder import TraceState
from recursive_agent.trace.node import Stretch
from recursive_agent.trace.tree import ExecutionTree, Node

from ..data.folder import read_folder
from ..data.policy import settings_of
from ..envs.arguments import from_label
from ..envs.registry import environment_names
from ..errors import DataError
from .prompting import Prompting

_MINIMAL = "--set imitation.prompt_style=minimal"
_AS_IT_IS = (
    "train in the style in which they were recorded: leave out imitation.prompt_style and imitation.action_format"
)


@dataclass(frozen=True, slots=True)
class Recorded:
    """What recorded trees hold for imitation: the conversations of nodes that did well, and how they were prompted."""

    conversations: list[list[Message]]
    openings: list[int]
    """How many messages of each conversation came before its first answer: the prompt, with worked examples. After a compaction
    also the summary and the turns that were kept, which are answers of the conversation before."""
    nodes: int
    """All nodes seen, the unsuccessful ones included."""
    prompting: Prompting
    """How the conversations are written."""
    temperature: float | None
    """What all runs were sampled at; None where they differ or do not say."""
    rewritten: int
    """Conversations that were recorded in another style."""
    unclear: int
    """Nodes that did well and are left out, since their conversations cannot be written in that style."""
    runs: list[str]
    groups: frozenset[str]
    """The groups that the runs belong to."""
    left_out: Counter[TraceState]
    """Traces that were not read, by reason."""
    problems: list[str]


def read_successful(path: str | Path, *, threshold: float, prompting: Prompting | None = None) -> Recorded:
    """The conversations of the nodes with a score of at least `threshold`, or that finished where they have no score.

    `path` is a trace or a folder of traces, read as `read_folder` does. With `prompting` they are written in that style,
    whatever they were recorded in. Raises DataError where there is none, where nothing succeeded or can be written so, and,
    without `prompting`, where the traces were prompted in different ways.
    """
    place = Path(path)
    folder = read_folder(place)
    kept: list[list[Message]] = []
    openings: list[int] = []
    nodes = rewritten = unclear = 0
    styles: set[Prompting] = set()
    for tree in folder.trees.values():
        for node in tree.walk():
            nodes += 1
            recorded = _prompting_of(tree, node)
            stretches = node.conversations(trained=True) if node.trainable and succeeded(node, threshold) else []
            if not stretches:
                continue
            styles.add(recorded)
            if prompting is not None and prompting != recorded:
                if prompting.style != "minimal":
                    raise DataError(
                        f"{place}: conversations in the {recorded.style} style ({recorded.action_format}) can be written in no "
                        f"other than the minimal one, since traces do not hold all that the rich one shows; {_AS_IT_IS}"
                    )
                messages = rewrite(tree, node, prompting)
                stretches = [] if messages is None else [Stretch(messages, 0)]
                rewritten += bool(stretches)
                unclear += not stretches
            for stretch in stretches:
                kept.append(stretch.messages)
                openings.append(stretch.given)
    if not styles:
        raise DataError(
            f"none of the {nodes:,} agents in {place} succeeded (score of at least {threshold:g}, or finished where not "
            "scored), so there is nothing to imitate"
        )
    if prompting is None and any(style.action_format == "tool" for style in styles):
        raise DataError(
            f"the traces in {place} hold native tool calls, which imitation cannot teach; have them written as text "
            f"with {_MINIMAL}"
        )
    if prompting is None and len(styles) > 1:
        raise DataError(
            f"the traces in {place} mix prompt styles or action formats; train on one kind at a time, or have all "
            f"of them written in one style with {_MINIMAL}"
        )
    written = prompting or next(iter(styles))
    if not kept:
        raise DataError(
            f"not one of the conversations in {place} can be written in the {written.style} style; {_AS_IT_IS}"
        )
    temperatures = {tree.settings.get("temperature") for tree in folder.trees.values()}
    (temperature,) = temperatures if len(temperatures) == 1 else (None,)
    return Recorded(
        conversations=kept,
        openings=openings,
        nodes=nodes,
        prompting=written,
        temperature=float(temperature) if isinstance(temperature, int | float) else None,
        rewritten=rewritten,
        unclear=unclear,
        runs=sorted(tree.run for tree in folder.trees.values()),
        groups=frozenset(tree.group for tree in folder.trees.values() if tree.group is not None),
        left_out=folder.left_out,
        problems=folder.problems,
    )


def environment_of(recorded: Recorded) -> EnvironmentSettings | None:
    """The environment that all runs were recorded in (`rao rollout` puts its name before their groups); None for others."""
    labels = {group.partition("/")[0] for group in recorded.groups}
    if len(labels) != 1:
        return None
    name, arguments = from_label(labels.pop())
    return EnvironmentSettings(name=name, arguments=arguments) if name in environment_names() else None


def succeeded(node: Node, threshold: float) -> bool:
    """Whether a node did well, by its score where it has one."""
    return node.finished if node.score is None else node.score >= threshold


def _prompting_of(tree: ExecutionTree, node: Node) -> Prompting:
    settings = settings_of(tree, node)
    return Prompting(settings.get("prompt_style", "rich"), settings.get("action_format", "fenced"))


def rewrite(tree: ExecutionTree, node: Node, prompting: Prompting) -> list[Message] | None:
    """The conversation of a node in the minimal style; None where the trace does not say all that this needs, and where the
    conversation was compacted.

    The opening is written anew, each answer is the code that was run, and each observation is written anew from its cell: it
    must then be what the agent saw, apart from the status line and the advice that the rich style has.
    """
    if any(call.restart for call in node.model_calls):
        return None
    steps = [step for step in node.steps if step.model is not None]
    messages = opening(prompting.style, prompting.action_format, _situation(tree, node))
    rich = _prompting_of(tree, node).style == "rich"
    observations = Observations(prompting.style)
    for step, after in zip(steps, [*steps[1:], None], strict=True):
        if step.cell is None:  # an answer without code, and a hint about it
            return None
        messages.append(Message("assistant", prompting.answer(step.cell.code)))
        if after is None or after.model is None:
            continue
        cell = CellResult(status=CellStatus(step.cell.status), output=step.cell.output, error=step.cell.error)
        shown = observations.after_cell(Turn(cell=cell, action=Action(step.cell.code)), "")
        seen = "\n".join(message.content for message in after.model.messages if message.role != "assistant")
        if (without_advice(seen) if rich else seen).strip() != shown.strip():
            return None
        messages.append(Message("user", shown))
    return messages


def _situation(tree: ExecutionTree, node: Node) -> Situation:
    deepest, children = tree.limits.get("max_depth", 0), tree.limits.get("max_children", 0)
    return Situation(
        goal=node.goal,
        context=node.context,
        schema=node.returns,
        tools=tool_set(_named(name) for name in tree.settings.get("tools", ())),
        can_launch=node.depth < deepest and children > 0,
        launcher=deepest > 0 and children > 0,
        depth=node.depth,
        max_depth=deepest,
        max_steps=node.max_steps or 1,
        instructions=None,
    )


def _named(name: str) -> Callable[[], None]:
    """A tool of which the trace says the name alone, which is all that the minimal style shows."""

    def absent() -> None:
        return None

    return tool(name=name)(absent)
