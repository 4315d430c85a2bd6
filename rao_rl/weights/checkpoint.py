"""A checkpoint directory: everything that serves, samples and trains a policy, in one folder.

    config.json, model.safetensors …    the weights, as transformers writes them
    tokenizer.json, chat_template.jinja  the tokenizer and how it writes conversations
    generation_config.json               the tokens that end an answer
    agent.json                           how the agent is prompted (`recursive_agent.checkpoint`)
    model.onnx                           the graph for the light runtime, for Qwen3-shaped float32 policies alone (`onnx.py`)

vLLM, transformers and the embedded runtime read the same directory.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers

from recursive_agent.checkpoint import FILE_NAME, CheckpointSettings
from recursive_agent.errors import ConfigurationError

from .causal_lm import context_window
from .files import GRAPH, WEIGHTS
from .onnx import export_onnx, unlike_qwen3


def write_checkpoint(
    directory: str | Path,
    model: Any,
    tokenizer: Any,
    settings: CheckpointSettings,
    *,
    weights: Any = None,
    graph: bool = True,
) -> Path:
    """Write a checkpoint of `model`, a transformers model: weights, tokenizer, chat template, `agent.json`, ONNX graph.

    It has no graph if `export_onnx` does not support the architecture; serve such a model with vLLM. `weights` is a state
    dict to write instead of the model's own, which in a sharded run is only this process's part.
    """
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    with _quiet():
        model.save_pretrained(folder, state_dict=weights)
    tokenizer.save_pretrained(folder)
    settings.save(folder)
    for path in folder.iterdir():
        if path.is_file():
            path.chmod(0o644)  # safetensors writes files that only their owner can read
    known = not unlike_qwen3(model.config.to_dict()) and model.dtype == torch.float32
    if graph and known and (folder / WEIGHTS).is_file():
        export_onnx(folder)
    else:
        (folder / GRAPH).unlink(missing_ok=True)  # of other weights
    return folder


def load_checkpoint(model: str | Path) -> tuple[Any, Any, CheckpointSettings]:
    """The weights in float32, the tokenizer, and the settings of a checkpoint. Raises ConfigurationError if it is not one.

    The settings contain no version, because training changes the weights that the version named.
    """
    if str(model).startswith(("/", ".", "~")) and not Path(model).is_dir():  # else a hub would be asked for it
        raise ConfigurationError(f"{model} is not a checkpoint that transformers can load: there is no such folder")
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(model)
        with _quiet():
            policy = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    except Exception as error:  # the readers of tokenizers and weights raise what they like
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ConfigurationError(f"{model} is not a checkpoint that transformers can load: {reason}") from error
    _mend_generation(policy)
    known = CheckpointSettings.load(model) if (Path(model) / FILE_NAME).is_file() else None
    settings = known or CheckpointSettings(
        name=Path(model).resolve().name, context_length=context_window(policy, tokenizer)
    )
    return policy, tokenizer, settings.model_copy(update={"version": None})


def _mend_generation(policy: Any) -> None:
    """Make a generation configuration such as many on the hub savable; how agents are sampled stands in `agent.json`."""
    config = policy.generation_config
    if config is None or _savable(config):
        return
    config.do_sample = True  # temperature and the like without it are what is refused most
    if not _savable(config):
        names = ("bos_token_id", "eos_token_id", "pad_token_id")
        kept = {name: getattr(config, name, None) for name in names}
        policy.generation_config = transformers.GenerationConfig(do_sample=True, **kept)  # type: ignore[no-untyped-call]


def _savable(config: Any) -> bool:
    try:
        config.validate(strict=True)
    except Exception:  # ValueError for most faults; TypeError for values of another kind
        return False
    return True


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bar of transformers' own."""
    logging: Any = transformers.utils.logging
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
