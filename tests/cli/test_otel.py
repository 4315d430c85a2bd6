"""`--otel`: runs and records reach a collector over HTTP, the same trace however often it is sent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from recursive_agent.testing import ScriptedEndpoint, by_goal
from tests.agent.helpers import py
from tests.trace.events import node_started

from .collector import Collector, collecting
from .command import KEY, environment, rao
from .test_export import record


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


def ids(collector: Collector) -> set[tuple[bytes, bytes, bytes, str]]:
    return {(span.trace_id, span.span_id, span.parent_span_id, span.name) for span in collector.spans}


def test_a_run_is_sent_while_it_goes_on_and_its_record_is_the_same_trace(collector: Collector, tmp_path: Path) -> None:
    script = by_goal({"root": [py("finish(await launch_subagent('leaf'))")], "leaf": [py("finish(7)")]})
    with ScriptedEndpoint(script) as endpoint:
        env = environment(
            OPENAI_BASE_URL=endpoint.base_url,
            OPENAI_API_KEY=KEY,
            OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
            OTEL_SERVICE_NAME="research",
        )
        done = rao("run", "root", "--model", "scripted", "--otel", "--quiet", cwd=tmp_path, env=env)
    assert (done.returncode, done.stdout) == (0, "7\n"), done.stderr
    live = ids(collector)
    assert sorted(name for *_, name in live) == sorted(
        [
            *["chat scripted"] * 2,
            *["execute_tool python"] * 2,
            "execute_tool launch_subagent",
            *["invoke_agent rao"] * 2,
        ]
    )
    assert (collector.services, collector.paths) == ({"research"}, {"/v1/traces"})
    assert not any(KEY.encode() in span.SerializeToString() for span in collector.spans)
    for _ in range(2):
        collector.spans.clear()
        sent = rao("trace", "export", "traces", "--otel", "--otel-endpoint", collector.url, cwd=tmp_path)
        assert (sent.returncode, sent.stdout) == (0, "1 run sent\n"), sent.stderr
        assert ids(collector) == live
    assert not (tmp_path / "rows.parquet").exists()


def test_a_folder_is_sent_without_what_cannot_be_read(collector: Collector, tmp_path: Path) -> None:
    record(tmp_path / "traces", "good", 1.0, 0.5)
    killed = record(tmp_path / "traces" / "deeper", "killed", ended=False)
    (tmp_path / "traces" / "empty.jsonl").touch()
    sent = rao("trace", "export", "traces", "--otel", "--otel-endpoint", collector.url, cwd=tmp_path)
    assert (sent.returncode, sent.stdout) == (0, "2 runs sent\n"), sent.stderr
    assert "1 unreadable" in sent.stderr
    assert len({span.trace_id for span in collector.spans}) == 2
    errors = {
        each.value.string_value for span in collector.spans for each in span.attributes if each.key == "error.type"
    }
    assert errors == {"interrupted"}
    assert collector.services == {"rao"}
    assert node_started().goal.encode() not in b"".join(span.SerializeToString() for span in collector.spans)
    collector.spans.clear()
    rao("trace", "export", str(killed), "--otel", "--otel-endpoint", collector.url, "--otel-content", cwd=tmp_path)
    assert node_started().goal.encode() in b"".join(span.SerializeToString() for span in collector.spans)


def test_what_goes_wrong_is_said_in_a_sentence(collector: Collector, tmp_path: Path) -> None:
    record(tmp_path / "traces", "good", 1.0)
    collector.status = 400
    refused = rao("trace", "export", "traces", "--otel", "--otel-endpoint", collector.url, cwd=tmp_path)
    assert refused.returncode == 3
    assert "the collector did not take all spans" in refused.stderr
    assert "Traceback" not in refused.stderr
    (tmp_path / "none").mkdir()
    for arguments, words in (
        (("none", "--otel"), "no run in none can be sent"),
        (("traces", "--otel", "--otel-endpoint", "localhost"), "such as http://localhost:4318"),
        (("traces", "--otel-endpoint", collector.url), "work only with --otel"),
    ):
        wrong = rao("trace", "export", *arguments, cwd=tmp_path)
        assert (wrong.returncode, wrong.stdout) == (2, ""), wrong.stderr
        assert words in wrong.stderr
