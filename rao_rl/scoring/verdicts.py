"""A judge's verdicts: parsed from the text of its answer, and kept in a file."""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recursive_agent.errors import ConfigurationError

SCHEMA: Mapping[str, Any] = {
    "type": "object",
    # The reason first: what is written before the verdict is what the verdict can rest on.
    "properties": {"reason": {"type": "string"}, "success": {"type": "boolean"}},
    "required": ["reason", "success"],
    "additionalProperties": False,
}
"""JSON schema of a judge's answer."""

_YES = frozenset({"true", "yes", "pass", "passed", "success", "1"})
_NO = frozenset({"false", "no", "fail", "failed", "failure", "0"})
_LINE = re.compile(r"^\W*(?:success|verdict)\W*[:=]\W*(\w+)\W*$", re.IGNORECASE | re.MULTILINE)
_THOUGHTS = re.compile(r"^.*</think(?:ing)?>|<think(?:ing)?>.*$", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an agent succeeded at its goal, and the judge's reason."""

    success: bool
    reason: str


def parse_verdict(text: str) -> Verdict | None:
    """The verdict in a judge's answer; None where there is none, or where there are two that differ.

    It is a JSON object with `success`, alone, fenced or within prose; without one, a line like `Verdict: pass`. A
    reasoning model's thoughts (`<think>…</think>`) are left out.
    """
    said = _THOUGHTS.sub("", text)
    found = [verdict for verdict in map(_from_object, _objects(said)) if verdict is not None]
    if not found:
        lines = [_truth(word) for word in _LINE.findall(said)]
        reason = " ".join(_LINE.sub("", said).split())
        found = [Verdict(truth, reason) for truth in lines if truth is not None]
    return found[-1] if len({verdict.success for verdict in found}) == 1 else None


class VerdictCache:
    """Verdicts by the hash of the judge's whole prompt, in one SQLite file that many processes may share.

    Raises ConfigurationError where the file cannot be used.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(self.path, timeout=30.0, isolation_level=None)
            try:
                # Verdicts can be had again, so a power failure may cost the last ones; a killed process costs none.
                self._database.execute("PRAGMA journal_mode = WAL")
                self._database.execute("PRAGMA synchronous = NORMAL")
                self._database.execute(
                    "CREATE TABLE IF NOT EXISTS verdicts (key TEXT PRIMARY KEY, success INTEGER, reason TEXT) WITHOUT ROWID"
                )
            except BaseException:
                self._database.close()
                raise
        except (OSError, sqlite3.Error) as error:
            raise ConfigurationError(f"{self.path}: verdicts cannot be kept there ({error})") from error

    @staticmethod
    def key(content: Any) -> str:
        """The key of a judge's prompt, which is plain data."""
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def get(self, key: str) -> Verdict | None:
        """The verdict of a key; None where there is none."""
        with closing(self._database.execute("SELECT success, reason FROM verdicts WHERE key = ?", (key,))) as rows:
            row = rows.fetchone()
        return None if row is None else Verdict(bool(row[0]), row[1])

    def put(self, key: str, verdict: Verdict) -> None:
        """Keep a verdict; the last one under a key counts."""
        reason = verdict.reason.encode("utf-8", "replace").decode()
        row = (key, int(verdict.success), reason)
        self._database.execute("INSERT OR REPLACE INTO verdicts VALUES (?, ?, ?)", row).close()

    def close(self) -> None:
        """Close the file. Safe to call twice."""
        self._database.close()


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """The outermost JSON objects in a text, in order."""
    decoder = json.JSONDecoder(strict=False)
    place = text.find("{")
    while place >= 0:
        try:
            value, end = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            place = text.find("{", place + 1)
            continue
        if isinstance(value, dict):
            yield value
        place = text.find("{", end)


def _from_object(value: Mapping[str, Any]) -> Verdict | None:
    given = {str(key).lower(): item for key, item in value.items()}
    truth = _truth(given.get("success", given.get("verdict")))
    reason = given.get("reason", given.get("reasoning", ""))
    return None if truth is None else Verdict(truth, reason if isinstance(reason, str) else json.dumps(reason))


def _truth(value: Any) -> bool | None:
    if isinstance(value, int | float) and value in (0, 1):
        return bool(value)
    word = str(value).strip().lower()
    return True if word in _YES else False if word in _NO else None
