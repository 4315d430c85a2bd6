"""A run that is followed while its trace is written: what of it a page does not have yet.

A page that follows a run holds a *cursor*: which state of the run it has. `LiveRun.since` gives what changed after that
state, each agent once and as it is now, however much happened in between. So nothing is queued for a page that is slow.
"""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

from ..errors import TraceError
from ..trace.folder import TraceState
from ..trace.schema import ROOT, Event
from ..trace.store import in_progress
from ..trace.tail import TraceTail
from ..trace.tree import ExecutionTree, TreeBuilder
from .page import json_text
from .payload import Json, Usages, head_data, node_data, run_data
from .rows import row_data

_RARELY = 20
"""How many times as long as finding the critical path takes is waited before it is found anew in a run that goes on."""
_SILENCE = 2.0
"""Seconds without a new event after which it is looked whether the writer still lives."""


class Message(NamedTuple):
    """Something for a page: the name of the event, and its data as JSON."""

    event: str
    data: str


def version_of(cursor: str | None, epoch: str, latest: int) -> int | None:
    """The version that a cursor names; None if it is none of this epoch, so that everything is to be given."""
    before, _, seen = (cursor or "").partition(".")
    if before != epoch or not (seen.isascii() and seen.isdecimal() and len(seen) < 16):
        return None
    return int(seen) if int(seen) <= latest else None


class LiveRun:
    """One trace file, read as it grows. May be used by several threads."""

    def __init__(self, path: str | Path, *, file: str | None = None) -> None:
        """`file` is what a page calls it; the path unless it is given."""
        self.path = Path(path)
        self.file = str(path) if file is None else file
        self._lock = Lock()
        self._tail = TraceTail(path)
        self._begin()

    def _begin(self) -> None:
        self._epoch = secrets.token_hex(4)
        self._builder = TreeBuilder()
        self._problem: str | None = None
        self._version = 0
        self._events = 0
        self._changed: dict[str, int] = {}
        """Version of each agent's last change, the latest in the end."""
        self._known_usage: object = None
        self._head: dict[str, tuple[Any, int]] = {}
        """Each field of the run without its agents, with the version of its last change."""
        self._head_at = -1
        self._critical_at = -1
        self._critical_due = float("-inf")
        self._writing = True
        self._heard = self._looked = time.monotonic()

    def since(self, cursor: str | None) -> tuple[str, list[Message]]:
        """Catch up with the file; the new cursor, and what a page with the old one lacks. Never raises TraceError."""
        with self._lock:
            self._catch_up()
            now = f"{self._epoch}.{self._version}"
            if cursor == now:
                return now, []
            return now, [Message("nodes", json_text(self._update(version_of(cursor, self._epoch, self._version))))]

    def head(self) -> Json | None:
        """The run without its agents as it is now; None while the file holds no run."""
        with self._lock:
            self._catch_up()
            return None if self._builder.tree is None else {**self._head_after(None), "nodes": []}

    def goal(self) -> str | None:
        """The goal of the run; None while the file holds no agent."""
        with self._lock:
            tree = self._builder.tree
            return None if tree is None or ROOT not in tree.nodes else tree.root.goal

    def run_json(self, run: str) -> str | None:
        """The run with its agents as it is now, if this is its id."""
        with self._lock:
            self._catch_up()
            tree = self._builder.tree
            if tree is None or tree.run != run:
                return None
            return json_text(run_data(tree, file=self.file, state=self.state))

    def row(self) -> Json:
        """The run as a row of a table."""
        with self._lock:
            self._catch_up()
            return row_data(self._builder.tree, file=self.file, state=self.state, problem=self._problem)

    @property
    def state(self) -> TraceState:
        """What the file holds of its run."""
        tree = self._builder.tree
        if tree is not None and tree.complete:
            return TraceState.COMPLETE if ROOT in tree.nodes else TraceState.CUT_OFF
        if self._problem is not None:
            return TraceState.UNREADABLE
        return TraceState.IN_PROGRESS if self._writing else TraceState.CUT_OFF

    @property
    def problem(self) -> str | None:
        """Why the file can be followed no further, in a sentence."""
        return self._problem

    def _catch_up(self) -> None:
        try:
            while events := self._tail_read():
                if self._problem is None:  # what follows an event that is not possible is not believed
                    self._take(events)
        except TraceError as error:
            if self._problem is None:
                self._problem = str(error)
                self._version += 1
        self._look_for_the_writer()
        if self._builder.tree is not None:
            self._refresh(self._builder.tree)

    def _tail_read(self) -> list[Event]:
        generation = self._tail.generation
        try:
            return self._tail.read()
        finally:
            if self._tail.generation != generation:
                self._begin()

    def _take(self, events: list[Event]) -> None:
        self._version += 1
        self._events += len(events)
        self._heard, self._writing = time.monotonic(), True
        for event in events:
            self._builder.add(event)
            node = getattr(event, "node", None)
            if isinstance(node, str):
                self._changed.pop(node, None)
                self._changed[node] = self._version

    def _look_for_the_writer(self) -> None:
        """Once it has been silent for a while: the run of a killed process never says that it has ended."""
        tree, now = self._builder.tree, time.monotonic()
        if tree is None or tree.complete or now < max(self._heard, self._looked) + _SILENCE:
            return
        self._looked = now
        writing = in_progress(self.path)
        if writing != self._writing:
            self._writing = writing
            self._version += 1

    def _refresh(self, tree: ExecutionTree) -> None:
        """Bring what is said of the run as a whole up to date; the critical path, which takes long, now and then."""
        known = Usages(tree).known
        if known != self._known_usage:  # of every agent something else is known now
            self._known_usage = known
            self._version += 1
            self._changed = dict.fromkeys(tree.nodes, self._version)
        begun = time.monotonic()
        critical = self._critical_at != self._events and (tree.complete or begun >= self._critical_due)
        if self._head_at == self._version and not critical:
            return
        self._version += critical  # pages that have this version do not have it yet
        for name, value in head_data(tree, file=self.file, state=self.state, critical=critical).items():
            if name not in self._head or self._head[name][0] != value:
                self._head[name] = value, self._version
        self._head_at = self._version
        if critical:
            now = time.monotonic()
            self._critical_at, self._critical_due = self._events, now + _RARELY * (now - begun)

    def _update(self, seen: int | None) -> Json:
        """What changed after a version; everything if it is None."""
        tree = self._builder.tree
        nodes: list[Json] = []
        if tree is not None:
            usages = Usages(tree)
            nodes = [node_data(tree.nodes[name], tree, usages) for name in self._after(tree, seen)]
        return {
            "run": None if tree is None else tree.run,
            "whole": seen is None,
            "nodes": nodes,
            "head": None if tree is None else self._head_after(seen),
            "writing": tree is None or (self._writing and not tree.complete),
            "problem": self._problem,
        }

    def _head_after(self, seen: int | None) -> Json:
        """The fields of the run without its agents that changed after a version."""
        return {name: value for name, (value, version) in self._head.items() if seen is None or version > seen}

    def _after(self, tree: ExecutionTree, seen: int | None) -> list[str]:
        """Ids of the agents that changed after a version, each after its parent."""
        if seen is None:
            return [node.id for node in tree.walk()]
        found: list[str] = []
        for name, version in reversed(self._changed.items()):
            if version <= seen:
                break
            found.append(name)
        return sorted((name for name in found if name in tree.nodes), key=lambda name: tree.nodes[name].depth)
