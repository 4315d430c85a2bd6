"""Requests and answers of the embedded engine: OpenAI's, with vLLM's token ids.

vLLM's own names are taken where a program written for it uses them; what this engine cannot do is refused.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Discriminator, Field, Tag

from ..http.protocol import ChatMessage, ChatSettings, Only, Settings, Strict, Tokens, Unsupported, UsageInfo, must_be

TokenId = Annotated[int, Field(ge=0, lt=2**31)]
PromptText = Annotated[str, Field(min_length=1)]
PromptIds = Annotated[list[TokenId], Field(min_length=1)]


def _kind_of_prompt(prompt: Any) -> str:
    """What a prompt is read as, so that only the faults of that are reported."""
    if isinstance(prompt, str):
        return "text"
    first = prompt[0] if isinstance(prompt, list) and prompt else None
    return "texts" if isinstance(first, str) else "lists of ids" if isinstance(first, list) else "ids"


Prompt = Annotated[
    Annotated[PromptText, Tag("text")]
    | Annotated[PromptIds, Tag("ids")]
    | Annotated[list[PromptText], Field(min_length=1), Tag("texts")]
    | Annotated[list[PromptIds], Field(min_length=1), Tag("lists of ids")],
    Discriminator(_kind_of_prompt),
    must_be("it must be a text or a list of token ids, or a list of such ones", str, list),
]


class _Extensions(Strict):
    """vLLM's settings beyond OpenAI's."""

    stop_token_ids: Annotated[list[TokenId], Field(max_length=64)] | None = None
    include_stop_str_in_output: bool = False
    skip_special_tokens: bool = True
    return_token_ids: bool | None = None
    top_k: Annotated[Any, Only(None, 0, -1)] = None
    min_p: Annotated[Any, Only(None, 0)] = None
    repetition_penalty: Annotated[Any, Only(None, 1)] = None
    min_tokens: Annotated[Any, Only(None, 0)] = None
    ignore_eos: Annotated[Any, Only(None, False)] = None
    spaces_between_special_tokens: Annotated[Any, Only(None, True)] = None
    prompt_logprobs: Unsupported = None
    structured_outputs: Unsupported = None


class ChatRequest(ChatSettings, _Extensions):
    """A request of /v1/chat/completions."""

    logprobs: bool | None = None
    top_logprobs: Annotated[Any, Only(None, 0)] = None
    response_format: Annotated[Any, Only(None, {"type": "text"})] = None
    tools: Annotated[Any, Only(None, [])] = None
    tool_choice: Annotated[Any, Only(None, "none", "auto")] = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: Annotated[Any, Only(None, "none")] = None
    add_generation_prompt: bool = True
    continue_final_message: Annotated[Any, Only(None, False)] = None
    chat_template: Unsupported = None
    chat_template_kwargs: Annotated[Any, Only(None, {})] = None


class CompletionRequest(Settings, _Extensions):
    """A request of /v1/completions; `prompt` is text or token ids, one or several."""

    prompt: Prompt
    max_tokens: Tokens | None = 16
    logprobs: Annotated[int | None, Field(ge=0, le=1)] = None
    add_special_tokens: bool = True
    echo: Annotated[Any, Only(None, False)] = None
    best_of: Annotated[Any, Only(None, 1)] = None
    suffix: Annotated[Any, Only(None, "")] = None


class TokenizeText(Strict):
    """A request of /tokenize for a text."""

    model: str | None = None
    prompt: PromptText
    add_special_tokens: bool = True
    return_token_strs: bool = False


class TokenizeChat(Strict):
    """A request of /tokenize for a conversation; its template adds what special tokens it wants."""

    model: str | None = None
    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    add_generation_prompt: bool = True
    add_special_tokens: Annotated[Any, Only(None, False)] = None
    return_token_strs: bool = False


def _kind_of_tokenize(body: Any) -> str:
    return "chat" if isinstance(body, dict) and "messages" in body else "text"


TokenizeRequest = Annotated[
    Annotated[TokenizeText, Tag("text")] | Annotated[TokenizeChat, Tag("chat")], Discriminator(_kind_of_tokenize)
]


class TokenizeAnswer(BaseModel):
    """Token ids of a prompt."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None = None


class TokenLogProb(BaseModel):
    """One sampled token of a chat answer."""

    token: str
    logprob: float
    bytes: list[int] | None
    top_logprobs: list[Any] = []


class ChatLogProbs(BaseModel):
    """The sampled tokens of a chat answer, or of a piece of one."""

    content: list[TokenLogProb]


class CompletionLogProbs(BaseModel):
    """The sampled tokens of a completion, or of a piece of one.

    Only of those the log-probs are known, so `top_logprobs` is null where others were asked for as well.
    """

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]] | None
    text_offset: list[int]


class _Envelope(BaseModel):
    id: str
    created: int
    model: str
    system_fingerprint: str | None = None


class AnswerMessage(BaseModel):
    """A chat answer."""

    role: Literal["assistant"] = "assistant"
    content: str


class _Ended(BaseModel):
    """How an answer ended: `stop_reason` is the stop string or token that ended it, null for the end of the turn."""

    index: int
    finish_reason: Literal["stop", "length"] | None = None
    stop_reason: int | str | None = None
    token_ids: list[int] | None = None


class ChatChoice(_Ended):
    """One of the `n` answers."""

    message: AnswerMessage
    logprobs: ChatLogProbs | None = None


class ChatCompletion(_Envelope):
    """Answer of /v1/chat/completions."""

    object: Literal["chat.completion"] = "chat.completion"
    choices: list[ChatChoice]
    usage: UsageInfo
    prompt_token_ids: list[int] | None = None


class Delta(BaseModel):
    """More of a chat answer."""

    role: Literal["assistant"] | None = None
    content: str | None = None


class ChatChunkChoice(_Ended):
    """More of one of the `n` answers."""

    delta: Delta
    logprobs: ChatLogProbs | None = None


class ChatChunk(_Envelope):
    """An event of a streamed chat answer."""

    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    choices: list[ChatChunkChoice]
    usage: UsageInfo | None = None
    prompt_token_ids: list[int] | None = None


class CompletionChoice(_Ended):
    """One of the answers: `n` for each prompt, in order. In a stream, more of one."""

    text: str
    logprobs: CompletionLogProbs | None = None
    prompt_token_ids: list[int] | None = None


class Completion(_Envelope):
    """Answer of /v1/completions."""

    object: Literal["text_completion"] = "text_completion"
    choices: list[CompletionChoice]
    usage: UsageInfo


class CompletionChunk(_Envelope):
    """An event of a streamed completion."""

    object: Literal["text_completion"] = "text_completion"
    choices: list[CompletionChoice]
    usage: UsageInfo | None = None
