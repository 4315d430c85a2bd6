"""Chat templates from a checkpoint's files: rendered as written, checked before they are trusted."""

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from recursive_agent.errors import CapabilityMissing, ConfigurationError
from recursive_agent.model import Message
from recursive_agent.model.template import CheckpointRenderer

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
STRIPS_FROM_EARLIER_TURNS = CHATML.replace(
    "{{ message.content }}",
    "{% if message.role == 'assistant' and not loop.last %}{{ message.content.split('</think>')[-1] }}"
    "{% else %}{{ message.content }}{% endif %}",
)
STRIPS_ALWAYS = CHATML.replace("{{ message.content }}", "{{ message.content.split('</think>')[-1] }}")
MARKS_NO_END = "{% for message in messages %}{{ message.role }}: {{ message.content }}{% endfor %}"
COUNTS_TURNS = "{{ messages | length }} turns\n" + CHATML
ENDS_WITH_EOS = (
    "{{ bos_token }}{% for message in messages %}{% if message.role == 'assistant' %}{{ message.content }}{{ eos_token }}"
    "{% else %}[INST]{{ message.content }}[/INST]{% endif %}{% endfor %}"
)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|im_start|>", "<|im_end|>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["user assistant system say hello and observe the world " * 5], trainer)
    return tokenizer


@pytest.fixture
def checkpoint(tmp_path: Path, tokenizer: Tokenizer) -> Path:
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    config = {"bos_token": "<s>", "eos_token": {"content": "</s>", "special": True}, "pad_token": None}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    (tmp_path / "chat_template.jinja").write_text(CHATML)
    return tmp_path


def user(text: str) -> Message:
    return Message("user", text)


def assistant(text: str) -> Message:
    return Message("assistant", text)


@pytest.mark.anyio
async def test_appending_turns_gives_what_rendering_the_whole_gives(checkpoint: Path) -> None:
    renderer = CheckpointRenderer(checkpoint)
    messages = [Message("system", "Be good."), user("say  hello\n\n")]
    ids = await renderer.start(messages)
    assert renderer.decode(ids) == "system\nBe good.\nuser\nsay  hello\n\n\nassistant\n"
    end = await renderer.end_of_turn()
    for turn in range(3):
        text = f"answer {turn} 🌍\n"
        sampled = [*renderer.tokenizer.encode(text, add_special_tokens=False).ids, end]
        observation = user(f"<observation>{turn}</observation>")
        ids = ids + sampled + await renderer.turn(sampled, [observation])
        messages += [assistant(text), observation]
        assert ids == renderer.encode(messages)


@pytest.mark.anyio
async def test_an_end_of_turn_that_was_not_sampled_is_appended(checkpoint: Path) -> None:
    renderer = CheckpointRenderer(checkpoint)
    end = await renderer.end_of_turn()
    assert renderer.tokenizer.id_to_token(end) == "<|im_end|>"
    ended, cut = await renderer.turn([5, end], [user("x")]), await renderer.turn([5], [user("x")])
    assert cut == [end, *ended]
    assert ended[0] != end
    assert await renderer.turn([], [user("x")]) == cut


@pytest.mark.anyio
async def test_special_tokens_of_the_configuration_reach_the_template(checkpoint: Path) -> None:
    (checkpoint / "chat_template.jinja").write_text(ENDS_WITH_EOS)
    renderer = CheckpointRenderer(checkpoint)
    messages = [user("a"), assistant("b"), user("c")]
    assert renderer.text(messages, generation_prompt=True) == "<s>[INST]a[/INST]b</s>[INST]c[/INST]"
    assert renderer.tokenizer.id_to_token(await renderer.end_of_turn()) == "</s>"


@pytest.mark.anyio
@pytest.mark.parametrize("template", [STRIPS_FROM_EARLIER_TURNS, STRIPS_ALWAYS, MARKS_NO_END, COUNTS_TURNS])
async def test_templates_that_rewrite_earlier_turns_are_refused(checkpoint: Path, template: str) -> None:
    (checkpoint / "chat_template.jinja").write_text(template)
    renderer = CheckpointRenderer(checkpoint)
    with pytest.raises(CapabilityMissing, match="interface='chat'"):
        await renderer.turn([1], [user("x")])


@pytest.mark.anyio
async def test_a_template_of_ones_own_takes_the_place_of_a_bad_one(checkpoint: Path) -> None:
    (checkpoint / "chat_template.jinja").write_text(STRIPS_ALWAYS)
    renderer = CheckpointRenderer(checkpoint, chat_template=CHATML)
    assert await renderer.turn([1], [user("x")])


def test_the_template_may_stand_in_the_tokenizers_configuration(checkpoint: Path) -> None:
    (checkpoint / "chat_template.jinja").unlink()
    for template in (CHATML, [{"name": "tool_use", "template": "no"}, {"name": "default", "template": CHATML}]):
        (checkpoint / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
        text = CheckpointRenderer(checkpoint).text([user("a")], generation_prompt=False)
        assert text == "<|im_start|>user\na<|im_end|>\n"


def test_what_a_checkpoint_lacks_is_named(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere/tokenizer\.json"):
        CheckpointRenderer(tmp_path / "nowhere")
    (checkpoint / "chat_template.jinja").write_text("{% for %}")
    with pytest.raises(ConfigurationError, match="chat template"):
        CheckpointRenderer(checkpoint)
    (checkpoint / "tokenizer_config.json").write_text("{")
    with pytest.raises(ConfigurationError, match=r"tokenizer_config\.json"):
        CheckpointRenderer(checkpoint)


def test_a_template_that_refuses_says_why(checkpoint: Path) -> None:
    (checkpoint / "chat_template.jinja").write_text("{{ raise_exception('no system role') }}")
    with pytest.raises(CapabilityMissing, match="no system role"):
        CheckpointRenderer(checkpoint).encode([user("a")])


def test_templates_run_in_a_sandbox(checkpoint: Path) -> None:
    (checkpoint / "chat_template.jinja").write_text("{{ ''.__class__.__mro__[1].__subclasses__() }}")
    with pytest.raises(CapabilityMissing, match="unsafe"):
        CheckpointRenderer(checkpoint).encode([user("a")])
