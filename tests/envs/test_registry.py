"""Environments by name: those of this package, of installed packages and of modules; and what is wrong with others."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rao_rl.envs import BUILT_IN, Task, environment_names, make, make_registered, open_session
from recursive_agent import ConfigurationError

MODULE = """
from rao_rl.envs import Task

class Session:
    tools = ()
    async def score(self, node): return 1.0

class Coins:
    name = "coins"
    max_depth = 1
    splits = ("train",)
    levels = ["fair"]
    def __init__(self, sides=2): self.sides = sides
    def tasks(self, split, seed=0, level=None, limit=None): return []
    def task(self, goal, seed=0): return Task(id=goal, goal=goal)
    def session(self, task): return Session()

def dice(): return Coins(6)

class Old(Coins):
    def tasks(self, split, seed=0): return []
    session = None

class Nameless(Coins):
    name = ""
    max_depth = -1
    splits = "train"
    levels = ()

class Empty: pass

class Lazy(Coins):
    @property
    def levels(self): return ("late",)

class Broken(Coins):
    def __init__(self): raise RuntimeError("no coins left")

class Deaf(Coins):
    def session(self, task): return Empty()

class Tools(Coins):
    def session(self, task):
        session = Session()
        session.tools = "read"
        return session

seven = 7
"""
ENTRY_POINTS = """
[rao_rl.environments]
coins = rao_test_coins:Coins
dice = rao_test_coins:dice
gone = rao_test_coins_that_are_not_there:Coins
seven = rao_test_coins:seven
textcraft = rao_test_coins:Coins
"""


@pytest.fixture
def coins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An installed package with environments: a module, and the metadata that an installer writes."""
    (tmp_path / "rao_test_coins.py").write_text(MODULE)
    metadata = tmp_path / "rao_test_coins-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: rao-test-coins\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("rao_test_coins", None)


def test_makes_the_environment_with_its_arguments() -> None:
    environment = make("textcraft", mode="single", inventory="tight")
    assert (environment.name, environment.max_depth) == ("textcraft", 0)
    assert make("textcraft").max_depth == 12


def test_textcraft_names_its_splits_and_levels() -> None:
    assert (tuple(make("textcraft").splits), tuple(make("textcraft").levels)) == (
        ("train", "validation", "test"),
        ("easy", "medium", "hard", "extreme"),
    )
    assert tuple(make("textcraft", names="fixed").splits) == ("train", "test")


@pytest.mark.usefixtures("coins")
@pytest.mark.parametrize(
    "name", ["coins", "dice", "rao_test_coins:Coins", "rao_test_coins:dice", "rao_test_coins:Lazy"]
)
def test_other_peoples_environments_are_found(name: str) -> None:
    environment = make(name)
    assert environment.name == "coins"
    assert {"coins", "dice", "textcraft"} <= set(environment_names())
    assert open_session(environment, Task(id="t", goal="g")).tools == ()


@pytest.mark.usefixtures("coins")
def test_a_built_in_name_stays_what_it_is() -> None:
    assert make("textcraft").name == "textcraft"


def test_a_module_in_the_current_directory_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rao_test_here.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert make("rao_test_here:Coins", sides=3).name == "coins"


@pytest.mark.usefixtures("coins")
@pytest.mark.parametrize(
    ("name", "complaints"),
    [
        ("minecraft", [*BUILT_IN, "coins", "rao_rl.environments", "module:Class", "install the package"]),
        ("gone", ["cannot be loaded", "reinstall the package rao-test-coins"]),
        ("seven", ["is 7", "a class, or a function that returns an environment"]),
        ("rao_test_coins:seven", ["is 7"]),
        ("rao_test_coins:Purse", ["the module rao_test_coins has no Purse"]),
        (
            "rao_test_purses:Coins",
            ["the module rao_test_purses cannot be found", "run rao in the folder that contains it"],
        ),
        ("coins.py:Coins", ["must be written as module:Class"]),
        (":Coins", ["must be written as module:Class"]),
        ("rao_test_coins:", ["must be written as module:Class"]),
        ("rao_test_coins:Broken", ["cannot be made", "no coins left"]),
        (
            "rao_test_coins:Empty",
            [
                *("Empty lacks name", "max_depth", "splits", "levels", "tasks(split, seed=0, level=None, limit=None)"),
                *("task(goal, seed=0)", "session(task)", "docs/extending.md"),
            ],
        ),
        (
            "rao_test_coins:Old",
            [
                "its tasks must be a method that takes (split, seed=0, level=None, limit=None)",
                "its session must be a method that takes (task)",
            ],
        ),
        (
            "rao_test_coins:Nameless",
            ["its name must be", "its max_depth must be", "its splits must be", "its levels must be", "not 'train'"],
        ),
        ("rao_test_coins:Task", ["missing a required argument"]),
    ],
)
def test_what_is_wrong_is_one_sentence_that_says_what_to_do(name: str, complaints: list[str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        make(name)
    assert [complaint for complaint in complaints if complaint not in str(caught.value)] == []


@pytest.mark.usefixtures("coins")
@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("rao_test_coins:Deaf", r"session of coins is not complete: Empty lacks tools .*, score\(node\)"),
        ("rao_test_coins:Tools", "its tools must be a list of functions, not 'read'"),
    ],
)
def test_an_incomplete_session_is_named(name: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        open_session(make(name), Task(id="t", goal="g"))


def test_a_checkpoint_cannot_name_code_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else opening somebody's checkpoint would run whatever it names: `os:system`, say."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ConfigurationError, match=r"'os:system', which is code that is not installed.*rao run --env os:system"
    ):
        make_registered("os:system", command="touch harm")
    assert not (tmp_path / "harm").exists()
    assert make_registered("textcraft", names="fixed").name == "textcraft"


@pytest.mark.parametrize("arguments", [{"nams": "words"}, {"names": "latin"}, {"mode": "both"}, {"inventory": "empty"}])
def test_a_wrong_argument_is_a_configuration_error(arguments: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match="textcraft: "):
        make("textcraft", **arguments)


def test_environments_import_without_torch() -> None:
    code = "import sys, rao_rl.envs; sys.exit(any(name in sys.modules for name in ('torch', 'transformers')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
