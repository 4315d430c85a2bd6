"""TensorBoard and Weights & Biases get the lines of metrics.jsonl under the same names, and the alarms."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rao_rl.evaluation.alarms import Alarm
from rao_rl.train.arguments import check_reporters, common
from rao_rl.train.record import Record
from rao_rl.train.reporters import TensorBoardReporter, check_wandb, reporters
from recursive_agent.errors import ConfigurationError

FINE = {"entropy": 0.4, "loss": 0.1, "sampling/importance_sampling_ratio/mean": 1.0}


def accumulated(folder: Path) -> Any:
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = event_accumulator.EventAccumulator(str(folder), size_guidance={"tensors": 0, "scalars": 0})
    found.Reload()
    return found


def scalars(found: Any, name: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in found.Scalars(name)]


def texts(found: Any, name: str) -> list[tuple[int, str]]:
    return [(event.step, event.tensor_proto.string_val[0].decode()) for event in found.Tensors(name)]


def test_tensorboards_own_reader_finds_the_names_of_the_metrics_file_and_the_alarms(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    record = Record(tmp_path, reporters=reporters(["tensorboard"], tmp_path))
    with record.ending():
        record.write({"step": 0, "eval/success/easy": 0.5})
        for step, entropy in enumerate((0.4, 0.001, 0.4), start=1):
            record.write({"step": step, **FINE, "entropy": entropy})
        record.write({"step": 3, "rao/skipped": 1.0})
    found = accumulated(tmp_path / "tensorboard")
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert set(found.Tags()["scalars"]) == {name for row in rows for name in row} - {"step"}
    assert scalars(found, "entropy") == [(1, pytest.approx(0.4)), (2, pytest.approx(0.001)), (3, pytest.approx(0.4))]
    assert scalars(found, "eval/success/easy") == [(0, 0.5)]
    assert scalars(found, "alarms/entropy") == [(2, 1.0), (3, 0.0)]
    ((step, text),) = texts(found, "alarms/text_summary")
    assert step == 2
    assert text.startswith("**Collapse** (error): the policy has collapsed")


def test_a_resumed_run_hides_what_it_had_reported_of_steps_that_come_again(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    for last, steps in ((-1, (1, 2, 3)), (1, (2, 3))):
        reporter = TensorBoardReporter(tmp_path, last)
        for step in steps:
            reporter.figures(step, {"step": step, "loss": step + 10.0 * (last + 1)})
        reporter.alarm(Alarm(3, "equal", "x"))
        reporter.close()
    assert scalars(accumulated(tmp_path / "tensorboard"), "loss") == [(1, 1.0), (2, 22.0), (3, 23.0)]


def wandb_records(path: Path) -> Iterator[Any]:
    """The records of an offline run: a log of LevelDB's format with a header of its own."""
    from wandb.proto import wandb_internal_pb2

    data, at, whole = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        room = 32768 - at % 32768
        if room < 7:
            at += room
            continue
        _, size, kind = struct.unpack("<IHB", data[at : at + 7])
        whole += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # a whole record, or the last part of one
            record = wandb_internal_pb2.Record()
            record.ParseFromString(whole)
            whole = b""
            yield record


_OFFLINE = """
import sys
from pathlib import Path
from types import SimpleNamespace
from rao_rl.train.record import Record
from rao_rl.train.reporters import reporters

folder = Path(sys.argv[1])
(reporter,) = reporters(["wandb"], folder)
arguments = SimpleNamespace(to_dict=lambda: {"learning_rate": 0.1}, run_name=None, output_dir="x")
state = SimpleNamespace(is_world_process_zero=True, is_hyper_param_search=False, trial_name=None, global_step=0)
record = Record(folder, reporters=[reporter])
with record.ending():
    record.write({"step": 0, "eval/success/easy": 0.5})
    reporter.on_train_begin(arguments, state, None, model=None)
    for step, entropy in enumerate((0.4, 0.001), start=1):
        record.write({"step": step, "loss": 0.1, "entropy": entropy, "sampling/importance_sampling_ratio/mean": 1.0})
"""


def test_weights_and_biases_records_the_same_offline(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    environment = {**os.environ, "WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path), "WANDB_SILENT": "true"}
    environment |= {name: str(tmp_path / name) for name in ("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR")}
    done = subprocess.run(
        [sys.executable, "-c", _OFFLINE, str(tmp_path)], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    (file,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    history: list[dict[str, Any]] = []
    alerts = []
    for record in wandb_records(file):
        if record.HasField("history"):
            row = {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
            history.append({name: value for name, value in row.items() if not name.startswith("_")})
        elif record.HasField("alert"):
            alerts.append(record.alert)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row for row in history if "alarms" not in row] == rows
    assert [row["alarms"].partition(":")[0] for row in history if "alarms" in row] == ["Collapse"]
    assert [(alert.title, alert.level) for alert in alerts] == [("Collapse at step 2", "ERROR")]
    assert "id" in json.loads((tmp_path / "wandb.json").read_text())


def test_without_a_key_one_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    netrc = tmp_path / "netrc"
    netrc.write_text("")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    with pytest.raises(ConfigurationError, match=r"needs a key: run `wandb login`, .* WANDB_MODE=offline"):
        check_wandb()
    netrc.write_text("machine api.wandb.ai login user password secret\n")
    check_wandb()
    netrc.write_text("")
    monkeypatch.setenv("WANDB_MODE", "offline")
    check_wandb()


def test_a_package_that_is_missing_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.integrations import integration_utils

    def missing() -> None:
        raise RuntimeError("WandbCallback requires wandb to be installed.")

    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "wandb", missing)
    with pytest.raises(ConfigurationError, match=r"pip install 'rao\[wandb\]'"):
        check_reporters("tensorboard,wandb")


def test_transformers_does_not_report_a_second_time_under_other_names(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from rao_rl.config import UpdateConfig

    assert common(tmp_path, UpdateConfig(), report_to="tensorboard")["report_to"] == ["none"]
