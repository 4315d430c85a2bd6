"""The reference solver: it searches for a name, reads the page, and goes on from what it read.

It knows neither the graph nor the answers. Names and addresses in its code are copied from what the cells before showed.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Iterator
from typing import TypeAlias

from .goals import Chain, Of, Step, Whose, format_goal, parse_goal
from .pages import read_page

_RESULT = re.compile(r"\('([^']+)', '(https://[^']+)'\)")
_WIDE = 10
"""Results to look through for an entity whose name is not known."""

Reading: TypeAlias = Generator[str, str, str | None]
"""Code to run, answered by what it showed; in the end the name that was found."""


def recursive_expert(goal: str, context: object) -> Iterator[str]:
    """Looks up one step itself; a longer chain is cut in two, and the second half begins with what the first one found."""
    chain = parse_goal(goal)
    if chain is None:
        raise ValueError(f"{goal!r:.200} breaks the grammar of goals")
    if len(chain.steps) == 1:
        return _alone(chain)
    return iter([_halves(chain)])


def single_expert(goal: str, context: object) -> Iterator[str]:
    """Goes step by step along the whole chain."""
    chain = parse_goal(goal)
    if chain is None:
        raise ValueError(f"{goal!r:.200} breaks the grammar of goals")
    return _alone(chain)


def _halves(chain: Chain) -> str:
    middle = len(chain.steps) // 2
    first = Chain(chain.start, chain.steps[:middle])
    rest = format_goal(Chain("{x}", chain.steps[middle:]))
    return f"x = await launch_subagent({format_goal(first)!r})\nfinish(await launch_subagent(f{rest!r}))"


def _alone(chain: Chain) -> Iterator[str]:
    name = chain.start
    for step in chain.steps:
        found = yield from _step(name, step)
        if found is None:
            yield "finish(None)"
            return
        name = found
    yield f"finish({name!r})"


def _step(name: str, step: Step) -> Reading:
    if isinstance(step, Of):
        shown = yield _search(f'"{name}"', 3)
        url = dict(_RESULT.findall(shown)).get(name)
        if url is None:
            return None
        page = yield _view(url)
        return next(iter(read_page(page, name, step.relation)), None)
    return (yield from _described(name, step))


def _described(name: str, step: Whose) -> Reading:
    """The entity that both facts hold of: the pages that have both names come first."""
    shown = yield _search(f'"{name}" "{step.name}"', _WIDE)
    for title, url in _candidates(_RESULT.findall(shown), (name, step.name)):
        page = yield _view(url)
        if name in read_page(page, title, step.relation) and step.name in read_page(page, title, step.other):
            return title
    return None


def _candidates(results: Iterable[tuple[str, str]], known: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    return ((title, url) for title, url in results if title not in known)


def _search(query: str, most: int) -> str:
    return f"found = await search_web({query!r}, {most})\n[(r['title'], r['url']) for r in found['results']]"


def _view(url: str) -> str:
    return f"await view_page({url!r})"
