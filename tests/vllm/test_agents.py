"""Agents whose model is a real vLLM: from the command line, behind the agent's own API, and with an adapter."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from rao_rl.envs import make
from rao_rl.weights.sync import Probe
from recursive_agent.checkpoint import CheckpointSettings
from recursive_agent.model import connect, resolve_endpoint
from recursive_agent.model.embedded import SHIPPED
from recursive_agent.model.template import CheckpointRenderer
from recursive_agent.trace.folder import trace_files
from recursive_agent.trace.tree import ExecutionTree
from tests.cli.command import environment, rao
from tests.cli.serving import serving

from .conftest import NAME, Vllm, interpreter
from .test_interfaces import CLOSE
from .test_pushes import adapted, learn

pytestmark = pytest.mark.anyio


def test_rao_run_on_what_rao_serve_serves(vllm: Vllm, tmp_path: Path) -> None:
    printed = {"OPENAI_BASE_URL": vllm.url, "RAO_MODEL": str(vllm.folder)}
    done = rao("run", "--demo", "--json", cwd=tmp_path, env=environment(**printed), timeout=180)
    assert done.returncode == 0, done.stderr
    assert "Unclosed" not in done.stderr
    told = json.loads(done.stdout)
    assert told["output"].startswith("Crafted ")
    (path,) = trace_files(tmp_path / "traces")
    tree = ExecutionTree.load(path)
    assert (tree.root.score, tree.max_depth >= 2) == (1.0, True)
    calls = [step.model for node in tree.walk() for step in node.steps if step.model is not None]
    assert all(call.token_ids is not None and call.logprobs is not None for call in calls)


def test_the_plain_openai_client_uses_the_agent(vllm: Vllm, tmp_path: Path) -> None:
    with serving("--agent", "--base-url", vllm.url, "--model", str(vllm.folder), "--port", "0", cwd=tmp_path) as server:
        url = server.url()
        with openai.OpenAI(base_url=url, api_key="none") as client:
            told, text = crafted(client, f"{NAME}-agent")
        assert text.startswith("Crafted ")
        assert (told["status"], told["score"]) == ("finished", 1.0)
        assert httpx2.get(f"{url}/traces/{told['run']}").status_code == 200
        assert server.stop(signal.SIGTERM) == 0


async def test_an_adapter_is_served_on_its_base_with_the_agent_before_it(tmp_path: Path, policy: Any) -> None:
    lora = adapted(policy)
    learn(lora, 0)
    folder = tmp_path / "adapter"
    lora.save_pretrained(folder, save_embedding_layers=False)
    named = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**named, "base_model_name_or_path": str(SHIPPED)}))
    CheckpointSettings.load(SHIPPED).model_copy(update={"name": "better"}).save(folder)
    command = [str(folder), "--agent", "--port", "0", "--python", interpreter(), "--max-agents", "40"]
    with serving(*command, cwd=tmp_path) as server:
        url = server.url()
        assert url, server.errors
        async with openai.AsyncOpenAI(base_url=url, api_key="none") as client:
            assert [card.id for card in (await client.models.list()).data] == ["better-agent", "better"]
        raw: Any = connect(resolve_endpoint("better", url), interface="tokens", renderer=CheckpointRenderer(SHIPPED))
        raw.version = "0"
        push = await Probe(tolerance=CLOSE).check(raw, lora, version=0, method="rao serve", started=0.0)
        await raw.aclose()
        assert push.probe_tokens > 10
        with openai.OpenAI(base_url=url, api_key="none") as plain:
            told, _ = crafted(plain, "better-agent")  # how well it does is another question: its weights are noise
        assert told["agents"] >= 1
        assert server.stop(signal.SIGTERM) == 0


def crafted(client: openai.OpenAI, model: str) -> tuple[dict[str, Any], str]:
    """What the agent says of an easy task, and its answer."""
    task = next(iter(make("textcraft").tasks("test", 0, level="easy")))
    answer = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": task.goal}], seed=0, timeout=240
    )
    assert answer.model_extra is not None
    return answer.model_extra["rao"], answer.choices[0].message.content or ""
