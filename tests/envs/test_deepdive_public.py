"""The public DeepDive set from a local copy: splits, scores without a judge, and outages that are nobody's failure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rao_rl.envs import make
from rao_rl.envs.deepdive import Corpus, DeepDive, DeepDiveSession, Found, Page, SearchUnavailable
from rao_rl.envs.deepdive.matching import normalised
from rao_rl.imitation.expert import ExpertModel
from rao_rl.imitation.prompting import MINIMAL
from rao_rl.rollouts.attempt import rollout
from recursive_agent import ConfigurationError, Status

from .worlds import caller

CORPUS = Corpus.of([Page(url="https://a.example", title="Owls", text="Owls hunt at night.")])


class Down:
    """A search that fails, for a while or for good."""

    def __init__(self, lasting: str | None = None) -> None:
        self.lasting = lasting

    async def search(self, query: str, max_results: int) -> Sequence[Found]:
        raise SearchUnavailable("the search API gave no usable answer", lasting=self.lasting)

    async def page(self, url: str) -> str:
        raise SearchUnavailable("the search API gave no usable answer", lasting=self.lasting)

    def check(self) -> None:
        if self.lasting is not None:
            raise ConfigurationError(self.lasting)


@dataclass
class Ended:
    id: str = "0"
    result: Any = None
    status: Status = Status.FINISHED


def copy(folder: Path, rl: int = 3, sft: int = 103) -> Path:
    for split, count in (("qa_rl", rl), ("qa_sft", sft)):
        rows = [
            {"id": number, "question": f"Which owl is number {number}?", "answer": f"Owl {number}", "conversations": []}
            for number in range(count)
        ]
        (folder / f"{split}-00000-of-00001.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_training_is_qa_rl_and_the_test_the_first_hundred_of_qa_sft(tmp_path: Path) -> None:
    environment = make("deepdive", data=str(copy(tmp_path)), subset=True, backend=CORPUS)
    tasks = {split: list(environment.tasks(split)) for split in environment.splits}
    assert {split: len(found) for split, found in tasks.items()} == {"train": 3, "validation": 3, "test": 100}
    assert tasks["train"][0].id == "deepdive/qa_rl/0"
    assert [task.id for task in tasks["validation"]] == [f"deepdive/qa_sft/{number}" for number in (100, 101, 102)]
    assert tasks["test"][7].goal == "Which owl is number 7?"
    assert "Owl 7" not in (tasks["test"][7].goal, tasks["test"][7].context)
    shuffled = list(environment.tasks("test", 5))
    assert shuffled == list(environment.tasks("test", 5)) != tasks["test"]
    assert {task.id for task in shuffled} == {task.id for task in tasks["test"]}
    assert list(environment.tasks("test", 5, limit=3)) == shuffled[:3]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"data": None}, "deepdive needs a local copy of its data: Download the data set zai-org/DeepDive"),
        ({"subset": False}, "has 3 rows where the public set has 2,234"),
        ({"mode": "both"}, "mode must be one of"),
        ({"backend": Down("the key was refused")}, "the key was refused"),
        ({"backend": None, "corpus": "/nowhere"}, "there are no pages at /nowhere"),
        ({"backend": None, "search_url": "ftp://x"}, "URL"),
    ],
)
def test_what_is_wrong_is_said_before_any_attempt(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    usual: dict[str, Any] = {"data": str(copy(tmp_path)), "subset": True, "backend": CORPUS}
    with pytest.raises(ConfigurationError, match=message):
        make("deepdive", **{**usual, **arguments}).tasks("train")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"answer": " "}, "the question 0 of qa_rl is empty or has no answer"),
        ({"id": 1}, "two questions of qa_rl have the id 1"),
        ({"answer": 3}, "answer must be str, not 3"),
    ],
)
def test_altered_rows_are_refused(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    rows = [{"id": 0, "question": "q", "answer": "a", **row}, {"id": 1, "question": "q", "answer": "a"}]
    (tmp_path / "qa_rl.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows))
    with pytest.raises(ConfigurationError, match=message):
        DeepDive(data=str(tmp_path), subset=True, backend=CORPUS).tasks("train")


def test_unknown_splits_and_levels_are_refused_and_any_question_is_a_task(tmp_path: Path) -> None:
    environment = DeepDive(data=str(copy(tmp_path)), subset=True, backend=CORPUS)
    for call in (
        lambda: environment.tasks("dev"),
        lambda: environment.tasks("test", level="hard"),
        lambda: environment.tasks("test", limit=-1),
        lambda: environment.task(" "),
    ):
        with pytest.raises(ConfigurationError):
            call()
    task = environment.task("Which owl?")
    assert environment.session(task).reference(Ended()) is None


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("The Owl!", "owl", True),
        ("São  Paulo", "sao paulo", True),
        ("A 1,000", "1 000", True),
        ("Owl", "Owls", False),
        ("the", "a", False),
        ("!", "?", False),
        ("C++", "C", True),  # punctuation does not count: the price of the usual rule
        ("東京", "東京", True),
    ],
)
def test_answers_are_compared_without_what_does_not_matter(one: str, other: str, same: bool) -> None:
    assert (normalised(one) == normalised(other)) is same


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("node", "score"),
    [
        (Ended(result="the snowy owl."), 1.0),
        (Ended(result="A white owl"), None),  # for a judge
        (Ended(result=None), 0.0),
        (Ended(result=" "), 0.0),
        (Ended(status=Status.STEP_LIMIT), 0.0),
        (Ended(status=Status.INFRA_ERROR), None),
        (Ended("0.1", "Snowy Owl"), None),  # its goal is another one
        (Ended("0.1", status=Status.MALFORMED), 0.0),
    ],
)
async def test_only_the_same_answer_is_scored_and_the_rest_left_to_a_judge(node: Ended, score: float | None) -> None:
    session = DeepDiveSession(CORPUS, "Snowy Owl")
    assert await session.score(node) == score
    assert session.reference(node) == ("Snowy Owl" if node.id == "0" else None)


@pytest.mark.anyio
async def test_an_outage_is_nobodys_failure_and_no_siblings_business() -> None:
    session = DeepDiveSession(Down(), "Snowy Owl")
    with pytest.raises(SearchUnavailable):
        await session.search.search_web("owls", ctx=caller("0.1"))
    assert await session.score(Ended("0.1", status=Status.STEP_LIMIT)) is None
    assert await session.score(Ended("0.2", status=Status.STEP_LIMIT)) == 0.0
    assert await session.score(Ended(status=Status.STEP_LIMIT)) is None
    assert await session.score(Ended(result="I do not know")) is None
    assert session.reference(Ended(result="I do not know")) is None
    assert await session.score(Ended(result="snowy owl")) == 1.0  # it succeeded all the same


@pytest.mark.anyio
async def test_an_agent_is_told_of_an_outage_and_the_score_says_what_the_user_must_change(tmp_path: Path) -> None:
    def asks(goal: str, context: object) -> list[str]:
        return ["try:\n    await search_web('owls')\nexcept ToolError as error:\n    said = str(error)\nfinish(said)"]

    for backend, status, source in ((Down(), "unknown", None), (Down("set a key"), "judge_error", "set a key")):
        environment = DeepDive(data=str(copy(tmp_path)), subset=True, backend=CORPUS)
        (task,) = environment.tasks("train", limit=1)
        environment.backend = backend
        result = await rollout(environment, task, ExpertModel(asks, MINIMAL))
        assert "the search API gave no usable answer" in result.output
        assert (result.tree.root.score, result.tree.root.score_status) == (None, status)
        assert source is None or source in str(result.tree.root.score_source)
