"""Credit of recorded runs: which runs are compared, with which settings, and what is said where none can be."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from rao_rl.credit import CreditConfig
from rao_rl.data.explained import Training, attempts_beside, credit_of, read_training, training_of
from rao_rl.data.used_groups import UsedGroups, add_used
from recursive_agent.errors import ConfigurationError
from recursive_agent.trace.folder import TraceFile, read_trace
from recursive_agent.trace.schema import Event
from recursive_agent.trace.store import TraceWriter

from .token_trees import Turn, token_events, turn
from .trees import events

ONE: Sequence[Turn] = [turn([1], [2])]
DEFAULT = Training(CreditConfig(), "the defaults")


def write(path: Path, told: Sequence[Event]) -> TraceFile:
    with TraceWriter(path) as writer:
        for event in told:
            writer.append(event)
    return read_trace(path)


def attempt(path: Path, run: str, *scores: float, group: str | None = "g", version: str = "0") -> TraceFile:
    turns = [turn([1], [2], version)]
    return write(path, token_events(*[turns for _ in scores], run=run, group=group, scores=scores))


def test_the_runs_of_a_group_are_compared_and_others_are_not(tmp_path: Path) -> None:
    files = [attempt(tmp_path / f"{n}.jsonl", f"r{n}", score) for n, score in enumerate((1.0, 0.0, 0.5))]
    other = attempt(tmp_path / "other.jsonl", "other", 1.0, group="h")
    credit = credit_of([*files, other], DEFAULT)
    root = credit[files[0].path]["0"]
    assert (root["reward"], root["baseline"], root["advantage"], root["weight"]) == (1.0, 0.25, 0.75, 1.0)
    assert root["why"][1] == "baseline 0.25 = mean reward of 2 other roots of the group: 0, 0.5"
    assert root["why"][3] == "weight 1 = 3 agents of the group / (1 depth × 3 agents at depth 0)"
    assert root["why"][-1] == "settings of credit: the defaults"
    assert credit[other.path]["0"]["left_out"].startswith("There is no baseline")
    assert [file.path.name for file in attempts_beside(files[0])] == ["0.jsonl", "1.jsonl", "2.jsonl"]


def test_runs_without_a_group_are_grouped_by_their_task_as_in_training(tmp_path: Path) -> None:
    files = [attempt(tmp_path / f"{n}.jsonl", f"r{n}", float(n), group=None) for n in range(2)]
    assert len(attempts_beside(files[0])) == 2
    assert credit_of(files, DEFAULT)[files[1].path]["0"]["advantage"] == 1.0
    assert files[0].tree is not None
    assert files[0].tree.group is None  # the trees stay as they are


def test_nothing_is_said_of_credit_where_nobody_gave_a_score(tmp_path: Path) -> None:
    assert credit_of([write(tmp_path / "a.jsonl", events({"id": "0"}))], DEFAULT) == {}


def test_runs_of_text_alone_are_explained_too(tmp_path: Path) -> None:
    files = [
        write(tmp_path / f"{n}.jsonl", events({"id": "0"}, run=f"r{n}", group="g", scores={"0": float(n)}))
        for n in range(2)
    ]
    assert credit_of(files, DEFAULT)[files[1].path]["0"]["coefficient"] == 1.0


def test_a_run_that_was_killed_is_no_attempt(tmp_path: Path) -> None:
    whole = attempt(tmp_path / "a.jsonl", "a", 1.0)
    cut = write(tmp_path / "b.jsonl", token_events(ONE, run="b", scores=(0.0,))[:3])
    credit = credit_of([whole, cut], DEFAULT)
    assert "has not ended" in credit[cut.path]["0"]["left_out"]
    assert credit[whole.path]["0"]["left_out"].startswith("There is no baseline")


def test_online_training_weighs_the_agents_of_a_step_with_its_settings(tmp_path: Path) -> None:
    run = tmp_path / "better"
    (run / "traces/000001").mkdir(parents=True)
    credit = {"delegation_bonus": 0.5, "of_a_later_version": 1}
    (run / "training.json").write_text(json.dumps({"objective": "rao", "credit": credit}))
    (run / "metrics.jsonl").write_text('{"step": 7, "rao/batch": 1}\n{"torn')
    place = run / "traces/000001"
    first = attempt(place / "a.jsonl", "a", 1.0, 1.0)
    attempt(place / "b.jsonl", "b", 0.0)
    attempt(place / "c.jsonl", "c", 1.0, group="h")
    attempt(place / "d.jsonl", "d", 0.0, group="h")
    assert training_of(place) == training_of(run / "traces") == run
    config = read_training(run)
    assert config.delegation_bonus == 0.5
    files = attempts_beside(first)
    assert len(files) == 4  # the whole step: depth weights depend on it
    root = credit_of(files, Training(config, "those of better", folder=run))[first.path]["0"]
    assert root["reward"] == 1.5
    assert root["why"][3] == "weight 0.625 = 5 agents of the step / (2 depths × 4 agents at depth 0)"


def test_the_agents_of_a_step_are_those_of_the_groups_that_it_took(tmp_path: Path) -> None:
    run = tmp_path / "better"
    for name in ("000000", "000001"):
        (run / "traces" / name).mkdir(parents=True)
    (run / "training.json").write_text(json.dumps({"objective": "rao", "credit": {}}))
    (run / "metrics.jsonl").write_text('{"step": 1, "rao/batch": 0}\n')
    names = ("000000/000/a", "000000/001/b", "000001/000/c")
    made = [
        attempt(run / "traces" / name[:6] / f"{name[-1]}{n}.jsonl", f"{name[-1]}{n}", float(n), group=name)
        for name in names
        for n in range(2)
    ]
    add_used(run, UsedGroups(0, 0, (names[0], names[2])))
    training = Training(read_training(run), "", folder=run)
    files = attempts_beside(made[0])
    assert {file.path.name for file in files} == {"a0.jsonl", "a1.jsonl", "c0.jsonl", "c1.jsonl"}
    assert credit_of(files, training)[made[0].path]["0"]["why"][3].startswith("weight 1 = 4 agents of the step")
    # What no step has taken yet is compared within its group.
    files = attempts_beside(made[2])
    assert {file.path.name for file in files} == {"b0.jsonl", "b1.jsonl"}
    assert "agents of the group" in credit_of(files, training)[made[2].path]["0"]["why"][3]


def test_moving_averages_need_the_steps_before(tmp_path: Path) -> None:
    run = tmp_path / "r"
    for step in range(2):
        (run / f"traces/{step:06d}").mkdir(parents=True)
    (run / "training.json").write_text(json.dumps({"credit": {"baseline": "ema_depth", "ema_decay": 0.5}}))
    files = [attempt(run / f"traces/{step:06d}/a.jsonl", f"r{step}", 1.0) for step in range(2)]
    training = Training(read_training(run), "", folder=run)
    assert credit_of(files, training)[files[1].path]["0"]["baseline"] == 0.5
    assert "show the whole folder" in credit_of(files[1:], training)[files[1].path]["0"]["left_out"]


@pytest.mark.parametrize("text", ["{}", "[]", "nonsense", '{"credit": {"baseline": "psychic"}}'])
def test_a_folder_without_settings_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigurationError, match="is not the folder of a training run"):
        read_training(tmp_path)
    (tmp_path / "training.json").write_text(text)
    with pytest.raises(ConfigurationError, match=r"settings of credit|baseline"):
        read_training(tmp_path)
