"""Tasksets of the package `verifiers` as an `Environment`: their prompts, tools and rewards, through a bridge."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Literal, get_args

from recursive_agent.errors import ConfigurationError

from ...errors import UnknownGoal
from ..base import About, Mode, Task
from ..generated import SPLITS, one_of
from ..rewards import RewardRange
from .process import Bridge, BridgeFailed, find_python
from .session import Source, VerifiersSession

LEVEL = "all"
PARTS = 10
"""Of ten tasks in a row, the ninth belongs to `validation` and the tenth to `test`."""
_AT_A_TIME = 64
_READ = "Read `context` and do what it asks. Finish with the answer as a text, in the form that it asks for."


class Verifiers:
    """The tasks of one taskset. The root's answer is scored by the taskset's rewards; sub-agents have no score.

    `taskset` is the name of a taskset package that is installed for `python` (default: RAO_VERIFIERS_PYTHON), beside
    `verifiers`; `config` its settings as a JSON object. Of ten tasks in a row, eight are for training, one for validation and
    one is a test; with `test_config`, all are for training and validation, and the test is the taskset with these settings
    over `config`. `most` is how many tasks are read at most. The weighted sum of the rewards goes from `low` to `high`, which
    become 0 and 1. `timeout` (seconds) is for one scoring or call of a tool. `prompt=context` passes the prompt as `context`,
    for long ones. `mode`: `single` withholds `launch_subagent`; `depth` is the deepest level of sub-agents otherwise.
    """

    name = "verifiers"
    about = About(
        summary="solve tasks of a taskset for the package verifiers (Prime Intellect)",
        sizes={"train": None, "validation": None, "test": None},
        data="a Python that has verifiers and the taskset's package (python=PATH or RAO_VERIFIERS_PYTHON, and taskset=NAME)",
    )
    splits = SPLITS
    levels = (LEVEL,)

    def __init__(
        self,
        *,
        taskset: str | None = None,
        config: str | None = None,
        test_config: str | None = None,
        python: str | None = None,
        low: float = 0.0,
        high: float = 1.0,
        most: int = 1000,
        timeout: float = 120.0,
        prompt: Literal["goal", "context"] = "goal",
        mode: Mode = "recursive",
        depth: int = 2,
    ) -> None:
        if not taskset:
            raise ConfigurationError("verifiers needs the name of a taskset: --env-set taskset=NAME")
        self.taskset = taskset
        self.mode = one_of(self.name, "mode", mode, get_args(Mode))
        self._prompt = one_of(self.name, "prompt", prompt, ("goal", "context"))
        for argument, value, least in (("most", most, 1), ("depth", depth, 0)):
            if type(value) is not int or value < least:
                raise ConfigurationError(
                    f"verifiers: {argument} must be a whole number from {least} on, not {value!r:.40}"
                )
        if isinstance(timeout, bool) or not 0 < timeout < float("inf"):
            raise ConfigurationError(f"verifiers: timeout must be a number of seconds, not {timeout!r:.40}")
        self.max_depth = depth if mode == "recursive" else 0
        self._most = most
        self._rewards = RewardRange(self.name, low, high)
        usual = _settings("config", config)
        self.bridge = Bridge(find_python(python))
        self._usual = Source(bridge=self.bridge, taskset=taskset, config=usual, timeout=timeout)
        self._test = (
            None
            if test_config is None
            else Source(
                bridge=self.bridge,
                taskset=taskset,
                config={**usual, **_settings("test_config", test_config)},
                timeout=timeout,
            )
        )
        self._tools: dict[str, list[Mapping[str, Any]]] = {}

    def tasks(self, split: str, seed: int = 0, level: str | None = None, limit: int | None = None) -> Iterator[Task]:
        """The tasks of a split, shuffled by `seed` (0: in the order of the taskset), at most `limit`.

        Raises ConfigurationError for an unknown split or level, where the other Python or the taskset is missing, where
        the taskset needs what rao does not have, and where its code fails.
        """
        one_of(self.name, "split", split, self.splits)
        one_of(self.name, "level", level, (None, LEVEL))
        if limit is not None and limit < 0:
            raise ConfigurationError(f"{self.name}: limit must not be negative, not {limit}")
        source = self._source(split)
        self._tools_of(source)
        found = self._of_split(source, split)
        if seed:
            everything = list(found)
            random.Random(f"{self.name}/{self.taskset}/{split}/{seed}").shuffle(everything)
            found = iter(everything)
        first = next(found, None)
        if first is None:
            raise ConfigurationError(
                f"{self.name}: the taskset {self.taskset} has no tasks for the split {split!r} (of ten tasks in a row eight "
                "are for training, one for validation and one is a test)"
            )
        return islice(_with(first, found), limit)

    def task(self, goal: str, seed: int = 0) -> Task:
        """The task that has this prompt; rewards exist for these only."""
        for split in self.splits:
            for task in self._of_split(self._source(split), split):
                if goal in (task.goal, task.context):
                    return task
        raise UnknownGoal(f"a goal is the whole prompt of one of the tasks of {self.taskset}, not {goal!r:.80}")

    def session(self, task: Task) -> VerifiersSession:
        """A fresh state for one attempt at `task`."""
        source = self._test if task.data.get("test") and self._test is not None else self._usual
        index = task.data.get("index")
        if not isinstance(index, int):
            raise ConfigurationError(
                f"{self.name}: the task {task.id!r:.80} was not made by this environment; take tasks from tasks()"
            )
        return VerifiersSession(source, index, self._tools_of(source), self._rewards)

    def _source(self, split: str) -> Source:
        return self._test if split == "test" and self._test is not None else self._usual

    def _of_split(self, source: Source, split: str) -> Iterator[Task]:
        for first in range(0, self._most, _AT_A_TIME):
            end = min(first + _AT_A_TIME, self._most)
            rows = self._ask(source, "tasks", first=first, end=end)
            for row in rows:
                if source is self._test or self._belongs(row["index"], split):
                    yield self._task(row, test=source is self._test)
            if len(rows) < end - first:
                return

    def _belongs(self, index: int, split: str) -> bool:
        place = index % PARTS
        if self._test is not None:
            return (split == "validation") == (place == PARTS - 1)
        return {PARTS - 1: "test", PARTS - 2: "validation"}.get(place, "train") == split

    def _task(self, row: Mapping[str, Any], *, test: bool) -> Task:
        prompt = row["prompt"]
        as_context = self._prompt == "context"
        return Task(
            id=f"{self.name}/{self.taskset}/{row['key']}",
            goal=_READ if as_context else prompt,
            context=prompt if as_context else None,
            returns=str,
            level=LEVEL,
            data={"index": row["index"], "test": test},
        )

    def _tools_of(self, source: Source) -> list[Mapping[str, Any]]:
        key = json.dumps(source.config, sort_keys=True)
        if key not in self._tools:
            self._tools[key] = self._ask(source, "tools")
            VerifiersSession(
                source, None, self._tools[key], self._rewards
            )  # a tool that cannot be named is refused here
        return self._tools[key]

    def _ask(self, source: Source, op: str, **request: Any) -> list[Mapping[str, Any]]:
        try:
            found = source.request(op, **request)
        except BridgeFailed as failure:
            raise ConfigurationError(f"{self.name}: {failure}") from failure
        if not isinstance(found, list) or not all(isinstance(each, Mapping) for each in found):
            raise ConfigurationError(f"{self.name}: the process of verifiers answered nonsense ({found!r:.80})")
        return found


def _settings(argument: str, text: str | None) -> dict[str, Any]:
    try:
        found = {} if text is None else json.loads(text)
    except (ValueError, RecursionError, TypeError):
        found = None
    if not isinstance(found, dict):
        raise ConfigurationError(
            f'verifiers: {argument} must be a JSON object such as \'{{"split": "train"}}\', not {text!r:.80}'
        )
    return found


def _with(first: Task, rest: Iterator[Task]) -> Iterator[Task]:
    yield first
    yield from rest
