"""Whose doing it was that an agent did not finish: said once, by the status itself."""

from pathlib import Path

from rao_cli.states import STYLES
from rao_cli.text import ascii_only
from rich.text import Text

import recursive_agent
from recursive_agent import Activity, Status
from recursive_agent.status import LABELS, NEVER_ENDED


def test_every_status_of_an_agent_that_failed_is_of_exactly_one_kind() -> None:
    kinds = {status: (status.own_failure, status.shared_limit, status.external) for status in Status}
    assert {status for status, kind in kinds.items() if sum(kind) == 0} == {Status.RUNNING, Status.FINISHED}
    assert all(sum(kind) <= 1 for kind in kinds.values())


def test_whose_doing_each_failure_is() -> None:
    """Own failures are trained as 0, shared limits fail the root alone, external ones nobody."""
    assert {status.value for status in Status if status.own_failure} == {
        *("step_limit", "token_limit", "context_overflow", "malformed")
    }
    assert {status.value for status in Status if status.shared_limit} == {"tree_budget", "tree_timeout", "cost_limit"}
    assert {status.value for status in Status if status.external} == {"cancelled", "infra_error"}


def test_every_status_and_activity_has_one_label_and_no_two_read_alike() -> None:
    assert set(LABELS) == {*Status, *Activity}
    for texts in ([label.words for label in LABELS.values()], [label.short for label in LABELS.values()]):
        assert len(set(texts)) == len(texts)


def test_marks_say_without_colour_whether_an_agent_works_waits_has_failed_or_finished() -> None:
    by_mark = {label.mark: label.tone for label in LABELS.values()}
    assert by_mark == {"●": "active", "○": "waiting", "✓": "good", "✗": "bad", "⊘": "neutral"}
    assert {LABELS[key].mark == "○" for key in Activity if key.waits} == {True}
    assert {LABELS[key].mark == "●" for key in Activity if not key.waits} == {True}
    for label in (*LABELS.values(), NEVER_ENDED):
        assert ascii_only(Text(label.mark)).plain == label.ascii
        assert label.tone in STYLES


def test_the_viewer_has_the_same_words_for_what_agents_do() -> None:
    words = (Path(recursive_agent.__file__).parent / "viewer" / "assets" / "words.js").read_text()
    for activity in (Activity.MODEL, Activity.CODE):
        assert f'"{LABELS[activity].words}"' in words
    assert 'waits for ${count(busy, "sub-agent")}' in words
    for status in Status:  # `statusWords` writes them so
        assert LABELS[status].words == status.value.replace("_", " ")
