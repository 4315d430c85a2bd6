"""The code of the reference solver: ask for the wishes, offer, take the change of mind up, confirm, and settle all anew."""

from __future__ import annotations

import re
from collections.abc import Generator

from .agenda import AGREED


def settle(topic: str, day: str) -> Generator[str, str, None]:
    """The cells of an agent that settles one topic."""
    _, _, answer = yield from _settled(topic, day, None, "n")
    yield answer


def delegate(topics: list[str], day: str) -> Generator[str, str, None]:
    """The cells of an agent that lets sub-agents settle the topics, and confirms."""
    begin = f"t={topics}\n"
    while True:
        code = (
            f"{begin}r=await asyncio.gather(*[launch_subagent(f'Settle {{i}} on {day}') for i in t])\n"
            f"await say(f\"confirm {day} {{' '.join(r)}}\")"
        )
        shown = yield code
        begin = ""
        if not (found := re.match(r"'changed: everything on ([a-z]+)'", shown)):
            break
        day = found[1]
    yield f"finish({{'day':'{day}'}}|dict(zip(t,r)))"


def alone(topics: list[str], day: str) -> Generator[str, str, None]:
    """The cells of an agent that settles everything itself, one thing said in each cell."""
    wishes: dict[str, tuple[str, str]] = {}
    while True:
        for topic in topics:
            price, stars, _ = yield from _settled(topic, day, wishes.get(topic), topic)
            wishes[topic] = price, stars
        shown = yield f"await say(f'confirm {day} {' '.join(f'{{{topic}}}' for topic in topics)}')"
        if not (found := re.match(r"'changed: everything on ([a-z]+)'", shown)):
            break
        day = found[1]
    plan = ",".join(f"'{topic}':{topic}" for topic in topics)
    yield f"finish({{'day':'{day}',{plan}}})"


def _settled(
    topic: str, day: str, wish: tuple[str, str] | None, name: str
) -> Generator[str, str, tuple[str, str, str]]:
    """Cells until the counterpart agrees; the variable `name` then holds the option. Price, stars, and how to finish."""
    if wish is None:
        shown = yield f"await say('wishes {topic}')"
        price, stars = re.findall(r"\d+", shown)[:2]
        wish = price, stars
    price, stars = wish
    while True:
        shown = yield (
            f"{name}=min((p,n) for n,p,s in await options('{topic}','{day}') if p<={price} and s>={stars})[1]\n"
            f"await say(f'{topic} {{{name}}} {day}')"
        )
        if shown.startswith(f"'{AGREED}'"):
            return price, stars, f"finish({name})"
        found = re.match(r"'changed: now at least (\d) stars'", shown)
        if found is None:
            return price, stars, "finish(None)"
        stars = found[1]
