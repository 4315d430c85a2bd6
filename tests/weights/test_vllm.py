"""Pushes into a server with vLLM's routes: what is asked of it, that it has the weights, and what a failure leaves behind."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from rao_rl.errors import WeightPushError
from rao_rl.weights.checkpoint import load_policy
from rao_rl.weights.files import rewrite_checkpoint
from rao_rl.weights.sync import Probe
from rao_rl.weights.torch_model import TorchEngine
from rao_rl.weights.vllm import VllmLora, VllmReload, VllmTransfer
from recursive_agent.errors import ConfigurationError
from recursive_agent.model import connect, resolve_endpoint
from recursive_agent.model.base import Message
from recursive_agent.model.batching import Request
from recursive_agent.model.template import CheckpointRenderer
from recursive_agent.model.tokens import TokensModel
from recursive_agent.testing.http import Exchange, HttpServer

from ..model.raw import answering, http
from ..train.policies import make_checkpoint

pytestmark = pytest.mark.anyio

PROBE = Probe(("Craft 2x copper_gear", "[1, 2]"), max_tokens=8)


class Server:
    """A model in `directory` behind vLLM's routes. `calls` are those that are no sampling; `broken` answers 500."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.calls: list[tuple[str, Any]] = []
        self.broken: str | None = None
        self.paused = False
        self.keeps_head = False
        self.frozen = False
        self.dtype = torch.float32
        self.models: dict[str, Any] = {"base": AutoModelForCausalLM.from_pretrained(directory)}
        self.http = HttpServer(self.handle)

    @property
    def routes(self) -> list[str]:
        return [route for route, _ in self.calls]

    async def handle(self, exchange: Exchange) -> None:
        try:
            self.answer(exchange)
        except Exception as error:
            exchange.send_json(500, {"error": f"{type(error).__name__}: {error}"})

    def answer(self, exchange: Exchange) -> None:
        parts = urlsplit(exchange.path)
        body = json.loads(exchange.body) if exchange.body else {}
        if parts.path == "/v1/completions":
            self.complete(exchange, body)
            return
        if parts.path == "/v1/models":
            cards = [{"id": name, **({"max_model_len": 256} if name == "base" else {})} for name in self.models]
            exchange.send_json(200, {"data": cards})
            return
        self.calls.append((parts.path, body or {name: value[0] for name, value in parse_qs(parts.query).items()}))
        act: Callable[[Any], Any] | None = {
            "/pause": self.pause,
            "/resume": self.resume,
            "/collective_rpc": self.reload,
            "/reset_prefix_cache": lambda _: None,
            "/v1/load_lora_adapter": self.load,
            "/v1/unload_lora_adapter": self.unload,
            "/get_world_size": lambda _: {"world_size": 3},
            "/update_weights": lambda body: self.take(load_file(body["update_info"]["file"])),
        }.get(parts.path)
        if act is None:
            exchange.send_json(404, {"detail": "Not Found"})
        elif self.broken == parts.path:
            exchange.send_json(500, {"error": "out of memory, key none"})
        else:
            exchange.send_json(200, act(body))

    def pause(self, _: Any) -> None:
        self.paused = True

    def resume(self, _: Any) -> None:
        self.paused = False

    def reload(self, body: Any) -> None:
        assert body == {"method": "reload_weights"}
        assert self.paused
        self.take(load_file(self.directory / "model.safetensors"))

    def take(self, state: Mapping[str, torch.Tensor]) -> None:
        kept = set(state) if self.frozen else {"lm_head.weight"} if self.keeps_head else set()
        self.models["base"].load_state_dict({k: v for k, v in state.items() if k not in kept}, strict=False)

    def load(self, body: Any) -> None:
        assert body["lora_name"] not in self.models
        fresh = load_policy(self.directory, self.dtype)  # several servers load at the same time
        adapted = fresh if self.frozen else PeftModel.from_pretrained(fresh, body["lora_path"])
        self.models[body["lora_name"]] = adapted

    def unload(self, body: Any) -> None:
        del self.models[body["lora_name"]]

    def complete(self, exchange: Exchange, body: dict[str, Any]) -> None:
        engine = TorchEngine(self.models[body["model"]], end_ids=body["stop_token_ids"])
        request = Request(self, body["prompt"], max_tokens=body["max_tokens"], seed=body["seed"])
        engine.submit(request)
        while not request.done:
            engine.run(1.0)
        choice = {
            "text": "x",
            "finish_reason": request.finish_reason,
            "token_ids": request.token_ids,
            "prompt_token_ids": request.prompt,
            "logprobs": {"token_logprobs": request.logprobs},
        }
        exchange.send_json(200, {"choices": [choice], "model": body["model"]})


@pytest.fixture
def anyio_backend() -> str:
    """Both event loops are tests/model/test_connections.py's."""
    return "asyncio"


@pytest.fixture
def policy(tokenizer: Any, tmp_path: Path) -> Any:
    return make_checkpoint(tmp_path / "served", tokenizer)


@pytest.fixture
def server(policy: Any, tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "served")
    server.http.start()
    yield server
    server.http.stop()


@pytest.fixture
async def model(server: Server) -> Any:
    endpoint = resolve_endpoint("base", f"http://127.0.0.1:{server.http.port}/v1", "secret-key")
    model = connect(endpoint, interface="tokens", renderer=CheckpointRenderer(server.directory), max_retries=0)
    yield model
    await model.aclose()


def moved(policy: Any, by: float = 0.1) -> Any:
    with torch.no_grad():
        for parameter in policy.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * by)
    return policy


async def version_of(model: TokensModel) -> str | None:
    conversation = model.conversation()
    conversation.add(Message("user", "hi"))
    return (await conversation.complete(max_tokens=2, seed=1)).version


async def test_reload_pauses_reads_the_files_again_forgets_and_goes_on(
    policy: Any, server: Server, model: TokensModel
) -> None:
    assert await version_of(model) is None
    push = await VllmReload(model, server.directory, probe=PROBE).push(moved(policy), 4)
    assert server.calls == [
        ("/pause", {"mode": "keep"}),
        ("/collective_rpc", {"method": "reload_weights"}),
        ("/reset_prefix_cache", {"reset_running_requests": "true"}),
        ("/resume", {}),
    ]
    assert (push.method, push.version, push.probe_tokens) == ("vllm-reload", 4, 16)
    assert push.probe_error < 1e-3
    assert await version_of(model) == "4"


async def test_a_server_that_keeps_its_old_output_embedding_is_found_out(
    policy: Any, server: Server, model: TokensModel
) -> None:
    server.keeps_head = True
    with pytest.raises(WeightPushError, match=r"pushed by vllm-reload.* differ by up to"):
        await VllmReload(model, server.directory, probe=PROBE).push(moved(policy), 1)


def halved(server: Server) -> None:
    """The server computes in bfloat16 from now on."""
    server.dtype = torch.bfloat16
    server.models["base"].to(torch.bfloat16)


async def test_a_server_in_bfloat16_passes_with_new_weights_and_fails_with_old_ones(
    policy: Any, server: Server, model: TokensModel
) -> None:
    halved(server)
    sync = VllmReload(model, server.directory)
    assert (await sync.push(policy, 0)).probe_share is None  # the file had them already
    push = await sync.push(moved(policy, 0.01), 1)
    assert push.probe_error > 1e-3
    assert push.probe_share == pytest.approx(1.0, abs=0.2)
    server.frozen = True
    with pytest.raises(WeightPushError, match=r"version 2 \(pushed by vllm-reload\): .*on average"):
        await sync.push(moved(policy, 0.01), 2)


async def test_the_first_push_to_a_server_in_bfloat16_is_compared_with_what_its_folder_held(
    policy: Any, server: Server, model: TokensModel
) -> None:
    halved(server)
    server.frozen = True
    with pytest.raises(WeightPushError, match="of the change of the weights since the start they show"):
        await VllmReload(model, server.directory).push(moved(policy, 0.001), 7)


async def test_an_adapter_on_a_server_in_bfloat16(
    policy: Any, server: Server, model: TokensModel, tmp_path: Path
) -> None:
    halved(server)
    adapted = moved(get_peft_model(policy, LoraConfig(r=4, target_modules="all-linear")), 0.02)
    sync = VllmLora(model, tmp_path / "adapters")
    assert (await sync.push(adapted, 1)).probe_share == pytest.approx(1.0, abs=0.4)
    server.frozen = True  # the name is there, and nothing behind it
    with pytest.raises(WeightPushError, match="pushed by vllm-lora"):
        await VllmLora(model, tmp_path / "adapters").push(adapted, 2)


@pytest.mark.parametrize("route", ["/pause", "/collective_rpc", "/reset_prefix_cache", "/resume"])
async def test_a_reload_that_fails_names_the_step_and_never_samples_from_half_of_it(
    policy: Any, server: Server, model: TokensModel, route: str
) -> None:
    server.broken = route
    sync = VllmReload(model, server.directory, probe=PROBE)
    with pytest.raises(WeightPushError, match=rf"127.0.0.1:\d+{route} answered 500 \(.*out of memory"):
        await sync.push(moved(policy), 1)
    assert server.routes[-1] == route
    assert server.paused == (route != "/pause")
    # And the next push mends it.
    server.broken = None
    assert (await sync.push(policy, 2)).probe_error < 1e-3
    assert not server.paused


async def test_a_server_without_the_route_or_without_life_gets_a_clear_sentence(
    policy: Any, server: Server, model: TokensModel, tmp_path: Path
) -> None:
    adapted = get_peft_model(copy.deepcopy(policy), LoraConfig(r=2, target_modules=["q_proj"]))
    model.endpoint = resolve_endpoint("base", f"http://127.0.0.1:{server.http.port}/elsewhere/v1")
    with pytest.raises(WeightPushError, match=r"404 .*switches"):
        await VllmLora(model, tmp_path / "adapters", probe=PROBE).push(adapted, 1)
    server.http.stop()
    with pytest.raises(WeightPushError, match=r"/pause gave no answer \(\w*Connect\w*Error"):
        await VllmReload(model, server.directory, probe=PROBE).push(policy, 1)


async def test_every_version_of_a_lora_has_a_name_of_its_own_and_the_last_ones_stay(
    policy: Any, server: Server, model: TokensModel, tmp_path: Path
) -> None:
    adapted = get_peft_model(policy, LoraConfig(r=4, target_modules=["q_proj", "down_proj"]))
    sync = VllmLora(model, tmp_path / "adapters", probe=PROBE, keep=2)
    for version in (1, 1, 2):
        push = await sync.push(moved(adapted), version)
        assert push.method == "vllm-lora"
        assert push.probe_error < 1e-3
        assert await version_of(model) == str(version)
    loads = [body for route, body in server.calls if route.endswith("/load_lora_adapter")]
    assert all(body["load_inplace"] is False for body in loads)
    names = [body["lora_name"] for body in loads]
    assert len(set(names)) == 3
    assert server.calls[-1] == ("/v1/unload_lora_adapter", {"lora_name": names[0]})
    assert model.name == names[2]
    assert sorted(path.name for path in (tmp_path / "adapters").iterdir()) == sorted(names[1:])
    assert await model.context_length() == 256
    server.broken = "/v1/unload_lora_adapter"
    assert (await sync.push(adapted, 3)).version == 3


async def test_a_lora_that_cannot_be_loaded_leaves_the_old_one_in_use(
    policy: Any, server: Server, model: TokensModel, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match="adapter of a peft model"):
        await VllmLora(model, tmp_path / "adapters").push(policy, 1)
    adapted = get_peft_model(policy, LoraConfig(r=4, target_modules=["q_proj"]))
    sync = VllmLora(model, tmp_path / "adapters", probe=PROBE)
    await sync.push(adapted, 1)
    used, server.broken = model.name, "/v1/load_lora_adapter"
    with pytest.raises(WeightPushError, match="load_lora_adapter answered 500"):
        await sync.push(adapted, 2)
    assert model.name == used
    assert await version_of(model) == "1"


class ByFile:
    """A transfer over a file in place of NCCL."""

    def __init__(self, server: Server, path: Path) -> None:
        self.server, self.path = server, path

    def send(self, state: Mapping[str, torch.Tensor]) -> None:
        assert self.server.paused
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, self.path)
        if self.server.broken:
            raise RuntimeError("NCCL: unhandled system error")
        self.server.take(load_file(self.path))


async def test_a_transfer_opens_once_and_runs_between_pause_and_resume(
    policy: Any, server: Server, model: TokensModel, tmp_path: Path
) -> None:
    opened: list[int] = []

    def open_transfer(root: str, workers: int) -> ByFile:
        assert root == f"http://127.0.0.1:{server.http.port}"
        opened.append(workers)
        return ByFile(server, tmp_path / "wire.safetensors")

    sync = VllmTransfer(model, probe=PROBE, connect=open_transfer)
    for version in (1, 2):
        push = await sync.push(moved(policy), version)
        assert (push.method, push.version) == ("vllm-nccl", version)
        assert push.probe_error < 1e-3
    assert opened == [3]
    assert server.routes == ["/get_world_size", *["/pause", "/reset_prefix_cache", "/resume"] * 2]
    server.broken = "the wire"
    with pytest.raises(WeightPushError, match=r"nccl transfer to .* failed: NCCL: unhandled system error"):
        await sync.push(policy, 3)
    assert server.paused
    assert model.version == "2"


async def test_a_server_that_does_not_say_how_many_workers_it_has_fails_the_push_alone(policy: Any) -> None:
    """In a pool the others go on, so it must be a WeightPushError."""
    for answer in (http([]), http({}), http(b"<html>", kind="text/html"), http({"world_size": None})):
        with answering(answer, gets=answer) as server:
            model = connect(resolve_endpoint("m", server.base_url), interface="tokens")
            assert isinstance(model, TokensModel)
            with pytest.raises(WeightPushError, match="/get_world_size gave no number world_size"):
                await VllmTransfer(model, probe=PROBE, connect=lambda root, workers: pytest.fail(root)).push(policy, 1)


@pytest.mark.parametrize("backend", ["nccl", "ipc"])
async def test_without_vllm_a_transfer_is_refused_at_once(model: TokensModel, backend: Any) -> None:
    with pytest.raises(ConfigurationError, match=rf"Pushing by {backend} needs vLLM 0\.28"):
        VllmTransfer(model, backend=backend)


def test_a_checkpoint_of_several_files_in_bfloat16_is_rewritten(policy: Any, tmp_path: Path) -> None:
    half = type(policy)(policy.config).to(torch.bfloat16)
    half.save_pretrained(tmp_path / "sharded", max_shard_size="50KB")
    files = sorted((tmp_path / "sharded").glob("*.safetensors"))
    assert len(files) > 1
    rewrite_checkpoint(tmp_path / "sharded", policy.state_dict())
    held = {name: tensor for file in files for name, tensor in load_file(file).items()}
    assert held.keys() == policy.state_dict().keys()
    for name, tensor in policy.state_dict().items():
        assert torch.equal(held[name], tensor.to(torch.bfloat16))
    with pytest.raises(ConfigurationError, match="cannot be rewritten"):
        rewrite_checkpoint(tmp_path / "nowhere", policy.state_dict())
