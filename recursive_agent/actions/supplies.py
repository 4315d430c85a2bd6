"""What the code of an agent lacks and can only be meant: awaits, imports of well-known names, brackets at its end."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from .awaits import supply_awaits
from .brackets import balanced
from .code_checks import Syntax
from .imports import missing_imports


@dataclass(frozen=True, slots=True)
class Supplied:
    """Code as it is run; `notes` tell the agent what was done to it, empty where it is the agent's own."""

    code: str
    notes: tuple[str, ...] = ()


class Supplies:
    """Supplies the cells of one agent. `hosts` are the functions that have to be awaited.

    Names that the agent has bound itself, in this cell or an earlier one, are its own.
    """

    def __init__(self, hosts: Collection[str]) -> None:
        self._hosts = set(hosts)
        self._bound: set[str] = set()

    def to(self, code: str) -> Supplied:
        """The next cell, with what it lacks."""
        notes: list[str] = []
        syntax = Syntax.of(code)
        if syntax is None and (done := balanced(code)) is not None:
            code, note = done
            notes.append(note)
            syntax = Syntax.of(code)
        if syntax is None:
            return Supplied(code)
        code, awaited = supply_awaits(syntax, self._hosts - self._bound)
        if awaited:
            notes.append(f"`await` was added before {', '.join(awaited)}: write it yourself")
        imports = missing_imports(syntax, self._bound | self._hosts)
        if imports:
            code = "\n".join([*imports.values(), code])
            notes.extend(f"`{statement}` was added: write it yourself" for statement in imports.values())
        self._bound |= syntax.bound | imports.keys()
        return Supplied(code, tuple(f"{note}." for note in notes))
