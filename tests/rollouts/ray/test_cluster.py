"""Attempts on a real Ray cluster of several node processes: the same as here, also where a node dies in the middle."""

from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest

from rao_rl.config import OnlineConfig, UpdateConfig
from rao_rl.credit.config import PAPER
from rao_rl.evaluation.run import evaluate
from rao_rl.rollouts.attempt import AttemptSettings
from rao_rl.rollouts.batches import CollectConfig
from rao_rl.rollouts.many import PlannedAttempt, run_attempts
from rao_rl.rollouts.recording import Recording, plan_groups, record
from rao_rl.train.run import train_online
from recursive_agent import Result
from recursive_agent.errors import AuthenticationFailed, ConfigurationError
from recursive_agent.model import Model, connect
from recursive_agent.model.embedded import EmbeddedModel
from recursive_agent.model.endpoint import Endpoint
from recursive_agent.testing import ScriptedEndpoint
from recursive_agent.trace.folder import read_trace, trace_files
from recursive_agent.trace.tree import ExecutionTree
from tests.cli.command import environment as variables
from tests.cli.command import rao
from tests.envs.coins import COLLECT, Coins, taught_checkpoint
from tests.scoring.test_attempts import GOLD, LIBRARY, answer
from tests.waiting import until, wait_until

from .errands import WORK, Errands, begun

ray = pytest.importorskip("ray")
from ray._private import services  # noqa: E402
from ray._private.ray_constants import PROCESS_TYPE_RAYLET  # noqa: E402
from ray.cluster_utils import Cluster  # noqa: E402

from rao_rl.rollouts.ray.cluster import connected  # noqa: E402
from rao_rl.rollouts.ray.job import EnvironmentSource  # noqa: E402
from rao_rl.rollouts.ray.pool import RayAttempts  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # Ray's own files and sockets
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
KEY = "sk-ray-0123456789abcdef"
ERRANDS = "tests.rollouts.ray.errands:Errands"
SMALL: dict[str, Any] = {"object_store_memory": 80 << 20, "include_dashboard": False}
HEALTH = {
    "health_check_initial_delay_ms": 1000,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 60_000,
    "health_check_failure_threshold": 4,
}
"""A node that is gone is missed soon; one that is slow is not taken for gone."""
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_memory_monitor_refresh_ms": "0",
    "RAY_gcs_server_port_wait_time_s": "300",
    "RAY_worker_register_timeout_seconds": "300",
}
"""No statistics, no processes killed because others fill the memory, and patience with a busy machine."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head that runs nothing, and two nodes of one CPU each."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        patch.setattr(services, "get_node", patiently(services.get_node))
        before = signal.getsignal(signal.SIGTERM)
        cluster = Cluster()
        try:
            cluster.add_node(wait=False, num_cpus=0, _system_config=HEALTH, **SMALL)
            for _ in range(2):
                cluster.add_node(wait=False, num_cpus=1, **SMALL)
            wait_until(lambda: cluster.global_state.node_table() and alive(cluster) == 3)
            yield cluster
        finally:
            ray.shutdown()
            cluster.shutdown()
            signal.signal(signal.SIGTERM, before)


def patiently(get_node: Callable[..., Any]) -> Callable[..., Any]:
    """Ray gives a node 30 seconds to start; a busy machine needs more."""

    def get(*arguments: Any) -> Any:
        found: list[Any] = []

        def is_there() -> bool:
            with suppress(RuntimeError):
                found.append(get_node(*arguments))
            return bool(found)

        for _ in range(5):
            with suppress(AssertionError):
                wait_until(is_there)
                break
        return found[0]

    return get


def alive(cluster: Any) -> int:
    return sum(node["Alive"] for node in cluster.global_state.node_table())


def raylet(node: Any) -> int:
    return int(node.all_processes[PROCESS_TYPE_RAYLET][0].process.pid)


def sampled(folder: Path) -> dict[Any, Any]:
    """What was sampled and scored in the attempts of a folder, by group and seed."""
    found = {}
    for path in trace_files(folder):
        tree = ExecutionTree.load(path)
        found[tree.group, tree.seed] = {
            node.id: (
                node.score,
                [(call.version, tuple(call.token_ids or ())) for call in node.model_calls],
            )
            for node in tree.nodes.values()
        }
    return found


def test_a_dead_node_costs_only_the_attempts_that_it_had(cluster: Any, tmp_path: Path) -> None:
    marks, out, said = tmp_path / "marks", tmp_path / "traces", []
    marks.mkdir()
    environment = Errands(str(marks))
    planned = plan_groups(environment, "train", environment.tasks("train"), size=1, seed=0)
    spare: list[Any] = []

    async def kill(runs: dict[str, int]) -> None:
        first = await begun(marks, 4)
        victim = next(node for node in cluster.worker_nodes if raylet(node) == first[0][2])
        runs.update({task: 2 if parent == raylet(victim) else 1 for task, _, parent in first})
        spare.append(cluster.add_node(wait=False, num_cpus=1, **SMALL))
        await anyio.to_thread.run_sync(lambda: cluster.remove_node(victim, allow_graceful=False))
        again = await begun(marks, 6)
        assert {parent for _, _, parent in again} == {parent for _, _, parent in first} | {raylet(spare[0])}
        (marks / "go").touch()

    async def run(url: str) -> tuple[list[Any], dict[str, int]]:
        runs: dict[str, int] = {}
        model = connect(Endpoint("scripted", url, KEY))
        source = EnvironmentSource(name=ERRANDS, arguments={"folder": str(marks)})
        async with RayAttempts(model, source, concurrency=4, say=said.append) as runner:
            settings = AttemptSettings(concurrency=4, runner=runner)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(kill, runs)
                return await record(environment, planned, model, out, settings), runs

    with ScriptedEndpoint(WORK, api_key=KEY) as endpoint, connected(cluster.address, say=said.append):
        rollouts, runs = anyio.run(run, endpoint.base_url)
    counts = Recording.of(rollouts, wanted=4, found=0)
    assert (counts.rollouts, counts.solved, counts.lost) == (4, 4, 0)
    assert Counter(task for task, _, _ in anyio.run(begun, marks, 6)) == runs
    assert sorted(runs.values()) == [1, 1, 2, 2]
    assert len([line for line in said if "was lost" in line and "(2 of them)" in line]) == 1
    files = trace_files(out)
    assert [file.suffix for file in out.iterdir()] == [".jsonl"] * 4
    assert all(read_trace(file).complete and file.stat().st_mode & 0o777 == 0o600 for file in files)
    assert not any(KEY in file.read_text() for file in files)
    logs = Path(cluster.head_node.get_logs_dir_path())
    assert not any(KEY.encode() in file.read_bytes() for file in logs.rglob("*") if file.is_file())


def test_the_command_line_gives_the_attempts_of_a_local_run(cluster: Any, tmp_path: Path) -> None:
    command = ("rollout", "textcraft", "--level", "easy", "--tasks", "2", "--group", "2", "--json")
    here = rao(*command, "--out", "here", cwd=tmp_path)
    there = rao(*command, "--out", "there", "--ray", cluster.address, "--ray-actors", "2", cwd=tmp_path)
    assert (here.returncode, there.returncode) == (0, 0), there.stderr
    assert sampled(tmp_path / "here") == sampled(tmp_path / "there") != {}
    counts = [json.loads(done.stdout) for done in (here, there)]
    assert {**counts[0], "out": "there"} == counts[1]
    assert "rao: Ray: 3 nodes, 2 CPUs" in there.stderr


def test_the_judge_of_the_driver_scores_what_the_sessions_cannot(cluster: Any, tmp_path: Path) -> None:
    (tmp_path / "library.py").write_text(LIBRARY)
    command = ["eval", "library:Library", "--model", "scripted", "--mode", "single", "--json", "--judge", "scripted"]
    roots = []
    for name, where in (("here", []), ("there", ["--ray", cluster.address])):
        own = {**variables(), "XDG_CACHE_HOME": str(tmp_path / name)}
        with ScriptedEndpoint(answer) as endpoint:
            urls = ["--base-url", endpoint.base_url, "--judge-base-url", endpoint.base_url, "--trace-dir", name]
            done = rao(*command, *urls, *where, cwd=tmp_path, env=own)
        assert done.returncode == 0, done.stderr
        assert [row["score"] for row in json.loads(done.stdout)["attempts"]] == [1.0, 0.0, 1.0]
        assert "the judge scripted read" in done.stderr
        files = trace_files(tmp_path / name)
        assert not any(GOLD in file.read_text() for file in files)
        assert all(file.stat().st_mode & 0o777 == 0o600 for file in files)
        trees = [ExecutionTree.load(file).root for file in files]
        roots.append({root.goal: (root.score, root.score_source, root.trainable) for root in trees})
    assert roots[0] == roots[1] != {}


def test_what_is_pushed_reaches_the_actors(cluster: Any, tmp_path: Path) -> None:
    def actors(model: Model) -> RayAttempts:
        return RayAttempts(model, EnvironmentSource(name="tests.envs.coins:Coins"), concurrency=4, actors=2)

    start = taught_checkpoint(tmp_path / "start")
    train = partial(
        train_online,
        model=start,
        environment=Coins(),
        collect=CollectConfig(**COLLECT),
        credit=PAPER,
        update=UpdateConfig(learning_rate=1e-3, warmup_steps=0, bf16=False, save_steps=100),
        online=OnlineConfig(max_steps=2, max_staleness=0),
    )
    train(tmp_path / "here")
    with connected(cluster.address, say=lambda _: None):
        train(tmp_path / "there", runner=actors)
    here, there = (
        [sampled(batch) for batch in sorted((tmp_path / name / "traces").iterdir())] for name in ("here", "there")
    )
    assert here == there
    versions = [{calls[0][0] for nodes in batch.values() for _, calls in nodes.values()} for batch in there]
    assert all(len(each) == 1 for each in versions)
    assert {version for each in versions for version in each} == {"0", "1"}  # a batch may teach nothing


def test_an_evaluation_that_is_cancelled_leaves_nothing_running(cluster: Any, tmp_path: Path) -> None:
    async def run(url: str) -> list[Any]:
        environment = Errands(str(tmp_path))
        model = connect(Endpoint("scripted", url, KEY))
        source = EnvironmentSource(name=ERRANDS, arguments={"folder": str(tmp_path)})
        async with RayAttempts(model, source, concurrency=4) as runner:
            settings = AttemptSettings(concurrency=4, runner=runner)
            with anyio.move_on_after(600) as scope:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(partial(evaluate, environment, environment.tasks("train"), model, settings))
                    started = await begun(tmp_path, 4)
                    actors = [psutil.Process(process) for process in {process for _, process, _ in started}]
                    locked = [child for actor in actors for child in actor.children(recursive=True)]
                    scope.cancel()
            # The actors go on, and are free again.
            (tmp_path / "go").touch()
            assert locked
            attempts = await evaluate(environment, environment.tasks("train"), model, settings)
            assert [(attempt.score, attempt.metrics) for attempt in attempts] == [(1.0, {"length": 2.0})] * 4
        await until(lambda: not any(process.is_running() for process in [*actors, *locked]))
        return actors

    with ScriptedEndpoint(WORK, api_key=KEY) as endpoint, connected(cluster.address, say=lambda _: None):
        assert len(anyio.run(run, endpoint.base_url)) == 2


def test_what_an_actor_cannot_do_is_the_error_of_a_local_run(cluster: Any, tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    environment = Errands(str(tmp_path))
    planned = [PlannedAttempt(task=task, group=task.id, seed=1) for task in environment.tasks("train")]

    async def run(url: str, key: str, arguments: dict[str, Any]) -> list[Result]:
        model = connect(Endpoint("scripted", url, key))
        async with RayAttempts(model, EnvironmentSource(name=ERRANDS, arguments=arguments), concurrency=2) as runner:
            settings = AttemptSettings(concurrency=2, runner=runner, trace_dir=tmp_path / "traces")
            return await run_attempts(environment, planned, model, settings, lambda _, result: result)

    plain = {"folder": str(tmp_path)}
    with ScriptedEndpoint(WORK, api_key=KEY) as endpoint, connected(cluster.address, say=lambda _: None):
        with pytest.raises(AuthenticationFailed):
            anyio.run(run, endpoint.base_url, "sk-another", plain)
        with pytest.raises(ConfigurationError, match="one process only"):
            anyio.run(run, endpoint.base_url, KEY, {**plain, "only": 1})
        results = anyio.run(run, endpoint.base_url, KEY, plain)
    assert [result.output for result in results] == ["t0", "t1", "t2", "t3"]
    assert [result.trace_path for result in results if result.trace_path in trace_files(tmp_path / "traces")] != []


def test_a_resource_chooses_the_nodes_of_the_actors(cluster: Any) -> None:
    with connected(cluster.address, say=lambda _: None):
        with pytest.raises(ConfigurationError, match="no resource 'sandbox' for an actor"):
            RayAttempts(EmbeddedModel(), EnvironmentSource(name="textcraft"), concurrency=2, resource="sandbox")
