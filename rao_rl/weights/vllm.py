"""Pushing weights into a running vLLM server: as a LoRA, from disk, or from GPU to GPU.

    VllmLora      VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 vllm serve BASE --enable-lora --max-cpu-loras 4
    VllmReload    VLLM_SERVER_DEV_MODE=1 vllm serve DIRECTORY
    VllmTransfer  VLLM_SERVER_DEV_MODE=1 vllm serve BASE --weight-transfer-config '{"backend": "nccl"}'

`rao serve DIRECTORY --weight-updates` sets the switches of the first two. They open the server to whoever can reach it: keep
it on the machine. Sampling for training wants `--logprobs-mode processed_logprobs` at a temperature other than 1.
"""

from __future__ import annotations

import json
import shutil
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Any, Literal, Protocol

import anyio
import anyio.to_thread
import torch

from recursive_agent.errors import ConfigurationError
from recursive_agent.model.client import Client
from recursive_agent.model.endpoint import show_url
from recursive_agent.model.failures import Failure, scrub
from recursive_agent.model.tokens import TokensModel
from recursive_agent.model.wire import LARGEST

from ..errors import WeightPushError
from .files import plain_state, read_checkpoint, rewrite_checkpoint
from .hardware import training_device
from .probe import Probe, Push
from .scoring import adapter_state, without_adapter

Mode = Literal["keep", "wait", "abort"]
"""What a pause does to calls in flight: they go on afterwards with the new weights, are waited for, or end."""


class _Server:
    """vLLM's own routes, which stand beside the OpenAI ones. Every failure is a WeightPushError that names the route."""

    def __init__(self, model: TokensModel, timeout: float) -> None:
        self.root = model.endpoint.beside("")
        self._endpoint = model.endpoint
        self._timeout = timeout

    async def post(self, path: str, body: Mapping[str, Any] | None = None, **query: str) -> None:
        """Anything but success raises."""
        await self._ask("POST", path, dict(body or {}), query)

    async def number(self, path: str, name: str) -> int:
        """A number that the JSON of an answer holds under a name."""
        answer = await self._ask("GET", path, None, {})
        try:
            return int(json.loads(answer)[name])
        except (ValueError, LookupError, TypeError):
            at = show_url(self._endpoint.beside(path))
            raise WeightPushError(f"{at} gave no number {name}: is it vLLM's? The push failed.") from None

    async def _ask(self, method: str, path: str, body: dict[str, Any] | None, query: dict[str, str]) -> bytes:
        url = self._endpoint.beside(path)
        content = None if body is None else json.dumps(body).encode()
        client = Client(self._endpoint, timeout=self._timeout)
        try:
            async with client.exchange(method, url, content, query=query) as response:
                answer = await client.whole(response, LARGEST)
        except Failure as failure:
            raise WeightPushError(f"{show_url(url)} gave no answer ({failure.reason}); the push failed.") from None
        finally:
            await client.aclose()
        if response.status_code != 200:
            hint = (
                "; is vLLM started with the switches that rao_rl.weights.vllm names?"
                if response.status_code == 404
                else ""
            )
            said = scrub(answer.decode("utf-8", "replace")[:300], self._endpoint.api_key)
            raise WeightPushError(f"{show_url(url)} answered {response.status_code} ({said}){hint}; the push failed.")
        return answer


class VllmLora:
    """Pushes the adapter of a peft model: written to `directory`, which the server must see under the same path.

    Every version has a name of its own, since one that is used again can meet prefixes of the old weights in the cache, and
    since `load_inplace` makes vLLM read the adapter from disk again and again (vllm-project/vllm#41482). The last `keep`
    adapters stay loaded for calls that began with them.
    """

    def __init__(
        self,
        model: TokensModel,
        directory: str | Path,
        *,
        keep: int = 2,
        probe: Probe | None = None,
        timeout: float = 600.0,
    ) -> None:
        if keep < 1:
            raise ConfigurationError(f"keep must be at least 1, not {keep}: the adapter that is sampled with")
        self.model = model
        self.directory = Path(directory).resolve()
        self.keep = keep
        self.probe = probe or Probe()
        self._server = _Server(model, timeout)
        # A trainer that goes on after a crash pushes the same versions again, with other weights.
        self._run = f"rao-{uuid.uuid4().hex[:6]}"
        self._pushes = count()
        self._loaded: deque[str] = deque()

    async def push(self, policy: torch.nn.Module, version: int) -> Push:
        """See `WeightSync.push`. Raises ConfigurationError for a policy without a LoRA."""
        started = time.perf_counter()
        await self.model.context_length()  # adapters do not tell theirs
        name = f"{self._run}-{next(self._pushes)}-v{version}"
        async with self.probe.turns:
            path = await anyio.to_thread.run_sync(_save_adapter, policy, self.directory / name)
        pushed = adapter_state(policy)
        if self.probe.start is None and not self.probe.exact:
            self.probe.start = without_adapter(pushed)
        await self._server.post(
            "/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(path), "load_inplace": False}
        )
        self._loaded.append(name)
        self.model.name, self.model.version = name, str(version)
        push = await self.probe.check(
            self.model, policy, version=version, method="vllm-lora", started=started, pushed=lambda: pushed
        )
        while len(self._loaded) > self.keep:
            old = self._loaded.popleft()
            with suppress(WeightPushError):  # what is not unloaded costs memory, no more
                await self._server.post("/v1/unload_lora_adapter", {"lora_name": old})
            shutil.rmtree(self.directory / old, ignore_errors=True)
        return push


class VllmReload:
    """Rewrites the checkpoint in `directory`, which is the one that vLLM serves, and has vLLM read it again.

    Slower than the other ways, and works everywhere. On a CPU vLLM (0.32) keeps the old output embedding where embeddings
    are tied, and answers as if nothing were wrong: the probe finds it.

    Without `rewrite` the directory is left to the caller, who has called `rewrite_served` before: several servers may share it.
    """

    def __init__(
        self,
        model: TokensModel,
        directory: str | Path,
        *,
        mode: Mode = "keep",
        probe: Probe | None = None,
        timeout: float = 600.0,
        rewrite: bool = True,
    ) -> None:
        self.model = model
        self.directory = Path(directory)
        self.rewrite = rewrite
        self.mode: Mode = mode
        self.probe = probe or Probe()
        self._server = _Server(model, timeout)

    async def push(self, policy: torch.nn.Module, version: int) -> Push:
        """See `WeightSync.push`. Where it fails after the pause the server stays paused: its weights may be half new."""
        started = time.perf_counter()
        async with self.probe.turns:
            pushed = plain_state(policy)
        if self.rewrite:
            await rewrite_served(self.directory, pushed, [self.probe])
        await self._server.post("/pause", mode=self.mode)
        await self._server.post("/collective_rpc", {"method": "reload_weights"})
        await _go_on(self._server, self.model, version)
        return await self.probe.check(
            self.model, policy, version=version, method="vllm-reload", started=started, pushed=lambda: pushed
        )


async def rewrite_served(directory: Path, pushed: Mapping[str, torch.Tensor], probes: Iterable[Probe]) -> None:
    """Rewrite a checkpoint that servers read; `probes` are theirs, and learn what weights they had at first."""
    unknown = [probe for probe in probes if probe.start is None and not probe.exact]
    if unknown:
        start = await anyio.to_thread.run_sync(read_checkpoint, directory)
        for probe in unknown:
            probe.start = start
    await anyio.to_thread.run_sync(rewrite_checkpoint, directory, pushed)


class Transfer(Protocol):
    """The trainer's end of a transfer: drives /start_weight_update, /update_weights and /finish_weight_update."""

    def send(self, state: Mapping[str, torch.Tensor]) -> None:
        """All weights, while the server is paused."""


class VllmTransfer:
    """Pushes from GPU to GPU by vLLM's own transfer engine (0.28 or newer): `nccl` between GPUs, `ipc` on the same one.

    The engine must be importable where the trainer runs; ConfigurationError otherwise. `ipc` sends pickled handles, so
    both sides need VLLM_ALLOW_INSECURE_SERIALIZATION=1. `connect` makes the trainer's end, once, from the server's URL and
    its number of workers; by default it is vLLM's.
    """

    def __init__(
        self,
        model: TokensModel,
        *,
        backend: Literal["nccl", "ipc"] = "nccl",
        mode: Mode = "keep",
        probe: Probe | None = None,
        timeout: float = 600.0,
        connect: Callable[[str, int], Transfer] | None = None,
    ) -> None:
        self.model = model
        self.backend = backend
        self.mode: Mode = mode
        self.probe = probe or Probe()
        self._server = _Server(model, timeout)
        self._connect = connect or _vllm_engine(backend, timeout)
        self._transfer: Transfer | None = None

    async def push(self, policy: torch.nn.Module, version: int) -> Push:
        """See `WeightSync.push`. Where it fails after the pause the server stays paused: its weights may be half new."""
        started = time.perf_counter()
        if self._transfer is None:
            workers = await self._server.number("/get_world_size", "world_size")
            self._transfer = await self._in_thread(partial(self._connect, self._server.root, workers))
        await self._server.post("/pause", mode=self.mode)
        async with self.probe.turns:
            pushed = plain_state(policy)
        await self._in_thread(partial(self._transfer.send, pushed))
        await _go_on(self._server, self.model, version)
        return await self.probe.check(
            self.model,
            policy,
            version=version,
            method=f"vllm-{self.backend}",
            started=started,
            pushed=lambda: pushed,
        )

    async def _in_thread(self, call: Callable[[], Any]) -> Any:
        try:
            return await anyio.to_thread.run_sync(call)
        except Exception as error:  # of NCCL, of CUDA, of whatever vLLM speaks HTTP with
            raise WeightPushError(
                f"The {self.backend} transfer to {show_url(self._server.root)} failed: {error}"
            ) from error


async def _go_on(server: _Server, model: TokensModel, version: int) -> None:
    """Forget what the old weights computed, calls in flight included, and let the server sample again."""
    await server.post("/reset_prefix_cache", reset_running_requests="true")
    model.version = str(version)
    await server.post("/resume")


def _save_adapter(policy: torch.nn.Module, path: Path) -> Path:
    """Write a peft adapter; the directory that holds its files."""
    adapted: Any = policy
    if not hasattr(policy, "peft_config"):
        raise ConfigurationError("VllmLora pushes the adapter of a peft model; this policy has none (use VllmReload)")
    shutil.rmtree(path, ignore_errors=True)
    adapter = adapted.active_adapter
    # Otherwise peft looks the base model up on the hub.
    adapted.save_pretrained(path, selected_adapters=[adapter], save_embedding_layers=False)
    return path if adapter == "default" else path / adapter


def _vllm_engine(backend: Literal["nccl", "ipc"], timeout: float) -> Callable[[str, int], Transfer]:
    """What makes the trainer's end out of vLLM's parts. Raises ConfigurationError where they are not installed."""
    try:
        parts = import_module("vllm.distributed.weight_transfer")
        base = import_module("vllm.distributed.weight_transfer.base")
        nccl = import_module("vllm.distributed.weight_transfer.nccl_engine")
        ipc = import_module("vllm.distributed.weight_transfer.ipc_engine")
        network = import_module("vllm.utils.network_utils")
    except ImportError as error:
        raise ConfigurationError(
            f"Pushing by {backend} needs vLLM 0.28 or newer in the trainer's own environment ({error}); VllmReload and "
            "VllmLora do without."
        ) from None

    class Source(base.WeightSource):  # type: ignore[misc, name-defined]
        """The state of the push under way."""

        state: Mapping[str, torch.Tensor]

        def metadata(self) -> list[Any]:
            return [base.ParamMeta(name, tensor.dtype, tuple(tensor.shape)) for name, tensor in self]

        def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
            device = training_device()  # a policy that is spread over several processes is gathered on the CPU
            for name, tensor in self.state.items():
                yield name, tensor.to(device)

    class Engine:
        """Opened at the first push, since the source must have its shapes then."""

        def __init__(self, root: str, workers: int) -> None:
            self._root, self._workers = root, workers
            self._source = Source()
            self._engine: Any = None

        def send(self, state: Mapping[str, torch.Tensor]) -> None:
            self._source.state = state
            if self._engine is None:
                info: Any = ipc.IPCTrainerInitInfo(rank=0)
                if backend == "nccl":
                    info = nccl.NCCLTrainerInitInfo(
                        master_address=network.get_ip(),
                        master_port=network.get_open_port(),
                        world_size=self._workers + 1,
                        rank=0,
                        packed=True,
                    )
                client = parts.HTTPVLLMWeightSyncClient(self._root, timeout=timeout)
                self._engine = parts.WeightTransferTrainerFactory.trainer_init(
                    init_info=info, client=client, source=self._source
                )
            self._engine.send_weights()

    return Engine
