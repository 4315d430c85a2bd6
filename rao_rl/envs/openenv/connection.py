"""One websocket to an OpenEnv server: `reset`, `step`, `state` and `close`, one message at a time, from any thread."""

from __future__ import annotations

import json
import math
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from recursive_agent.errors import ConfigurationError

if TYPE_CHECKING:
    from websockets.sync.client import ClientConnection

LARGEST = 64 * 1024 * 1024
"""Bytes of a message."""
_FULL = "CAPACITY_REACHED"
_OF_THE_ACTION = ("VALIDATION_ERROR", "EXECUTION_ERROR")
_PAUSES = (0.1, 0.2, 0.4, 0.8, 1.6)
_CLOSE_LIMIT = 2.0
_LOCAL = ("localhost", "127.0.0.1", "::1")


class ServerFailed(Exception):
    """The server is down, slow, full or answers nonsense; that is no agent's failure."""


class ActionRefused(Exception):
    """The environment refused an action or raised at it; the message is for the agent."""


@dataclass(frozen=True, slots=True)
class Observed:
    """What the environment answered to a reset or a step."""

    observation: Mapping[str, Any]
    reward: float | None
    done: bool


def base_url(url: str) -> str:
    """The server's URL with http or https. Raises ConfigurationError for what is none."""
    parts = urlsplit(url.strip())
    scheme = {"ws": "http", "wss": "https", "http": "http", "https": "https"}.get(parts.scheme)
    try:
        known = scheme is not None and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is none
        known = False
    if scheme is None or not known:
        raise ConfigurationError(f"openenv: url must look like http://localhost:8000, not {url!r:.80}")
    return urlunsplit((scheme, parts.netloc, parts.path.rstrip("/").removesuffix("/ws"), "", ""))


def is_local(url: str) -> bool:
    """Whether a server is on this machine, where no proxy leads to."""
    return urlsplit(url).hostname in _LOCAL


class Connection:
    """A session of the server, opened at the first message. `timeout` (seconds) is for one message, and to get a place."""

    def __init__(self, url: str, timeout: float) -> None:
        self._url = url
        self._timeout = timeout
        self._socket: ClientConnection | None = None
        self._lock = threading.Lock()
        self.closed = False
        """Whether the episode was ended from here."""

    def reset(self, arguments: Mapping[str, Any]) -> Observed:
        """Begin the episode; wait for a place where the server is full. Raises ServerFailed."""
        until = time.monotonic() + self._timeout
        with self._lock:
            for number in range(10_000):
                try:
                    return _observed(self._ask({"type": "reset", "data": dict(arguments)}, "observation"))
                except _Full as full:
                    pause = _PAUSES[min(number, len(_PAUSES) - 1)]
                    if time.monotonic() + pause > until:
                        raise ServerFailed(
                            f"the server at {self._url} had no place within {self._timeout:g} seconds ({full}); run fewer "
                            "attempts at once (--concurrency), or let it take more sessions (max_concurrent_envs)"
                        ) from None
                    time.sleep(pause)
                except ActionRefused as refused:
                    raise ServerFailed(f"the environment at {self._url} cannot be reset ({refused})") from None
        raise ServerFailed(f"the server at {self._url} is full")

    def step(self, action: Mapping[str, Any]) -> Observed:
        """Carry out an action. Raises ActionRefused and ServerFailed."""
        with self._lock:
            return _observed(self._ask({"type": "step", "data": dict(action)}, "observation"))

    def state(self) -> Mapping[str, Any]:
        """The environment's own state. Raises ServerFailed."""
        with self._lock:
            return self._ask({"type": "state"}, "state")

    def close(self) -> None:
        """Tell the server that the episode is over; a message under way is cut off."""
        self.closed = True
        if not self._lock.acquire(blocking=False):
            self.abort()
            return
        try:
            if self._socket is not None:
                with suppress(Exception):  # whatever the other side does now
                    self._socket.send(json.dumps({"type": "close"}))
                with suppress(Exception):
                    self._socket.close()
                self._socket = None
        finally:
            self._lock.release()

    def abort(self) -> None:
        """Cut the connection at once, waiting for nobody: the server notices, and its thread here ends."""
        self.closed = True
        if self._socket is not None:
            with suppress(OSError):
                self._socket.socket.shutdown(socket.SHUT_RDWR)

    def _ask(self, message: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
        from websockets.exceptions import ConnectionClosed, WebSocketException

        if self.closed:
            raise ServerFailed("the episode is over: its connection was closed")
        opened = self._open()
        try:
            with suppress(ConnectionClosed):  # what it said before it closed is still to be read
                opened.send(json.dumps(message, ensure_ascii=False))
            raw = opened.recv(timeout=self._timeout)
        except TimeoutError:
            self._drop()
            raise ServerFailed(f"the server at {self._url} gave no answer within {self._timeout:g} seconds") from None
        except (WebSocketException, OSError) as error:
            self._drop()
            raise ServerFailed(f"the server at {self._url} closed the connection ({_line(error)})") from error
        try:
            return self._read(raw, kind)
        except ServerFailed:
            self._drop()  # what comes next would be taken for the answer to something else
            raise

    def _read(self, raw: str | bytes, kind: str) -> Mapping[str, Any]:
        try:
            answer = json.loads(raw)
            told, data = answer["type"], answer["data"]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise ServerFailed(f"the server at {self._url} answered nonsense ({raw[:80]!r})") from None
        if told == "error" and isinstance(data, Mapping):
            code, text = str(data.get("code")), " ".join(str(data.get("message", "")).split())[:500]
            if code == _FULL:
                self._drop()
                raise _Full(text)
            if code in _OF_THE_ACTION:
                raise ActionRefused(f"{text}{_faults(data.get('errors'))}")
            raise ServerFailed(f"the server at {self._url} failed ({code}: {text})")
        if told != kind or not isinstance(data, Mapping):
            raise ServerFailed(f"the server at {self._url} answered {told!r:.40} where {kind!r} was due")
        return data

    def _open(self) -> ClientConnection:
        if self._socket is None:
            try:
                from websockets.exceptions import WebSocketException
                from websockets.sync.client import connect
            except ImportError:
                raise ConfigurationError("OpenEnv servers need websockets: pip install 'rao[openenv]'") from None
            try:
                # Entered here and closed by `close`: it lives as long as the episode, not as long as a block.
                self._socket = connect(
                    "ws" + self._url.removeprefix("http") + "/ws",
                    open_timeout=self._timeout,
                    close_timeout=_CLOSE_LIMIT,
                    ping_interval=None,  # a server that works on a step need not answer
                    max_size=LARGEST,
                    proxy=None if is_local(self._url) else True,
                ).__enter__()
            except (WebSocketException, OSError, ValueError) as error:
                raise ServerFailed(f"there is no OpenEnv server at {self._url} ({_line(error)})") from error
        return self._socket

    def _drop(self) -> None:
        dropped, self._socket = self._socket, None
        if dropped is not None:
            with suppress(OSError):
                dropped.socket.shutdown(socket.SHUT_RDWR)


class _Full(Exception):
    """The server has no place for another session."""


def _observed(data: Mapping[str, Any]) -> Observed:
    """Raises ServerFailed for what is no observation."""
    observation, reward, done = data.get("observation"), data.get("reward"), data.get("done", False)
    if not isinstance(observation, Mapping) or not isinstance(done, bool):
        raise ServerFailed(f"the server's answer is no observation ({str(dict(data))[:80]})")
    if reward is None:
        return Observed(observation, None, done)
    if not isinstance(reward, int | float) or not math.isfinite(reward):
        raise ServerFailed(f"the server's reward is not a finite number ({reward!r:.40})")
    return Observed(observation, float(reward), done)


def _faults(errors: Any) -> str:
    """What is wrong with an action, field by field, as pydantic says it."""
    if not isinstance(errors, list):
        return ""
    said = [
        f"{'.'.join(map(str, each.get('loc', ())))}: {each.get('msg')}" for each in errors if isinstance(each, Mapping)
    ]
    return f" ({'; '.join(said)[:500]})" if said else ""


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text[:200] or type(error).__name__
