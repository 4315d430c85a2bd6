"""Imitation of both ways of working: which demonstrations are recorded, and in what proportion they are learnt from."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rao_cli.main import main

from rao_rl.config import ImitationConfig
from rao_rl.data.rows import TokenRow
from rao_rl.envs import make
from rao_rl.envs.base import Demonstration, Task
from rao_rl.imitation.expert import record_demonstrations
from rao_rl.imitation.lessons import RecordedBlocks
from rao_rl.imitation.mixture import mixed
from rao_rl.imitation.policy import Architecture
from rao_rl.imitation.prompting import Prompting
from rao_rl.imitation.recorded import Recorded, read_successful
from rao_rl.imitation.run import train_on_environment
from recursive_agent.errors import ConfigurationError
from recursive_agent.messages import Message
from recursive_agent.repl import UNSET
from recursive_agent.trace.tree import ExecutionTree

from ..train.policies import TINY

MINIMAL = Prompting("minimal", "fenced")


def recorded(*sizes: int, letter: str = "a") -> Recorded:
    read = [[Message("user", letter * size)] for size in sizes]
    return Recorded(
        conversations=read,
        openings=list(range(len(sizes))),
        nodes=len(sizes),
        prompting=MINIMAL,
        temperature=0.5,
        rewritten=0,
        unclear=0,
        runs=[letter],
        groups=frozenset(letter),
        left_out=Counter(),
        problems=[],
    )


def share(found: Recorded) -> float:
    text = "".join(message.content for messages in found.conversations for message in messages)
    return text.count("s") / len(text)


def test_the_scarcer_kind_is_repeated_until_it_has_its_share() -> None:
    both = mixed(recorded(10, 10, 10, 10, letter="d"), recorded(20, letter="s"), 0.5)
    assert share(both) == 0.5
    assert len(both.conversations) == 6  # the four, and the one alone twice
    assert both.openings == [0, 1, 2, 3, 0, 0]
    assert (both.nodes, both.runs, both.groups) == (5, ["d", "s"], frozenset("ds"))
    assert share(mixed(recorded(10, letter="d"), recorded(20, 20, letter="s"), 0.5)) == 0.5
    only = mixed(recorded(10, letter="d"), recorded(20, letter="s"), 0.0), mixed(recorded(10), recorded(20), 1.0)
    assert [len(each.conversations) for each in only] == [1, 1]
    assert [share(only[0]), only[1].conversations[0][0].content] == [0, "a" * 20]


@given(
    st.lists(st.integers(20, 30), min_size=20, max_size=60),
    st.lists(st.integers(20, 30), min_size=20, max_size=60),
    st.floats(0.1, 0.9),
)
def test_any_share_is_reached_and_nothing_is_left_out(first: list[int], second: list[int], wanted: float) -> None:
    both = mixed(recorded(*first, letter="d"), recorded(*second, letter="s"), wanted)
    assert share(both) == pytest.approx(wanted, abs=0.05)
    assert len(both.conversations) >= len(first) + len(second)


def test_a_share_that_needs_too_many_repeats_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"single_share=0.9999 cannot be reached"):
        mixed(recorded(1000, letter="d"), recorded(1, letter="s"), 0.9999)


def test_short_rows_come_first_and_all_from_the_given_step_on() -> None:
    rows = [TokenRow(np.full(size, size, np.int32), np.ones(size, np.bool_)) for size in range(1, 101)]
    blocks = RecordedBlocks(rows, tokens=100, seed=3, short_first=60)
    seen, step = [], 0
    for number in range(20):
        block = blocks(number)
        sizes = sorted(len(row) for each in block for row in each)
        assert sizes == list(range(1, len(sizes) + 1))  # every row that is short enough, once
        seen.append((step, sizes[-1]))
        step += len(block)
    assert seen[0] == (0, 10)  # the shortest tenth
    assert [longest for _, longest in seen] == sorted(longest for _, longest in seen)
    assert all((longest == 100) == (begin >= 60) for begin, longest in seen)
    again = RecordedBlocks(rows, tokens=100, seed=3, short_first=60)  # as after --resume, in any order
    assert [[len(row) for row in each] for each in again(7)] == [[len(row) for row in each] for each in blocks(7)]


class Levels:
    """One task for each level and seed; from the second seed on nothing new."""

    name = "levels"
    max_depth = 0
    splits = ("train",)
    levels = ("low", "high")
    tools = ()

    def session(self, task: Any) -> Any:
        return self

    async def score(self, node: Any) -> float:
        return 1.0

    def demonstrations(self, seed: int = 0) -> Iterator[Demonstration]:
        for level in self.levels:
            yield Demonstration(
                task=Task(id=f"{level}/{min(seed, 1)}", goal=f"{level} {seed}", level=level),
                expert=lambda goal, context: ["finish(1)"],
            )


def demonstrated(folder: Path, **more: Any) -> list[str]:
    settings = {"most": 10, "seed": 0, "require": UNSET, "say": lambda line: None, **more}
    record_demonstrations(Levels(), folder, MINIMAL, **settings)  # type: ignore[arg-type]
    return sorted(ExecutionTree.load(path).root.goal for path in folder.rglob("*.jsonl"))


def test_demonstrations_of_levels_go_on_with_further_seeds(tmp_path: Path) -> None:
    assert demonstrated(tmp_path / "all") == ["high 0", "high 1", "low 0", "low 1"]
    assert demonstrated(tmp_path / "low", levels=("low",)) == ["low 0", "low 1"]
    assert demonstrated(tmp_path / "one", levels=("high",), most=1) == ["high 0"]


def test_a_level_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"imitation.levels: levels has no level 'top'; choose from low, high"):
        demonstrated(tmp_path, levels=("low", "top"))


def test_one_policy_imitates_both_ways_of_working(tmp_path: Path) -> None:
    config = ImitationConfig(
        output_dir=str(tmp_path),
        max_steps=1,
        tokens_per_step=200,
        demonstrations=2,
        levels=("2k",),
        single_share=0.5,
        bf16=False,
    )
    environments = [make("sequence", mode=mode) for mode in ("recursive", "single")]
    shape: Architecture = replace(TINY, vocabulary=1024)
    train_on_environment(
        config, environments[0], None, alone=environments[1], architecture=shape, name="sequence", arguments={}
    )
    place = tmp_path / "demonstrations" / "minimal-fenced"
    alone, all_ = (read_successful(each, threshold=1.0, prompting=MINIMAL) for each in (place / "single", place))
    assert (len(alone.conversations), len(alone.runs), len(all_.runs)) == (2, 2, 4)
    assert len(all_.conversations) > 8  # trees of at least five agents
    told = json.loads((tmp_path / "training.json").read_text())
    assert (told["single_share"], told["levels"], told["demonstrations_of"]) == (0.5, ["2k"], "sequence")
    with pytest.raises(ConfigurationError, match="single_share needs an environment"):
        train_on_environment(replace(config, output_dir=str(tmp_path / "no")), environments[0], None)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--env", "sequence", "--set", "lessons.single_share=0.5"], "set imitation.single_share"),
        (["--env", "sequence", "--noise", "0.2"], "belongs to the lessons of --env textcraft"),
        (["--env", "textcraft", "--set", "imitation.levels=easy"], "set lessons.difficulties"),
        (["--env", "textcraft", "--set", "imitation.short_first=5"], "has no effect on the lessons of textcraft"),
        (["t", "--model", "m", "--set", "imitation.levels=easy"], "chooses demonstrations of --env"),
        (
            ["--env", "sequence", "--set", "imitation.single_share=0.5", "--env-set", "mode=single"],
            "leave out --env-set mode",
        ),
        (["--env", "sequence", "--set", "imitation.single_share=2"], "imitation.single_share"),
    ],
)
def test_settings_of_other_demonstrations_are_refused(
    arguments: list[str], reason: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["rao", "train", "--objective", "imitation", "--out", "x", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    assert reason in capsys.readouterr().err
