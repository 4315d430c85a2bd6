"""The public sets from local copies: rows as tasks, scores of the root, and everything that can be wrong with a copy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rao_rl.envs import Environment, Task, UnknownGoal, make, open_session
from rao_rl.envs.oolong import OolongReal, OolongSynthPublic
from rao_rl.envs.registry import about
from recursive_agent import ConfigurationError, Status
from tests.envs.oolong.parts import node

TEXT = "Characters: Ann plays Brakk.\n[START OF EPISODE]\nAnn: A 17 for me.\n[END OF EPISODE]\n"
LONG = TEXT + "x" * (400_000 - len(TEXT))
REAL = [
    {
        "id": f"row-{number}",
        "context_window_id": window,
        "context_window_text": text,
        "question": question,
        "answer": answer,
        "question_type": kind,
        "episodes": [1],
        "campaign": "campaign2",
    }
    for number, (window, text, question, answer, kind) in enumerate(
        [
            ("w1", TEXT, "How many rolls?", "84", "singledoc_rolls"),
            ("w1", TEXT, "Which spells?", "Bless, Shield", "singledoc_spells"),
            ("w2", LONG, "Who rolls most?", "Brakk", "multidoc_rolls"),
        ]
    )
]
SYNTH = [
    {
        "id": 810 + number,
        "context_len": length,
        "dataset": "spam",
        "context_window_text": f"text {window}",
        "context_window_text_with_labels": "labels",
        "question": "Which? Give your answer in the form 'Label: answer'.",
        "task_group": "counting",
        "task": "TASK.MOST",
        "answer": answer,
        "answer_type": f"ANSWER_TYPE.{kind}",
        "input_subset": "all",
        "num_labels": 2,
        "context_window_id": window,
    }
    for number, (window, length, answer, kind) in enumerate(
        [
            (1, 1_024, "['ham']", "LABEL"),
            (2, 2_048, "[3]", "NUMERIC"),
            (2, 2_048, "['more common than']", "COMPARISON"),
            (3, 131_072, "[datetime.date(2023, 1, 5)]", "DATE"),
            (3, 131_072, "['January 2023']", "MONTH_YEAR"),
            (4, 262_144, "[48291]", "USER"),
        ]
    )
]


def lines(file: Path, rows: list[dict[str, Any]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def table(file: Path, rows: list[dict[str, Any]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), file, row_group_size=2)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of oolong-real."""
    for split in ("validation", "test"):
        lines(tmp_path / f"dnd/{split}.jsonl", REAL)
        lines(tmp_path / f"toy_dnd/{split}.jsonl", REAL[:1])
    return tmp_path


@pytest.fixture
def synth(tmp_path: Path) -> Path:
    """A copy of oolong-synth."""
    for split in ("validation", "test"):
        table(tmp_path / f"synth/data/{split}-00000-of-00002.parquet", SYNTH[:4])
        table(tmp_path / f"synth/data/{split}-00001-of-00002.parquet", SYNTH[4:])
    return tmp_path / "synth"


# -- tasks ------------------------------------------------------------------------------------------------------------


def test_rows_of_real_are_tasks_with_the_document_as_context(copy: Path) -> None:
    environment = OolongReal(data=copy, subset=True)
    tasks = list(environment.tasks("test"))
    assert [task.id for task in tasks] == [f"oolong-real/test/row-{number}" for number in range(3)]
    assert [task.level for task in tasks] == ["55k", "55k", "118k"]
    first, second, third = tasks
    assert first.goal.startswith("How many rolls?\n\n")
    assert r"\boxed{}" in first.goal
    assert "Brakk" not in third.goal
    assert first.context is second.context  # one text for all questions about it
    assert third.context == LONG
    assert first.returns is str
    assert [task.id for task in environment.tasks("test", level="118k")] == [third.id]
    assert [task.id for task in environment.tasks("test", limit=1)] == [first.id]


def test_the_configuration_chooses_the_folder_and_train_is_the_validation_split(copy: Path) -> None:
    assert len(list(OolongReal(data=copy, config="toy_dnd").tasks("test"))) == 1
    assert len(list(OolongReal(data=copy / "dnd", subset=True).tasks("test"))) == 3
    tasks = list(OolongReal(data=copy, subset=True).tasks("train"))
    assert [task.id for task in tasks] == [f"oolong-real/validation/row-{number}" for number in range(3)]
    assert tuple(OolongReal().splits) == ("validation", "test")


@pytest.mark.parametrize(
    ("chars", "level"),
    [
        (346_000, "55k"),
        (346_001, "118k"),
        (586_000, "118k"),
        (586_001, "175k"),
        (960_000, "175k"),
        (960_001, "longer"),
    ],
)
def test_levels_of_real_by_four_characters_a_token(tmp_path: Path, chars: int, level: str) -> None:
    lines(tmp_path / "test.jsonl", [{**REAL[0], "context_window_text": "x" * chars}])
    (task,) = OolongReal(data=tmp_path, subset=True).tasks("test")
    assert task.level == level


def test_a_tokenizer_may_count_instead_and_counts_each_document_once(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.save(str(tmp_path / "tokenizer.json"))
    environment = OolongReal(data=copy, tokenizer=tmp_path / "tokenizer.json", subset=True)
    assert [task.level for task in environment.tasks("test")] == ["55k", "55k", "55k"]
    assert set(environment._tokens) == {"w1", "w2"}
    with pytest.raises(ConfigurationError, match=r"cannot be read as a tokenizer\.json"):
        OolongReal(data=copy, tokenizer=copy / "dnd/test.jsonl")


def test_rows_of_synth_are_tasks_of_the_lengths_that_the_authors_evaluate_on(synth: Path) -> None:
    environment = OolongSynthPublic(data=synth, subset=True)
    tasks = list(environment.tasks("test"))
    assert [task.id for task in tasks] == [f"oolong-synth-public/test/{number}" for number in (811, 812, 813, 814)]
    assert [task.level for task in tasks] == ["2k", "2k", "128k", "128k"]
    assert tasks[0].context is tasks[1].context
    assert tuple(environment.levels) == ("2k", "4k", "8k", "16k", "32k", "64k", "128k")
    everything = OolongSynthPublic(data=synth, lengths="all", subset=True)
    assert [task.level for task in everything.tasks("test")] == ["1k", "2k", "2k", "128k", "128k", "256k"]
    assert (everything.levels[0], everything.levels[-1]) == ("1k", "4m")


def test_shuffled_rows_are_drawn_by_the_seed(synth: Path) -> None:
    environment = OolongSynthPublic(data=synth, lengths="all", subset=True, shuffle=True)
    orders = [[task.id for task in environment.tasks("test", seed)] for seed in range(4)]
    assert len({tuple(order) for order in orders}) > 1
    assert all(sorted(order) == sorted(orders[0]) for order in orders)
    assert [task.id for task in environment.tasks("test", 2, limit=3)] == orders[2][:3]


# -- scores -----------------------------------------------------------------------------------------------------------


async def scored(environment: Environment, task: Task, answer: Any) -> tuple[float | None, dict[str, float]]:
    session = open_session(environment, task)
    root = node(task.goal, task.context, answer)
    return await session.score(root), dict(session.metrics(root))  # type: ignore[attr-defined]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("row", "answer", "official", "strict", "precision"),
    [
        (0, r"\boxed{84}", 1.0, 1.0, None),
        (0, "84", 0.0, 1.0, None),
        (0, "The answer is 83", 0.0, 0.75, None),
        (0, "no idea", 0.0, 0.0, None),
        (1, r"\boxed{Shield, Bless}", 1.0, 1.0, 1.0),
        (1, r"\boxed{Shield, Bless, Aid, Light}", 1.0, 2 / 3, 0.5),
        (1, r"\boxed{shield, bless}", 0.0, 1.0, 0.0),
        (1, "Shield and Bless", 0.0, 1.0, 1.0),
        (1, "", 0.0, 0.0, None),
        (2, r"\boxed{\text{brakk}}", 1.0, 1.0, None),
        (2, "It was Brakk.\nAnswer: Brakk", 0.0, 1.0, None),
    ],
)
async def test_real_answers_by_both_scorings(
    copy: Path, row: int, answer: str, official: float, strict: float, precision: float | None
) -> None:
    metrics = {"official": official, "strict": strict} | ({} if precision is None else {"precision": precision})
    for scoring, score in (("official", official), ("strict", strict)):
        environment = make("oolong-real", data=str(copy), scoring=scoring, subset=True)
        task = list(environment.tasks("test"))[row]
        assert await scored(environment, task, answer) == (pytest.approx(score), pytest.approx(metrics))


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("row", "answer", "official", "strict"),
    [
        (0, "Label: ham", 1.0, 1.0),
        (0, "Label: Ham.", 0.0, 1.0),
        (1, "Answer: 4", 0.75, 0.75),
        (1, "I counted all of them: there are 4 of these", 0.0, 0.75),
        (2, "Answer: ham is more common than spam", 1.0, 1.0),
        (2, "ham is more common", 0.0, 1.0),
        (3, "Date: Jan 5, 2023", 1.0, 1.0),
        (3, "It was on 2023-01-05, I think", 0.0, 1.0),
        (4, "Date: January 2023", 1.0, 1.0),
        (4, "Date: 2023-01", 0.0, 1.0),
        (5, "User: 48291", 1.0, 1.0),
    ],
)
async def test_synth_answers_by_both_scorings(
    synth: Path, row: int, answer: str, official: float, strict: float
) -> None:
    for scoring, score in (("official", official), ("strict", strict)):
        environment = make("oolong-synth-public", data=str(synth), scoring=scoring, lengths="all", subset=True)
        task = list(environment.tasks("test"))[row]
        assert await scored(environment, task, answer) == (score, {"official": official, "strict": strict})


@pytest.mark.anyio
async def test_dates_may_score_nothing_as_with_an_old_dateutil(synth: Path) -> None:
    environment = OolongSynthPublic(data=synth, dates="zero", subset=True)
    task = list(environment.tasks("test"))[2]
    assert await scored(environment, task, "Date: Jan 5, 2023") == (0.0, {"official": 0.0, "strict": 1.0})


@pytest.mark.anyio
async def test_sub_agents_have_no_score_and_an_unfinished_root_has_none_of_it(copy: Path) -> None:
    environment = OolongReal(data=copy, subset=True)
    task = next(environment.tasks("test"))
    session = environment.session(task)
    assert await session.score(node(task.goal, task.context, r"\boxed{84}", id="0.0")) is None
    root = node(task.goal, task.context, r"\boxed{84}", status=Status.STEP_LIMIT)
    assert await session.score(root) == 0.0
    assert session.metrics(root) == {"official": 0.0, "strict": 0.0}


# -- what can be wrong ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["oolong-real", "oolong-synth-public"])
def test_a_missing_copy_is_reported_before_any_task(name: str, tmp_path: Path) -> None:
    for data in (None, str(tmp_path / "absent"), str(tmp_path)):
        with pytest.raises(ConfigurationError, match="hf download --repo-type dataset oolongbench/"):
            make(name, data=data).tasks("test")
    said = about(name)
    assert said is not None
    assert "hf download" in (said.data or "")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"answer": None}, "answer must be str, not None"),
        ({"context_window_text": ["a"]}, "context_window_text must be str"),
        ({"context_window_text": " "}, "its context_window_text is empty"),
        ({"question": ""}, "its question is empty"),
        ({"id": 1.5}, "its id is neither a number nor a text"),
        ({"id": "row-0"}, "two rows with this id"),
        ({"context_window_id": "w1", "context_window_text": "other"}, "two texts have the context_window_id 'w1'"),
    ],
)
def test_altered_rows_of_real_are_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    lines(tmp_path / "test.jsonl", [REAL[0], {**REAL[1], **change}])
    tasks = OolongReal(data=tmp_path, subset=True).tasks("test")
    assert next(tasks).id == "oolong-real/test/row-0"
    with pytest.raises(ConfigurationError, match=words):
        next(tasks)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"answer": "ham"}, "its answer 'ham' cannot be read"),
        ({"answer": "[]"}, r"its answer '\[\]' cannot be read"),
        ({"answer": "[datetime.date(2023, 19, 5)]"}, "cannot be read"),
        ({"answer": "['many']"}, "is not a number"),
        ({"answer_type": "NUMERIC"}, "its answer_type is 'NUMERIC'"),
        ({"context_len": 0}, "its context_len is 0"),
        ({"context_len": "2048"}, "context_len must be int"),
        ({"id": "811"}, "id must be int"),
    ],
)
def test_altered_rows_of_synth_are_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    table(tmp_path / "test.parquet", [{**SYNTH[1], **change}])
    with pytest.raises(ConfigurationError, match=words):
        list(OolongSynthPublic(data=tmp_path, subset=True).tasks("test"))


def test_short_cut_and_incomplete_files_are_refused(copy: Path, synth: Path) -> None:
    with pytest.raises(ConfigurationError, match="has 3 rows where the public set has 6,072"):
        list(OolongReal(data=copy).tasks("test"))
    with pytest.raises(ConfigurationError, match="has 6 rows where the public set has 5,200"):
        list(OolongSynthPublic(data=synth).tasks("test"))
    file = copy / "dnd/test.jsonl"
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(ConfigurationError, match="may be cut short"):
        list(OolongReal(data=copy, subset=True).tasks("test"))
    file.write_text(json.dumps({name: value for name, value in REAL[0].items() if name != "answer"}))
    with pytest.raises(ConfigurationError, match="has no column answer"):
        list(OolongReal(data=copy, subset=True).tasks("test"))
    shard = synth / "data/test-00001-of-00002.parquet"
    shard.write_bytes(shard.read_bytes()[:-20])
    with pytest.raises(ConfigurationError, match="may be cut short"):
        list(OolongSynthPublic(data=synth, subset=True).tasks("test"))


def test_unknown_names_and_foreign_tasks_are_refused(copy: Path) -> None:
    for arguments, words in (
        ({"config": "toy"}, "config must be one of dnd, toy_dnd"),
        ({"scoring": "lenient"}, "scoring must be one of official, strict"),
        ({"mode": "alone"}, "mode must be one of single, recursive"),
        ({"subset": 2}, "subset must be one of True, False"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            make("oolong-real", **arguments)
    for arguments, words in (({"lengths": "long"}, "lengths must be"), ({"dates": "none"}, "dates must be")):
        with pytest.raises(ConfigurationError, match=words):
            make("oolong-synth-public", **arguments)
    environment = OolongReal(data=copy, subset=True)
    with pytest.raises(ConfigurationError, match="split must be one of validation, test, not 'dev'"):
        environment.tasks("dev")
    with pytest.raises(ConfigurationError, match="level must be one of 55k, 118k, 175k, longer, not '8k'"):
        environment.tasks("test", level="8k")
    with pytest.raises(ConfigurationError, match="limit must not be negative"):
        environment.tasks("test", limit=-1)
    with pytest.raises(UnknownGoal, match="rao eval oolong-real"):
        environment.task("How many rolls?")
    for data in ({}, {"set": "oolong-synth-public", "answer": "[3]", "kind": "ANSWER_TYPE.NUMERIC"}):
        with pytest.raises(ConfigurationError, match="is not a task of this environment"):
            environment.session(Task(id="else", goal="How many?", data=data))
