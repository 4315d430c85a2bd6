"""The exceptions of the trainer stand in one place, drawn as a tree, and get from one process to another."""

from __future__ import annotations

import ast
import pickle
import signal
from pathlib import Path

import pytest

import rao_rl
from rao_rl import errors
from recursive_agent.errors import ConfigurationError, RaoError

OWN = [kind for kind in vars(errors).values() if isinstance(kind, type) and kind.__module__ == errors.__name__]


def test_the_tree_in_the_docstring_is_that_of_the_classes() -> None:
    drawn = errors.__doc__ or ""
    assert all(issubclass(kind, RaoError) and f"── {kind.__name__} " in drawn for kind in OWN)
    assert issubclass(errors.VllmMissing, ConfigurationError)


def test_bad_data_is_no_wrong_setting() -> None:
    assert issubclass(errors.DataError, ValueError)
    assert not issubclass(errors.DataError, ConfigurationError)
    assert not issubclass(ConfigurationError, errors.DataError)


def test_no_other_module_defines_an_error() -> None:
    bases = {"RaoError", "ConfigurationError", *(kind.__name__ for kind in OWN)}
    folder = Path(rao_rl.__file__).parent
    elsewhere = [
        f"{path.relative_to(folder)}: {node.name}"
        for path in folder.rglob("*.py")
        if path.name != "errors.py" or path.parent != folder
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef) and any(ast.unparse(base).rpartition(".")[2] in bases for base in node.bases)
    ]
    assert elsewhere == []


@pytest.mark.parametrize("kind", OWN, ids=lambda kind: kind.__name__)
def test_an_error_reaches_another_process_whole(kind: type[RaoError]) -> None:
    arguments: dict[type[RaoError], tuple[object, ...]] = {
        errors.TrainingStopped: (signal.SIGTERM, 3),
        errors.VllmEnded: (137, ["out of memory"]),
    }
    made = kind(*arguments.get(kind, ("say what to do",)))
    back = pickle.loads(pickle.dumps(made))
    assert (type(back), str(back), vars(back)) == (kind, str(made), vars(made))
