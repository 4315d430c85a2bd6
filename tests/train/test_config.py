"""The settings of training are there without torch, each declared once."""

from __future__ import annotations

import inspect
import subprocess
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

from rao_rl import config

WITHOUT = """
import sys
for name in ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "safetensors", "onnx"):
    sys.modules[name] = None
from rao_cli.main import main
sys.argv = ["rao", "train", *sys.argv[1:]]
main()
"""


def without_torch(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`rao train` in a base install: the packages of training cannot be imported."""
    command = [sys.executable, "-c", WITHOUT, *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_settings_and_help_need_no_torch(tmp_path: Path) -> None:
    listed = without_torch(tmp_path, "--settings")
    assert (listed.returncode, listed.stderr) == (0, "")
    names = [line.partition("=")[0] for line in listed.stdout.splitlines()]
    expected = [f"{section}.{item.name}" for section, made in config.sections().items() for item in fields(made)]
    assert names == expected
    helped = without_torch(tmp_path, "--help")
    assert helped.returncode == 0
    assert "--objective" in helped.stdout
    assert "NAME=VALUE" in helped.stdout


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["t", "--model", "m", "--out", "o", "--set", "credit.baselin=root"], "(did you mean credit.baseline?)"),
        (["t", "--model", "m", "--out", "o", "--set", "update.epsilon=2"], "--set update.epsilon: must be at most 1"),
        (["t", "--model", "m", "--out", "o", "--set", "lessons.difficulties=impossible"], "impossible"),
        (["t", "--model", "m"], "name the folder for the trained model: --out DIR"),
        (["--env", "nowhere", "--out", "o"], "there is no environment 'nowhere'"),
        (["--env", "nowhere", "--online", "--model", "m", "--out", "o"], "there is no environment 'nowhere'"),
        (["--env", "textcraft", "--online", "--model", "m", "--out", "o", "--eval", "x"], "--eval takes"),
        (["t", "--model", "m", "--out", "o"], "t does not exist; record traces"),
        (["--env", "textcraft", "--out", "o"], "training needs more packages: pip install 'rao[train]' ("),
    ],
)
def test_arguments_are_checked_without_torch(arguments: list[str], complaint: str, tmp_path: Path) -> None:
    refused = without_torch(tmp_path, *arguments)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("rao: ")
    assert refused.stderr.count("\n") == 1
    assert complaint in refused.stderr
    assert list(tmp_path.iterdir()) == []


def test_each_settings_class_of_the_trainer_comes_from_one_module() -> None:
    """No other module of the package declares a dataclass that is named like a configuration."""
    public = {name for name in config.__all__ if is_dataclass(getattr(config, name))}
    folder = Path(inspect.getfile(config)).parent
    declared = {
        line.removeprefix("class ").partition(":")[0].partition("(")[0]: path
        for path in folder.rglob("*.py")
        for line in path.read_text().splitlines()
        if line.startswith("class ") and line.partition(":")[0].endswith("Config")
    }
    assert set(declared) <= public, {name: path for name, path in declared.items() if name not in public}
