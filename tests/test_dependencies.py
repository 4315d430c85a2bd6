"""Every package that is imported is declared in pyproject.toml, and in the part that is installed where it is imported."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OURS = {"recursive_agent", "rao_rl", "rao_cli", "cli", "tests", "benchmarks", "examples", "app"}
EVERYTHING = ("train", "data", "serve", "mcp", "openenv", "otel", "vllm", "dev", "fuzz")
MAY_IMPORT = {
    "recursive_agent": ("mcp", "otel"),
    "cli": ("train", "serve", "mcp", "ray"),
    "rao_rl": ("train", "data", "serve", "mcp", "openenv", "ray", "vllm"),
}
"""Extras whose packages the files of a folder may import, beside the base install's."""
PART_OF = {"pydantic_core": "pydantic", "starlette": "fastapi", "PIL": "matplotlib"}
"""Packages that belong to the interface of another one, which declares them."""
OPTIONAL = {
    "trio": "used where the program runs on it",
    "xllamacpp": "examples/open_model serves with it, and says to install it",
    "verifiers": "rao_rl/envs/verifiers/bridge runs in another Python, which has it; a stand-in for tests",
    "openenv": "tests/adapters/served.py runs in a Python that has it",
    "fastmcp": "the same",
    "rlm": "benchmarks/peers runs each package in a Python that has it",
    "rlmflow": "the same",
    "smolagents": "the same",
    "pytest": "recursive_agent.testing.sandbox_conformance is a test suite",
}
"""Packages that a program has already where our code imports them."""
MADE_HERE = {"rao_test_cages", "travel_desk", "attrs"}
"""Packages that a test writes itself, or that the other examples hold."""


def declared(*extras: str) -> set[str]:
    """Distributions that the base install and these extras declare, by normalised name."""
    lines = PROJECT["dependencies"] + [line for extra in extras for line in PROJECT["optional-dependencies"][extra]]
    return {normalised(re.match(r"[\w.-]+", line)[0]) for line in lines}  # type: ignore[index]


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def imports(path: Path) -> Iterator[str]:
    """Top-level packages that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name.partition(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield node.module.partition(".")[0]


def undeclared(folder: str, extras: tuple[str, ...]) -> set[str]:
    distributions, allowed = packages_distributions(), declared(*extras)
    found = set()
    for path in (ROOT / folder).rglob("*.py"):
        for name in set(imports(path)) - OURS - MADE_HERE - OPTIONAL.keys() - sys.stdlib_module_names:
            package = PART_OF.get(name, name)
            if not {normalised(name) for name in [package, *distributions.get(package, [])]} & allowed:
                found.add(f"{path.relative_to(ROOT)} imports {name}")
    return found


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_what_is_imported_is_declared(folder: str) -> None:
    assert undeclared(folder, MAY_IMPORT[folder]) == set()


@pytest.mark.parametrize("folder", ["tests", "benchmarks", "examples"])
def test_what_tests_and_examples_import_is_declared(folder: str) -> None:
    assert undeclared(folder, EVERYTHING) == set()


def test_what_is_declared_is_used() -> None:
    distributions = packages_distributions()
    files = [path for folder in MAY_IMPORT for path in (ROOT / folder).rglob("*.py")]
    used = {name for path in files for name in imports(path)}
    names = {normalised(distribution) for name in used for distribution in [name, *distributions.get(name, [])]}
    by_others = {"accelerate"}  # transformers.Trainer needs it, and `accelerate launch` starts training
    assert declared("train", "serve") - names - by_others == set()
