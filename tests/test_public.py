"""The public names are a promise."""

import ast
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import rao_rl
import recursive_agent
from recursive_agent import Agent, ConfigurationError, Limits, Model, Repl, Sandbox, SolveOptions, Status
from recursive_agent.testing import ScriptedEndpoint

ROOT = Path(__file__).parents[1]
PACKAGES = [recursive_agent, rao_rl]
PATHS = {
    "recursive_agent",
    "recursive_agent.model",
    "recursive_agent.repl",
    "recursive_agent.testing",
    "recursive_agent.testing.sandbox_conformance",
    "recursive_agent.viewer",
    "rao_rl",
    "rao_rl.credit",
    "rao_rl.envs",
    "rao_rl.envs.textcraft",
    "rao_rl.serve.agent",
    "rao_rl.serve.http",
}
"""Modules that examples and documents may import from; each lists its public names in `__all__`."""
WRITTEN_FOR_USERS = sorted(
    path.relative_to(ROOT)
    for pattern in ("README.md", "docs/*.md", "examples/**/*.py", "examples/**/*.md")
    for path in ROOT.glob(pattern)
)
_FROM = re.compile(r"^[ >]*from ((?:recursive_agent|rao_rl|rao_cli)[\w.]*) import (\([^)]*\)|[^\n#(]+)", re.MULTILINE)
_IMPORT = re.compile(r"^[ >]*import ((?:recursive_agent|rao_rl|rao_cli)[\w.]*)", re.MULTILINE)


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_every_public_name_is_listed_and_there(package: ModuleType) -> None:
    imported = {
        alias.asname or alias.name
        for statement in ast.parse(inspect.getsource(package)).body
        if isinstance(statement, ast.ImportFrom) and (statement.level or statement.module == "recursive_agent._version")
        for alias in statement.names
    }
    public = {name for name in imported if not name.startswith("_") or name == "__version__"}
    assert public | set(package._LAZY) | {"__version__"} == set(package.__all__)
    assert package.__all__ == sorted(package.__all__)
    assert set(package.__all__) <= set(dir(package))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = package.nothing


@pytest.mark.parametrize("path", sorted(PATHS))
def test_a_public_module_lists_names_that_are_there(path: str) -> None:
    module = import_module(path)
    assert module.__all__
    for name in module.__all__:
        assert hasattr(module, name), name


def test_a_base_install_has_all_names_but_the_trainers_and_is_told_what_to_install_for_those() -> None:
    code = """
import sys
sys.modules.update(dict.fromkeys(("torch", "transformers", "trl", "peft", "accelerate", "datasets")))
import rao_rl
for name in rao_rl.__all__:
    try:
        getattr(rao_rl, name)
    except ImportError as error:
        print(name, error)
"""
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    needing = {line.partition(" ")[0]: line for line in shown.splitlines()}
    assert set(needing) == {
        *(
            "load_checkpoint",
            "train_offline",
            "train_on_demonstrations",
            "train_on_traces",
            "train_online",
            "write_checkpoint",
        )
    }
    for name, line in needing.items():
        assert re.fullmatch(rf"{name} rao_rl\.{name} needs the package \w+: pip install 'rao\[train\]'", line)


def test_importing_the_trainer_loads_nothing_until_a_name_is_used() -> None:
    code = "import sys, rao_rl; print(sorted(name for name in sys.modules if name.startswith('rao_rl.')))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "['rao_rl.moved']"


def test_the_signatures_applications_rely_on() -> None:
    assert list(inspect.signature(Agent).parameters)[:3] == ["model", "base_url", "api_key"]
    assert set(inspect.signature(Agent).parameters) >= {
        *("tools", "limits", "instructions", "sampling", "sandbox", "trace_dir", "prices", "interface")
    }
    for method in (Agent.solve, Agent.solve_sync, Agent.stream):
        parameters = inspect.signature(method).parameters
        assert list(parameters) == ["self", "goal", "context", "returns", "seed", "score", "group"]
        assert set(list(parameters)[2:]) == set(SolveOptions.__annotations__)
        assert all(parameter.default is None for name, parameter in parameters.items() if name not in ("self", "goal"))
    assert list(inspect.signature(Limits).parameters)[:10] == [
        *("max_depth", "max_agents", "max_children", "max_steps", "max_tokens", "max_cost", "timeout"),
        *("cell_timeout", "cell_memory_mb", "max_concurrency"),
    ]


@pytest.mark.parametrize("call", ["solve", "solve_sync", "stream"])
def test_an_option_that_does_not_exist_is_named_with_the_one_that_is_meant(call: str) -> None:
    agent = Agent("m", "http://localhost:1/v1")
    with pytest.raises(TypeError, match=r"no option 'retruns' of solve; it takes context, .* Do you mean 'returns'"):
        _called(getattr(agent, call), retruns=int)
    with pytest.raises(ConfigurationError, match="seed must be a whole number"):
        agent.solve_sync("a goal", seed="x")  # type: ignore[arg-type]


def _called(method: Any, **options: Any) -> None:
    given = method("a goal", **options)
    if inspect.iscoroutine(given):
        given.send(None)


@pytest.mark.parametrize(
    ("protocol", "members"),
    [
        (Model, {"name", "interface", "sampling", "context_length", "conversation", "aclose"}),
        (Sandbox, {"enforced", "open", "__aenter__", "__aexit__"}),
        (Repl, {"run", "aclose"}),
    ],
)
def test_what_others_write_against_asks_for_no_more_than_it_did(protocol: type, members: set[str]) -> None:
    named = {*vars(protocol), *protocol.__annotations__}
    assert {name for name in named if not name.startswith("_") or name in ("__aenter__", "__aexit__")} == members


def test_every_status_says_what_it_means() -> None:
    source = inspect.getsource(Status)
    for status in Status:
        assert f'{status.name} = "{status.value}"\n    """' in source


HEAVY = {"torch", "transformers", "onnxruntime", "openai", "numpy", "rao_rl", "rao_cli", "typer", "rich"}
HEAVY |= {"httpx2", "importlib.metadata", "jinja2", "jsonschema", "mcp", "pydantic", "pydantic_core", "tokenizers"}
"""What a plain run needs nothing of, and what takes long to import."""


def test_importing_the_sdk_loads_neither_torch_nor_the_runtime() -> None:
    code = f"import sys, recursive_agent; print(sorted({HEAVY | {'aiohttp'}} & set(sys.modules)))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_a_plain_run_loads_nothing_that_it_does_not_need() -> None:
    with ScriptedEndpoint("```python\nfinish(1)\n```") as endpoint:
        code = f"""if True:
            import sys
            from recursive_agent import Agent
            assert Agent("scripted", {endpoint.base_url!r}).solve_sync("one").output == 1
            print(sorted({HEAVY} & set(sys.modules)))
        """
        shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


# -- examples and documents -------------------------------------------------------------------------------------------


def imported(text: str) -> Iterator[tuple[str, str]]:
    """Module and name of everything of ours that a source, or the code in a document, imports."""
    for match in _FROM.finditer(text):
        for name in re.findall(r"(\w+)(?: as \w+)?", match[2].replace("(", "").replace(")", "")):
            yield match[1], name
    for match in _IMPORT.finditer(text):
        yield match[1], ""


def test_imports_are_found_in_code_and_in_documents() -> None:
    text = (
        "    from recursive_agent import Agent, Limits  # both\n"
        "from rao_rl.credit import (\n    a,\n    b,\n)\n"
        "import rao_rl.x\n"
    )
    assert list(imported(text)) == [
        *(("recursive_agent", "Agent"), ("recursive_agent", "Limits"), ("rao_rl.credit", "a"), ("rao_rl.credit", "b")),
        ("rao_rl.x", ""),
    ]


@pytest.mark.parametrize("document", WRITTEN_FOR_USERS, ids=str)
def test_examples_and_documents_import_public_names_only(document: Path) -> None:
    for path, name in imported((ROOT / document).read_text()):
        assert path in PATHS, f"{document} imports {path}, which is not public: import from {', '.join(sorted(PATHS))}."
        public = import_module(path).__all__
        assert not name or name in public, f"{document} imports {name} from {path}, which does not list it in __all__."
