"""`rao doctor` as a process: what it says of this machine, and of endpoints that are well, wrong or away."""

import socket
from pathlib import Path

import pytest

from recursive_agent.testing import ScriptedEndpoint

from .command import KEY, environment, rao


def report(folder: Path, *arguments: str, **variables: str) -> tuple[int, dict[str, tuple[str, str]]]:
    """Exit status, and verdict and text by subject."""
    done = rao("doctor", *arguments, cwd=folder, env=environment(**variables))
    assert "Traceback" not in done.stdout + done.stderr
    assert KEY not in done.stdout + done.stderr
    lines = [line.split(maxsplit=2) for line in done.stdout.splitlines()]
    return done.returncode, {subject: (verdict, text) for verdict, subject, text in lines}


def test_this_machine_can_run_agents(tmp_path: Path) -> None:
    code, found = report(tmp_path)
    assert list(found) == ["python", "packages", "sandbox", "files", "policy", "traces", "endpoint"]
    assert found["python"][0] == "ok"
    assert found["sandbox"][0] in ("ok", "warn")
    assert "process" in found["sandbox"][1]
    assert found["endpoint"][0] == "warn"
    assert "--base-url" in found["endpoint"][1]
    assert code == int(any(verdict == "fail" for verdict, _ in found.values()))


def test_an_endpoint_is_asked_for_its_models(tmp_path: Path) -> None:
    with ScriptedEndpoint("", models=("one", "two"), api_key=KEY) as endpoint:
        _, found = report(tmp_path, "--base-url", endpoint.base_url, OPENAI_API_KEY=KEY)
        assert found["endpoint"] == ("ok", f"{endpoint.base_url} has one, two")
        code, found = report(tmp_path, OPENAI_BASE_URL=endpoint.base_url, OPENAI_API_KEY=KEY, RAO_MODEL="three")
        assert (code, found["endpoint"][0]) == (1, "fail")
        assert "no model three" in found["endpoint"][1]
        code, found = report(tmp_path, OPENAI_BASE_URL=endpoint.base_url, OPENAI_API_KEY="sk-wrong-key-0000")
        assert (code, found["endpoint"][0]) == (1, "fail")
        assert "OPENAI_API_KEY" in found["endpoint"][1]
        assert "sk-wrong" not in found["endpoint"][1]


@pytest.mark.parametrize("url", ["http://127.0.0.1:{port}/v1", "ftp://nowhere"])
def test_an_endpoint_that_cannot_be_reached_fails_the_report(tmp_path: Path, url: str) -> None:
    with socket.socket() as unheard:  # bound, never listening: connections are refused
        unheard.bind(("127.0.0.1", 0))
        code, found = report(tmp_path, "--base-url", url.format(port=unheard.getsockname()[1]))
    assert (code, found["endpoint"][0]) == (1, "fail")


def test_a_low_limit_on_open_files_comes_with_the_cure(tmp_path: Path) -> None:
    import resource

    def lower() -> None:  # the hard limit as well: the sandbox raises a soft one by itself
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))

    done = rao("doctor", cwd=tmp_path, preexec_fn=lower)
    (line,) = [line for line in done.stdout.splitlines() if " files " in line]
    assert line.startswith("warn")
    assert "ulimit -n" in line
