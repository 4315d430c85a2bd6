"""Made-up worlds: the grammar of goals, questions with one answer each, and the score of every agent."""

from __future__ import annotations

import random
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rao_rl.envs import UnknownGoal, make
from rao_rl.envs.deepdive import (
    Chain,
    Corpus,
    DeepDiveSynth,
    Graph,
    Of,
    SynthSession,
    Whose,
    answers,
    format_goal,
    make_graph,
    parse_goal,
)
from rao_rl.envs.deepdive.goals import EXAMPLE, PREFIX, Step
from rao_rl.envs.deepdive.graph import BY_NAME, KINDS, RELATIONS
from rao_rl.envs.deepdive.pages import pages, read_page
from rao_rl.envs.deepdive.questions import questions
from recursive_agent import ConfigurationError, Status

from .worlds import caller

SMALL = Graph(
    seed=0,
    kinds={
        "Amber Ledger": "work",
        "Amber Clock": "work",
        "Salt Clock": "work",
        "Harlow Press": "organisation",
        "Alan Verton": "person",
        "Mirus Verton": "person",
        "Osmere": "place",
    },
    facts={
        ("Amber Ledger", "author"): frozenset({"Alan Verton"}),
        ("Amber Clock", "author"): frozenset({"Alan Verton"}),
        ("Salt Clock", "author"): frozenset({"Mirus Verton"}),
        ("Alan Verton", "book"): frozenset({"Amber Ledger", "Amber Clock"}),
        ("Mirus Verton", "book"): frozenset({"Salt Clock"}),
        ("Amber Ledger", "publisher"): frozenset({"Harlow Press"}),
        ("Harlow Press", "title"): frozenset({"Amber Ledger"}),
        ("Harlow Press", "founder"): frozenset({"Mirus Verton"}),
        ("Mirus Verton", "foundation"): frozenset({"Harlow Press"}),
        ("Amber Clock", "setting"): frozenset({"Osmere"}),
        ("Salt Clock", "setting"): frozenset({"Osmere"}),
        ("Osmere", "story"): frozenset({"Amber Clock", "Salt Clock"}),
        ("Alan Verton", "spouse"): frozenset({"Mirus Verton"}),
        ("Mirus Verton", "spouse"): frozenset({"Alan Verton"}),
    },
    unrelated=(),
)
"""Small enough to see every answer."""


@dataclass
class Ended:
    """An agent that has ended."""

    goal: str
    result: Any = None
    status: Status = Status.FINISHED
    id: str = "0"


def small_session() -> SynthSession:
    return SynthSession(SMALL, Corpus.of(pages(SMALL)))


# -- the grammar ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("goal", "chain"),
    [
        ("Find: the author of Amber Ledger", Chain("Amber Ledger", (Of("author"),))),
        (
            "Find: the founder of the publisher of Amber Ledger",
            Chain("Amber Ledger", (Of("publisher"), Of("founder"))),
        ),
        ("Find: the twin town of Osmere", Chain("Osmere", (Of("twin town"),))),
        (
            "Find: the publisher of the work whose author is the spouse of Alan Verton and whose setting is Osmere",
            Chain("Alan Verton", (Of("spouse"), Whose("work", "author", "setting", "Osmere"), Of("publisher"))),
        ),
        (
            "Find: the event whose guest is the person whose teacher is Alan Verton and whose birthplace is Osmere and whose "
            "organiser is Harlow Press",
            Chain(
                "Alan Verton",
                (
                    Whose("person", "teacher", "birthplace", "Osmere"),
                    Whose("event", "guest", "organiser", "Harlow Press"),
                ),
            ),
        ),
    ],
)
def test_a_goal_is_read_as_the_chain_it_names_and_written_back(goal: str, chain: Chain) -> None:
    assert parse_goal(goal) == chain
    assert format_goal(chain) == goal


@pytest.mark.parametrize(
    "goal",
    [
        "",
        "Find: ",
        "Find: Amber Ledger",
        "find: the author of Amber Ledger",
        "Find: the author of Amber Ledger.",
        "Find: the author of  Amber Ledger",
        "Find: the author of Amber Ledger ",
        "Find: the author of amber ledger",
        "Find: author of Amber Ledger",
        "Find: the colour of Amber Ledger",
        "Find: the author of the Amber Ledger",
        "Find: the work whose author is Alan Verton",
        "Find: the work whose author is Alan Verton and whose setting is the birthplace of Alan Verton",
        "Find: the author of Amber Ledger and whose setting is Osmere",
        "Find: the book whose author is Alan Verton and whose setting is Osmere",
        "Find: the work whose book is Alan Verton and whose setting is Osmere",
        "Find: the author of Amber Ledger\nFind: the author of Amber Clock",
        "Find: " + "the spouse of " * 100 + "Alan Verton",
        "Find: " + "the work whose author is " * 100_000,
    ],
)
def test_anything_else_breaks_the_grammar(goal: str) -> None:
    assert parse_goal(goal) is None


def test_the_example_in_messages_is_a_goal() -> None:
    assert parse_goal(EXAMPLE) is not None


_NAMES = st.sampled_from([*SMALL.kinds, "Tolan Verrick"])
_DIRECTIONS = sorted({name for relation in RELATIONS for name in (relation.name, relation.inverse)})
_STEPS: st.SearchStrategy[Step] = st.one_of(
    st.builds(Of, st.sampled_from(_DIRECTIONS)),
    st.builds(
        Whose, st.sampled_from(KINDS), st.sampled_from(sorted(BY_NAME)), st.sampled_from(sorted(BY_NAME)), _NAMES
    ),
)
_CHAINS = st.builds(Chain, _NAMES, st.lists(_STEPS, min_size=1, max_size=8).map(tuple))


@given(_CHAINS)
def test_every_chain_is_read_back_from_its_goal(chain: Chain) -> None:
    assert parse_goal(format_goal(chain)) == chain


@given(st.text(st.sampled_from("Find: thewosauroAmbLdg"), max_size=80))
def test_what_is_read_is_what_would_be_written(text: str) -> None:
    for goal in (text, PREFIX + text):
        chain = parse_goal(goal)
        assert chain is None or format_goal(chain) == goal


# -- answers ----------------------------------------------------------------------------------------------------------


def triples(graph: Graph) -> set[tuple[str, str, str]]:
    """Every fact once: subject, relation, object."""
    return {(one, name, other) for (one, name), others in graph.facts.items() if name in BY_NAME for other in others}


def brute_force(graph: Graph, chain: Chain) -> set[str]:
    """What a chain describes: of every entity, whether the facts say so."""
    facts, here = triples(graph), {chain.start}
    for step in chain.steps:
        here = {entity for entity in graph.kinds if any(leads_to(facts, graph, one, step, entity) for one in here)}
    return here


def leads_to(facts: set[tuple[str, str, str]], graph: Graph, one: str, step: Step, entity: str) -> bool:
    if isinstance(step, Whose):
        both = {(entity, step.relation, one), (entity, step.other, step.name)}
        return graph.kinds[entity] == step.kind and both <= facts
    backwards = [relation.name for relation in RELATIONS if relation.inverse == step.relation]
    return (one, step.relation, entity) in facts or any((entity, name, one) in facts for name in backwards)


@given(_CHAINS)
def test_answers_are_those_of_brute_force(chain: Chain) -> None:
    assert answers(SMALL, chain) == brute_force(SMALL, chain)


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.integers(2, 6))
def test_every_question_has_exactly_one_answer_and_names_nothing_on_the_way_to_it(seed: int, hops: int) -> None:
    graph = make_graph(seed)
    (chain,) = islice(questions(graph, random.Random(seed), hops), 1)
    assert len(chain.steps) == hops
    here, passed = {chain.start}, [chain.start]
    for length in range(1, hops + 1):
        here = brute_force(graph, Chain(chain.start, chain.steps[:length]))
        assert len(here) == 1
        passed += here
    assert answers(graph, chain) == here
    assert len({*passed, *chain.names()}) == len(passed) + len(chain.names()) - 1  # the start is in both
    assert not here & set(chain.names())
    assert parse_goal(format_goal(chain)) == chain


@settings(max_examples=10)
@given(st.integers(0, 10_000))
def test_both_directions_of_every_relation_agree_and_a_functional_one_has_one_object(seed: int) -> None:
    graph = make_graph(seed)
    assert len(graph.kinds) == 114
    assert not graph.kinds.keys() & {name for _, name in graph.unrelated}
    for relation in RELATIONS:
        for (one, name), others in graph.facts.items():
            if name != relation.name or (not relation.symmetric and graph.kinds[one] != relation.subject):
                continue
            assert not relation.functional or len(others) == 1
            for other in others:
                assert graph.kinds[one] == relation.subject
                assert graph.kinds[other] == relation.object
                assert one in graph.facts[other, relation.inverse]
                assert one != other


# -- pages ------------------------------------------------------------------------------------------------------------


@settings(max_examples=5)
@given(st.integers(0, 10_000))
def test_the_pages_say_what_the_graph_holds_and_no_more(seed: int) -> None:
    graph = make_graph(seed)
    found = {page.title: page for page in pages(graph)}
    assert len({page.url for page in found.values()}) == len(found)
    assert found.keys() > graph.kinds.keys()
    said = {
        (title, relation.name, value)
        for title, page in found.items()
        for relation in RELATIONS
        for value in read_page(page.text, title, relation.name)
    }
    assert said == triples(graph)


def test_names_are_alike_and_some_pages_are_about_something_else() -> None:
    graph = make_graph(3)
    words = [word for name, kind in graph.kinds.items() if kind == "person" for word in name.split()]
    assert max(words.count(word) for word in words) > 2
    assert len(list(pages(graph))) == 114 + 15 + 24
    assert len(graph.unrelated) == 15


# -- tasks ------------------------------------------------------------------------------------------------------------


def test_tasks_are_the_same_on_every_machine() -> None:
    environment = make("deepdive-synth")
    tasks = [task for split in environment.splits for task in environment.tasks(split, 7, limit=20)]
    assert len({task.id for task in tasks}) == len(tasks)
    shown = "\n".join(f"{task.id} {task.level} {task.goal}" for task in tasks)
    assert sha256(shown.encode()).hexdigest()[:16] == "3e3016303c02e2c6"


def test_pages_are_the_same_on_every_machine() -> None:
    shown = "\n".join(f"{page.url} {page.title} {page.text}" for page in pages(make_graph(5)))
    assert sha256(shown.encode()).hexdigest()[:16] == "cc36af71252bc147"


def test_a_level_has_as_many_tasks_as_asked_for_and_all_levels_together_a_split() -> None:
    environment = DeepDiveSynth()
    assert len(list(environment.tasks("test"))) == 200
    more = list(environment.tasks("validation", 0, "6-hop", 70))
    assert len({task.id for task in more}) == len({(task.goal, task.data["world"]) for task in more}) == 70
    assert more[:5] == list(environment.tasks("validation", 0, "6-hop", 5))
    assert all(len((parse_goal(task.goal) or Chain("", ())).steps) == 6 for task in more)


def test_splits_and_seeds_have_worlds_of_their_own_and_the_mode_changes_no_task() -> None:
    def worlds(split: str, seed: int) -> set[int]:
        return {task.data["world"] for task in DeepDiveSynth().tasks(split, seed, "2-hop", 16)}

    every = [worlds(split, seed) for split in ("train", "validation", "test") for seed in (0, 1)]
    assert len(set().union(*every)) == sum(map(len, every)) == 6 * 16
    single = DeepDiveSynth(mode="single")
    assert list(single.tasks("test", limit=5)) == list(DeepDiveSynth().tasks("test", limit=5))
    assert (single.max_depth, DeepDiveSynth().max_depth) == (0, 5)


def test_the_answer_stands_nowhere_in_a_task() -> None:
    environment = DeepDiveSynth()
    for task in environment.tasks("test", limit=20):
        chain = parse_goal(task.goal)
        assert chain is not None
        (answer,) = answers(environment.session(task).graph, chain)
        assert answer not in repr(task)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: DeepDiveSynth(mode="both"), "mode must be one of single, recursive, not 'both'"),  # type: ignore[arg-type]
        (lambda: DeepDiveSynth().tasks("dev"), "split must be one of train, validation, test, not 'dev'"),
        (lambda: DeepDiveSynth().tasks("test", level="9-hop"), "level must be one of 2-hop, .*, not '9-hop'"),
        (lambda: DeepDiveSynth().tasks("test", limit=-1), "limit must not be negative"),
        (lambda: DeepDiveSynth().task("Find: the author of Amber Zebra"), "there is nothing called Amber Zebra"),
    ],
)
def test_wrong_values_are_refused_in_a_sentence(call: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        call()


def test_a_goal_from_outside_is_a_task_of_the_test_world() -> None:
    environment = DeepDiveSynth()
    (task,) = environment.tasks("test", 3, "2-hop", 1)
    own = environment.task(task.goal, 3)
    assert (own.goal, own.data, own.level) == (task.goal, task.data, None)
    with pytest.raises(UnknownGoal, match="a goal reads like 'Find: the founder of"):
        environment.task("Who founded it?", 3)
    person = next(name for name, kind in environment.session(task).graph.kinds.items() if kind == "person")
    with pytest.raises(ConfigurationError, match="must have one answer, and "):
        environment.task(f"Find: the venue of {person}", 3)


# -- scores -----------------------------------------------------------------------------------------------------------

FOUNDER = "Find: the founder of the publisher of Amber Ledger"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("goal", "result", "score"),
    [
        (FOUNDER, "Mirus Verton", 1.0),
        (FOUNDER, "  mirus verton. ", 1.0),
        (FOUNDER, ["Mirus Verton"], 1.0),
        (FOUNDER, "Alan Verton", 0.0),
        (FOUNDER, "Harlow Press", 0.0),  # one hop too few
        (FOUNDER, "The founder is Mirus Verton", 0.0),
        (FOUNDER, ["Mirus Verton", "Alan Verton"], 0.0),
        (FOUNDER, list(SMALL.kinds), 0.0),
        (FOUNDER, None, 0.0),
        (FOUNDER, {"name": "Mirus Verton"}, 0.0),
        (FOUNDER, [], 0.0),
        ("Find: the book of Alan Verton", ["Amber Clock", "Amber Ledger"], 1.0),
        ("Find: the book of Alan Verton", "Amber Clock", 0.0),
        ("Find: the work whose author is the spouse of Alan Verton and whose setting is Osmere", "Salt Clock", 1.0),
        ("Find: the work whose author is the spouse of Alan Verton and whose setting is Osmere", "Amber Clock", 0.0),
    ],
)
async def test_an_agent_is_scored_by_its_own_goal(goal: str, result: object, score: float) -> None:
    session = small_session()
    assert await session.score(Ended(goal, result)) == score
    assert session.unparsed == session.unanswerable == set()


@pytest.mark.anyio
async def test_goals_that_break_the_grammar_or_have_no_answer_score_0_and_are_counted() -> None:
    session = small_session()
    assert await session.score(Ended("Who founded Harlow Press?", "Mirus Verton", id="0.0")) == 0.0
    assert await session.score(Ended("Find: the founder of Harlow Works", None, id="0.1")) == 0.0
    assert await session.score(Ended("Find: the venue of Alan Verton", "Osmere", id="0.2")) == 0.0
    assert await session.score(Ended(FOUNDER, "Mirus Verton", id="0.3")) == 1.0
    assert (session.unparsed, session.unanswerable) == ({"0.0"}, {"0.1", "0.2"})


@pytest.mark.anyio
@pytest.mark.parametrize("status", [status for status in Status if not status.finished])
async def test_an_agent_that_did_not_finish_scores_0(status: Status) -> None:
    assert await small_session().score(Ended(FOUNDER, "Mirus Verton", status)) == 0.0


@pytest.mark.anyio
async def test_the_tools_find_and_show_pages() -> None:
    session = small_session()
    found = await session.search_web('"Amber Ledger"', 3, ctx=caller())
    assert found["query"] == '"Amber Ledger"'
    assert found["results"][0]["title"] == "Amber Ledger"
    page = await session.view_page(found["results"][0]["url"], ctx=caller())
    assert read_page(page, "Amber Ledger", "author") == ("Alan Verton",)
    assert read_page(page, "Amber Ledger", "publisher") == ("Harlow Press",)
