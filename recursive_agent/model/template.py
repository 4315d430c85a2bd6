"""Conversations as token ids: rendered once by the model's own chat template, then only ever appended to.

What stands between two turns is found by difference: the template renders a short conversation without and with the
new messages, and what comes on top is appended. That is right only for templates that never rewrite an earlier turn,
which is checked before the first use.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from ..errors import CapabilityMissing, ConfigurationError
from .base import Message

if TYPE_CHECKING:
    import jinja2
    import tokenizers

_USER = Message("user", "x")
_THOUGHT = Message("assistant", "<think>\na\n</think>\n\nb")


class Renderer(Protocol):
    """Turns messages into prompt ids."""

    async def start(self, messages: Sequence[Message]) -> list[int]:
        """Ids of a conversation's opening, generation prompt included."""

    async def turn(self, sampled: Sequence[int], messages: Sequence[Message]) -> list[int]:
        """Ids to append after the `sampled` ids of an answer: the end of its turn where it was not sampled, what the
        template puts between, the new messages and the next generation prompt."""

    async def end_of_turn(self) -> int:
        """Id that ends an answer."""


class DifferenceRenderer(ABC):
    """A `Renderer` over anything that can render a whole conversation."""

    def __init__(self) -> None:
        self._base: list[int] | None = None
        self._close: list[int] = []

    @abstractmethod
    async def render(self, messages: Sequence[Message], *, generation_prompt: bool) -> list[int]:
        """Ids of a whole conversation."""

    @abstractmethod
    def source(self) -> str:
        """Whose template this is, for messages."""

    async def start(self, messages: Sequence[Message]) -> list[int]:
        """See `Renderer.start`."""
        return await self.render(messages, generation_prompt=True)

    async def turn(self, sampled: Sequence[int], messages: Sequence[Message]) -> list[int]:
        """See `Renderer.turn`. Raises CapabilityMissing where the template rewrites earlier turns."""
        base = await self._prepare()
        whole = await self.render([_USER, _answer("y"), *messages], generation_prompt=True)
        if whole[: len(base)] != base:
            self._refuse()
        # The end of turn stands once: sampled by the model or, where its answer was cut, appended here.
        ended = bool(sampled) and sampled[-1] == self._close[0]
        return self._close[int(ended) :] + whole[len(base) :]

    async def end_of_turn(self) -> int:
        """See `Renderer.end_of_turn`. Raises CapabilityMissing as `turn` does."""
        await self._prepare()
        return self._close[0]

    async def _prepare(self) -> list[int]:
        """Ids of a short conversation that ends with an answer; checks once that the template only ever appends."""
        if self._base is None:
            base = await self.render([_USER, _answer("y")], generation_prompt=False)
            other = await self.render([_USER, _answer("z")], generation_prompt=False)
            shared = 0
            while shared < min(len(base), len(other)) and base[-1 - shared] == other[-1 - shared]:
                shared += 1
            thought = await self.render([_USER, _THOUGHT], generation_prompt=False)
            after = await self.render([_USER, _THOUGHT, _USER], generation_prompt=True)
            # A template that drops thinking gives a conversation with it (nearly) the length of one without.
            appends = after[: len(thought)] == thought and len(thought) >= len(base) + 3
            if not appends or not shared or shared == len(base):
                self._refuse()
            self._close = base[len(base) - shared :]
            self._base = base
        return self._base

    def _refuse(self) -> NoReturn:
        raise CapabilityMissing(
            f"The chat template of {self.source()} changes earlier turns (by removing their reasoning, say) or marks no "
            "end of an answer, so a conversation cannot be continued token by token: use interface='chat', or serve "
            "the model with a template that only appends."
        )


class CheckpointRenderer(DifferenceRenderer):
    """Renders with a checkpoint directory's own files, as `transformers` writes them: tokenizer.json, and the template
    in chat_template.jinja or tokenizer_config.json. Needs neither torch nor transformers.

    `chat_template` (Jinja source) takes the place of the checkpoint's own. Raises ConfigurationError, naming the file,
    where one is missing or unreadable.
    """

    def __init__(self, directory: str | Path, *, chat_template: str | None = None) -> None:
        super().__init__()
        import tokenizers

        self.directory = Path(directory)
        path = self.directory / "tokenizer.json"
        try:
            self.tokenizer: tokenizers.Tokenizer = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception
            raise ConfigurationError(f"{path} cannot be read: {error}") from None
        self.config = _read_config(self.directory / "tokenizer_config.json")
        self._special = {
            name: token for name in ("bos_token", "eos_token", "unk_token", "pad_token")
            if (token := _token_text(self.config.get(name))) is not None
        }  # fmt: skip
        self._template = _compile(chat_template or self._find_template(), self.directory)

    def source(self) -> str:
        """The directory."""
        return str(self.directory)

    def text(self, messages: Sequence[Message], *, generation_prompt: bool) -> str:
        """A conversation as text, under the chat template."""
        from jinja2 import TemplateError

        try:
            return self._template.render(
                messages=[_plain(message) for message in messages],
                add_generation_prompt=generation_prompt,
                **self._special,
            )
        except TemplateError as error:
            raise CapabilityMissing(f"The chat template of {self.directory} refuses the messages: {error}") from None

    def encode(self, messages: Sequence[Message], *, generation_prompt: bool = True) -> list[int]:
        """Ids of a whole conversation; what `render` gives, without waiting."""
        text = self.text(messages, generation_prompt=generation_prompt)
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids, special tokens left out."""
        text: str = self.tokenizer.decode(list(ids), skip_special_tokens=True)
        return text

    async def render(self, messages: Sequence[Message], *, generation_prompt: bool) -> list[int]:
        """Ids of a whole conversation."""
        return self.encode(messages, generation_prompt=generation_prompt)

    def _find_template(self) -> str:
        path = self.directory / "chat_template.jinja"
        if path.is_file():
            return path.read_text(encoding="utf-8")
        template = self.config.get("chat_template")
        if isinstance(template, list):  # several, by name
            named = {entry.get("name"): entry.get("template") for entry in template if isinstance(entry, dict)}
            template = named.get("default")
        if not isinstance(template, str):
            raise ConfigurationError(
                f"{self.directory} has no chat template (chat_template.jinja or tokenizer_config.json); give one with "
                "chat_template=…"
            )
        return template


class EndpointRenderer(DifferenceRenderer):
    """Renders with vLLM's POST /tokenize, given as a function from its JSON body to its JSON answer."""

    def __init__(self, tokenize: Callable[[dict[str, Any]], Awaitable[Mapping[str, Any]]], *, source: str) -> None:
        super().__init__()
        self._tokenize = tokenize
        self._source = source

    def source(self) -> str:
        """The model at its endpoint."""
        return self._source

    async def render(self, messages: Sequence[Message], *, generation_prompt: bool) -> list[int]:
        """Ids of a whole conversation."""
        answer = await self._tokenize(
            {
                "messages": [_plain(message) for message in messages],
                "add_generation_prompt": generation_prompt,
                "add_special_tokens": False,
            }
        )
        ids = answer.get("tokens")
        if not isinstance(ids, list) or not all(isinstance(token, int) for token in ids):
            raise CapabilityMissing(f"/tokenize of {self._source} gave no token ids; use interface='chat'.")
        return ids


def _answer(text: str) -> Message:
    return Message("assistant", text)


def _plain(message: Message) -> dict[str, Any]:
    plain: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_call_id is not None:
        plain["tool_call_id"] = message.tool_call_id
    return plain


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from None
    return config if isinstance(config, dict) else {}


def _token_text(token: Any) -> str | None:
    if isinstance(token, dict):
        token = token.get("content")
    return token if isinstance(token, str) else None


def _compile(source: str, directory: Path) -> jinja2.Template:
    """The template in a sandbox: a checkpoint is somebody else's file."""
    from jinja2 import TemplateError
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def raise_exception(message: str) -> NoReturn:
        raise TemplateError(message)

    def tojson(value: Any, indent: int | None = None, ensure_ascii: bool = False) -> str:
        return json.dumps(value, indent=indent, ensure_ascii=ensure_ascii)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda pattern: datetime.now().strftime(pattern)
    try:
        return environment.from_string(source)
    except TemplateError as error:
        raise ConfigurationError(f"The chat template of {directory} cannot be read: {error}") from None
