"""The real packages of other people's environments, each in a Python of its own; `make integration`.

The tests are skipped, with the reason, where a package could not be installed.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

HERE = Path(__file__).parents[2]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.models)


@pytest.fixture
def anyio_backend() -> str:
    """Both event loops are tests/envs's."""
    return "asyncio"


def python_of(variable: str, folder: str) -> str:
    """The Python that a script installed the package for."""
    python = os.environ.get(variable) or str(HERE / ".envs" / folder / "bin" / "python")
    if not Path(python).is_file():
        pytest.skip(f"{python} does not exist: scripts/{folder}.sh makes it, as make integration does")
    return python
