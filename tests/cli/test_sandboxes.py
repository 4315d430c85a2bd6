"""Sandboxes of others on the command line: by `module:Class`, and by the name that an installed package registers."""

from pathlib import Path

import pytest

from recursive_agent.testing import ScriptedEndpoint
from recursive_agent.trace.tree import ExecutionTree

from .command import KEY, environment, rao

CAGE = """
from recursive_agent.repl import ProcessSandbox
class Cage(ProcessSandbox):
    def __init__(self, *, require="kernel"):
        print("the cage opens", flush=True)
        super().__init__(require=require, spares=0)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A current directory with a module, and `site` with the record of an installed package that registers it."""
    (tmp_path / "cages.py").write_text(CAGE)
    info = tmp_path / "site" / "cages-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: cages\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[recursive_agent.sandboxes]\ncage = cages:Cage\nbroken = cages:Missing\n"
        "[rao_rl.environments]\nzoo = mazes:Maze\n"
    )
    (tmp_path / "site" / "cages.py").write_text(CAGE)
    return tmp_path


@pytest.mark.parametrize("name", ["cages:Cage", "cage"])
def test_a_run_uses_it(folder: Path, name: str) -> None:
    with ScriptedEndpoint("```python\nfinish(6 * 7)\n```", api_key=KEY) as endpoint:
        env = environment(OPENAI_API_KEY=KEY, PYTHONPATH=str(folder / "site") if name == "cage" else "")
        options = ["--model", "scripted", "--base-url", endpoint.base_url, "--sandbox", name, "-q"]
        done = rao("run", "goal", *options, cwd=folder, env=env)
    assert (done.returncode, done.stdout) == (0, "the cage opens\n42\n"), done.stderr
    (trace,) = (folder / "traces").glob("*.jsonl")
    assert "seccomp" in ExecutionTree.load(trace).settings["enforced"]


def test_an_unknown_name_lists_what_is_installed(folder: Path) -> None:
    env = environment(PYTHONPATH=str(folder / "site"))
    done = rao("run", "--demo", "--sandbox", "jail", cwd=folder, env=env)
    assert done.returncode == 2
    assert "'broken', 'cage', 'inprocess', 'namespaces', 'process'. For another one, install" in done.stderr


def test_doctor_lists_sandboxes_environments_and_extras(folder: Path) -> None:
    done = rao("doctor", cwd=folder, env=environment(PYTHONPATH=str(folder / "site")))
    lines = [line.split(maxsplit=2) for line in done.stdout.splitlines()]
    said = [(verdict, text) for verdict, subject, text in lines if subject == "sandboxes"]
    assert [verdict for verdict, _ in said] == ["warn", "ok"]
    assert "'broken' cannot be loaded" in said[0][1]
    assert said[1][1] == "--sandbox takes cage (of another package), inprocess, namespaces, process, or module:Class"
    (environments,) = [text for _, subject, text in lines if subject == "environments"]
    assert "textcraft, verifiers, zoo, or module:Class" in environments
    extras = {text.split()[0]: text for _, subject, text in lines if subject == "extras"}
    named = {"train", "serve", "vllm", "data", "openenv", "socks", "mcp", "otel", "ray", "tensorboard", "wandb"}
    assert set(extras) == named
    assert all("is installed" in text or "pip install 'rao[" in text for text in extras.values())
