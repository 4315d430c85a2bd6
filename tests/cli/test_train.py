"""`rao train` as users start it: settings by name, one sentence for what makes no sense, and a run from traces."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from rao_cli.main import main
from rao_cli.settings import listing, parse
from transformers import MistralConfig, MistralForCausalLM

from rao_rl.config import CollectConfig
from rao_rl.credit.assign import CreditConfig
from rao_rl.errors import TrainingStopped
from rao_rl.train.trainer import RaoTrainer
from recursive_agent.errors import ConfigurationError
from tests.data.token_trees import token_events, turn
from tests.data.trees import write
from tests.train.policies import make_checkpoint, make_tokenizer
from tests.train.test_offline import REFUSED, record

from .command import rao

QUICK = ["--set", "update.bf16=false", "--set", "update.warmup_steps=0"]


class Here:
    """`rao train` in this process, which has its libraries already."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        self._monkeypatch.setattr("sys.argv", ["rao", "train", *arguments])
        with pytest.raises(SystemExit) as stopped:
            main()
        captured = self._capsys.readouterr()
        assert isinstance(stopped.value.code, int)
        return stopped.value.code, captured.out, captured.err

    def refused(self, *arguments: str) -> str:
        """The sentence that it is refused with."""
        code, out, err = self(*arguments)
        assert (code, out) == (2, ""), err
        assert err.startswith("rao: ")
        assert err.count("\n") == 1
        return err


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Here:
    monkeypatch.chdir(tmp_path)
    return Here(monkeypatch, capsys)


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("policy")
    make_checkpoint(folder, make_tokenizer())
    return folder


@pytest.fixture
def traces(tmp_path: Path) -> Path:
    (tmp_path / "traces").mkdir()
    return tmp_path / "traces"


# --- settings by name ---


@dataclass(frozen=True, kw_only=True)
class Some:
    rate: float = 0.5
    count: int | None = None
    weighting: Literal["inverse", "none"] = "inverse"
    names: tuple[str, ...] = ("a", "b")
    sharp: bool = False

    def __post_init__(self) -> None:
        if self.rate > 1:
            raise ConfigurationError("rate must not be more than 1")


@dataclass(frozen=True, kw_only=True)
class Others:
    rate: float = 7.0
    some: Some = field(default_factory=Some)


DEFAULTS = {"some": Some(), "others": Others()}


def test_a_setting_is_read_as_what_it_is() -> None:
    made = parse(
        ["some.rate=0.25", " some.count = 3 ", "some.weighting=none", "some.names=x, y,z", "some.sharp=true"], DEFAULTS
    )
    assert made["some"] == Some(rate=0.25, count=3, weighting="none", names=("x", "y", "z"), sharp=True)
    assert made["others"] == DEFAULTS["others"]
    assert parse(["some.count=3", "some.count=none"], DEFAULTS)["some"].count is None
    assert parse(["some.names="], DEFAULTS)["some"].names == ()


def test_what_is_listed_can_be_given(here: Here) -> None:
    code, out, _ = here("--settings")
    assert code == 0
    lines = out.splitlines()
    assert {"credit.baseline=root", "credit.depth_weighting=inverse_frequency", "update.lora_rank=none"} <= set(lines)
    assert {"update.learning_rate=0.0003", "collect.num_generations=8", "online.max_staleness=0"} <= set(lines)
    given = [part for line in lines for part in ("--set", line)]
    assert here("--settings", *given)[1] == out
    # Everything is read again where it is used: what stops this run is the folder that is not there.
    assert "nowhere does not exist" in here.refused("nowhere", "--model", "m", "--out", "o", *given)


def test_a_setting_may_be_given_by_its_older_name() -> None:
    collect = {"collect": CollectConfig()}
    assert parse(["collect.difficulty=hard"], collect) == parse(["collect.level=hard"], collect)
    assert parse(["collect.level=none"], collect)["collect"].level is None


def test_the_listing_has_a_line_for_each_setting() -> None:
    assert listing({"some": Some()}).splitlines() == [
        "some.rate=0.5",
        "some.count=none",
        "some.weighting=inverse",
        "some.names=a,b",
        "some.sharp=False",
    ]


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ("credit.baselin=root", "'credit.baselin' is not a setting; `rao train --settings` lists them"),
        ("baseline=root", "'baseline' is not a setting"),
        ("nothing.at.all=1", "'nothing.at.all' is not a setting"),
        ("credit.baseline", "--set takes NAME=VALUE"),
        ("", "--set takes NAME=VALUE"),
        ("credit.baseline=deep", "--set credit.baseline: Input should be 'root'"),
        ("update.tokens_per_bin=many", "--set update.tokens_per_bin: Input should be a valid integer"),
        ("update.learning_rate=none", "--set update.learning_rate: Input should be a valid number"),
        ("collect.num_generations=0", "num_generations: must be at least 1"),
        ("credit.ema_decay=1", "ema_decay must be from 0 to below 1"),
        ("collect.temperature=0", "temperature must be more than 0"),
        ("credit.max_nodes_per_depth=-3", "max_nodes_per_depth"),
        ("credit.delegation_bonus=nan", "--set credit: delegation_bonus must be a number from 0 on, not nan"),
        ("update.lora_rank=0", "--set update.lora_rank: must be at least 1, not '0'"),
        ("update.learning_rate=-1", "--set update.learning_rate: must be more than 0"),
        ("update.epsilon_high=-1", "--set update.epsilon_high: must be more than 0"),
        ("update.learning_rate=nan", "--set update.learning_rate: must be a finite number"),
        ("update.save_steps=1e99", "update.save_steps: "),
        ("online.eval_concurrency=0", "--set online.eval_concurrency: must be at least 1"),
        ("lessons.difficulties=impossible", "impossible"),
        ("credit.baselin=root", "(did you mean credit.baseline?)"),
        ("learning_rate=1", "(did you mean update.learning_rate?)"),
        ("credit.learning_rate=1", "(did you mean update.learning_rate?)"),
    ],
)
def test_a_setting_that_makes_no_sense_is_one_sentence(given: str, complaint: str, here: Here) -> None:
    assert complaint in here.refused("traces", "--model", "m", "--out", "o", "--set", given)


# --- what does not go together ---


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["traces", "--model", "m"], "name the folder for the trained model: --out DIR"),
        (["--out", "o"], "say what to train on: give either a folder of traces or --env ENV, not both"),
        (["traces", "--env", "textcraft", "--out", "o"], "not both"),
        (["traces", "--out", "o"], "name the model to start from: --model DIR"),
        (["--env", "textcraft", "--online", "--out", "o"], "name the model to start from"),
        (["traces", "--model", "m", "--out", "o", "--online"], "--online trains on an environment"),
        (["--env", "textcraft", "--objective", "rao", "--model", "m", "--out", "o"], "needs --online"),
        (["--env", "textcraft", "--objective", "magic", "--out", "o"], "takes rao or imitation, not 'magic'"),
        (
            ["--env", "textcraft", "--objective", "imitation", "--online", "--out", "o"],
            "works only with --objective rao",
        ),
        (
            ["--env", "textcraft", "--online", "--model", "m", "--out", "o", "--optimizer-from", "r"],
            "--optimizer-from has no effect on reinforcement learning with --online",
        ),
        (["traces", "--model", "m", "--out", "o", "--lr", "nan"], "--lr must be a finite number"),
        (["traces", "--model", "m", "--out", "o", "--lr", "0"], "--lr must be more than 0"),
        (["traces", "--model", "m", "--out", "o", "--epochs", "inf"], "--epochs must be a finite number"),
        (["traces", "--model", "m", "--out", "o", "--objective", "imitation", "--minutes", "inf"], "--minutes must be"),
        (["--env", "nowhere", "--online", "--model", "m", "--out", "o"], "there is no environment 'nowhere'"),
        (["--env", "textcraft", "--online", "--model", "m", "--out", "o", "--eval", "easy"], "LEVEL=TASKS"),
        (
            ["--env", "textcraft", "--online", "--model", "./m", "--out", "o"],
            "./m is not a checkpoint that transformers",
        ),
    ],
)
def test_what_does_not_go_together_is_one_sentence(arguments: list[str], complaint: str, here: Here) -> None:
    assert complaint in here.refused(*arguments)


ON_TRACES, ONLINE = (
    ["t", "--model", "m", "--out", "o"],
    ["--env", "textcraft", "--online", "--model", "m", "--out", "o"],
)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([*ON_TRACES, "--minutes", "3"], "--minutes has no effect on reinforcement learning on traces"),
        ([*ON_TRACES, "--eval", "easy=3"], "--eval has no effect on"),
        ([*ON_TRACES, "--threshold", "0.5"], "it belongs to imitation of traces"),
        ([*ONLINE, "--epochs", "2"], "--epochs has no effect on reinforcement learning with --online"),
        ([*ON_TRACES, "--objective", "imitation", "--noise", "0.1"], "--noise has no effect on imitation of traces"),
        ([*ON_TRACES, "--set", "online.max_steps=3"], "--set online.max_steps has no effect on"),
        (
            [*ON_TRACES, "--objective", "imitation", "--set", "credit.reward=root"],
            "--set credit.reward has no effect on",
        ),
        ([*ON_TRACES, "--lr", "1", "--set", "update.learning_rate=2"], "are the same setting: give one of them"),
        ([*ON_TRACES, "--epochs", "1e9"], "--epochs must be at most 1,000,000"),
        ([*ON_TRACES, "--set", "update.lora_rank=999999"], "must be at most 4096"),
        ([*ON_TRACES, "--set", "update.epsilon_high=0.5"], "epsilon_high must be at least 1, not 0.5"),
        ([*ON_TRACES, "--set", "update.loss_type=ppo", "--set", "update.epsilon=0"], "would clip every update"),
        ([*ON_TRACES, "--set", "update.epsilon=0.5"], "update.epsilon has no effect without update.loss_type=ppo"),
        ([*ON_TRACES, "--set", "update.constant=3"], "no effect without update.normalize=constant"),
        ([*ON_TRACES, "--set", "credit.depth_discount=0.5"], "no effect without credit.depth_weighting=discount"),
        ([*ONLINE, "--set", "collect.tasks_per_step=1000000000000"], "tasks_per_step: must be at most 100000"),
        ([*ONLINE, "--set", "collect.num_generations=1000000000"], "must be at most 1,000,000 attempts"),
        (
            [*ONLINE, "--set", "collect.num_generations=1"],
            "collect.num_generations must be at least 2, since an attempt",
        ),
        ([*ONLINE, "--set=credit.baseline=counterfactual"], "needs collect.counterfactual_children"),
        ([*ONLINE, "--set=collect.counterfactual_children=2"], "no effect without credit.baseline=counterfactual"),
        ([*ONLINE, "--set=collect.counterfactual_launches=2"], "no effect without collect.counterfactual_children"),
        (
            [*ON_TRACES, "--set", "credit.shaping_updates=9"],
            "no effect without credit.parallel_bonus or credit.finish_",
        ),
        ([*ON_TRACES, "--set", "credit.ema_decay=0.9"], "no effect without credit.baseline=ema_depth"),
        (
            [*ON_TRACES, "--set=credit.baseline=ema_depth", "--set=credit.min_group=3"],
            "credit.min_group has no effect with credit.baseline=ema_depth",
        ),
        (
            [*ON_TRACES, "--set=credit.baseline=inherit", "--set=credit.reward=root"],
            "baseline=inherit gives every agent the advantage of its root whatever the reward: leave out reward=root",
        ),
        ([*ONLINE, "--set", "credit.min_group=9"], "credit.min_group=9 is more than collect.num_generations=8"),
        ([*ONLINE, "--set", "sampler.base_url=http://localhost:1"], "needs a sampler.name that begins with vllm"),
        ([*ONLINE, "--set", "sampler.name=vllm-nccl"], "needs sampler.base_url and sampler.served_model"),
        (
            [
                *ONLINE,
                "--set=sampler.name=vllm-lora",
                "--set=sampler.base_url=http://h",
                "--set=sampler.served_model=s",
            ],
            "set update.lora_rank",
        ),
        ([*ONLINE, "--set", "online.eval_every=5"], "online.eval_every has no effect without --eval"),
        ([*ONLINE, "--eval", "easy=0"], "--eval takes LEVEL=TASKS"),
    ],
)
def test_what_contradicts_itself_or_has_no_effect_is_one_sentence(
    arguments: list[str], complaint: str, here: Here
) -> None:
    assert complaint in here.refused(*arguments)


def test_a_model_that_is_nowhere_is_refused_before_the_traces_are_read(here: Here, traces: Path) -> None:
    record(traces, 1)
    assert "there is no such folder" in here.refused("traces", "--model", "./nope", "--out", "out")
    assert not Path("out").exists()


# --- traces that cannot be trained on ---


@pytest.mark.parametrize(("make", "complaint"), REFUSED, ids=[make.__name__ for make, _ in REFUSED])
def test_traces_that_cannot_be_trained_on_are_one_sentence(
    make: Callable[[Path], None], complaint: str, here: Here, traces: Path, policy: Path
) -> None:
    make(traces)
    said = here.refused("traces", "--model", str(policy), "--out", "out")
    with pytest.raises(AssertionError, match=complaint):
        raise AssertionError(said)
    assert not Path("out").exists()


def test_a_model_of_another_vocabulary_is_one_sentence(here: Here, traces: Path, policy: Path) -> None:
    for member, score in enumerate((1.0, 0.0)):
        events = token_events([turn([1], [10_000 + member])], run=f"r{member}", group="g", scores=(score,))
        write(traces / f"{member}.jsonl", events)
    assert "train the model that made the traces" in here.refused("traces", "--model", str(policy), "--out", "out")


def test_traces_that_teach_nothing_are_one_sentence(here: Here, traces: Path, policy: Path) -> None:
    record(traces, 3, (0.0, 0.0))
    said = here.refused("traces", "--model", str(policy), "--out", "out")
    assert "nothing to train on: within each group every attempt got the same score" in said


def test_a_checkpoint_that_is_none_is_one_sentence(here: Here, traces: Path) -> None:
    record(traces, 1)
    said = here.refused("traces", "--model", "./nowhere", "--out", "out")
    assert "./nowhere is not a checkpoint that transformers can load" in said


def test_as_a_process_it_exits_with_2(tmp_path: Path) -> None:
    done = rao("train", "nowhere", "--model", "m", "--out", "o", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "rao: nowhere does not exist; record traces with `rao rollout`, or with `rao run --trace-dir` and `rao score`\n"
    )


# --- runs ---


def told(out: Path) -> dict[str, Any]:
    settings: dict[str, Any] = json.loads((out / "training.json").read_text())
    return settings


def test_a_run_from_traces_and_how_it_goes_on(here: Here, traces: Path, policy: Path) -> None:
    record(traces, 4)
    command = ["traces", "--model", str(policy), "--out", "better", "--set", "collect.tasks_per_step=2", *QUICK]
    code, out, err = here(*command, "--steps", "2", "--lr", "0.01", "--set", "credit.depth_weighting=none")
    assert (code, out) == (0, "better\n"), err
    assert "step 2" in err
    better = Path("better")
    assert {"model.safetensors", "model.onnx", "tokenizer.json", "agent.json", "metrics.jsonl"} <= {
        path.name for path in better.iterdir()
    }
    credit, update = told(better)["credit"], told(better)["update"]
    assert credit["depth_weighting"] == "none"
    assert {**credit, "depth_weighting": "inverse_frequency"} == {
        name: getattr(CreditConfig(), name) for name in credit
    }
    assert (update["learning_rate"], update["warmup_steps"], update["bf16"]) == (0.01, 0, False)
    assert told(better)["groups_per_step"] == 2
    assert "contains a run: continue it with --resume" in here.refused(*command, "--steps", "2")
    said = here.refused(*command, "--steps", "3", "--resume")
    assert 'credit.depth_weighting (was "none", now "inverse_frequency")' in said
    assert "learning_rate" not in said
    code, _, _ = here(*command, "--steps", "3", "--lr", "0.01", "--set", "credit.depth_weighting=none", "--resume")
    assert code == 0
    steps = [json.loads(line)["step"] for line in (better / "metrics.jsonl").read_text().splitlines() if "loss" in line]
    assert sorted(set(steps)) == [1, 2, 3]


def test_what_a_run_cannot_end_with_is_said_before_it_begins(here: Here, traces: Path, policy: Path) -> None:
    record(traces, 1)
    command = ["traces", "--model", str(policy), *QUICK]
    Path("file").touch()
    assert "file is a file" in here.refused(*command, "--out", "file")
    assert "a part of its path is a file" in here.refused(*command, "--out", "file/out")
    assert "did you mean wandb?" in here.refused(*command, "--out", "out", "--set", "update.report_to=wnadb")
    assert not Path("out").exists()


def test_the_first_step_learns_and_a_rate_given_at_resume_is_used(here: Here, traces: Path, policy: Path) -> None:
    record(traces, 4)
    command = ["traces", "--model", str(policy), "--out", "out", "--save-steps", "1", "--set", "update.bf16=false"]
    assert here(*command, "--steps", "1", "--lr", "0.01")[0] == 0
    assert Path("out/model.safetensors").read_bytes() != (policy / "model.safetensors").read_bytes()
    assert here(*command, "--steps", "3", "--lr", "0.001", "--resume")[0] == 0
    lines = [json.loads(line) for line in Path("out/metrics.jsonl").read_text().splitlines()]
    assert [line["learning_rate"] for line in lines if "loss" in line] == pytest.approx([0.01, 0.001, 0.001])
    assert "update.loss_type" in here.refused(*command, "--steps", "4", "--set", "update.loss_type=ppo", "--resume")


def test_a_model_with_sliding_windows_is_trained_right_padded(here: Here, traces: Path, policy: Path) -> None:
    record(traces, 1)
    shutil.copytree(policy, "mistral")
    config = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    made: Any = MistralForCausalLM(MistralConfig(vocab_size=640, num_key_value_heads=1, sliding_window=8, **config))
    made.save_pretrained("mistral")
    command = ["traces", "--model", "./mistral", "--steps", "1", *QUICK]
    assert "--set update.padding_free=false" in here.refused(*command, "--out", "refused")
    code, _, err = here(*command, "--out", "out", "--set", "update.padding_free=false")
    assert code == 0, err
    assert not Path("out/model.onnx").exists()


def test_the_temperature_of_the_traces_is_that_of_the_training(here: Here, traces: Path, policy: Path) -> None:
    for member, score in enumerate((1.0, 0.0)):
        events = token_events(
            [turn([1], [2 + member])], run=f"r{member}", scores=(score,), settings={"temperature": 0.5}
        )
        write(traces / f"{member}.jsonl", events)
    command = ["traces", "--model", str(policy), "--steps", "1", *QUICK]
    assert here(*command, "--out", "out")[0] == 0
    assert told(Path("out"))["temperature"] == 0.5
    assert "sampled at temperature 0.5" in here.refused(*command, "--out", "o", "--set", "collect.temperature=1")


def test_traces_that_are_left_out_are_counted(here: Here, traces: Path, policy: Path) -> None:
    record(traces, 1)
    (traces / "empty.jsonl").touch()
    (traces / "strange.jsonl").write_text("no trace\n")
    code, _, err = here("traces", "--model", str(policy), "--steps", "1", "--out", "out", *QUICK)
    assert code == 0
    assert "rao: traces left out: 1 of its traces was cut off, 1 of its traces cannot be read\n" in err
    assert "strange.jsonl" in err


def test_sigterm_ends_a_run_saved(here: Here, traces: Path, policy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record(traces, 4)
    plain = RaoTrainer.training_step

    def stopped(self: Any, *args: Any) -> Any:
        if self.state.global_step == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return plain(self, *args)

    monkeypatch.setattr(RaoTrainer, "training_step", stopped)
    command = ["traces", "--model", str(policy), "--out", "out", "--steps", "4", *QUICK]
    code, out, err = here(*command)
    assert (code, out) == (128 + signal.SIGTERM, "")
    assert "stopped by SIGTERM at step 2, which is saved: continue with --resume" in err
    monkeypatch.undo()
    monkeypatch.chdir(traces.parent)
    assert here(*command, "--resume")[:2] == (0, "out\n")


def test_a_signal_to_an_online_run_is_one_line_and_its_exit_status(
    here: Here, policy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: Any, **__: Any) -> None:
        raise TrainingStopped(signal.SIGTERM, 3)

    monkeypatch.setattr("rao_rl.train.run.train_online", stopped)
    code, out, err = here("--env", "textcraft", "--online", "--model", str(policy), "--out", "out")
    assert (code, out) == (128 + signal.SIGTERM, "")
    assert err.splitlines()[-1] == "rao: stopped by SIGTERM at step 3, which is saved: continue with --resume"


def test_nothing_to_go_on_with_is_one_sentence(here: Here, traces: Path, policy: Path) -> None:
    record(traces, 1)
    assert "out contains no run to resume" in here.refused(
        "traces", "--model", str(policy), "--out", "out", "--resume", *QUICK
    )


def test_a_run_that_diverges_is_one_sentence_and_its_batch_is_saved(here: Here, traces: Path, policy: Path) -> None:
    record(traces, 4)
    code, out, err = here("traces", "--model", str(policy), "--out", "out", "--lr", "1e30", *QUICK)
    assert (code, out) == (2, "")
    last = err.splitlines()[-1]
    assert last.startswith("rao: the ")
    assert " at step 2; its 8 rows are in out/checkpoints/diverged-step-000002.parquet. " in last
    assert "--resume and a lower learning rate" in last
    assert Path("out/checkpoints/diverged-step-000002.parquet").is_file()


def test_a_length_given_by_name_is_kept(here: Here, policy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr("rao_rl.train.run.train_online", lambda *_, online, **__: seen.append(online))
    command = ["--env", "textcraft", "--online", "--model", str(policy), "--out", "out"]
    here(*command, "--set", "online.max_generated_tokens=500", "--set", "online.max_steps=7")
    here(*command, "--set", "online.max_generated_tokens=500", "--generated", "900", "--steps", "9")
    assert [(each.max_steps, each.max_generated_tokens) for each in seen] == [(7, 500), (9, 900)]
