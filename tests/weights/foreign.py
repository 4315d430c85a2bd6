"""Tiny checkpoints of models that rao did not write, of many architectures, as other people's tools leave them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NO_SYSTEM = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + CHATML
)
DROPS_SYSTEM = CHATML.replace(
    "{% for message in messages %}", "{% for message in messages if message.role != 'system' %}"
)
REWRITES = CHATML.replace(
    "{{ message.content }}",
    "{% if message.role == 'assistant' and not loop.last %}{{ message.content.split('</think>')[-1] }}"
    "{% else %}{{ message.content }}{% endif %}",
)
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
END = 2
VOCABULARY = 400
_SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "eos_token_id": END, "bos_token_id": None, "pad_token_id": 0,
}  # fmt: skip
_GPT: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "eos_token_id": 0,
    "bos_token_id": 0,
}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": {**_SHAPE, "num_key_value_heads": 2, "max_position_embeddings": 512},
    "qwen2": {**_SHAPE, "num_key_value_heads": 2, "max_position_embeddings": 512, "tie_word_embeddings": True},
    "gpt2": {**_GPT, "n_positions": 512},
    "gpt_neox": {**_SHAPE, "max_position_embeddings": 512},
    "opt": {**_SHAPE, "ffn_dim": 48, "word_embed_proj_dim": 32, "max_position_embeddings": 512},
    "bloom": {**_GPT, "hidden_size": 32},
    "gemma": {**_SHAPE, "num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": 512},
    "mistral": {**_SHAPE, "num_key_value_heads": 2, "sliding_window": 6, "max_position_embeddings": 512},
    "gemma2": {**_SHAPE, "num_key_value_heads": 2, "head_dim": 8, "sliding_window": 6, "max_position_embeddings": 512},
    "mamba": {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "state_size": 4,
        "eos_token_id": END,
    },
}
"""Configurations by the names that transformers has for them."""


def train_tokenizer() -> Tokenizer:
    """A byte-level tokenizer with the markers of ChatML."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["user assistant system say hello finish the python world " * 5], trainer)
    return tokenizer


def write_foreign(
    folder: Path,
    kind: str = "llama",
    *,
    template: str | None = CHATML,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    **config: Any,
) -> Any:
    """Write a model of random weights as transformers does, and return it."""
    torch.manual_seed(seed)
    shape = transformers.AutoConfig.for_model(kind, **{**ARCHITECTURES[kind], **config})
    model: Any = transformers.AutoModelForCausalLM.from_config(shape)
    for parameter in model.parameters():  # far enough from each other that every fault of masks and positions shows
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    model = model.to(dtype).eval()
    model.save_pretrained(folder)
    train_tokenizer().save(str(folder / "tokenizer.json"))
    tokens = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokens))
    if template is not None:
        (folder / "chat_template.jinja").write_text(template)
    return model


def edit_json(path: Path, **values: Any) -> None:
    """Change a JSON file; a value of None takes its name out."""
    read = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({name: value for name, value in {**read, **values}.items() if value is not None}))


def lose_special_tokens(folder: Path) -> None:
    """What conversions do: the markers stay in the vocabulary, and are tokens like any other."""
    path = folder / "tokenizer.json"
    read = json.loads(path.read_text())
    read["added_tokens"] = []
    path.write_text(json.dumps(read))
