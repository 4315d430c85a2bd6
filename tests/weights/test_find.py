"""A model that is not there is found out at once: a folder first, then the hub, which is asked once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rao_rl.weights.find import find_model
from recursive_agent.errors import ConfigurationError


@pytest.mark.parametrize("name", ["nope", "some/one", "./nope", "/nope", "~/nope", "a/b/c", "ends-", "with space"])
def test_what_is_nowhere_is_one_sentence(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(
        ConfigurationError, match=r"is not a checkpoint that transformers can load: there is no such folder"
    ):
        find_model(name)


def test_folders_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "policy").mkdir()
    with pytest.raises(ConfigurationError, match=r"the folder has no config\.json$"):
        find_model("policy")
    (tmp_path / "policy" / "adapter_config.json").write_text("{}")
    with pytest.raises(ConfigurationError, match="it is a LoRA adapter, so merge it"):
        find_model("policy")
    (tmp_path / "policy" / "config.json").write_text(json.dumps({}))
    assert find_model("policy") == "policy"
    with pytest.raises(ConfigurationError, match="it is a file; give the folder"):
        find_model("policy/config.json")


def test_a_hub_that_cannot_be_reached_is_not_asked_again_and_again(tmp_path: Path) -> None:
    asked = "from rao_rl.weights.find import find_model\nfind_model('nope')"
    surroundings = {key: value for key, value in os.environ.items() if key != "HF_HUB_OFFLINE"}
    surroundings |= {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path)}
    begun = time.monotonic()
    ended = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, env=surroundings, timeout=120)
    assert "there is no such folder, and the model hub cannot be reached" in ended.stderr
    assert time.monotonic() - begun < 60
