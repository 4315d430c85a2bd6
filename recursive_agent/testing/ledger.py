"""What the scripted endpoint has billed, to be compared with what a client accounts for."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field


@dataclass(slots=True)
class Entry:
    """One request. `delivered` says whether an answer with its usage went out whole."""

    index: int
    kind: str
    model: str
    prompt_tokens: int
    completion_tokens: int = 0
    cached_tokens: int = 0
    status: int = 0
    """HTTP status answered, 0 where none was."""
    fault: str | None = None
    delivered: bool = False
    billed: bool = False
    started: float = field(default_factory=time.perf_counter, repr=False)
    seconds: float | None = None
    """How long it took; None while it runs."""


class Ledger:
    """Every request for an answer, in order of arrival. Safe to read from any thread while the endpoint runs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: list[Entry] = []
        self._running = 0
        self._peak = 0

    @property
    def entries(self) -> list[Entry]:
        """All requests so far."""
        with self._lock:
            return list(self._entries)

    @property
    def calls(self) -> int:
        """Answers that went out whole, with their usage."""
        return sum(1 for entry in self.entries if entry.delivered)

    @property
    def prompt_tokens(self) -> int:
        """Prompt tokens of answers that went out whole."""
        return sum(entry.prompt_tokens for entry in self.entries if entry.delivered)

    @property
    def completion_tokens(self) -> int:
        """Completion tokens of answers that went out whole."""
        return sum(entry.completion_tokens for entry in self.entries if entry.delivered)

    @property
    def total_tokens(self) -> int:
        """Prompt and completion tokens of answers that went out whole: what `usage.total_tokens` must equal."""
        return sum(entry.prompt_tokens + entry.completion_tokens for entry in self.entries if entry.delivered)

    @property
    def lost_tokens(self) -> int:
        """Tokens billed for answers that did not arrive: what `usage.unconfirmed` must bound from above."""
        return sum(e.prompt_tokens + e.completion_tokens for e in self.entries if e.billed and not e.delivered)

    @property
    def max_concurrency(self) -> int:
        """Most requests ever under way at once."""
        return self._peak

    @property
    def running(self) -> int:
        """Requests under way now."""
        return self._running

    def summary(self) -> dict[str, int]:
        """All totals, by name."""
        return {
            "requests": len(self.entries),
            "calls": self.calls,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.total_tokens,
            "lost_tokens": self.lost_tokens,
            "max_concurrency": self.max_concurrency,
        }

    def open(self, kind: str, model: str, prompt_tokens: int) -> Entry:
        """Enter a request that has begun."""
        with self._lock:
            entry = Entry(index=len(self._entries), kind=kind, model=model, prompt_tokens=prompt_tokens)
            self._entries.append(entry)
            self._running += 1
            self._peak = max(self._peak, self._running)
            return entry

    def close(self, entry: Entry, *, delivered: bool = False) -> None:
        """Note that a request has ended, however it did; only the first time counts.

        Called before the last byte leaves, so that a client that has its answer finds it in the ledger.
        """
        with self._lock:
            if entry.seconds is None:
                entry.seconds = time.perf_counter() - entry.started
                entry.delivered = delivered
                self._running -= 1
