"""Families of functions by signature and split, their sources, and the inputs that they are tried on.

A leaf is a function of the library. A shape is a function with holes (`A`, `B`, `C`) that are filled with calls of other
functions of the repository. The splits share no family: what a test function needs cannot be known by heart.
"""

from __future__ import annotations

import inspect
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType
from typing import Any, Literal, get_args, get_type_hints

from .library import lists, numbers, tables, texts

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
_TURNS: tuple[Split, ...] = ("train", "test", "train", "validation", "train", "train", "test")
"""The splits that the families of one signature go to, one after the other."""
_TYPES: Mapping[Any, str] = MappingProxyType(
    {int: "int", str: "str", list[int]: "ints", list[str]: "strs", dict[str, int]: "table"}
)
_WORDS = (
    *(
        "a",
        "bee",
        "apple",
        "tree",
        "llama",
        "kit",
        "moon",
        "otter",
        "ode",
        "zoo",
        "ebb",
        "ivy",
        "radio",
        "sheep",
        "oar",
    ),
    *("tram", "nettle", "u", "glass", "yak", "cello", "area", "puff", "owl", "hammock"),
)


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter: its type as in a signature, and whether it has a default."""

    name: str
    type: str
    optional: bool


@dataclass(frozen=True, slots=True)
class Family:
    """A function whose name is NAME until a repository names it."""

    id: str
    split: Split
    source: str
    signature: str
    """Types of the required parameters and of the result, such as `ints->int`."""
    parameters: tuple[Parameter, ...]
    holes: Mapping[str, str] = field(default_factory=dict)
    """Signature of the function that each hole calls."""


_SHAPES: tuple[tuple[Split, str, Mapping[str, str], str], ...] = (
    (
        "train",
        "difference",
        {"A": "ints->int", "B": "ints->int"},
        '''def NAME(values: list[int]) -> int:
    """`A` of the values minus twice `B` of the values."""
    return A(values) - B(values) * 2
''',
    ),
    (
        "train",
        "chain",
        {"A": "ints->ints", "B": "ints->int"},
        '''def NAME(values: list[int]) -> int:
    """`B` of what `A` makes of the values, and 1 more where `A` makes fewer than 3 values."""
    made = A(values)
    if len(made) < 3:
        return B(made) + 1
    return B(made)
''',
    ),
    (
        "train",
        "choice",
        {"A": "str->int"},
        '''def NAME(texts: list[str]) -> list[str]:
    """The texts for which `A` gives at least 2."""
    return [text for text in texts if A(text) >= 2]
''',
    ),
    (
        "train",
        "sum",
        {"A": "str->int"},
        '''def NAME(texts: list[str]) -> int:
    """The sum of what `A` gives for each text, without the first text."""
    total = 0
    for text in texts[1:]:
        total += A(text)
    return total
''',
    ),
    (
        "train",
        "twice",
        {"A": "ints->ints", "B": "ints->ints"},
        '''def NAME(values: list[int]) -> list[int]:
    """`B` of the first 5 values that `A` makes of the values."""
    return B(A(values)[:5])
''',
    ),
    (
        "train",
        "pair",
        {"A": "int->int", "B": "int->int", "C": "int,int->int"},
        '''def NAME(number: int) -> int:
    """`C` of two numbers: of what `A` gives for the number and of what `B` gives for it."""
    first = A(number)
    second = B(number)
    return C(first, second)
''',
    ),
    (
        "train",
        "table",
        {"A": "str->int"},
        '''def NAME(texts: list[str]) -> dict[str, int]:
    """What `A` gives for each text, without the texts for which it gives 0."""
    return {text: A(text) for text in texts if A(text) != 0}
''',
    ),
    (
        "train",
        "keys",
        {"A": "table->strs", "B": "table->int"},
        '''def NAME(table: dict[str, int]) -> int:
    """`B` of the table plus the number of keys that `A` gives."""
    return B(table) + len(A(table))
''',
    ),
    (
        "test",
        "either",
        {"A": "ints->int", "B": "ints->int"},
        '''def NAME(values: list[int]) -> int:
    """`A` of the values where there are more than 4 values, else `B` of the values."""
    if len(values) > 4:
        return A(values)
    return B(values)
''',
    ),
    (
        "test",
        "words",
        {"A": "str->str"},
        '''def NAME(text: str) -> str:
    """`A` of each word of at least 3 letters, with a blank between them."""
    return " ".join(A(word) for word in text.split() if len(word) >= 3)
''',
    ),
    (
        "test",
        "larger",
        {"A": "int->int", "B": "int->int"},
        '''def NAME(number: int) -> int:
    """The larger one of two numbers: of what `A` gives for the number, and of 3 less than what `B` gives for it."""
    return max(A(number), B(number) - 3)
''',
    ),
    (
        "test",
        "census",
        {"A": "strs->table", "B": "table->int"},
        '''def NAME(texts: list[str]) -> int:
    """`B` of the table that `A` makes of the texts, and 2 less where there are at least 4 texts."""
    found = B(A(texts))
    if len(texts) >= 4:
        found -= 2
    return found
''',
    ),
    (
        "test",
        "each",
        {"A": "int->int"},
        '''def NAME(values: list[int]) -> list[int]:
    """`A` of each value that is not negative."""
    return [A(value) for value in values if value >= 0]
''',
    ),
    (
        "test",
        "letters",
        {"A": "str->ints", "B": "ints->int"},
        '''def NAME(text: str) -> int:
    """`B` of what `A` makes of the text, and twice as much where the text has more than 8 characters."""
    found = B(A(text))
    if len(text) > 8:
        return found * 2
    return found
''',
    ),
    (
        "test",
        "against",
        {"A": "int->int", "B": "int,int->int"},
        '''def NAME(number: int) -> int:
    """`B` of two numbers: of what `A` gives for the number, and of the number itself."""
    made = A(number)
    return B(made, number)
''',
    ),
    (
        "validation",
        "before",
        {"A": "int->int", "B": "int,int->int"},
        '''def NAME(number: int) -> int:
    """1 more than `B` of two numbers: of the number, and of what `A` gives for it."""
    made = A(number)
    return B(number, made) + 1
''',
    ),
    (
        "validation",
        "smaller",
        {"A": "ints->int", "B": "ints->int"},
        '''def NAME(values: list[int]) -> int:
    """The smaller one of what `A` and `B` give for the values."""
    return min(A(values), B(values))
''',
    ),
    (
        "validation",
        "order",
        {"A": "int->int"},
        '''def NAME(values: list[int]) -> list[int]:
    """The values sorted by what `A` gives for each, the largest first; equal ones stay in their order."""
    return sorted(values, key=A, reverse=True)
''',
    ),
    (
        "validation",
        "long",
        {"A": "str->str"},
        '''def NAME(text: str) -> str:
    """`A` of the text where it has more than 3 characters, else the text itself."""
    if len(text) > 3:
        return A(text)
    return text
''',
    ),
    (
        "validation",
        "filled",
        {"A": "str->str"},
        '''def NAME(texts: list[str]) -> list[str]:
    """`A` of each text of at least 2 characters."""
    return [A(text) for text in texts if len(text) >= 2]
''',
    ),
)


@cache
def families() -> tuple[Family, ...]:
    """All leaves, then all shapes."""
    found: list[Family] = []
    turns: dict[str, int] = {}
    for module in (numbers, lists, texts, tables):
        for function in vars(module).values():
            if not inspect.isfunction(function):
                continue
            source = inspect.getsource(function)
            parameters, signature = _signature(function)
            turn = turns[signature] = turns.get(signature, -1) + 1
            found.append(
                Family(
                    id=function.__name__,
                    split=_TURNS[turn % len(_TURNS)],
                    source=source.replace(f"def {function.__name__}(", "def NAME(", 1),
                    signature=signature,
                    parameters=parameters,
                )
            )
    for split, name, holes, source in _SHAPES:
        scope: dict[str, Any] = {}
        exec(source, scope)  # our own text, to read its annotations
        parameters, signature = _signature(scope["NAME"])
        found.append(
            Family(
                id=f"shape/{name}",
                split=split,
                source=source,
                signature=signature,
                parameters=parameters,
                holes=MappingProxyType(dict(holes)),
            )
        )
    return tuple(found)


def fill(source: str, names: Mapping[str, str]) -> str:
    """The source with the names of a repository in the places of NAME and of the holes."""
    return re.sub(r"\b(?:NAME|A|B|C)\b", lambda match: names.get(match[0], match[0]), source)


def draw_arguments(rng: random.Random, parameters: tuple[Parameter, ...]) -> list[Any]:
    """Arguments for one call; an optional parameter is left out more often than not."""
    arguments = []
    for parameter in parameters:
        if parameter.optional:
            if rng.random() < 0.65:
                break
            arguments.append(rng.randint(1, 8) if parameter.type == "int" else rng.choice("aeot"))
        else:
            arguments.append(_draw(rng, parameter.type))
    return arguments


def _draw(rng: random.Random, type_: str) -> Any:
    if type_ == "int":
        return rng.choice((rng.randint(-12, 30), rng.randint(0, 12), rng.randint(0, 120)))
    if type_ == "ints":
        values = [rng.randint(-6, 12) for _ in range(rng.choice((0, 1, 2, 3, 4, 5, 6, 7, 8)))]
        return sorted(values) if rng.random() < 0.15 else [_again(rng, values, index) for index in range(len(values))]
    if type_ == "str":
        return " ".join(rng.choice(_WORDS) for _ in range(rng.choice((0, 1, 1, 2, 2, 3, 4))))
    if type_ == "strs":
        words = rng.sample(_WORDS, 6)
        return [rng.choice(words) for _ in range(rng.randint(0, 6))]
    return {word: rng.randint(-3, 7) for word in rng.sample(_WORDS, rng.randint(0, 5))}


def _again(rng: random.Random, values: list[int], index: int) -> int:
    """A value of a list, now and then the one before it again, so that runs of equal values come up."""
    return values[index - 1] if index and rng.random() < 0.2 else values[index]


def _signature(function: Any) -> tuple[tuple[Parameter, ...], str]:
    hints = get_type_hints(function)
    parameters = tuple(
        Parameter(name, _TYPES[hints[name]], parameter.default is not parameter.empty)
        for name, parameter in inspect.signature(function).parameters.items()
    )
    required = ",".join(parameter.type for parameter in parameters if not parameter.optional)
    return parameters, f"{required}->{_TYPES[hints['return']]}"
