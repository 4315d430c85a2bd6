"""The names that modules had before they were ordered in wings. Programs written for those keep working, with a warning.

A module of an old name looks each name up in its new modules when it is asked for. New code imports from `rao_rl` itself.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

MOVED: dict[str, tuple[str, ...]] = {
    "attempts": ("evaluation.log", "evaluation.outcome"),
    "baselines": ("credit.baselines",),
    "batches": ("train.steps",),
    "calibration": ("scoring.calibration",),
    "collect": ("rollouts.batches",),
    "curves": ("evaluation.curves",),
    "encoding": ("imitation.encoding", "data.rows"),
    "export": ("weights.checkpoint", "weights.onnx"),
    "funnel": ("credit.funnel",),
    "groups": ("data.groups",),
    "judge": ("scoring.judge", "errors"),
    "lessons": ("imitation.lessons", "imitation.recorded", "config"),
    "loss": ("train.loss",),
    "metrics": ("train.metrics",),
    "offline": ("train.offline",),
    "online": ("train.online", "config"),
    "packing": ("train.packing",),
    "plots": ("evaluation.plots",),
    "policy": ("imitation.policy",),
    "rao": ("train.run", "config"),
    "rewards": ("credit.rewards",),
    "rubrics": ("scoring.rubrics",),
    "runs": ("train.folder", "errors"),
    "safe_trainer": ("train.safe_trainer", "errors"),
    "sampler": ("weights.torch_model",),
    "samplers": ("weights.choose", "config"),
    "samples": ("data.rows",),
    "saving": ("weights.saving", "train.safe_trainer", "train.arguments"),
    "score": ("scoring.traces",),
    "traces": ("data.folder",),
    "trainer": ("train.trainer",),
    "verdicts": ("scoring.verdicts",),
    "vllm_weights": ("weights.vllm",),
    "weight_files": ("weights.files",),
}
"""Old modules of `rao_rl`, and where their names are now."""


class _Finder(MetaPathFinder, Loader):
    """Finds a module of an old name after every other finder has failed."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        package, _, old = name.rpartition(".")
        return ModuleSpec(name, self) if package == __package__ and old in MOVED else None

    def exec_module(self, module: ModuleType) -> None:
        places = [f"{__package__}.{place}" for place in MOVED[module.__name__.rpartition(".")[2]]]

        def look_up(name: str) -> Any:
            if not name.startswith("__"):
                for place in places:
                    if hasattr(found := import_module(place), name):
                        return getattr(found, name)
            raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")

        module.__getattr__ = look_up  # type: ignore[method-assign]
        warnings.warn(f"{module.__name__} has moved to {' and '.join(places)}", DeprecationWarning, stacklevel=2)


def install() -> None:
    """Let old names be imported."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
