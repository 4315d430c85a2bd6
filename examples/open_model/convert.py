"""A GGUF file as a checkpoint in the format of transformers, which vLLM serves and `rao train` trains.

Needs torch, transformers and gguf: `pip install 'rao[train]' gguf`.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from .models import ModelUnavailable, sha256_of

_SAME = 0.98
"""Cosine of two rows from which they are copies of one row, each quantised by itself."""
_LOST = ("quantization_method", "_is_quantized", "is_loaded_in_8bit", "is_loaded_in_4bit")


def checkpoint_of(gguf: Path, cache: Path) -> Path:
    """The checkpoint made of a GGUF file, `<sha256 of the file>/<name of the file>` in `cache`; made if it is not there.

    Raises ModelUnavailable for a file that cannot be converted.
    """
    folder = cache / sha256_of(gguf) / gguf.stem
    if (folder / "config.json").is_file():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(mkdtemp(dir=folder.parent, prefix="convert-"))
    try:
        print(f"converting {gguf} into {folder}", file=sys.stderr, flush=True)
        convert(gguf, unfinished)
        unfinished.chmod(0o755)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def convert(gguf: Path, folder: Path) -> None:
    """Write the model in `gguf` into `folder`, its weights in bfloat16. Raises ModelUnavailable."""
    try:
        import gguf as gguf_format
        import torch
        import transformers
    except ImportError as error:
        raise ModelUnavailable(
            f"converting {gguf.name} needs the package {error.name}: pip install 'rao[train]' gguf"
        ) from None
    transformers.utils.logging.disable_progress_bar()
    try:
        fields = gguf_format.GGUFReader(gguf).fields
        model = transformers.AutoModelForCausalLM.from_pretrained(
            str(gguf.parent), gguf_file=gguf.name, dtype=torch.bfloat16
        )
        tokenizer, ends = _tokenizer(gguf, {name: field.contents() for name, field in fields.items()})
    except (ValueError, KeyError, OSError) as error:
        raise ModelUnavailable(f"{gguf} cannot be converted ({error}); serve it with --engine llama.cpp") from None
    _tie(model)
    _forget_quantization(model)
    tokenizer.model_max_length = model.config.max_position_embeddings
    numbers = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": ends,
        "pad_token_id": tokenizer.pad_token_id,
    }
    model.generation_config = transformers.GenerationConfig(**numbers)
    for name, value in {**numbers, "eos_token_id": ends[0]}.items():
        setattr(model.config, name, value)
    for name in ("_name_or_path", "_model_name_or_path"):  # where it came from, which is nowhere that others have
        vars(model.config).pop(name, None)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for path in folder.iterdir():
        path.chmod(0o644)  # the weights are written for their owner alone


def _tokenizer(gguf: Path, fields: dict[str, Any]) -> tuple[Any, list[int]]:
    """The tokenizer with its chat template, and the ids that end an answer."""
    import transformers

    tokenizer: Any
    from .tokenizer import GgufTokenizer

    prefix = "tokenizer.ggml."
    read = GgufTokenizer({n.removeprefix(prefix): v for n, v in fields.items() if n.startswith(prefix)})
    if (built := read.build()) is not None:
        tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=built, clean_up_tokenization_spaces=False)
    else:
        tokenizer = transformers.AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name)
        tokenizer.add_tokens(read.added)
    ends = read.ends
    if not ends:
        raise ValueError("it names no token that ends an answer")
    end = read.tokens[ends[0]]
    tokenizer.eos_token, tokenizer.pad_token = end, read.named("padding") or end
    for attribute, name in (("bos_token", "bos"), ("unk_token", "unknown")):
        if (token := read.named(name)) is not None:
            setattr(tokenizer, attribute, token)
    template = fields.get("tokenizer.chat_template")
    if template is not None:
        tokenizer.chat_template = template
    return tokenizer, ends


def _tie(model: Any) -> None:
    """Make output head and embedding one matrix again where they are two quantised copies of one.

    The head's copy is kept: GGUF files give it more bits.
    """
    import torch

    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    if model.config.tie_word_embeddings or head.weight.shape != embedding.weight.shape:
        return
    rows = torch.linspace(0, len(head.weight) - 1, 512).long()
    alike = torch.nn.functional.cosine_similarity(head.weight[rows].float(), embedding.weight[rows].float()).median()
    if alike > _SAME:
        with torch.no_grad():
            embedding.weight.copy_(head.weight)
        model.config.tie_word_embeddings = True
        model.tie_weights()


def _forget_quantization(model: Any) -> None:
    """The weights are plain numbers now; transformers keeps the marks and then refuses to save them."""
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.hf_quantizer, model.is_quantized = None, False
    for attribute in _LOST:
        vars(model).pop(attribute, None)
