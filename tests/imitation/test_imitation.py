"""The imitation trainer: what it learns from, and that a killed run goes on as if nothing had happened."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rao_cli.main import main

from rao_rl.config import ImitationConfig
from rao_rl.data.rows import TokenRow
from rao_rl.errors import DataError, TrainingDiverged, TrainingStopped
from rao_rl.imitation.lessons import DemonstrationBlocks, cut_steps
from rao_rl.imitation.policy import create
from rao_rl.imitation.recorded import read_successful
from rao_rl.imitation.run import train, train_on_traces
from rao_rl.weights.checkpoint import load_checkpoint
from recursive_agent.checkpoint import CheckpointSettings
from recursive_agent.errors import ConfigurationError
from recursive_agent.model.base import Message
from recursive_agent.model.embedded import EmbeddedModel
from recursive_agent.status import Status
from recursive_agent.trace.schema import ModelCalled, NodeEnded, NodeStarted, RunEnded, RunStarted, Scored
from recursive_agent.trace.store import TraceWriter
from recursive_agent.usage import Usage

from ..train.policies import CURRICULUM, TINY, make_checkpoint, make_encoder

Block = Callable[[int], Sequence[Sequence[TokenRow]]]


def config(out: Path, **more: Any) -> ImitationConfig:
    given = {
        "max_steps": 6,
        "tokens_per_step": 600,
        "save_steps": 3,
        "learning_rate": 2e-3,
        "warmup_steps": 1,
        "bf16": False,
    }
    return ImitationConfig(output_dir=str(out), **{**given, **more})


def blocks(tokenizer: Any) -> DemonstrationBlocks:
    return DemonstrationBlocks(make_encoder(tokenizer), CURRICULUM, tokens=600, context_length=256)


def metrics(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_a_short_run_lowers_the_loss_and_writes_metrics(tokenizer: Any, tmp_path: Path) -> None:
    model = create(TINY, tokenizer, seed=0)
    train(model, tokenizer, blocks(tokenizer), config(tmp_path, max_steps=25, learning_rate=1e-2, save_steps=100))
    losses = [entry["loss"] for entry in metrics(tmp_path) if "loss" in entry]
    assert len(losses) == 25
    assert losses[-1] < 0.6 * losses[0]


def test_a_killed_run_resumes_with_the_samples_that_would_have_come(tokenizer: Any, tmp_path: Path) -> None:
    whole = create(TINY, tokenizer, seed=0)
    train(whole, tokenizer, blocks(tokenizer), config(tmp_path / "whole"))

    source = blocks(tokenizer)

    def dying(number: int) -> list[list[TokenRow]]:
        steps = source(number)

        class Steps(list[list[TokenRow]]):
            def __getitem__(self, index: Any) -> Any:
                return _until(steps[index], 5)

        return Steps(steps)

    def _until(steps: list[list[TokenRow]], count: int) -> Any:
        yield from steps[:count]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(create(TINY, tokenizer, seed=0), tokenizer, dying, config(tmp_path / "killed"))
    resumed = create(TINY, tokenizer, seed=99)
    train(resumed, tokenizer, blocks(tokenizer), config(tmp_path / "killed", resume=True))
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)
    ends = [[entry for entry in metrics(tmp_path / name) if "loss" in entry][-1] for name in ("whole", "killed")]
    assert ends[0]["loss"] == pytest.approx(ends[1]["loss"], abs=1e-6)


def test_a_resumed_run_follows_the_length_it_is_now_given(tokenizer: Any, tmp_path: Path) -> None:
    train(create(TINY, tokenizer, seed=0), tokenizer, blocks(tokenizer), config(tmp_path, max_steps=3))
    model = create(TINY, tokenizer, seed=0)
    train(model, tokenizer, blocks(tokenizer), config(tmp_path, max_steps=20, resume=True))
    rates = [entry["learning_rate"] / 2e-3 for entry in metrics(tmp_path) if "loss" in entry]
    assert len(rates) == 20
    assert rates[2] == pytest.approx(1 / 3 / 0.4)
    assert rates[5:11] == pytest.approx([1.0] * 6)
    assert rates[-1] == pytest.approx(1 / 20 / 0.4)


def test_resuming_nothing_is_refused(tokenizer: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no checkpoint to resume"):
        train(create(TINY, tokenizer, seed=0), tokenizer, blocks(tokenizer), config(tmp_path, resume=True))


def test_a_run_by_time_ends_by_time(tokenizer: Any, tmp_path: Path) -> None:
    model = create(TINY, tokenizer, seed=0)
    train(model, tokenizer, blocks(tokenizer), config(tmp_path, max_steps=None, minutes=0.02))
    assert 0 < metrics(tmp_path)[-1]["step"] < 1000


# --- recorded trees ---


def record(folder: Path, *, scores: dict[str, float], finished: tuple[str, ...], style: str = "minimal") -> None:
    with TraceWriter(folder / "run.jsonl") as writer:
        settings = {"prompt_style": style, "action_format": "fenced"}
        writer.append(RunStarted(time=0.0, run="r", model="m", interface="chat", settings=settings))
        for name in ("0", "0.0", "0.1"):
            parent = None if name == "0" else "0"
            writer.append(NodeStarted(time=0.0, node=name, parent=parent, depth=name.count("."), goal=f"goal {name}"))
            writer.append(
                ModelCalled(
                    time=1.0,
                    node=name,
                    step=1,
                    started=0.5,
                    messages=[Message("user", f"goal {name}\nget_info finish")],
                    text=f"```python\nfinish({name[-1]})\n```",
                    finish_reason="stop",
                    usage=Usage(calls=1),
                    model="m",
                )
            )
            status = Status.FINISHED if name in finished else Status.STEP_LIMIT
            writer.append(NodeEnded(time=2.0, node=name, status=status))
        writer.append(RunEnded(time=3.0, status=Status.FINISHED, usage=Usage()))
        for name, score in scores.items():
            writer.append(Scored(time=4.0, node=name, score=score))


def goals(traces: Path) -> list[str]:
    return [messages[0].content.split("\n")[0] for messages in read_successful(traces, threshold=1.0).conversations]


def test_what_is_imitated_is_scored_well_or_finished_where_nobody_scored(tmp_path: Path) -> None:
    record(tmp_path, scores={"0": 0.0, "0.0": 1.0}, finished=("0", "0.1"))
    assert goals(tmp_path) == ["goal 0.0", "goal 0.1"]


def test_traces_become_a_better_checkpoint_that_runs(tokenizer: Any, tmp_path: Path) -> None:
    (tmp_path / "traces").mkdir()
    record(tmp_path / "traces", scores={}, finished=("0", "0.0", "0.1"))
    make_checkpoint(tmp_path / "start", tokenizer)
    settings = config(tmp_path / "out", max_steps=None, learning_rate=1e-2, save_steps=1000)
    loss = train_on_traces(settings, tmp_path / "traces", tmp_path / "start", epochs=30)
    assert loss < 0.5
    model = EmbeddedModel(tmp_path / "out")
    assert model.settings.prompt_style == "minimal"
    assert CheckpointSettings.load(tmp_path / "out").name == "tiny"


@pytest.mark.parametrize(
    ("scores", "finished", "reason"),
    [({"0": 0.0, "0.0": 0.5, "0.1": 0.0}, ("0",), "none of the 3 agents"), ({}, (), "none of the 3 agents")],
)
def test_nothing_successful_is_said_in_a_sentence(
    tmp_path: Path, scores: dict[str, float], finished: tuple[str, ...], reason: str
) -> None:
    record(tmp_path, scores=scores, finished=finished)
    with pytest.raises(DataError, match=reason):
        read_successful(tmp_path, threshold=1.0)


def test_no_traces_is_said_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="contains no traces"):
        read_successful(tmp_path, threshold=1.0)


def test_a_model_that_is_none_is_said_in_a_sentence(tmp_path: Path) -> None:
    record(tmp_path, scores={}, finished=("0",))
    with pytest.raises(ConfigurationError, match="not a checkpoint that transformers can load"):
        train_on_traces(config(tmp_path / "out"), tmp_path, tmp_path / "nowhere")


def test_steps_begin_before_the_budget_is_full() -> None:
    rows = [TokenRow(np.ones(size, np.int32), np.ones(size, np.bool_)) for size in (5, 5, 5, 20, 1)]
    assert [[len(row) for row in step] for step in cut_steps(rows, 10)] == [[5, 5], [5, 20], [1]]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--env", "textcraft"], "--out"),
        (["--out", "x"], "traces or --env"),
        (["--out", "x", "--env", "nowhere"], "there is no environment 'nowhere'"),
        (["t", "--out", "x"], "--model"),
        (["--out", "x", "--env", "textcraft", "--steps", "1", "--minutes", "1"], "not both"),
    ],
)
def test_the_command_refuses_what_makes_no_sense(
    arguments: list[str], reason: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["rao", "train", "--objective", "imitation", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    said = capsys.readouterr().err
    assert stopped.value.code == 2
    assert reason in said


# --- what goes wrong ---


def start(folder: Path, tokenizer: Any, *goals: str) -> Path:
    """A folder with a policy in `start` and finished runs with these goals in `traces`."""
    (folder / "traces").mkdir()
    for number, goal in enumerate(goals):
        with TraceWriter(folder / "traces" / f"{number}.jsonl") as writer:
            settings = {"prompt_style": "minimal", "action_format": "fenced"}
            writer.append(RunStarted(time=0.0, run=f"r{number}", model="m", interface="chat", settings=settings))
            writer.append(NodeStarted(time=0.0, node="0", parent=None, depth=0, goal=goal))
            said = {"text": "finish(1)", "finish_reason": "stop", "usage": Usage(calls=1), "model": "m"}
            messages = [Message("system", "be brief"), Message("user", goal)]
            writer.append(ModelCalled(time=1.0, node="0", step=1, started=0.5, messages=messages, **said))
            writer.append(NodeEnded(time=2.0, node="0", status=Status.FINISHED))
            writer.append(RunEnded(time=3.0, status=Status.FINISHED, usage=Usage()))
    make_checkpoint(folder / "start", tokenizer)
    return folder


def imitate(folder: Path, out: str = "out", **more: Any) -> list[str]:
    """Train there; what was said of the data."""
    said: list[str] = []
    settings = config(folder / out, **{"max_steps": 2, "save_steps": 100, **more})
    train_on_traces(settings, folder / "traces", folder / "start", say=said.append)
    return said


def test_runs_longer_than_the_window_are_counted_and_said(tokenizer: Any, tmp_path: Path) -> None:
    start(tmp_path, tokenizer, "short", "long " * 1000)
    (said,) = imitate(tmp_path)
    assert "1 of 2 conversations are longer than the model's window of 256 tokens: 1 left out" in said
    told = json.loads((tmp_path / "out" / "training.json").read_text())
    assert told["conversations"] == {"trained": 1, "left_out": 1, "longer_than_window": 1}


def test_nothing_left_to_learn_from_is_refused_before_a_folder_is_made(tokenizer: Any, tmp_path: Path) -> None:
    start(tmp_path, tokenizer, "long " * 1000)
    with pytest.raises(ConfigurationError, match="nothing to learn from: each of the 1 conversations is too long"):
        imitate(tmp_path)
    assert not (tmp_path / "out").exists()
    with pytest.raises(ConfigurationError, match="nothing to learn from"):
        train(create(TINY, tokenizer, seed=0), tokenizer, lambda number: [], config(tmp_path / "out"))


def test_a_window_too_short_for_any_demonstration_is_refused(tokenizer: Any) -> None:
    with pytest.raises(ConfigurationError, match="the window of 4 tokens is too short"):
        DemonstrationBlocks(make_encoder(tokenizer), CURRICULUM, tokens=600, context_length=4)(0)


@pytest.mark.parametrize("steps", [1, 4])
def test_a_run_that_diverges_writes_no_checkpoint_and_goes_on_with_a_lower_rate(
    steps: int, tokenizer: Any, tmp_path: Path
) -> None:
    start(tmp_path, tokenizer, "short")
    with pytest.raises(TrainingDiverged, match="--resume and a lower learning rate"):
        imitate(tmp_path, learning_rate=1e30, max_steps=steps, save_steps=1)
    assert not list((tmp_path / "out").rglob("model.safetensors"))
    imitate(tmp_path, learning_rate=1e-3, max_steps=steps, save_steps=1, resume=True)
    assert all(bool(value.isfinite().all()) for value in load_checkpoint(tmp_path / "out")[0].parameters())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_run_saved_and_it_goes_on_as_if_nothing_had_happened(
    number: signal.Signals, tokenizer: Any, tmp_path: Path
) -> None:
    whole, killed = create(TINY, tokenizer, seed=0), create(TINY, tokenizer, seed=0)
    long = {"save_steps": 100, "max_steps": 4}
    train(whole, tokenizer, blocks(tokenizer), config(tmp_path / "whole", **long))

    def stop(*_: Any) -> None:
        if killed.training and not heard:  # the proofs before the training are not in training mode
            heard.append(1)
            os.kill(os.getpid(), number)

    killed.register_forward_hook(stop)
    heard: list[int] = []
    with pytest.raises(TrainingStopped, match=f"stopped by {number.name} at step 1, which is saved"):
        train(killed, tokenizer, blocks(tokenizer), config(tmp_path / "killed", **long))
    assert (tmp_path / "killed" / "checkpoints" / "checkpoint-1" / "trainer_state.json").is_file()
    resumed = create(TINY, tokenizer, seed=9)
    train(resumed, tokenizer, blocks(tokenizer), config(tmp_path / "killed", resume=True, **long))
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


def test_a_run_killed_before_its_first_checkpoint_begins_anew_and_a_finished_one_is_made_longer(
    tokenizer: Any, tmp_path: Path
) -> None:
    start(tmp_path, tokenizer, "short")
    imitate(tmp_path, max_steps=2, warmup_steps=None)
    shutil.rmtree(tmp_path / "out" / "checkpoints")
    imitate(tmp_path, max_steps=3, warmup_steps=None, resume=True)
    assert [row["step"] for row in metrics(tmp_path / "out") if "loss" in row] == [1, 2, 3]
    imitate(tmp_path, max_steps=30, warmup_steps=None, learning_rate=1e-4, resume=True)
    rows = [row for row in metrics(tmp_path / "out") if "loss" in row]
    assert [row["step"] for row in rows] == list(range(1, 31))
    assert rows[10]["learning_rate"] == pytest.approx(1e-4)
    with pytest.raises(ConfigurationError, match="contains a run: continue it with --resume"):
        imitate(tmp_path)
    with pytest.raises(ConfigurationError, match=r"seed \(was 0, now 5\)"):
        imitate(tmp_path, seed=5, resume=True)


# --- chat templates ---

PLAIN = "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] + '<|end|>' }}{% endfor %}"
REFUSES = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + PLAIN
)
IGNORES = PLAIN.replace("{% for m in messages %}", "{% for m in messages if m['role'] != 'system' %}")
SPACED = PLAIN.replace("'<|end|>'", "' <|end|>'")
OTHER_END = PLAIN.replace("<|end|>", "<|tool|>")


def templated(folder: Path, template: str) -> None:
    path = folder / "start" / "chat_template.jinja"
    path.write_text(template)


@pytest.mark.parametrize("template", [REFUSES, IGNORES])
def test_a_template_without_system_messages_puts_them_before_the_user(
    template: str, tokenizer: Any, tmp_path: Path
) -> None:
    start(tmp_path, tokenizer, "short")
    templated(tmp_path, template)
    assert any("knows no system messages" in line for line in imitate(tmp_path))
    _, own, _ = load_checkpoint(tmp_path / "start")
    encoder = make_encoder(own)
    messages = [Message("system", "be brief"), Message("user", "short"), Message("assistant", "x")]
    assert own.decode(encoder.encode(messages).input_ids) == "<|user|>be brief\n\nshort<|end|><|assistant|>x<|end|>"


@pytest.mark.parametrize(
    ("template", "complaint"),
    [
        ("{{ raise_exception('never') }}", "refuses the messages: never"),
        ("{{ messages[0].nothing.at_all }}", "refuses the messages"),
        (PLAIN.replace("<|end|>", "END"), "ends an answer with no special token"),
        (PLAIN.replace(" + '<|end|>'", ""), "ends an answer with no special token"),
    ],
)
def test_a_template_that_does_not_do_is_one_sentence(
    template: str, complaint: str, tokenizer: Any, tmp_path: Path
) -> None:
    start(tmp_path, tokenizer, "short")
    templated(tmp_path, template)
    with pytest.raises(ConfigurationError, match=complaint):
        imitate(tmp_path)


@pytest.mark.parametrize(("template", "ends"), [(PLAIN, 1), (SPACED, 1), (OTHER_END, 5)])
def test_the_checkpoint_names_the_token_that_its_answers_end_with(
    template: str, ends: int, tokenizer: Any, tmp_path: Path
) -> None:
    start(tmp_path, tokenizer, "short")
    templated(tmp_path, template)
    (tmp_path / "start" / "generation_config.json").unlink()
    path = tmp_path / "start" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "eos_token_id": None}))
    assert any("which the model did not name as an end" in line for line in imitate(tmp_path))
    assert json.loads((tmp_path / "out" / "generation_config.json").read_text())["eos_token_id"] == ends
    assert EmbeddedModel(tmp_path / "out").end_ids[0] == ends


def test_a_tokenizer_of_another_model_is_one_sentence(tokenizer: Any, tmp_path: Path) -> None:
    start(tmp_path, tokenizer, "short")
    own = load_checkpoint(tmp_path / "start")[1]
    own.add_tokens(["short"])
    own.save_pretrained(tmp_path / "start")
    with pytest.raises(ConfigurationError, match="they do not belong together"):
        imitate(tmp_path)
