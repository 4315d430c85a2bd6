"""An environment in a package of its own: built as a wheel, installed by pip, and used by its name."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from recursive_agent.testing import Request, ScriptedEndpoint
from tests.cli.command import environment, rao

PROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "rao-test-sums"
version = "1.0"

[project.entry-points."rao_rl.environments"]
sums = "rao_test_sums:Sums"

[tool.setuptools]
py-modules = ["rao_test_sums"]
"""
MODULE = """
from rao_rl.envs import About, Task

class Session:
    tools = ()
    async def score(self, node): return float(node.result == 5)

class Sums:
    name = "sums"
    about = About(summary="add two numbers", sizes={"test": 2})
    max_depth = 0
    splits = ("test",)
    levels = ("plain",)
    def tasks(self, split, seed=0, level=None, limit=None):
        return [Task(id=f"sums/{i}", goal=f"Add {i} and {5 - i}", level="plain") for i in range(2)][:limit]
    def task(self, goal, seed=0): return Task(id=goal, goal=goal)
    def session(self, task): return Session()
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """The variables of a process in which the package is installed."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("target")
    (source / "pyproject.toml").write_text(PROJECT)
    (source / "rao_test_sums.py").write_text(MODULE)
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", *options, "--target", target, source],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0 and ("No module named pip" in done.stderr or "setuptools" in done.stderr):
        pytest.skip(f"no wheel can be built here: {done.stderr.strip()[-200:]}")
    assert done.returncode == 0, done.stderr
    paths = [str(target), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**environment(), "PYTHONPATH": os.pathsep.join(paths)}


def test_it_is_made_by_its_name(installed: Mapping[str, str]) -> None:
    code = "from rao_rl.envs import environment_names, make; print('sums' in environment_names(), make('sums').name)"
    done = subprocess.run([sys.executable, "-c", code], env=installed, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["True", "sums"], done.stderr


def test_it_is_evaluated_by_its_name(installed: Mapping[str, str], tmp_path: Path) -> None:
    def answer(request: Request) -> str:
        return "```python\nfinish(5)\n```"

    with ScriptedEndpoint(answer) as endpoint:
        options = ["--tasks", "2", "--mode", "single", "--model", "scripted", "--base-url", endpoint.base_url, "--json"]
        done = rao("eval", "sums", *options, cwd=tmp_path, env=dict(installed))
    assert done.returncode == 0, done.stderr
    assert '"success": 1.0' in done.stdout
