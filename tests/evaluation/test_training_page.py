"""The data of the training page, worked out by hand from metrics files of every kind that a run can leave."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rao_rl.data.used_groups import UsedGroups, add_used
from rao_rl.evaluation.metric_names import GROUPS, METRICS, metric
from rao_rl.evaluation.training_page import find_runs, run_data, training_data
from rao_rl.evaluation.training_site import TrainingSite
from recursive_agent.errors import ConfigurationError
from recursive_agent.viewer.page import json_text

ROW = {
    "entropy": 0.4,
    "sampling/importance_sampling_ratio/mean": 1.0,
    "loss": 0.5,
    "reward": 0.25,
    "rao/generated_tokens": 100.0,
    "time/train": 2.0,
    "time/wait": 1.0,
}


def run(folder: Path, rows: Sequence[Mapping[str, Any]], end: str = "", **settings: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + end)
    if settings:
        (folder / "training.json").write_text(json.dumps(settings))
    return folder


def only(folder: Path) -> dict[str, Any]:
    (found,) = training_data([folder])["runs"]
    json_text(found)  # what a page can hold
    return found  # type: ignore[no-any-return]


def test_figures_stand_by_step_with_tokens_and_seconds_beside_them(tmp_path: Path) -> None:
    rows = [
        {"step": 0, "eval/success/easy": 0.5},
        {"step": 1, **ROW},
        {"step": 2, **ROW, "rao/generated_tokens": 250.0},
    ]
    found = only(run(tmp_path / "a", rows, objective="rao", credit={"baseline": "root"}))
    assert found["x"] == {"step": [0, 1, 2], "tokens": [0.0, 100.0, 250.0], "seconds": [0.0, 3.0, 6.0]}
    assert found["values"]["eval/success/easy"] == [0.5, None, None]
    assert found["values"]["loss"] == [None, 0.5, 0.5]
    assert found["settings"] == {"objective": "rao", "baseline": "root"}
    assert (found["label"], found["ended"], found["alarms"]) == ("a", False, [])


def test_the_measured_time_counts_where_a_run_has_it(tmp_path: Path) -> None:
    rows = [{"step": 1, **ROW, "time/elapsed": 11.5}, {"step": 2, **ROW}, {"step": 3, **ROW, "time/elapsed": 30.25}]
    assert only(run(tmp_path, rows))["x"]["seconds"] == [11.5, 11.5, 30.25]


def test_a_killed_run_is_shown_up_to_its_last_whole_line(tmp_path: Path) -> None:
    found = only(run(tmp_path, [{"step": 1, **ROW}, {"step": 2, **ROW}], end='{"step": 3, "lo'))
    assert found["x"]["step"] == [1, 2]


def test_of_a_step_that_was_written_twice_by_a_resumed_run_the_last_counts(tmp_path: Path) -> None:
    rows = [{"step": 1, **ROW}, {"step": 2, **ROW, "loss": 9.0}, {"step": 2, **ROW, "loss": 3.0}, {"step": 3, **ROW}]
    assert only(run(tmp_path, rows))["values"]["loss"] == [0.5, 3.0, 0.5]


def test_what_is_not_finite_is_a_gap_and_an_alarm(tmp_path: Path) -> None:
    bad = {"loss": float("nan"), "grad_norm": float("inf")}
    found = only(run(tmp_path, [{"step": 1, **ROW}, {"step": 2, **ROW, **bad}, {"step": 3, **ROW}]))
    assert found["values"]["loss"] == [0.5, None, 0.5]
    assert "grad_norm" not in found["values"]
    (alarm,) = found["alarms"]
    assert (alarm["name"], alarm["label"], alarm["step"], alarm["end"]) == ("not_finite", "Not finite", 2, 3)
    assert alarm["text"].startswith("loss and grad_norm are not a finite number")


def test_skipped_batches_are_counted_and_hide_no_figures_of_their_step(tmp_path: Path) -> None:
    skipped = {"step": 1, "rao/skipped": 1.0, "reward": 1.0, "rao/batch": 1.0, "funnel/rollouts": 8.0}
    found = only(run(tmp_path, [{"step": 1, **ROW, "rao/batch": 0.0}, skipped, skipped, {"step": 2, **ROW}]))
    assert found["values"]["rao/skipped"] == [2.0, None]
    assert found["values"]["reward"] == [0.25, 0.25]
    assert found["values"]["funnel/rollouts"] == [8.0, None]


def test_alarms_last_from_a_step_to_a_step_and_those_of_the_run_itself_are_added(tmp_path: Path) -> None:
    rows = [{"step": n, **ROW, "entropy": 0.4 if n in (1, 4) else 0.001} for n in range(1, 6)]
    run(tmp_path, rows)
    told = [
        {"step": 2, "name": "entropy", "text": "the figures say it", "severity": "error"},
        {"step": 5, "name": "ended", "text": "the endpoint failed", "severity": "error"},
        {"step": "5", "name": "ended", "text": "broken"},
        [],
    ]
    (tmp_path / "alarms.jsonl").write_text("".join(json.dumps(row) + "\n" for row in told) + "{")
    found = [(alarm["name"], alarm["step"], alarm["end"]) for alarm in only(tmp_path)["alarms"]]
    assert found == [("entropy", 2, 4), ("entropy", 5, None), ("ended", 5, 5)]


def test_the_traces_of_a_step_are_named_where_they_are_kept(tmp_path: Path) -> None:
    run(tmp_path, [{"step": 1, **ROW, "rao/batch": 0.0}, {"step": 2, **ROW, "rao/batch": 3.0}])
    place = tmp_path / "traces" / "000003"
    place.mkdir(parents=True)
    (place / "x.jsonl").touch()
    (place / "y.jsonl.set-aside").touch()
    (kept,) = only(tmp_path)["traces"]
    assert (kept["step"], kept["files"], kept["folder"]) == (2, 1, str(place))
    assert kept["link"] == place.as_uri()


def test_the_groups_of_a_step_may_have_their_traces_in_several_folders(tmp_path: Path) -> None:
    run(tmp_path, [{"step": 1, **ROW, "rao/batch": 0.0}, {"step": 2, **ROW, "rao/batch": 1.0}])
    for used in (
        UsedGroups(0, 0, ("000000/000/a", "000001/001/b")),
        UsedGroups(1, 1, ("000000/001/c", "000001/000/d/e")),
    ):
        add_used(tmp_path, used)
    places = [tmp_path / "traces" / name for name in ("000000", "000001")]
    for place in places:
        place.mkdir(parents=True)
        (place / "x.jsonl").touch()
    assert [(each["step"], each["folder"]) for each in only(tmp_path)["traces"]] == [
        (step, str(place)) for step in (1, 2) for place in places
    ]


def test_a_run_that_has_not_come_to_its_first_step_is_an_empty_page(tmp_path: Path) -> None:
    (tmp_path / "training.json").write_text('{"objective": "rao"}')
    assert only(tmp_path)["x"] == {"step": [], "tokens": None, "seconds": None}
    run(tmp_path / "b", [])
    assert only(tmp_path / "b")["values"] == {}


@pytest.mark.parametrize("kind", ["empty", "foreign", "missing"])
def test_what_is_no_training_run_is_said_in_one_sentence(tmp_path: Path, kind: str) -> None:
    place = tmp_path / kind
    if kind != "missing":
        place.mkdir()
    if kind == "foreign":
        (place / "trace.jsonl").write_text("{}\n")
        (place / "training.json").write_text("[]")
    with pytest.raises(ConfigurationError, match="is not the folder of a training run") as caught:
        training_data([place])
    assert str(place) in str(caught.value)


def test_a_file_that_is_no_metrics_file_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\nwhat\n{}\n')
    with pytest.raises(ConfigurationError, match="line 2"):
        training_data([tmp_path])


def test_a_folder_of_runs_is_one_page_that_overlays_them(tmp_path: Path) -> None:
    for name in ("rao-0", "rao-1"):
        run(tmp_path / name / "policy", [{"step": 1, **ROW}])
    run(tmp_path / "rao-0" / "policy" / "traces" / "deep", [{"step": 1}])  # inside a run: no run of its own
    found = training_data([tmp_path])
    assert [each["label"] for each in found["runs"]] == ["rao-0/policy", "rao-1/policy"]
    assert find_runs([tmp_path, tmp_path / "rao-0"]) == find_runs([tmp_path])
    assert [each["label"] for each in training_data([tmp_path], labels=["a", "b"])["runs"]] == ["a", "b"]


def test_every_metric_has_a_label_a_group_and_series_that_differ_within_a_chart(tmp_path: Path) -> None:
    names = [name.replace("*", part) for name in METRICS for part in (("depth_x", "y") if "*" in name else ("",))]
    found = training_data([run(tmp_path, [{"step": 1, **dict.fromkeys(names, 1.0)}])])["metrics"]
    assert all(each["label"] and each["group"] in GROUPS and "*" not in each["label"] + each["chart"] for each in found)
    pairs = [(each["chart"], each["series"], each["name"].startswith("eval/success_")) for each in found]
    assert len(set(pairs)) == len(pairs)
    assert metric("funnel/nodes_dropped/too_long").label == "agents left out: too long"
    assert metric("funnel/nodes").series == "recorded"
    assert metric("mine").label == "mine"


def test_a_metric_of_an_evaluation_names_its_interval_and_its_number_of_tasks(tmp_path: Path) -> None:
    figures = {
        "eval/success/easy": 0.5,
        "eval/success_low/easy": 0.2,
        "eval/success_high/easy": 0.8,
        "eval/tasks/easy": 8.0,
    }
    found = {each["name"]: each for each in training_data([run(tmp_path, [{"step": 1, **figures}])])["metrics"]}
    shown = found["eval/success/easy"]
    assert (shown["low"], shown["high"]) == ("eval/success_low/easy", "eval/success_high/easy")
    assert shown["count"] == "eval/tasks/easy"


_VALUES = st.one_of(st.floats(), st.text(max_size=3), st.none(), st.booleans(), st.lists(st.integers(), max_size=2))
_LINES = st.dictionaries(st.sampled_from([*METRICS, "x/depth_1", "funnel/lost/a"]), _VALUES, max_size=6)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), _LINES), max_size=12))
def test_whatever_stands_in_a_metrics_file_a_page_can_hold_it(tmp_path_factory: Any, rows: list[Any]) -> None:
    folder = run(tmp_path_factory.mktemp("run"), [{**figures, "step": step} for step, figures in rows])
    found = run_data(folder, "x")
    json_text(found)
    assert found["x"]["step"] == sorted({step for step, _ in rows})
    assert all(len(values) == len(found["x"]["step"]) for values in found["values"].values())


def test_a_server_sends_the_figures_again_only_when_a_file_has_changed(tmp_path: Path) -> None:
    site = TrainingSite([tmp_path / "a"])
    assert "is not the folder" in site.data()["note"]
    run(tmp_path / "a", [{"step": 1, **ROW}])
    assert site.data()["note"] is None
    cursor, (message,) = site.since(None)
    assert message.event == "training"
    assert json.loads(message.data)["runs"][0]["x"]["step"] == [1]
    assert site.since(cursor) == (cursor, [])
    run(tmp_path / "a", [{"step": 1, **ROW}, {"step": 2, **ROW}])
    later, (message,) = site.since(cursor)
    assert later != cursor
    assert json.loads(message.data)["runs"][0]["x"]["step"] == [1, 2]
    assert site.run("../../etc/passwd") is None
