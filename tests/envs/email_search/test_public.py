"""`email`: the public questions from local copies, their splits, what is scored, and what is wrong with a copy."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rao_rl.envs import UnknownGoal, make, open_session
from rao_rl.envs.email_search import Answer, EmailSearch
from rao_rl.envs.email_search.answers import overlap
from rao_rl.envs.email_search.questions import KNOWN_BAD, split_of
from recursive_agent.errors import ConfigurationError
from recursive_agent.status import Status
from recursive_agent.tools import Tool, ToolContext, ToolFailed

from .mailboxes import ANN, BOB, CAT, EMAILS, FIRST, question, row_of, write_database, write_emails, write_questions

INBOXES = [f"p{number}@x.example" for number in range(30)]


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    data = write_questions(
        tmp_path / "questions",
        [question(1), question(2, BOB, message_ids=["<1>", "<3>"]), question(49)],
        [question(1, CAT), question(327, CAT)],
    )
    return {"data": data, "mailbox": write_emails(tmp_path / "emails", *EMAILS), "cache": tmp_path / "cache"}


def ids(environment: EmailSearch, **options: Any) -> set[str]:
    return {task.id for split in environment.splits for task in environment.tasks(split, **options)}


def test_a_question_is_a_task_about_an_inbox(files: dict[str, Path]) -> None:
    environment = EmailSearch(**files)
    tasks = {task.id: task for split in environment.splits for task in environment.tasks(split)}
    assert set(tasks) == {"email/train/1", "email/train/2", "email/test/1"}
    task = tasks["email/train/1"]
    assert task.goal == "What does the red plan cost?\n\nSearch the inbox of ann@x.example. Today is 2001-06-01."
    assert task.returns is Answer
    assert task.level == "one-email"
    assert tasks["email/train/2"].level == "several-emails"
    assert "500" not in f"{task.goal}{task.context}"
    assert environment.task(task.goal) == task
    with pytest.raises(UnknownGoal):
        environment.task("What is the time?")


def test_questions_are_chosen_by_the_emails_that_they_need_and_without_bad_ones(files: dict[str, Path]) -> None:
    assert ids(EmailSearch(**files, max_messages=1)) == {"email/train/1", "email/test/1"}
    assert ids(EmailSearch(**files, known_bad=True)) > {"email/train/49", "email/test/327"}
    assert ids(EmailSearch(**files), level="several-emails") == {"email/train/2"}
    assert {49, 101, 129, 171, 208, 327} == KNOWN_BAD


def test_no_two_splits_share_an_inbox(tmp_path: Path) -> None:
    data = write_questions(
        tmp_path / "questions",
        [question(number, INBOXES[number % 30]) for number in range(90)],
        [question(number, INBOXES[number % 30]) for number in range(30)],
    )
    everyone = replace(FIRST, to=tuple(INBOXES[:29]), cc=(), sender=INBOXES[29])
    mailbox = write_database(tmp_path / "mail.sqlite", everyone)
    environment = EmailSearch(data=data, mailbox=mailbox)
    assert environment.splits == ("train", "validation", "test")
    inboxes = {split: {task.data["inbox"] for task in environment.tasks(split)} for split in environment.splits}
    assert all(inboxes.values())
    assert sum(map(len, inboxes.values())) == 30 == len(set.union(*inboxes.values()))
    assert {split_of(inbox) for inbox in inboxes["test"]} == {"test"}
    # The same on every machine.
    assert [split_of(inbox) for inbox in INBOXES[:12]] == SPLITS_OF_TWELVE
    assert split_of("P3@X.example") == split_of("p3@x.example")

    rows = EmailSearch(data=data, mailbox=mailbox, split_by="row")
    assert rows.splits == ("train", "test")
    for split, number in (("train", 90 - 1), ("test", 30)):
        assert {task.id for task in rows.tasks(split)} == {
            f"email/{split}/{n}"
            for n in range(number + 1)
            if n not in KNOWN_BAD and n < (90 if split == "train" else 30)
        }
    first, again, other = ([task.id for task in rows.tasks("train", seed, limit=5)] for seed in (0, 0, 1))
    assert first == again != other


SPLITS_OF_TWELVE = ["train", "test", "train", "train", "train", "validation", "test", *["train"] * 3, "test", "train"]


def scored(files: dict[str, Path], result: object, status: Status = Status.FINISHED, parent: str | None = None) -> Any:
    environment = EmailSearch(**files)
    session = open_session(environment, environment.task("What does the red plan cost?"))
    node: Any = SimpleNamespace(result=result, status=status, finished=status.finished, parent=parent, goal="")
    return session, node


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("answer", "score"),
    [
        ("500 dollars", 1.0),
        ("  500  Dollars.", 1.0),
        ("“500 dollars”", 1.0),
        ("I don't know", 0.0),
        ("i don’t know.", 0.0),
        ("", 0.0),
        ("five hundred dollars", None),
        ("600 dollars", None),
    ],
)
async def test_the_root_is_scored_where_that_takes_no_judge(
    files: dict[str, Path], answer: str, score: float | None
) -> None:
    session, node = scored(files, {"answer": answer, "sources": []})
    assert await session.score(node) == score
    session, node = scored(files, {"answer": answer, "sources": []}, Status.STEP_LIMIT)
    assert await session.score(node) == 0.0
    session, node = scored(files, {"answer": answer, "sources": []}, parent="0")
    assert await session.score(node) is None
    assert session.reference(node) is None


def test_the_reference_is_for_a_judge_of_the_root_and_sources_are_a_metric(files: dict[str, Path]) -> None:
    session, node = scored(files, {"answer": "500", "sources": ["<1>", "<3>"]})
    assert session.reference(node) == "500 dollars"
    assert session.metrics(node) == {"sources_precision": 0.5, "sources_recall": 1.0}
    assert overlap([], ["<1>"]) == {"sources_precision": 0.0, "sources_recall": 0.0}
    assert overlap(["<2>", "<2>"], []) == {"sources_precision": 0.0, "sources_recall": 1.0}


@pytest.mark.anyio
async def test_agents_search_the_inbox_of_their_task_and_read_every_email(files: dict[str, Path]) -> None:
    session, _ = scored(files, None)
    search, read = map(Tool, session.tools)
    context = ToolContext("run", "0", None, 0, "goal")
    assert [each["message_id"] for each in await search.call(context, [["budget"]], {})] == ["<3>", "<2>", "<1>"]
    found = await search.call(context, [["budget"]], {"from_addr": ANN, "sent_before": "2001-05-15", "max_results": 1})
    assert [each["message_id"] for each in found] == ["<2>"]
    assert (await read.call(context, ["<4>"], {}))["body"] == "A budget for Cat."
    assert await read.call(context, ["<5>"], {}) is None
    with pytest.raises(ToolFailed, match=r"search_emails\(\) raised .*at least one keyword"):
        await search.call(context, [[]], {})
    with pytest.raises(ToolFailed, match="from 1 to 10, not 50"):
        await search.call(context, [["budget"]], {"max_results": 50})


def test_emails_are_read_from_parquet_as_the_public_set_has_them(tmp_path: Path, files: dict[str, Path]) -> None:
    rows = [row_of(each) | {"date": datetime.fromisoformat(each.date)} for each in EMAILS]
    rows[3] |= {"subject": None, "cc": None, "to": [CAT, None]}
    (tmp_path / "parquet").mkdir()
    for number in range(2):
        file = tmp_path / f"parquet/train-0000{number}-of-00002.parquet"
        pq.write_table(pa.Table.from_pylist(rows[2 * number : 2 * number + 2]), file)
    environment = EmailSearch(**files | {"mailbox": tmp_path / "parquet"})
    found = environment.mailbox.read_email("<4>")
    assert found is not None
    assert (found["date"], found["subject"], found["to_addresses"]) == ("2001-05-16 08:00:00", "", [CAT])


def _lines(file: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps(change(row)) + "\n" for row in rows))


def _twice(files: dict[str, Path]) -> None:
    file = files["data"] / "test.jsonl"
    file.write_text(file.read_text() * 2)


WRONG: dict[str, tuple[Callable[[dict[str, Path]], Any], str]] = {
    "no data": (lambda files: files.pop("data"), "needs a local copy .*enron_emails_sample_questions .*data=PATH"),
    "no mailbox": (lambda files: files.pop("mailbox"), "needs a local copy .*corbt/enron-emails .*mailbox=PATH"),
    "not there": (lambda files: files.update(mailbox=Path("nowhere")), "there is nothing at nowhere"),
    "no test split": (lambda files: (files["data"] / "test.jsonl").unlink(), "no file of the split 'test'"),
    "one file": (lambda files: files.update(data=files["data"] / "test.jsonl"), "data must be the folder"),
    "a question cut short": (lambda files: (files["data"] / "test.jsonl").write_text('{"id": 1'), "cannot be read"),
    "a question without answer": (
        lambda files: _lines(files["data"] / "test.jsonl", lambda row: row | {"answer": " "}),
        "the question test/1 lacks a question, an answer",
    ),
    "a question twice": (_twice, "has the question test/1 twice"),
    "an email without date": (
        lambda files: _lines(files["mailbox"] / "train-00000-of-00001.jsonl", lambda row: row | {"date": "yesterday"}),
        "has the date 'yesterday', which is none",
    ),
    "an email of another form": (
        lambda files: _lines(files["mailbox"] / "train-00000-of-00001.jsonl", lambda row: row | {"to": "bob"}),
        "to must be",
    ),
    "a missing part": (
        lambda files: (files["mailbox"] / "train-00000-of-00001.jsonl").rename(
            files["mailbox"] / "train-00000-of-00003.jsonl"
        ),
        "has 1 of 3 files of emails",
    ),
    "another mailbox": (
        lambda files: write_emails(files["mailbox"], EMAILS[3]),
        r"has no email of ann@x.example \(1 of 3 inboxes are missing\)",
    ),
    "no mailbox but a text": (
        lambda files: files.update(mailbox=Path(__file__)),
        "test_public.py is not a mailbox: file is not a database",
    ),
}


@pytest.mark.parametrize("how", WRONG)
def test_a_copy_with_a_fault_is_refused_before_any_attempt(files: dict[str, Path], how: str) -> None:
    spoil, problem = WRONG[how]
    spoil(files)
    with pytest.raises(ConfigurationError, match=f"(?s){problem}"):
        make("email", **files)


def test_a_part_of_the_mailbox_leaves_out_the_questions_of_others(files: dict[str, Path]) -> None:
    write_emails(files["mailbox"], EMAILS[3])
    assert ids(EmailSearch(**files, subset=True)) == {"email/train/2", "email/test/1"}


@pytest.mark.parametrize(
    ("argument", "problem"),
    [
        ({"split_by": "moon"}, "split_by must be one of inbox, row"),
        ({"mode": "both"}, "mode must be one of"),
        ({"max_messages": 0}, "max_messages must be a whole number from 1 on"),
    ],
)
def test_wrong_arguments_are_named(files: dict[str, Path], argument: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        make("email", **files, **argument)
    environment = EmailSearch(**files)
    with pytest.raises(ConfigurationError, match="split must be one of train, validation, test, not 'dev'"):
        environment.tasks("dev")
    with pytest.raises(ConfigurationError, match=r"level must be one of .*, not 'hard'"):
        environment.tasks("train", level="hard")
