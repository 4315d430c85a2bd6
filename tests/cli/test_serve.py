"""`rao serve` as users start it: what it prints, passes on and ends with. tests/vllm does the same with vLLM itself."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import httpx2
import openai
import psutil
import pytest

from rao_rl.envs import make
from recursive_agent.model.embedded import SHIPPED
from recursive_agent.testing import ScriptedEndpoint
from tests.serve.vllm.standin import StandIn, is_running
from tests.waiting import wait_until

from .command import KEY, environment, rao
from .serving import serving


@pytest.fixture
def vllm(tmp_path: Path) -> StandIn:
    return StandIn(tmp_path / "standin")


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SHIPPED, tmp_path / "policy"))


def test_it_prints_the_url_the_command_and_how_it_is_used(tmp_path: Path, vllm: StandIn, policy: Path) -> None:
    with serving(
        "policy", "--port", "0", "--python", str(vllm.python), "--", "--max-num-seqs", "9", cwd=tmp_path
    ) as server:
        url = server.url()
        names = [card["id"] for card in httpx2.get(f"{url}/models").json()["data"]]
        assert names == ["rao-textcraft", str(policy)]
        told = vllm.told
        assert server.stop(signal.SIGTERM) == 0
        assert server.process.stdout is not None
        assert server.process.stdout.read() == ""  # nothing else: it pipes
    assert f"  export OPENAI_BASE_URL={url}\n  export RAO_MODEL={policy}\n" in server.errors
    assert (
        f"HF_HUB_OFFLINE=1 VLLM_HTTP_TIMEOUT_KEEP_ALIVE=75 vllm serve {policy} --served-model-name rao-textcraft {policy} "
        in server.errors
    )
    assert " --max-num-seqs 9 --host 127.0.0.1 --port " in server.errors
    assert told["arguments"][told["arguments"].index("--max-num-seqs") + 1] == "9"
    assert told["environment"]["HF_HUB_OFFLINE"] == "1"
    assert "INFO weights are loaded\n" in server.errors  # the log, on a stderr that is no terminal
    assert "the server stops\n" in server.errors
    wait_until(vllm.gone)


def test_a_start_that_fails_shows_why_and_ends_with_its_status(tmp_path: Path, vllm: StandIn, policy: Path) -> None:
    done = rao(
        "serve", "policy", "--port", "0", "--quiet",
        cwd=tmp_path, env=environment(RAO_VLLM_PYTHON=str(vllm.python), STANDIN_MANNER="fails"),
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert "ValueError: no room for the KV cache\n" in done.stderr
    assert done.stderr.endswith("rao: vLLM ended with status 1 before it was ready\n")
    wait_until(vllm.gone)


def test_a_server_that_is_killed_is_told_of_and_takes_its_helpers_along(
    tmp_path: Path, vllm: StandIn, policy: Path
) -> None:
    with serving("policy", "--port", "0", "--python", str(vllm.python), cwd=tmp_path) as server:
        assert server.url()
        os.kill(vllm.told["pids"][0], signal.SIGKILL)
        assert server.end() == 128 + signal.SIGKILL
    assert server.errors.endswith("rao: vLLM ended with status 137\n")
    wait_until(vllm.gone)


def test_nothing_outlives_a_rao_that_is_killed(tmp_path: Path, vllm: StandIn, policy: Path) -> None:
    with serving("policy", "--port", "0", "--python", str(vllm.python), cwd=tmp_path) as server:
        assert server.url()
        helpers = psutil.Process(server.process.pid).children()
        assert {*vllm.told["pids"]} & {helper.pid for helper in helpers}
        os.kill(server.process.pid, signal.SIGKILL)
        wait_until(vllm.gone)
        wait_until(lambda: not any(is_running(helper.pid) for helper in helpers))
    assert vllm.told["signals"] == [signal.SIGTERM]  # asked first, and it did


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_are_passed_on_and_so_is_the_second_one(
    tmp_path: Path, vllm: StandIn, policy: Path, number: signal.Signals
) -> None:
    with serving(
        "policy", "--port", "0", "--python", str(vllm.python), cwd=tmp_path, STANDIN_MANNER="stubborn"
    ) as server:
        assert server.url()
        os.kill(server.process.pid, number)
        wait_until(lambda: vllm.told["signals"] == [number])
        assert server.stop(number) == 1  # what it ends with after two of them
    assert vllm.told["signals"] == [number, number]
    assert "vLLM ended" not in server.errors  # as it was told to


def test_it_can_be_stopped_while_it_starts(tmp_path: Path, vllm: StandIn, policy: Path) -> None:
    with serving("policy", "--port", "0", "--python", str(vllm.python), cwd=tmp_path, STANDIN_MANNER="slow") as server:
        wait_until(lambda: "INFO weights are loaded\n" in server.lines)
        assert server.stop(signal.SIGTERM) == 0
        assert server.url() == ""
    wait_until(vllm.gone)


def test_a_key_stands_neither_on_the_command_line_nor_in_the_log(tmp_path: Path, vllm: StandIn, policy: Path) -> None:
    with serving(
        "policy", "--port", "0", "--host", "0.0.0.0", "--python", str(vllm.python), cwd=tmp_path, RAO_API_KEY=KEY
    ) as server:
        url = server.url()
        assert url.startswith("http://127.0.0.1:")
        told = vllm.told
        assert server.stop(signal.SIGTERM) == 0
    assert told["environment"]["VLLM_API_KEY"] == KEY
    assert KEY not in f"{told['arguments']}{server.errors}"
    assert " --api-key …\n" in server.errors
    assert "export OPENAI_API_KEY=" in server.errors


def test_another_name_than_the_one_that_is_told_is_refused(tmp_path: Path, vllm: StandIn, policy: Path) -> None:
    done = rao(
        "serve", "policy", "--port", "0", "--quiet",
        cwd=tmp_path, env=environment(RAO_VLLM_PYTHON=str(vllm.python), STANDIN_MANNER="renamed"),
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "rao: vLLM serves another and not rao-textcraft.\n"
    wait_until(vllm.gone)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "say what to serve"),
        (["nowhere/policy/"], "there is no such directory"),
        (["."], "neither config.json nor adapter_config.json"),
        (["policy", "another"], "leave out another"),
        (["policy", "--engine", "llama"], "vllm or embedded"),
        (["policy", "--python", "/bin/false"], "/bin/false is not a working Python interpreter"),
        (["policy", "--base-url", "http://localhost:1/v1", "--agent"], "not both"),
        (["policy", "--base-url", "http://localhost:1/v1"], "--base-url works only with --agent"),
        (["policy", "--max-agents", "3"], "--max-agents works only with --agent"),
        (["policy", "--model", "m"], "--model names the model at --base-url"),
        (["policy", "--queue", "0"], "vLLM has options of its own"),
        (["policy", "--engine", "embedded", "--", "--x"], "what follows -- belongs to vLLM"),
        (["policy", "--engine", "embedded", "--weight-updates"], "--weight-updates belongs to vLLM"),
        (["policy", "--host", "0.0.0.0"], "needs an API key"),
        (["policy", "--host", "", "--api-key", "k"], "--host is empty"),
        (["policy", "--host", "[::1]:8000"], "give the port by itself"),
        (["policy", "--allowed-origin", "*"], "vLLM has options of its own"),
        (["policy", "--engine", "embedded", "--allowed-origin", "chat.example"], "An allowed origin is written as"),
        (["policy", "--host", "0.0.0.0", "--api-key", "k", "--weight-updates"], "loopback"),
        (["policy", "--agent", "--weight-updates"], "works only without --agent"),
        (["policy", "--", "--port", "1"], "--port cannot be passed to vLLM"),
        (["policy", "--adapter", "nowhere"], "adapter_config.json cannot be read"),
        (["policy", "--agent", "--max-agents", "0"], "--max-agents must be at least 1"),
        (["policy", "--engine", "embedded", "--max-concurrency", "0"], "at least 1"),
        (["llama", "--engine", "embedded"], "llama has no tokenizer that can be read; put its tokenizer.json there"),
        (["--agent", "--base-url", "http://localhost:1/v1"], "No model is named"),
    ],
)
def test_what_makes_no_sense_is_one_sentence(
    tmp_path: Path, vllm: StandIn, policy: Path, arguments: list[str], said: str
) -> None:
    if arguments[:1] == ["llama"]:
        (tmp_path / "llama").mkdir()
        (tmp_path / "llama" / "config.json").write_text('{"model_type": "llama"}')
    done = rao("serve", *arguments, cwd=tmp_path, env=environment(RAO_VLLM_PYTHON=str(vllm.python)))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("rao: ")
    assert done.stderr.count("\n") == 1
    assert said in done.stderr
    assert not (vllm.folder / "told.json").exists()  # nothing was started for it


def test_without_vllm_it_says_what_to_install_and_what_to_do_instead(tmp_path: Path, policy: Path) -> None:
    bare = tmp_path / "bare-python"
    bare.write_text(f'#!/bin/sh\nexec "{__import__("sys").executable}" -S "$@"\n')
    bare.chmod(0o755)
    done = rao("serve", "policy", "--python", str(bare), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"rao: vLLM is not installed for {bare}. ")
    for part in ("CUDA GPU: pip install 'rao[vllm]'", "CPUs: scripts/vllm-cpu.sh", "--engine embedded"):
        assert part in done.stderr


def test_a_port_that_is_taken_is_told_before_anything_is_loaded(tmp_path: Path, vllm: StandIn, policy: Path) -> None:
    with ScriptedEndpoint("x") as other:
        port = other.base_url.removesuffix("/v1").rpartition(":")[2]
        done = rao("serve", "policy", "--port", port, "--python", str(vllm.python), cwd=tmp_path)
    assert done.returncode == 2
    assert f"Cannot listen on 127.0.0.1 port {port}" in done.stderr
    assert not (vllm.folder / "told.json").exists()


def test_the_light_engine_serves_the_checkpoint_to_any_client(tmp_path: Path, policy: Path) -> None:
    with serving("policy", "--engine", "embedded", "--port", "0", "--api-key", KEY, cwd=tmp_path) as server:
        with openai.OpenAI(base_url=server.url(), api_key=KEY) as client:
            for name in ("rao-textcraft", str(policy)):
                answer = client.completions.create(model=name, prompt="Craft", max_tokens=3, seed=1)
                assert answer.usage is not None
                assert answer.usage.completion_tokens <= 3
            with pytest.raises(openai.AuthenticationError):
                client.with_options(api_key="another").models.list()
        assert server.stop(signal.SIGTERM) == 0
    assert f"export RAO_MODEL={policy}\n" in server.errors


def test_a_specialist_as_an_agent_crafts_what_it_is_asked_for(tmp_path: Path, policy: Path) -> None:
    with serving(
        "policy", "--engine", "embedded", "--agent", "--port", "0", "--trace-dir", "kept", cwd=tmp_path
    ) as server:
        url = server.url()
        with openai.OpenAI(base_url=url, api_key="none") as client:
            assert [card.id for card in client.models.list()] == ["rao-textcraft-agent", "rao-textcraft"]

            def ask(goal: str) -> openai.types.chat.ChatCompletion:
                return client.chat.completions.create(
                    model="rao-textcraft-agent", messages=[{"role": "user", "content": goal}], seed=0
                )

            with pytest.raises(openai.BadRequestError, match="a goal reads like"):
                ask("Write a poem")
            with pytest.raises(openai.BadRequestError, match="golden_goose cannot be crafted"):
                ask("Craft the following items: 1x golden_goose")
            answer = ask(next(iter(make("textcraft").tasks("test", 0, level="easy"))).goal)
            told = answer.model_extra["rao"] if answer.model_extra else {}
            assert (told["status"], told["score"]) == ("finished", 1.0)
            trace = httpx2.get(f"{url}/traces/{told['run']}")
            assert trace.status_code == 200
            raw = client.completions.create(model="rao-textcraft", prompt="Craft", max_tokens=2)
            assert raw.usage is not None
            assert raw.usage.completion_tokens <= 2
        assert server.stop(signal.SIGTERM) == 0
    assert len(list((tmp_path / "kept").glob("*.jsonl"))) == 1
    assert "export RAO_MODEL=rao-textcraft-agent\n" in server.errors


def test_the_agent_serves_over_a_model_that_runs_already_within_its_ceilings(tmp_path: Path) -> None:
    with (
        ScriptedEndpoint("```python\nfinish(len(await launch_subagent('x')))\n```", api_key=KEY) as model,
        serving(
            "--agent", "--base-url", model.base_url, "--model", "scripted", "--port", "0", "--max-depth", "0", "-q",
            cwd=tmp_path, OPENAI_API_KEY=KEY,
        ) as server,
    ):  # fmt: skip
        with openai.OpenAI(base_url=server.url(), api_key="none") as client:
            answer = client.chat.completions.create(
                model="scripted-agent",
                messages=[{"role": "user", "content": "Think"}],
                extra_body={"limits": {"max_steps": 2, "max_depth": 3}},
            )
        told = answer.model_extra["rao"] if answer.model_extra else {}
        assert (told["agents"], told["status"]) == (1, "step_limit")
        assert server.stop(signal.SIGINT) == 0
    assert server.errors == ""
    assert len(model.requests) == 2


def test_the_agent_over_vllm_ends_with_it_and_stops_it(tmp_path: Path, vllm: StandIn, policy: Path) -> None:
    arguments = ["policy", "--agent", "--port", "0", "--python", str(vllm.python)]
    with serving(*arguments, cwd=tmp_path) as server:
        with openai.OpenAI(base_url=server.url(), api_key="none") as client:
            assert [card.id for card in client.models.list()] == ["rao-textcraft-agent", "rao-textcraft"]
        told = vllm.told
        assert told["arguments"][told["arguments"].index("--host") + 1] == "127.0.0.1"
        assert told["environment"]["VLLM_API_KEY"] not in server.errors  # its own, that nobody else has
        os.kill(told["pids"][0], signal.SIGKILL)
        assert server.end() == 128 + signal.SIGKILL
    assert server.errors.endswith("rao: vLLM ended with status 137\n")
    (vllm.folder / "told.json").unlink()
    with serving(*arguments, cwd=tmp_path) as server:
        assert server.url()
        assert server.stop(signal.SIGTERM) == 0
    assert vllm.told["signals"] == [signal.SIGTERM]
    wait_until(vllm.gone)
