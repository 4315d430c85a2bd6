"""The house: no circle of files, no arrow up, no torch where it is not needed.

The packages stand on each other, `cli` → `rao_rl` → `recursive_agent`, and inside a package FLOORS lists files and folders
from the ground up. A file may import what stands on an earlier line, and the rest of its own folder; not what stands on a
later line or beside it on the same one. All imports count: at the top of a file, inside functions, and for types only.

A new file or folder is put into FLOORS, on the lowest line above all that it imports.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {"recursive_agent": "recursive_agent", "rao_rl": "rao_rl", "rao_cli": "cli"}
"""Packages from the ground up, and the folders that they stand in."""

FLOORS: dict[str, tuple[tuple[str, ...], ...]] = {
    "recursive_agent": (
        (
            "_version",
            "concurrency",
            "messages",
            "plain",
            "schemas",
            "signatures",
            "sizes",
            "status",
            "styles",
            "type_words",
            "usage",
            "written",
        ),
        ("background", "threads"),
        ("asking", "clock"),
        ("trace.schema",),  # the events of a run,
        ("trace.node",),  # and what they make of one agent: errors carry runs
        ("errors",),
        ("mcp.server",),
        ("mcp.config",),
        ("plugins",),
        ("trace",),
        (
            "approval",
            "checkpoint",
            "limits",
            "repl",
            "result",
            "returns",
            "scoring",
            "steering",
            "viewer",
        ),
        ("compaction", "launch", "model", "resumption", "stream", "tools", "workplace", "worked_examples"),
        ("mcp",),
        ("actions", "checks", "run_config", "testing"),
        ("models_by_node", "once"),
        ("model_choice", "tree"),
        ("approving", "wrap_up"),
        ("goal", "host_calls", "model_calls", "observations", "prompts", "replay"),
        ("dialogue", "resume"),
        ("node",),
        ("run",),
        ("agent",),
        ("",),
    ),
    "rao_rl": (
        ("bounds", "errors", "moved", "processes"),
        ("envs",),
        ("credit",),
        ("data",),
        ("scoring",),
        ("rollouts",),
        ("evaluation",),
        ("config",),
        ("weights",),
        ("train",),
        ("imitation",),
        ("serve.http",),
        ("serve.agent", "serve.engine", "serve.vllm"),
        ("serve",),
        ("",),
    ),
}
"""For each package its floors from the ground up. "" is the package's own `__init__.py`."""

PENDING_CIRCLES: tuple[str, ...] = ()
"""Modules (with all below them) whose circles are known and being opened."""
PENDING_ARROWS: tuple[tuple[str, str], ...] = ()
"""Imports that point up, known and being turned."""

WITHOUT_TORCH = ("config", "rollouts", "scoring", "data", "credit", "evaluation", "envs", "serve")
"""What of `rao_rl` a base install must be able to import."""
TRAINING_ONLY = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "safetensors.torch")


# -- reading the imports ----------------------------------------------------------------------------------------------


def modules() -> dict[str, Path]:
    """Every module of the three packages, by its dotted name."""
    found = {}
    for package, folder in PACKAGES.items():
        for file in sorted((ROOT / folder).rglob("*.py")):
            parts = [package, *file.relative_to(ROOT / folder).with_suffix("").parts]
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def imports_of(source: str, module: str, *, is_package: bool, known: Iterable[str]) -> Iterator[str]:
    """The modules of `known` that a source imports, wherever in it."""
    names = set(known)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            here = module.split(".")
            above = here[: len(here) - node.level + is_package] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            targets = [name if (name := f"{base}.{alias.name}") in names else base for alias in node.names]
        else:
            continue
        yield from (target for target in targets if target in names and target != module)


def imports() -> dict[str, set[str]]:
    """What each module imports of the others."""
    files = modules()
    return {
        module: set(imports_of(file.read_text(), module, is_package=file.name == "__init__.py", known=files))
        for module, file in files.items()
    }


# -- circles ----------------------------------------------------------------------------------------------------------


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Groups of modules that can each reach all the others: what is left when ends that lead nowhere are taken away."""
    reach = {module: _reachable(graph, module) for module in graph}
    groups = {
        frozenset(other for other in reach[module] if module in reach[other])
        for module in graph
        if module in reach[module]
    }
    return sorted(sorted(group) for group in groups)


def _reachable(graph: Mapping[str, set[str]], start: str) -> set[str]:
    seen: set[str] = set()
    waiting = list(graph[start])
    while waiting:
        module = waiting.pop()
        if module not in seen:
            seen.add(module)
            waiting.extend(graph[module])
    return seen


def test_no_circle_of_files() -> None:
    found = [circle for circle in circles(imports()) if not any(map(_is_pending, circle))]
    sentences = [
        f"{', '.join(circle)} import each other in a circle: move what they share into a file below them."
        for circle in found
    ]
    assert not found, "\n".join(sentences)


def _is_pending(module: str) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in PENDING_CIRCLES)


def test_what_is_pending_is_still_there() -> None:
    graph = imports()
    left = {module for circle in circles(graph) for module in circle}
    gone = [
        name for name in PENDING_CIRCLES if not any(module == name or module.startswith(f"{name}.") for module in left)
    ]
    assert not gone, f"{', '.join(gone)} has no circle any more: take the line out of PENDING_CIRCLES."
    turned = [f"{module} → {target}" for module, target in PENDING_ARROWS if target not in graph.get(module, ())]
    assert not turned, f"{', '.join(turned)} is gone: take the line out of PENDING_ARROWS."


# -- floors -----------------------------------------------------------------------------------------------------------


def place(module: str, floors: Iterable[tuple[str, ...]]) -> tuple[int, str] | None:
    """The floor of a module (its name within the package), and the name on it that it belongs to: the longest."""
    fitting = [
        (len(name), number, name)
        for number, floor in enumerate(floors)
        for name in floor
        if module == name or (name and module.startswith(f"{name}."))
    ]
    return max(fitting)[1:] if fitting else None


def arrows_up(graph: Mapping[str, set[str]]) -> Iterator[str]:
    """What is wrong with the order of packages and floors, in a sentence each."""
    packages = list(PACKAGES)
    for module, targets in sorted(graph.items()):
        package, _, inner = module.partition(".")
        floors = FLOORS.get(package)
        own = None if floors is None else place(inner, floors)
        if floors is not None and own is None:
            yield (
                f"{module} has no floor: put {inner.partition('.')[0]!r} into FLOORS[{package!r}] of tests/test_house.py, "
                "on the lowest line above all that it imports."
            )
            continue
        for target in sorted(targets):
            if (module, target) in PENDING_ARROWS:
                continue
            other, _, target_inner = target.partition(".")
            if packages.index(other) > packages.index(package):
                yield f"{module} imports {target}, and {package} stands below {other}: the arrow must point down."
            elif other == package and floors is not None and own is not None:
                there = place(target_inner, floors)
                if there is not None and there[1] != own[1] and there[0] >= own[0]:
                    how = "beside it on the same floor" if there[0] == own[0] else "on a higher floor"
                    yield (
                        f"{module} imports {target}, which stands {how}: move what it needs down, or pass it in as an "
                        "argument."
                    )


def test_no_arrow_up() -> None:
    found = list(arrows_up(imports()))
    assert not found, "\n".join(found)


def test_every_line_of_the_table_names_something_that_is_there() -> None:
    known = set(modules())
    gone = [
        f"{package}.{name}"
        for package, floors in FLOORS.items()
        for floor in floors
        for name in floor
        if name and f"{package}.{name}" not in known
    ]
    assert not gone, f"{', '.join(gone)} is gone: take it out of FLOORS."


# -- torch ------------------------------------------------------------------------------------------------------------

_IMPORT_ALL = """
import importlib, sys
for name in {blocked!r}:
    sys.modules[name] = None
wrong = []
for module in {modules!r}:
    try:
        importlib.import_module(module)
    except ImportError as error:
        wrong.append(f"{{module}} needs the extra rao[train] ({{error}}): import it inside the function that needs it.")
print(chr(10).join(wrong))
"""


def test_what_a_base_install_imports_needs_no_torch() -> None:
    names = [
        name
        for name in modules()
        for wing in WITHOUT_TORCH
        if name == f"rao_rl.{wing}" or name.startswith(f"rao_rl.{wing}.")
    ]
    assert names
    code = _IMPORT_ALL.format(blocked=TRAINING_ONLY, modules=names)
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stdout.strip(), done.stdout


# -- the tests of the tests -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import a.b", ["a.b"]),
        ("from a import b", ["a.b"]),
        ("from a.b import name", ["a.b"]),
        ("from .. import c", ["a.c"]),
        ("from .d import name", ["a.x.d"]),
        ("from ..c import name as other", ["a.c"]),
        ("def f():\n    from a import b", ["a.b"]),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ..c import name", ["a.c"]),
        ("import os, somewhere.else_", []),
        ("import a.x.me", []),
    ],
)
def test_imports_are_found_wherever_they_stand(source: str, found: list[str]) -> None:
    known = ["a", "a.b", "a.c", "a.x", "a.x.d", "a.x.me"]
    assert list(imports_of(source, "a.x.me", is_package=False, known=known)) == found


def test_a_package_counts_its_own_folder_as_the_first_level() -> None:
    assert list(imports_of("from .d import name", "a.x", is_package=True, known=["a.x", "a.x.d"])) == ["a.x.d"]


def test_circles_are_found_and_their_surroundings_left_out() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set(), "e": {"a"}, "f": {"g"}, "g": {"f"}}
    assert circles(graph) == [["a", "b", "c"], ["f", "g"]]


def test_a_file_without_a_floor_an_arrow_up_and_a_lower_package_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FLOORS, "rao_rl", (("low",), ("left", "right"), ("",)))
    wrong = arrows_up(
        {
            "rao_rl.low": {"rao_rl.left"},
            "rao_rl.left.x": {"rao_rl.left.y", "rao_rl.low"},
            "rao_rl.left.y": {"rao_rl.right"},
            "rao_rl.right": {"rao_cli"},
            "rao_rl.new.x": set(),
            "rao_rl": {"rao_rl.left.x"},
        }
    )
    assert [sentence.partition(":")[0] for sentence in wrong] == [
        "rao_rl.left.y imports rao_rl.right, which stands beside it on the same floor",
        "rao_rl.low imports rao_rl.left, which stands on a higher floor",
        "rao_rl.new.x has no floor",
        "rao_rl.right imports rao_cli, and rao_rl stands below rao_cli",
    ]
