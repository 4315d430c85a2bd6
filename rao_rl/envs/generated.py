"""What environments have in common whose tasks are generated from a seed and scored exactly, agent by agent."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from types import MappingProxyType
from typing import Any, ClassVar, Literal, TypeAlias, TypeVar, get_args

from recursive_agent.errors import ConfigurationError
from recursive_agent.tools import ToolContext

from .base import Demonstration, Mode, ScoredNode, Task

Split: TypeAlias = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
Kind = TypeVar("Kind")


class ExactSession(ABC):
    """The state of one tree, in which every agent's answer is right or wrong for its own goal."""

    tools: Sequence[Callable[..., Any]] = ()

    def __init__(self) -> None:
        self.unparsed: set[str] = set()
        """Ids of the nodes whose goal broke the grammar, as far as they were scored."""

    @abstractmethod
    def understands(self, goal: str) -> bool:
        """Whether a goal keeps the grammar and asks for what exists here."""

    @abstractmethod
    def verdict(self, node: ScoredNode) -> bool:
        """Whether a node that finished met its own goal, which is one that the session understands."""

    async def score(self, node: ScoredNode) -> float:
        """1.0 if the node finished and met its own goal, else 0.0."""
        if not self.understands(node.goal):
            self.unparsed.add(node.id)
            return 0.0
        return float(node.status.finished and self.verdict(node))


class Window:
    """How much each agent may look at: calls of the tool that shows a part, counted by node. None: no limit."""

    def __init__(self, most: int | None, part: str) -> None:
        self._most, self._part = most, part
        self._used: Counter[str] = Counter()

    def look(self, ctx: ToolContext) -> None:
        """Count a look of the calling agent. Raises ValueError, for that agent, if it has had all of its looks."""
        if self._most is not None and self._used[ctx.node] >= self._most:
            raise ValueError(f"you may not look at more {self._part}: the limit for one agent is {self._most}")
        self._used[ctx.node] += 1


class Generated(ABC):
    """An environment with the splits `train`, `validation` and `test`, each with its own seeds.

    A subclass names itself and its levels, makes a task of its id, and writes the code of its expert.
    """

    name: ClassVar[str]
    levels: ClassVar[tuple[str, ...]]
    deepest: ClassVar[int]
    """Deepest level of sub-agents that its tasks need."""
    sizes: ClassVar[Mapping[Split, int]] = MappingProxyType({"train": 512, "validation": 64, "test": 64})
    """Tasks of each split in one level; one level gives more if `limit` asks for more."""
    splits: ClassVar[tuple[Split, ...]] = SPLITS

    def __init__(self, *, mode: Mode = "recursive", window: int | None = None) -> None:
        one_of(self.name, "mode", mode, get_args(Mode))
        if window is not None and (type(window) is not int or window < 1):
            raise ConfigurationError(f"{self.name}: window must be a whole number of at least 1, not {window!r:.80}")
        self.mode = mode
        self.window = window
        self.max_depth = self.deepest if mode == "recursive" else 0

    @abstractmethod
    def make(self, id: str, level: str) -> Task:
        """The task of this id and level; its random numbers come from the id alone."""

    @abstractmethod
    def expert(self, goal: str, context: Any) -> Iterator[str]:
        """The cells of an agent with this goal and context, in this environment's mode."""

    @abstractmethod
    def task(self, goal: str, seed: int = 0) -> Task:
        """The task of a goal that comes from outside, as `Environment.task`."""

    @abstractmethod
    def session(self, task: Task) -> ExactSession:
        """A fresh state for one attempt at `task`."""

    def parts(self, task: Task) -> int:
        """How many parts an agent that works alone looks at, at most, to solve a task."""
        return 0

    def levels_of(self, split: str) -> tuple[str, ...]:
        """The levels that a split has."""
        return self.levels

    def tasks(self, split: str, seed: int = 0, level: str | None = None, limit: int | None = None) -> Iterator[Task]:
        """The tasks of a split: of one level in order, or of all of them shuffled together; at most `limit`.

        One level has as many as `limit` asks for. The same arguments give the same tasks on every machine and in every
        mode. Raises ConfigurationError for an unknown split, and for a level that the split does not have.
        """
        size = self.sizes[check_selection(self.name, split, self.splits, limit=limit)]
        levels = self.levels_of(split)
        if level is None:
            order = [(each, index) for each in levels for index in range(size)]
            random.Random(f"{self.name}/order/{split}/{seed}").shuffle(order)
        else:
            one_of(self.name, f"level of the split {split}", level, levels)
            order = [(level, index) for index in range(size if limit is None else limit)]
        return (self.make(f"{self.name}/{split}/{seed}/{each}/{index}", each) for each, index in islice(order, limit))

    def demonstrations(self, seed: int = 0) -> Iterator[Demonstration]:
        """The training tasks of all levels, and the expert of this environment's mode; those that it can solve."""
        for task in self.tasks("train", seed):
            if self.mode == "recursive" or self.window is None or self.parts(task) <= self.window:
                yield Demonstration(task=task, expert=self.expert)


def one_of(environment: str, argument: str, value: object, allowed: Sequence[Kind]) -> Kind:
    """The value, if it is one of those allowed. Raises ConfigurationError, listing them, if not."""
    for each in allowed:
        if type(value) is type(each) and value == each:
            return each
    raise ConfigurationError(
        f"{environment}: {argument} must be one of {', '.join(map(str, allowed))}, not {value!r:.80}"
    )


def check_selection(
    environment: str,
    split: object,
    splits: Sequence[Kind],
    level: object = None,
    levels: Sequence[object] = (),
    limit: int | None = None,
) -> Kind:
    """The split, where tasks like these can be asked for. Raises ConfigurationError, listing what there is, if not."""
    checked = one_of(environment, "split", split, splits)
    if level is not None:
        one_of(environment, "level", level, levels)
    if limit is not None and limit < 0:
        raise ConfigurationError(f"{environment}: limit must not be negative, not {limit}")
    return checked


def task_data(environment: str, task: Task, name: str, kind: type[Kind]) -> Kind:
    """A value of `Task.data`. Raises ConfigurationError if it is missing: then the task belongs to another environment."""
    value = task.data.get(name)
    if not isinstance(value, kind):
        raise ConfigurationError(
            f"{environment}: the task {task.id!r:.80} was not made by this environment (its data has no {name}); "
            "take tasks from tasks() or task()"
        )
    return value


def same(found: object, gold: object) -> bool:
    """Whether an agent's result is the gold answer, types included: 1, 1.0 and True are three different answers."""
    if type(found) is not type(gold):
        return False
    if isinstance(found, list) and isinstance(gold, list):
        return len(found) == len(gold) and all(map(same, found, gold))
    return found == gold
