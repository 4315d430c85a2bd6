"""Attempts on a Ray cluster: the options of a command, and the connection that it holds meanwhile."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, nullcontext, redirect_stdout
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from rao_rl.rollouts.attempt import AttemptRunner
from recursive_agent.errors import ConfigurationError
from recursive_agent.model.base import Model
from recursive_agent.repl import UNSET, Require, Unset

from .environments import Opened
from .extras import needs
from .messages import say

if TYPE_CHECKING:
    from rao_rl.rollouts.ray.pool import RayAttempts

_PANEL = "Ray"

RayOption = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="ADDRESS",
        help="Run the attempts on a Ray cluster: auto, host:port or ray://host:port of one that runs, or local for one of this "
        "machine.",
        rich_help_panel=_PANEL,
    ),
]
RayActorsOption = Annotated[
    int | None,
    typer.Option(
        "--ray-actors",
        min=1,
        metavar="N",
        help="Number of actors, of one CPU each, that share the attempts. Default: one for each CPU of the cluster.",
        rich_help_panel=_PANEL,
    ),
]
RayResourceOption = Annotated[
    str | None,
    typer.Option(
        "--ray-resource",
        metavar="NAME",
        help="Custom resource of which each actor takes 1, so that actors run only on the nodes that have it.",
        rich_help_panel=_PANEL,
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class OnRay:
    """Where and by how many actors attempts run on Ray."""

    address: str
    actors: int | None = None
    resource: str | None = None


def on_ray(address: str | None, actors: int | None, resource: str | None) -> OnRay | None:
    """What the options say; None without --ray. Raises ConfigurationError for options that do not go together."""
    if address is None:
        for option, value in (("--ray-actors", actors), ("--ray-resource", resource)):
            if value is not None:
                raise ConfigurationError(f"{option} works only with --ray ADDRESS")
        return None
    with needs("ray", "--ray"):
        import ray  # noqa: F401  # a missing package is reported before anything is opened
    return OnRay(address=address, actors=actors, resource=resource)


@contextmanager
def cluster(chosen: OnRay | None, model: Model | None = None, *, quiet: bool = False) -> Iterator[None]:
    """Connected to the cluster while the block lasts.

    Raises ConfigurationError if none answers, and for a `model` that exists in this process only.
    """
    if chosen is None:
        yield
        return
    from rao_rl.rollouts.ray.cluster import connected
    from rao_rl.rollouts.ray.recipe import recipe_of

    if model is not None:
        recipe_of(model)
    # Ray prints what happens to nodes on stdout, which is for the result of the command.
    with redirect_stdout(sys.stderr), connected(chosen.address, say=(lambda _: None) if quiet else say):
        yield


def attempts_by(
    chosen: OnRay | None,
    model: Model,
    name: str,
    opened: Opened,
    *,
    concurrency: int,
    sandbox: str = "process",
    require: Require | Unset = UNSET,
) -> AbstractAsyncContextManager[AttemptRunner | None]:
    """Actors for attempts at an environment, on the cluster that is connected; None without --ray."""
    if chosen is None:
        return nullcontext()
    return actors(chosen, model, name, opened, concurrency=concurrency, sandbox=sandbox, require=require)


def actors(
    chosen: OnRay,
    model: Model,
    name: str,
    opened: Opened,
    *,
    concurrency: int,
    sandbox: str = "process",
    require: Require | Unset = UNSET,
) -> RayAttempts:
    """Actors for attempts at an environment. Raises ConfigurationError for a model that exists in this process only."""
    from rao_rl.rollouts.ray.job import EnvironmentSource
    from rao_rl.rollouts.ray.pool import RayAttempts

    return RayAttempts(
        model,
        EnvironmentSource(name=name, arguments=opened.arguments),
        concurrency=concurrency,
        sandbox=sandbox,
        require=require,
        actors=chosen.actors,
        resource=chosen.resource,
        say=say,
    )
