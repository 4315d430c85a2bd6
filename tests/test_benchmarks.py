"""Benchmarks are run by hand; they must still be there to run."""

import importlib
from pathlib import Path

import pytest

BENCHMARKS = sorted(path.stem for path in (Path(__file__).parent.parent / "benchmarks").glob("[!_]*.py"))


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_can_be_imported(name: str) -> None:
    importlib.import_module(f"benchmarks.{name}")


def test_every_benchmark_is_listed() -> None:
    listed = (Path(__file__).parent.parent / "benchmarks" / "README.md").read_text()
    helpers = {"gpu", "prefixes", "rollouts", "scripts", "virtual_time"}  # of other benchmarks
    assert [name for name in BENCHMARKS if name not in helpers and f"python -m benchmarks.{name}" not in listed] == []
