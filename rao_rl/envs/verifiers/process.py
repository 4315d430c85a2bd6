"""The bridge to a Python that has `verifiers`: a child process that answers JSON lines. It is started anew when it has died.

`verifiers` needs openai < 3 and rao needs openai 3, so one Python cannot have both. A request is `{"id": 1, "op": …}`, its
answer `{"id": 1, "value": …}` or `{"id": 1, "error": {"kind": …, "message": …}}`, in any order; the operations are those of
`bridge.main.Bridge`. The first line, `{"ready": …}`, says whether verifiers can be imported there.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
import weakref
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as TookTooLong
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from recursive_agent.errors import ConfigurationError

VARIABLE = "RAO_VERIFIERS_PYTHON"
_FOLDER = Path(__file__).parent / "bridge"
_LAUNCH = f"""
import importlib.util, sys
place = {str(_FOLDER)!r}
spec = importlib.util.spec_from_file_location("rao_bridge", place + "/__init__.py", submodule_search_locations=[place])
sys.modules["rao_bridge"] = importlib.util.module_from_spec(spec)
from rao_bridge.main import main
main()
"""
START_LIMIT = 120.0
"""Seconds until the other Python must have imported verifiers; it takes a few, on a busy machine more."""
GRACE = 10.0
"""Seconds over a request's own limit after which its process is taken to hang."""
_KEPT_LINES = 20


class BridgeFailed(Exception):
    """The other process, or the taskset in it, did not do what was asked; that is nobody's answer."""


class ToolRefused(Exception):
    """A tool of the taskset refused a call or raised; the message is for the agent."""


def find_python(python: str | None) -> str:
    """The interpreter that has verifiers. Raises ConfigurationError where none is named, or there is none."""
    named = python or os.environ.get(VARIABLE)
    if not named:
        raise ConfigurationError(
            "verifiers runs in a Python of its own, since it cannot be installed beside rao: make one (python3 -m venv VF; "
            f"VF/bin/pip install verifiers), and name it with --env-set python=VF/bin/python or {VARIABLE}"
        )
    found = shutil.which(Path(named).expanduser())
    if found is None:
        raise ConfigurationError(f"verifiers: there is no Python that can be run at {named} (python=…, or {VARIABLE})")
    return found


class Bridge:
    """Requests to the other Python, from any thread. Raises ConfigurationError where it has no verifiers that can be used."""

    def __init__(self, python: str) -> None:
        self.python = python
        self._lock = threading.Lock()
        self._child: _Child | None = None
        self._ends: weakref.finalize[..., Any] | None = None
        self._forgotten: deque[Mapping[str, Any]] = deque()

    def request(self, request: Mapping[str, Any], timeout: float) -> Any:
        """The value of a request; `timeout` in seconds.

        Raises ConfigurationError for what the user must change, ToolRefused, and BridgeFailed.
        """
        child = self._alive()
        with suppress(IndexError):
            while True:
                child.send({**self._forgotten.popleft(), "op": "close"}, Future())
        answer = child.ask(request, timeout)
        if "error" not in answer:
            return answer["value"]
        kind, message = _error(answer)
        if kind == "unknown":
            raise ConfigurationError(f"verifiers: {message}; install it for {self.python}, or name another taskset")
        if kind == "refused":
            raise ConfigurationError(f"verifiers: the taskset {request.get('taskset')} cannot be run by rao: {message}")
        if kind == "tool":
            raise ToolRefused(message)
        raise BridgeFailed(f"the taskset {request.get('taskset')}: {message}")

    def forget(self, **session: Any) -> None:
        """Let the tools of an attempt be released, at the next request: this may be called while garbage is collected."""
        self._forgotten.append(session)

    @property
    def generation(self) -> int:
        """Number of the process: another one does not know what was done in this one."""
        return 0 if self._child is None else self._child.pid

    def close(self) -> None:
        """End the process."""
        if self._ends is not None:
            self._ends()

    def _alive(self) -> _Child:
        with self._lock:
            if self._child is None or self._child.ended:
                if self._ends is not None:
                    self._ends()
                self._child = _Child(self.python)
                self._ends = weakref.finalize(self, self._child.end)
                self._child.wait_until_ready()
            return self._child


class _Child:
    """One process, and the answers that it owes."""

    def __init__(self, python: str) -> None:
        self._python = python
        try:
            # -P: the folder of rao is no place to import from. A taskset in a folder is found by PYTHONPATH.
            self._process = subprocess.Popen(
                [python, "-P", "-c", _LAUNCH],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                encoding="utf-8",
                errors="replace",
                start_new_session=True,
            )
        except OSError as error:
            raise ConfigurationError(f"verifiers: {python} cannot be run ({error.strerror})") from error
        self.pid = self._process.pid
        self.ended = False
        self._said: deque[str] = deque(maxlen=_KEPT_LINES)
        self._ready: Future[dict[str, Any]] = Future()
        self._owed: dict[int, Future[dict[str, Any]]] = {}
        self._lock = threading.Lock()
        self._number = 0
        self._readers = [
            threading.Thread(target=target, args=(pipe,), name="rao verifiers", daemon=True)
            for target, pipe in ((self._read, self._process.stdout), (self._listen, self._process.stderr))
        ]
        for reader in reversed(self._readers):  # whoever sees the end of stdout waits for the last words on stderr
            reader.start()

    def wait_until_ready(self) -> None:
        """Raises ConfigurationError where verifiers cannot be imported, BridgeFailed where nothing is said in time."""
        try:
            ready = self._ready.result(START_LIMIT)
        except TookTooLong:
            self.end()
            raise BridgeFailed(f"{self._python} did not import verifiers within {START_LIMIT:g} seconds") from None
        except BridgeFailed as error:
            self.end()
            raise ConfigurationError(f"verifiers: {self._python} is not a Python that can be used: {error}") from error
        if not ready.get("ready"):
            self.end()
            raise ConfigurationError(
                f"verifiers: {self._python} has no verifiers that rao can use ({ready.get('problem')}); "
                f"run: {self._python} -m pip install 'verifiers>=0.4'"
            )

    def ask(self, request: Mapping[str, Any], timeout: float) -> dict[str, Any]:
        """The answer. Raises BridgeFailed where there is none: a process that hangs is ended, with all that it owes."""
        answer: Future[dict[str, Any]] = Future()
        self.send(request, answer)
        try:
            return answer.result(timeout + GRACE)
        except TookTooLong:
            self.end()
            raise BridgeFailed(f"the process of verifiers gave no answer within {timeout + GRACE:g} seconds") from None

    def send(self, request: Mapping[str, Any], answer: Future[dict[str, Any]]) -> None:
        """Send a request, to be answered there. Raises BridgeFailed where the process has died."""
        with self._lock:
            self._number += 1
            number = self._number
            self._owed[number] = answer
            try:
                pipe = _pipe(self._process.stdin)
                pipe.write(json.dumps({**request, "id": number}) + "\n")
                pipe.flush()
            except (OSError, ValueError):
                self.ended = True
        if self.ended:
            self._owed.pop(number, None)
            raise BridgeFailed(self._how_it_ended())

    def end(self) -> None:
        """End the process and wait until it has gone."""
        self.ended = True
        self._process.kill()  # first, so that nobody who writes to it holds the lock
        self._process.wait()
        with self._lock, suppress(OSError):  # what it did not read is lost
            _pipe(self._process.stdin).close()
        for reader in self._readers:
            if reader is not threading.current_thread():
                reader.join()

    def _read(self, pipe: IO[str]) -> None:
        with pipe:
            for line in pipe:
                try:
                    answer = json.loads(line)
                    if not self._ready.done():
                        self._ready.set_result({"ready": answer["ready"], "problem": answer["problem"]})
                        continue
                    number = answer["id"]
                    if "value" not in answer:
                        _error(answer)
                    owed = self._owed.pop(number, None)
                except (ValueError, KeyError, TypeError):
                    self._fail(f"the process of verifiers answered nonsense ({line.strip()[:80]!r})")
                    self._process.kill()
                    return
                if owed is not None and not owed.done():
                    owed.set_result(answer)
        self._fail(self._how_it_ended())

    def _listen(self, pipe: IO[str]) -> None:
        with pipe:
            for line in pipe:
                if line.strip():
                    self._said.append(line.strip()[:200])

    def _fail(self, message: str) -> None:
        with self._lock:
            self.ended = True
            owed = [self._ready, *self._owed.values()]
        for answer in owed:
            if not answer.done():
                answer.set_exception(BridgeFailed(message))

    def _how_it_ended(self) -> str:
        try:
            status = self._process.wait(GRACE)
        except subprocess.TimeoutExpired:
            return "the process of verifiers closed its output"
        self._readers[1].join(1.0)  # its last words may still be in the pipe
        last = f"; it said last: {self._said[-1]}" if self._said else ""
        return f"the process of verifiers ended with status {status}{last}"


def _error(answer: Mapping[str, Any]) -> tuple[str, str]:
    error = answer["error"]
    return str(error["kind"]), str(error["message"])


def _pipe(pipe: IO[str] | None) -> IO[str]:
    if pipe is None:
        raise ValueError("closed")
    return pipe
