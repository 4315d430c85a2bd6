"""An environment on an OpenEnv server as an `Environment`: an episode is a task, and its rewards score the root."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from types import MappingProxyType
from typing import Any, get_args

from recursive_agent.errors import ConfigurationError

from ..base import About, Mode, Task
from ..generated import SPLITS, Split, one_of, task_data
from ..rewards import RewardRange
from .connection import Connection, base_url
from .server import Description, describe
from .session import RETURNS, OpenEnvSession, Return, check_tools

LEVEL = "all"


class OpenEnv:
    """Episodes of the environment that a server at `url` runs, one websocket for each attempt.

    A task is a seed, which the server gets at `reset` together with the arguments in `reset` (a JSON object). All agents of a
    tree act in one episode. `goal` is what the root is asked to do (default: to get the highest reward in the environment
    that the server describes). The rewards of an episode become one number (`reward`: their `sum`, the `last` or the `best`)
    from `low` to `high`, which become the scores 0 and 1. `state` gives agents the environment's own state, which may hold
    what they shall find out. `timeout` (seconds) is for one message and to get a place on the server. `mode`: `single`
    withholds `launch_subagent`; `depth` is the deepest level of sub-agents otherwise.
    """

    name = "openenv"
    about = About(
        summary="act in the environment of an OpenEnv server",
        sizes={"train": None, "validation": None, "test": None},
        data="a running OpenEnv server (url=http://localhost:8000), and pip install 'rao[openenv]'",
    )
    splits = SPLITS
    levels = (LEVEL,)
    sizes: Mapping[Split, int] = MappingProxyType({"train": 512, "validation": 64, "test": 64})
    """Tasks of each split; more if `limit` asks for more."""

    def __init__(
        self,
        *,
        url: str | None = None,
        goal: str | None = None,
        reset: str | None = None,
        reward: Return = "sum",
        low: float = 0.0,
        high: float = 1.0,
        state: bool = False,
        timeout: float = 60.0,
        mode: Mode = "recursive",
        depth: int = 1,
    ) -> None:
        if not url:
            raise ConfigurationError("openenv needs a running server: --env-set url=http://localhost:8000")
        self.url = base_url(url)
        self.mode = one_of(self.name, "mode", mode, get_args(Mode))
        self._returned = one_of(self.name, "reward", reward, RETURNS)
        self._rewards = RewardRange(self.name, low, high)
        if type(depth) is not int or depth < 0:
            raise ConfigurationError(f"openenv: depth must be a whole number from 0 on, not {depth!r:.40}")
        if isinstance(timeout, bool) or not 0 < timeout < float("inf"):
            raise ConfigurationError(f"openenv: timeout must be a number of seconds, not {timeout!r:.40}")
        if type(state) is not bool:
            raise ConfigurationError(f"openenv: state must be true or false, not {state!r:.40}")
        self.max_depth = depth if mode == "recursive" else 0
        self._timeout, self._state, self._goal = timeout, state, goal
        self._reset = _arguments(reset)
        self._description: Description | None = None
        try:
            import websockets  # noqa: F401
        except ImportError:
            raise ConfigurationError("OpenEnv servers need websockets: pip install 'rao[openenv]'") from None

    def tasks(self, split: str, seed: int = 0, level: str | None = None, limit: int | None = None) -> Iterator[Task]:
        """The tasks of a split, as many as `limit` asks for.

        Raises ConfigurationError for an unknown split or level, where the server is down or not one of OpenEnv, and where
        agents could not call its tools.
        """
        size = self.sizes[one_of(self.name, "split", split, self.splits)]
        one_of(self.name, "level", level, (None, LEVEL))
        if limit is not None and limit < 0:
            raise ConfigurationError(f"{self.name}: limit must not be negative, not {limit}")
        goal = self._goal or _goal(self._described())
        return (self._task(goal, f"{split}/{seed}/{index}") for index in range(size if limit is None else limit))

    def task(self, goal: str, seed: int = 0) -> Task:
        """An episode of `seed` with a goal of one's own; it is scored by the environment's rewards as every other one."""
        if not goal.strip():
            raise ConfigurationError("say what to do: the goal is empty")
        self._described()
        return self._task(goal, f"own/{seed}")

    def session(self, task: Task) -> OpenEnvSession:
        """A fresh episode for one attempt at `task`; the server hears of it when an agent first calls a tool."""
        reset = task_data(self.name, task, "reset", dict)
        connection = Connection(self.url, self._timeout)
        return OpenEnvSession(connection, self._described(), reset, self._rewards, self._returned, state=self._state)

    def _described(self) -> Description:
        if self._description is None:
            found = describe(self.url, self._timeout)
            check_tools(
                OpenEnvSession(
                    Connection(self.url, self._timeout), found, {}, self._rewards, self._returned, state=self._state
                )
            )
            self._description = found
        return self._description

    def _task(self, goal: str, place: str) -> Task:
        number = int.from_bytes(blake2b(f"openenv/{place}".encode(), digest_size=4).digest(), "big") >> 1
        return Task(
            id=f"{self.name}/{self._described().name}/{place}",
            goal=goal,
            level=LEVEL,
            data={"reset": {"seed": number, **self._reset}},
        )


def _goal(description: Description) -> str:
    actions = "with step" if description.tools is None else "with its tools"
    about = f" ({description.description})" if description.description else ""
    return (
        f"Act in the environment {description.name}{about} so that you get the highest reward. See it with observe(), act "
        f"{actions}, and call finish with a sentence about the outcome when the episode is done or there is no more to gain."
    )


def _arguments(text: str | None) -> dict[str, Any]:
    try:
        found = {} if text is None else json.loads(text)
    except (ValueError, RecursionError, TypeError):
        found = None
    if not isinstance(found, dict):
        raise ConfigurationError(f"openenv: reset must be a JSON object such as '{{\"level\": 2}}', not {text!r:.80}")
    return found
