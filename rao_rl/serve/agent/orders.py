"""From a request to what the agent is to do: pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from pydantic_core import to_json

from recursive_agent.errors import ConfigurationError
from recursive_agent.limits import Limits
from recursive_agent.returns import Returns

from ..http.errors import ApiError
from ..http.protocol import ChatMessage, JsonFormat, JsonSchemaFormat, TextFormat
from .requests import AgentChatRequest, AgentResponsesRequest, InputMessage, SchemaFormat

_INSTRUCT = ("system", "developer")
_SCHEMA_BYTES = 32_768
"""A schema is part of the prompt, and takes time to check."""
_CONVERSATION = "conversation"
_DATA = "data"
_TOLD = (
    "This goes on a conversation: context['conversation'] holds its earlier messages, the oldest first, as dicts with "
    "'role' and 'content'."
)
_DATA_NOTE = " The data given with the goal is context['data']."


class Names(NamedTuple):
    """What a request calls the parts of an order, for error messages."""

    goal: str
    instructions: str
    returns: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What one request wants. `turns` are the conversation before the goal, as plain data."""

    goal: str
    names: Names
    instructions: str | None = None
    turns: Sequence[Mapping[str, Any]] = ()
    context: Any = None
    returns: Mapping[str, Any] | None = None
    limits: Mapping[str, Any]
    sampling: Mapping[str, Any]
    seed: int | None = None

    @property
    def full_goal(self) -> str:
        """The goal, with where the earlier turns are found."""
        if not self.turns:
            return self.goal
        return f"{self.goal}\n\n{_TOLD}{_DATA_NOTE if self._wrapped else ''}"

    @property
    def full_context(self) -> Any:
        """The data of the request, and the earlier turns."""
        if not self.turns:
            return self.context
        data = {_DATA: self.context} if self._wrapped else self.context or {}
        return {**data, _CONVERSATION: list(self.turns)}

    @property
    def _wrapped(self) -> bool:
        return self.context is not None and not isinstance(self.context, dict)


def chat_order(request: AgentChatRequest) -> Order:
    """The order of a request of /v1/chat/completions. Raises ApiError 400."""
    names = Names("messages", "messages", "response_format")
    return _order(request, names, [], request.messages, request.response_format, request.answer_tokens)


def responses_order(request: AgentResponsesRequest) -> Order:
    """The order of a request of /v1/responses. Raises ApiError 400."""
    names = Names("input", "instructions", "text.format")
    items = [InputMessage(role="user", content=request.input)] if isinstance(request.input, str) else request.input
    messages = [item for item in items if isinstance(item, InputMessage)]
    instructions = [request.instructions] if request.instructions else []
    shape = None if request.text is None else request.text.format
    return _order(request, names, instructions, messages, shape, request.max_output_tokens)


def capped(limits: Limits, requested: Mapping[str, Any], ceilings: Limits) -> Limits:
    """`limits` with what a request wants instead, none of them beyond its ceiling."""
    asked = {**limits.as_dict(), **requested}
    return Limits(**{field.name: _least(asked[field.name], getattr(ceilings, field.name)) for field in fields(Limits)})


def _least(first: Any, second: Any) -> Any:
    return min((value for value in (first, second) if value is not None), default=None)


def _order(
    request: AgentChatRequest | AgentResponsesRequest,
    names: Names,
    instructions: Sequence[str],
    messages: Sequence[ChatMessage | InputMessage],
    shape: TextFormat | JsonFormat | JsonSchemaFormat | SchemaFormat | None,
    answer_tokens: int | None,
) -> Order:
    instructions = [*instructions, *(message.text for message in messages if message.role in _INSTRUCT)]
    said = [message for message in messages if message.role not in _INSTRUCT]
    goal = said[-1].text if said and said[-1].role == "user" else ""
    if not goal.strip():
        raise ApiError(400, "The last message must be the user's, and not empty: it is the goal.", param=names.goal)
    turns = [_turn(message) for message in said[:-1]]
    if turns and isinstance(request.context, dict) and _CONVERSATION in request.context:
        raise ApiError(
            400,
            "Earlier messages reach the agent as context['conversation'], so `context` cannot have this key too.",
            param="context",
        )
    sampling = {"temperature": request.temperature, "top_p": request.top_p, "max_tokens": answer_tokens}
    return Order(
        goal=goal,
        names=names,
        instructions="\n\n".join(text.strip() for text in instructions if text.strip()) or None,
        turns=turns,
        context=request.context,
        returns=_returns(shape, names),
        limits={} if request.limits is None else request.limits.chosen,
        sampling={name: value for name, value in sampling.items() if value is not None},
        seed=request.seed,
    )


def _turn(message: ChatMessage | InputMessage) -> dict[str, Any]:
    turn = {"role": message.role, "content": message.text}
    if isinstance(message, ChatMessage):
        turn |= message.model_dump(include={"name", "tool_calls", "tool_call_id"}, exclude_none=True)
    return turn


def _returns(
    shape: TextFormat | JsonFormat | JsonSchemaFormat | SchemaFormat | None, names: Names
) -> Mapping[str, Any] | None:
    """The JSON schema that the result must fit."""
    if shape is None or isinstance(shape, TextFormat):
        return None
    if isinstance(shape, JsonFormat):
        return {"type": "object"}
    return check_schema((shape.json_schema if isinstance(shape, JsonSchemaFormat) else shape).schema_ or {}, names)


def check_schema(schema: Mapping[str, Any], names: Names) -> Mapping[str, Any]:
    """The schema that a result must fit. Raises ApiError 400 where it is none."""
    if len(to_json(schema)) > _SCHEMA_BYTES:
        raise ApiError(400, f"The schema has more than {_SCHEMA_BYTES:,} bytes.", param=names.returns)
    try:
        Returns(schema)
    except ConfigurationError as error:
        raise ApiError(400, str(error), param=names.returns) from None
    return schema
