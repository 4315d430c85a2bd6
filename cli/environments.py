"""The environment of a command, with the arguments that `--env-set` gives it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

import typer

from rao_rl.envs import Environment, make
from rao_rl.envs.registry import arguments_of, make_registered
from recursive_agent.model.base import Model

from .messages import say

OPTION = "--env-set"
EnvSetOption = Annotated[
    list[str] | None,
    typer.Option(
        OPTION,
        metavar="NAME=VALUE",
        help="Argument of the environment, such as data=DIR; repeat for several.",
        rich_help_panel="Tasks",
    ),
]


class Opened(NamedTuple):
    """An environment, and the arguments that it was made with."""

    environment: Environment
    arguments: dict[str, Any]


def open_environment(name: str, env_set: Sequence[str] | None) -> Opened:
    """The environment that the user named. Raises ConfigurationError, in one sentence, for what it does not accept."""
    arguments = arguments_of(name, env_set or (), option=OPTION)
    return Opened(make(name, **arguments), arguments)


def open_registered(name: str, arguments: dict[str, Any], env_set: Sequence[str] | None) -> Opened:
    """The environment that a file names, with its `arguments`; those of the command line take their place."""
    if ":" not in name:  # `make_registered` refuses the others before their code is imported
        arguments = {**arguments, **arguments_of(name, env_set or (), option=OPTION)}
    return Opened(make_registered(name, **arguments), arguments)


def say_if_of_another(model: Model, environment: Environment) -> None:
    """Say on stderr that a model's checkpoint was trained for another environment, where its settings name one."""
    trained = getattr(getattr(model, "settings", None), "environment", None)
    if trained is not None and ":" not in trained.name and trained.name != environment.name:
        say(
            f"{model.name} was trained for {trained.name}, not for {environment.name}; --model or --base-url names another"
        )
