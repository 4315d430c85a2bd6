"""What the two public sets of Oolong share: rows of a local copy as tasks, and one session for both."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import blake2b
from heapq import nsmallest
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, NoReturn, get_args

from recursive_agent.errors import ConfigurationError
from recursive_agent.trace.tree import Node

from ...errors import UnknownGoal
from ..base import Mode, Task
from ..generated import check_selection, one_of
from ..local_data import LocalData
from .grading import Scoring
from .transcript import CHARS_PER_TOKEN

MAX_DEPTH = 4
_TRAIN = "train"


class PublicSession:
    """One attempt at a row. The root is scored against the reference; what a sub-agent was asked has none, so it gets None."""

    tools: Sequence[Callable[..., Any]] = ()

    def __init__(self, scores: Callable[[object], Mapping[str, float]], scoring: Scoring) -> None:
        self._scores = scores
        self._scoring = scoring

    async def score(self, node: Node) -> float | None:
        """Score of the root's answer, 0 where it did not finish; None for sub-agents."""
        if node.parent is not None:
            return None
        return self._scores(node.result)[self._scoring] if node.status.finished else 0.0

    def metrics(self, node: Node) -> Mapping[str, float]:
        """Both scores of the root's answer and, for a list, its precision."""
        if not node.status.finished:
            return {"official": 0.0, "strict": 0.0}
        return self._scores(node.result)


class PublicSet(ABC):
    """A public set of Oolong as an environment; `OolongReal` and `OolongSynthPublic` say what its rows hold."""

    name: ClassVar[str]
    rows: ClassVar[LocalData]
    splits: ClassVar[Sequence[str]] = ("validation", "test")
    levels: Sequence[str]

    def __init__(
        self,
        *,
        data: str | Path | None,
        scoring: Scoring,
        mode: Mode,
        subset: bool,
        shuffle: bool,
    ) -> None:
        one_of(self.name, "scoring", scoring, get_args(Scoring))
        one_of(self.name, "mode", mode, get_args(Mode))
        one_of(self.name, "subset", subset, (True, False))
        one_of(self.name, "shuffle", shuffle, (True, False))
        self.place = None if data is None else Path(data).expanduser()
        """Where the files of the set are."""
        self.scoring: Scoring = scoring
        self.subset = subset
        self.shuffle = shuffle
        self.max_depth = MAX_DEPTH if mode == "recursive" else 0

    def tasks(self, split: str, seed: int = 0, level: str | None = None, limit: int | None = None) -> Iterator[Task]:
        """The rows of a split (`train` is another name of `validation`), of one level or of all; at most `limit`.

        In the order of the files, and read as they are asked for; with `shuffle`, in an order that `seed` draws, after all
        rows have been read. Raises ConfigurationError at once where there is no copy, and for an unknown split or level.
        """
        split = self.splits[0] if split == _TRAIN else split
        check_selection(self.name, split, self.splits, level, self.levels, limit)
        self.rows.files(self.place, split)
        tasks = self._tasks(split, level)
        if not self.shuffle:
            return islice(tasks, limit)

        def order(task: Task) -> bytes:
            return blake2b(f"{seed}/{task.id}".encode()).digest()

        return iter(sorted(tasks, key=order) if limit is None else nsmallest(limit, tasks, key=order))

    def task(self, goal: str, seed: int = 0) -> NoReturn:
        """Raises UnknownGoal: a question without its document is no task."""
        raise UnknownGoal(f"the tasks of {self.name} are the rows of its data: use `rao eval {self.name}`")

    def session(self, task: Task) -> PublicSession:
        """A fresh state for one attempt at `task`. Raises ConfigurationError for a task of another environment."""
        answer, kind = task.data.get("answer"), task.data.get("kind")
        if task.data.get("set") != self.name or not isinstance(answer, str) or not isinstance(kind, str):
            raise ConfigurationError(f"{self.name}: {task.id} is not a task of this environment")
        return PublicSession(lambda result: self.scores(answer, kind, result), self.scoring)

    @abstractmethod
    def scores(self, answer: str, kind: str, result: object) -> Mapping[str, float]:
        """The scores `official` and `strict` of a result for a row with this answer, and more where there is more."""

    @abstractmethod
    def level_of(self, row: Mapping[str, Any]) -> str | None:
        """The level of a row; None for rows that are left out."""

    @abstractmethod
    def kind_of(self, row: Mapping[str, Any]) -> str:
        """The type of a row's answer. Raises ValueError, with what is wrong, where row and answer do not fit the set."""

    @abstractmethod
    def goal_of(self, row: Mapping[str, Any]) -> str:
        """What the root is asked."""

    def _tasks(self, split: str, level: str | None) -> Iterator[Task]:
        seen: set[object] = set()
        texts: dict[object, str] = {}
        for row in self.rows.rows(self.place, split, subset=self.subset):
            self._check_row(row, seen, texts)
            own = self.level_of(row)
            if own is None or (level is not None and own != level):
                continue
            # Many questions are about one text, which is kept once.
            text = texts.setdefault(row["context_window_id"], row["context_window_text"])
            yield Task(
                id=f"{self.name}/{split}/{row['id']}",
                goal=self.goal_of(row),
                context=text,
                returns=str,
                level=own,
                data={"set": self.name, "answer": row["answer"], "kind": self.kind_of(row)},
            )

    def _check_row(self, row: Mapping[str, Any], seen: set[object], texts: Mapping[object, str]) -> None:
        for name in ("id", "context_window_id"):
            if type(row[name]) not in (int, str):
                raise self._altered(row, f"its {name} is neither a number nor a text")
        if row["id"] in seen:
            raise self._altered(row, "there are two rows with this id")
        seen.add(row["id"])
        for name in ("question", "context_window_text"):
            if not row[name].strip():
                raise self._altered(row, f"its {name} is empty")
        if texts.get(row["context_window_id"], row["context_window_text"]) != row["context_window_text"]:
            raise self._altered(row, f"two texts have the context_window_id {row['context_window_id']!r}")
        try:
            self.kind_of(row)
        except ValueError as error:
            raise self._altered(row, str(error)) from None

    def _altered(self, row: Mapping[str, Any], why: str) -> ConfigurationError:
        return ConfigurationError(
            f"{self.name}: the row {row['id']!r:.80} is not one of the public set ({why}). {self.rows.obtain}"
        )


def tokens(text: str) -> int:
    """The length of a text in tokens of four characters."""
    return -(-len(text) // CHARS_PER_TOKEN)


def answer_text(result: object) -> str:
    """The text that the official scorers read of what an agent finished with."""
    return result if isinstance(result, str) else str(result)
