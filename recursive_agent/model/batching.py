"""Batched sampling from any policy that can read tokens into a cache: turn-taking, caches and seeds, but no arithmetic.

Continuous batching: requests join and leave between two tokens. Each request draws from a generator of its own, so what it
samples does not depend on who else is in the batch (beyond rounding).
"""

from __future__ import annotations

import threading
import time
import weakref
from abc import ABC, abstractmethod
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = Any
"""Of the library that the engine calculates with."""
Integers = npt.NDArray[np.int64]
_GROW = 64
"""Positions by which the batch's cache grows at a time."""
_PREFILL_TOKENS = 4096
_CHUNK = 512
"""Most new tokens of one row in one pass, so that attention over a long prompt stays small."""


class Prefix:
    """Keys and values of tokens already read: one array [K, n, D] for each input of the graph's cache."""

    def __init__(self, ids: list[int], arrays: list[Array]) -> None:
        self.ids = ids
        self.arrays = arrays

    @property
    def nbytes(self) -> int:
        """Size in memory."""
        return sum(array.nbytes for array in self.arrays)


class Request:
    """One answer to be sampled. `owner` ties it to earlier requests of the same conversation, whose cache it continues.

    `token_ids` and `logprobs` grow while it runs; `finish_reason` is set at the end, `error` where the engine failed.
    `version` is that of the weights its first token was sampled with, the oldest it has anything from. Setting
    `cancelled` drops it from the batch before the next token.
    """

    def __init__(
        self,
        owner: object,
        prompt: Sequence[int],
        *,
        max_tokens: int,
        seed: int,
        temperature: float = 1.0,
        top_p: float = 1.0,
        stopped: Callable[[list[int]], bool] | None = None,
    ) -> None:
        self.owner = owner
        self.prompt = list(prompt)
        self.max_tokens = max_tokens
        self.temperature = temperature
        self.top_p = top_p
        self.stopped = stopped
        self.rng = np.random.default_rng(seed)
        self.token_ids: list[int] = []
        self.logprobs: list[float] = []
        self.version: str | None = None
        self.finish_reason: str | None = None
        self.error: Exception | None = None
        self.cancelled = False

    @property
    def ids(self) -> list[int]:
        """The prompt, and what was sampled after it so far."""
        return [*self.prompt, *self.token_ids]

    @property
    def done(self) -> bool:
        """Whether nothing more will come."""
        return self.finish_reason is not None or self.error is not None or self.cancelled


@dataclass(frozen=True, slots=True)
class Step:
    """New tokens to read: `ids` [B, S], of which row b has `taken[b]`, behind `lengths[b]` that its cache holds."""

    ids: Integers
    lengths: Integers
    taken: Integers

    def places(self) -> tuple[Integers, Integers, Integers]:
        """Of each of the N new tokens: its row, its column in `ids` and its slot in the cache; three times [N]."""
        rows, columns = np.nonzero(np.arange(self.ids.shape[1]) < self.taken[:, None])
        return rows, columns, self.lengths[rows] + columns


class BatchEngine(ABC):
    """`submit` from anywhere, `run` on a worker thread while requests are open.

    `cache_bytes` bounds what is kept of conversations between their turns; the least recently used go first. `version`
    names the weights now sampled with.
    """

    def __init__(self, *, arrays: int, end_ids: Sequence[int], max_batch: int, cache_bytes: int) -> None:
        self.version: str | None = None
        self._end_ids = frozenset(end_ids)
        self._max_batch = max_batch
        self._cache_bytes = cache_bytes
        self._arrays = arrays
        self._inbox: deque[Request] = deque()
        # By id of the conversation. References are weak: what nobody will continue is not worth its memory.
        self._kept: OrderedDict[int, tuple[weakref.ref[Any], Prefix]] = OrderedDict()
        self._gone: deque[int] = deque()
        self._kept_bytes = 0
        self._joining: list[Request] = []
        """Out of the inbox, and not yet in a row."""
        self._rows: list[Request] = []
        self._read: list[list[int]] = []
        """Tokens in the cache, by row."""
        self._lengths = np.zeros(0, np.int64)
        self._batch = [self.empty(0, _GROW) for _ in range(arrays)]
        self._lock = threading.Lock()

    @abstractmethod
    def empty(self, rows: int, length: int) -> Array:
        """One array of a cache: zeros of [rows, K, length, D]."""

    @abstractmethod
    def copy(self, array: Array) -> Array:
        """Memory of its own."""

    @abstractmethod
    def forward(self, step: Step, cache: list[Array]) -> Array:
        """Read tokens, write their keys and values into `cache`; logits [B, V] of the last one that each row took."""

    @abstractmethod
    def draw(self, requests: Sequence[Request], logits: Array) -> tuple[list[int], list[float]]:
        """One token for each request out of its row of `logits`, and its log-prob in the distribution drawn from."""

    def submit(self, request: Request) -> None:
        """Queue a request for the next `run`."""
        self._inbox.append(request)

    def run(self, seconds: float) -> None:
        """Sample for about `seconds`, or until a request is done or none is left. May be called from several threads."""
        with self._lock:
            deadline = time.monotonic() + seconds
            try:
                while self._advance() and time.monotonic() < deadline:
                    pass
            except Exception as error:
                for request in [*self._rows, *self._joining, *self._inbox]:
                    request.error = error
                self._inbox.clear()
                self._joining = []
                self._drop(range(len(self._rows)), keep=False)

    def renew(self, change: Callable[[], object], *, version: str | None) -> None:
        """Let `change` put other weights in place, between two tokens, which are then named `version`.

        What is kept of conversations was computed by the old weights and is forgotten; requests in flight read their tokens
        again and go on from there. Where `change` raises, nothing is forgotten.
        """
        with self._lock:
            change()
            self.version = version
            self._kept.clear()
            self._kept_bytes = 0
            self._inbox.extendleft(reversed(self._rows))
            self._drop(range(len(self._rows)), keep=False)

    @property
    def kept_bytes(self) -> int:
        """Memory of what is remembered of conversations between their turns."""
        return self._kept_bytes

    @property
    def pending(self) -> int:
        """Requests that are queued or in the batch, those cancelled left out."""
        requests = {*self._inbox, *self._joining, *self._rows}
        return sum(not request.cancelled for request in requests)

    def _advance(self) -> bool:
        """One token for every row; False when a request is done or there is nothing to do."""
        while self._gone:
            self._take(self._gone.popleft(), gone=True)
        self._drop([row for row, request in enumerate(self._rows) if request.cancelled], keep=False)
        while self._inbox and len(self._rows) + len(self._joining) < self._max_batch:
            request = self._inbox.popleft()
            if not request.cancelled:
                self._joining.append(request)
        if self._joining:
            self._join(self._joining)
            self._joining = []
        elif self._rows:
            self._decode()
        finished = [row for row, request in enumerate(self._rows) if request.done]
        self._drop(finished, keep=True)
        return bool(self._rows or self._inbox) and not finished

    def _join(self, requests: list[Request]) -> None:
        """Read the prompts of new rows, in passes of similar length, and sample the first token of each."""
        waiting = sorted((self._open(request) for request in requests), key=lambda item: len(item[2]))
        while waiting:
            size = 1
            while size < len(waiting) and (size + 1) * min(_CHUNK, len(waiting[size][2])) <= _PREFILL_TOKENS:
                size += 1
            self._prefill(waiting[:size])
            waiting = waiting[size:]

    def _open(self, request: Request) -> tuple[Request, Prefix, list[int]]:
        """A request, what is known of its tokens from before, and those still to be read (at least one)."""
        if request.version is None:
            request.version = self.version
        prefix, ids = self._take(id(request.owner)), request.ids
        known = 0
        if prefix is not None:
            limit = min(len(prefix.ids), len(ids) - 1)
            while known < limit and prefix.ids[known] == ids[known]:
                known += 1
        arrays = [] if prefix is None else [array[:, :known] for array in prefix.arrays]
        arrays = arrays or [self.empty(1, 0)[0] for _ in range(self._arrays)]
        return request, Prefix(ids[:known], arrays), ids[known:]

    def _prefill(self, opened: list[tuple[Request, Prefix, list[int]]]) -> None:
        count = len(opened)
        known = np.array([len(prefix.ids) for _, prefix, _ in opened], np.int64)
        wholes = known + np.array([len(rest) for _, _, rest in opened], np.int64)
        cache = [self.empty(count, int(wholes.max())) for _ in range(self._arrays)]
        for row, (_, prefix, _) in enumerate(opened):
            for whole, array in zip(cache, prefix.arrays, strict=True):
                whole[row, :, : known[row]] = array
        logits: Array = None
        lengths = known
        while (left := wholes - lengths).any():
            taken = np.minimum(left, _CHUNK)
            ids = np.zeros((count, int(taken.max())), np.int64)
            for row, (_, _, rest) in enumerate(opened):
                at = lengths[row] - known[row]
                ids[row, : taken[row]] = rest[at : at + taken[row]]
            output = self.forward(Step(ids, lengths, taken), cache)
            if logits is None:
                logits = output
            else:  # rows whose tokens ended in an earlier pass keep the logits of that one
                fresh = np.nonzero(taken)[0].tolist()
                logits[fresh] = output[fresh]
            lengths = lengths + taken
        self._enter([request for request, _, _ in opened], lengths, cache)
        self._sample(self._rows[-count:], logits)

    def _decode(self) -> None:
        count, longest = len(self._rows), int(self._lengths.max()) + 1
        self._reserve(count, longest)
        ids = np.array([[request.token_ids[-1]] for request in self._rows], np.int64)
        step = Step(ids, self._lengths, np.ones(count, np.int64))
        logits = self.forward(step, [array[:count] for array in self._batch])
        for read, (token,) in zip(self._read, ids.tolist(), strict=True):
            read.append(token)
        self._lengths = self._lengths + 1
        self._sample(self._rows, logits)

    def _sample(self, requests: Sequence[Request], logits: Array) -> None:
        tokens, logprobs = self.draw(requests, logits)
        for request, token, logprob in zip(requests, tokens, logprobs, strict=True):
            request.token_ids.append(token)
            request.logprobs.append(logprob)
            if token in self._end_ids or (request.stopped is not None and request.stopped(request.token_ids)):
                request.finish_reason = "stop"
            elif len(request.token_ids) >= request.max_tokens:
                request.finish_reason = "length"

    def _enter(self, requests: list[Request], lengths: Integers, cache: list[Array]) -> None:
        """Add rows behind those of the batch."""
        count = len(self._rows)
        self._reserve(count + len(requests), int(max(lengths.max(), self._lengths.max(initial=0))))
        for array, new in zip(self._batch, cache, strict=True):
            array[count : count + len(requests), :, : new.shape[2]] = new
        self._rows += requests
        self._read += [request.ids for request in requests]
        self._lengths = np.concatenate([self._lengths, lengths])

    def _drop(self, rows: Sequence[int], *, keep: bool) -> None:
        """Take rows out of the batch; the last ones move into the holes."""
        for row in sorted(rows, reverse=True):
            if keep:
                self._keep(row)
            last = len(self._rows) - 1
            if row != last:
                for array in self._batch:
                    array[row, :, : self._lengths[last]] = array[last, :, : self._lengths[last]]
                self._rows[row], self._read[row] = self._rows[last], self._read[last]
                self._lengths[row] = self._lengths[last]
            self._rows.pop()
            self._read.pop()
            self._lengths = self._lengths[:last]
        if rows:
            self._reserve(len(self._rows), int(self._lengths.max(initial=0)))

    def _reserve(self, rows: int, length: int) -> None:
        """Make the batch's cache hold `rows` rows of `length`; give memory back that a long conversation has left."""
        have_rows, _, have, _ = self._batch[0].shape
        needed = -(-max(1, length) // _GROW) * _GROW
        if rows <= have_rows and length <= have <= max(2 * needed, 4 * _GROW):
            return
        count = len(self._rows)
        size = min(have, needed)
        grown = [self.empty(max(rows, have_rows), needed) for _ in self._batch]
        for new, old in zip(grown, self._batch, strict=True):
            new[:count, :, :size] = old[:count, :, :size]
        self._batch = grown

    def _keep(self, row: int) -> None:
        request, length = self._rows[row], int(self._lengths[row])
        prefix = Prefix(self._read[row], [self.copy(array[row, :, :length]) for array in self._batch])
        key, gone = id(request.owner), self._gone
        self._take(key)
        self._kept[key] = weakref.ref(request.owner, lambda _: gone.append(key)), prefix
        self._kept_bytes += prefix.nbytes
        while self._kept_bytes > self._cache_bytes:
            self._take(next(iter(self._kept)))

    def _take(self, key: int, *, gone: bool = False) -> Prefix | None:
        """Remove and return what is kept under a key; with `gone`, only if its conversation no longer exists."""
        owner, prefix = self._kept.get(key, (None, None))
        if owner is None or prefix is None or (gone and owner() is not None):
            return None
        del self._kept[key]
        self._kept_bytes -= prefix.nbytes
        return prefix
