"""`rao run` without an endpoint, on the policy that the package ships."""

import shutil
from pathlib import Path

import pytest

from recursive_agent.checkpoint import CheckpointSettings, EnvironmentSettings
from recursive_agent.model.embedded import SHIPPED
from recursive_agent.trace.folder import trace_files
from recursive_agent.trace.tree import ExecutionTree

from .command import KEY, environment, rao

pytestmark = pytest.mark.skipif(
    not (SHIPPED / "agent.json").is_file(), reason="this checkout ships no policy; `rao train` makes it"
)


def test_the_demo_crafts_what_it_says_with_a_tree_of_three_levels(tmp_path: Path) -> None:
    done = rao("run", "--demo", cwd=tmp_path, env=environment(OPENAI_API_KEY=KEY))
    assert done.returncode == 0, done.stderr
    (path,) = trace_files(tmp_path / "traces")
    tree = ExecutionTree.load(path)
    assert tree.max_depth >= 2
    assert tree.root.score == 1.0
    assert done.stdout.startswith("Crafted ")
    assert tree.root.goal in done.stderr


def test_seeds_give_other_tasks_and_the_same_seed_the_same_run(tmp_path: Path) -> None:
    def story(seed: str, folder: str) -> list[tuple[str, str, object]]:
        rao("run", "--demo", "--seed", seed, "--trace-dir", folder, cwd=tmp_path, env=environment())
        (path,) = trace_files(tmp_path / folder)
        return [(node.id, node.goal, node.result) for node in ExecutionTree.load(path).walk()]

    first = story("1", "a")
    assert story("1", "b") == first
    assert story("2", "c") != first


def test_an_own_goal_runs_in_the_same_world_as_the_demo(tmp_path: Path) -> None:
    rao("run", "--demo", "--trace-dir", "demo", cwd=tmp_path, env=environment())
    (path,) = trace_files(tmp_path / "demo")
    item = ExecutionTree.load(path).root.goal.rpartition(" ")[2]
    done = rao("run", f"Craft the following items: 1x {item}", cwd=tmp_path, env=environment())
    assert done.returncode in (0, 1)  # how well the policy does is measured elsewhere
    assert "cannot be crafted" not in done.stderr


@pytest.mark.parametrize("goal", ["write a poem", "craft 2 copper gears", "Craft the following items: two gears"])
def test_a_goal_it_does_not_know_is_told_where_to_point_rao(tmp_path: Path, goal: str) -> None:
    done = rao("run", goal, cwd=tmp_path, env=environment(OPENAI_API_KEY=KEY))
    assert (done.returncode, done.stdout) == (2, "")
    assert "Craft the following items: 2x copper_gear" in done.stderr
    assert all(name in done.stderr for name in ("vLLM", "Ollama", "hosted"))


def test_an_unknown_item_is_one_sentence_with_names_that_exist(tmp_path: Path) -> None:
    done = rao("run", "Craft the following items: 1x golden_goose", cwd=tmp_path, env=environment())
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    known = done.stderr.partition("; ")[2].partition(",")[0]
    again = rao("run", f"Craft the following items: 1x {known}", "--max-steps", "1", cwd=tmp_path, env=environment())
    assert again.returncode in (0, 1), again.stderr


def test_a_checkpoint_does_not_run_code_that_it_names(tmp_path: Path) -> None:
    """Who opens somebody's checkpoint trusts its weights and its prompt, not a module beside it."""
    policy = shutil.copytree(SHIPPED, tmp_path / "policy")
    (tmp_path / "trap.py").write_text("import pathlib\npathlib.Path('sprung').touch()\n")
    settings = CheckpointSettings.load(policy)
    settings.model_copy(update={"environment": EnvironmentSettings(name="trap:World")}).save(policy)
    done = rao("run", "Craft the following items: 1x oak_frame", "--model", "./policy", cwd=tmp_path, env=environment())
    assert (done.returncode, done.stdout) == (2, "")
    assert "names the environment 'trap:World', which is code that is not installed" in done.stderr
    assert not (tmp_path / "sprung").exists()


def test_the_doctor_finds_the_policy(tmp_path: Path) -> None:
    assert "\nok    policy " in rao("doctor", cwd=tmp_path, env=environment()).stdout
