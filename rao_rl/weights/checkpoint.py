"""A checkpoint directory: everything that serves, samples and trains a policy, in one folder.

    config.json, model.safetensors …    the weights, as transformers writes them
    tokenizer.json, chat_template.jinja  the tokenizer and how it writes conversations
    generation_config.json               the tokens that end an answer
    agent.json                           how the agent is prompted (`recursive_agent.checkpoint`)
    model.onnx                           the graph for the light runtime, for Qwen3-shaped float32 policies alone (`onnx.py`)

vLLM, transformers and the embedded runtime read the same directory.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from tokenizers import AddedToken, Tokenizer

from recursive_agent.checkpoint import CheckpointSettings
from recursive_agent.errors import ConfigurationError
from recursive_agent.model.graph import GRAPH, WEIGHTS, unlike_qwen3
from recursive_agent.model.template import CheckpointRenderer

from .causal_lm import context_window, end_ids
from .find import find_model
from .onnx import export_onnx

_COPIED = 0.99
"""Cosine of a row of the head and the row of the embedding, from which on one is a copy of the other."""
_SAMPLED_ROWS = 512
_LOADING = threading.Lock()
"""While transformers loads a model it takes a method away from all models (`no_tie_weights`). Of two loads at a time, the
second to end takes it away for good, and no embedding is tied from then on."""


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


def load_checkpoint(model: str | Path, *, as_stored: bool = False) -> tuple[Any, Any, CheckpointSettings]:
    """The weights in float32, the tokenizer, and the settings of a checkpoint. Raises ConfigurationError if it is not one.

    With `as_stored` the weights keep the precision of their file. The settings contain no version, because training changes
    the weights that the version named.
    """
    policy = load_policy(model, dtype="auto" if as_stored else torch.float32)
    try:
        tokenizer: Any = transformers.AutoTokenizer.from_pretrained(model)
    except Exception as error:  # the readers of tokenizers raise what they like
        raise _unreadable(model, error) from error
    _mend_tokenizer(tokenizer, model, end_ids(policy, tokenizer))
    settings = (
        CheckpointSettings.of(model)
        if Path(model).is_dir()
        else CheckpointSettings(name=Path(model).name, context_length=context_window(policy, tokenizer))
    )
    return policy, tokenizer, settings.model_copy(update={"version": None})


def load_policy(model: str | Path, dtype: torch.dtype | Literal["auto"] = torch.float32) -> Any:
    """The weights of a checkpoint in `dtype` (`auto`: as they are stored).

    A head that shares the embedding's weights, and whose configuration does not say so, is tied to it. Raises
    ConfigurationError if the weights cannot be loaded, or if some are missing.
    """
    find_model(model)
    try:
        with _quiet(), _LOADING:
            loaded: Any = transformers.AutoModelForCausalLM.from_pretrained(
                model, dtype=dtype, output_loading_info=True
            )
            policy, info = loaded
    except Exception as error:  # so do the readers of weights
        raise _unreadable(model, error) from error
    _tie_head(policy, model, set(info["missing_keys"]))
    _mend_generation(policy)
    return policy


def _unreadable(model: str | Path, error: Exception) -> ConfigurationError:
    reason = str(error).partition("\n")[0] or type(error).__name__
    return ConfigurationError(f"{model} is not a checkpoint that transformers can load: {reason}")


def _tie_head(policy: Any, model: str | Path, missing: set[str]) -> None:
    """Tie a head that a conversion left out or copied. Raises ConfigurationError if any other weights are missing."""
    head, embedding = policy.get_output_embeddings(), policy.get_input_embeddings()
    if head is None or embedding is None or head.weight is embedding.weight:
        own: set[str] = set()
    else:
        own = {name for name, value in policy.named_parameters(remove_duplicate=False) if value is head.weight}
    if strange := sorted(missing - own):
        more = f" and {len(strange) - 1:,} more" if len(strange) > 1 else ""
        raise ConfigurationError(
            f"{model} has no weights for {strange[0]}{more}: they do not belong to this config.json; convert the model again"
        )
    if own and (missing or _is_copy(head.weight, embedding.weight)):
        head.weight = embedding.weight
        policy.config.get_text_config().tie_word_embeddings = policy.config.tie_word_embeddings = True
        policy.tie_weights()


@torch.no_grad()
def _is_copy(head: torch.Tensor, embedding: torch.Tensor) -> bool:
    """Whether a head is the embedding but for the rounding of a quantisation, by a sample of its rows."""
    if head.shape != embedding.shape:
        return False
    rows = torch.linspace(0, len(head) - 1, min(len(head), _SAMPLED_ROWS)).long()
    alike = torch.nn.functional.cosine_similarity(head[rows].float(), embedding[rows].float(), dim=1)
    return bool(alike.median() > _COPIED)


def _mend_tokenizer(tokenizer: Any, model: str | Path, ends: list[int]) -> None:
    """Supply what a foreign tokenizer lacks, as `CheckpointRenderer` does where the model is sampled."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or not Path(model).is_dir():
        return
    renderer = CheckpointRenderer(model, tokenizer=Tokenizer.from_str(backend.to_str()))
    if lost := renderer.lost:
        tokenizer.add_tokens([AddedToken(text, special=True, normalized=False) for text in lost], special_tokens=True)
    if tokenizer.eos_token is None and ends:
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(ends[0])
    if not renderer.has_template:
        tokenizer.chat_template = renderer.template


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
