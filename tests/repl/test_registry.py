"""Sandboxes by name: those of this package, of installed packages and of modules; and `require` for each."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from recursive_agent import Agent, SandboxError
from recursive_agent.errors import ConfigurationError
from recursive_agent.repl import (
    InProcessSandbox,
    NamespaceSandbox,
    ProcessSandbox,
    Sandbox,
    TrustedCodeWarning,
    make_sandbox,
    sandbox_names,
)
from recursive_agent.testing import ScriptedEndpoint, replies

PACKAGE = """
from recursive_agent.repl import ProcessSandbox
from recursive_agent.errors import ConfigurationError
made = []
class Cage(ProcessSandbox):
    def __init__(self, *, require="kernel"):
        made.append(require)
        super().__init__(require=require, spares=0)
def never(*, require="kernel"):
    if require == "kernel":
        raise ConfigurationError("a paper bag isolates nothing")
    return Cage(require=None)
def deaf(): return Cage()
def nothing(*, require="kernel"): return 7
number = 7
"""
ENTRY_POINTS = """
[recursive_agent.sandboxes]
cage = rao_test_cages:Cage
bag = rao_test_cages:never
deaf = rao_test_cages:deaf
seven = rao_test_cages:nothing
number = rao_test_cages:number
broken = rao_test_cages_that_are_not_there:Cage
process = rao_test_cages:Cage
"""


@pytest.fixture
def cages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An installed package with sandboxes: a module, and the metadata that an installer writes."""
    (tmp_path / "rao_test_cages.py").write_text(PACKAGE)
    metadata = tmp_path / "rao_test_cages-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: rao-test-cages\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(str(tmp_path))
    import rao_test_cages  # type: ignore[import-not-found]

    yield rao_test_cages
    del sys.modules["rao_test_cages"]


def test_the_names_of_this_package() -> None:
    assert {"process", "namespaces", "inprocess"} <= set(sandbox_names())
    assert isinstance(make_sandbox("process"), ProcessSandbox)
    assert isinstance(make_sandbox("namespaces", require=None), NamespaceSandbox)
    for made in (make_sandbox("process"), make_sandbox("namespaces")):
        assert isinstance(made, Sandbox)
        assert made.enforced == frozenset()


def test_an_unknown_name_lists_what_there_is_and_says_what_to_install(cages: Any) -> None:
    for refuse in (make_sandbox, lambda name: Agent("m", "http://localhost:1/v1", sandbox=name)):
        with pytest.raises(ConfigurationError) as caught:
            refuse("docker")
        for part in ("'process'", "'namespaces'", "'inprocess'", "'cage'", "install", "recursive_agent.sandboxes"):
            assert part in str(caught.value)


def test_an_installed_sandbox_runs_agents_by_name(cages: Any) -> None:
    assert "cage" in sandbox_names()
    for name, given in (("cage", {}), ("cage", {"require": None}), ("rao_test_cages:Cage", {"require": "kernel"})):
        with ScriptedEndpoint(replies(["```python\nfinish(6 * 7)\n```"])) as endpoint:
            result = Agent("scripted", endpoint.base_url, sandbox=name, **given).solve_sync("go")
        assert result.output == 42
        assert result.tree.settings["sandbox"] == "Cage"
    assert cages.made == ["kernel", None, "kernel"], "its own default, where the user said nothing"


def test_a_name_of_this_package_cannot_be_taken_over(cages: Any) -> None:
    assert type(make_sandbox("process")) is ProcessSandbox
    assert sandbox_names().count("process") == 1


def test_a_sandbox_that_cannot_do_what_is_required_says_so(cages: Any) -> None:
    with pytest.raises(ConfigurationError, match="paper bag"):
        make_sandbox("bag")
    assert make_sandbox("bag", require=None).enforced == frozenset()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("deaf", "require"),
        ("seven", "must return a Sandbox"),
        ("number", "is 7; it must be a class, or a function that returns a Sandbox"),
        ("broken", "reinstall the package rao-test-cages"),
        ("rao_test_cages:Missing", "the module rao_test_cages has no Missing"),
        ("rao_no_such_module:Cage", "the module rao_no_such_module cannot be found; .* or install it"),
        (":", "must be written as module:Class"),
        ("rao_test_cages:", "must be written as module:Class"),
    ],
)
def test_what_is_wrong_with_a_sandbox_is_a_sentence(cages: Any, name: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make_sandbox(name, require="kernel")


def test_inprocess_warns_and_is_refused_where_the_kernel_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recursive_agent.repl.inprocess._warned", False)
    with pytest.warns(TrustedCodeWarning):
        assert isinstance(make_sandbox("inprocess"), InProcessSandbox)
    assert isinstance(make_sandbox("inprocess", require=None), InProcessSandbox)
    with pytest.raises(ConfigurationError, match="isolates nothing"):
        make_sandbox("inprocess", require="kernel")
    with pytest.raises(ConfigurationError, match="isolates nothing"):
        Agent("m", "http://localhost:1/v1", sandbox="inprocess", require="kernel")


@pytest.mark.parametrize("wrong", ["none", "Kernel", True, 0, "landlock"])
def test_require_is_kernel_or_none(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="require must be one of"):
        Agent("m", "http://localhost:1/v1", require=wrong)


@pytest.mark.parametrize("wrong", [None, 7, object(), ProcessSandbox])
def test_a_sandbox_is_a_name_or_a_sandbox(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="sandbox must be"):
        Agent("m", "http://localhost:1/v1", sandbox=wrong)


@pytest.mark.anyio
@pytest.mark.filterwarnings("ignore::recursive_agent.repl.TrustedCodeWarning")
async def test_a_sandbox_that_was_given_open_must_hold_what_is_required() -> None:
    with ScriptedEndpoint(replies(["```python\nfinish(1)\n```"])) as endpoint:
        async with InProcessSandbox() as weak:
            with pytest.raises(SandboxError, match="landlock"):
                await Agent("scripted", endpoint.base_url, sandbox=weak, require="kernel").solve("go")
            assert not endpoint.ledger.entries
            result = await Agent("scripted", endpoint.base_url, sandbox=weak).solve("go")
            assert result.output == 1
