"""Requests to the agent: OpenAI's, with a few fields of our own, read strictly.

What the agent could not honour (a stop string, tools of the client, several answers) is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, field_validator
from pydantic_core import PydanticCustomError

from ..http.protocol import (
    ChatSettings,
    Content,
    JsonFormat,
    JsonSchema,
    Only,
    Seed,
    Settings,
    Strict,
    TextFormat,
    Tokens,
    Unsupported,
    join_text,
    text_or_list,
)

_Whole = Annotated[int, Field(ge=1, le=2**53)]
_Level = Annotated[int, Field(ge=0, le=2**53)]
_Amount = Annotated[float, Field(gt=0)]


class RequestLimits(Strict):
    """Limits of one run, named as those of `recursive_agent.Limits`; the server's ceilings hold beside them."""

    max_depth: _Level | None = None
    max_agents: _Whole | None = None
    max_children: _Level | None = None
    max_steps: _Whole | None = None
    max_tokens: _Whole | None = None
    max_cost: _Amount | None = None
    timeout: _Amount | None = None
    cell_timeout: _Amount | None = None
    cell_memory_mb: _Whole | None = None
    max_concurrency: _Whole | None = None
    max_malformed: _Whole | None = None

    @property
    def chosen(self) -> Mapping[str, Any]:
        """Those that the request names."""
        return self.model_dump(exclude_none=True)


class AgentFields(Strict):
    """What a request to the agent may say beyond OpenAI's protocol."""

    context: Annotated[Any, Field(description="Data for the agent's interpreter; never part of a prompt.")] = None
    limits: RequestLimits | None = None


class AgentChatRequest(ChatSettings, AgentFields):
    """A request of /v1/chat/completions to the agent.

    The last message is the goal, system messages are instructions, and earlier turns reach the agent as data.
    `max_tokens` caps each answer of the model, not the whole tree: that is what `limits` are for.
    """

    n: Annotated[Any, Only(None, 1)] = None
    stop: Annotated[Any, Only(None, [])] = None
    logprobs: Annotated[Any, Only(None, False)] = None
    top_logprobs: Annotated[Any, Only(None, 0)] = None
    tools: Annotated[Any, Only(None, [])] = None
    tool_choice: Annotated[Any, Only(None, "none", "auto")] = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: Unsupported = None


class InputMessage(Strict):
    """A message of /v1/responses; answers of a server may be sent back as they came."""

    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: Content
    cache_control: Annotated[Any, Field(description="Without an effect here.")] = None
    id: str | None = None
    status: Literal["in_progress", "completed", "incomplete"] | None = None
    phase: str | None = None

    @property
    def text(self) -> str:
        """The content, its parts joined."""
        return join_text(self.content)


class InputReasoning(Strict):
    """A reasoning item of an earlier answer; it is not read."""

    type: Literal["reasoning"]
    id: str | None = None
    status: Literal["in_progress", "completed", "incomplete"] | None = None
    summary: list[Any] | None = None
    content: list[Any] | None = None
    encrypted_content: str | None = None


_ITEMS = {"message": InputMessage, "reasoning": InputReasoning}


def _kind_of(item: Any) -> str:
    """The type of an item; a message may leave it out."""
    return str(item.get("type", "message") if isinstance(item, dict) else getattr(item, "type", "message"))


def _check_items(items: Any) -> Any:
    """Say in one sentence which item is not read, instead of one for each way to read it."""
    if isinstance(items, str):
        return items
    if not isinstance(items, list) or not items:
        raise PydanticCustomError("input", "input must be a text, or a list of messages that is not empty")
    for number, item in enumerate(items):
        problem = None
        if not isinstance(item, dict | InputMessage | InputReasoning):
            problem = 'must be a message, such as {"role": "user", "content": "…"}'
        elif (kind := _kind_of(item)) not in _ITEMS:
            calls = "call" in kind
            why = (
                "the agent runs its tools itself and takes no calls of the client's"
                if calls
                else "it is not known here"
            )
            problem = (
                f"is of the type {kind[:40]!r}, which is not read: {why} (types that are read: message, reasoning)"
            )
        if problem is not None:
            raise PydanticCustomError("input", "item {number} {problem}", {"number": number, "problem": problem})
    return items


Item = Annotated[
    Annotated[InputMessage, Tag("message")] | Annotated[InputReasoning, Tag("reasoning")], Discriminator(_kind_of)
]
Input = Annotated[
    Annotated[str, Tag("text")] | Annotated[list[Item], Field(min_length=1), Tag("list")],
    Discriminator(text_or_list),
    BeforeValidator(_check_items),
]


class SchemaFormat(JsonSchema):
    """JSON after a schema, as /v1/responses writes it."""

    type: Literal["json_schema"]


class TextSettings(Strict):
    """What the answer looks like."""

    format: Annotated[TextFormat | JsonFormat | SchemaFormat, Field(discriminator="type")] | None = None
    verbosity: Annotated[Any, Only(None, "medium")] = None


class ReasoningSettings(Strict):
    """How much of the progress streams carry, as a summary."""

    summary: Literal["auto", "concise", "detailed"] | None = None
    generate_summary: Literal["auto", "concise", "detailed"] | None = None
    effort: Unsupported = None


class AgentResponsesRequest(Settings, AgentFields):
    """A request of /v1/responses to the agent. The server keeps no conversations: send the earlier turns as `input`."""

    input: Input
    instructions: str | None = None
    max_output_tokens: Tokens | None = None
    text: TextSettings | None = None
    reasoning: ReasoningSettings | None = None
    include: Annotated[Any, Only(None, [], ["reasoning.encrypted_content"])] = None
    truncation: Literal["auto", "disabled"] | None = None
    parallel_tool_calls: bool | None = None
    seed: Seed | None = None
    n: Unsupported = None
    stop: Unsupported = None
    previous_response_id: Unsupported = None
    conversation: Unsupported = None
    background: Annotated[Any, Only(None, False)] = None
    prompt: Unsupported = None
    tools: Annotated[Any, Only(None, [])] = None
    tool_choice: Annotated[Any, Only(None, "none", "auto")] = None
    max_tool_calls: Unsupported = None
    access_programs: Unsupported = None
    background_options: Unsupported = None
    context_management: Unsupported = None
    image: Unsupported = None
    top_logprobs: Annotated[Any, Only(None, 0)] = None

    @field_validator("previous_response_id", "conversation", mode="before")
    @classmethod
    def _keeps_nothing(cls, value: Any) -> Any:
        if value is not None:
            raise PydanticCustomError(
                "stateless", "the server keeps no conversations; send the earlier turns as `input`"
            )
        return value
