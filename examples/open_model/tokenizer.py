"""The tokenizer inside a GGUF file, as the model was trained with it.

transformers reads most of it and loses three things: which tokens are special (all but three of Qwen's), how text is cut
before merges are applied (SmolLM2's digits), and bytes that look like sentencepiece's. So byte-level tokenizers whose
cutting is known are put together here, from the same vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

_CONTROL, _USER_DEFINED = 3, 4
"""Kinds of tokens in GGUF: marks such as the end of a turn, and texts that are never cut."""
_END_OF_TURN = frozenset({"<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|eom_id|>", "<|end|>", "<end_of_turn>"})
"""Control tokens that end an answer in every model that has them."""
_QWEN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_LLAMA_3 = _QWEN.replace(r"|\p{N}|", r"|\p{N}{1,3}|")


class GgufTokenizer:
    """What a GGUF file says about tokens; `fields` are its entries by name, `tokenizer.ggml.` left out."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self.tokens: list[str] = list(fields["tokens"])
        self._kinds: list[int] = list(fields.get("token_type") or [])
        self._merges: list[str] = list(fields.get("merges") or [])
        self._model, self._cut = fields.get("model"), fields.get("pre", "default")
        self._adds_bos = bool(fields.get("add_bos_token", False))
        self._numbers = {name: fields.get(f"{name}_token_id") for name in ("bos", "eos", "eot", "padding", "unknown")}

    def of(self, kind: int) -> list[str]:
        """All tokens of a kind."""
        return [token for token, found in zip(self.tokens, self._kinds, strict=False) if found == kind]

    def named(self, name: str) -> str | None:
        """The token that is "bos", "eos", "padding" or "unknown" here; None if there is none."""
        number = self._numbers[name]
        return None if number is None else self.tokens[number]

    @property
    def ends(self) -> list[int]:
        """Ids of the tokens that end an answer, the one that ends a turn first."""
        found = [number for name in ("eos", "eot") if (number := self._numbers[name]) is not None]
        control = {*self.of(_CONTROL)} & _END_OF_TURN
        found += [number for number, token in enumerate(self.tokens) if token in control]
        return list(dict.fromkeys(found))

    @property
    def added(self) -> list[AddedToken]:
        """Tokens that text is never cut within, with whether they are left out of decoded text."""
        special = [AddedToken(token, special=True, normalized=False) for token in self.of(_CONTROL)]
        return special + [AddedToken(token, special=False, normalized=False) for token in self.of(_USER_DEFINED)]

    def build(self) -> Tokenizer | None:
        """The tokenizer; None if it is not a byte-level one, or cuts text in a way that is not known here."""
        cuts = _cuts(self._cut)
        if self._model != "gpt2" or cuts is None:
            return None
        vocabulary = {token: number for number, token in enumerate(self.tokens)}
        merges = [(first, second) for first, _, second in (merge.partition(" ") for merge in self._merges)]
        tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=self._cut == "llama-bpe"))
        if self._cut == "qwen2":
            tokenizer.normalizer = normalizers.NFC()
        tokenizer.pre_tokenizer = cuts
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.add_tokens(self.added)
        bos = self.named("bos")
        if self._adds_bos and bos is not None:
            tokenizer.post_processor = processors.TemplateProcessing(
                single=f"{bos} $A", pair=f"{bos} $A {bos}:1 $B:1", special_tokens=[(bos, self._numbers["bos"])]
            )
        return tokenizer


def _cuts(name: str) -> pre_tokenizers.PreTokenizer | None:
    """How text is cut into words, by llama.cpp's name for it."""
    if name in ("default", "gpt-2"):
        return pre_tokenizers.ByteLevel(add_prefix_space=False)
    if name == "smollm":
        digits = pre_tokenizers.Digits(individual_digits=True)
        return pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    pattern = {"qwen2": _QWEN, "llama-bpe": _LLAMA_3}.get(name)
    if pattern is None:
        return None
    split = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
