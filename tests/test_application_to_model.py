"""The example that takes an application's runs to training data, as its commands stand."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from rao_rl.data.groups import group_of
from rao_rl.envs import Mode
from rao_rl.envs.textcraft import TextCraft
from rao_rl.rollouts.attempt import AttemptSettings, rollout
from recursive_agent.model.embedded import SHIPPED, EmbeddedModel
from recursive_agent.trace.folder import trace_files
from recursive_agent.trace.tree import ExecutionTree

from .cli.command import RAO, environment

FOLDER = Path(__file__).parent.parent / "examples" / "application_to_model"
pytestmark = pytest.mark.skipif(
    not (SHIPPED / "agent.json").is_file(), reason="this checkout ships no policy; `rao train` makes it"
)


def run(command: list[str | Path]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=FOLDER,
        env=environment(PYTHONDONTWRITEBYTECODE="1"),
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
    )


@pytest.fixture(scope="module")
def app() -> ModuleType:
    spec = importlib.util.spec_from_file_location("workshop_app", FOLDER / "app.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_runs_of_the_application_become_scored_groups_with_exact_tokens(tmp_path: Path) -> None:
    traces = tmp_path / "traces"
    run([sys.executable, "app.py", "--orders=2", "--attempts=2", "--depth=8", "--trace-dir", traces])
    recorded = [ExecutionTree.load(path) for path in trace_files(traces)]
    assert len(recorded) == 4
    assert {tree.group for tree in recorded} == {None}
    assert not any(tree.scored() for tree in recorded)

    done = run([*RAO, "score", traces, "--with", "app:score", "--quiet"])
    assert done.stderr == "", "no run is alone in its group"
    assert "2 groups of attempts at one task in 4 runs" in done.stdout
    trees = [ExecutionTree.load(path) for path in trace_files(traces)]
    groups = [group_of(tree) for tree in trees]
    assert sorted(map(groups.count, groups)) == [2, 2, 2, 2]
    for tree in trees:
        assert tree.launches > 0
        assert {node.score for node in tree.walk()} <= {0.0, 1.0}
        calls = [step.model for node in tree.walk() for step in node.steps if step.model is not None]
        assert all(call.token_ids and call.logprobs and call.prompt_token_ids for call in calls)


@pytest.mark.anyio
async def test_the_applications_rule_says_of_every_agent_what_the_workshop_itself_would_say(app: ModuleType) -> None:
    world = TextCraft()
    model = EmbeddedModel(seed=0)
    said = []
    modes: tuple[Mode, ...] = ("recursive", "single")  # alone, most fail
    for mode in modes:
        for task in world.tasks("train", 0, level="easy", limit=5):
            result = await rollout(
                world, task, model, AttemptSettings(mode=mode, sampling={"temperature": 1.0}), seed=1
            )
            for node in result.tree.walk():
                assert app.score(node) == node.score, node
                said.append(node.score)
    assert set(said) == {0.0, 1.0}
    await model.aclose()


def test_the_script_runs_the_commands_that_exist() -> None:
    script = (FOLDER / "run.sh").read_text()
    used = re.findall(r"^\s*rao (\w+)", script, re.MULTILINE)
    assert used == ["train", "score", "train", "score"]
    shown = subprocess.run(["sh", "-n", str(FOLDER / "run.sh")], capture_output=True, check=True)
    assert shown.stderr == b""
