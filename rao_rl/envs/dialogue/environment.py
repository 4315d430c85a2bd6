"""The dialogue as an `Environment`: tasks by number of topics, the counterpart, and the score of every agent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from recursive_agent.errors import ConfigurationError
from recursive_agent.tools import ToolContext

from ...errors import UnknownGoal
from ..base import About, ScoredNode, Task
from ..generated import ExactSession, Generated, Window, task_data
from .agenda import AGREED, Agenda, make_agenda, parse_plan, parse_topic
from .experts import alone, delegate, settle

LEVELS: Mapping[str, int] = MappingProxyType({"6-turns": 1, "10-turns": 2, "18-turns": 4})
"""Turns that one agent needs, and the topics of the plan."""


class DialogueSession(ExactSession):
    """One dialogue, and who reached which agreement."""

    def __init__(self, agenda: Agenda, window: int | None = None) -> None:
        super().__init__()
        self.agenda = agenda
        self.tools = (self.options, self.say)
        self._window = Window(window, "replies")
        self._agreed: dict[str, set[str]] = {}

    async def options(self, topic: str, day: str) -> list[tuple[str, int, int]]:
        """What is on offer for a topic on a day: (letter, price, stars)."""
        if (topic, day) not in self.agenda.options:
            raise ValueError(f"nothing is on offer for {topic!r:.40} on {day!r:.40}")
        return list(self.agenda.options[topic, day])

    async def say(self, text: str, *, ctx: ToolContext) -> str:
        """Say something to the person whose plan it is, and get the reply.

        'wishes hotel' asks for wishes; 'hotel B fri' offers option B on that day; 'confirm fri B A' confirms a plan, with a
        letter for each topic in the order of the goal. It may change its mind, in the reply. A topic is settled when the reply
        to an offer is 'agreed' (the cheapest option that meets the wishes); the answer is its letter. A plan is done when
        the reply to 'confirm …' is 'agreed'; the answer is {'day': 'fri', 'hotel': 'B', …}.
        """
        reply = self.agenda.reply(text)
        self._window.look(ctx)
        if reply == AGREED:
            node = ctx.node
            while node:  # those who asked for it are credited as well
                self._agreed.setdefault(node, set()).add(text)
                node = node.rpartition(".")[0]
        return reply

    def understands(self, goal: str) -> bool:
        """Whether the goal keeps the grammar, and names this plan or a topic and a day of it."""
        return self._gold(goal) is not None

    def verdict(self, node: ScoredNode) -> bool:
        """Whether the node or its descendants reached the agreement that the goal asks for, and its result is that."""
        gold = self._gold(node.goal)
        return gold is not None and node.result == gold[0] and gold[1] in self._agreed.get(node.id, ())

    def _gold(self, goal: str) -> tuple[Any, str] | None:
        """The result that is asked for, and what to say for the agreement."""
        agenda = self.agenda
        if parse_plan(goal) == (list(agenda.wishes), agenda.day):
            plan = agenda.plan(agenda.later)
            return plan, " ".join(["confirm", *plan.values()])
        if (topic := parse_topic(goal)) in agenda.options and topic is not None:
            letter = agenda.choice(*topic)
            return letter, f"{topic[0]} {letter} {topic[1]}"
        return None


class Dialogue(Generated):
    """Settle a plan with somebody who tells wishes little by little and changes them.

    `mode`: `single` withholds `launch_subagent` (`max_depth` 0). `window`: things that one agent may say in all; None: as
    many as it likes. Raises ConfigurationError for any other value.
    """

    name = "dialogue"
    levels = tuple(LEVELS)
    deepest = 1
    about = About(
        summary="settle a plan of 1 to 4 topics in a dialogue with somebody who changes their mind",
        sizes={"train": None, "validation": None, "test": None},
    )

    def make(self, id: str, level: str) -> Task:
        """A whole plan."""
        agenda = make_agenda(id, LEVELS[level])
        return self._task(id, id, level, f"Plan {', '.join(agenda.wishes)} on {agenda.day}")

    def task(self, goal: str, seed: int = 0) -> Task:
        """The task of a goal about the longest plan of `seed`.

        Raises UnknownGoal for a goal that breaks the grammar, and ConfigurationError for topics or days that are not its.
        """
        if parse_plan(goal) is None and parse_topic(goal) is None:
            raise UnknownGoal(f"a goal reads like 'Plan hotel, taxi on fri' or 'Settle hotel on fri', not {goal!r:.80}")
        source = f"dialogue/own/{seed}"
        task = self._task(f"{source}/{goal}", source, None, goal)
        agenda = self.session(task).agenda
        if not self.session(task).understands(goal):
            raise ConfigurationError(
                f"dialogue: the plan of seed {seed} is 'Plan {', '.join(agenda.wishes)} on {agenda.day}'; its topics can be "
                f"settled on {agenda.day} and {agenda.later}"
            )
        return task

    def session(self, task: Task) -> DialogueSession:
        """A fresh state for one attempt at `task`."""
        source, topics = task_data(self.name, task, "source", str), task_data(self.name, task, "topics", int)
        return DialogueSession(make_agenda(source, topics), self.window)

    def expert(self, goal: str, context: Any) -> Iterator[str]:
        """Settle one topic, or delegate or settle all of them."""
        if topic := parse_topic(goal):
            return settle(*topic)
        plan = parse_plan(goal)
        return iter(()) if plan is None else delegate(*plan) if self.mode == "recursive" else alone(*plan)

    def parts(self, task: Task) -> int:
        """Turns of an agent that works alone."""
        return 4 * task_data(self.name, task, "topics", int) + 2

    def _task(self, id: str, source: str, level: str | None, goal: str) -> Task:
        topics = LEVELS[self.levels[-1] if level is None else level]
        returns: Any = str if parse_topic(goal) else dict[str, str]
        return Task(id=id, goal=goal, returns=returns, level=level, data={"source": source, "topics": topics})
