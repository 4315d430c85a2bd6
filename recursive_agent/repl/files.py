"""Large strings of `context`, written once into sealed memory files that any number of workers map."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from typing import Any

import msgpack

from .protocol import FILE_STRING, LARGE_STRING, MAX_DEPTH, MAX_FILES, sealed_file


@dataclass(slots=True)
class _File:
    text: str  # kept, so that its identity stays its own
    fd: int
    size: int
    users: int = 0


class Files:
    """The memory files of one sandbox, by the identity of the string; each lives as long as a REPL uses it.

    Large values are encoded in a thread, so that the event loop goes on meanwhile.
    """

    def __init__(self) -> None:
        self._files: dict[int, _File] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._files)

    def encode(self, context: Any) -> tuple[Any, list[str]]:
        """`(context with references, strings referred to, in order)`; pass the strings to `release` at the end."""
        order: dict[int, tuple[int, str]] = {}

        def walk(value: Any, depth: int) -> Any:
            if isinstance(value, str):
                if len(value) < LARGE_STRING or (id(value) not in order and len(order) == MAX_FILES):
                    return value
                if id(value) not in order:
                    self._hold(value)
                    order[id(value)] = (len(order), value)
                reference = order[id(value)][0].to_bytes(4, "little") + self._files[id(value)].size.to_bytes(
                    8, "little"
                )
                return msgpack.ExtType(FILE_STRING, reference)
            if depth < MAX_DEPTH:
                if isinstance(value, dict):
                    return {key: walk(item, depth + 1) for key, item in value.items()}
                if isinstance(value, (list, tuple)):
                    return [walk(item, depth + 1) for item in value]
            return value

        try:
            return walk(context, 0), [text for _, text in order.values()]
        except BaseException:
            self.release([text for _, text in order.values()])
            raise

    def descriptors(self, texts: list[str]) -> list[int]:
        """The descriptors of strings that `encode` returned."""
        return [self._files[id(text)].fd for text in texts]

    def _hold(self, text: str) -> None:
        with self._lock:
            file = self._files.get(id(text))
            if file is None:
                file = self._files[id(text)] = _File(text, *sealed_file(text))
            file.users += 1

    def release(self, texts: list[str]) -> None:
        """Close the files of these strings where no other REPL uses them."""
        with self._lock:
            for text in texts:
                file = self._files[id(text)]
                file.users -= 1
                if file.users == 0:
                    os.close(file.fd)
                    del self._files[id(text)]

    def close(self) -> None:
        """Close every descriptor."""
        for file in self._files.values():
            os.close(file.fd)
        self._files.clear()
