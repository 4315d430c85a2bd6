"""Whether an object keeps the contract of an environment or a session, in words that tell its author what to add."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from recursive_agent.errors import ConfigurationError

from .base import About, Environment, Session, Task


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _is_depth(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _are_names(value: object) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(map(_is_text, value))


def _are_functions(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and all(map(callable, value))


@dataclass(frozen=True, slots=True)
class _Value:
    """An attribute: what it must be, in words and as a check."""

    words: str
    fits: Callable[[object], bool]

    def missing(self, name: str) -> str:
        return f"{name} ({self.words})"

    def problem(self, name: str, value: object) -> str | None:
        return None if self.fits(value) else f"its {name} must be {self.words}, not {value!r:.80}"


@dataclass(frozen=True, slots=True)
class _Method:
    """A method: its parameters in words, and arguments that it must take."""

    words: str
    positional: tuple[Any, ...]
    keywords: Mapping[str, Any] = field(default_factory=dict)

    def missing(self, name: str) -> str:
        return f"{name}({self.words})"

    def problem(self, name: str, value: object) -> str | None:
        if callable(value):
            try:
                inspect.signature(value).bind(*self.positional, **self.keywords)
            except TypeError:
                pass
            except ValueError:  # its parameters cannot be read
                return None
            else:
                return None
        return f"its {name} must be a method that takes ({self.words})"


_ENVIRONMENT: Mapping[str, _Value | _Method] = {
    "name": _Value('a text, such as "maze"', _is_text),
    "max_depth": _Value("a whole number from 0 on", _is_depth),
    "splits": _Value('the names of its splits, such as ("train", "test")', _are_names),
    "levels": _Value('the names of its levels, such as ("easy", "hard")', _are_names),
    "tasks": _Method("split, seed=0, level=None, limit=None", ("train", 0), {"level": None, "limit": None}),
    "task": _Method("goal, seed=0", ("goal", 0)),
    "session": _Method("task", (None,)),
}
_OPTIONAL: Mapping[str, _Value | _Method] = {
    "about": _Value('an About, such as About(summary="…", sizes={"test": 64})', lambda value: isinstance(value, About)),
    "demonstrations": _Method("seed=0", (), {"seed": 0}),
    "subtask": _Method("task, tree, node", (None, None, None)),
}
_SESSION: Mapping[str, _Value | _Method] = {
    "tools": _Value("a list of functions", _are_functions),
    "score": _Method("node", (None,)),
}
_OPTIONAL_IN_SESSION: Mapping[str, _Value | _Method] = {"metrics": _Method("node", (None,))}


def check_environment(name: str, environment: Environment) -> None:
    """Raises ConfigurationError, naming what is missing or wrong, for an object that is not a whole environment."""
    if problems := _problems(environment, _ENVIRONMENT, _OPTIONAL):
        raise ConfigurationError(
            f"{name} is not a complete environment: {type(environment).__name__} {problems}. See docs/extending.md."
        )


def open_session(environment: Environment, task: Task) -> Session:
    """A session for one attempt at `task`. Raises ConfigurationError, naming what is missing, for an incomplete one."""
    session = environment.session(task)
    if problems := _problems(session, _SESSION, _OPTIONAL_IN_SESSION):
        raise ConfigurationError(
            f"the session of {environment.name} is not complete: {type(session).__name__} {problems}. "
            "See docs/extending.md."
        )
    return session


def _problems(found: object, needed: Mapping[str, _Value | _Method], optional: Mapping[str, _Value | _Method]) -> str:
    """What an object lacks; empty if nothing."""
    contract = {**needed, **{name: part for name, part in optional.items() if hasattr(found, name)}}
    missing = [part.missing(name) for name, part in contract.items() if not hasattr(found, name)]
    wrong = [
        problem
        for name, part in contract.items()
        if hasattr(found, name) and (problem := part.problem(name, getattr(found, name)))
    ]
    return "; ".join([f"lacks {', '.join(missing)}"] * bool(missing) + wrong)
