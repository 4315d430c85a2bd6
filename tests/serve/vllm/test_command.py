"""What vLLM is started with, for a checkpoint, a plain model, an adapter, and a trainer."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest

from rao_rl.errors import VllmMissing
from rao_rl.serve.vllm.command import Served, Vllm, VllmCommand
from recursive_agent import ConfigurationError
from recursive_agent.checkpoint import CheckpointSettings
from recursive_agent.model.embedded import SHIPPED

from .standin import StandIn

VLLM = Vllm("python", ("-m", "vllm", "serve"))


def command(served: Served, **given: Any) -> VllmCommand:
    return VllmCommand(served=served, **{"vllm": VLLM, "host": "127.0.0.1", "port": 8000, **given})


def value(of: VllmCommand, name: str) -> str | None:
    """What follows an option on the command line; None where it is not there."""
    line = of.start()
    return line[line.index(name) + 1] if name in line else None


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SHIPPED, tmp_path / "policy"))


def plain(folder: Path, **config: Any) -> Path:
    """A model without an agent.json."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(b"0" * 64)
    return folder


def adapter(folder: Path, **config: Any) -> Path:
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def test_a_checkpoint_is_served_as_its_agent_json_says(policy: Path) -> None:
    made = command(Served.find(str(policy)))
    line = made.start()
    assert line[:5] == ["python", "-m", "vllm", "serve", str(policy)]
    at = line.index("--served-model-name")
    assert line[at + 1 : at + 3] == ["rao-textcraft", str(policy)]
    assert value(made, "--max-model-len") == "2048"
    assert value(made, "--logprobs-mode") == "processed_logprobs"
    assert value(made, "--generation-config") == "vllm"
    assert json.loads(value(made, "--override-generation-config") or "") == {"temperature": 0.5}
    assert value(made, "--dtype") == "float32"
    assert "--enable-prefix-caching" in line
    assert "--enable-lora" not in line
    assert made.url == "http://127.0.0.1:8000/v1"


def test_a_plain_model_keeps_what_it_says_of_itself(tmp_path: Path) -> None:
    made = command(Served.find(str(plain(tmp_path / "qwen", dtype="bfloat16"))))
    assert made.served.names == ("qwen", str(tmp_path / "qwen"))
    for option in ("--max-model-len", "--generation-config", "--override-generation-config", "--dtype"):
        assert option not in made.options


def test_large_float32_weights_are_left_to_vllm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = plain(tmp_path / "big", torch_dtype="float32")
    assert "--dtype" in command(Served.find(str(folder))).options
    monkeypatch.setattr("rao_rl.serve.vllm.command._FLOAT32_BYTES", 63)
    assert "--dtype" not in command(Served.find(str(folder))).options


def test_a_name_is_for_vllm_to_find_and_nothing_is_taken_to_be_here() -> None:
    made = command(Served.find("Qwen/Qwen3-4B"))
    assert made.served.names == ("Qwen/Qwen3-4B",)
    assert "HF_HUB_OFFLINE" not in made.variables
    assert command(Served.find(str(SHIPPED))).variables == {
        "HF_HUB_OFFLINE": "1",
        "VLLM_HTTP_TIMEOUT_KEEP_ALIVE": "75",
    }


@pytest.mark.parametrize(("rank", "told"), [(1, "8"), (8, "8"), (9, "16"), (300, "320")])
def test_an_adapter_is_served_on_the_base_that_it_names(tmp_path: Path, rank: int, told: str) -> None:
    folder = adapter(tmp_path / "lora", base_model_name_or_path="Qwen/Qwen3-4B", r=rank)
    made = command(Served.find(str(folder)))
    assert (made.served.model, made.served.name) == ("Qwen/Qwen3-4B", "lora")
    assert value(made, "--served-model-name") == "Qwen/Qwen3-4B"
    assert value(made, "--lora-modules") == f"lora={folder}"
    assert value(made, "--max-lora-rank") == told


def test_an_adapter_on_a_given_base_is_prompted_by_either(tmp_path: Path, policy: Path) -> None:
    folder = adapter(tmp_path / "lora", base_model_name_or_path="elsewhere", r=4)
    bare = Served.find(str(policy), folder)
    assert (bare.model, bare.name, bare.settings) == (str(policy), "lora", CheckpointSettings.load(policy))
    CheckpointSettings(name="own", prompt_style="rich").save(folder)
    own = Served.find(str(policy), folder)
    assert (own.name, own.settings and own.settings.prompt_style) == ("own", "rich")


def test_on_cpus_it_takes_a_part_of_the_memory_and_not_nearly_all(policy: Path) -> None:
    served = Served.find(str(policy))
    there = Vllm("python", ("-m", "vllm", "serve"), on_cpu=True)
    given = value(command(served, vllm=there), "--kv-cache-memory-bytes")
    assert given in {f"{size}G" for size in range(1, 9)}
    assert value(command(served), "--kv-cache-memory-bytes") is None
    for own in (("--kv-cache-memory-bytes", "5k"), ("--gpu-memory-utilization=0.5",)):
        assert tuple(command(served, vllm=there, more=own).start()[-4 - len(own) : -4]) == own
        assert f"{given}" not in command(served, vllm=there, more=own).options


def test_a_trainer_gets_the_switches_that_pushes_need_on_this_machine_only(policy: Path) -> None:
    served = Served.find(str(policy))
    made = command(served, weight_updates=True)
    assert made.environment()["VLLM_SERVER_DEV_MODE"] == "1"
    assert made.environment()["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "1"
    assert {"--enable-lora", "--max-cpu-loras"} <= {*made.options}
    assert "VLLM_SERVER_DEV_MODE" not in command(served).variables
    with pytest.raises(ConfigurationError, match="loopback"):
        command(served, weight_updates=True, host="0.0.0.0", api_keys=("k",))


def test_what_is_passed_on_has_the_last_word_but_for_the_address(policy: Path) -> None:
    made = command(Served.find(str(policy)), host="::1", more=("--dtype", "bfloat16", "--hos", "0.0.0.0"))
    line = made.start()
    assert line[-8:] == ["--dtype", "bfloat16", "--hos", "0.0.0.0", "--host", "::1", "--port", "8000"]
    assert made.url == "http://[::1]:8000/v1"
    assert command(made.served, host="0.0.0.0").url == "http://127.0.0.1:8000/v1"
    assert command(made.served, more=("--ssl-certfile=c",)).url == "https://127.0.0.1:8000/v1"
    with pytest.raises(ConfigurationError, match="--served-model-name cannot be passed to vLLM"):
        command(made.served, more=("--served-model-name=x",))


def test_one_key_goes_by_the_environment_and_no_key_is_shown(policy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_API_KEY", "another")
    served = Served.find(str(policy))
    one, two, none = (command(served, api_keys=keys) for keys in (("key-1",), ("key-1", "key-2"), ()))
    assert one.environment()["VLLM_API_KEY"] == "key-1"
    assert "key-1" not in one.start()
    assert value(two, "--api-key") == "key-1"
    assert "VLLM_API_KEY" not in {**two.environment(), **none.environment()}
    assert str(one).endswith(" --api-key …")
    assert str(two).endswith(" --api-key … …")
    assert "key-1" not in f"{two}{two!r}"


def test_the_command_that_is_shown_is_the_one_that_is_run(policy: Path) -> None:
    made = command(Served.find(str(policy)), weight_updates=True, more=("--max-num-seqs", "3"))
    *variables, vllm = str(made).partition("vllm serve ")
    assert dict(word.split("=") for word in variables[0].split()) == made.variables
    assert [*VLLM.arguments, *shlex.split(vllm)] == made.start()[1:]


@pytest.mark.parametrize("text", ["{", "[]", '{"r": "x", "base_model_name_or_path": "b"}', '{"r": 8}'])
def test_an_adapter_that_says_too_little_is_refused(tmp_path: Path, text: str) -> None:
    folder = adapter(tmp_path / "lora")
    (folder / "adapter_config.json").write_text(text)
    with pytest.raises(ConfigurationError, match=r"cannot be read|names no base model|is not a LoRA"):
        command(Served.find(str(folder))).start()


def test_vllm_is_found_where_it_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    standin = StandIn(tmp_path)
    by_name = Vllm.find(str(standin.python))
    monkeypatch.setenv("RAO_VLLM_PYTHON", str(standin.python))
    arguments = ("-m", "vllm.entrypoints.openai.api_server", "--model")
    assert by_name == Vllm.find() == Vllm(str(standin.python), arguments, on_cpu=True)
    named = tmp_path / "site" / "vllm-0.31.0.dist-info"
    named.mkdir()
    (named / "METADATA").write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 0.31.0\n")
    assert Vllm.find() == Vllm(str(standin.python), ("-m", "vllm.entrypoints.cli.main", "serve"))


def test_a_folder_that_is_called_vllm_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "vllm").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAO_VLLM_PYTHON", raising=False)
    bare = tmp_path / "python"
    bare.write_text('#!/bin/sh\nexec /usr/bin/env python3 -S "$@"\n')
    bare.chmod(0o755)
    with pytest.raises(VllmMissing, match="not installed"):
        Vllm.find(str(bare))
