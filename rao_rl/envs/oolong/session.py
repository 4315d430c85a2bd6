"""One attempt at a task about one of our transcripts: every agent is scored on its own question and its own context."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

from recursive_agent.trace.tree import Node

from .grading import Scoring, grade, list_precision, official_score, strict_score
from .questions import Gold, parse_goal
from .transcript import Transcript
from .wordings import LINE

Reading: TypeAlias = Literal["code", "print"]
"""`code`: an agent may compute its answer in any way. `print`: it must have read its context, see `OolongSession.read`."""

RULES = """\
The questions about a transcript, and how sub-agents can be asked them.

A transcript has lines such as `[12:7] Mara casts Ember at the wolf.`: line 7 of episode 12. Count what characters do: casts \
of spells, rolls for skills, hits on creatures with their damage. Do not count what is only planned, denied, hoped for or \
remembered, what creatures do, and lines without `[` at their beginning or a full stop at their end (they are cut).

A sub-agent's goal must be one of these questions, spelled exactly so, and its context a part of yours: text of the \
transcript, or a list of its lines. Its score is for the right answer from its own context.
How many casts of Ember by Mara are there? -> int
What is the total damage of hits on wolf? -> int
How many rolls are there for each skill? -> dict, name to count (also: each character, spell, creature, episode)
Which character has the most rolls of 20? -> name (also: fewest, of those that have any; "none" without any)
Are casts of Ember more common than casts of Frost, less common, or of the same frequency? -> "more common", "less common" or \
"same frequency"
Which episodes have hits on wolf? -> list (also: which characters, spells, skills, creatures)
How many episodes have hits on wolf? -> int
What is the first episode with rolls for Stealth by Mara? -> int, 0 for none (also: last)"""


class OolongSession:
    """The state of one tree: the transcript, and what each agent was asked and has read of it."""

    def __init__(self, transcript: Transcript, *, scoring: Scoring, reading: Reading, rules: bool) -> None:
        self.transcript = transcript
        self.scoring: Scoring = scoring
        self.reading: Reading = reading
        self.tools: Sequence[Callable[..., Any]] = (self.rules,) if rules else ()
        self.unparsed: set[str] = set()
        """Ids of the nodes whose goal broke the grammar, as far as they were scored."""
        self.unverified: set[str] = set()
        """Ids of the nodes whose context is not from the transcript, as far as they were scored."""
        self._read: dict[str, set[int]] = {}

    async def rules(self) -> str:
        """The rules."""  # replaced below: agents of the rich style read the whole text in their first message
        return RULES

    rules.__doc__ = RULES

    async def score(self, node: Node) -> float:
        """Score of an agent's answer to its own goal, from the part of the transcript that is its own context.

        0 where it did not finish, its goal breaks the grammar, or its context is not from the transcript; and, with
        `reading="print"`, where it has not read all of its context.
        """
        gold = self._gold(node)
        if gold is None or not node.status.finished:
            return 0.0
        if self.reading == "print" and self.share_read(node) < 1:
            return 0.0
        return grade(gold, node.result, self.scoring)

    def metrics(self, node: Node) -> Mapping[str, float]:
        """Both scores of an answer, the precision of a list, and the share of the context that was read."""
        gold = self._gold(node)
        if gold is None:
            return {}
        finished = node.status.finished
        found = {
            "official": official_score(gold, node.result) if finished else 0.0,
            "strict": strict_score(gold, node.result) if finished else 0.0,
            "read": self.share_read(node),
        }
        share = list_precision(gold, node.result) if finished else None
        return found if share is None else {**found, "precision": share}

    def share_read(self, node: Node) -> float:
        """The share of the lines of an agent's context that it has read; 0 where the context is not from the transcript."""
        lines = self.transcript.find(node.context)
        return 0.0 if lines is None else len(self.read(node).intersection(lines)) / len(lines)

    def read(self, node: Node) -> set[int]:
        """The lines that an agent has read: whole, in a message that it was shown, or through a sub-agent that finished.

        Code that looks for something in the context without printing it does not read.
        """
        done = self._read.get(node.id)
        if done is None:
            done = set()
            for step in node.steps:
                for message in [] if step.model is None else step.model.messages:
                    done.update(self._shown(message.content))
            for child in node.children:
                if child.status.finished:
                    done |= self.read(child)
            if not node.running:
                self._read[node.id] = done
        return done

    def _shown(self, text: str | None) -> set[int]:
        numbers = (self.transcript.number(match[0]) for match in LINE.finditer(text or ""))
        return {number for number in numbers if number is not None}

    def _gold(self, node: Node) -> Gold | None:
        question = parse_goal(node.goal)
        if question is None:
            self.unparsed.add(node.id)
            return None
        lines = self.transcript.find(node.context)
        if lines is None:
            self.unverified.add(node.id)
            return None
        return question.answer(self.transcript.facts_of(lines))
