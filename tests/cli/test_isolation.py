"""`--sandbox`, `--require`, and what is said of the sandbox on the live tree."""

from pathlib import Path
from typing import Any

import pytest
from rao_cli.isolation import layers, parse_require
from rao_cli.view import render
from rich.console import Console

from recursive_agent.errors import ConfigurationError
from recursive_agent.repl import UNSET
from recursive_agent.repl.kernel import KERNEL_LAYERS
from recursive_agent.trace.tree import ExecutionTree
from tests.trace.events import node_started, run_started

from .command import rao

ALL = sorted(KERNEL_LAYERS | {"process", "policy"})


def _drawn(settings: dict[str, Any], height: int = 20) -> list[str]:
    events = [run_started(settings=settings), *(node_started(name) for name in ("0", "0.0", "0.1", "0.2"))]
    console = Console(width=120, height=height, force_terminal=False)
    with console.capture() as capture:
        console.print(render(ExecutionTree.from_events(events), height))
    return capture.get().rstrip("\n").split("\n")


def test_require_by_name() -> None:
    assert parse_require(None) is UNSET
    assert parse_require("kernel") == "kernel"
    assert parse_require("none") is None
    assert parse_require(None, "inprocess") is UNSET
    with pytest.raises(ConfigurationError, match="isolates nothing"):
        parse_require("kernel", "inprocess")
    with pytest.raises(ConfigurationError, match="'namespaces'"):
        parse_require("kernel", "docker")


def test_the_layers_stand_under_the_headline() -> None:
    line = _drawn({"enforced": ALL})[1]
    assert all(layer in line for layer in ALL)
    assert "root" not in line
    assert "as root" in _drawn({"enforced": ALL, "as_root": True})[1]


@pytest.mark.parametrize("missing", sorted(KERNEL_LAYERS))
def test_what_is_missing_stands_there_first(missing: str) -> None:
    line = _drawn({"enforced": [layer for layer in ALL if layer != missing]})[1]
    assert line.startswith(f"sandbox NOT LOCKED, missing {missing} ")


@pytest.mark.parametrize("recorded", [None, "all", {"seccomp": True}])
def test_where_nothing_was_recorded_nothing_is_said(recorded: Any) -> None:
    settings = {} if recorded is None else {"enforced": recorded}
    assert layers(settings) is None
    assert len(_drawn(settings)) == 5


def test_layers_of_other_makes_are_named_too() -> None:
    assert layers({"enforced": [*ALL, "virtual machine"]}) == (
        "sandbox: process, rlimits, no_new_privs, pdeathsig, landlock, seccomp, policy, virtual machine",
        True,
    )
    assert layers({"enforced": []}) is not None


@pytest.mark.parametrize("height", [3, 4, 6])
def test_the_line_counts_among_those_there_are(height: int) -> None:
    assert len(_drawn({"enforced": ALL}, height)) <= max(height, 4)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "--demo", "--require", "some"], "--require must be kernel or none, not 'some' (see: rao run --help)"),
        (["run", "--demo", "--sandbox", "jail"], "'namespaces'"),
        (["run", "--demo", "--sandbox", "inprocess", "--require", "kernel"], "isolates nothing"),
        (["eval", "textcraft", "--sandbox", "jail"], "'namespaces'"),
        (["rollout", "textcraft", "--require", "some"], "kernel or none"),
        (["serve", "policy", "--require", "none"], "--require works only with --agent"),
        (["serve", "policy", "--sandbox", "namespaces"], "--sandbox works only with --agent"),
        (
            ["train", "--env", "textcraft", "--require", "none", "--out", "x"],
            "--require works only where agents' code is run",
        ),
        (["train", "--env", "textcraft", "--online", "--require", "some", "--out", "x"], "kernel or none"),
    ],
)
def test_options_that_make_no_sense_are_usage_errors(arguments: list[str], said: str, tmp_path: Path) -> None:
    done = rao(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
