"""The ONNX graph is the torch model, over the same bytes of weights; and what the runtime samples is what torch scores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import onnxruntime
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from rao_rl.imitation.policy import Architecture
from rao_rl.weights.onnx import export_onnx
from recursive_agent.errors import ConfigurationError
from recursive_agent.model.base import Completion, Message
from recursive_agent.model.embedded import SHIPPED, EmbeddedModel

from ..train.policies import TINY, make_checkpoint


def log_probs(model: Any, ids: list[int]) -> torch.Tensor:
    """Of every next token: [S, V]."""
    with torch.no_grad():
        return torch.log_softmax(model(torch.tensor([ids])).logits[0].double(), dim=-1)


@pytest.mark.parametrize("kv_heads", [4, 2, 1])
def test_the_graph_computes_what_torch_does_for_rows_of_any_past(tokenizer: Any, tmp_path: Path, kv_heads: int) -> None:
    shape = Architecture(vocabulary=640, width=32, layers=2, heads=4, head_width=16, feed_forward=48, context_length=64)
    model = make_checkpoint(tmp_path, tokenizer, shape=shape)
    if kv_heads != 4:
        config = model.config
        config.num_key_value_heads = kv_heads
        model = type(model)(config).eval()
        model.save_pretrained(tmp_path)
        export_onnx(tmp_path)
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    ids = rng.integers(0, len(tokenizer), (3, 12))
    wanted = torch.stack([log_probs(model, row) for row in ids.tolist()])

    def run(new: Any, lengths: Any, cache: list[Any]) -> list[Any]:
        feed = {"input_ids": new, "past_lengths": lengths, "logits_at": np.arange(new.size)}
        names = [f"past_{kind}.{layer}" for layer in range(2) for kind in ("key", "value")]
        return session.run(None, {**feed, **dict(zip(names, cache, strict=True))})

    empty = [np.zeros((3, kv_heads, 0, 16), np.float32)] * 4
    logits, *new = run(ids, np.zeros(3, np.int64), empty)
    got = torch.log_softmax(torch.tensor(logits), dim=-1).view(3, 12, -1)
    torch.testing.assert_close(got.double(), wanted, rtol=0, atol=1e-4)

    # Rows whose cache holds different numbers of tokens, among slots of garbage.
    lengths = np.array([3, 9, 5])
    cache = [rng.standard_normal((3, kv_heads, 16, 16)).astype(np.float32) for _ in range(4)]
    rest = np.zeros((3, 9), np.int64)
    for row, length in enumerate(lengths):
        for slot, array in zip(cache, new, strict=True):
            slot[row, :, :length] = array[row, :, :length]
        rest[row, : 12 - length] = ids[row, length:]
    logits, *_ = run(rest, lengths, cache)
    got = torch.log_softmax(torch.tensor(logits), dim=-1).view(3, 9, -1)
    for row, length in enumerate(lengths):
        torch.testing.assert_close(got[row, : 12 - length].double(), wanted[row, length:], rtol=0, atol=1e-4)


def test_the_graph_holds_no_weights_of_its_own(tokenizer: Any, tmp_path: Path) -> None:
    model = make_checkpoint(tmp_path, tokenizer)
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    assert (tmp_path / "model.onnx").stat().st_size < 64_000
    cache = {name.name: np.zeros((1, 2, 1, 16), np.float32) for name in session.get_inputs() if "past_key" in name.name}
    cache |= {name.replace("key", "value"): array for name, array in cache.items()}
    feed = {"input_ids": np.array([[7]]), "past_lengths": np.array([0]), "logits_at": np.array([0]), **cache}
    before = session.run(["logits"], feed)[0]
    with torch.no_grad():
        model.lm_head.weight.mul_(2)
    model.save_pretrained(tmp_path)
    again = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(again.run(["logits"], feed)[0], 2 * before, rtol=1e-5)


def test_other_architectures_are_refused(tokenizer: Any, tmp_path: Path) -> None:
    make_checkpoint(tmp_path, tokenizer)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": "llama"}))
    with pytest.raises(ConfigurationError, match="Qwen3-shaped"):
        export_onnx(tmp_path)


async def talk(model: EmbeddedModel, number: int) -> list[Completion]:
    conversation = model.conversation()
    conversation.add(Message("user", f"Craft the following items: {number}x copper_gear\nget_info finish"))
    answers = []
    for turn in range(3):
        answers.append(await conversation.complete(max_tokens=10 + number, seed=number * 10 + turn))
        conversation.add(Message("user", "['oak_frame']" * (1 + number % 3)))
    return answers


@pytest.mark.anyio
@pytest.mark.parametrize("shipped", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
async def test_sampled_ids_have_the_log_probs_that_torch_gives_them(
    tokenizer: Any, tmp_path: Path, shipped: bool, temperature: float
) -> None:
    if shipped:
        directory, model = SHIPPED, AutoModelForCausalLM.from_pretrained(SHIPPED)
    else:
        directory, model = tmp_path, make_checkpoint(tmp_path, tokenizer)
    embedded = EmbeddedModel(directory)
    embedded.sampling = type(embedded.sampling)(temperature=temperature, max_tokens=40)
    answers: list[Completion] = []

    async def one(number: int) -> None:
        answers.extend(await talk(embedded, number))

    async with anyio.create_task_group() as group:
        for number in range(6):
            group.start_soon(one, number)
    for answer in answers:
        prompt, sampled = list(answer.prompt_token_ids or ()), list(answer.token_ids or ())
        with torch.no_grad():
            logits = model(torch.tensor([prompt + sampled])).logits[0, len(prompt) - 1 : -1].double()
        scored = torch.log_softmax(logits / temperature, dim=-1).gather(1, torch.tensor(sampled)[:, None])[:, 0]
        torch.testing.assert_close(scored, torch.tensor(answer.logprobs, dtype=torch.float64), rtol=0, atol=1e-4)


def test_transformers_renders_prompts_as_the_runtime_does(tokenizer: Any, tmp_path: Path) -> None:
    make_checkpoint(tmp_path, tokenizer)
    talk = [{"role": "user", "content": "Craft é 12x oak_gear\nfinish"}, {"role": "assistant", "content": "ok"}]
    theirs = AutoTokenizer.from_pretrained(tmp_path).apply_chat_template(talk, return_dict=False)
    ours = EmbeddedModel(tmp_path).renderer.encode([Message(**turn) for turn in talk], generation_prompt=False)
    assert ours == theirs


def test_equal_seeds_make_equal_weights(tokenizer: Any, tmp_path: Path) -> None:
    one, other, third = (make_checkpoint(tmp_path, tokenizer, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(one.lm_head.weight, other.lm_head.weight)
    assert not torch.equal(one.lm_head.weight, third.lm_head.weight)
    assert TINY.context_length == one.config.max_position_embeddings
