"""TensorBoard and Weights & Biases: transformers' own callbacks, with the names of `metrics.jsonl`, and with the alarms.

Transformers writes `train/` before every name, and reports only what its trainer logs: neither evaluations of an online run
nor batches that taught nothing.
"""

from __future__ import annotations

import json
import netrc
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from transformers.integrations.integration_utils import TensorBoardCallback, WandbCallback

from recursive_agent.errors import ConfigurationError

from ..evaluation.alarms import Alarm

EVENTS = "tensorboard"
"""Folder of TensorBoard's files in that of a run."""
_WANDB_RUN = "wandb.json"
_PROJECT = "rao"


class TensorBoardReporter(TensorBoardCallback):
    """Scalars under the names of the metrics file, and the alarms as text, in `FOLDER/tensorboard`.

    `last` is the last step that a resumed run keeps (−1: none): what was written after it is hidden.
    """

    def __init__(self, folder: Path, last: int = -1) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.logging_dir = self.logging_dir or str(folder / EVENTS)
        self.tb_writer: Any = self._SummaryWriter(log_dir=self.logging_dir, purge_step=last + 1)

    def on_log(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: `figures` gets every line."""

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: the last evaluation comes afterwards."""

    def figures(self, step: int, row: Mapping[str, Any]) -> None:
        """Each number as a scalar."""
        for name, value in row.items():
            if name != "step" and isinstance(value, int | float):
                self.tb_writer.add_scalar(name, value, step)
        self.tb_writer.flush()

    def alarm(self, alarm: Alarm) -> None:
        """The sentence as a text."""
        self.tb_writer.add_text("alarms", f"**{alarm.kind.label}** ({alarm.kind.severity}): {alarm.text}", alarm.step)
        self.tb_writer.flush()

    def close(self) -> None:
        """Close the file."""
        self.tb_writer.close()


class WandbReporter(WandbCallback):
    """Figures under the names of the metrics file; an alarm is an alert, and a text in the history.

    A resumed run goes on in the same run of Weights & Biases.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._folder = folder
        self._waiting: list[Callable[[], None]] = []
        self._ours = False

    def setup(self, args: Any, state: Any, model: Any, **kwargs: Any) -> None:
        """Begin or go on with the run, and count by optimizer steps."""
        if state.is_world_process_zero and self._wandb.run is None:
            self._ours = True
            place = self._folder / _WANDB_RUN
            known = json.loads(place.read_text(encoding="utf-8"))["id"] if place.is_file() else None
            try:
                run = self._wandb.init(
                    project=os.getenv("WANDB_PROJECT", _PROJECT),
                    name=os.getenv("WANDB_NAME", self._folder.resolve().name),
                    id=os.getenv("WANDB_RUN_ID", known),
                    resume="allow",
                )
            except Exception as error:  # wandb has many kinds, of which none is documented
                raise ConfigurationError(
                    f"Weights & Biases cannot begin a run: {' '.join(str(error).split())}"
                ) from error
            place.write_text(json.dumps({"id": run.id}) + "\n", encoding="utf-8")
        super().setup(args, state, model, **kwargs)  # type: ignore[no-untyped-call]
        if state.is_world_process_zero:
            self._wandb.define_metric("step")
            self._wandb.define_metric("*", step_metric="step", step_sync=True)
        for late in self._waiting:
            late()
        self._waiting.clear()

    def on_log(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: `figures` gets every line."""

    def figures(self, step: int, row: Mapping[str, Any]) -> None:
        """A line of the history."""
        numbers = {name: value for name, value in row.items() if isinstance(value, int | float)}
        self._soon(lambda: self._wandb.log({**numbers, "step": step}))

    def alarm(self, alarm: Alarm) -> None:
        """An alert, and a text in the history."""

        def send() -> None:
            level = self._wandb.AlertLevel.ERROR if alarm.kind.severity == "error" else self._wandb.AlertLevel.WARN
            self._wandb.log({"step": alarm.step, "alarms": f"{alarm.kind.label}: {alarm.text}"})
            self._wandb.alert(title=f"{alarm.kind.label} at step {alarm.step:,}", text=alarm.text, level=level)

        self._soon(send)

    def close(self) -> None:
        """End the run, if it was begun here."""
        if self._ours and self._wandb.run is not None:
            self._wandb.finish()

    def _soon(self, send: Callable[[], None]) -> None:
        if self._initialized:
            send()
        else:
            self._waiting.append(send)


OWN = ("tensorboard", "wandb")
"""Names of `report_to` that are reported here; transformers reports the others."""


def reporters(names: Sequence[str], folder: Path, *, last: int = -1) -> list[Any]:
    """The reporters of these names for the run in `folder`; `last` is the last step that a resumed run keeps."""
    found: list[Any] = []
    if "tensorboard" in names:
        found.append(TensorBoardReporter(folder, last))
    if "wandb" in names:
        found.append(WandbReporter(folder))
    return found


def check_wandb() -> None:
    """Raises ConfigurationError where Weights & Biases would ask for a key that nobody can type."""
    if os.getenv("WANDB_MODE", "online") in ("offline", "disabled", "dryrun") or sys.stdin.isatty():
        return
    if any(os.getenv(name) for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE")):
        return
    host = urlsplit(os.getenv("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    with suppress(OSError, netrc.NetrcParseError):
        if netrc.netrc(os.getenv("NETRC")).authenticators(host):
            return
    raise ConfigurationError(
        "report_to=wandb needs a key: run `wandb login`, set WANDB_API_KEY, or set WANDB_MODE=offline to record only on this "
        "machine"
    )
