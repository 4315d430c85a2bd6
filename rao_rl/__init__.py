"""Training recursive agents: environments, attempts, credit, evaluation, and the trainers.

    from rao_rl import evaluate, make

    attempts = await evaluate(make("textcraft"), tasks, model)

The names in `__all__` and the modules `rao_rl.credit`, `rao_rl.serve.agent` and `rao_rl.serve.http` are public and stay. All
other names may change. Each name is imported when you first use it: the trainers need the extra `rao[
]`, everything else
works in a base install.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from recursive_agent._version import __version__

from . import moved as _moved

if TYPE_CHECKING:
    from .config import Curriculum, ImitationConfig, OnlineConfig, SamplerConfig, UpdateConfig
    from .credit import CreditConfig, Credits, assign
    from .data.folder import read_folder, read_groups
    from .data.rows import node_rows
    from .data.table import export_rows
    from .envs import Environment, Session, Task, environment_names, make
    from .errors import (
        DataError,
        JudgeError,
        JudgeFailed,
        JudgeTooSlow,
        NothingToLearn,
        RolloutsFailed,
        TrainingDiverged,
        TrainingStopped,
        UnknownGoal,
        VllmEnded,
        VllmMissing,
        WeightPushError,
    )
    from .evaluation.curves import read_metrics
    from .evaluation.outcome import Attempt
    from .evaluation.plots import learning_curves
    from .evaluation.run import evaluate
    from .evaluation.summary import Summary, summarize
    from .imitation.run import train_on_demonstrations, train_on_traces
    from .rollouts.attempt import AttemptSettings, rollout
    from .rollouts.batches import CollectConfig
    from .rollouts.many import PlannedAttempt, run_attempts
    from .rollouts.recording import plan_groups, record
    from .scoring.judge import Judge
    from .scoring.traces import score_traces, with_scorer
    from .train.run import train_offline, train_online
    from .weights.checkpoint import load_checkpoint, write_checkpoint
    from .weights.folder import open_folder

_LAZY = {
    "Attempt": "evaluation.outcome",
    "AttemptSettings": "rollouts.attempt",
    "CollectConfig": "rollouts.batches",
    "CreditConfig": "credit",
    "Credits": "credit",
    "Curriculum": "config",
    "DataError": "errors",
    "Environment": "envs",
    "ImitationConfig": "config",
    "Judge": "scoring.judge",
    "JudgeError": "errors",
    "JudgeFailed": "errors",
    "JudgeTooSlow": "errors",
    "NothingToLearn": "errors",
    "OnlineConfig": "config",
    "PlannedAttempt": "rollouts.many",
    "RolloutsFailed": "errors",
    "SamplerConfig": "config",
    "Session": "envs",
    "Summary": "evaluation.summary",
    "Task": "envs",
    "TrainingDiverged": "errors",
    "TrainingStopped": "errors",
    "UnknownGoal": "errors",
    "UpdateConfig": "config",
    "VllmEnded": "errors",
    "VllmMissing": "errors",
    "WeightPushError": "errors",
    "assign": "credit",
    "environment_names": "envs",
    "evaluate": "evaluation.run",
    "export_rows": "data.table",
    "learning_curves": "evaluation.plots",
    "load_checkpoint": "weights.checkpoint",
    "make": "envs",
    "node_rows": "data.rows",
    "open_folder": "weights.folder",
    "plan_groups": "rollouts.recording",
    "read_folder": "data.folder",
    "read_groups": "data.folder",
    "read_metrics": "evaluation.curves",
    "record": "rollouts.recording",
    "rollout": "rollouts.attempt",
    "run_attempts": "rollouts.many",
    "score_traces": "scoring.traces",
    "summarize": "evaluation.summary",
    "train_offline": "train.run",
    "train_on_demonstrations": "imitation.run",
    "train_on_traces": "imitation.run",
    "train_online": "train.run",
    "with_scorer": "scoring.traces",
    "write_checkpoint": "weights.checkpoint",
}
"""The public names, and the module of each."""

__all__ = [
    "Attempt",
    "AttemptSettings",
    "CollectConfig",
    "CreditConfig",
    "Credits",
    "Curriculum",
    "DataError",
    "Environment",
    "ImitationConfig",
    "Judge",
    "JudgeError",
    "JudgeFailed",
    "JudgeTooSlow",
    "NothingToLearn",
    "OnlineConfig",
    "PlannedAttempt",
    "RolloutsFailed",
    "SamplerConfig",
    "Session",
    "Summary",
    "Task",
    "TrainingDiverged",
    "TrainingStopped",
    "UnknownGoal",
    "UpdateConfig",
    "VllmEnded",
    "VllmMissing",
    "WeightPushError",
    "__version__",
    "assign",
    "environment_names",
    "evaluate",
    "export_rows",
    "learning_curves",
    "load_checkpoint",
    "make",
    "node_rows",
    "open_folder",
    "plan_groups",
    "read_folder",
    "read_groups",
    "read_metrics",
    "record",
    "rollout",
    "run_attempts",
    "score_traces",
    "summarize",
    "train_offline",
    "train_on_demonstrations",
    "train_on_traces",
    "train_online",
    "with_scorer",
    "write_checkpoint",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = import_module(f"{__name__}.{_LAZY[name]}")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in (__name__, "recursive_agent"):
            raise
        raise ImportError(
            f"rao_rl.{name} needs the package {error.name}: pip install 'rao[train]'", name=name
        ) from error
    value = globals()[name] = getattr(module, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})


_moved.install()
