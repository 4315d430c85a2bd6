"""The expert's code, run by real agents in a real sandbox, scores 1 at every node and fits the windows it is meant for."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import islice

import anyio
import pytest

from rao_rl.envs import Demonstration, Mode
from rao_rl.envs.base import Environment
from rao_rl.envs.oolong import OolongSynth
from rao_rl.envs.oolong.experts import Expert
from rao_rl.envs.oolong.session import Reading
from rao_rl.imitation.expert import ExpertModel
from rao_rl.imitation.prompting import Prompting
from rao_rl.rollouts.attempt import AttemptSettings, rollout
from recursive_agent import Result, Status
from recursive_agent.trace.tree import Node
from tests.envs.oolong.parts import Cells, node

CHARS_PER_TOKEN = 3
"""Python and names take more tokens than prose: fewer characters each than the levels are measured by."""


async def attempt(environment: Environment, shown: Demonstration, mode: Mode) -> Result:
    model = ExpertModel(shown.expert, Prompting(style="minimal", action_format="fenced"))
    result = await rollout(environment, shown.task, model, AttemptSettings(mode=mode))
    assert result.status is Status.FINISHED, result.reason
    wrong = [(node.id, node.goal, node.result) for node in result.tree.nodes.values() if node.score != 1.0]
    assert not wrong, wrong
    return result


def longest(nodes: Sequence[Node]) -> int:
    """Tokens of the longest conversation, about."""
    return max(sum(len(message.content or "") for message in node.conversation()) for node in nodes) // CHARS_PER_TOKEN


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("mode", ["single", "recursive"])
@pytest.mark.parametrize("reading", ["code", "print"])
async def test_demonstrations_are_solved_at_every_node(mode: Mode, reading: Reading) -> None:
    environment = OolongSynth(mode=mode, reading=reading, taught="8k")
    for shown in islice(environment.demonstrations(seed=1), 5 if mode == "single" else 2):
        result = await attempt(environment, shown, mode)
        nodes = list(result.tree.nodes.values())
        assert (len(nodes) > 5) == (mode == "recursive")
        # A tenth of the document holds every conversation but that of an agent that reads alone.
        assert (longest(nodes) > 820) == (mode == "single" and reading == "print")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("level", "mode", "reading"),
    [
        ("16k", "recursive", "print"),
        pytest.param("32k", "single", "print", marks=pytest.mark.slow),
        pytest.param("64k", "recursive", "code", marks=pytest.mark.slow),
        ("128k", "single", "code"),
        pytest.param("1m", "single", "code", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_longer_documents_are_solved_too(level: str, mode: Mode, reading: Reading) -> None:
    environment = OolongSynth(mode=mode, reading=reading, taught=level)
    result = await attempt(environment, next(iter(environment.demonstrations(seed=2))), mode)
    if reading == "code" or mode == "recursive":
        assert longest(list(result.tree.nodes.values())) < 820


ENVIRONMENT = OolongSynth()
QUESTIONS = (
    "How many hits on {creature} are there?",
    "What is the total damage of hits by {who}?",
    "How many casts are there for each spell?",
    "How many rolls are there for each episode?",
    "Which character has the most rolls of 20?",
    "Which spell has the fewest casts by {who}?",
    "Which episode has the most casts?",
    "Are hits by {who} more common than hits by {other}, less common, or of the same frequency?",
    "Which skills have rolls by {who}?",
    "Which episodes have casts of {spell}?",
    "How many episodes have casts of {spell}?",
    "What is the first episode with casts of {spell}?",
    "What is the last episode with rolls of 20 by {who}?",
    "How many casts of Nothing are there?",
    "Which spell has the most casts by Nobody?",
    "Which character has the fewest casts of Nothing?",
    "What is the first episode with casts of Nothing?",
    "What is the last episode with casts of Nothing?",
    "Which spells have casts by Nobody?",
    "How many casts by Nobody are there for each spell?",
)


@pytest.mark.parametrize("reading", ["code", "print"])
@pytest.mark.parametrize("recursive", [True, False])
@pytest.mark.parametrize("question", QUESTIONS)
def test_every_form_of_question_is_solved_by_every_agent(question: str, reading: Reading, recursive: bool) -> None:
    session = ENVIRONMENT.session(ENVIRONMENT.task("How many casts are there?", 7))
    made = session.transcript
    who, other = made.cast.characters[:2]
    (spell, *_), (creature, *_) = made.cast.names["casts"], made.cast.names["hits"]
    goal = question.format(who=who, other=other, spell=spell, creature=creature)
    cells = Cells(Expert(reading=reading, recursive=recursive, leaf=30))
    asyncio.run(cells.run(goal, "".join(f"{line}\n" for line in made.lines[:120])))
    for asked, context, value in cells.ended:
        assert anyio.run(session.score, node(asked, context, value)) == 1.0, (asked, value)
    assert len(cells.ended) == (5 if recursive else 1)
