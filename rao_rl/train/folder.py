"""The folder of a training run: its settings, its metrics, its checkpoints, and how a killed run is resumed."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import transformers
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from transformers import TrainerCallback
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from recursive_agent.errors import ConfigurationError

from ..config import current_name
from ..processes import processes
from .wholeness import STATE, fault_of

METRICS = "metrics.jsonl"
SETTINGS = "training.json"
CHECKPOINTS = "checkpoints"


def remember(output: Path, settings: Mapping[str, Any], *, resume: bool, free: Collection[str] = ()) -> frozenset[str]:
    """Write down what the run is, or, where it is resumed, check that it is still the same one.

    Returns the settings that have changed since it was begun or resumed last. Settings are named `section.name`; those in
    `free` may change when a run is resumed, and so may any that an older version did not write. Raises ConfigurationError
    where there is nothing to resume, and, naming each setting with both values, where they differ.
    """
    settings = json.loads(json.dumps(settings))
    path = output / SETTINGS
    different: frozenset[str] = frozenset()
    if resume:
        before = {current_name(name): value for name, value in _flat(_read_settings(path, output)).items()}
        now = _flat(settings)
        changed = [
            _difference(name, before[name], now[name])
            for name in sorted(before.keys() & now.keys() - set(free))
            if not _same(name, before[name], now[name])
        ]
        lost = sorted(name for name in before.keys() - now.keys() - set(free) if before[name] is not None)
        if changed or lost:
            raise ConfigurationError(
                f"the run in {output} was started with other settings: {', '.join([*changed, *lost])}; use the same ones, or "
                "choose another folder"
            )
        different = frozenset(name for name in before.keys() & now.keys() if not _same(name, before[name], now[name]))
    output.mkdir(parents=True, exist_ok=True)
    _replace(path, json.dumps(settings, indent=2) + "\n")
    return different


def _read_settings(path: Path, output: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ConfigurationError(f"{output} contains no run to resume")
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path} cannot be read ({error}), so the run there cannot be resumed") from None
    if not isinstance(before, dict):
        raise ConfigurationError(f"{path} contains no settings, so the run cannot be resumed")
    return before


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings by their dotted names."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat


def place_of(model: str | Path) -> str:
    """A model as it is written down: a folder by its whole path, so that a run may be resumed from anywhere."""
    return str(Path(model).resolve()) if Path(model).is_dir() else str(model)


def _same(name: str, before: Any, now: Any) -> bool:
    """Whether two values mean the same; folders may be spelt in several ways."""
    if before == now:
        return True
    if name not in ("model", "traces") or not isinstance(before, str) or not isinstance(now, str):
        return False
    ours = Path(now).resolve()
    # A relative path may have been written down from another folder than today's.
    told = Path(before)
    return told.resolve() == ours or (not told.is_absolute() and ours.parts[-len(told.parts) :] == told.parts != ())


def _difference(name: str, before: Any, now: Any) -> str:
    shown = [json.dumps(value) for value in (before, now)]
    return name if max(map(len, shown)) > 60 else f"{name} (was {shown[0]}, now {shown[1]})"


def last_checkpoint(directory: Path) -> Path | None:
    """The newest checkpoint that is whole (see `fault_of`)."""
    found = [
        (steps_done(folder), folder)
        for folder in (directory.glob("checkpoint-*") if directory.is_dir() else ())
        if fault_of(folder) is None
    ]
    return max(found)[1] if found else None


def broken_checkpoints(directory: Path) -> list[str]:
    """A sentence about each checkpoint that cannot be resumed from."""
    folders = sorted(directory.glob("checkpoint-*")) if directory.is_dir() else []
    return [f"{folder} is left out: {fault}" for folder in folders if (fault := fault_of(folder)) is not None]


def steps_done(checkpoint: Path) -> int:
    """Optimizer steps of a checkpoint."""
    return int(json.loads((checkpoint / STATE).read_text(encoding="utf-8"))["global_step"])


def cut_metrics(
    path: Path, step: int, again: Callable[[Mapping[str, Any]], bool] = lambda row: False
) -> list[dict[str, Any]]:
    """Leave out what was written after `step`, and a torn last line, since those steps come again; what is left.

    `again` says which other rows come again, of those that were written at `step` but after its checkpoint.
    """
    rows: list[dict[str, Any]] = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if row.get("step", 0) <= step and not again(row):
            rows.append(row)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    if rows or path.is_file():
        _replace(path, text)
    return rows


def _replace(path: Path, text: str) -> None:
    """A kill leaves the old file or the new one."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def append_metrics(path: Path, row: Mapping[str, Any]) -> None:
    """One line more."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def show_by(trainer: Any, *callbacks: TrainerCallback) -> None:
    """Show a run by these callbacks instead of transformers' own lines and bars, which would break ours."""
    for callback in callbacks:
        trainer.add_callback(callback)
    for printer in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(printer)
    logging: Any = transformers.utils.logging
    logging.disable_progress_bar()


class Recording(Protocol):
    """Where lines of metrics go (see `record.Record`)."""

    def write(self, row: Mapping[str, Any]) -> None:
        """A line of metrics."""

    @property
    def lasting(self) -> list[str]:
        """The labels of the alarms that last."""


class RunProgress(TrainerCallback):
    """Records the metrics, shows a bar on stderr, and ends the run when `progress(step)`, a share, reaches 1."""

    def __init__(
        self, record: Recording, progress: Callable[[int], float], describe: Callable[[dict[str, Any]], str]
    ) -> None:
        self.record = record
        self.progress = progress
        self.describe = describe
        self.bar = Progress(
            TextColumn("training"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[shown]}"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
        )
        self.task = self.bar.add_task("training", total=1.0, shown="")

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Show the bar."""
        if state.is_world_process_zero:
            self.bar.start()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Move it, and end the run where it is done."""
        progress = self.progress(state.global_step)
        self.bar.update(self.task, completed=min(1.0, progress))
        if progress >= 1:
            control.should_training_stop = True
            control.should_save = True  # so that the run can be made longer

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Write a line of metrics."""
        if not state.is_world_process_zero:
            return
        shown = {"step": state.global_step, **(logs or {})}
        self.record.write(shown)
        if "loss" in shown:
            alarms = "".join(f" · [bold red]{label}[/]" for label in self.record.lasting)
            self.bar.update(self.task, shown=f"step {state.global_step:,} · {self.describe(shown)}{alarms}")

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Take the bar away."""
        self.bar.stop()


class StopOnSignal(TrainerCallback):
    """Ends a run at the next step, saved, on SIGTERM or SIGINT; at once on the second signal.

    Signals reach the main thread only. Several processes must end at the same step, whichever of them was to: they `agree`
    on the largest of some numbers (see `Together.agree`), and without it they heed no signal. Put it behind all callbacks
    that end or save a run.
    """

    def __init__(self, agree: Callable[[list[int]], list[int]] | None = None) -> None:
        self.number: signal.Signals | None = None
        self._agree = agree

    @contextmanager
    def heeding(self) -> Iterator[None]:
        """Heed signals while the block lasts."""
        alone = processes() > 1 and self._agree is None
        if alone or threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        heeded = [number for number, handler in before.items() if handler not in (None, signal.SIG_IGN)]
        for number in heeded:
            signal.signal(number, self._note)
        try:
            yield
        finally:
            for number in heeded:
                signal.signal(number, before[number])

    def _note(self, number: int, frame: Any) -> None:
        if self.number is not None:
            raise KeyboardInterrupt
        self.number = signal.Signals(number)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """End where a signal came, or where another process ends."""
        number, stop, save = self.number or 0, control.should_training_stop, control.should_save
        if self._agree is not None:
            number, stop, save = self._agree([int(number), int(stop), int(save)])
        if number:
            self.number, stop, save = signal.Signals(number), True, True
        control.should_training_stop, control.should_save = bool(stop), bool(save)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """End where a signal came while the next step was still to be made."""
        self.on_step_end(args, state, control)
