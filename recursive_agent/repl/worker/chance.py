"""Randomness of the agent's code: all of it comes from the seed of its REPL, none from the system."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable
from typing import Any

from .clock import here


class Random(random.Random):
    """A generator that takes its seed from the REPL where it is given none."""

    def seed(self, a: Any = None, version: int = 2) -> None:
        """Start again from this seed; without one, from the next seed of the REPL."""
        super().seed(here.seeds.getrandbits(64) if a is None else a, version)


Random.__qualname__, Random.__module__ = "Random", "random"
NAMES = (
    "random randint randrange uniform choice choices shuffle sample seed gauss normalvariate expovariate betavariate "
    "triangular lognormvariate paretovariate weibullvariate vonmisesvariate gammavariate getrandbits randbytes"
)
"""The functions of `random`."""


def functions(seed: int) -> dict[str, Any]:
    """The functions of the module `random` for the REPL whose cells run in this thread; its seeds follow from `seed`."""
    here.seeds = random.Random(f"seeds {seed}")
    generator = Random(seed)
    return {name: getattr(generator, name) for name in NAMES.split()}


def samples_of(distribution: statistics.NormalDist) -> Callable[..., list[float]]:
    """What is read as `NormalDist(…).samples`."""

    def samples(n: int, *, seed: Any = None) -> list[float]:
        """So many random numbers of this distribution."""
        return distribution.samples(n, seed=here.seeds.getrandbits(64) if seed is None else seed)

    return samples


def samples_of_class(cls: type[statistics.NormalDist]) -> Callable[..., list[float]]:
    """What is read as `NormalDist.samples`."""

    def samples(distribution: statistics.NormalDist, n: int, *, seed: Any = None) -> list[float]:
        """So many random numbers of a distribution."""
        if not isinstance(distribution, cls):
            raise TypeError("NormalDist.samples() takes a 'NormalDist' object first")
        return samples_of(distribution)(n, seed=seed)

    return samples
