"""A folder with any causal model opens as a model that is sampled exactly, whoever wrote it and whatever it lacks."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, PreTrainedModel

from rao_rl.data.rows import TreeRows
from rao_rl.weights.checkpoint import load_checkpoint, load_policy
from rao_rl.weights.folder import describe, open_folder
from rao_rl.weights.torch_model import TorchEngine
from rao_rl.weights.uncached import UncachedEngine
from recursive_agent import Agent, Limits
from recursive_agent.errors import ConfigurationError
from recursive_agent.model.base import Message, Sampling
from recursive_agent.model.batching import Request
from recursive_agent.model.embedded import SHIPPED, EmbeddedModel
from recursive_agent.model.local import LocalModel

from .foreign import (
    ARCHITECTURES,
    CHATML,
    DROPS_SYSTEM,
    END,
    NO_SYSTEM,
    REWRITES,
    edit_json,
    lose_special_tokens,
    write_foreign,
)

pytestmark = pytest.mark.anyio

TALK = [Message("system", "Be brief."), Message("user", "say hello to the world"), Message("user", "finish")]
TALK_IN_CHATML = (
    "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nsay hello to the world<|im_end|>\n"
    "<|im_start|>assistant\n"
)
UNCACHED = {"bloom", "mistral", "gemma2", "mamba"}


@pytest.fixture
def anyio_backend() -> str:
    """Turn-taking in both event loops is tests/model/test_embedded.py's."""
    return "asyncio"


def scored(policy: Any, ids: Sequence[int], count: int, temperature: float) -> list[float]:
    """Log-probs of the last `count` ids by one forward pass over all."""
    with torch.no_grad():
        logits = policy(torch.tensor([list(ids)])).logits[0, -count - 1 : -1].double() / temperature
    return torch.log_softmax(logits, -1).gather(1, torch.tensor(ids[-count:])[:, None])[:, 0].tolist()


async def talk(model: LocalModel, temperature: float, seed: int = 1, turns: int = 2) -> list[Any]:
    """Answers to two turns."""
    conversation = model.conversation(sampling=Sampling(temperature=temperature))
    conversation.add(*TALK[:2])
    answers = []
    for _ in range(turns):
        answers.append(await conversation.complete(max_tokens=9, seed=seed))
        conversation.add(TALK[2])
    return answers


@pytest.mark.parametrize("kind", ARCHITECTURES)
async def test_every_architecture_is_sampled_as_its_own_forward_pass_says(kind: str, tmp_path: Path) -> None:
    policy = write_foreign(tmp_path, kind)
    model = open_folder(tmp_path)
    assert type(model.engine) is (UncachedEngine if kind in UNCACHED else TorchEngine)
    assert ("slowly" in model.notes[0]) is (kind in UNCACHED)
    for temperature in (0.0, 0.7):
        for answer in await talk(model, temperature):
            prompt, sampled = list(answer.prompt_token_ids), list(answer.token_ids)
            assert answer.logprobs == pytest.approx(
                scored(policy, prompt + sampled, len(sampled), temperature or 1.0), abs=1e-3
            )
            if not temperature:
                with torch.no_grad():
                    likeliest = policy(torch.tensor([prompt + sampled])).logits[0, -len(sampled) - 1 : -1].argmax(-1)
                assert sampled == likeliest.tolist()
    first, again = await talk(model, 1.0, seed=5), await talk(open_folder(tmp_path), 1.0, seed=5)
    assert [answer.token_ids for answer in first] == [answer.token_ids for answer in again]


async def test_a_prompt_beside_a_short_one_reaches_the_last_position(tmp_path: Path) -> None:
    """Pads of the short row must not get positions that a model with a table of them does not have."""
    policy = write_foreign(tmp_path, "gpt2", n_positions=64)
    model = open_folder(tmp_path)

    class Owner:
        """A conversation."""

    long, short = Owner(), Owner()
    ids = [n % 300 + 5 for n in range(60)]
    await model.sample(
        Request(long, ids[:50], max_tokens=1, seed=1)
    )  # so that the next prompt is read from position 50 on
    requests = [Request(long, ids, max_tokens=4, seed=1), Request(short, ids[:58], max_tokens=4, seed=2)]
    for request in requests:
        model.engine.submit(request)
    while model.engine.pending:
        model.engine.run(1.0)
    for request in requests:
        assert request.error is None
        assert request.logprobs == pytest.approx(scored(policy, request.ids, len(request.token_ids), 1.0), abs=1e-3)


def test_a_folder_with_a_graph_runs_without_torch() -> None:
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('torch', 'transformers')))\n"
        f"from rao_rl import open_folder; print(type(open_folder({str(SHIPPED)!r})).__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "EmbeddedModel\n"


def test_without_torch_one_sentence_says_what_to_install(tmp_path: Path) -> None:
    write_foreign(tmp_path)
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('torch', 'transformers')))\n"
        "from rao_rl import open_folder\n"
        "from recursive_agent.errors import ConfigurationError\n"
        f"try: open_folder({str(tmp_path)!r})\n"
        "except ConfigurationError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.count("\n") == 1
    assert "needs PyTorch: pip install 'rao[train]'" in done.stdout


def test_settings_are_inferred_from_what_the_authors_wrote(tmp_path: Path) -> None:
    write_foreign(tmp_path / "their-model")
    model = open_folder(tmp_path / "their-model")
    assert (model.name, model.window, model.end_ids) == ("their-model", 512, [END])
    assert (model.settings.prompt_style, model.settings.action_format) == ("rich", "fenced")
    generation = {"do_sample": True, "temperature": 0.6, "top_p": 0.9, "top_k": 20, "repetition_penalty": 1.1}
    edit_json(tmp_path / "their-model" / "generation_config.json", eos_token_id=[END, 0], **generation)
    model = open_folder(tmp_path / "their-model")
    assert (model.sampling.temperature, model.sampling.top_p, model.end_ids) == (0.6, 0.9, [END, 0])
    (note,) = [note for note in model.notes if "generation_config" in note]
    assert "without repetition_penalty=1.1, top_k=20" in note


@pytest.mark.parametrize(
    ("changes", "window"),
    [({"max_position_embeddings": None}, 8192), ({"max_position_embeddings": None, "seq_length": 99}, 99)],
)
def test_the_window_is_what_configuration_or_tokenizer_name(tmp_path: Path, changes: Any, window: int) -> None:
    write_foreign(tmp_path, "bloom")
    edit_json(tmp_path / "config.json", **changes)
    assert open_folder(tmp_path).window == window
    edit_json(tmp_path / "config.json", seq_length=None)
    edit_json(tmp_path / "tokenizer_config.json", model_max_length=77)
    assert open_folder(tmp_path).window == 77


@pytest.mark.parametrize("left", ["generation_config", "config", "tokenizer", "template"])
def test_the_end_of_a_turn_is_found_wherever_it_is_left(tmp_path: Path, left: str) -> None:
    write_foreign(
        tmp_path, template=CHATML if left == "template" else "{% for m in messages %}{{ m.content }}\n{% endfor %}"
    )
    if left != "generation_config":
        (tmp_path / "generation_config.json").unlink()
    if left != "config":
        edit_json(tmp_path / "config.json", eos_token_id=None)
    if left != "tokenizer":
        edit_json(tmp_path / "tokenizer_config.json", eos_token=None)
    assert open_folder(tmp_path).end_ids == [END]


async def test_special_tokens_that_a_conversion_lost_are_restored(tmp_path: Path) -> None:
    write_foreign(tmp_path / "whole")
    write_foreign(tmp_path / "lost")
    lose_special_tokens(tmp_path / "lost")
    whole, lost = open_folder(tmp_path / "whole"), open_folder(tmp_path / "lost")
    assert lost.renderer.encode(TALK) == whole.renderer.encode(TALK)
    assert lost.renderer.decode([END]) == ""
    assert any("had lost the special tokens <|im_end|>, <|im_start|>" in note for note in lost.notes)
    # The trainer's tokenizer is mended in the same way, and what it saves is whole.
    _, tokenizer, _ = load_checkpoint(tmp_path / "lost")
    plain = [{"role": message.role, "content": message.content} for message in TALK]
    text = tokenizer.apply_chat_template(plain, tokenize=False, add_generation_prompt=True)
    assert tokenizer(text, add_special_tokens=False)["input_ids"] == whole.renderer.encode(TALK)
    tokenizer.save_pretrained(tmp_path / "saved")
    again = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert again(text, add_special_tokens=False)["input_ids"] == whole.renderer.encode(TALK)


@pytest.mark.parametrize("template", [NO_SYSTEM, DROPS_SYSTEM])
async def test_without_a_system_role_the_first_message_of_the_user_holds_it(tmp_path: Path, template: str) -> None:
    write_foreign(tmp_path, template=template)
    model = open_folder(tmp_path)
    folded = "<|im_start|>user\nBe brief.\n\nsay hello to the world<|im_end|>\n<|im_start|>assistant\n"
    assert model.renderer.text(TALK[:2], generation_prompt=True) == folded
    assert any("without a system role" in note for note in model.notes)
    first, second = await talk(model, 1.0)
    prompt = list(first.prompt_token_ids) + list(first.token_ids)
    assert list(second.prompt_token_ids)[: len(prompt)] == prompt


async def test_a_template_that_changes_earlier_turns_is_rendered_anew_each_turn(tmp_path: Path) -> None:
    policy = write_foreign(tmp_path, template=REWRITES)
    model = open_folder(tmp_path)
    assert any("changes earlier turns" in note for note in model.notes)
    conversation = model.conversation(sampling=Sampling(temperature=1.0))
    conversation.add(*TALK[:2])
    first = await conversation.complete(max_tokens=6, seed=1)
    conversation.messages[-1] = Message("assistant", "<think>long</think>brief")
    conversation.add(TALK[2])
    second = await conversation.complete(max_tokens=6, seed=2)
    prompt = list(second.prompt_token_ids or ())
    assert prompt == model.renderer.encode([*TALK[:2], Message("assistant", "brief"), TALK[2]])
    assert list(first.prompt_token_ids or ()) == model.renderer.encode(TALK[:2])
    ids = prompt + list(second.token_ids or ())
    assert second.logprobs == pytest.approx(scored(policy, ids, len(second.token_ids or ()), 1.0), abs=1e-3)


async def test_every_turn_under_such_a_template_is_a_row_to_train(tmp_path: Path) -> None:
    write_foreign(tmp_path / "model", template=REWRITES, max_position_embeddings=8192)
    model = open_folder(tmp_path / "model", sampling=Sampling(max_tokens=5))
    async with Agent(model, limits=Limits(max_steps=3), require=None) as agent:
        result = await agent.solve("say hello", seed=1)
    (rows,) = TreeRows.of(result.tree).rows.values()
    calls = [step.model for step in result.tree.root.steps if step.model]
    assert len(rows) == len(calls) == 3
    assert [int(row.completion_mask.sum()) for row in rows] == [len(call.token_ids or ()) for call in calls]


@pytest.mark.parametrize(("kind", "plain"), [("llama", False), ("gpt2", True)])
async def test_a_model_without_a_template_gets_a_plain_one(tmp_path: Path, kind: str, plain: bool) -> None:
    write_foreign(tmp_path, kind, template=None)
    if plain:  # no markers of ChatML in its vocabulary
        text = (tmp_path / "tokenizer.json").read_text()
        (tmp_path / "tokenizer.json").write_text(text.replace("<|im_start|>", "<|a|>").replace("<|im_end|>", "<|b|>"))
        edit_json(tmp_path / "tokenizer_config.json", eos_token="<|endoftext|>")
    model = open_folder(tmp_path)
    assert any("has no chat template" in note for note in model.notes)
    expected = "System: Be brief.\n\nUser: say hello to the world\n\nAssistant:"
    if not plain:
        expected = TALK_IN_CHATML
    assert model.renderer.text(TALK[:2], generation_prompt=True) == expected
    assert not model.renderer.rewrites
    first, second = await talk(model, 1.0)
    prompt = list(first.prompt_token_ids) + list(first.token_ids)
    assert list(second.prompt_token_ids)[: len(prompt)] == prompt
    # Trained, it keeps that template.
    assert load_checkpoint(tmp_path)[1].chat_template == model.renderer.template


def rewrite_weights(folder: Path, change: Any) -> None:
    path = folder / "model.safetensors"
    weights = load_file(path)
    change(weights)
    save_file(weights, path, metadata={"format": "pt"})


@pytest.mark.parametrize("copied", [False, True])
def test_a_head_that_a_conversion_left_out_or_copied_is_tied(tmp_path: Path, copied: bool) -> None:
    write_foreign(tmp_path, "qwen2", tie_word_embeddings=False)

    def change(weights: dict[str, torch.Tensor]) -> None:
        embedding = weights["model.embed_tokens.weight"]
        weights["lm_head.weight"] = embedding + torch.randn(embedding.shape) * 0.01
        if not copied:
            del weights["lm_head.weight"]

    rewrite_weights(tmp_path, change)
    policy = load_policy(tmp_path)
    assert policy.lm_head.weight is policy.model.embed_tokens.weight
    assert policy.config.tie_word_embeddings
    policy.save_pretrained(tmp_path / "saved")
    assert json.loads((tmp_path / "saved" / "config.json").read_text())["tie_word_embeddings"] is True


def test_a_head_of_its_own_stays_one(tmp_path: Path) -> None:
    write_foreign(tmp_path, "llama")
    policy = load_policy(tmp_path)
    assert policy.lm_head.weight is not policy.model.embed_tokens.weight


def test_weights_that_are_missing_are_refused_by_name(tmp_path: Path) -> None:
    write_foreign(tmp_path)
    rewrite_weights(tmp_path, lambda weights: weights.pop("model.layers.1.mlp.up_proj.weight"))
    with pytest.raises(ConfigurationError, match=r"has no weights for model\.layers\.1\.mlp\.up_proj\.weight"):
        open_folder(tmp_path)


def test_a_tokenizer_in_an_older_form_is_converted(tmp_path: Path) -> None:
    write_foreign(tmp_path, "gpt2")
    ids = open_folder(tmp_path).renderer.encode(TALK)
    model = json.loads((tmp_path / "tokenizer.json").read_text())["model"]
    (tmp_path / "vocab.json").write_text(json.dumps(model["vocab"]))
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    (tmp_path / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]))
    (tmp_path / "tokenizer.json").unlink()
    edit_json(tmp_path / "tokenizer_config.json", tokenizer_class="GPT2Tokenizer")
    assert open_folder(tmp_path).renderer.encode(TALK) == ids


@pytest.mark.parametrize(
    ("prepare", "says"),
    [
        (lambda folder: shutil.rmtree(folder), "there is no such directory"),
        (lambda folder: (folder / "config.json").unlink(), "neither agent.json nor config.json"),
        (lambda folder: (folder / "model.safetensors").unlink(), "not a checkpoint that transformers can load"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json cannot be read"),
        (
            lambda folder: edit_json(folder / "config.json", model_type="clip"),
            "not a checkpoint that transformers can load",
        ),
        (
            lambda folder: (folder / "chat_template.jinja").write_text("{{ raise_exception('no') }}"),
            "refuses the messages",
        ),
    ],
)
def test_what_is_no_model_is_one_sentence(tmp_path: Path, prepare: Any, says: str) -> None:
    folder = tmp_path / "model"
    write_foreign(folder)
    prepare(folder)
    with pytest.raises(ConfigurationError, match=says) as caught:
        open_folder(folder)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_in_sixteen_bits_is_sampled_in_them_only_where_that_is_fast(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_foreign(tmp_path, dtype=torch.bfloat16)
    for fast, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr("rao_rl.weights.placement.multiplies_bf16", lambda device, fast=fast: fast)
        model: Any = open_folder(tmp_path)
        assert next(model.engine.policy.parameters()).dtype == dtype


def test_a_folder_is_described(tmp_path: Path) -> None:
    write_foreign(tmp_path / "mine")
    assert describe(tmp_path / "mine").startswith(
        "mine: a llama model of 512 tokens, without agent.json: prompt style rich"
    )
    assert "written by rao; it runs by the light runtime" in describe(SHIPPED)
    assert isinstance(open_folder(SHIPPED), EmbeddedModel)


async def test_what_a_model_thinks_is_not_its_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_foreign(tmp_path, template=REWRITES)
    model = open_folder(tmp_path)
    conversation = model.conversation()
    conversation.add(*TALK[:2])
    monkeypatch.setattr(model.renderer, "decode", lambda ids: "<think>\nfinish(1)?\n</think>\n\nfinish(2)")
    answer = await conversation.complete(max_tokens=4, seed=1)
    assert (answer.text, answer.reasoning) == ("finish(2)", "finish(1)?")
    assert conversation.messages[-1].content.startswith("<think>")  # the template decides what is kept of it


def test_models_that_are_loaded_at_the_same_time_leave_later_ones_tied(tmp_path: Path) -> None:
    write_foreign(tmp_path, "qwen2")
    tie = PreTrainedModel.tie_weights
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(load_policy, [tmp_path] * 8))
    assert PreTrainedModel.tie_weights is tie
