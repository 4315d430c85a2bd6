"""Environments by name: those of this package, those that other packages register, and `module:Class`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from importlib import metadata
from typing import Any, TypeAlias

from recursive_agent.errors import ConfigurationError, described

from ..references import load_reference
from .base import Environment
from .checks import check_environment
from .textcraft import TextCraft

GROUP = "rao_rl.environments"
"""Entry points of this group are environments by name; each is an `EnvironmentFactory`."""
EnvironmentFactory: TypeAlias = Callable[..., Environment]
"""Makes an environment from its own keyword arguments: a class or a function."""
BUILT_IN: Mapping[str, EnvironmentFactory] = {"textcraft": TextCraft}


def environment_names() -> list[str]:
    """Every name that `make` knows on this machine."""
    return sorted({*BUILT_IN, *(point.name for point in metadata.entry_points(group=GROUP))})


def make(name: str, **arguments: Any) -> Environment:
    """The environment of that name, or of `module:Class` (or `module:function`), with its own arguments.

    `module:…` imports that module and so runs its code: pass only names from the user; for names from a file use
    `make_registered`. Raises ConfigurationError if there is no such environment (the message lists the known ones), if it
    does not accept the arguments, or if it lacks a member (the message names it).
    """
    return _build(name, _find(name), arguments)


def make_registered(name: str, **arguments: Any) -> Environment:
    """`make` for a name that a file brings (the `agent.json` of a checkpoint): only built-in and installed environments."""
    if ":" in name:
        raise ConfigurationError(
            f"the checkpoint names the environment {name!r}, which is code that is not installed. Install a package that "
            f"registers it, or, if you trust that code, name it yourself: rao run --env {name}"
        )
    return make(name, **arguments)


def _find(name: str) -> EnvironmentFactory:
    if name in BUILT_IN:
        return BUILT_IN[name]
    points = {point.name: point for point in metadata.entry_points(group=GROUP)}
    found: object
    if name in points:
        point = points[name]
        package = point.dist.name if point.dist is not None else point.module
        try:
            found = point.load()
        except (Exception, SystemExit) as error:  # whatever a package raises as it is imported
            raise ConfigurationError(
                f"the environment {name!r} cannot be loaded ({described(error)}); reinstall the package {package}, which "
                "registers it"
            ) from error
    elif ":" in name:
        found = load_reference(name, "module:Class, such as mypackage.maze:Maze")
    else:
        raise ConfigurationError(
            f"there is no environment {name!r}; choose from {', '.join(environment_names())}. For another one, install the "
            f"package that provides it (it registers the entry point {name!r} in the group {GROUP}), or name its class as "
            "'module:Class'."
        )
    if not callable(found):
        raise ConfigurationError(
            f"the environment {name!r} is {found!r:.80}; it must be a class, or a function that returns an environment"
        )
    factory: EnvironmentFactory = found
    return factory


def _build(name: str, factory: EnvironmentFactory, arguments: Mapping[str, Any]) -> Environment:
    try:
        signature = inspect.signature(factory)
        signature.bind(**arguments)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"{name}: {error}; it takes {_parameters(factory)}") from None
    try:
        environment: Environment = factory(**arguments)
    except ConfigurationError:
        raise
    except Exception as error:
        raise ConfigurationError(f"the environment {name!r} cannot be made ({described(error)})") from error
    check_environment(name, environment)
    return environment


def _parameters(factory: EnvironmentFactory) -> str:
    try:
        return str(inspect.signature(factory))
    except (TypeError, ValueError):
        return "no arguments that can be read"
