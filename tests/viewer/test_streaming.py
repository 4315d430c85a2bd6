"""Events for one page, on asyncio and on trio."""

from __future__ import annotations

from contextlib import aclosing

import anyio
import pytest

from recursive_agent.viewer import streaming
from recursive_agent.viewer.follow import Message
from recursive_agent.viewer.streaming import PING, events

pytestmark = pytest.mark.anyio


class Counting:
    """A source that changes each time that it is asked, up to a number."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.asked: list[str | None] = []

    def since(self, cursor: str | None) -> tuple[str, list[Message]]:
        self.asked.append(cursor)
        number = min(self.most, int(cursor or 0) + 1)
        return str(number), [] if str(number) == cursor else [Message("nodes", f'{{"n":{number}}}')]


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "EVERY", 0.0)


async def test_each_change_is_an_event_and_in_the_end_comes_the_reason() -> None:
    source = Counting(3)
    got: list[bytes] = []
    async for event in events([source], ending=lambda: "over" if len(got) == 3 else None):
        got.append(event)
    assert got == [
        b'event: nodes\nid: 1\ndata: {"n":1}\n\n',
        b'event: nodes\nid: 2\ndata: {"n":2}\n\n',
        b'event: nodes\nid: 3\ndata: {"n":3}\n\n',
        b'event: bye\ndata: {"reason":"over"}\n\n',
    ]


async def test_a_page_goes_on_where_it_was_with_each_of_its_sources() -> None:
    one, other = Counting(9), Counting(2)
    async with aclosing(events([one, other], "7~2")) as stream:
        assert await anext(stream) == b'event: nodes\nid: 8~2\ndata: {"n":8}\n\n'
        assert await anext(stream) == b'event: nodes\nid: 9~2\ndata: {"n":9}\n\n'
    assert (one.asked[0], other.asked[0]) == ("7", "2")
    async with aclosing(events([one], "7~2")) as stream:  # the cursors of another page
        assert await anext(stream) == b'event: nodes\nid: 1\ndata: {"n":1}\n\n'


async def test_a_silent_stream_sends_comments_and_can_be_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "_SILENCE", 0.0)
    stream = events([Counting(1)])
    async with aclosing(stream):
        assert (await anext(stream)).startswith(b"event: nodes")
        assert await anext(stream) == PING
        monkeypatch.setattr(streaming, "_SILENCE", 1e9)
        with anyio.move_on_after(0.05) as scope:
            await anext(stream)
        assert scope.cancelled_caught
