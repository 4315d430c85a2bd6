"""The order of files: a file imports only what stands on an earlier floor, and the worker's files as good as nothing else."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from recursive_agent import repl
from recursive_agent.repl.worker import limits

HOST_FLOORS = (
    "protocol bpf wall starvation",
    "syscalls",
    "kernel",
    "base",
    "files log messages watchdog",
    "link",
    "worker",
    "zygote",
    "helper",
    "answers",
    "worker_repl",
    "sandbox",
    "host inprocess",
    "namespaces",
    "registry",
    "__init__",
)
WORKER_FLOORS = (
    "__init__ names errors exact ordered rows unicode_errors callbacks parsing scopes tolerance fits tasks",
    "values",
    "cell_loop patterns calls output incoming shadowed",
    "language reads plain cell",
    "clock outgoing formatting matching caches classes regular",
    "chance dispatch times",
    "copying kinds returns turns",
    "guards modules limits",
    "functions",
    "interpreter",
    "main",
)
SHARED = {"protocol", "kernel", "starvation"}
"""All that the worker's files import of the host's side."""
LIBRARIES = {"msgpack", "RestrictedPython"}

HOST = Path(repl.__file__).parent
WORKER = HOST / "worker"


def imports(file: Path) -> list[tuple[int, str]]:
    """`(leading dots, module)` of every import, wherever it stands in the file."""
    found: list[tuple[int, str]] = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found += [(0, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module] if node.module else [alias.name for alias in node.names]
            found += [(node.level, module) for module in modules]
    return [(level, module.partition(".")[0]) for level, module in found]


@pytest.mark.parametrize(("folder", "floors"), [(HOST, HOST_FLOORS), (WORKER, WORKER_FLOORS)], ids=["host", "worker"])
def test_every_file_has_a_floor_and_imports_lower_ones_alone(folder: Path, floors: tuple[str, ...]) -> None:
    floor = {name: number for number, names in enumerate(floors) for name in names.split()}
    files = {file.stem: file for file in folder.glob("*.py")}
    assert set(floor) - {"worker"} == set(files), "give each file a floor"
    wrong = [
        f"{name} imports {module}"
        for name, file in files.items()
        for level, module in imports(file)
        if level == 1 and module in floor and floor[module] >= floor[name]
    ]
    assert wrong == [], "a file imports only from lower floors"


def test_the_worker_imports_of_the_host_what_they_share_alone() -> None:
    """It runs where nothing else of this package, and no other library, can be imported."""
    outside = {
        (file.stem, "." * level + module)
        for file in WORKER.glob("*.py")
        for level, module in imports(file)
        if (level == 2 and module not in SHARED)
        or level > 2
        or (level == 0 and module not in LIBRARIES and module not in sys.stdlib_module_names)
    }
    assert outside == set()


def test_files_that_hold_the_state_of_a_cell_are_not_interrupted() -> None:
    """A limit that struck there would leave a call, a reply or the clock half changed."""
    state = {"cell", "dispatch", "cell_loop", "incoming", "calls"}
    holders = state | {
        file.stem
        for file in WORKER.glob("*.py")
        if {module for level, module in imports(file) if level == 1} & (state - {"calls"})
    }
    uninterrupted = {Path(name).stem for name in limits._CRITICAL if Path(name).parent == WORKER}
    assert holders <= uninterrupted
