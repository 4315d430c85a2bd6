"""The tasks of an environment that a command attempts, and in which mode."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, get_args

import typer

from rao_rl.envs import Environment, Mode, Task
from rao_rl.rollouts.attempt import ROLLOUT_LIMITS
from recursive_agent.errors import ConfigurationError
from recursive_agent.limits import Limits

from .limits import chosen_limits, limit_option

_PANEL = "Tasks"
ENV_HELP = (
    "textcraft, an environment that an installed package registers, or module:Class of your own (docs/extending.md)."
)

EnvironmentArgument = Annotated[str, typer.Argument(metavar="ENV", help=ENV_HELP)]
SplitOption = Annotated[
    str, typer.Option("--split", metavar="SPLIT", help="Split of the environment's tasks.", rich_help_panel=_PANEL)
]
TaskSeedOption = Annotated[
    int,
    typer.Option("--seed", metavar="N", help="Seed of the tasks and of the sampling.", rich_help_panel=_PANEL),
]
ContextLimitOption = Annotated[
    int | None,
    typer.Option(
        "--context-limit",
        min=1,
        metavar="TOKENS",
        help="Maximum tokens in each agent's conversation. Default: the model's context window.",
        rich_help_panel="Attempts",
    ),
]
ConcurrencyOption = Annotated[
    int,
    typer.Option(
        "--concurrency",
        min=1,
        metavar="N",
        help="Maximum attempts that run at the same time.",
        rich_help_panel="Attempts",
    ),
]
AttemptStepsOption = Annotated[
    int | None,
    limit_option(
        "--max-steps",
        f"Maximum steps (model calls) of each agent. Default: {ROLLOUT_LIMITS.max_steps}.",
        panel="Attempts",
    ),
]
AttemptAgentsOption = Annotated[
    int | None,
    limit_option(
        "--max-agents",
        f"Maximum agents of each attempt, the first one included. Default: {ROLLOUT_LIMITS.max_agents}.",
        panel="Attempts",
    ),
]
AttemptTimeoutOption = Annotated[
    float | None,
    limit_option(
        "--timeout",
        "Time limit for each attempt; one that reaches it has failed, so allow more on a slow machine. Default: "
        f"{ROLLOUT_LIMITS.timeout:g}.",
        panel="Attempts",
        metavar="SECONDS",
    ),
]
USUAL_LEVELS = ("easy", "medium", "hard")
"""The levels of an evaluation that names none, if the environment has all three (textcraft has an `extreme` one too)."""


def attempt_limits(*, max_steps: int | None, max_agents: int | None, timeout: float | None) -> Limits:
    """The limits of each attempt, from the options. Raises ConfigurationError, naming the option."""
    return replace(ROLLOUT_LIMITS, **chosen_limits(max_steps=max_steps, max_agents=max_agents, timeout=timeout))


def parse_modes(text: str) -> list[Mode]:
    """`single,recursive` as modes, each once. Raises ConfigurationError for any other word."""
    return list(dict.fromkeys(map(_mode, text.split(","))))


def held_out_split(environment: Environment) -> str:
    """The split called `test`, or the last one."""
    return "test" if "test" in environment.splits else environment.splits[-1]


def default_levels(environment: Environment) -> str:
    """The levels of an evaluation that names none, as on the command line."""
    usual = set(USUAL_LEVELS) <= set(environment.levels)
    return ",".join(USUAL_LEVELS if usual else environment.levels)


def select_tasks(
    environment: Environment, split: str, seed: int, *, levels: str | None, limit: int | None
) -> list[Task]:
    """The tasks of a split: `limit` of each level in a list such as `easy,hard`, or of all levels together.

    Raises ConfigurationError for a split or level that the environment does not have, or that has no tasks.
    """
    _check_name("split", split, environment)
    names = [None] if levels is None else list(dict.fromkeys(name.strip() for name in levels.split(",")))
    for name in filter(None, names):
        _check_name("level", name, environment)
    tasks = [task for name in names for task in environment.tasks(split, seed, level=name, limit=limit)]
    if not tasks:
        raise ConfigurationError(f"the split {split!r} of {environment.name} has no tasks of level {levels or 'any'}")
    return tasks


def _check_name(kind: str, name: str, environment: Environment) -> None:
    known = environment.splits if kind == "split" else environment.levels
    if name not in known:
        raise ConfigurationError(f"{environment.name} has no {kind} {name!r}; choose from {', '.join(known)}")


def _mode(name: str) -> Mode:
    for known in get_args(Mode):
        if name.strip() == known:
            return known  # type: ignore[no-any-return]
    raise ConfigurationError(f"--mode takes {' and '.join(get_args(Mode))}, not {name.strip()!r}")
