"""The public names are a promise."""

import inspect
import subprocess
import sys

import recursive_agent
from recursive_agent import Agent, Limits, Status


def test_every_public_name_is_listed_and_there() -> None:
    here = {
        name
        for name, value in vars(recursive_agent).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert here | {"__version__"} == set(recursive_agent.__all__)
    assert recursive_agent.__all__ == sorted(recursive_agent.__all__)


def test_the_signatures_applications_rely_on() -> None:
    assert list(inspect.signature(Agent).parameters)[:3] == ["model", "base_url", "api_key"]
    assert set(inspect.signature(Agent).parameters) >= {
        *("tools", "limits", "instructions", "sampling", "sandbox", "trace_dir", "prices", "interface")
    }
    solve = inspect.signature(Agent.solve).parameters
    assert list(solve) == ["self", "goal", "context", "returns", "seed", "score", "group"]
    assert list(inspect.signature(Limits).parameters)[:10] == [
        *("max_depth", "max_agents", "max_children", "max_steps", "max_tokens", "max_cost", "timeout"),
        *("cell_timeout", "cell_memory_mb", "max_concurrency"),
    ]


def test_every_status_says_what_it_means() -> None:
    source = inspect.getsource(Status)
    for status in Status:
        assert f'{status.name} = "{status.value}"\n    """' in source


def test_importing_the_sdk_loads_neither_torch_nor_the_runtime() -> None:
    heavy = "{'torch', 'transformers', 'onnxruntime', 'openai', 'numpy', 'rao_rl', 'rao_cli', 'typer', 'rich'}"
    code = f"import sys, recursive_agent; print(sorted({heavy} & set(sys.modules)))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
