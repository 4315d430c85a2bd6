"""A judge in the online loop: it scores what the environment cannot, costs apart, and is missed when it is gone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rao_rl.config import JudgeConfig, OnlineConfig, UpdateConfig
from rao_rl.credit.config import PAPER
from rao_rl.envs.base import About, NeedsJudge, Session, Task
from rao_rl.errors import JudgeFailed, NothingToLearn
from rao_rl.rollouts.batches import CollectConfig
from rao_rl.train.metrics import NAMES
from rao_rl.train.run import train_online
from recursive_agent.errors import AuthenticationFailed, ConfigurationError
from recursive_agent.testing import Answer, Request, ScriptedEndpoint
from recursive_agent.trace.tree import Node

from ..envs.coins import COLLECT, Coins, taught_checkpoint

KEY = "sk-the-key-of-the-judge"
UPDATE = UpdateConfig(learning_rate=1e-3, warmup_steps=0, bf16=False, save_steps=100)


class Unverified:
    tools = ()

    async def score(self, node: Node) -> float | None:
        return None


class Judged(Coins):
    """Coins whose result only a judge can score."""

    name = "judged-coins"
    about = About(summary="toss coins", sizes={"train": None}, needs_judge=NeedsJudge(roots="some", sub_agents="all"))

    def session(self, task: Task) -> Session:
        return Unverified()


class OnlyJudged(Judged):
    about = replace(Judged.about, needs_judge=NeedsJudge(roots="all", sub_agents="all"))


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return taught_checkpoint(tmp_path_factory.mktemp("start"))


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def train(start: Path, out: Path, env: Coins, said: list[str], judge: JudgeConfig, **more: Any) -> Path:
    online = more.pop("online", {})
    return train_online(
        out,
        start,
        env,
        collect=CollectConfig(**{**COLLECT, "num_generations": 4}),
        credit=PAPER,
        update=UPDATE,
        online=OnlineConfig(**{"max_steps": 1, **online}),
        judge=judge,
        say=said.append,
        **more,
    )


def rows(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def parity(request: Request) -> Answer:
    """An even digit is right."""
    result = request.text("user").rpartition("result:\n| ")[2].strip()
    return json.dumps({"reason": "by its parity", "success": result.isdigit() and int(result) % 2 == 0})


def test_a_run_learns_from_a_judge_and_says_what_it_cost_and_resumes_with_the_same_one_only(
    start: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    with ScriptedEndpoint(parity, api_key=KEY) as endpoint:
        judge = JudgeConfig(model="scripted", base_url=endpoint.base_url)
        out = train(start, tmp_path / "run", Judged(), said, judge)
        total = endpoint.ledger.total_tokens
    (step,) = [row for row in rows(out) if "loss" in row]
    assert step["reward_std"] > 0
    assert sum(row.get("judge/tokens", 0.0) for row in rows(out)) == total > 0
    assert all(name in NAMES for name in step if name.startswith("judge/") and not name.startswith("judge/failed"))
    assert [line for line in said if line.startswith("the judge scripted read")]
    assert not [line for line in said if "no verifier" in line]
    recorded = json.loads((out / "training.json").read_text())["judge"]
    assert (recorded["model"], recorded["concurrency"]) == ("scripted", 8)
    texts = [path.read_text(errors="replace") for path in out.rglob("*.json*") if path.is_file()]
    assert not any(KEY in text for text in texts)
    for other in (JudgeConfig(model="another", base_url=endpoint.base_url), JudgeConfig()):
        with pytest.raises(ConfigurationError, match=r"other settings: judge\.model \(was \"scripted\", now"):
            train(start, out, Judged(), [], other, resume=True)


def test_credentials_in_the_url_of_a_judge_are_not_written_down() -> None:
    assert JudgeConfig(model="m", base_url="https://user:secret@host/v1?key=x").recorded() == {
        "model": "m",
        "base_url": "https://host/v1",
        "concurrency": 8,
        "timeout": 300.0,
        "max_failures": 16,
    }


def test_a_judge_that_refuses_the_key_ends_the_run(start: Path, tmp_path: Path) -> None:
    with ScriptedEndpoint(parity, api_key="another") as endpoint:
        judge = JudgeConfig(model="scripted", base_url=endpoint.base_url)
        with pytest.raises(AuthenticationFailed, match="the judge scripted cannot be asked"):
            train(start, tmp_path / "run", Judged(), [], judge)


def test_a_judge_that_speaks_nonsense_is_no_batch_that_teaches_nothing(start: Path, tmp_path: Path) -> None:
    """With a budget of tokens the run would go on until it is spent."""
    said: list[str] = []
    with ScriptedEndpoint("banana") as endpoint:
        judge = JudgeConfig(model="scripted", base_url=endpoint.base_url, max_failures=4)
        with pytest.raises(JudgeFailed, match=r"verdicts in a row of the judge scripted failed .*--resume"):
            train(
                *(start, tmp_path / "run", Judged(), said, judge),
                online={"max_steps": 100, "max_generated_tokens": 10**9},
            )
    assert [line for line in said if "failed (" in line and "no verdict" in line]


def test_an_environment_of_which_only_a_judge_knows_the_roots_is_refused_without_one(
    start: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=r"judged-coins has no verifier for roots.*--judge MODEL"):
        train(start, tmp_path / "run", OnlyJudged(), [], JudgeConfig())
    assert not (tmp_path / "run").exists()


def test_what_is_left_out_without_a_judge_is_said_first_and_a_run_without_any_score_ends(
    start: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    with pytest.raises(NothingToLearn, match="no attempt got a score"):
        train(
            *(start, tmp_path / "run", Judged(), said, JudgeConfig()),
            online={"max_steps": 100, "max_generated_tokens": 10**9},
        )
    assert said[0] == (
        "judged-coins has no verifier for sub-agents and some roots: without --judge MODEL these get no score, and training "
        "leaves them out"
    )
