"""Conversations as token ids: rendered once by the model's own chat template, then only ever appended to.

What stands between two turns is found by difference: the template renders a short conversation without and with the
new messages, and what comes on top is appended. That is right only for templates that never rewrite an earlier turn,
which is checked before the first use.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from ..checkpoint import TOKENIZER_CONFIG, end_ids, read_json
from ..checkpoint import chat_template as own_template
from ..errors import CapabilityMissing, ConfigurationError
from .base import Message
from .plain import plain_template
from .special import restore_special

if TYPE_CHECKING:
    import jinja2
    import tokenizers


def _answer(text: str) -> Message:
    return Message("assistant", text)


_USER = Message("user", "x")
_THOUGHT = Message("assistant", "<think>\na\n</think>\n\nb")


class Renderer(Protocol):
    """Turns messages into prompt ids."""

    async def start(self, messages: Sequence[Message]) -> list[int]:
        """Ids of a conversation's opening, or of all of it so far; generation prompt included."""

    async def turn(self, sampled: Sequence[int], messages: Sequence[Message]) -> list[int]:
        """Ids to append after the `sampled` ids of an answer: the end of its turn where it was not sampled, what the
        template puts between, the new messages and the next generation prompt."""

    async def appends(self) -> bool:
        """Whether a conversation can be continued by `turn`; if not, `start` has to render all of it again for each prompt."""

    async def end_of_turn(self) -> int:
        """Id that ends an answer."""

    async def end_ids(self) -> list[int]:
        """Ids that end an answer; [] where nothing is known of them."""


@dataclass(frozen=True, slots=True)
class _Turns:
    """What a template does with turns: ids of a short conversation that ends with an answer, those behind the answer, the
    place in them of the token that ends it (None: there is none), and whether new messages only ever append."""

    base: list[int]
    close: list[int]
    end: int | None
    appends: bool


_TALKS: tuple[tuple[tuple[Message, ...], bool], ...] = (
    ((_USER, _answer("y")), False),
    ((_USER, _answer("z")), False),
    ((_USER, _THOUGHT), False),
    ((_USER, _THOUGHT, _USER), True),
)
"""Conversations, and whether a generation prompt follows, that show what a template does with turns."""


class DifferenceRenderer(ABC):
    """A `Renderer` over anything that can render a whole conversation."""

    def __init__(self) -> None:
        self._turns: _Turns | None = None

    @abstractmethod
    async def render(self, messages: Sequence[Message], *, generation_prompt: bool) -> list[int]:
        """Ids of a whole conversation."""

    @abstractmethod
    def source(self) -> str:
        """Whose template this is, for messages."""

    def ends_answer(self, token: int) -> bool:
        """Whether an id that a template writes behind an answer may be the end of it."""
        return True

    async def start(self, messages: Sequence[Message]) -> list[int]:
        """See `Renderer.start`."""
        return await self.render(messages, generation_prompt=True)

    async def turn(self, sampled: Sequence[int], messages: Sequence[Message]) -> list[int]:
        """See `Renderer.turn`. Raises CapabilityMissing where the template rewrites earlier turns."""
        turns = await self._examined()
        if not turns.appends or turns.end is None:
            self._refuse()
        whole = await self.render([_USER, _answer("y"), *messages], generation_prompt=True)
        if whole[: len(turns.base)] != turns.base:
            self._refuse()
        # The end of turn stands once: sampled by the model or, where its answer was cut, appended here.
        ended = bool(sampled) and sampled[-1] == turns.close[turns.end]
        return (turns.close[turns.end + 1 :] if ended else turns.close) + whole[len(turns.base) :]

    async def appends(self) -> bool:
        """See `Renderer.appends`."""
        turns = await self._examined()
        return turns.appends and turns.end is not None

    async def end_of_turn(self) -> int:
        """See `Renderer.end_of_turn`. Raises CapabilityMissing as `turn` does."""
        turns = await self._examined()
        if not turns.appends or turns.end is None:
            self._refuse()
        return turns.close[turns.end]

    async def end_ids(self) -> list[int]:
        """See `Renderer.end_ids`."""
        turns = await self._examined()
        return [] if turns.end is None else [turns.close[turns.end]]

    async def _examined(self) -> _Turns:
        """What the template does with turns, found out once."""
        if self._turns is None:
            self._turns = self._examine([await self.render(talk, generation_prompt=more) for talk, more in _TALKS])
        return self._turns

    def _examine(self, rendered: Sequence[list[int]]) -> _Turns:
        base, other, thought, after = rendered
        shared = 0
        while shared < min(len(base), len(other)) and base[-1 - shared] == other[-1 - shared]:
            shared += 1
        # A template that drops thinking gives a conversation with it (nearly) the length of one without.
        appends = after[: len(thought)] == thought and len(thought) >= len(base) + 3
        close = base[len(base) - shared :] if shared < len(base) else []
        end = next((place for place, token in enumerate(close) if self.ends_answer(token)), None)
        return _Turns(base, close, end, appends)

    def _refuse(self) -> NoReturn:
        raise CapabilityMissing(
            f"The chat template of {self.source()} changes earlier turns (by removing their reasoning, say) or marks no "
            "end of an answer, so a conversation cannot be continued token by token: use interface='chat', or serve "
            "the model with a template that only appends."
        )


class CheckpointRenderer(DifferenceRenderer):
    """Renders with a checkpoint directory's own files, as `transformers` writes them: tokenizer.json, and the template
    in chat_template.jinja or tokenizer_config.json. Needs neither torch nor transformers.

    What other people's checkpoints lack is supplied, and named in `mended`: a chat template (see `plain_template`), special
    tokens that a conversion lost, and a system role (its messages then open the first message of the user).

    `chat_template` (Jinja source) takes the place of the checkpoint's own, `tokenizer` that of tokenizer.json. Raises
    ConfigurationError, naming the file, where one is missing or unreadable.
    """

    def __init__(
        self, directory: str | Path, *, chat_template: str | None = None, tokenizer: tokenizers.Tokenizer | None = None
    ) -> None:
        super().__init__()
        self.directory = Path(directory)
        self.tokenizer = tokenizer or _read_tokenizer(self.directory / "tokenizer.json")
        self.config = read_json(self.directory / TOKENIZER_CONFIG)
        self.mended: list[str] = []
        """What was supplied, each as the end of a sentence about the model."""
        self.named_ends = self._named_ends()
        """The tokens that the checkpoint's files name as ends of an answer."""
        self.has_template = True
        source = chat_template or own_template(self.directory)
        if source is None:
            self.has_template = False
            source = plain_template(self.tokenizer.get_vocab(), begins=self._begins())
            self.mended.append("has no chat template, so a plain one is used")
        self.template = source
        self.lost = restore_special(self.tokenizer, source, self.named_ends)
        """The special tokens that had to be restored."""
        if self.lost:
            self.mended.append(f"had lost the special tokens {', '.join(self.lost)}, which are restored")
        self._special = {
            name: token for name in ("bos_token", "eos_token", "unk_token", "pad_token")
            if (token := _token_text(self.config.get(name))) is not None
        }  # fmt: skip
        if "eos_token" not in self._special and self.named_ends:
            self._special["eos_token"] = self.tokenizer.id_to_token(self.named_ends[0]) or ""
        self._added = self.tokenizer.get_added_tokens_decoder()
        self._compiled = _compile(source, self.directory)
        self._folds = False

    def source(self) -> str:
        """The directory."""
        return str(self.directory)

    def ends_answer(self, token: int) -> bool:
        """Whether an id is one of the named ends, or special."""
        return token in self.named_ends or (token in self._added and self._added[token].special)

    @property
    def rewrites(self) -> bool:
        """Whether the template changes earlier turns or marks no end of an answer, so that `turn` cannot be used.

        Raises CapabilityMissing if the template cannot render a conversation.
        """
        turns = self._examined_here()
        return not turns.appends or turns.end is None

    @property
    def all_ends(self) -> list[int]:
        """The tokens that end an answer: the named ones, and the one that the template writes behind an answer.

        Raises CapabilityMissing if the template cannot render a conversation.
        """
        turns = self._examined_here()
        written = [] if turns.end is None else [turns.close[turns.end]]
        return list(dict.fromkeys([*self.named_ends, *written]))

    async def end_ids(self) -> list[int]:
        """See `Renderer.end_ids`."""
        return self.all_ends

    def text(self, messages: Sequence[Message], *, generation_prompt: bool) -> str:
        """A conversation as text, under the chat template."""
        system = messages[0].content.strip() if messages and messages[0].role == "system" else ""
        if system and not self._folds:
            try:
                text = self._render(messages, generation_prompt)
            except CapabilityMissing:
                self._render(_folded(messages), generation_prompt)  # only if it is the role that is refused
            else:
                if system in text:
                    return text
            self._folds = True
        return self._render(_folded(messages) if system else messages, generation_prompt)

    @property
    def folds(self) -> bool:
        """Whether the template has no system role. Raises CapabilityMissing if it cannot render a conversation at all."""
        self.text([Message("system", "A system message."), _USER], generation_prompt=True)
        return self._folds

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

    def _render(self, messages: Sequence[Message], generation_prompt: bool) -> str:
        from jinja2 import TemplateError

        try:
            return self._compiled.render(
                messages=[_plain(message) for message in messages],
                add_generation_prompt=generation_prompt,
                **self._special,
            )
        except (TemplateError, TypeError, ValueError, LookupError) as error:  # what a template does is its author's
            raise CapabilityMissing(f"The chat template of {self.directory} refuses the messages: {error}") from None

    def _examined_here(self) -> _Turns:
        if self._turns is None:
            self._turns = self._examine([self.encode(talk, generation_prompt=more) for talk, more in _TALKS])
        return self._turns

    def _named_ends(self) -> list[int]:
        ends = end_ids(self.directory)
        text = _token_text(self.config.get("eos_token"))
        own = None if text is None else self.tokenizer.token_to_id(text)
        size = self.tokenizer.get_vocab_size()
        return [end for end in dict.fromkeys([*ends, *([] if own is None else [own])]) if end < size]

    def _begins(self) -> bool:
        """Whether the tokenizer puts its first token before every text."""
        text = _token_text(self.config.get("bos_token"))
        begun = self.tokenizer.encode("x", add_special_tokens=True).ids
        return text is not None and begun[:1] == [self.tokenizer.token_to_id(text)]


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


def _plain(message: Message) -> dict[str, Any]:
    plain: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_call_id is not None:
        plain["tool_call_id"] = message.tool_call_id
    return plain


def _folded(messages: Sequence[Message]) -> list[Message]:
    """The messages with the system's text before the first one of the user."""
    system, *rest = messages
    if not rest or rest[0].role != "user":
        return [Message("user", system.content), *rest]
    return [Message("user", f"{system.content}\n\n{rest[0].content}"), *rest[1:]]


def _read_tokenizer(path: Path) -> tokenizers.Tokenizer:
    import tokenizers

    try:
        return tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        raise ConfigurationError(f"{path} cannot be read: {error}") from None


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
