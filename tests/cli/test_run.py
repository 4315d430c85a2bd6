"""`rao run` as a process against the scripted endpoint: what goes where, and how it exits."""

import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import termios
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from rao_cli.models import attempts, open_model, refuse_idle

from recursive_agent.errors import ConfigurationError
from recursive_agent.status import Status
from recursive_agent.testing import Fault, FaultKind, Request, ScriptedEndpoint, by_goal
from recursive_agent.trace.folder import trace_files
from recursive_agent.trace.tree import ExecutionTree
from tests.waiting import PATIENCE, until

from .command import KEY, RAO, environment, rao


def cell(code: str) -> str:
    return f"```python\n{code}\n```"


SEEN = threading.Event()
"""Until it is set, the crowd gets no answers."""


async def held(request: Request) -> str:
    await until(SEEN.is_set)
    return cell("finish(1)")


SCRIPT = by_goal(
    {
        "prose": cell("finish('ü plain\\ntext')"),
        "object": cell("finish({'b': [1, 2.5, None], 'a': 'ü'})"),
        "typed": [cell("finish('no number')"), cell("finish(len(context['a.txt']) + len(context['b.txt']))")],
        "stdin": cell("finish(context.upper())"),
        "never": cell("print('still thinking')"),
        "team": [
            cell("import asyncio\nr = await asyncio.gather(*[launch_subagent(f'part {i}') for i in range(14)])"),
            cell("finish(sum(r))"),
        ],
        "part": cell("finish(1)"),
        "crowd": [
            cell("import asyncio\nr = await asyncio.gather(*[launch_subagent(f'held {i}') for i in range(14)])"),
            cell("finish(sum(r))"),
        ],
        "held": held,
        "long": cell("finish(10**5000)"),
        "endless": cell("finish([2**1_000_000])"),
        "secret": cell(f"finish('{KEY}')"),
        "stuck": [cell("await launch_subagent('hang')")],
        "hang": Fault(FaultKind.HANG),
    }
)


@pytest.fixture(scope="module")
def endpoint() -> Iterator[ScriptedEndpoint]:
    with ScriptedEndpoint(SCRIPT, api_key=KEY) as endpoint:
        yield endpoint


def configured(endpoint: ScriptedEndpoint, **more: str) -> dict[str, str]:
    return environment(OPENAI_BASE_URL=endpoint.base_url, OPENAI_API_KEY=KEY, RAO_MODEL="scripted", **more)


def only_trace(folder: Path) -> Path:
    (path,) = trace_files(folder)
    return path


def test_a_text_goes_to_stdout_as_it_is_and_nothing_else_does(endpoint: ScriptedEndpoint, tmp_path: Path) -> None:
    done = rao("run", "prose", cwd=tmp_path, env=configured(endpoint))
    assert (done.returncode, done.stdout) == (0, "ü plain\ntext\n")
    summary = done.stderr.splitlines()[-1]
    assert all(part in summary for part in ("finished", "1 agent", "depth 0", "1 model call", "tokens"))
    path = only_trace(tmp_path / "traces")
    assert summary.endswith(f"rao trace show traces/{path.name}")
    assert ExecutionTree.load(path).complete


def test_other_values_go_to_stdout_as_json(endpoint: ScriptedEndpoint, tmp_path: Path) -> None:
    done = rao("run", "object", "--quiet", cwd=tmp_path, env=configured(endpoint, RAO_TRACE_DIR="kept"))
    assert json.loads(done.stdout) == {"b": [1, 2.5, None], "a": "ü"}
    assert done.stderr == ""
    assert only_trace(tmp_path / "kept")


def test_options_make_the_run_and_json_tells_all_of_it(endpoint: ScriptedEndpoint, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("äbc")
    (tmp_path / "b.txt").write_text("de")
    before = endpoint.ledger.total_tokens
    options = ["--base-url", endpoint.base_url, "--model", "scripted", "--context", "a.txt", "--context", "b.txt"]
    options += ["--returns", "int", "--max-steps", "3", "--max-depth", "0", "--max-tokens", "90000", "--seed", "7"]
    done = rao(
        "run", "typed", *options, "--trace-dir", "t", "--json", cwd=tmp_path, env=environment(OPENAI_API_KEY=KEY)
    )
    given = json.loads(done.stdout)
    assert done.returncode == 0
    assert (given["output"], given["status"], given["reason"]) == (5, "finished", None)
    assert given["usage"]["total_tokens"] == endpoint.ledger.total_tokens - before
    tree = ExecutionTree.load(tmp_path / given["trace"])
    assert (tree.run, tree.seed, tree.root.context) == (given["run"], 7, {"a.txt": "äbc", "b.txt": "de"})
    assert (tree.limits["max_steps"], tree.limits["max_depth"], tree.limits["max_tokens"]) == (3, 0, 90000)


def test_a_run_goes_on_where_one_of_several_servers_is_away(endpoint: ScriptedEndpoint, tmp_path: Path) -> None:
    urls = f"{endpoint.base_url},http://127.0.0.1:9/v1"
    key = {"OPENAI_API_KEY": KEY}
    done = rao("run", "--model", "scripted", "--base-url", urls, "team", cwd=tmp_path, env=environment(**key))
    assert (done.returncode, done.stdout) == (0, "14\n"), done.stderr


def test_stdin_can_be_the_context(endpoint: ScriptedEndpoint, tmp_path: Path) -> None:
    done = rao("run", "stdin", "--context", "-", cwd=tmp_path, env=configured(endpoint), input="loud")
    assert done.stdout == "LOUD\n"


def test_a_run_that_does_not_finish_exits_1_and_names_the_status(endpoint: ScriptedEndpoint, tmp_path: Path) -> None:
    done = rao("run", "never", "--max-steps", "2", "-q", cwd=tmp_path, env=configured(endpoint))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("rao: not finished: step_limit")
    as_json = rao("run", "never", "--max-steps", "2", "--json", cwd=tmp_path, env=configured(endpoint))
    given = json.loads(as_json.stdout)
    assert (as_json.returncode, given["output"], given["status"]) == (1, None, "step_limit")
    assert given["reason"]


KEYS = {"output", "status", "reason", "error", "partial", "usage", "run", "trace"}
"""What `--json` says of a run, however it ends."""


def failing(request: Request) -> str | Fault:
    """The root has one good child, and then its endpoint is gone."""
    if "good child" in request.first:
        return cell("finish({'found': 7})")
    return cell("await launch_subagent('good child')") if request.step == 0 else Fault.http(400, "no more")


@pytest.mark.parametrize("name", ["at once", "later", "no key", "nobody there"])
def test_json_comes_where_the_endpoint_failed_too(name: str, endpoint: ScriptedEndpoint, tmp_path: Path) -> None:
    script = failing if name == "later" else Fault.http(400, "no more")
    with ScriptedEndpoint(script, api_key=KEY) as broken:
        env = {**configured(broken), **({"OPENAI_API_KEY": "sk-other"} if name == "no key" else {})}
        if name == "nobody there":
            broken.stop()
        limit = ["--request-timeout", "0.5"] if name == "nobody there" else []
        done = rao("run", "x", "-q", "--json", *limit, cwd=tmp_path, env=env)
        billed = broken.ledger.total_tokens
    assert done.returncode == 3, done.stderr
    given = json.loads(done.stdout)
    assert set(given) == KEYS
    assert (given["output"], given["status"]) == (None, "infra_error")
    assert given["error"]["type"] == {
        "no key": "AuthenticationFailed",
        "nobody there": "EndpointUnavailable",
    }.get(name, "BadRequest")
    assert given["error"]["message"] in done.stderr
    assert given["reason"]
    assert given["usage"]["total_tokens"] == billed
    assert ExecutionTree.load(tmp_path / given["trace"]).run == given["run"]
    found = [{"agent": "0.0", "goal": "good child", "output": {"found": 7}}]
    assert given["partial"] == (found if name == "later" else [])


def test_json_says_the_same_of_every_end(endpoint: ScriptedEndpoint, tmp_path: Path) -> None:
    for options in (["prose"], ["never", "--max-steps", "1"]):
        given = json.loads(rao("run", *options, "--json", cwd=tmp_path, env=configured(endpoint)).stdout)
        assert set(given) == KEYS
        assert (given["error"], given["partial"]) == (None, [])


def test_without_a_terminal_progress_is_plain_lines(endpoint: ScriptedEndpoint, tmp_path: Path) -> None:
    done = rao("run", "team", cwd=tmp_path, env=configured(endpoint))
    assert "\x1b" not in done.stderr
    assert "agent 0.3 started: part 3" in done.stderr
    assert "agent 0.3 finished (1 step" in done.stderr


def test_on_a_terminal_the_tree_lives_on_stderr_and_stays_folded(endpoint: ScriptedEndpoint, tmp_path: Path) -> None:
    SEEN.clear()
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 10, 100, 0, 0))
    with subprocess.Popen(
        [*RAO, "run", "crowd"],
        cwd=tmp_path,
        env={**configured(endpoint), "TERM": "xterm"},
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        screen = b""
        try:
            while piece := os.read(ours, 65536):
                screen += piece
                if b"more agents" in screen:
                    SEEN.set()
        except OSError:  # Linux says EIO when the other side has closed
            pass
        os.close(ours)
        assert process.stdout is not None
        result = process.stdout.read()
    drawn = screen.decode()
    final = drawn.rpartition("\x1b[2K")[2]
    assert (process.returncode, result) == (0, b"14\n")
    assert "✓" in final
    assert "more agents" in drawn
    assert final.count("\n") <= 12
    assert drawn.count("\x1b[2K") > 8  # it was drawn more than once


# --- stopping ---


def started(endpoint: ScriptedEndpoint, folder: Path, *options: str) -> "subprocess.Popen[str]":
    """A run whose sub-agent waits for an answer that never comes."""
    process = subprocess.Popen(
        [*RAO, "run", "stuck", *options],
        cwd=folder,
        env=configured(endpoint),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "agent 0.0 started" in line:
            return process
    raise AssertionError(f"it ended with {process.wait()} before its sub-agent started")


def test_json_comes_of_a_run_that_a_signal_ended(endpoint: ScriptedEndpoint, tmp_path: Path) -> None:
    with started(endpoint, tmp_path, "--json") as process:
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=PATIENCE)
    given = json.loads(output)
    assert process.returncode == 143
    assert set(given) == KEYS
    assert (given["status"], given["reason"], given["output"]) == ("cancelled", "interrupted by SIGTERM", None)
    assert ExecutionTree.load(tmp_path / given["trace"]).run == given["run"]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_stops_cleanly_and_says_where_the_trace_is(
    endpoint: ScriptedEndpoint, tmp_path: Path, number: signal.Signals, status: int
) -> None:
    with started(endpoint, tmp_path) as process:
        helpers = psutil.Process(process.pid).children(recursive=True)
        assert helpers  # the sandbox of two agents
        process.send_signal(number)
        output, errors = process.communicate(timeout=PATIENCE)
    path = only_trace(tmp_path / "traces")
    assert (process.returncode, output) == (status, "")
    assert f"rao: interrupted · open the trace: rao trace show traces/{path.name}" in errors
    assert "Traceback" not in errors
    tree = ExecutionTree.load(path)
    assert tree.complete
    assert [node.status for node in tree.walk()] == [Status.CANCELLED, Status.CANCELLED]
    assert not [helper for helper in psutil.wait_procs(helpers, timeout=PATIENCE)[1] if helper.is_running()]


def test_a_killed_run_leaves_a_trace_that_says_so(endpoint: ScriptedEndpoint, tmp_path: Path) -> None:
    with started(endpoint, tmp_path) as process:
        during = rao("trace", "ls", cwd=tmp_path)
        process.kill()
    after = rao("trace", "ls", cwd=tmp_path)
    assert " running " in during.stdout
    assert " killed " in after.stdout
    shown = rao("trace", "show", cwd=tmp_path)
    assert "the process was killed" in shown.stdout
    assert "never ended" not in shown.stdout  # nobody claims to know more than that


# --- errors: one sentence, no traceback; 2 where the command is wrong, 3 where the endpoint failed ---


def refused(*arguments: str, cwd: Path, env: dict[str, str], status: int = 2) -> str:
    done = rao(*arguments, cwd=cwd, env=env)
    assert (done.returncode, done.stdout) == (status, ""), done.stderr
    assert "Traceback" not in done.stderr
    assert KEY not in done.stderr
    return done.stderr


def test_a_refused_key_is_one_sentence_without_the_key(endpoint: ScriptedEndpoint, tmp_path: Path) -> None:
    wrong = KEY.replace("test", "prod")
    env = {**configured(endpoint), "OPENAI_API_KEY": wrong}
    error = refused("run", "prose", "-q", cwd=tmp_path, env=env, status=3)
    assert error.count("\n") == 1
    assert "key" in error
    assert wrong not in error


def test_an_unknown_model_is_one_sentence(endpoint: ScriptedEndpoint, tmp_path: Path) -> None:
    error = refused("run", "prose", "-q", "--model", "absent", cwd=tmp_path, env=configured(endpoint), status=3)
    assert error.count("\n") == 1
    assert "absent" in error


def test_an_endpoint_that_does_not_answer_in_time_is_status_3(endpoint: ScriptedEndpoint, tmp_path: Path) -> None:
    with ScriptedEndpoint(Fault(FaultKind.HANG), api_key=KEY) as silent:
        env = {**configured(silent), "RAO_MODEL": "scripted"}
        error = refused("run", "x", "-q", "--request-timeout", "0.05", cwd=tmp_path, env=env, status=3)
    assert error.count("\n") == 1
    assert "0.05 s" in error


def test_the_help_names_every_exit_status(tmp_path: Path) -> None:
    said = " ".join(rao("run", "--help", cwd=tmp_path).stdout.split())
    assert "Exit status: 0 finished, 1 not finished, 2 wrong usage, 3 the endpoint failed, 130 interrupted." in said
    assert "--request-timeout" in said


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_a_request_timeout_that_is_none_is_wrong_usage(seconds: float) -> None:
    with pytest.raises(ConfigurationError, match="--request-timeout must be a number of seconds above 0"):
        attempts(seconds)
    with pytest.raises(ConfigurationError, match="--request-timeout must be a number of seconds above 0"):
        open_model("m", "http://localhost:9/v1", request_timeout=seconds)
    with pytest.raises(ConfigurationError, match="only with an endpoint"):
        refuse_idle(seconds)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["x", "--base-url", "nonsense", "--model", "m"], "http"),
        (
            ["x", "--model", "m", "--base-url", "http://localhost:9/v1", "--max-depth", "-1"],
            "--max-depth must be at least 0",
        ),
        (["x", "--model", "m", "--base-url", "http://localhost:9/v1", "--interface", "smoke"], "chat or tokens"),
        (["x", "--model", "m", "--base-url", "http://localhost:9/v1", "--returns", "int()"], "--returns"),
        (["x", "--model", "m", "--base-url", "http://localhost:9/v1", "--context", "absent"], "absent cannot be read"),
        (["  ", "--model", "m", "--base-url", "http://localhost:9/v1"], "goal"),
        (["--model", "m"], "give a goal"),
        (["x", "--demo"], "leave out either GOAL or --demo"),
        (["--demo", "--model", "m"], "leave out --base-url and other models"),
        (["x", "--bogus"], "--bogus"),
        (["x", "--max-depth", "deep"], "max-depth"),
        (["x", "y"], "y"),
    ],
)
def test_wrong_usage_is_explained(tmp_path: Path, arguments: list[str], complaint: str) -> None:
    error = refused("run", *arguments, cwd=tmp_path, env=environment(OPENAI_API_KEY=KEY))
    assert complaint in error
    assert not (tmp_path / "traces").exists()


def test_a_goal_without_an_endpoint_is_told_where_to_point_rao(tmp_path: Path) -> None:
    error = refused("run", "write a poem", cwd=tmp_path, env=environment())
    assert all(name in error for name in ("vLLM", "Ollama", "hosted", "--base-url", "OPENAI_API_KEY"))


@pytest.mark.parametrize(
    ("closed", "shown"), [("<&-", "ü plain\ntext\n"), (">&-", ""), ("2>&-", "ü plain\ntext\n"), ("<&- >&- 2>&-", "")]
)
def test_closed_streams_do_no_harm(endpoint: ScriptedEndpoint, tmp_path: Path, closed: str, shown: str) -> None:
    command = [*RAO, "run", "prose", "--model", "scripted", "--base-url", endpoint.base_url]
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {closed}', "sh", *command],
        cwd=tmp_path,
        env=environment(OPENAI_API_KEY=KEY),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, shown), done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["trace", "ls", "."]])
def test_output_that_cannot_be_written_is_one_sentence(tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "empty.jsonl").touch()
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*RAO, *arguments],
            cwd=tmp_path,
            env=environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1] == "rao: the output cannot be written (No space left on device)"


def test_why_nothing_was_answered_stands_beside_the_time_out(tmp_path: Path) -> None:
    done = rao("run", "g", "--model", "m", "--base-url", "http://127.0.0.1:9/v1", "--timeout", "2", cwd=tmp_path)
    assert done.returncode == 1
    assert "the run's 2 seconds were used up; the last attempt at a call failed" in done.stderr


def test_a_trace_folder_that_cannot_be_written_is_an_error_at_once(endpoint: ScriptedEndpoint, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    error = refused("run", "prose", "--trace-dir", "file/x", cwd=tmp_path, env=configured(endpoint))
    assert "cannot be written" in error


def test_the_key_never_enters_the_trace(endpoint: ScriptedEndpoint, tmp_path: Path) -> None:
    done = rao("run", "secret", cwd=tmp_path, env=configured(endpoint))
    assert done.returncode == 0
    data = only_trace(tmp_path / "traces").read_text()
    assert KEY not in data
    assert "[redacted]" in data


def test_whole_numbers_of_any_length_are_shown(endpoint: ScriptedEndpoint, tmp_path: Path) -> None:
    done = rao("run", "long", "-q", cwd=tmp_path, env=configured(endpoint))
    assert (done.returncode, done.stdout) == (0, f"1{'0' * 5000}\n")
    done = rao("run", "endless", "-q", cwd=tmp_path, env=configured(endpoint))
    assert done.returncode == 0
    assert json.loads(done.stdout) == [hex(2**1_000_000)]
    for options in ([], ["--json"], ["--node", "0"], ["--node", "0", "--json"]):
        shown = rao("trace", "show", *options, cwd=tmp_path)
        assert (shown.returncode, shown.stderr) == (0, "")
