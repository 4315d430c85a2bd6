"""An agent that lives again: its recorded steps, one after the other, until what it does is new.

Its cells are run again in a real sandbox, which gives it its variables back; the model and the tools are not asked. What a cell
did is compared with its record: where the two differ, nothing goes on in silence (see `Diverged`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from .actions import Action
from .compaction import why_unusable
from .errors import ReplayDiverged
from .launch import Launch
from .repl.base import CellResult, CellStatus, Repl, Replay, can_record, same_text
from .trace.node import Step
from .trace.schema import CellRan, ModelCalled
from .tree import Tree

_SHOWN = 200


class BeginAgain(Exception):
    """The steps of an agent from `step` on are to be done anew, in a fresh interpreter. Internal."""

    def __init__(self, step: int) -> None:
        super().__init__(step)
        self.step = step


class NodeReplay:
    """What is recorded of one agent, step by step; nothing, where it has just been launched."""

    def __init__(self, tree: Tree, launch: Launch) -> None:
        self._tree = tree
        self._launch = launch
        self._past = launch.past

    def _recorded(self, step: int) -> Step | None:
        return None if self._past is None else self._past.steps.get(step)

    def step(self, step: int) -> ModelCalled | None:
        """The model call of a step, where it is recorded."""
        recorded = self._recorded(step)
        return None if recorded is None else recorded.model

    def is_new(self, step: int) -> bool:
        """Whether the cell of a step will be recorded."""
        recorded = self._recorded(step)
        return recorded is None or recorded.cell is None

    def is_over(self, step: int) -> bool:
        """Whether what comes after this step is new."""
        return self._past is None or step + 1 not in self._past.steps

    def summary(self, step: int) -> ModelCalled | None:
        """The summary that stands before a step in the record: the conversation was compacted with it."""
        recorded = self._recorded(step)
        summary = None if recorded is None else recorded.summary
        if summary is None or why_unusable(summary.text, summary.finish_reason) is not None:
            return None
        return summary

    def action(self, step: int, parsed: Action) -> Action:
        """What the answer of a step asks to run: the code that was run, however answers are read today."""
        recorded = self._recorded(step)
        return parsed if recorded is None or recorded.cell is None else replace(parsed, code=recorded.cell.code)

    def asks_after(self, step: int) -> bool:
        """Whether the result that was given in this step is followed by another question, now or in the record."""
        past = self._past
        asked = past is not None and past.question is not None and step == past.question.step
        return past is not None and (asked or step + 1 in past.steps)

    @property
    def question(self) -> str:
        """The next question, as the agent reads it."""
        asked = "" if self._past is None or self._past.question is None else self._past.question.question
        if self._tree.config.prompt_style == "minimal":
            return asked
        return f"Your result was taken. All your variables are still there. The next task:\n{asked}"

    def observation(self, step: int, text: str) -> str:
        """What the agent reads after a step: `text`, unless it was edited."""
        edit = self._tree.edits.get((self._launch.id, step + 1))
        if edit is None:
            return text
        return edit if isinstance(edit, str) else edit(text)

    async def run(self, step: int, code: str, repl: Repl) -> tuple[CellResult, bool]:
        """Run the cell of a step; whether it is new, so that it must be recorded. Raises ReplayDiverged."""
        recorded, past = self._recorded(step), self._past
        if recorded is None or past is None:
            return await repl.run(code), True
        cell = recorded.cell
        if cell is None:  # it was under way: what is recorded of it holds, then it goes on
            return await self._run(repl, code, Replay(clock=recorded.clock, complete=False)), True
        if step < past.first or cell.status == CellStatus.KILLED:  # the variables were lost, so nothing is to be gained
            return _of_record(cell), False
        again = await self._run(repl, cell.code, Replay(clock=recorded.clock, restarted=cell.restarted))
        difference = self._difference(cell, again)
        if difference is None:
            return again, False
        whole = again.diverged is None and (again.status.value == cell.status or cell.status != CellStatus.FINISHED)
        if self._tree.diverged == "keep" and whole:
            return replace(_of_record(cell), value=again.value), False
        if self._tree.diverged == "redo":
            raise BeginAgain(step)
        raise ReplayDiverged(
            f"agent {self._launch.id}, step {step}: its code did not do again what is recorded ({difference}). Nothing was "
            'sent for it. Resume with diverged="redo" to do its steps anew from there'
            + (', or with diverged="keep" to go on with the recorded conversation' if whole else "")
        )

    async def _run(self, repl: Repl, code: str, replay: Replay) -> CellResult:
        if not can_record(self._tree.sandbox):  # somebody else's: it can only be run as it is
            return await repl.run(code)
        extra: Any = {"replay": replay}
        result: CellResult = await repl.run(code, **extra)
        return result

    def _difference(self, cell: CellRan, again: CellResult) -> str | None:
        if again.diverged is not None:
            return again.diverged
        if again.status.value != cell.status:
            return f"it ended with {again.status.value} instead of {cell.status}"
        if again.status is CellStatus.TIMEOUT:  # where exactly it is stopped is the machine's affair
            return None
        if self._past is not None and (missed := self._past.missed(cell.step)):
            return f"it did not make the recorded call of {missed}"
        redact = self._tree.redactor.text
        for what, now, then in (("printed", again.output, cell.output), ("raised", again.error, cell.error)):
            if not same_text(redact(now or ""), then or ""):
                return f"it {what} {_short(now)} instead of {_short(then)}"
        return None


def _of_record(cell: CellRan) -> CellResult:
    return CellResult(status=CellStatus(cell.status), output=cell.output, error=cell.error, cpu=cell.cpu)


def _short(text: str | None) -> str:
    shown = repr(text or "")
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"
