"""A GGUF file and the checkpoint made of it are one model: the same tokens, and the same greedy answers."""

from __future__ import annotations

from pathlib import Path
from random import Random

import httpx2
import pytest

from .conftest import HERE, Served

ODD = [
    "a  1234 x 12.5e-3  \n\n\t  def f(x):\n        return  x\r\n\r\n  9",
    "▁low <0x41> naïve café 日本語 текст 🙂 ½ ² ٣ it's we'LL don't",
    "<|im_start|>user\nhi<|im_end|>\n<file_sep><repo_name>",
]
SURE = ["The capital of France is", "1 2 3 4 5 6", "def add(a, b):\n    return"]
"""Texts that have one likely continuation."""


def texts() -> list[str]:
    rng = Random(0)
    noise = ["".join(rng.choice("ab 12\n\t.'sé日<|>_  ") for _ in range(120)) for _ in range(40)]
    return [*ODD, *noise, (HERE / "README.md").read_text()[:8000]]


def test_texts_are_cut_into_the_tokens_that_the_model_was_trained_with(llama: Served, checkpoint: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    root = llama.url.removesuffix("/v1")
    for text in texts():
        there = httpx2.post(f"{root}/tokenize", json={"content": text, "parse_special": True}).json()["tokens"]
        here = tokenizer(text, add_special_tokens=False).input_ids
        assert here == there, text
        assert tokenizer.decode(here) == text


@pytest.mark.parametrize("start", SURE)
def test_both_servers_continue_a_text_alike(llama: Served, vllm: Served, start: str) -> None:
    told = []
    for server in (llama, vllm):
        body = {"model": server.name, "prompt": start, "max_tokens": 4, "temperature": 0}
        answer = httpx2.post(f"{server.url}/completions", json=body, timeout=120).json()
        told.append(answer["choices"][0]["text"])
    assert told[0] == told[1]
