"""What `Agent.resume` goes on with: a trace file in its place, or a fork of a record from one of its points."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from .checks import of_kind, one_of
from .errors import ConfigurationError, TraceError
from .goal import Goal
from .limits import Account, Budget, Limits
from .result import Result
from .resumption import Diverged, Resumption
from .returns import Returns
from .run_config import RunConfig
from .trace.events import cuts_before, events_of
from .trace.folder import trace_path
from .trace.journal import Past
from .trace.redact import Redactor
from .trace.schema import ROOT, Event
from .trace.store import TraceWriter
from .trace.tree import ExecutionTree
from .trace.values import is_cut
from .usage import Usage

Edit = str | Callable[[str], str]
"""Another text for an observation, or a function of the text that the agent would read."""


Trace = str | os.PathLike[str] | Result | ExecutionTree
"""A recorded run: its trace file, or what `solve` gave."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Continuation:
    """What is to go on, and how."""

    trace: Trace
    at: str | None = None
    step: int | None = None
    edit: Edit | None = None
    returns: Any = None
    diverged: Diverged = "stop"
    question: str | None = None

    def check(self, *, scores: bool = False) -> Result | None:
        """The result of a run in which there is nothing to go on with, and that is not to be scored.

        Raises ConfigurationError for what is not possible.
        """
        of_kind(
            "trace",
            self.trace,
            str | os.PathLike | Result | ExecutionTree,
            "a trace file, a Result or an ExecutionTree",
        )
        of_kind("at", self.at, str, "the id of an agent")
        of_kind("step", self.step, int, "a whole number")
        one_of("diverged", self.diverged, get_args(Diverged))
        if self.edit is not None and not isinstance(self.edit, str) and not callable(self.edit):
            raise ConfigurationError(f"edit must be a text or a function of a text, not {self.edit!r:.80}")
        if self.at is not None or self.step is not None:
            return None
        source = self._source()
        record = _rooted(ExecutionTree.load(source) if isinstance(source, Path) else source)
        finished = record.root.finished and record.open_question is None
        if self.question is not None:
            if not finished:
                raise ConfigurationError("this run has not finished: resume it before you ask its agent something else")
            return None
        if not finished or not record.complete or scores:
            return None
        if isinstance(self.trace, Result) and self.returns is None:
            return self.trace
        output = self.returns_of(record).validate(record.root.result)
        path = source if isinstance(source, Path) else None
        return Result(record.status, record, None, path, None, output)

    @property
    def is_fork(self) -> bool:
        """Whether it gets a record of its own."""
        return self.at is not None or self.step is not None or isinstance(self._source(), ExecutionTree)

    def _source(self) -> Path | ExecutionTree:
        if isinstance(self.trace, Result):
            whole = self.trace.trace_path is not None and self.trace.trace_error is None
            return self.trace.trace_path if whole and self.trace.trace_path is not None else self.trace.tree
        return self.trace if isinstance(self.trace, ExecutionTree) else Path(self.trace)

    def open(
        self, trace_dir: Path | None, secrets: Sequence[str], limits: Limits
    ) -> tuple[ExecutionTree, TraceWriter | None]:
        """The record to go on with, and the writer of its file. Raises TraceError, ConfigurationError."""
        source = self._source()
        most = limits.max_trace_mb * 1024**2
        if isinstance(source, Path) and not self.is_fork:
            writer, recorded = TraceWriter.reopen(source, secrets=secrets, max_bytes=most)
            try:
                return _rooted(ExecutionTree.from_events(recorded)), writer
            except BaseException:
                writer.close()
                raise
        old = _rooted(ExecutionTree.load(source) if isinstance(source, Path) else source)
        run = uuid.uuid4().hex[:12]
        events = self._beginning(old, run)
        new: TraceWriter | None = None
        if trace_dir is not None:
            new = TraceWriter(trace_path(trace_dir, run), secrets=secrets, max_bytes=most)
            try:
                for event in events:
                    new.append(event)
            except BaseException:
                new.close()
                raise
        return ExecutionTree.from_events(events), new

    def _beginning(self, tree: ExecutionTree, run: str) -> list[Event]:
        cuts: dict[str, int] = {}
        if self.at is not None or self.step is not None:
            node = self.at or ROOT
            last = max((step.number for step in tree.nodes[node].steps), default=0) if node in tree.nodes else 0
            cuts = cuts_before(tree, node, self.step or max(1, last))
        if self.edit is not None and (not cuts or cuts[self.at or ROOT] < 2):
            raise ConfigurationError("edit changes what an agent reads before a step: pass `step`, at least 2")
        return events_of(tree, run, cuts)

    def resumption(self, record: ExecutionTree, config: RunConfig, secrets: Sequence[str]) -> Resumption:
        """How the record goes on under this configuration. Raises ConfigurationError where it cannot."""
        _check(record, config)
        redactor = Redactor(secrets)
        limits_so_far = [record.first_limits, *(each.limits for each in record.resumptions)]
        steps = {most for each in limits_so_far if isinstance(most := each.get("max_steps"), int)}
        question = record.open_question
        if self.question is not None:
            question = record.ask(self.question, self.returns_of(record).schema)
        past = Past(record.root, max_steps=steps or {config.limits.max_steps}, redactor=redactor, question=question)
        limits = config.limits
        root = Account(Budget(limits.max_tokens), Budget(limits.max_cost), config.prices, own_share=False)
        # Each question has the limits for itself.
        root.already_spent(record.usage, before=Usage() if question is None else question.usage)
        edits = {}
        if self.edit is not None:
            edits[self.at or ROOT, self.step or past.open] = self.edit
        return Resumption(
            record=record,
            past=past,
            diverged=self.diverged,
            question=self.question,
            returns=None if question is None else question.returns,
            account=root,
            edits=edits,
        )

    def goal(self, record: ExecutionTree, asked: Goal) -> Goal:
        """What the run is asked for: as it was recorded, with the scorer of `asked`."""
        return Goal(
            text=record.root.goal,
            context=record.root.context,
            returns=self.returns_of(record),
            seed=record.seed,
            score=asked.score,
            group=record.group,
        )

    def returns_of(self, record: ExecutionTree) -> Returns:
        """What the root's result must fit: the type that the caller passes again, or the schema of the record."""
        recorded = record.root.returns if record.last_question is None else record.last_question.returns
        if self.returns is None:
            return Returns(None if self.question is not None else recorded)
        returns = Returns(self.returns)
        if self.question is None and returns.schema != recorded:
            raise ConfigurationError(
                "returns is not the type that this run was asked for; leave it out, or pass that type"
            )
        return returns


def _rooted(tree: ExecutionTree) -> ExecutionTree:
    if ROOT not in tree.nodes:
        raise TraceError(f"run {tree.run} was stopped before its first agent was started: run its goal again")
    return tree


def _check(record: ExecutionTree, config: RunConfig) -> None:
    if is_cut(record.root.context):
        raise TraceError(
            f"run {record.run} cannot go on: its context is not in the trace, which had reached Limits.max_trace_mb"
        )
    for name, now in (("prompt_style", config.prompt_style), ("action_format", config.action_format)):
        then = record.settings.get(name, now)
        if then != now:
            raise ConfigurationError(f"the run was recorded with {name}={then!r}: go on with an Agent that has it")
    missing = sorted(set(record.settings.get("tools", ())) - set(config.tools))
    if missing:
        raise ConfigurationError(f"the agents of this run had the tools {', '.join(missing)}: pass them to the Agent")
