"""A run as an answer of /v1/responses, whole or streamed."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Literal

from pydantic import BaseModel

from ..http.errors import ApiError
from ..http.protocol import new_id
from ..http.streams import sse
from .chat import RunInfo, pieces
from .progress import progress
from .requests import AgentResponsesRequest
from .runs import Ended, Run

_Status = Literal["in_progress", "completed", "incomplete", "failed"]


class OutputText(BaseModel):
    """The text of an answer."""

    type: Literal["output_text"] = "output_text"
    text: str
    annotations: list[Any] = []
    logprobs: list[Any] = []


class OutputMessage(BaseModel):
    """The answer. `incomplete`: a limit of the run was reached, and the text is what there was by then."""

    type: Literal["message"] = "message"
    id: str
    role: Literal["assistant"] = "assistant"
    status: Literal["in_progress", "completed", "incomplete"]
    content: list[OutputText]


class SummaryText(BaseModel):
    """The progress of the tree, a line for each thing that happened."""

    type: Literal["summary_text"] = "summary_text"
    text: str


class OutputReasoning(BaseModel):
    """How the tree worked; in streams only."""

    type: Literal["reasoning"] = "reasoning"
    id: str
    status: Literal["in_progress", "completed", "incomplete"]
    summary: list[SummaryText]


class InputDetails(BaseModel):
    """Of the prompts' tokens, those that had not to be read again."""

    cached_tokens: int
    cache_write_tokens: int = 0


class OutputDetails(BaseModel):
    """Reasoning is not counted apart."""

    reasoning_tokens: int = 0


class ResponseUsage(BaseModel):
    """Tokens of the whole tree."""

    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class FailureDetail(BaseModel):
    """Why a streamed answer failed."""

    code: str
    message: str


class IncompleteDetails(BaseModel):
    """Why an answer is not complete: OpenAI's only word for a limit. `rao.status` names it."""

    reason: Literal["max_output_tokens"] = "max_output_tokens"


class AgentResponse(BaseModel):
    """Answer of /v1/responses. Nothing is stored."""

    id: str
    object: Literal["response"] = "response"
    created_at: float
    completed_at: float | None = None
    status: _Status
    model: str
    output: list[OutputReasoning | OutputMessage]
    error: FailureDetail | None = None
    incomplete_details: IncompleteDetails | None = None
    instructions: str | None
    max_output_tokens: int | None
    metadata: dict[str, str]
    parallel_tool_calls: bool
    previous_response_id: None = None
    reasoning: dict[str, Any]
    store: Literal[False] = False
    temperature: float | None
    text: dict[str, Any]
    tool_choice: Literal["auto", "none"]
    tools: list[Any] = []
    top_p: float | None
    truncation: Literal["auto", "disabled"]
    usage: ResponseUsage | None = None
    user: str | None
    rao: RunInfo | None = None


class ResponseEvent(BaseModel):
    """An event of a streamed answer: OpenAI's, by `type`."""

    type: str
    sequence_number: int


class ResponsesAnswer:
    """Makes the bodies of one answer."""

    def __init__(self, request: AgentResponsesRequest, model: str) -> None:
        self._sequence = 0
        shape = None if request.text is None else request.text.format
        self._response = AgentResponse(
            id=new_id("resp"),
            created_at=time.time(),
            status="in_progress",
            model=model,
            output=[],
            instructions=request.instructions,
            max_output_tokens=request.max_output_tokens,
            metadata=request.metadata or {},
            parallel_tool_calls=request.parallel_tool_calls is not False,
            reasoning={"effort": None, "summary": None if request.reasoning is None else request.reasoning.summary},
            temperature=request.temperature,
            text={"format": {"type": "text"} if shape is None else shape.model_dump(by_alias=True, exclude_none=True)},
            tool_choice=request.tool_choice or "auto",
            top_p=request.top_p,
            truncation=request.truncation or "disabled",
            user=request.user,
        )
        self._message = OutputMessage(id=new_id("msg"), status="in_progress", content=[])

    def whole(self, ended: Ended) -> AgentResponse:
        """The answer in one piece."""
        self._message.content = [OutputText(text=ended.text)]
        self._message.status = _status(ended)
        self._response.output.append(self._message)
        self._end(ended)
        return self._response

    async def events(self, run: Run) -> AsyncGenerator[bytes, None]:
        """The answer as events. A run that could not go on ends them with `response.failed`."""
        opened, reasoning = False, OutputReasoning(id=new_id("rs"), status="in_progress", summary=[])
        lines: list[str] = []
        try:
            async with aclosing(run.events()) as events:
                async for event in events:
                    if not opened:
                        opened = True
                        for start in self._opening(reasoning):
                            yield start
                    if (line := progress(event)) is not None:
                        lines.append(line + "\n")
                        yield self._of_reasoning("text.delta", reasoning, delta=lines[-1])
        except ApiError as error:
            if not opened:
                raise
            self._response.status = "failed"
            # OpenAI's clients know a fixed set of codes; this is the one for what is not the request's fault.
            self._response.error = FailureDetail(code="server_error", message=error.detail)
            yield self._whole("failed")
            return
        for end in self._reasoned(reasoning, "".join(lines)):
            yield end
        assert run.ended is not None
        for answer in self._answered(run.ended):
            yield answer
        self._end(run.ended)
        yield self._whole(self._response.status)

    def failed(self, body: dict[str, Any]) -> bytes:
        """The event that tells of a fault of ours."""
        error = body["error"]
        return self._event("error", message=error["message"], code=error["code"], param=error["param"])

    def _end(self, ended: Ended) -> None:
        response, usage = self._response, ended.usage
        response.status = _status(ended)
        response.completed_at = time.time() if ended.finished else None
        response.incomplete_details = None if ended.finished else IncompleteDetails()
        response.rao = RunInfo.of(ended)
        response.usage = ResponseUsage(
            input_tokens=usage.prompt_tokens,
            input_tokens_details=InputDetails(cached_tokens=usage.cached_tokens),
            output_tokens=usage.completion_tokens,
            output_tokens_details=OutputDetails(),
            total_tokens=usage.total_tokens,
        )

    def _opening(self, reasoning: OutputReasoning) -> list[bytes]:
        return [
            self._whole("created"),
            self._whole("in_progress"),
            self._event("response.output_item.added", output_index=0, item=reasoning),
            self._of_reasoning("part.added", reasoning, part=SummaryText(text="")),
        ]

    def _reasoned(self, reasoning: OutputReasoning, text: str) -> list[bytes]:
        reasoning.summary.append(SummaryText(text=text))
        reasoning.status = "completed"
        self._response.output.append(reasoning)
        return [
            self._of_reasoning("text.done", reasoning, text=text),
            self._of_reasoning("part.done", reasoning, part=reasoning.summary[0]),
            self._event("response.output_item.done", output_index=0, item=reasoning),
        ]

    def _answered(self, ended: Ended) -> list[bytes]:
        message, place = self._message, {"item_id": self._message.id, "output_index": 1, "content_index": 0}
        events = [
            self._event("response.output_item.added", output_index=1, item=message),
            self._event("response.content_part.added", **place, part=OutputText(text="")),
        ]
        for piece in pieces(ended.text):
            events.append(self._event("response.output_text.delta", **place, delta=piece, logprobs=[]))
        message.content = [OutputText(text=ended.text)]
        message.status = _status(ended)
        self._response.output.append(message)
        return [
            *events,
            self._event("response.output_text.done", **place, text=ended.text, logprobs=[]),
            self._event("response.content_part.done", **place, part=message.content[0]),
            self._event("response.output_item.done", output_index=1, item=message),
        ]

    def _of_reasoning(self, kind: str, reasoning: OutputReasoning, **data: Any) -> bytes:
        name = f"response.reasoning_summary_{kind}"
        return self._event(name, item_id=reasoning.id, output_index=0, summary_index=0, **data)

    def _whole(self, kind: str) -> bytes:
        return self._event(f"response.{kind}", response=self._response)

    def _event(self, kind: str, **data: Any) -> bytes:
        event = sse({"type": kind, "sequence_number": self._sequence, **data}, kind)
        self._sequence += 1
        return event


def _status(ended: Ended) -> Literal["completed", "incomplete"]:
    return "completed" if ended.finished else "incomplete"
