"""What one run is asked for: the goal, and the options of `Agent.solve`, `solve_sync` and `stream`."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from inspect import Parameter, signature
from typing import Any, TypedDict, TypeVar

from .checks import of_kind
from .errors import ConfigurationError
from .plain import plain
from .returns import Returns
from .scoring import Scorer

F = TypeVar("F", bound=Callable[..., Any])


class SolveOptions(TypedDict, total=False):
    """The options of `solve`, `solve_sync` and `stream`; each defaults to None."""

    context: Any
    """Data for the agent's REPL, where it is the variable `context`; never prompt text."""
    returns: Any
    """A type, a pydantic model or a JSON schema that the result must fit."""
    seed: int | None
    """The same seed asks the model for the same samples."""
    score: Scorer | None
    """Puts a success in [0, 1] on every node: `node -> float | None`, sync or async."""
    group: str | None
    """Ties attempts at one task together, so that they can be trained on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """A goal with its options, checked."""

    text: str
    context: Any
    """Plain data."""
    returns: Returns
    seed: int | None
    score: Scorer | None
    group: str | None


def read_options(goal: str, options: SolveOptions) -> Goal:
    """Check what `solve` was called with. Raises ConfigurationError, and TypeError for an option that does not exist."""
    check_names(options)
    seed, score, group = options.get("seed"), options.get("score"), options.get("group")
    if not isinstance(goal, str) or not goal.strip():
        raise ConfigurationError(f"goal must be a text that says what to do, not {goal!r}")
    of_kind("group", group, str, "text")
    try:
        seed = None if seed is None else operator.index(seed)
    except TypeError:
        raise ConfigurationError(f"seed must be a whole number, not {seed!r:.80}") from None
    if score is not None and not callable(score):
        raise ConfigurationError(f"score must be a function of a node, not {score!r:.80}")
    returns = Returns(options.get("returns"))
    try:
        context = plain(options.get("context"), strict=True)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"context must be plain data: {error}") from None
    return Goal(text=goal, context=context, returns=returns, seed=seed, score=score, group=group)


def check_names(options: Iterable[str]) -> None:
    """Raises TypeError for an option that does not exist."""
    known = list(SolveOptions.__annotations__)
    for name in options:
        if name not in known:
            close = get_close_matches(name, known, 1)
            hint = f" Do you mean {close[0]!r}?" if close else ""
            raise TypeError(f"There is no option {name!r} of solve; it takes {', '.join(known)}.{hint}")


def lists_options(function: F) -> F:
    """Let `help()` and `inspect.signature` show the options one by one."""
    own = signature(function)
    options = [
        Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=getattr(hint, "__forward_arg__", hint))
        for name, hint in SolveOptions.__annotations__.items()
    ]
    fixed = [parameter for parameter in own.parameters.values() if parameter.kind is not Parameter.VAR_KEYWORD]
    function.__signature__ = own.replace(parameters=[*fixed, *options])  # type: ignore[attr-defined]
    return function
