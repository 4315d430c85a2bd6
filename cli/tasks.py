"""Which tasks of an environment a command attempts, and how."""

from __future__ import annotations

from typing import get_args

from rao_rl.envs import Environment, Task
from rao_rl.rollout import Mode
from recursive_agent.errors import ConfigurationError


def parse_modes(text: str) -> list[Mode]:
    """`single,recursive` as modes, each once. Raises ConfigurationError for any other word."""
    return list(dict.fromkeys(map(_mode, text.split(","))))


def parse_mode(text: str) -> Mode:
    """`single` or `recursive`. Raises ConfigurationError for anything else."""
    (mode, *more) = parse_modes(text)
    if more:
        raise ConfigurationError(f"--mode takes one of {' and '.join(get_args(Mode))} here")
    return mode


def select_tasks(env: Environment, split: str, seed: int, *, difficulty: str | None, limit: int | None) -> list[Task]:
    """The tasks of a split, `limit` of each difficulty in a list such as `easy,hard`, or of all of them shuffled.

    Raises ConfigurationError for a split or difficulty that is not there, or that has no tasks.
    """
    names = [None] if difficulty is None else list(dict.fromkeys(name.strip() for name in difficulty.split(",")))
    tasks = [task for name in names for task in env.tasks(split, seed, difficulty=name, limit=limit)]
    if not tasks:
        raise ConfigurationError(f"the split {split!r} of {env.name} has no tasks of difficulty {difficulty}")
    return tasks


def _mode(name: str) -> Mode:
    for known in get_args(Mode):
        if name.strip() == known:
            return known  # type: ignore[no-any-return]
    raise ConfigurationError(f"--mode takes {' and '.join(get_args(Mode))}, not {name.strip()!r}")
