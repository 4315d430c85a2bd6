"""The server of a page: what it serves, whom it refuses, and how it ends."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from recursive_agent.errors import ConfigurationError
from recursive_agent.trace.store import TraceWriter
from recursive_agent.viewer.server import ViewServer

from ..trace.events import model_called, node_ended, node_started, run_started
from ..waiting import wait_until
from .sse import Page, following, request
from .trees import Did, record


def _write(path: Path, did: Did, run: str = "r1") -> Path:
    with TraceWriter(path) as writer:
        for event in record(did, run=run):
            writer.append(event)
    return path


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    return _write(tmp_path / "run.jsonl", Did("plan", below=[Did("sum"), Did("<script>alert(1)</script>")]))


@contextmanager
def _ending(server: ViewServer, reason: str) -> Iterator[None]:
    closing = threading.Thread(target=server.close, args=(reason,))
    yield closing.start()
    closing.join()


def test_the_page_comes_first_and_then_the_run(trace: Path) -> None:
    with ViewServer(trace) as server:
        status, headers, body = request(server.url)
        assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert b'"live":{"url":"events"}' in body
        assert b"<script>alert" not in body
        assert not server.watched
        with following(f"{server.url}events") as events:
            events.next()
            assert {name: node["goal"] for name, node in events.page.nodes.items()} == {
                "0": "plan",
                "0.0": "sum",
                "0.1": "<script>alert(1)</script>",
            }
            assert server.watched


def test_a_run_is_followed_from_before_its_first_event_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with ViewServer(path) as server, following(f"{server.url}events") as events:
        events.next()
        assert events.page.head is None
        with TraceWriter(path) as writer:
            for event in record(Did("plan", below=[Did("sum"), Did("find")])):
                writer.append(event)
        for _ in events:
            if events.page.head and events.page.head["complete"]:
                break
        assert {name: node["status"] for name, node in events.page.nodes.items()} == dict.fromkeys(
            ("0", "0.0", "0.1"), "finished"
        )


def test_a_page_that_connects_again_gets_what_it_lacks(tmp_path: Path) -> None:
    with ViewServer(tmp_path / "run.jsonl") as server, TraceWriter(tmp_path / "run.jsonl") as writer:
        for event in (run_started(), node_started("0"), node_started("0.0", step=1, call=0)):
            writer.append(event)
        with following(f"{server.url}events") as events:
            events.next()
            page = events.page
        writer.append(node_ended("0.0", 5.0, result=3))
        with following(f"{server.url}events", page) as events:
            _, data = events.next()
            assert (data["whole"], [node["id"] for node in data["nodes"]]) == (False, ["0.0"])
        assert page.nodes["0.0"]["status"] == "finished"


def test_several_pages_follow_and_a_slow_one_gets_the_latest_state_once(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with ViewServer(path) as server, TraceWriter(path) as writer:
        writer.append(run_started())
        writer.append(node_started("0"))
        with following(f"{server.url}events") as slow, following(f"{server.url}events") as quick:
            quick.next()
            sent = 0
            for number in range(1, 120):  # far more than the sockets between the two hold
                writer.append(model_called("0", number, text="x" * 90_000))
                if number % 10 == 0:
                    quick.next()
                    sent += 1
            writer.append(node_ended("0", 9.0))
            while quick.page.nodes["0"]["status"] != "finished":
                quick.next()
            got = 0
            while "0" not in slow.page.nodes or slow.page.nodes["0"]["status"] != "finished":
                slow.next()
                got += 1
            assert got < sent
            assert slow.page.nodes == quick.page.nodes


def test_pages_get_the_last_state_and_the_reason_when_the_server_ends(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with ViewServer(path) as server, following(f"{server.url}events") as events:
        events.next()
        _write(path, Did("plan", below=[Did("sum")]))
        with _ending(server, "The run has ended."):
            for _ in events:
                pass
        assert events.page.bye == "The run has ended."
        assert events.page.head is not None
        assert (events.page.head["complete"], len(events.page.nodes)) == (True, 2)
        server.close()
    with pytest.raises(OSError, match="refused"):
        request(server.url)


def test_a_page_that_takes_nothing_does_not_hold_up_the_end(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    _write(path, Did("plan", ("x" * 90_000,) * 200))
    with ViewServer(path) as server, following(f"{server.url}events"):
        wait_until(lambda: server.watched)
        server.close()
        assert not server.watched


def test_a_folder_shows_runs_that_begin_go_on_and_are_removed(tmp_path: Path) -> None:
    first = _write(tmp_path / "a.jsonl", Did("plan", below=[Did("sum")]), "aa")
    (tmp_path / "notes.jsonl").write_text("not a trace\n")
    with ViewServer(tmp_path) as server, following(f"{server.url}events") as events:
        events.next()
        rows = events.page.rows
        assert (rows["a.jsonl"]["run"], rows["a.jsonl"]["agents"], rows["a.jsonl"]["status"]) == ("aa", 2, "finished")
        assert "notes.jsonl" in rows
        (tmp_path / "below").mkdir()
        with TraceWriter(tmp_path / "below" / "b.jsonl") as writer:
            writer.append(run_started(run="bb"))
            writer.append(node_started("0"))
            while "below/b.jsonl" not in rows:
                events.next()
            with following(f"{server.url}events?run=bb") as run:
                while "0" not in run.page.nodes:
                    run.next()
                writer.append(node_ended("0", 2.0, result=1))
                while run.page.nodes["0"]["status"] != "finished":
                    run.next()
            while rows["below/b.jsonl"]["status"] != "finished":
                events.next()
        (tmp_path / "copy.jsonl").write_bytes(first.read_bytes())
        while "copy.jsonl" not in rows:
            events.next()
        assert (rows["copy.jsonl"]["run"], rows["copy.jsonl"]["problem"]) == (None, "the same run as a.jsonl")
        first.unlink()
        while "a.jsonl" in rows or rows["copy.jsonl"]["run"] != "aa":
            events.next()


def test_runs_of_a_folder_and_their_comparison_are_given_when_asked_for(tmp_path: Path) -> None:
    _write(tmp_path / "a.jsonl", Did("plan", below=[Did("sum")]), "aa")
    _write(tmp_path / "b.jsonl", Did("plan", below=[Did("sum"), Did("find")]), "bb")
    with ViewServer(tmp_path) as server:
        status, headers, body = request(f"{server.url}run/bb.json")
        assert (status, headers["content-type"]) == (200, "application/json; charset=utf-8")
        assert [node["id"] for node in json.loads(body)["nodes"]] == ["0", "0.0", "0.1"]
        compared = json.loads(request(f"{server.url}compare/aa/bb.json")[2])
        assert [(pair["left"], pair["right"]) for pair in compared["pairs"]] == [
            ("0", "0"),
            ("0.0", "0.0"),
            (None, "0.1"),
        ]
        for path in ("run/cc.json", "compare/aa/cc.json", "events?run=cc", "run/..%2Fa.json", "nothing"):
            assert request(server.url + path)[0] == 404


def test_only_who_knows_the_address_gets_anything(trace: Path) -> None:
    with ViewServer(trace) as server:
        base = f"http://127.0.0.1:{urlsplit(server.url).port}"
        wrong = f"{urlsplit(server.url).path[:-2]}/"
        for path in ("/", "/x/", "/x/events", "/x/run/r1.json", wrong, "/open/x", "/%C3%A9/"):
            status, _, body = request(base + path)
            assert (status, b"plan" in body) == (404, False)
        with ViewServer(trace) as other:
            assert urlsplit(other.url).path != urlsplit(server.url).path
        with pytest.raises(OSError, match=r"refused|unreachable|assign"):
            socket.create_connection(("::1", urlsplit(server.url).port or 0), timeout=5)


@pytest.mark.parametrize("path", ["", "events", "run/r1.json"])
@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1", "", "127.0.0.1:1"])
def test_a_page_under_another_name_that_leads_here_is_refused(trace: Path, path: str, host: str) -> None:
    with ViewServer(trace) as server:
        assert request(server.url + path, Host=host)[0] in (400, 403)
        assert request(server.url, Host=f"localhost:{urlsplit(server.url).port}")[0] == 200


def test_other_pages_and_other_methods_are_refused(trace: Path) -> None:
    with ViewServer(trace) as server:
        for path in ("events", "run/r1.json"):
            for site in ("cross-site", "same-site"):
                assert request(server.url + path, Sec_Fetch_Site=site, Sec_Fetch_Mode="no-cors")[0] == 403
        assert request(server.url, Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate")[0] == 200  # a link to it
        assert request(f"{server.url}run/r1.json", Sec_Fetch_Site="same-origin", Sec_Fetch_Mode="cors")[0] == 200
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH"):
            assert request(server.url, method=method)[0] == 405
        assert request(server.url, method="HEAD")[::2] == (200, b"")


def test_every_answer_says_that_it_is_for_this_page_alone(trace: Path) -> None:
    with ViewServer(trace) as server:
        for path in ("", "run/r1.json", "nothing"):
            _, headers, _ = request(server.url + path, Origin="http://evil.example")
            assert not [name for name in headers if name.startswith("access-control")]
            assert "frame-ancestors 'none'" in headers["content-security-policy"]
            assert (headers["cache-control"], headers["referrer-policy"]) == ("no-store", "no-referrer")
            assert headers["cross-origin-resource-policy"] == "same-origin"
            assert headers["x-content-type-options"] == "nosniff"
        with following(f"{server.url}events") as events:
            assert events.response.getheader("Cache-Control") == "no-store"
            assert events.response.getheader("Access-Control-Allow-Origin") is None


def test_a_ticket_leads_to_the_page_once(trace: Path) -> None:
    with ViewServer(trace) as server:
        ticket = server.ticket()
        assert urlsplit(server.url).path not in ticket
        status, headers, _ = request(ticket)
        assert (status, headers["location"]) == (303, urlsplit(server.url).path)
        assert request(ticket)[0] == 404


def test_a_port_can_be_chosen_and_one_that_is_taken_is_named(trace: Path) -> None:
    with ViewServer(trace) as server:
        port = urlsplit(server.url).port or 0
        with pytest.raises(ConfigurationError, match=f"port {port} .*choose another"), ViewServer(trace, port=port):
            pass
    with ViewServer(trace, port=port) as server:
        assert urlsplit(server.url).port == port
    with pytest.raises(ConfigurationError, match="choose another"), ViewServer(trace, port=70_000):
        pass


def test_a_file_that_is_no_trace_is_named_on_the_page(tmp_path: Path) -> None:
    path = tmp_path / "notes.jsonl"
    path.write_text("not a trace\n")
    with ViewServer(path) as server, following(f"{server.url}events") as events:
        events.next()
        assert "not a trace of rao" in (events.page.problem or "")
        assert b"not a trace of rao" in request(server.url)[2]


def test_what_does_not_fit_a_page_is_not_kept_for_it(trace: Path) -> None:
    with ViewServer(trace) as server:
        pages = [Page() for _ in range(3)]
        for page in pages:
            with following(f"{server.url}events", page) as events:
                events.next()
        wait_until(lambda: not server.watched)  # a page that is closed is noticed
