"""The figures that `rao eval` prints."""

import pytest

from rao_rl.evaluate import Attempt, summarize, wilson


def attempt(**settings: object) -> Attempt:
    given = {
        "task": "t",
        "difficulty": "easy",
        "mode": "recursive",
        "status": "finished",
        "score": 1.0,
        "agents": 3,
        "depth": 1,
        "steps": 6,
        "completion_tokens": 100,
        "prompt_tokens": 300,
        "seconds": 1.0,
        "concurrent_share": 0.5,
        "launches": 2,
    }
    return Attempt(**{**given, **settings})  # type: ignore[arg-type]


def test_wilsons_interval_of_a_textbook_case() -> None:
    low, high = wilson(8, 10)
    assert low == pytest.approx(0.4902, abs=1e-4)
    assert high == pytest.approx(0.9433, abs=1e-4)


def test_wilsons_interval_stays_inside_and_says_nothing_of_nothing() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(10, 10)[1] == 1.0
    assert wilson(10, 10)[0] < 1.0
    assert wilson(0, 10)[0] == pytest.approx(0.0)


def test_summaries_are_by_difficulty_and_mode() -> None:
    rows = summarize(
        [
            attempt(score=1.0, launches=2, concurrent_share=0.5),
            attempt(score=0.0, launches=6, concurrent_share=1.0),
            attempt(score=None),
            attempt(mode="single", score=0.0, launches=0),
            attempt(difficulty="hard", score=0.0),
        ]
    )
    assert [(row.difficulty, row.mode, row.tasks, row.unscored) for row in rows] == [
        ("easy", "recursive", 3, 1),
        ("easy", "single", 1, 0),
        ("hard", "recursive", 1, 0),
    ]
    assert rows[0].success == 0.5
    # Launches weigh: (2 * 0.5 + 6 * 1.0 + 2 * 0.5) / 10
    assert rows[0].concurrent_share == pytest.approx(0.8)
    assert rows[1].concurrent_share == 0.0
