"""Several processes that train together: process 0 leads, the others follow.

Process 0 rolls out, samples, judges, writes and decides when the run ends. The others wait for its next order: a step to
train on, something that all must do together, or the end. They wait in a group of their own (gloo, on the CPU) whose time-out
is a year, since a rollout may take hours and collectives of the trainer give up after minutes. A process that ends closes its
connections, which ends the waiting of all others.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from datetime import timedelta
from typing import Any

import torch
from accelerate import PartialState

from ..errors import EndedElsewhere, ProcessLost
from ..processes import is_first, processes
from ..weights.hardware import training_device

_PATIENCE = timedelta(days=365)
_RESULT, _DUTY, _ERROR = "result", "duty", "error"
_OF_CONNECTIONS = ("gloo", "nccl", "connection", "broken pipe", "socket")
"""Words in the errors of torch's collectives, which have no kind of their own."""


class Together:
    """This process among those that train together. In one process nothing is sent, and nobody is waited for.

    `duties` are what the others do on `order`, by name. All processes must make one, and at the same place.
    """

    def __init__(self) -> None:
        self.count = processes()
        self.first = is_first()
        self.duties: dict[str, Callable[[], None]] = {}
        self.waited_for = self.first
        """Whether the others wait for an order of this process: only then are they told what goes wrong here."""
        self._group: Any = None
        if self.count > 1:
            if not torch.distributed.is_initialized():
                PartialState(cpu=training_device().type == "cpu")
            with _losing():
                torch.distributed.barrier()  # a process that does not come is missed after minutes, not after a year
            self._group = torch.distributed.new_group(backend="gloo", timeout=_PATIENCE)

    def tell(self, result: Any) -> None:
        """Give the others what they wait for (`follow`): process 0 only. They do something else then."""
        self._send(_RESULT, result)
        self.waited_for = False

    def order(self, duty: str) -> None:
        """Have the others begin a duty: process 0 only, which does its own part of it at once."""
        self._send(_DUTY, duty)

    def follow(self) -> Any:
        """Do what process 0 orders until it tells a result, which is returned. Raises EndedElsewhere where it fails."""
        while True:
            kind, content = self._receive()
            if kind == _DUTY:
                self.duties[content]()
            elif kind == _ERROR:
                raise EndedElsewhere(content)
            else:
                return content

    def agree(self, numbers: list[int]) -> list[int]:
        """The largest of each number over all processes, in all processes."""
        if self._group is None:
            return numbers
        held = torch.tensor(numbers, dtype=torch.int64)
        with _losing():
            torch.distributed.all_reduce(held, torch.distributed.ReduceOp.MAX, group=self._group)
        return [int(number) for number in held]

    @contextmanager
    def ending(self) -> Iterator[None]:
        """Where this process fails within the block while the others wait for it, they end too (EndedElsewhere).

        Raises ProcessLost where another process has ended.
        """
        try:
            with _losing() if self.count > 1 else nullcontext():
                yield
        except BaseException as error:
            if self.count > 1 and self.first and self.waited_for and not isinstance(error, ProcessLost):
                self.waited_for = False
                with suppress(ProcessLost):
                    self._send(_ERROR, " ".join(str(error).split()) or type(error).__name__)
            raise

    def _send(self, kind: str, content: Any) -> None:
        if self._group is None:
            return
        with _losing():
            torch.distributed.broadcast_object_list([(kind, content)], src=0, group=self._group)

    def _receive(self) -> tuple[str, Any]:
        held: list[Any] = [None]
        with _losing():
            torch.distributed.broadcast_object_list(held, src=0, group=self._group)
        kind, content = held[0]
        return kind, content


def leave() -> None:
    """Close the connections to the other processes, at the end of this one: torch aborts a process that leaves them open."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@contextmanager
def _losing() -> Iterator[None]:
    """Raises ProcessLost for what the collectives say when another process has ended."""
    try:
        yield
    except (ProcessLost, pickle.PicklingError):
        raise
    except RuntimeError as error:
        text = str(error).lower()
        if not isinstance(error, torch.distributed.DistError) and not any(word in text for word in _OF_CONNECTIONS):
            raise
        raise ProcessLost(
            "another process of this training has ended, and says why; continue from the last checkpoint with --resume"
        ) from error
