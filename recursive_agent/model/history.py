"""A conversation as token ids: only ever appended to, so that what is trained on is what was sampled.

Under a chat template that rewrites earlier turns that cannot be: there each prompt is the whole conversation, rendered again.
What was sampled after each prompt is known as exactly, and every such turn is a row of its own in training.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import ConfigurationError
from .base import Completion, Message
from .template import Renderer


class TokenHistory:
    """Messages, and the ids they stand for: each prompt is the previous one, what was sampled after it, and more.

    (Not under a template that rewrites earlier turns; see above.)
    """

    exact = True

    def __init__(self, renderer: Renderer) -> None:
        self.messages: list[Message] = []
        self._renderer = renderer
        self._ids: list[int] = []
        """The last prompt and what was sampled after it."""
        self._sampled: list[int] = []
        self._seen = 0
        """Messages that `_ids` stands for."""
        self._next: tuple[int, list[int]] | None = None
        """The next prompt, and the number of messages it stands for."""

    def add(self, *messages: Message) -> None:
        """Append messages."""
        self.messages.extend(messages)

    async def prompt_tokens(self) -> int:
        """Tokens of the next prompt, exactly."""
        return len(await self.prompt())

    async def prompt(self) -> list[int]:
        """The ids of the next prompt."""
        count = len(self.messages)
        if self._next is None or self._next[0] != count:
            added = self.messages[self._seen : count]
            if not self._seen:
                ids = await self._renderer.start(added)
            elif await self._renderer.appends():
                ids = self._ids + await self._renderer.turn(self._sampled, added)
            else:
                ids = await self._renderer.start(self.messages[:count])
            self._next = count, ids
        return self._next[1]

    def restore(self, messages: Sequence[Message], completion: Completion) -> None:
        """See `Restorable`. Raises ConfigurationError where the record holds no token ids."""
        if completion.prompt_token_ids is None or completion.token_ids is None:
            raise ConfigurationError(
                "this run was recorded without token ids: go on with interface='chat', as it was recorded"
            )
        self.messages.extend(messages)
        self.answered(completion.prompt_token_ids, len(self.messages), completion.text, completion.token_ids)

    def retract(self, count: int) -> None:
        """See `Retractable`."""
        del self.messages[count:]
        self._next = None

    def answered(self, prompt: Sequence[int], place: int, text: str, token_ids: Sequence[int]) -> None:
        """Take in what was sampled after `prompt`, as the message at `place` (others may have been added meanwhile)."""
        self.messages.insert(place, Message("assistant", text))
        self._sampled = list(token_ids)
        self._ids = [*prompt, *token_ids]
        self._seen, self._next = place + 1, None
