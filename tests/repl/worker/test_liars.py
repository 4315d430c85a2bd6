"""Whatever is called with objects that lie: nothing inside is handed to them, and no table of the library keeps one."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_random_calls_hand_nothing_to_objects_that_lie(seed: int) -> None:
    command = [sys.executable, "-m", "tests.repl.worker.liars", str(seed), "8000"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("8000 calls")


KEYS = """
import functools, re, typing
from recursive_agent.repl.worker import caches
from recursive_agent.repl.worker.classes import make_class
asked = []
body = {"__hash__": lambda self: 1, "__eq__": lambda self, other: asked.append(other) or True}
class Liar: pass
Liar = make_class("Liar", (), body)
Text = make_class("Text", (str,), body)
T = typing.TypeVar("T")
for plain in (1, "a", b"a", None, ..., 1.5, int, (1, ("a", int)), typing.List, typing.Union, T, re.compile("a")):
    assert caches.is_plain(plain), plain
for other in (Liar(), Text("a"), (1, (Liar(),)), list[Liar()], typing.Any | Liar, re.compile(Text("a"))):
    assert not caches.is_plain(other), other
calls = []
@functools.lru_cache
def cached(*args, **options):
    calls.append(args)
    return len(args)
once = caches.past_the_cache(cached)
assert [once(1), once(1), once(2, b=3), once(2, b=3)] == [1, 1, 1, 1] and len(calls) == 2
assert [once(Liar()), once(Liar(), a=1), once(1, a=Liar())] == [1, 1, 1] and len(calls) == 5 and once.cache_info().currsize == 2
assert asked == []
"""


def test_a_cache_keeps_plain_keys_alone() -> None:
    done = subprocess.run([sys.executable, "-c", KEYS], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


LEFT = """
import functools, gc, sys, types
import recursive_agent.repl.worker.modules
from recursive_agent.repl.worker import caches
kind = type(functools.lru_cache(len))
def held():
    names = {id(vars(module)): name for name, module in sys.modules.items() if type(module) is types.ModuleType}
    return [names[id(table)] for found in gc.get_objects() if type(found) is kind for table in gc.get_referrers(found)
            if id(table) in names]
before = held()
assert "re" in before
caches.keep_plain_keys()
left = [name for name in held() if name != "__main__"]
assert left == [], left
import re, typing, fractions
re.purge()  # what clears caches still does
assert re.sub("(a)", r"<\\1>", "a") == "<a>" and typing.List[int] is typing.List[int]
assert typing.Optional[typing.List[int]] == typing.Optional[typing.List[int]]
assert hash(fractions.Fraction(1, 3)) == hash(fractions.Fraction(2, 6))
"""


def test_no_cache_of_a_module_is_left_as_it_was() -> None:
    done = subprocess.run([sys.executable, "-c", LEFT], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
