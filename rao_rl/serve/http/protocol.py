"""The OpenAI protocol as our servers speak it: what requests and answers have in common.

Requests are read strictly: a wrong type, an unknown field, or a setting that could not be honoured is refused.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    Tag,
    model_validator,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

Seed = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]
Temperature = Annotated[float, Field(ge=0, description="0 takes the likeliest token each time.")]
TopP = Annotated[float, Field(gt=0, le=1)]
StopText = Annotated[str, Field(min_length=1, max_length=1000)]
Count = Annotated[int, Field(ge=1, le=128)]
Tokens = Annotated[int, Field(ge=1, le=2**31 - 1)]


class Strict(BaseModel):
    """Base of what is read: no conversions, no unknown fields, no infinities."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class Only:
    """Marks a field of type Any for a setting that this server lacks: it may only have the `values` that ask for nothing."""

    def __init__(self, *values: Any) -> None:
        self._values = values

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self._check)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"enum": list(self._values), "description": "Not supported beyond these values."}

    def _check(self, value: Any) -> Any:
        # True and 1 are equal in Python, and not in JSON.
        if not any(value == known and isinstance(value, bool) == isinstance(known, bool) for known in self._values):
            raise PydanticCustomError("unsupported", "this setting is not supported here; leave it out")
        return value


Unsupported = Annotated[Any, Only(None)]


def text_or_list(value: Any) -> str:
    """Which of the two a value is read as, so that only the faults of that one are reported."""
    return "text" if isinstance(value, str) else "list"


def must_be(sentence: str, *kinds: type) -> BeforeValidator:
    """Refuses what is of none of these `kinds` with the `sentence`, instead of one for each way to read a value."""

    def check(value: Any) -> Any:
        if not isinstance(value, kinds):
            raise PydanticCustomError("kind", "{sentence}", {"sentence": sentence})
        return value

    return BeforeValidator(check)


Stop = Annotated[
    Annotated[StopText, Tag("text")] | Annotated[list[StopText], Field(max_length=16), Tag("list")],
    Discriminator(text_or_list),
    must_be("it must be a text or a list of texts", str, list),
]


class TextPart(Strict):
    """A piece of text; images, audio and files are not read. Marks of other providers (cache_control) have no effect."""

    model_config = ConfigDict(extra="ignore")

    type: Literal["text", "input_text", "output_text"]
    text: str
    annotations: list[Any] | None = None
    logprobs: list[Any] | None = None


_TEXTS = ("text", "input_text", "output_text")
_NOT_READ = {
    "image_url": "an image",
    "input_image": "an image",
    "image": "an image",
    "image_file": "an image",
    "input_audio": "audio",
    "audio": "audio",
    "audio_url": "audio",
    "video": "a video",
    "video_url": "a video",
    "file": "a file",
    "input_file": "a file",
    "document": "a document",
}


def _check_content(content: Any) -> Any:
    """Say what is wrong with a content in one sentence, instead of one for each way to read it."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise PydanticCustomError("content", "content must be a text, or a list of parts that are texts")
    for number, part in enumerate(content):
        problem = _fault_of(part)
        if problem:
            raise PydanticCustomError("content", "part {number} {problem}", {"number": number, "problem": problem})
    return content


def _fault_of(part: Any) -> str | None:
    if isinstance(part, TextPart):
        return None
    form = 'an object such as {"type": "text", "text": "…"}'
    if not isinstance(part, dict):
        return f"of the content must be {form}"
    kind = part.get("type")
    if kind in _TEXTS:
        return None if isinstance(part.get("text"), str) else "of the content needs a field `text` that is a string"
    if not isinstance(kind, str):
        return f"of the content has no type; it must be {form}"
    shown = _NOT_READ.get(kind, f"a part of the type {kind[:40]!r}")
    return (
        f"of the content is {shown}{f' ({kind})' if kind in _NOT_READ else ''}, and this server reads texts only; leave it out "
        "or say it in words (types that are read: text, input_text, output_text)"
    )


Content = Annotated[
    Annotated[str, Tag("text")] | Annotated[list[TextPart], Tag("list")],
    Discriminator(text_or_list),
    BeforeValidator(_check_content),
]


class FunctionText(Strict):
    """The function of a tool call, `arguments` as JSON text."""

    name: str
    arguments: str


class ToolCallMessage(Strict):
    """A tool call in an earlier turn."""

    id: str
    type: Literal["function"] = "function"
    function: FunctionText


class ChatMessage(Strict):
    """One message of a conversation; answers of a server may be sent back as they came."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Content | None = None
    name: str | None = None
    tool_calls: list[ToolCallMessage] | None = None
    tool_call_id: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    refusal: str | None = None
    annotations: list[Any] | None = None
    cache_control: Annotated[Any, Field(description="Without an effect here.")] = None
    audio: Unsupported = None
    function_call: Unsupported = None

    @property
    def text(self) -> str:
        """The content, its parts joined."""
        return join_text(self.content)


class StreamOptions(Strict):
    """What a stream carries beside the answer."""

    include_usage: bool = False
    include_obfuscation: Annotated[Any, Only(None, False)] = None
    continuous_usage_stats: Annotated[Any, Only(None, False)] = None


class TextFormat(Strict):
    """Plain text."""

    type: Literal["text"]


class JsonFormat(Strict):
    """Any JSON object."""

    type: Literal["json_object"]


class JsonSchema(Strict):
    """A JSON Schema, named."""

    name: str
    description: str | None = None
    schema_: Annotated[dict[str, Any] | None, Field(alias="schema")] = None
    strict: bool | None = None


class JsonSchemaFormat(Strict):
    """JSON after a schema."""

    type: Literal["json_schema"]
    json_schema: JsonSchema


ResponseFormat = Annotated[TextFormat | JsonFormat | JsonSchemaFormat, Field(discriminator="type")]


class Settings(Strict):
    """What chat and plain completions have in common."""

    model: str | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    seed: Seed | None = None
    stop: Stop | None = None
    n: Count | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    # Without an effect on the answer.
    user: str | None = None
    metadata: dict[str, str] | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    prompt_cache_options: dict[str, Any] | None = None
    store: Annotated[Any, Only(None, False)] = None
    service_tier: Annotated[Any, Only(None, "auto", "default")] = None
    # Not supported.
    frequency_penalty: Annotated[Any, Only(None, 0)] = None
    presence_penalty: Annotated[Any, Only(None, 0)] = None
    logit_bias: Annotated[Any, Only(None, {})] = None
    moderation: Unsupported = None

    @model_validator(mode="after")
    def _options_of_a_stream(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise PydanticCustomError("stream_options", "stream_options need stream=true")
        return self

    @property
    def wants_usage(self) -> bool:
        """Whether a stream is to end with the usage."""
        return self.stream_options is not None and self.stream_options.include_usage

    @property
    def stops(self) -> tuple[str, ...] | None:
        """The stop strings; None where the request says nothing of them."""
        return (self.stop,) if isinstance(self.stop, str) else None if self.stop is None else tuple(self.stop)


class ChatSettings(Settings):
    """What a request of /v1/chat/completions may say."""

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_tokens: Tokens | None = None
    max_completion_tokens: Tokens | None = None
    response_format: ResponseFormat | None = None
    modalities: Annotated[Any, Only(None, ["text"])] = None
    functions: Annotated[Any, Only(None, [])] = None
    function_call: Annotated[Any, Only(None, "none", "auto")] = None
    verbosity: Annotated[Any, Only(None, "medium")] = None
    audio: Unsupported = None
    prediction: Unsupported = None
    web_search_options: Unsupported = None

    @property
    def answer_tokens(self) -> int | None:
        """The most tokens of an answer, under either name."""
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens


class CachedTokens(BaseModel):
    """Of the prompt's tokens, those that had not to be read again."""

    cached_tokens: int


class UsageInfo(BaseModel):
    """Tokens of a request."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: CachedTokens | None = None

    @classmethod
    def of(cls, prompt: int, completion: int) -> UsageInfo:
        """From the two counts."""
        return cls(prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion)


class ModelCard(BaseModel):
    """A model that can be asked."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "rao"
    root: str | None = None
    parent: str | None = None
    max_model_len: int | None = None


class ModelList(BaseModel):
    """The models that can be asked."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


def join_text(content: str | Sequence[TextPart] | None) -> str:
    """Text of a content, parts joined."""
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(part.text for part in content)


def new_id(prefix: str) -> str:
    """An id for an answer."""
    return f"{prefix}-{uuid.uuid4().hex}"


def now() -> int:
    """Seconds since the epoch."""
    return int(time.time())


def event_stream(
    model: type[BaseModel], chunk: type[BaseModel], *, done: bool = True
) -> dict[int | str, dict[str, Any]]:
    """For `responses=` of a route that answers whole (`model`) or as a stream of `chunk`s, which ends with [DONE]."""
    ending = " that end with [DONE]" if done else ""
    described = f"The answer; with `stream`, server-sent events of {chunk.__name__}{ending}."
    return {200: {"model": model, "description": described, "content": {"text/event-stream": {"schema": {}}}}}


def names_of(models: Iterable[str]) -> str:
    """A list of models, for messages."""
    return ", ".join(sorted(models)) or "none"
