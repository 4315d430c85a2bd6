"""What compares the modes: the tasks that all of them solve, and what these took."""

from rao_rl.evaluation.compare import Effort, effort_on, solved_by_all

from .test_summary import attempt

ATTEMPTS = [
    attempt(task="a", mode="single", steps=5, seconds=1.0, completion_tokens=50),
    attempt(task="b", mode="single", score=0.5),
    attempt(task="c", mode="single", score=None, status="infra_error"),
    attempt(task="a", mode="recursive", steps=6, seconds=0.5, completion_tokens=60),
    attempt(task="b", mode="recursive", steps=8, seconds=1.5, completion_tokens=80),
    attempt(task="c", mode="recursive", steps=1, seconds=9.0, completion_tokens=10),
]


def test_a_task_is_common_if_every_mode_solves_it_in_full() -> None:
    assert solved_by_all(ATTEMPTS) == {"a"}
    assert solved_by_all([item for item in ATTEMPTS if item.mode == "recursive"]) == {"a", "b", "c"}
    assert solved_by_all([]) == set()


def test_the_effort_is_that_of_the_solving_attempts_alone() -> None:
    recursive = [item for item in ATTEMPTS if item.mode == "recursive"]
    assert effort_on({"a", "b"}, recursive) == Effort(
        tasks=2, steps=7, critical_steps=None, seconds=1.0, completion_tokens=70, total_tokens=370
    )
    single = [item for item in ATTEMPTS if item.mode == "single"]
    assert effort_on({"a", "b"}, single) == Effort(
        tasks=1, steps=5, critical_steps=None, seconds=1.0, completion_tokens=50, total_tokens=350
    )
    assert effort_on({"b"}, single) == Effort(
        tasks=0, steps=None, critical_steps=None, seconds=None, completion_tokens=None, total_tokens=None
    )
