"""`oolong-real`: questions about transcripts of real game sessions, from a local copy of the public set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from recursive_agent.errors import ConfigurationError

from ..base import About, Mode, NeedsJudge
from ..generated import one_of
from ..local_data import LocalData
from . import strict
from .grading import Scoring
from .official import precision, real_answer, real_prediction, score_real
from .public import PublicSet, answer_text, tokens

Config: TypeAlias = Literal["dnd", "toy_dnd"]
ROWS = LocalData(
    name="oolong-real",
    columns={
        "id": object,
        "context_window_id": object,
        "context_window_text": str,
        "question": str,
        "answer": str,
        "question_type": str,
    },
    sizes={"test": 6_072},
    obtain=(
        "Download it with `hf download --repo-type dataset oolongbench/oolong-real --local-dir DIR`, and pass data=DIR"
    ),
)
LEVELS: Mapping[str, int | None] = {"55k": 86_500, "118k": 146_500, "175k": 240_000, "longer": None}
"""The most tokens of a document of each level: the authors' three buckets, parted half-way, and what they do not train on."""


class OolongReal(PublicSet):
    """Answer a question about a long transcript, which is the agent's `context`.

    `data`: the local copy, a folder or a file. `config`: which of its folders. `scoring`: `official` or `strict`. `tokenizer`:
    a tokenizer.json that counts the tokens of a document (default: four characters are a token); only the level depends on it.
    `subset`: allow a copy with fewer rows. `shuffle`: draw the order of the rows from the seed. `mode`: `single` sets the depth
    to 0. Raises ConfigurationError for other values.
    """

    name = "oolong-real"
    about = About(
        summary="answer questions about transcripts of real game sessions of 55,000 tokens and more",
        sizes=ROWS.sizes,
        data=ROWS.obtain,
        needs_judge=NeedsJudge(sub_agents="all"),
    )
    rows = ROWS
    levels = tuple(LEVELS)

    def __init__(
        self,
        *,
        data: str | Path | None = None,
        config: Config = "dnd",
        scoring: Scoring = "official",
        mode: Mode = "recursive",
        tokenizer: str | Path | None = None,
        subset: bool = False,
        shuffle: bool = False,
    ) -> None:
        # The number of rows is known of dnd only.
        super().__init__(data=data, scoring=scoring, mode=mode, subset=subset or config == "toy_dnd", shuffle=shuffle)
        one_of(self.name, "config", config, get_args(Config))
        self.config: Config = config
        self._tokenizer = None if tokenizer is None else _tokenizer(tokenizer)
        self._tokens: dict[object, int] = {}
        if self.place is not None and (self.place / config).is_dir():
            self.place = self.place / config

    def scores(self, answer: str, kind: str, result: object) -> Mapping[str, float]:
        """The official and the strict score, and the precision of a list."""
        gold = real_answer(answer)
        official = score_real(answer, answer_text(result))
        if isinstance(gold, int):
            return {"official": official, "strict": strict.score_number(gold, result)}
        if isinstance(gold, str):
            return {"official": official, "strict": strict.score_name([gold], result)}
        found = real_prediction(answer_text(result))
        scores = {"official": official, "strict": strict.score_list(gold, result)}
        if isinstance(found, list):
            return {**scores, "precision": precision(gold, found)}
        share = strict.list_precision(gold, result)
        return scores if share is None else {**scores, "precision": share}

    def level_of(self, row: Mapping[str, Any]) -> str | None:
        """By the tokens of the document, which are counted once."""
        key = row["context_window_id"]
        if (length := self._tokens.get(key)) is None:
            text = row["context_window_text"]
            length = tokens(text) if self._tokenizer is None else len(self._tokenizer.encode(text).ids)
            self._tokens[key] = length
        return next(level for level, most in LEVELS.items() if most is None or length <= most)

    def kind_of(self, row: Mapping[str, Any]) -> str:
        """A number, a text or a list."""
        return type(real_answer(row["answer"])).__name__

    def goal_of(self, row: Mapping[str, Any]) -> str:
        """The question, and where the answer is read."""
        return (
            f"{row['question'].strip()}\n\nThe transcript is in `context`. Finish with a text that states the answer in "
            "\\boxed{}: a number, a name, or several names with commas between them."
        )


def _tokenizer(path: str | Path) -> Any:
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_file(str(Path(path).expanduser()))
    except Exception as error:  # the library raises plain exceptions
        raise ConfigurationError(f"oolong-real: {path} cannot be read as a tokenizer.json ({error})") from None
