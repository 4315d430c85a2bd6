"""What stock vLLM is started with, so that it serves a checkpoint as this package needs it served."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recursive_agent.checkpoint import FILE_NAME, CheckpointSettings
from recursive_agent.errors import ConfigurationError

from ...errors import VllmMissing
from ..http.settings import KEEP_ALIVE_SECONDS, is_loopback, reached_at
from .cpu import Choice, cpu_choices

PYTHON_VARIABLE = "RAO_VLLM_PYTHON"
"""Names the interpreter that vLLM is installed for, where it is not this one."""
_ADAPTER = "adapter_config.json"
_CONFIG = "config.json"
_KEEP_ALIVE = "VLLM_HTTP_TIMEOUT_KEEP_ALIVE"
"""Seconds; vLLM's own 5 are fewer than any load balancer's."""
_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM takes as --max-lora-rank."""
_TRAINED_RANK = 32
_FLOAT32_BYTES = 2 << 30
"""Weights in float32 of up to so many bytes are served in float32; vLLM's own choice would be bfloat16."""
_DEFAULTS = frozenset(
    {"temperature", "top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty"}
)
"""Sampling settings that vLLM takes as defaults of the server."""
_TAKEN = ("--host", "--port", "--uds", "--served-model-name", "--api-key", "--headless")
"""Options of vLLM that say where it is reached, and how."""
_MISSING = (
    "With a CUDA GPU: pip install 'rao[vllm]'. On CPUs: scripts/vllm-cpu.sh prepares an environment for it. Without vLLM: "
    "--engine embedded, for small models of rao train."
)
_PROBE = """
import importlib.metadata, importlib.util, json
spec = importlib.util.find_spec("vllm")
found = {}
for name in ("vllm", "vllm-cpu"):
    try:
        found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pass
print(json.dumps({"installed": spec is not None and spec.origin is not None, "versions": found}))
"""


@dataclass(frozen=True, slots=True)
class Vllm:
    """An installed vLLM: its interpreter, and the arguments that start its server, the model's name coming next.

    `on_cpu`: it was built for CPUs.
    """

    python: str
    arguments: tuple[str, ...]
    on_cpu: bool = False

    @classmethod
    def find(cls, python: str | None = None) -> Vllm:
        """vLLM of the interpreter `python`; None: that of RAO_VLLM_PYTHON, otherwise of this very one.

        Raises VllmMissing where it is not there.
        """
        named = python or os.environ.get(PYTHON_VARIABLE)
        interpreter = named or sys.executable
        try:
            asked = subprocess.run(
                [interpreter, "-c", _PROBE], capture_output=True, text=True, timeout=60, check=True, env=_safe_path()
            )
            found = json.loads(asked.stdout)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise VllmMissing(f"{interpreter} is not a working Python interpreter ({reason}). {_MISSING}") from None
        if not found["installed"]:
            where = f"for {named}" if named else f"for this Python, and {PYTHON_VARIABLE} names no other one"
            raise VllmMissing(f"vLLM is not installed {where}. {_MISSING}")
        # vLLM's command asks for its version under the name `vllm`, which the wheels for CPUs do not have.
        version = found["versions"].get("vllm")
        if version is None:
            return cls(interpreter, ("-m", "vllm.entrypoints.openai.api_server", "--model"), on_cpu=True)
        return cls(interpreter, ("-m", "vllm.entrypoints.cli.main", "serve"), on_cpu="+cpu" in version)


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A model for vLLM: a directory, or a name that vLLM finds on a hub, with an adapter of peft on it or none.

    `name` is what clients call it. `settings` are those of an agent.json, where there is one.
    """

    model: str
    name: str
    adapter: Path | None = None
    settings: CheckpointSettings | None = None

    @classmethod
    def find(cls, checkpoint: str, adapter: Path | None = None) -> Served:
        """What `checkpoint` is: a directory with a model or an adapter, or else a name. Raises ConfigurationError."""
        folder = Path(checkpoint)
        if adapter is None and (folder / _ADAPTER).is_file():
            return cls._adapted(None, folder)
        if not folder.is_dir():
            if (
                folder.exists()
                or checkpoint.startswith(("/", ".", "~"))
                or checkpoint.endswith("/")
                or checkpoint.count("/") > 1
            ):
                raise ConfigurationError(f"{checkpoint} is not a checkpoint: there is no such directory.")
        elif not (folder / _CONFIG).is_file():
            raise ConfigurationError(f"{checkpoint} is not a checkpoint: it has neither {_CONFIG} nor {_ADAPTER}.")
        if adapter is not None:
            return cls._adapted(checkpoint, adapter)
        if not folder.is_dir():
            return cls(model=checkpoint, name=checkpoint)
        settings = _settings(folder)
        where = folder.resolve()
        return cls(model=str(where), name=settings.name if settings else where.name, settings=settings)

    @classmethod
    def _adapted(cls, base: str | None, adapter: Path) -> Served:
        base = base or _json(adapter / _ADAPTER).get("base_model_name_or_path")
        if not base:
            raise ConfigurationError(f"{adapter / _ADAPTER} names no base model; give it: rao serve BASE --adapter …")
        where = adapter.resolve()
        if Path(base).is_dir():
            base = str(Path(base).resolve())
        settings = _settings(adapter)
        name = settings.name if settings else where.name
        return cls(model=base, name=name, adapter=where, settings=settings or _settings(Path(base)))

    @property
    def directory(self) -> Path | None:
        """Where the model's tokenizer and template are, if on this machine."""
        return Path(self.model) if Path(self.model).is_dir() else None

    @property
    def names(self) -> tuple[str, ...]:
        """All that clients may call the base model by: its own name and, where it has one, its directory."""
        if self.adapter is not None:
            return (self.model,)
        return (self.name,) if self.name == self.model else (self.name, self.model)

    @property
    def rank(self) -> int:
        """Rank of the adapter. Raises ConfigurationError where its file does not say."""
        rank = _json(self.adapter / _ADAPTER).get("r") if self.adapter is not None else None
        if not isinstance(rank, int) or not 1 <= rank <= _RANKS[-1]:
            raise ConfigurationError(f"{self.adapter} is not a LoRA adapter with a rank from 1 to {_RANKS[-1]}.")
        return rank


@dataclass(frozen=True, slots=True, kw_only=True)
class VllmCommand:
    """How vLLM is started. What `more` says has the last word, but for the address. Raises ConfigurationError."""

    vllm: Vllm
    served: Served
    host: str
    port: int
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    keep_alive: int | None = None
    """Seconds that idle connections are kept; None: what the environment says, or else as servers of ours do."""
    weight_updates: bool = False
    more: tuple[str, ...] = ()
    choices: tuple[Choice, ...] = field(init=False)
    """What is added because it runs on a CPU, each with the reason, and warnings about what the user chose."""

    def __post_init__(self) -> None:
        if taken := [name for option in self.more if (name := option.partition("=")[0]) in _TAKEN]:
            raise ConfigurationError(
                f"{taken[0]} cannot be passed to vLLM, because rao sets it; use the option of rao serve."
            )
        if self.weight_updates and not is_loopback(self.host):
            raise ConfigurationError(
                "--weight-updates lets every client replace the weights, so it needs a loopback --host such as 127.0.0.1."
            )
        settings = self.served.settings
        window = settings.context_length if settings is not None else None
        choices = cpu_choices(self.served.directory, window, self.more) if self.vllm.on_cpu else []
        object.__setattr__(self, "choices", tuple(choices))  # once, so that what is shown is what is run

    @property
    def options(self) -> list[str]:
        """vLLM's options; keys, address and `more` left out. Raises ConfigurationError."""
        served, settings = self.served, self.served.settings
        options = ["--served-model-name", *served.names]
        if settings is not None and settings.context_length is not None:
            options += ["--max-model-len", str(settings.context_length)]
        if served.directory is not None and _is_small_float32(served.directory):
            options += ["--dtype", "float32"]
        # Log-probs of what is really sampled from, temperature and all: training needs them.
        options += ["--logprobs-mode", "processed_logprobs", "--enable-prefix-caching"]
        options += ["--enable-prompt-tokens-details"]  # cached tokens in the usage of each answer
        if settings is not None or self.weight_updates:
            # A generation_config.json may hold a top_k or a penalty that no trainer knows of.
            options += ["--generation-config", "vllm"]
        if settings is not None and (own := {k: v for k, v in settings.sampling.items() if k in _DEFAULTS}):
            options += ["--override-generation-config", json.dumps(own)]
        for choice in self.choices:
            options += choice.options
        if served.adapter is not None or self.weight_updates:
            rank = served.rank if served.adapter is not None else _TRAINED_RANK
            options += ["--enable-lora", "--max-lora-rank", str(next(known for known in _RANKS if known >= rank))]
        if self.weight_updates:
            options += ["--max-loras", "2", "--max-cpu-loras", "4"]  # calls go on with the one before the last push
        if served.adapter is not None:
            options += ["--lora-modules", f"{served.name}={served.adapter}"]
        return options

    @property
    def _address(self) -> list[str]:
        return ["--host", self.host, "--port", str(self.port)]

    @property
    def variables(self) -> dict[str, str]:
        """Environment variables that it needs, a key left out."""
        variables = {}
        if self.served.directory is not None:
            variables["HF_HUB_OFFLINE"] = "1"  # everything is here, so the hub need not be asked
        if self.weight_updates:
            variables |= {"VLLM_SERVER_DEV_MODE": "1", "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"}
        if self.keep_alive is not None or _KEEP_ALIVE not in os.environ:
            variables[_KEEP_ALIVE] = str(self.keep_alive or KEEP_ALIVE_SECONDS)
        return variables

    def start(self) -> list[str]:
        """The command line."""
        # One key goes into the environment, which others cannot read. vLLM takes several only here.
        keys = ["--api-key", *self.api_keys] if len(self.api_keys) > 1 else []
        return [
            self.vllm.python,
            *self.vllm.arguments,
            self.served.model,
            *self.options,
            *keys,
            *self.more,
            *self._address,
        ]

    def environment(self) -> dict[str, str]:
        """The environment: this process's own, with `variables` where it does not set them, and the key."""
        environment = {**self.variables, **_safe_path()}
        environment.pop("VLLM_API_KEY", None)
        if self.keep_alive is not None:
            environment[_KEEP_ALIVE] = str(self.keep_alive)
        if len(self.api_keys) == 1:
            environment["VLLM_API_KEY"] = self.api_keys[0]
        return environment

    def __str__(self) -> str:
        """The equivalent `vllm serve` command, without the keys themselves."""
        variables = [f"{name}={value}" for name, value in self.variables.items()]
        keys = ["--api-key", *["…" for _ in self.api_keys]] if self.api_keys else []
        command = ["vllm", "serve", self.served.model, *self.options, *self.more, *self._address]
        return " ".join([*variables, shlex.join(command), *keys])

    @property
    def url(self) -> str:
        """Where this machine reaches it; base URL of a client."""
        scheme = "https" if any(option.startswith("--ssl-certfile") for option in self.more) else "http"
        return f"{scheme}://{reached_at(self.host.strip('[]'))}:{self.port}/v1"


def _safe_path() -> Mapping[str, str]:
    # `python -m` looks for modules in the working directory first, which may hold anything.
    return {**os.environ, "PYTHONSAFEPATH": "1"}


def _settings(folder: Path) -> CheckpointSettings | None:
    return CheckpointSettings.load(folder) if (folder / FILE_NAME).is_file() else None


def _json(path: Path) -> dict[str, Any]:
    try:
        read = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path} cannot be read ({error}).") from None
    return read if isinstance(read, dict) else {}


def _is_small_float32(folder: Path) -> bool:
    config = _json(folder / _CONFIG)
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    return (config.get("dtype") or config.get("torch_dtype")) == "float32" and 0 < size <= _FLOAT32_BYTES
