"""The optional parts of rao (`pip install 'rao[train]'`): which are installed, and what to say where one is missing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata

from recursive_agent.errors import ConfigurationError

EXTRAS = {
    "train": "rao train, and the pictures of rao plot and rao eval",
    "data": "environments whose tasks come from a local copy in parquet",
    "serve": "rao serve --agent and --engine embedded",
    "vllm": "rao serve with vLLM in this Python",
    "mcp": "tools of MCP servers, and rao serve --mcp",
    "tensorboard": "rao train --report-to tensorboard",
    "wandb": "rao train --report-to wandb",
    "openenv": "environments on OpenEnv servers",
    "ray": "rao rollout, eval and train --ray: attempts on a Ray cluster",
    "otel": "--otel: runs as OpenTelemetry traces",
    "socks": "endpoints behind a SOCKS proxy",
}
"""The extras that users install, and what each is for."""


@contextmanager
def needs(extra: str, what: str) -> Iterator[None]:
    """Import optional packages in this block; where one is missing ConfigurationError says what to install for `what`."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"{what} needs more packages: pip install 'rao[{extra}]' ({error.name} is missing)"
        ) from error


def missing_packages(extra: str | None) -> list[str]:
    """The packages of an extra that are not installed; of the base install for None.

    Raises PackageNotFoundError where rao itself is not installed. Versions are pip's business, not checked here.
    """
    missing = []
    for requirement in metadata.requires("rao") or []:
        name, _, marker = requirement.partition(";")
        named = re.search(r"extra\s*==\s*['\"]([^'\"]+)['\"]", marker)
        belongs = named is None if extra is None else named is not None and named[1] == extra
        if belongs and (package := re.match(r"[A-Za-z0-9._-]+", name)) and not _is_installed(package[0]):
            missing.append(package[0])
    return missing


def _is_installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True
