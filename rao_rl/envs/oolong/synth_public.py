"""`oolong-synth-public`: the public synthetic set of Oolong, from a local copy."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from ..base import About, Mode, NeedsJudge
from ..generated import one_of
from ..local_data import LocalData
from . import strict
from .grading import Scoring
from .official import Dates, score_synth, synth_gold
from .public import PublicSet, answer_text

Lengths: TypeAlias = Literal["official", "all"]
ROWS = LocalData(
    name="oolong-synth-public",
    columns={
        "id": int,
        "context_len": int,
        "dataset": str,
        "context_window_text": str,
        "question": str,
        "task_group": str,
        "task": str,
        "answer": str,
        "answer_type": str,
        "context_window_id": int,
    },
    sizes={"validation": 1_300, "test": 5_200},
    obtain=(
        "Download it with `hf download --repo-type dataset oolongbench/oolong-synth --local-dir DIR` (12.4 GB), and pass "
        "data=DIR"
    ),
)
KINDS = tuple(f"ANSWER_TYPE.{kind}" for kind in ("NUMERIC", "LABEL", "COMPARISON", "USER", "DATE", "MONTH_YEAR"))
LEVELS: Mapping[str, int] = {
    (f"{size >> 10}k" if size < 1 << 20 else f"{size >> 20}m"): size for size in (1 << power for power in range(10, 23))
}
"""The longest context of each level: 1k, 2k, … 4m tokens, by the set's own `context_len`."""
OFFICIAL = tuple(level for level, size in LEVELS.items() if 1 << 10 < size <= 1 << 17)
"""Those that the authors evaluate on: longer than 1,024 tokens, and up to 131,072."""


class OolongSynthPublic(PublicSet):
    """Answer a question about a long list of short texts, which is the agent's `context`.

    `data`: the local copy, a folder or a file. `lengths`: the levels 2k to 128k that the authors evaluate on (`official`), or
    `all`, 1k to 4m. `scoring`: `official` or `strict`. `dates`: how the official scorer takes dates, `read` or `zero` (see
    `official.Dates`). `subset`: allow a copy with fewer rows. `shuffle`: draw the order of the rows from the seed. `mode`:
    `single` sets the depth to 0. Raises ConfigurationError for other values.
    """

    name = "oolong-synth-public"
    about = About(
        summary="answer questions about long lists of labelled texts, the public synthetic set of Oolong",
        sizes=ROWS.sizes,
        levels=OFFICIAL,
        data=ROWS.obtain,
        needs_judge=NeedsJudge(sub_agents="all"),
    )
    rows = ROWS

    def __init__(
        self,
        *,
        data: str | Path | None = None,
        lengths: Lengths = "official",
        scoring: Scoring = "official",
        dates: Dates = "read",
        mode: Mode = "recursive",
        subset: bool = False,
        shuffle: bool = False,
    ) -> None:
        super().__init__(data=data, scoring=scoring, mode=mode, subset=subset, shuffle=shuffle)
        one_of(self.name, "lengths", lengths, get_args(Lengths))
        one_of(self.name, "dates", dates, get_args(Dates))
        self.dates: Dates = dates
        self.levels = OFFICIAL if lengths == "official" else tuple(LEVELS)

    def scores(self, answer: str, kind: str, result: object) -> Mapping[str, float]:
        """The official and the strict score."""
        return {
            "official": score_synth(answer, kind, answer_text(result), self.dates),
            "strict": _strict(synth_gold(answer), kind, result),
        }

    def level_of(self, row: Mapping[str, Any]) -> str | None:
        """By `context_len`; None for lengths that are left out."""
        length = row["context_len"]
        level = next((level for level, most in LEVELS.items() if length <= most), None)
        return level if level in self.levels else None

    def kind_of(self, row: Mapping[str, Any]) -> str:
        """The row's `answer_type`."""
        kind: str = row["answer_type"]
        if kind not in KINDS:
            raise ValueError(f"its answer_type is {kind!r:.80}")
        try:
            gold = synth_gold(row["answer"])
        except ValueError as error:
            raise ValueError(f"its answer {row['answer']!r:.80} cannot be read: {error}") from None
        if kind == "ANSWER_TYPE.NUMERIC" and strict.number(gold) is None:
            raise ValueError(f"its answer {row['answer']!r:.80} is not a number")
        if row["context_len"] < 1:
            raise ValueError(f"its context_len is {row['context_len']}")
        return kind

    def goal_of(self, row: Mapping[str, Any]) -> str:
        """The question, which says how the answer is written."""
        return f"{row['question'].strip()}\n\nThe text that this is about is in `context`. Finish with a text."


def _strict(gold: object, kind: str, result: object) -> float:
    match kind:
        case "ANSWER_TYPE.NUMERIC":
            return strict.score_number(strict.number(gold) or 0, result)
        case "ANSWER_TYPE.COMPARISON":
            found = strict.phrase(result)
            return float(found is not None and found in str(gold))
        case "ANSWER_TYPE.DATE" if isinstance(gold, datetime):
            return strict.score_date(gold, result)
        case "ANSWER_TYPE.MONTH_YEAR":
            return strict.score_month(str(gold), result)
        case _:
            return strict.score_name([str(gold)], result)
