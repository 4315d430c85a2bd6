"""What searches: an index of local pages, and an API over real HTTP with everything that goes wrong there."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rao_rl.envs.deepdive import Corpus, NoSuchPage, Page, SearchUnavailable, WebSearch, open_library
from rao_rl.envs.deepdive.corpus import match_expression
from rao_rl.envs.deepdive.tools import SearchTools
from recursive_agent import ConfigurationError
from recursive_agent.model.retry import Retries
from recursive_agent.testing.http import Exchange, HttpServer

from .worlds import caller

PAGES = [
    Page(url="a", title="Owls", text="Owls hunt at night. A barn owl weighs half a kilo."),
    Page(url="b", title="Foxes", text="A fox hunts owls, and is hunted in turn."),
    Page(url="c", title="Élan", text="The café by the night train."),
]
CORPUS = Corpus.of(PAGES)


# -- local pages ------------------------------------------------------------------------------------------------------


def found(query: str, most: int = 5, corpus: Corpus = CORPUS) -> list[str]:
    async def search() -> list[str]:
        return [each.url for each in await corpus.search(query, most)]

    return anyio.run(search)


@pytest.mark.parametrize(
    ("query", "urls"),
    [
        ("owls", ["a", "b"]),  # the title counts most
        ("OWLS", ["a", "b"]),
        ("cafe elan", ["c"]),
        ('"barn owl"', ["a"]),
        ('"owl barn"', []),
        ("zebra", []),
        ("", []),
        ('"" ( ) * - ^ :', []),
        ("fox AND zebra", ["b"]),
        ("title: NOT fox", ["b"]),
        ("fox\x00fox", ["b"]),
        ('"fox', ["b"]),
        ("fox\ud800", ["b"]),
    ],
)
def test_a_query_is_words_and_phrases_and_nothing_else(query: str, urls: list[str]) -> None:
    assert found(query) == urls


def test_results_are_bounded_and_have_an_extract_and_a_score() -> None:
    async def search() -> Any:
        return await CORPUS.search("owls", 1)

    (one,) = anyio.run(search)
    assert one.as_dict() == {
        "url": "a",
        "title": "Owls",
        "content": PAGES[0].text,
        "score": one.score,
        "raw_content": None,
    }
    assert 0 <= one.score < 1


@settings(max_examples=100)
@given(st.text(st.characters(codec=None), max_size=30) | st.text('"*(){}^:-+ANDORTaé\x00', max_size=20))
def test_no_query_is_a_syntax_error(query: str) -> None:
    match = match_expression(query)
    if match is not None:
        CORPUS._rows("SELECT rowid FROM words WHERE words MATCH ?", match)


def test_an_unknown_address_is_answered_with_what_to_do() -> None:
    async def view(url: str) -> str:
        return await CORPUS.page(url)

    assert anyio.run(view, "b") == PAGES[1].text
    with pytest.raises(NoSuchPage, match="use the url of a result of search_web"):
        anyio.run(view, "z")


def write(file: Path, pages: list[Page]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"url": page.url, "title": page.title, "text": page.text} for page in pages]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_a_library_is_indexed_once_and_again_when_its_pages_change(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    write(tmp_path / "pages/one.jsonl", PAGES[:2])
    (tmp_path / "pages/notes").mkdir()
    (tmp_path / "pages/notes/bats.md").write_text("# Bats\n\nBats and owls share a barn.\n")
    corpus = open_library(tmp_path / "pages", cache)
    assert len(corpus) == 3
    assert found("bats", corpus=corpus) == ["notes/bats.md"]
    (kept,) = cache.iterdir()
    before = kept.stat().st_mtime_ns
    assert len(open_library(tmp_path / "pages", cache)) == 3
    assert kept.stat().st_mtime_ns == before
    write(tmp_path / "pages/one.jsonl", PAGES)
    assert len(open_library(tmp_path / "pages", cache)) == 4
    assert len(list(cache.iterdir())) == 2


@pytest.mark.parametrize("damage", [b"", b"no database", None])
def test_a_damaged_index_is_made_anew(tmp_path: Path, damage: bytes | None) -> None:
    source = write(tmp_path / "pages.jsonl", PAGES)
    open_library(source, tmp_path / "cache")
    (kept,) = (tmp_path / "cache").iterdir()
    kept.write_bytes(kept.read_bytes()[:4096] if damage is None else damage)
    assert found("owls", corpus=open_library(source, tmp_path / "cache")) == ["a", "b"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there are no pages at"),
        ("", "the corpus has no pages"),
        ('{"url": "a", "title": "A", "text"', "line 1 is not JSON; the file may be cut short"),
        ('{"url": "a", "title": "A"}', "line 1 must be an object with the texts url, title and text"),
        ('{"url": "a", "title": "A", "text": 3}', "line 1 must be an object"),
        ("[1]", "line 1 must be an object"),
        ('{"url": "a", "title": "A", "text": "A"}\n' * 2, "two pages have the url 'a'"),
        (b"\xff\xfe", "is not text in UTF-8"),
    ],
)
def test_pages_that_cannot_be_read_are_named_in_a_sentence(tmp_path: Path, content: Any, message: str) -> None:
    file = tmp_path / "pages.jsonl"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigurationError, match=message):
        open_library(file, tmp_path / "cache")
    assert not (tmp_path / "cache").exists() or not list((tmp_path / "cache").iterdir())


# -- an API -----------------------------------------------------------------------------------------------------------

ROW = {"url": "https://owls.example", "title": "Owls", "content": "Owls hunt.", "score": 0.9, "raw_content": None}
ANSWER = {"query": "owls", "answer": None, "images": [], "results": [ROW], "response_time": 0.1}
Handler = Callable[[Exchange], Awaitable[None]]


class Api:
    """An API on this machine: each request is answered by the next of `answers`, the last of them again and again."""

    def __init__(self, *answers: Callable[[Exchange], Any]) -> None:
        self.answers = list(answers)
        self.requests: list[Exchange] = []
        self.http = HttpServer(self.handle)

    async def handle(self, exchange: Exchange) -> None:
        self.requests.append(exchange)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        made = answer(exchange)
        if made is not None:
            await made

    def client(self, *, timeout: float = 20.0, limit: int = 2) -> WebSearch:
        retries = Retries(limit=limit, base=0.001, cap=0.002, patience=0.02)
        return WebSearch(key="secret-key", url=f"http://127.0.0.1:{self.http.port}", timeout=timeout, retries=retries)


@contextmanager
def serving(*answers: Callable[[Exchange], Any]) -> Iterator[Api]:
    api = Api(*answers)
    api.http.start()
    try:
        yield api
    finally:
        api.http.stop()


def says(status: int, body: Any, **headers: str) -> Callable[[Exchange], None]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda exchange: exchange.send_json(status, body, headers=named)


GOOD = says(200, ANSWER)
BUSY = says(429, {"detail": {"error": "Too many requests"}}, retry_after="0.01")
DOWN = says(503, {"detail": {"error": "Service unavailable"}})
HTML = lambda exchange: exchange.send(200, b"<html>Hello</html>", content_type="text/html")  # noqa: E731
TRUNCATED = lambda exchange: exchange.send(200, b'{"query": "owls", "results": [{"url": "ht')  # noqa: E731
CUT_OFF = lambda exchange: (exchange.send(200, json.dumps(ANSWER).encode(), only=20), exchange.drop())[1]  # noqa: E731
SLOW = lambda exchange: anyio.Event().wait()  # noqa: E731


@pytest.mark.anyio
async def test_a_search_is_asked_for_and_read_in_the_format_of_the_api() -> None:
    with serving(GOOD) as api:
        assert [each.as_dict() for each in await api.client().search("owls", 3)] == [ROW]
        (request,) = api.requests
    assert (request.method, request.path) == ("POST", "/search")
    assert request.headers["authorization"] == "Bearer secret-key"
    assert json.loads(request.body) == {"query": "owls", "max_results": 3}


@pytest.mark.anyio
async def test_a_page_is_extracted_and_one_that_cannot_be_is_no_outage() -> None:
    page = {"url": "https://owls.example", "raw_content": "All about owls."}
    failed = {"results": [], "failed_results": [{"url": "https://gone.example", "error": "404"}]}
    with serving(says(200, {"results": [page], "failed_results": []}), says(200, failed)) as api:
        tools = SearchTools(api.client())
        assert await tools.view_page("https://owls.example", ctx=caller()) == "All about owls."
        with pytest.raises(LookupError, match="cannot be read: use another result"):
            await tools.view_page("https://gone.example", ctx=caller())
    assert json.loads(api.requests[0].body) == {"urls": ["https://owls.example"]}
    assert tools.outages == {}


@pytest.mark.anyio
@pytest.mark.parametrize("fault", [BUSY, DOWN, HTML, TRUNCATED, CUT_OFF, lambda exchange: exchange.drop()])
async def test_what_passes_is_waited_out(fault: Callable[[Exchange], Any]) -> None:
    with serving(fault, GOOD) as api:
        client = api.client()
        client.retries = Retries(limit=2, base=0.001, cap=0.002, patience=20.0)
        assert len(await client.search("owls", 3)) == 1
        assert len(api.requests) == 2


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (BUSY, "takes no more calls now"),
        (DOWN, "Service unavailable"),
        (HTML, "the answer is not JSON"),
        (TRUNCATED, "the answer is not JSON"),
        (says(200, {"hello": 1}), "no list of results, but hello"),
        (says(200, {"results": [{"title": "no url"}]}), "a result is no object with a url"),
        (says(200, [1, 2]), "a JSON list, not an object"),
        (says(400, {"detail": {"error": "Query is invalid"}}), "refused this call .*Query is invalid"),
        (SLOW, "no whole answer within"),
    ],
)
async def test_what_lasts_is_said_to_the_agent_and_recorded_for_it_and_its_ancestors(fault: Any, words: str) -> None:
    with serving(fault) as api:
        tools = SearchTools(api.client(timeout=0.05 if fault is SLOW else 20.0))
        with pytest.raises(SearchUnavailable, match=words) as error:
            await tools.search_web("owls", ctx=caller("0.2.1"))
    assert error.value.lasting is None
    assert tools.outages.keys() == {"0.2.1", "0.2", "0"}
    assert tools.failed("0.2")
    assert not tools.failed("0.1")
    assert "secret-key" not in str(error.value)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "refused the key .* set RAO_SEARCH_API_KEY to one that is valid"),
        (432, "has nothing left .* add credit"),
        (404, "there is no search API at .* set RAO_SEARCH_URL"),
    ],
)
async def test_what_the_user_must_change_is_a_configuration_error(status: int, words: str) -> None:
    with serving(says(status, {"detail": {"error": "the key secret-key is refused"}})) as api:
        client = api.client()
        with pytest.raises(ConfigurationError, match=words) as error:
            client.check()  # within a running event loop
        assert "secret-key" not in str(error.value)
        tools = SearchTools(client)
        with pytest.raises(SearchUnavailable, match="not available in this run"):
            await tools.search_web("owls", ctx=caller("0.1"))
        with pytest.raises(ConfigurationError, match=words):
            tools.failed("0")
        assert not tools.failed("0.2")
        assert len(api.requests) == 2  # no attempt is made again


def test_an_api_that_is_down_passes_the_check_and_is_asked_once() -> None:
    with serving(DOWN) as api:
        api.client().check()
        assert len(api.requests) == 1


@pytest.mark.anyio
async def test_many_agents_search_at_once_and_no_connection_is_left_open() -> None:
    with serving(GOOD) as api:
        client = api.client()
        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(client.search, "owls", 1)
        assert len(api.requests) == 20
        assert client._loops == {}


def test_a_key_is_needed_and_taken_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAO_SEARCH_API_KEY", "TAVILY_API_KEY", "RAO_SEARCH_URL"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigurationError, match="searching the web needs a key: set RAO_SEARCH_API_KEY"):
        WebSearch()
    monkeypatch.setenv("TAVILY_API_KEY", "abc")
    assert WebSearch().endpoint.base_url == "https://api.tavily.com"
    assert "abc" not in repr(WebSearch().endpoint)
    with pytest.raises(ConfigurationError, match="needs an http:// or https:// URL"):
        WebSearch(url="ftp://x")
    with pytest.raises(ConfigurationError, match="more than 0 seconds"):
        WebSearch(timeout=0)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("query", "most", "message"),
    [
        ("  ", 5, "the query is empty"),
        ("x" * 401, 5, "at most 400"),
        ("owls", 0, "from 1 to 20"),
        ("owls", 21, "from 1"),
    ],
)
async def test_wrong_arguments_are_the_agents_own(query: str, most: int, message: str) -> None:
    tools = SearchTools(CORPUS)
    with pytest.raises(ValueError, match=message):
        await tools.search_web(query, most, ctx=caller())
    assert tools.outages == {}
