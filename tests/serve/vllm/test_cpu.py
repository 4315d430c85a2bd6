"""What vLLM is given on a CPU, so that it starts soon and stays up; the user's own options win."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from rao_rl.serve.vllm import cpu
from rao_rl.serve.vllm.command import Served, Vllm, VllmCommand
from recursive_agent.model.embedded import SHIPPED

from ...cli.serving import serving
from .standin import StandIn

WHOLE, EAGER = "--no-enable-chunked-prefill", "--enforce-eager"


def command(*more: str, model: str = str(SHIPPED), on_cpu: bool = True) -> VllmCommand:
    vllm = Vllm("python", ("-m", "vllm", "serve"), on_cpu=on_cpu)
    return VllmCommand(vllm=vllm, served=Served.find(model), host="127.0.0.1", port=8000, more=more)


def test_prompts_are_read_whole_and_a_small_model_is_not_compiled() -> None:
    options = command().options
    assert {WHOLE, EAGER, "--kv-cache-memory-bytes"} <= {*options}
    assert "--max-num-batched-tokens" not in options, "vLLM raises it to the window by itself"
    assert not {WHOLE, EAGER, "--kv-cache-memory-bytes"} & {*command(on_cpu=False).options}
    assert command(on_cpu=False).choices == ()


def test_cached_tokens_are_asked_for_everywhere() -> None:
    assert all("--enable-prompt-tokens-details" in command(on_cpu=on_cpu).options for on_cpu in (True, False))


@pytest.mark.parametrize(
    "own", [["--enable-chunked-prefill"], ["--no-enable-chunked-prefill"], ["--enable_chunked_prefill=true"]]
)
def test_who_chooses_chunks_keeps_the_choice(own: list[str]) -> None:
    made = command(*own)
    assert WHOLE not in made.options
    assert [word for word in made.start() if "chunked" in word] == own


@pytest.mark.parametrize(
    "own",
    [["--enforce-eager"], ["--no-enforce-eager"], ["-O3"], ["-O", "1"], ["-cc.mode=3"], ["--compilation-config.mode", "3"],
     ["--compilation_config", "{}"], ["--optimization-level=2"]],
)  # fmt: skip
def test_who_chooses_how_it_is_compiled_keeps_the_choice(own: list[str]) -> None:
    assert EAGER not in command(*own).options
    assert WHOLE in command(*own).options


@pytest.mark.parametrize(
    ("own", "whole"),
    [
        (["--max-num-batched-tokens", "2048"], True),
        (["--max-num-batched-tokens", "2k"], False),
        (["--max-num-batched-tokens=2K"], True),
        (["--max-num-batched-tokens", "512"], False),
        (["--max_num_batched_tokens", "512", "--max-model-len", "512"], True),
        (["--max-num-batched-tokens", "2048", "--max-model-len", "4k"], False),
        (["--max-num-batched-tokens", "2048", "--max-model-len", "auto"], False),
        (["--max-num-batched-tokens", "many"], False),
    ],
)
def test_fewer_tokens_a_step_than_the_window_has_are_warned_of(own: list[str], whole: bool) -> None:
    made = command(*own)
    assert (WHOLE in made.options) is whole
    warned = [choice.reason for choice in made.choices if not choice.options]
    assert bool(warned) is not whole
    assert whole or "make it at least the context window" in warned[0]


@pytest.mark.parametrize(
    ("config", "whole"),
    [({"max_position_embeddings": 1000}, True), ({"text_config": {"max_position_embeddings": 1000}}, True),
     ({"max_position_embeddings": 1001}, False), ({}, False)],
)  # fmt: skip
def test_without_an_agent_json_the_window_is_the_models(tmp_path: Path, config: dict[str, object], whole: bool) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert (WHOLE in command("--max-num-batched-tokens", "1000", model=str(tmp_path)).options) is whole


def test_large_models_and_those_of_a_hub_are_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert EAGER not in command(model="Qwen/Qwen3-4B").options
    folder = Path(shutil.copytree(SHIPPED, tmp_path / "policy"))
    assert EAGER in command(model=str(folder)).options
    monkeypatch.setattr(cpu, "_SMALL", 1000)
    assert EAGER not in command(model=str(folder)).options


@pytest.mark.parametrize("quiet", [False, True])
def test_it_says_what_it_chose_and_why(tmp_path: Path, quiet: bool) -> None:
    standin = StandIn(tmp_path)
    arguments = [str(SHIPPED), "--port", "0", "--python", str(standin.python), *(["--quiet"] if quiet else [])]
    with serving(*arguments, cwd=tmp_path) as served:
        assert served.url().endswith("/v1")
        given = standin.told["arguments"]
        served.stop(15)
    assert {WHOLE, EAGER} <= {*given}
    said = [line for line in served.lines if line.startswith(f"  {WHOLE}: prompts are read whole")]
    assert bool(said) is not quiet
