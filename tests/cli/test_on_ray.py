"""`--ray`: what is refused before a cluster is asked. tests/rollouts/ray has the clusters."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable

import pytest

from .command import run_here

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path_factory: object) -> Run:
    return lambda *arguments: run_here(monkeypatch, capsys, *arguments)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--ray-actors", "2"], "--ray-actors works only with --ray ADDRESS"),
        (["--ray-resource", "sandbox"], "--ray-resource works only with --ray ADDRESS"),
        (["--ray", "nonsense"], "--ray takes auto, host:port, ray://host:port, or local"),
        (["--ray", "http://localhost:6379"], "--ray takes auto, host:port, ray://host:port, or local"),
    ],
)
@pytest.mark.parametrize("command", ["rollout", "eval"])
def test_options_that_do_not_go_together(
    run: Run, command: str, options: list[str], said: str, tmp_path: object
) -> None:
    where = ["--out", f"{tmp_path}/out"]
    status, out, err = run(command, "textcraft", "--tasks", "1", "--level", "easy", "--quiet", *where, *options)
    assert (status, out) == (2, "")
    assert err.startswith(f"rao: {said}")
    assert err.count("\n") == 1


@pytest.mark.parametrize("address", ["127.0.0.1:{}", "ray://127.0.0.1:{}"])
def test_an_address_where_nothing_listens(run: Run, address: str, tmp_path: object) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        at = address.format(closed.getsockname()[1])
        status, out, err = run("rollout", "--tasks", "1", "--level", "easy", "--out", f"{tmp_path}/out", "--ray", at)
    assert (status, out) == (2, "")
    assert err.startswith(f"rao: no Ray cluster answers at {at} (")
    assert err.count("\n") == 1


def test_without_the_package_it_says_what_to_install(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    status, _, err = run("rollout", "--tasks", "1", "--level", "easy", "--out", f"{tmp_path}/out", "--ray", "local")
    assert status == 2
    assert "--ray needs more packages: pip install 'rao[ray]' (ray is missing)" in err


def test_training_on_traces_runs_no_attempts(run: Run, tmp_path: object) -> None:
    status, _, err = run("train", str(tmp_path), "--model", "x", "--out", f"{tmp_path}/out", "--ray", "local")
    assert status == 2
    assert "--ray has no effect on reinforcement learning on traces" in err
