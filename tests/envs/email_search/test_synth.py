"""`email-synth`: mailboxes and questions from a seed, exact answers for every goal, and what is scored."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from datetime import date, timedelta
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rao_rl.envs import UnknownGoal, make
from rao_rl.envs.email_search import EmailSynth
from rao_rl.envs.email_search.goals import Question, parse_goal
from rao_rl.envs.email_search.gold import Gold, gold_of, is_right
from rao_rl.envs.email_search.messages import Email
from rao_rl.envs.email_search.phrases import ATTRIBUTES, PROJECT
from rao_rl.envs.email_search.synth_tasks import PER_WORLD, SPLITS, WORLDS, world_seed
from rao_rl.envs.email_search.world import FIRST_DAY, Level, World, build_world
from recursive_agent.errors import ConfigurationError
from recursive_agent.status import Status

WORLD = build_world(5, Level(400, 60, 6, 8))
PEOPLE = list(WORLD.people)


def own(email: Email) -> str:
    """What the sender of an email wrote, without what is quoted."""
    return "\n".join(line for line in email.body.splitlines() if not line.startswith(">"))


def by_hand(question: Question) -> tuple[str, list[str]]:
    """(answer, message ids) by reading every email: nothing here knows what the generator meant to state."""
    emails = [
        email
        for email in WORLD.emails
        if email.concerns(WORLD.inbox) and str(question.start) <= email.date[:10] < str(question.end)
    ]
    if question.kind in ("value", "extension", "two-hop"):
        attribute = {"extension": "extension", "two-hop": "lead"}.get(question.kind, question.attribute or "")
        answer, ids = stated(emails, attribute, question.subject)
        if question.kind == "two-hop" and ids:
            lead = ids
            answer, ids = stated(emails, "extension", answer)
            ids = lead + ids if ids else []
        return answer, ids
    phrase = f"project {question.project}".lower()
    words = [(email, " ".join(re.findall(r"\w+", f"{email.subject} \n {email.body}".lower()))) for email in emails]
    found = [email for email, text in words if f" {phrase} " in f" {text} "]
    found = [email for email in found if email.sender in (question.senders or PEOPLE)]
    if question.kind == "count":
        return str(len(found)), [email.message_id for email in found]
    last = found[-1:]
    answer = last[0].sender if last and question.kind == "who" else last[0].date[:10] if last else "none"
    return answer, [email.message_id for email in last]


def stated(emails: list[Email], attribute: str, subject: str) -> tuple[str, list[str]]:
    for email in reversed(emails):
        value = ATTRIBUTES[attribute].read(own(email), subject)
        if value and (attribute != "extension" or WORLD.people[email.sender] == subject):
            return value, [email.message_id]
    return "none", []


@st.composite
def questions(draw: st.DrawFn) -> Question:
    first, last = sorted(draw(st.lists(st.integers(0, 60), min_size=2, max_size=2, unique=True)))
    kind: Any = draw(st.sampled_from(["value", "extension", "two-hop", "count", "when", "who"]))
    senders = {"count": st.lists(st.sampled_from(PEOPLE), min_size=1, max_size=4, unique=True)}
    return Question(
        kind=kind,
        start=FIRST_DAY + timedelta(first),
        end=FIRST_DAY + timedelta(last),
        project=None if kind == "extension" else draw(st.sampled_from(WORLD.projects)),
        attribute=draw(st.sampled_from([each.name for each in PROJECT])) if kind == "value" else None,
        person=draw(st.sampled_from(list(WORLD.people.values()))) if kind == "extension" else None,
        senders=tuple(draw(senders[kind])) if kind == "count" else (PEOPLE[0],) if kind == "when" else (),
    )


@given(questions())
def test_the_answer_is_what_reading_every_email_gives(question: Question) -> None:
    gold = gold_of(WORLD, question)
    assert gold is not None
    answer, ids = by_hand(question)
    assert answer in gold.answers
    assert list(gold.sources) == ids


@given(questions())
def test_a_goal_is_read_as_it_was_written_and_any_other_way_not_at_all(question: Question) -> None:
    goal = question.goal()
    assert parse_goal(goal) == question
    for other in (
        goal + " ",
        goal.lower(),
        goal.replace("Period:", "Time:"),
        goal.replace(" up to ", "-"),
        f"Please: {goal}",
    ):
        assert parse_goal(other) is None


@given(questions(), st.integers(2, 5))
def test_the_answers_about_the_parts_of_a_period_make_the_answer_about_the_whole(
    question: Question, parts: int
) -> None:
    days = (question.end - question.start).days
    cuts = sorted({question.start + timedelta(days * part // parts) for part in range(parts + 1)})
    golds = [gold_of(WORLD, question.within(*cut)) for cut in pairwise(cuts)]
    answers = [gold.answers[0] for gold in golds if gold is not None]
    whole = gold_of(WORLD, question)
    assert whole is not None
    if question.kind == "count":
        assert int(whole.answers[0]) == sum(map(int, answers))
    elif question.kind != "two-hop":
        assert whole.answers[0] == next((answer for answer in reversed(answers) if answer != "none"), "none")


def test_the_mailbox_finds_what_the_answers_count() -> None:
    """The index and the scorer mean the same by a mention, and by a day."""
    for project in WORLD.projects:
        found: set[str] = set()
        for day in range(60):
            start = FIRST_DAY + timedelta(day)
            period = {"sent_after": str(start), "sent_before": str(start + timedelta(1))}
            for sender in PEOPLE:
                hits = WORLD.mailbox.search_emails(WORLD.inbox, [f"project {project}"], from_addr=sender, **period)
                found |= {hit["message_id"] for hit in hits}
        gold = gold_of(
            WORLD, Question(kind="count", start=FIRST_DAY, end=WORLD.end, project=project, senders=tuple(PEOPLE))
        )
        assert gold is not None
        assert found == set(gold.sources)


def test_mailboxes_hold_corrections_quotes_and_open_questions() -> None:
    bodies = [email.body for email in WORLD.emails]
    times = Counter((each.subject, each.attribute) for each in WORLD.statements)
    assert {1, 2, 3} <= set(times.values())
    for words in ("not $", "\n> ", "Could we raise the budget", "takes over from", "No, it stays as it is."):
        assert any(words in body for body in bodies), words
    assert sum(not email.concerns(WORLD.inbox) for email in WORLD.emails) > 20
    # A value that somebody quotes or asks about is none.
    email = next(email for email in WORLD.emails if "Could we raise the budget" in own(email))
    (project,) = re.findall(r"raise the budget of (project \w+ \w+)", email.body)
    assert ATTRIBUTES["budget"].read(own(email), project) is None


@pytest.mark.parametrize(
    ("attribute", "text", "value"),
    [
        ("budget", "Correction: the budget of project Red Wren is $1,200, not $900.", "$1,200"),
        ("budget", "The budget of project Red Wren changes from $900 to $1,200.", "$1,200"),
        ("budget", "Forget $900: $1,200 is the budget of project Red Wren now.", "$1,200"),
        ("budget", "Could we raise the budget of project Red Wren to $1,200?", None),
        ("budget", "The budget of project Red Finch is $1,200.", None),
        ("review date", "The review of project Red Wren is not on 3 May 2023 but on 5 June 2023.", "5 June 2023"),
        ("lead", "Ada Holm takes over from Hugo Dorn as the lead of project Red Wren.", "Ada Holm"),
        (
            "contract number",
            "Please write C-12345, not C-54321, as the number of the contract for project Red Wren.",
            "C-12345",
        ),
    ],
)
def test_sentences_are_read_as_people_read_them(attribute: str, text: str, value: str | None) -> None:
    assert ATTRIBUTES[attribute].read(f"Hello.\n{text}\nBye.", "project Red Wren") == value


@pytest.mark.parametrize(
    ("kind", "gold", "right", "wrong"),
    [
        (
            "amount",
            "$12,400",
            ["$12,400", "12400", "12,400 dollars", "$12,400.00."],
            ["$12,40", "$1,240", "12400 or 500", ""],
        ),
        (
            "date",
            "5 March 2023",
            ["5 March 2023", "2023-03-05", "March 5, 2023", "Sunday 5 march 2023"],
            ["3 May 2023", "2023"],
        ),
        ("name", "Ada Holm", ["ada holm", "Ada  Holm."], ["Ada", "Hugo Dorn", "Ada Holm and Hugo Dorn"]),
        ("id", "C-12345", ["c-12345", " C-12345. "], ["12345", "C-12346"]),
        ("count", "17", ["17", "017"], ["17 emails", "seventeen", "18", "none"]),
        ("date", "none", ["none", "None."], ["2023-01-01", "unknown"]),
    ],
)
def test_answers_are_compared_by_what_they_mean(kind: str, gold: str, right: list[str], wrong: list[str]) -> None:
    for answer in right:
        assert is_right(answer, Gold(kind, (gold,), ())), answer
    for answer in wrong:
        assert not is_right(answer, Gold(kind, (gold,), ())), answer


@pytest.mark.anyio
async def test_every_agent_is_scored_by_its_own_goal() -> None:
    environment = EmailSynth()
    (task,) = environment.tasks("test", 0, "small", limit=1)
    session = environment.session(task)
    world = session._world()
    question = parse_goal(task.goal)
    assert question is not None
    project = world.projects[0]
    count = Question(kind="count", start=FIRST_DAY, end=world.end, project=project, senders=(world.inbox,))
    gold = gold_of(world, count)
    assert gold is not None
    number = int(gold.answers[0])
    assert number > 10

    async def score(goal: str, result: object, status: Status = Status.FINISHED) -> float:
        node: Any = SimpleNamespace(goal=goal, result=result, status=status, finished=status.finished, parent="0")
        return await session.score(node)

    goal = count.goal()
    assert await score(goal, {"answer": number, "sources": []}) == 1.0
    assert await score(goal, {"answer": str(number), "sources": ["wrong"]}) == 1.0
    assert await score(goal, number) == 1.0
    assert await score(goal, {"answer": number + 1, "sources": list(gold.sources)}) == 0.0
    assert await score(goal, {"answer": "I don't know"}) == 0.0
    assert await score(goal, {"sources": list(gold.sources)}) == 0.0
    assert await score(goal, None) == 0.0
    assert await score(goal, {"answer": number}, Status.STEP_LIMIT) == 0.0
    assert await score(f"Please count: {goal}", {"answer": number}) == 0.0
    assert await score(goal.replace(project, "Purple Emu"), {"answer": 0}) == 0.0
    assert await score(goal.replace(world.inbox, "nobody@fernhill.example"), {"answer": 0}) == 0.0
    assert await score(task.goal, {"answer": number}) == float(number == gold_of(world, question))
    node: Any = SimpleNamespace(goal=goal, result={"answer": 1, "sources": list(gold.sources[:5]) + ["x"] * 5})
    assert session.metrics(node) == {
        "sources_precision": pytest.approx(5 / 6),
        "sources_recall": pytest.approx(5 / number),
    }


def test_tasks_are_the_same_on_every_machine_and_splits_share_no_mailbox() -> None:
    environment = EmailSynth()
    tasks = [task for split in SPLITS for task in environment.tasks(split, 0, "small", limit=4)]
    assert len({task.id for task in tasks}) == 12
    assert [task.id for task in tasks[:2]] == ["email-synth/train/0/small/0", "email-synth/train/0/small/1"]
    mailboxes = {split: {world_seed(split, seed, n) for seed in range(5) for n in range(32)} for split in SPLITS}
    assert sum(map(len, mailboxes.values())) == len(set.union(*mailboxes.values())) == 480
    text = "\n".join(f"{task.id} {task.goal}" for task in tasks)
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == TASKS
    emails = "\n".join(map(repr, WORLD.emails))
    assert hashlib.sha256(emails.encode()).hexdigest()[:16] == EMAILS
    assert environment.about.sizes["test"] == 2 * WORLDS["test"] * PER_WORLD
    everything = [next(iter(environment.tasks("validation"))), *environment.tasks("validation", limit=2)]
    assert [task.level for task in everything] == ["small", "small", "large"]


TASKS = "ea5efc89a18c76b4"
EMAILS = "43e197bedc7d3e16"


@pytest.mark.parametrize(("level", "number"), [("small", 2_000), ("large", 6_000)])
def test_an_inbox_holds_thousands_of_emails_and_questions_of_every_type(level: str, number: int) -> None:
    environment = EmailSynth()
    tasks = list(environment.tasks("test", 1, level, limit=6))
    world: World = environment.session(tasks[0])._world()
    assert {task.data["world"] for task in tasks} == {world_seed("test", 1, 0)}
    assert len(world.mentions) >= number
    kinds = [question.kind for task in tasks if (question := parse_goal(task.goal))]
    assert set(kinds[:2]) <= {"value", "extension"}  # stated once, and corrected
    assert kinds[2:] == ["count", "when", "who", "two-hop"]


def test_goals_from_outside_are_questions_to_the_first_test_mailbox() -> None:
    environment = make("email-synth", mode="single")
    assert environment.max_depth == 0
    (task,) = environment.tasks("test", 0, level="small", limit=1)
    assert environment.task(task.goal).data == task.data
    with pytest.raises(UnknownGoal, match="a goal reads like 'What is the budget of project Blue Heron"):
        environment.task("What is the budget?")
    with pytest.raises(ConfigurationError, match="does not know everything that is named"):
        environment.task("What is the extension of Donald Duck? Period: 2023-01-02 up to 2023-02-01")
    with pytest.raises(ConfigurationError, match="level must be one of small, large, not 'huge'"):
        environment.tasks("test", level="huge")
    with pytest.raises(ConfigurationError, match="split must be one of train, validation, test, not 'dev'"):
        environment.tasks("dev")
    with pytest.raises(ConfigurationError, match="mode must be one of"):
        make("email-synth", mode="both")


def test_a_period_has_a_day_and_nobody_is_named_twice() -> None:
    question = Question(kind="who", start=date(2023, 2, 1), end=date(2023, 2, 2), project="Blue Heron")
    assert parse_goal(question.goal()) == question
    assert parse_goal(question.within(question.start, question.start).goal()) is None
    assert parse_goal(question.goal().replace("2023-02-02", "2023-02-30")) is None
    twice = Question(kind="count", start=question.start, end=question.end, project="Blue Heron", senders=("a@b", "a@b"))
    assert parse_goal(twice.goal()) is None
