"""Environments by name: those of this package, those that other packages register, and `module:Class`."""

from __future__ import annotations

import inspect
from collections import abc
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

from recursive_agent.errors import ConfigurationError, described
from recursive_agent.plugins import Included, Plugins

from .arguments import Plain, read_arguments
from .base import About, Environment
from .checks import check_environment

GROUP = "rao_rl.environments"
"""Entry points of this group are environments by name; each is an `EnvironmentFactory`."""
EnvironmentFactory: TypeAlias = Callable[..., Environment]
"""Makes an environment from its own keyword arguments: a class or a function."""
BUILT_IN: Mapping[str, EnvironmentFactory] = Included(
    __package__,
    {
        "algebra": "algebra:Algebra",
        "deepdive": "deepdive:DeepDive",
        "deepdive-synth": "deepdive:DeepDiveSynth",
        "dialogue": "dialogue:Dialogue",
        "email": "email_search:EmailSearch",
        "email-synth": "email_search:EmailSynth",
        "maze": "maze:Maze",
        "oolong-real": "oolong:OolongReal",
        "oolong-synth": "oolong:OolongSynth",
        "oolong-synth-public": "oolong:OolongSynthPublic",
        "openenv": "openenv:OpenEnv",
        "repair": "repair:Repair",
        "sequence": "sequence:Sequence",
        "textcraft": "textcraft:TextCraft",
        "verifiers": "verifiers:Verifiers",
    },
)
"""Imported when they are first used: together they take longer to import than all the rest."""

_PLUGINS = Plugins("environment", GROUP, BUILT_IN, "module:Class, such as mypackage.maze:Maze", "an environment")


def environment_names() -> list[str]:
    """Every name that `make` knows on this machine."""
    return _PLUGINS.names()


def about(name: str) -> About | None:
    """What the environment of that name says of itself, without making it; None if it says nothing.

    `levels` are those of the class, if its `about` names none. Raises ConfigurationError if there is no such environment, or
    if the package that registers it cannot be loaded.
    """
    factory = _PLUGINS.find(name)
    found = getattr(factory, "about", None)
    if not isinstance(found, About):
        return None
    levels = getattr(factory, "levels", ())  # a property, where it is not a list
    return replace(found, levels=found.levels or (tuple(levels) if isinstance(levels, list | tuple) else ()))


def make(name: str, **arguments: Any) -> Environment:
    """The environment of that name, or of `module:Class` (or `module:function`), with its own arguments.

    `module:…` imports that module and so runs its code: pass only names from the user; for names from a file use
    `make_registered`. Raises ConfigurationError if there is no such environment (the message lists the known ones), if it
    does not accept the arguments, or if it lacks a member (the message names it).
    """
    return _build(name, _PLUGINS.find(name), arguments)


def arguments_of(name: str, texts: abc.Sequence[str], *, option: str = "--env-set") -> dict[str, Plain]:
    """The arguments of an environment that texts such as `scoring=strict` say, read as its factory annotates them.

    Raises ConfigurationError, naming the command-line `option`, for what the factory does not take.
    """
    return read_arguments(name, _PLUGINS.find(name), texts, option=option) if texts else {}


def make_registered(name: str, **arguments: Any) -> Environment:
    """`make` for a name that a file brings (the `agent.json` of a checkpoint): only built-in and installed environments."""
    if ":" in name:
        raise ConfigurationError(
            f"the checkpoint names the environment {name!r}, which is code that is not installed. Install a package that "
            f"registers it, or, if you trust that code, name it yourself: rao run --env {name}"
        )
    return make(name, **arguments)


def _build(name: str, factory: EnvironmentFactory, arguments: Mapping[str, Any]) -> Environment:
    try:
        signature = inspect.signature(factory)
        signature.bind(**arguments)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            f"{name}: {error}; it takes {_parameters(factory)} (on the command line: --env-set NAME=VALUE)"
        ) from None
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
