# ruff: noqa: E501, SIM905 (lists of words; code of cells stands on long lines)
"""Random programs in the language of cells, made to get at what they should not. Run many of them by

python -m tests.repl.worker.language_programs --seed 1 --programs 20000
"""

from __future__ import annotations

import argparse
import random
import signal
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from recursive_agent.repl.worker.names import METHODS

from .language_lab import Lab, Oracle, in_lab
from .test_language_walk import INSIDES, SEEDS

_PUBLIC = (
    "args name value obj func keywords send throw close result exception cancel add_done_callback create_task register mro "
    "format format_map copy update get pop items keys values append extend sort split join replace encode translate group "
    "groupdict expand sub data maps new_child fromkeys most_common elements default_factory maxlen from_iterable getter setter "
    "deleter traps flags prec clear_traps callback push enter_context pop_all writerow fieldnames a x y own method prop metadata "
    "default type exceptions split subgroup derive with_traceback add_note cache_info kind error trace status partial goal "
    "f_globals f_builtins gi_frame tb_frame cr_code __name__ __doc__ __class__ __dict__ __init__ __cause__ __members__"
).split()
_NAMES = [*_PUBLIC, *INSIDES]
_MODULES = (
    "abc asyncio base64 bisect collections contextlib copy csv dataclasses datetime decimal difflib enum fractions functools "
    "hashlib heapq io itertools json math operator random re statistics string textwrap time types typing unicodedata"
).split()
_BUILTINS = (
    "abs all any ascii bool bytes callable classmethod dict dir enumerate filter float format frozenset getattr globals hasattr "
    "hash id int isinstance issubclass iter len list locals map max min next object property range repr reversed set setattr "
    "sorted staticmethod str sum super tuple type vars zip print"
).split()
_CALLS = [
    *_BUILTINS,
    *("copy.copy copy.deepcopy functools.partial functools.wraps functools.reduce functools.lru_cache functools.cached_property "
    "functools.total_ordering functools.cmp_to_key operator.attrgetter operator.methodcaller operator.itemgetter operator.getitem "
    "operator.index contextlib.contextmanager contextlib.closing contextlib.suppress contextlib.nullcontext contextlib.aclosing "
    "collections.namedtuple collections.UserDict collections.ChainMap collections.Counter collections.defaultdict enum.Enum "
    "enum.Flag enum.unique types.SimpleNamespace typing.NamedTuple typing.TypedDict typing.Generic typing.Optional typing.cast "
    "typing.TypeVar typing.Annotated typing.overload dataclasses.dataclass dataclasses.field dataclasses.fields dataclasses.asdict "
    "dataclasses.astuple dataclasses.replace dataclasses.make_dataclass abc.abstractmethod json.dumps json.loads re.sub heapq.merge "
    "statistics.mean asyncio.gather asyncio.create_task asyncio.ensure_future asyncio.wait asyncio.wait_for asyncio.shield "
    "asyncio.as_completed asyncio.iscoroutine asyncio.Condition csv.writer csv.reader csv.DictWriter itertools.starmap "
    "itertools.groupby itertools.tee itertools.chain random.choice random.Random copy.deepcopy dataclasses.dataclass "
    "ExceptionGroup ImportError AttributeError StopIteration Exception").split(),
]  # fmt: skip
_KEYWORDS = [
    "key",
    "default",
    "type",
    "module",
    "metaclass",
    "cls",
    "obj",
    "name",
    "context",
    "loop",
    "names",
    "bases",
    "func",
    "default_factory",
]


@dataclass
class Writer:
    """Writes the statements of one program; `variables` are names that hold something."""

    choose: random.Random
    variables: list[str] = field(default_factory=list)
    written: int = 0

    def atom(self) -> str:
        """A small expression."""
        roll = self.choose.random()
        if roll < 0.45 and self.variables:
            return self.choose.choice(self.variables)
        if roll < 0.75:
            return f"seeds[{self.choose.randrange(150)}]"
        if roll < 0.85:
            return self.choose.choice(_CALLS)
        if roll < 0.9:
            return repr(self.choose.choice(_NAMES))
        if roll < 0.93:
            return f"Text({self.choose.choice(_NAMES)!r})"
        return self.choose.choice(
            ["1", "'x'", "[1]", "{'a': 1}", "None", "(lambda *a, **k: a)", "(lambda *a: a[-1])", "function"]
        )

    def expression(self, depth: int = 2) -> str:
        """An expression."""
        if depth == 0:
            return self.atom()
        inner = lambda: self.expression(depth - 1)  # noqa: E731
        name = self.choose.choice(_NAMES if self.choose.random() < 0.5 else _PUBLIC)
        choose = self.choose.choice
        call = choose(_CALLS)
        kinds: list[Callable[[], str]] = [
            self.atom,
            lambda: f"{self.atom()}.{name}",
            lambda: f"{self.atom()}.{name}()",
            lambda: f"{self.atom()}.{name}({inner()})",
            lambda: f"getattr({inner()}, {name!r})",
            lambda: f"getattr({inner()}, {name[:3]!r} + {name[3:]!r}, {inner()})",
            lambda: f"{call}({inner()})",
            lambda: f"{call}({inner()}, {inner()})",
            lambda: f"{call}({inner()}, {inner()}, {self.choose.choice(_KEYWORDS)}={inner()})",
            lambda: f"{call}({inner()}, **{{{name!r}: {inner()}}})",
            lambda: f"({inner()})({inner()})",
            lambda: f"type({inner()})",
            lambda: f"type({inner()})({inner()}, {inner()})",
            lambda: f"({inner()})[{inner()}]",
            lambda: f"'{{0.{name}}}'.format({inner()})",
            lambda: f"str.format_map('{{a.{name}}}', {{'a': {inner()}}})",
            lambda: f"f'{{{self.atom()}.{name}!r}}'",
            lambda: f"list(map({call}, [{inner()}], [{name!r}]))",
            lambda: f"sorted([{inner()}, {inner()}], key={call})",
            lambda: f"functools.reduce({call}, [{name!r}, {inner()}], {inner()})",
            lambda: f"[{inner()}, {inner()}]",
            lambda: f"{{{name!r}: {inner()}}}",
            lambda: f"(await asyncio.wait_for({inner()}, 0.01))",
            lambda: f"next(iter({inner()}))",
            lambda: f"super({choose(['Plain', 'Text', 'Mapping', 'Color'])}, {inner()}).{name}",
            lambda: f"copy.{choose(['copy', 'deepcopy'])}({inner()})",
            lambda: f"enum.Enum('E', {{{name!r}: {inner()}}}, type={inner()})",
            lambda: f"types.SimpleNamespace(**{{{name!r}: {inner()}}})",
            lambda: f"collections.namedtuple('N', [{name!r}])({inner()})",
        ]
        return self.choose.choice(kinds)()

    def class_body(self) -> str:
        """What stands in a class."""
        choice = self.choose.choice
        method = choice(sorted(METHODS))
        name = choice(_NAMES)
        lines = [
            f"    {choice(_PUBLIC[:60])} = {self.atom()}",
            f"    {choice(_NAMES)} = {self.atom()}",
            f"    {choice(_PUBLIC[:60])}: object = {self.atom()}",
            f"    __slots__ = [{name!r}]",
            f"    __match_args__ = ({choice(_PUBLIC)!r},)",
            f"    def {method}(self, *a, **k): return {self.expression(1)}",
            f"    def {method}(self, *a, **k): return a",
            f"    def {name}(self, *a): return super().{choice(_NAMES)}",
            f"    @{choice(_CALLS)}\n    def {choice(_PUBLIC)}(self, *a): return a",
            f"    @classmethod\n    def {method}(cls, *a, **k): return {self.atom()}",
            f"    {choice(_PUBLIC)} = property({self.atom()})",
            "    def __getattr__(self, name): return lambda *a, **k: (name, a, k)",
            f"    def __getattr__(self, name): return {self.atom()}",
            f"    def __iter__(self): return iter([{self.atom()}])",
            "    def __get__(self, *a): return a",
            "    def __set_name__(self, *a): self.seen = a",
            "    def __init_subclass__(cls, **k): pass",
        ]
        return "\n".join(self.choose.sample(lines, self.choose.randint(1, 3)))

    def statement(self) -> str:
        """A statement that leaves something in a new variable."""
        self.written += 1
        new = f"v{self.written}"
        choice = self.choose.choice
        name = choice(_NAMES)
        class_name = choice(
            [
                *self.variables,
                "Plain",
                "Base",
                "Data",
                "object",
                "int",
                "type(seeds[9])",
                "collections.abc.Callable",
                "enum.Enum",
            ]
        )
        base = choice(
            [
                *self.variables,
                "Plain",
                "Base",
                "Exception",
                "dict",
                "Text",
                "enum.Enum",
                "Mapping",
                "typing.NamedTuple",
                "typing.Generic",
                self.atom(),
            ]
        )
        kinds = [
            *[f"{new} = {self.expression()}" for _ in range(6)],
            f"class {new}({base}):\n{self.class_body()}",
            f"class {new}({base}, {choice(['Plain', 'enum.Enum', 'Exception', 'abc.ABC', self.atom()])}):\n{self.class_body()}",
            f"@{choice(_CALLS)}\nclass {new}({base}):\n{self.class_body()}",
            f"@{choice(_CALLS)}\nclass {new}({choice(['abc.ABC', 'object'])}):\n    {name}: object\n    {choice(_PUBLIC)}: object = None",
            f"{new} = None\nmatch {self.expression(1)}:\n    case {class_name.split('(')[0]}({new}): pass",
            f"{new} = None\nmatch {self.expression(1)}:\n    case {class_name.split('(')[0]}({name}={new}): pass",
            f"{new} = None\nmatch [{self.atom()}]:\n    case [{class_name.split('(')[0]}({name}=[{new}, *_]) | {new}]: pass",
            f"{new} = {self.atom()}\n{new}.{name} = {self.atom()}",
            f"{new} = {self.atom()}\nsetattr({new}, {name!r}, {self.atom()})",
            f"{new} = {self.atom()}\n{new}.{choice(_PUBLIC)} += {self.atom()}",
            f"{new} = {self.atom()}\ndel {new}.{choice(_PUBLIC)}",
            f"with {self.atom()} as {new}: raise {self.atom()}",
            f"async with {self.atom()} as {new}: pass",
            f"for {new} in {self.atom()}: break",
            f"{new} = None\ntry: {self.expression()}\nexcept BaseException as e: {new} = e",
            f"{new} = None\ntry: raise {self.atom()}\nexcept* Exception as e: {new} = e",
            f"@{self.atom()}\ndef {new}(*a, **k): return a",
            f"@{choice(_CALLS)}\ndef {new}(*a, **k): return k",
            f"def {new}(a={self.atom()}, *, {choice(_PUBLIC[:20])}={self.atom()}): return {self.expression(1)}\n{new} = {new}()",
            f"{new} = [{self.expression(1)} for {name} in {self.atom()}]",
            f"import {choice(_MODULES)}\nfrom {choice(_MODULES)} import {name} as {new}",
        ]  # fmt: skip
        self.variables.append(new)
        return choice(kinds)


class Overdue(BaseException):
    """A statement of a program takes too long."""


def _strike(*_: Any) -> None:
    raise Overdue


def run_programs(
    lab: Lab, oracle: Oracle, seed: int, programs: int, seconds: float, statements: int = 8
) -> tuple[int, int, list[str]]:
    """Run up to so many programs; how many ran, how many statements did not fail, and what reached something forbidden."""
    lab.run(SEEDS)
    stop = time.monotonic() + seconds
    wrong: list[str] = []
    done = good = 0
    previous = signal.signal(signal.SIGALRM, _strike)
    try:
        for number in range(programs):
            if time.monotonic() > stop:
                break
            writer = Writer(random.Random(f"{seed}.{number}"))
            said: list[str] = []
            for _ in range(statements):
                statement = writer.statement()
                said.append(statement)
                signal.setitimer(signal.ITIMER_REAL, 2)
                try:
                    lab.run(statement)
                    good += 1
                except Overdue:
                    pass
                except BaseException:
                    writer.variables.remove(f"v{writer.written}")
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)
                for name in [f"v{writer.written}", "e"]:
                    problem = oracle.everything(lab.variables.get(name))
                    if problem is not None:
                        wrong.append(f"seed {seed}.{number}: {name} holds {problem} after\n" + "\n".join(said))
            for index in range(1, writer.written + 1):
                lab.variables.pop(f"v{index}", None)
            done += 1
            if number % 200 == 199:
                wrong.extend(f"seed {seed}, up to program {number}: {change}" for change in oracle.changed())
                if wrong:
                    break
        wrong.extend(f"seed {seed}: {change}" for change in oracle.changed())
    finally:
        signal.signal(signal.SIGALRM, previous)
    return done, good, wrong


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--programs", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=3600.0)
    options = parser.parse_args()

    def work(lab: Lab, oracle: Oracle) -> None:
        done, good, wrong = run_programs(lab, oracle, options.seed, options.programs, options.seconds)
        print(f"{done} programs, {good} statements that did something, {len(wrong)} reached what they must not")
        print("\n\n".join(wrong[:5]))
        raise SystemExit(bool(wrong))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        in_lab(work)


if __name__ == "__main__":
    main()
