"""DeepDive, the public set, as an `Environment`: questions that take many searches, from a local copy."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import get_args

from recursive_agent.errors import ConfigurationError

from ..base import About, Mode, NeedsJudge, Task
from ..generated import check_selection, one_of
from ..local_data import LocalData
from .library import open_library
from .search import SearchBackend
from .session import DeepDiveSession
from .web import WebSearch

DATA = LocalData(
    name="deepdive",
    columns={"id": int, "question": str, "answer": str},
    sizes={"qa_rl": 2234, "qa_sft": 1016},
    obtain="Download the data set zai-org/DeepDive from Hugging Face and name its folder with data=PATH.",
)
TEST = 100
"""The first rows of qa_sft, on which the authors evaluate."""
_SPLITS: Mapping[str, tuple[str, int, int | None]] = {
    "train": ("qa_rl", 0, None),
    "validation": ("qa_sft", TEST, None),
    "test": ("qa_sft", 0, TEST),
}
"""Split to the public one, and the rows of it."""
LEVEL = "all"


class DeepDive:
    """Questions of the public DeepDive set, with `search_web` and `view_page`.

    `data` is the local copy; `subset` allows fewer rows than the public set has. Pages come from `corpus`, a local file or
    folder of pages (see `open_library`, which keeps its index in `cache`). Without it they come from a search API in Tavily's
    format: `search_url` and `search_key` (default: RAO_SEARCH_URL, RAO_SEARCH_API_KEY or TAVILY_API_KEY), with
    `search_timeout` seconds for an attempt. In Python, `backend` takes the place of both. `mode`: `single` withholds
    `launch_subagent` (`max_depth` 0). Raises ConfigurationError for values that cannot be.
    """

    name = "deepdive"
    about = About(
        summary="answer hard questions by searching the web or a local copy of it",
        sizes={"train": 2234, "validation": 916, "test": 100},
        data="a local copy of zai-org/DeepDive (data=PATH), and a search API (RAO_SEARCH_API_KEY) or pages (corpus=PATH)",
        needs_judge=NeedsJudge(roots="some", sub_agents="all"),
    )
    splits = tuple(_SPLITS)
    levels = (LEVEL,)

    def __init__(
        self,
        *,
        data: str | None = None,
        subset: bool = False,
        corpus: str | None = None,
        cache: str | None = None,
        search_url: str | None = None,
        search_key: str | None = None,
        search_timeout: float = 30.0,
        backend: SearchBackend | None = None,
        mode: Mode = "recursive",
    ) -> None:
        one_of(self.name, "mode", mode, get_args(Mode))
        self.mode = mode
        self.max_depth = 3 if mode == "recursive" else 0
        self._data = None if data is None else Path(data)
        self._subset = subset
        if backend is None:
            backend = (
                open_library(corpus, cache)
                if corpus is not None
                else WebSearch(key=search_key, url=search_url, timeout=search_timeout)
            )
        self.backend = backend
        self._checked = False

    def tasks(self, split: str, seed: int = 0, level: str | None = None, limit: int | None = None) -> Iterator[Task]:
        """The questions of a split, shuffled by `seed` (0: in the order of the data), at most `limit`.

        Before the first one, the search is tried once. Raises ConfigurationError for an unknown split or level, where the data
        are missing or not what they should be, and where the search API refuses the key.
        """
        check_selection(self.name, split, self.splits, level, (LEVEL,), limit)
        tasks = self._read(split)
        if seed:
            random.Random(f"deepdive/{split}/{seed}").shuffle(tasks)
        self._check()
        return islice(iter(tasks), limit)

    def task(self, goal: str, seed: int = 0) -> Task:
        """The task of any question; the answer is not known, so only a judge can score it."""
        if not goal.strip():
            raise ConfigurationError("ask a question: the goal is empty")
        self._check()
        return Task(id=f"{self.name}/own/{goal}", goal=goal)

    def session(self, task: Task) -> DeepDiveSession:
        """A fresh state for one attempt at `task`."""
        return DeepDiveSession(self.backend, task.data.get("answer"))

    def _check(self) -> None:
        if not self._checked:
            self.backend.check()
            self._checked = True

    def _read(self, split: str) -> list[Task]:
        public, first, end = _SPLITS[split]
        rows = list(DATA.rows(self._data, public, subset=self._subset))[first:end]
        tasks = {}
        for row in rows:
            question, answer = row["question"].strip(), row["answer"].strip()
            if not question or not answer:
                raise ConfigurationError(f"{self.name}: the question {row['id']} of {public} is empty or has no answer")
            id = f"{self.name}/{public}/{row['id']}"
            if id in tasks:
                raise ConfigurationError(f"{self.name}: two questions of {public} have the id {row['id']}")
            tasks[id] = Task(id=id, goal=question, level=LEVEL, data={"answer": answer})
        if not tasks:
            raise ConfigurationError(f"{self.name}: the copy of {public} has too few rows for the split {split!r}")
        return list(tasks.values())
