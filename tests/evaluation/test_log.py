"""The file in which an evaluation keeps its attempts: nothing lost to a kill, nothing mixed, nobody's file harmed."""

import json
from pathlib import Path

import pytest

from rao_rl.evaluation.log import AttemptLog
from rao_rl.evaluation.outcome import Attempt
from recursive_agent.errors import ConfigurationError

ABOUT = {"model": "m", "context_limit": None, "seed": 0}


def attempt(task: str, score: float | None = 1.0) -> Attempt:
    return Attempt(
        task=task,
        level="easy",
        mode="single",
        status="finished",
        score=score,
        agents=1,
        depth=0,
        steps=2,
        completion_tokens=30,
        prompt_tokens=60,
        seconds=0.1,
        concurrent_share=0.0,
        launches=0,
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "new" / "attempts.jsonl"
    with AttemptLog(path, ABOUT) as log:
        assert log.done == []
        log.append(attempt("a"))
        log.append(attempt("b", None))
    return path


def test_what_was_written_is_read_again_and_the_newest_counts(path: Path) -> None:
    with AttemptLog(path, ABOUT) as log:
        assert log.done == [attempt("a"), attempt("b", None)]
        log.append(attempt("b", 0.0))
    with AttemptLog(path, ABOUT) as log:
        assert log.done == [attempt("a"), attempt("b", 0.0)]
    assert len(path.read_text().splitlines()) == 4


def test_every_attempt_is_one_line_of_json(path: Path) -> None:
    head, *rows = map(json.loads, path.read_text().splitlines())
    assert head == {"about": ABOUT}
    assert [row["task"] for row in rows] == ["a", "b"]


@pytest.mark.parametrize("cut", [1, 20])
def test_a_kill_costs_the_torn_line_at_most(path: Path, cut: int) -> None:
    path.write_bytes(path.read_bytes()[:-cut])
    with AttemptLog(path, ABOUT) as log:
        assert log.done == [attempt("a")]
        log.append(attempt("c"))
    with AttemptLog(path, ABOUT) as log:
        assert log.done == [attempt("a"), attempt("c")]


def test_a_kill_in_the_first_line_leaves_a_file_that_can_be_begun(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:7])
    with AttemptLog(path, ABOUT) as log:
        assert log.done == []
    assert json.loads(path.read_text()) == {"about": ABOUT}


def test_other_settings_are_refused_by_name(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match="context limit None, not 512; choose another file"):
        AttemptLog(path, {**ABOUT, "context_limit": 512})
    assert path.read_bytes() == before


def test_two_evaluations_do_not_share_a_file(path: Path) -> None:
    with AttemptLog(path, ABOUT), pytest.raises(ConfigurationError, match="is being written by another"):
        AttemptLog(path, ABOUT)


@pytest.mark.parametrize("contents", ['{"a": 1}', '{"a": 1}\n{"b"', "notes\n", '[{"about": {}}]\n'])
def test_somebody_elses_file_is_left_as_it_is(tmp_path: Path, contents: str) -> None:
    path = tmp_path / "mine.json"
    path.write_text(contents)
    with pytest.raises(ConfigurationError, match="is not a file of `rao eval --attempts`; choose another one"):
        AttemptLog(path, ABOUT)
    assert path.read_text() == contents


def test_a_file_of_an_older_version_goes_on(path: Path) -> None:
    """There the level of a task was called its difficulty."""
    path.write_text(path.read_text().replace('"level": ', '"difficulty": '))
    with AttemptLog(path, ABOUT) as log:
        assert log.done == [attempt("a"), attempt("b", None)]
        log.append(attempt("c"))
    with AttemptLog(path, ABOUT) as log:
        assert log.done == [attempt("a"), attempt("b", None), attempt("c")]


def test_a_line_that_is_no_attempt_is_named(path: Path) -> None:
    path.write_text(path.read_text() + '{"task": "x"}\n')
    with pytest.raises(ConfigurationError, match="line 4: not an attempt"):
        AttemptLog(path, ABOUT)


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be written"):
        AttemptLog(tmp_path, ABOUT)
