"""`agent.json`: the prompt a policy was trained with is part of the policy, so it travels in the checkpoint directory.

A checkpoint that rao did not write has none; what it says elsewhere (config.json, generation_config.json) takes its place.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, TypeGuard

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .errors import ConfigurationError
from .styles import ActionFormat, PromptStyle

FILE_NAME = "agent.json"
CONFIG = "config.json"
GENERATION_CONFIG = "generation_config.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
POSITIONS = ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length", "max_seq_len", "n_ctx")
"""Names of the context length in the configurations of different architectures."""
_ADAPTER = "adapter_config.json"
CHAT_TEMPLATE = "chat_template.jinja"
NEXT_TURN = "\n\nUser:"
"""What a model without a chat template may write after its answer, under the plain one; the answer ends there."""
NO_LENGTH = 10**9
"""Tokenizers without a length of their own name one beyond this."""


class EnvironmentSettings(BaseModel):
    """The environment a specialist knows: its name and the arguments that make it."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    arguments: dict[str, Any] = Field(default_factory=dict)


class CheckpointSettings(BaseModel):
    """Contents of `agent.json`: written by `rao train`, read by `rao run`, `rao eval` and `rao serve`."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    schema_version: Literal[1] = 1
    name: str
    version: str | None = None
    prompt_style: PromptStyle = "rich"
    action_format: ActionFormat = "fenced"
    context_length: int | None = None
    sampling: dict[str, Any] = Field(default_factory=dict)
    environment: EnvironmentSettings | None = None

    @classmethod
    def load(cls, directory: str | Path) -> CheckpointSettings:
        """Read `directory/agent.json`. Raises ConfigurationError, naming the file, when it is missing or wrong."""
        path = Path(directory) / FILE_NAME
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise ConfigurationError(f"{path} cannot be read ({error.strerror}); is this a rao checkpoint?") from error
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise ConfigurationError(f"{path}: {where or 'contents'}: {first['msg']}") from error

    @classmethod
    def of(cls, directory: str | Path) -> CheckpointSettings:
        """`load`, or, where there is no `agent.json`, what can be inferred: see `infer`."""
        return cls.load(directory) if (Path(directory) / FILE_NAME).is_file() else cls.infer(directory)

    @classmethod
    def infer(cls, directory: str | Path) -> CheckpointSettings:
        """Settings of a checkpoint that rao did not write: its folder's name, the prompt for general models, the context window
        of its configuration, and the temperature and top_p that its authors recommend.

        Raises ConfigurationError if the directory contains no model.
        """
        folder = Path(directory)
        if not (folder / CONFIG).is_file():
            adapter = "; it is a LoRA adapter: merge it into its base model" if (folder / _ADAPTER).is_file() else ""
            raise ConfigurationError(f"{folder} is not a checkpoint: it has neither {FILE_NAME} nor {CONFIG}{adapter}")
        generation = read_json(folder / GENERATION_CONFIG)
        sampling: dict[str, Any] = {}
        if generation.get("do_sample"):
            temperature, top_p = generation.get("temperature"), generation.get("top_p")
            if _is_number(temperature) and temperature > 0:
                sampling["temperature"] = temperature
            if _is_number(top_p) and 0 < top_p <= 1:
                sampling["top_p"] = top_p
        if not chat_template(folder):
            sampling["stop"] = [NEXT_TURN]
        return cls(name=folder.resolve().name, context_length=window_of(folder), sampling=sampling)

    def save(self, directory: str | Path) -> None:
        """Write `directory/agent.json`."""
        (Path(directory) / FILE_NAME).write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")


def is_checkpoint(directory: str | Path) -> bool:
    """Whether a directory contains a model, written by rao or not."""
    folder = Path(directory)
    return (folder / FILE_NAME).is_file() or (folder / CONFIG).is_file()


def window_of(directory: str | Path) -> int | None:
    """The context window that a checkpoint's configuration or its tokenizer names; None if neither does."""
    if (positions := positions_of(directory)) is not None:
        return positions
    length = read_json(Path(directory) / TOKENIZER_CONFIG).get("model_max_length")
    return int(length) if _is_number(length) and 0 < length < NO_LENGTH else None


def positions_of(directory: str | Path) -> int | None:
    """The positions that a checkpoint's model has; None if its configuration names no bound."""
    config = text_config(directory)
    for name in POSITIONS:
        if type(length := config.get(name)) is int and length > 0:
            return length
    return None


def chat_template(directory: str | Path) -> str | None:
    """The source of a checkpoint's chat template; None if it has none. Raises ConfigurationError if a file is broken."""
    path = Path(directory) / CHAT_TEMPLATE
    try:
        if path.is_file():
            return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from None
    template = read_json(Path(directory) / TOKENIZER_CONFIG).get("chat_template")
    if isinstance(template, list):  # several, by name
        named = {entry.get("name"): entry.get("template") for entry in template if isinstance(entry, dict)}
        template = named.get("default")
    return template if isinstance(template, str) else None


def text_config(directory: str | Path) -> dict[str, Any]:
    """The configuration of a checkpoint's language model, which in models of several kinds of input is a part of the whole."""
    config = read_json(Path(directory) / CONFIG)
    inner = config.get("text_config")
    return {**config, **inner} if isinstance(inner, dict) else config


def end_ids(directory: str | Path) -> list[int]:
    """The tokens that end an answer by the files of a checkpoint, each once: first those of generation_config.json."""
    ids: list[int] = []
    for source in (read_json(Path(directory) / GENERATION_CONFIG), text_config(directory)):
        named = source.get("eos_token_id")
        ids += [token for token in (named if isinstance(named, list) else [named]) if type(token) is int and token >= 0]
    return list(dict.fromkeys(ids))


def ignored_sampling(directory: str | Path) -> dict[str, Any]:
    """Settings of a checkpoint's generation_config.json that change what is sampled, and that agents are not sampled with."""
    generation = read_json(Path(directory) / GENERATION_CONFIG)
    names = _BESIDE_SAMPLING if generation.get("do_sample") else _BESIDE_SAMPLING[:2]
    found = {name: generation.get(name) for name in names}
    return {name: value for name, value in found.items() if value not in (None, 0, 1)}


_BESIDE_SAMPLING = ("repetition_penalty", "no_repeat_ngram_size", "top_k", "min_p", "typical_p")
"""Settings that transformers samples with, and rao does not; the first two also change greedy answers. 0 or 1 does nothing."""


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object in a file; {} if the file does not exist. Raises ConfigurationError, naming the file, if it is broken."""
    try:
        read = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from None
    return read if isinstance(read, dict) else {}


def _is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
