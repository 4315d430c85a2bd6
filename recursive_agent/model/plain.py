"""The chat template of models that have none, such as base models and early ones."""

from __future__ import annotations

from collections.abc import Container

_CHATML = """\
{% for message in messages %}<|im_start|>{{ message['role'] }}
{{ message['content'] }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
_PLAIN = """\
{% for message in messages %}{{ message['role'] | capitalize }}: {{ message['content'] }}\
{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\\n\\n' }}{% endfor %}\
{% if add_generation_prompt %}Assistant:{% endif %}"""


def plain_template(vocabulary: Container[str], *, begins: bool) -> str:
    """A template for a model whose tokenizer has none: ChatML where it has those tokens, else named turns.

    `begins`: whether the tokenizer puts the token `bos_token` before a text.
    """
    if "<|im_start|>" in vocabulary and "<|im_end|>" in vocabulary:
        return _CHATML
    return ("{{ bos_token }}" if begins else "") + _PLAIN
