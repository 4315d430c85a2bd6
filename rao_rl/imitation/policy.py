"""A small policy from scratch: its tokenizer, chat template and weights."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

PAD, END = "<|pad|>", "<|end|>"
SHARPNESS = 2.0
"""Initial weight of the query and key norms: attention scores of fresh weights are this squared times larger."""
_SPACE = "\u0120"
"""What byte-level vocabularies write for a space."""
ROLES = ("system", "user", "assistant", "tool")
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """Shape of a policy: a Qwen3 decoder, which every serving engine knows. The defaults have 2 M parameters."""

    vocabulary: int = 768
    width: int = 192
    layers: int = 4
    heads: int = 6
    head_width: int = 32
    feed_forward: int = 512
    context_length: int = 2048


def train_tokenizer(
    texts: Sequence[str],
    *,
    words: str,
    vocabulary: int,
    context_length: int,
    merges: int = 100,
) -> PreTrainedTokenizerFast:
    """A lossless byte-level tokenizer of at most `vocabulary` entries for text like `texts`, with the chat template above.

    What the regular expression `words` matches stands alone wherever it is found, so that a name has the same tokens in a
    question, in a quote and in code: copying it is one step of attention for each. Every such word of `texts` is one token,
    and so are the most frequent stretches of text between them; anything else is byte-level BPE of a few `merges`.
    """
    special = [PAD, END, *(f"<|{role}|>" for role in ROLES)]
    cut = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(words), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    pieces = Counter(piece for text in texts for piece, _ in cut.pre_tokenize_str(text))
    draft = Tokenizer(models.BPE())
    draft.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(words), behavior="removed"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    size = len(special) + len(alphabet) + merges
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    draft.train_from_iterator(texts, trainer)
    bpe = json.loads(draft.to_str())["model"]
    vocab: dict[str, int] = bpe["vocab"]
    # A word that was seen behind a space may come without one, in code say.
    seen = {match for text in texts for match in re.findall(words, text)}
    found = sorted({form for word in seen for form in (word.lstrip(), word.replace(" ", _SPACE))} - vocab.keys())
    stretches = [piece for piece, _ in sorted(pieces.items(), key=lambda item: (-item[1], item[0]))]
    for piece in [*found, *stretches]:
        if len(vocab) < vocabulary:
            vocab.setdefault(piece, len(vocab))
    # A piece that is in the vocabulary as a whole needs no merges to be found.
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[tuple(pair) for pair in bpe["merges"]], ignore_merges=True))
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    tokenizer.pre_tokenizer = cut
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=special[2:],
        chat_template=CHAT_TEMPLATE,
        model_max_length=context_length,
        clean_up_tokenization_spaces=False,
    )


def create(
    architecture: Architecture, tokenizer: PreTrainedTokenizerFast, *, seed: int, words: str | None = None
) -> Qwen3ForCausalLM:
    """Fresh float32 weights, a function of `seed` and `words`; input and output embeddings untied.

    `words` is the regular expression of `train_tokenizer`, where it takes the space before a word: those words begin related.

    Untied, because a serving engine that reloads tied weights may keep the old output embedding without a word.
    """
    end, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=architecture.width,
        intermediate_size=architecture.feed_forward,
        num_hidden_layers=architecture.layers,
        num_attention_heads=architecture.heads,
        num_key_value_heads=architecture.heads,
        head_dim=architecture.head_width,
        max_position_embeddings=architecture.context_length,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=end,
        pad_token_id=pad,
        dtype="float32",
        initializer_range=architecture.width**-0.5,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: Any = Qwen3ForCausalLM(config)  # type: ignore[no-untyped-call]
    embeddings = model.model.embed_tokens.weight.data
    if words is not None:
        _relate(embeddings, tokenizer, words)
    # Both embeddings begin alike: what a small policy must learn above all is to copy.
    model.lm_head.weight.data.copy_(embeddings)
    # Sharp attention from the start: looking up one token among many is then found in a third of the steps.
    for layer in model.model.layers:
        layer.self_attn.q_norm.weight.data.fill_(SHARPNESS)
        layer.self_attn.k_norm.weight.data.fill_(SHARPNESS)
    model.generation_config.eos_token_id = end
    model.generation_config.pad_token_id = pad
    model.generation_config.do_sample = True
    return model  # type: ignore[no-any-return]


def _relate(embeddings: torch.Tensor, tokenizer: PreTrainedTokenizerFast, words: str) -> None:
    """Let each word behind a space begin as the same word without it, plus what all words behind a space have in common.

    A name that is copied from a sentence into code loses its space; from unrelated weights, a policy would have to learn that
    for each name.
    """
    vocab = tokenizer.get_vocab()
    space = embeddings[vocab[_SPACE]].clone()
    for token, place in vocab.items():
        word = token.removeprefix(_SPACE)
        if word != token and word in vocab and re.fullmatch(words, f" {word}"):
            embeddings[place] = embeddings[vocab[word]] + space
