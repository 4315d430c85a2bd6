"""Every provider's ways in one table: what an error of an endpoint means, read off its status, code and wording.

The same words come as an HTTP error, inside an answer with status 200, inside a choice and in mid-stream, so all of them
are judged here. A provider is added by adding its wording to a table below, next to the name of whoever uses it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from .error_body import LONGEST_READ, ErrorBody


class Trouble(StrEnum):
    """What an error means for the caller."""

    OVERFLOW = "overflow"
    """The prompt, or prompt and answer together, do not fit the context window (or the most tokens of one request)."""
    ANSWER = "answer"
    """The answer asked for is longer than the endpoint gives; a shorter one may be had."""
    RATE = "rate"
    """Too many calls or tokens a minute, or an endpoint that says it is overloaded: waiting helps."""
    QUOTA = "quota"
    """The account has nothing left: waiting does not help."""
    KEY = "key"
    """The key was refused."""
    MODEL = "model"
    """The endpoint has no such model, or no such path."""
    FLAGGED = "flagged"
    """A filter of the provider refused this very prompt or answer."""
    REQUEST = "request"
    """This call was refused as such, and would be refused again."""
    SERVER = "server"
    """Something went wrong at the endpoint; another attempt may succeed."""


class Sizes(NamedTuple):
    """Tokens as a refusal names them; `prompt` may be 0 (not named) or a lower bound (`exact` is False)."""

    window: int
    prompt: int
    exact: bool


# ------------------------------------------------------------------------------------------------------- what errors mean


class _Pattern(NamedTuple):
    """A pattern that `re` compiles when it is first looked for: all of them take 8 ms, and most runs need none."""

    text: str

    def search(self, message: str) -> re.Match[str] | None:
        """The first place in a message."""
        return re.search(self.text, message, re.IGNORECASE | re.DOTALL)


def _any(*patterns: str) -> _Pattern:
    return _Pattern("|".join(patterns))


_OVERFLOW = _any(
    r"context_length_exceeded|exceed_context_size|context.?window.?exceeded|model_context_window_exceeded",  # codes
    r"context.?length|context.?window|context size|context limit|maximum context|context is full",  # most of them
    r"maximum model length|max_model_len|max_seq_len|maximum sequence length|max_input_len",  # vLLM, TensorRT-LLM
    r"(prompt|input|request|messages?|conversation|inputs?)( \w+)? (is|are|was|were) too (long|large|big)",
    r"(prompt|input|messages?) too (long|large)|too many (input |total |prompt )?tokens",  # Ollama, Bedrock, Cohere
    r"exceeds? the (available |maximum )?context|input length exceeds|range of input length",  # llama.cpp, Qwen
    r"(input|prompt)( tokens?| length| token count)?.{0,40}exceeds?.{0,60}(maximum|max|limit|allowed|length)",
    r"total length of all messages|prompt exceeds max(imum)? length|maximum prompt length",  # Perplexity, Zhipu, xAI
    r"exceeded model token limit|tokens? limit exceeded|longer than the model'?s",  # Moonshot, OpenRouter
    r"`?inputs`? tokens \+ `?max_new_tokens`? must be|`?inputs`? must have less than",  # TGI
    r"number of tokens in the prompt cannot exceed|cannot exceed \d[\d,_]* tokens",  # Cohere
    r"tokens to keep from the initial prompt is greater",  # LM Studio
    r"reduce the length of (the|your) (messages|prompt|input|completion|context)",
    r"reduce your (message|prompt|input) (size|length)",
    r"long context requests?|request too large for .{0,120}(tokens per min|TPM)|input or output tokens must be reduced",
    r"requested token count exceeds|(prompt|input) tokens? \(?\d[\d,]*\)?.{0,40}(exceed|> ?\d|larger|greater)",
    r"content length exceeds|request body.{0,20}too large|request entity too large|payload too large",
    r"输入(长度|内容).{0,10}(超过|过长)|上下文.{0,10}(超过|超出|过长)|超过.{0,12}(最大长度|上下文|长度限制)",  # Zhipu, Qwen
)
_ANSWER_TOO_LONG = _any(
    # Said without a number; where a number is named, `answer_cap` finds it.
    r"max_\w*tokens\W{0,3}( is| are|:)? ?(too (large|long|big|high)|exceeds)|exceeds.{0,40}(output|completion) tokens",
    r"(output|completion|answer|max_\w*tokens).{0,30}(too (large|long|big|high)|exceeds the (limit|maximum))",
)
_ANSWER_COUNTS = _any(
    # Wordings in which prompt and answer stand together, so that a shorter answer may fit.
    r"max_(completion_|new_|output_)?tokens|in the completion|in the output|for the completion|output tokens",
    r"length of either|tokens? for (the )?(completion|output|generation)|input or output|completion tokens|you requested",
    r"tokens per min|TPM|prompt and (the )?(answer|completion|output)",
)
_QUOTA = _any(
    r"insufficient_quota|billing_hard_limit|billing_not_active|exceeded_current_quota_error|account_deactivated",
    r"insufficient.{0,12}(balance|credit|fund|quota)|(credit|account).{0,12}balance.{0,12}(too low|insufficient|empty)",
    r"out of credits|(no|any) credits|not enough credits|credits? (have|has|are|is)( been)? (exhausted|depleted|used up)",
    r"arrears|overdue|payment required|no balance|余额不足|欠费|spending limit|recharge|add credits|purchase credits",
)
_RATE = _any(
    r"rate.?limit|too many requests|requests per|tokens per|resource.?exhausted|throttl|slow down|concurren",
    r"overload|over.?capacity|at capacity|capacity exceeded|no capacity|high (demand|load|traffic)|server is busy",
    r"try again (in|later|after)|currently (busy|loading|unavailable)|temporarily (rate|unavailable|overloaded)",
    r"quota exceeded|exceeded your current quota|速率|并发|请求过多|loading model|model is (currently )?loading",
)
_OVERLOADED = _any(
    r"overload|over.?capacity|at capacity|no capacity|capacity exceeded|high (demand|load|traffic)|\bbusy\b|throttl",
    r"too many requests|rate.?limit|loading model|model is (currently )?loading|try again (in|later|after)",
)
_FLAGGED = _any(
    r"content.?(filter|policy|management|moderation|safety|violation|exists.?risk)|responsible.?ai|content_policy",
    r"(was|been|is|were|got) flagged|moderation|violat\w+.{0,40}(polic|terms|guideline|usage|safety)|data_inspection_failed",
    r"safety (system|filter|setting|policy|reason|guideline|check)|prohibited.?content|blocked (by|due|because|for|reason)",
    r"guardrail|sensitive (content|information|words?)|inappropriate content|unsafe content|harmful|jailbreak|敏感|不安全",
)
_KEY = _any(
    r"api.?key|invalid.?(key|token|credential)|(access|auth|bearer|authentication|authorization) ?token|authenticat",
    r"unauthori[sz]ed|credential|invalid_api_key|bad key|permission_?denied|not authori[sz]ed to access|signature",
)
_ONE_CALL = _any(
    # Refusals that look like a dead key or an unknown model and are about this call.
    r"region|country|territory|location is not supported|data policy|privacy|no endpoints? found|no allowed providers",
    r"support (tool|function|image|system|streaming|this)|max_tokens|per.?model|for this model|for model|daily limit|"
    r"weekly limit|this request|token limit|tokens limit",
)
_UNKNOWN_MODEL = _any(
    r"model.{0,80}(not found|does not exist|not exist|unknown)",
    r"(unknown|invalid|no such|not a valid) model|model_not_found|deployment.{0,40}(not exist|not found)|deploymentnotfound",
    r"model identifier is invalid",
)
_STATUS_OF = {
    "authentication_error": 401,
    "permission_error": 403,
    "permission_denied": 403,
    "unauthenticated": 401,
    "not_found_error": 404,
    "not_found": 404,
    "invalid_request_error": 400,
    "invalid_argument": 400,
    "badrequesterror": 400,
    "validationexception": 400,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "ratelimiterror": 429,
    "throttlingexception": 429,
    "resource_exhausted": 429,
    "too_many_requests": 429,
    "overloaded_error": 529,
    "serviceunavailableexception": 503,
    "unavailable": 503,
    "api_error": 500,
    "server_error": 500,
    "internal": 500,
    "internalservererror": 500,
}
"""What a kind of error would have been as a status of HTTP, where none was sent."""
_RETRIED = frozenset({408, 409, 425, 499})
"""Beside all from 500 on; 499 is what gateways say where the connection to the model behind them was cut."""
_REFUSING = frozenset({400, 413, 422, 500})
_OVERFLOW_CODES = frozenset({"context_length_exceeded", "model_context_window_exceeded", "string_above_max_length"})


def trouble_of(status: int, error: ErrorBody, *, asked_to_wait: bool = False) -> Trouble:
    """What an error means. `status` is that of HTTP, or the one that a body with status 200 names (0: none)."""
    words = error.words
    if status == 0:
        status = error.status or _STATUS_OF.get(error.kind.lower(), 0) or _STATUS_OF.get(error.code.lower(), 0)
    elif status >= 500 and error.status == 429:  # a gateway's own status around an upstream's
        status = 429
    if status == 401:
        return Trouble.KEY
    if _is_overflow(status, error, words):
        return Trouble.OVERFLOW if not _is_answer_alone(words) else Trouble.ANSWER
    if status in (0, 400, 402, 422) and (_ANSWER_TOO_LONG.search(words) or answer_cap(words) is not None):
        return Trouble.ANSWER
    if status == 402:
        return Trouble.REQUEST if _ONE_CALL.search(words) else Trouble.QUOTA
    # A limit on calls a minute may speak of quota as well; one that names a wait is no empty account.
    if status in (0, 400, 403, 429) and _QUOTA.search(words) and not asked_to_wait:
        return Trouble.QUOTA
    if status == 429 or status == 529 or (status in (0, 500, 502, 503, 504) and _OVERLOADED.search(words)):
        return Trouble.RATE
    if status == 503 and asked_to_wait:
        return Trouble.RATE
    if status in _RETRIED or status >= 500 or (status == 0 and not words.strip()):
        return Trouble.REQUEST if speaks_of_roles(error.message) else Trouble.SERVER
    if error.reasons or _FLAGGED.search(words):
        return Trouble.FLAGGED
    if status in (403, 407):
        return Trouble.KEY if _KEY.search(words) and not _ONE_CALL.search(words) else _model_or_request(words)
    if status == 400 and _KEY.search(words) and re.search(r"api.?key.{0,30}(not valid|invalid|expired)", words, re.I):
        return Trouble.KEY
    if status == 404 or error.code == "model_not_found":
        return Trouble.REQUEST if _ONE_CALL.search(words) else Trouble.MODEL
    if status in (0, 400, 422) and _UNKNOWN_MODEL.search(words) and not _ONE_CALL.search(words):
        return Trouble.MODEL
    if status == 0:
        return Trouble.RATE if _RATE.search(words) else Trouble.SERVER
    return Trouble.REQUEST


def _model_or_request(words: str) -> Trouble:
    return Trouble.MODEL if _UNKNOWN_MODEL.search(words) and not _ONE_CALL.search(words) else Trouble.REQUEST


def _is_overflow(status: int, error: ErrorBody, words: str) -> bool:
    if error.code in _OVERFLOW_CODES:
        return True
    if status == 413 and not _OVERFLOW.search(words):
        return not words.strip() or bool(re.search(r"large|limit|length|size|web page", words, re.IGNORECASE))
    if status == 429:  # more tokens at once than a minute has: waiting never helps
        return bool(re.search(r"request too large|long context|must be reduced", words, re.IGNORECASE))
    if status in (402, 403):
        return bool(re.search(r"prompt tokens? limit exceeded", words, re.IGNORECASE))
    return status in (*_REFUSING, 0) and bool(_OVERFLOW.search(words))


def _is_answer_alone(words: str) -> bool:
    """Whether the refusal is about the answer's length and names no prompt (a cap of the model's on answers)."""
    return bool(re.search(r"supports? at most \d[\d,_]* (completion|output|new) tokens", words, re.IGNORECASE))


# ------------------------------------------------------------------------------------------------------------------ sizes

_N = r"(?P<{0}>\d[\d,_]*)"


def _number(name: str) -> str:
    return _N.format(name)


_SIZES = tuple(
    _Pattern(pattern)
    for pattern in (
        # Anthropic, Bedrock; Anthropic's plain overflow; TGI
        rf"{_number('prompt')} \+ {_number('answer')} ?> ?{_number('window')}",
        rf"{_number('prompt')} tokens? > {_number('window')}",
        rf"must be <= {_number('window')}\. given: {_number('prompt')} `?inputs",
        # SGLang; xAI; Moonshot; Gemini; Groq and OpenAI per minute
        rf"context length of {_number('window')} tokens.*?total of {_number('total')} tokens: {_number('prompt')} tokens",
        rf"input length \({_number('prompt')} tokens?\) exceeds the maximum allowed length \({_number('window')}",
        rf"maximum prompt length is {_number('window')}.*?contains {_number('prompt')}",
        rf"token limit: ?{_number('window')} \(requested: ?{_number('total')}",
        rf"token count \({_number('prompt')}\) exceeds the maximum number of tokens allowed \({_number('window')}",
        rf"limit:? {_number('window')},? requested:? {_number('total')}",
        # Azure; llama.cpp; vLLM and OpenAI in many wordings, OpenRouter
        rf"configured limit of {_number('window')} tokens.*?resulted in {_number('prompt')}",
        rf"request \({_number('prompt')} tokens\) exceeds the available context size \({_number('window')}",
        rf"context (length|window|size)( is| of|:)? ?\(?{_number('window')}.*?(?:prompt contains|has|passed) "
        rf"(?P<least>at least )?{_number('prompt')} input tokens",
        rf"context (length|window)( is| of)? {_number('window')}.*?\({_number('prompt')} (?:in the messages|of text input)",
        rf"context (length|window)( is| of)? {_number('window')}.*?requested (?:about )?{_number('total')} tokens",
        rf"context (length|window)( is| of)? {_number('window')}.*?resulted in {_number('prompt')}",
        rf"max_\w*tokens=(?P<answer>\d+) cannot be greater than max_model_len={_number('window')}",
    )
)
_CAPS = tuple(
    _Pattern(pattern)
    for pattern in (
        rf"supports? at most {_number('cap')} (?:completion|output|new)? ?tokens",
        rf"max_\w*tokens: \d[\d,_]* ?> ?{_number('cap')}",  # Anthropic
        rf"can only afford {_number('cap')}",  # OpenRouter
        rf"range of max_tokens should be \[\d+, ?{_number('cap')}\]",  # Qwen
        rf"valid range of max_tokens is \[\d+, ?{_number('cap')}\]",  # DeepSeek
        rf"max_\w*tokens\W.{{0,60}}?(?:less than or equal to|<=|at most|not exceed|no more than|maximum(?: value)? (?:is|of)|"
        rf"cannot be greater than|must be less than|up to|and) ?`?{_number('cap')}",
        rf"maximum (?:allowed )?(?:number of )?(?:output|completion) tokens(?: is| of|:| \()? ?{_number('cap')}",
        rf"maximum value for .?max_\w*tokens.? is .{{0,20}}?{_number('cap')}",
    )
)


def sizes_of(message: str, max_tokens: int = 0) -> Sizes | None:
    """What a refusal says about sizes, where it names both window and prompt.

    Where the whole is named instead of the prompt, the answer that was asked for (`max_tokens`) is taken off it.
    """
    for pattern in _SIZES:
        found = pattern.search(message)
        if found is None:
            continue
        named = found.groupdict()
        window = _int(named["window"])
        if named.get("prompt"):
            return Sizes(window, _int(named["prompt"]), exact=named.get("least") is None)
        if named.get("total"):
            prompt = _int(named["total"]) - max_tokens
            return Sizes(window, prompt, exact=True) if prompt > 0 else None
        return Sizes(window, 1, exact=False)  # vLLM of an answer longer than the window by itself
    return None


def answer_cap(message: str) -> int | None:
    """The longest answer that the endpoint gives, where a refusal names it."""
    for pattern in _CAPS:
        if (found := pattern.search(message)) is not None and (cap := _int(found["cap"])) > 0:
            return cap
    return None


def answer_counts(message: str) -> bool:
    """Whether a refusal speaks of prompt and answer together, so that a shorter answer may fit."""
    return bool(_ANSWER_COUNTS.search(message))


def _int(text: str) -> int:
    return int(text.replace(",", "").replace("_", "")[:15])


# ------------------------------------------------------------------------------------------------- requests to be reworded

_SYSTEM = _any(
    r"system.{0,20}(role|message|prompt|instruction)s?.{0,60}(not|n't|un)[- ]?(be )?(support|allow|enabl|accept|valid|permit)",
    r"(unsupported|invalid|unknown|unexpected).{0,20}(role|message).{0,20}system|role.{0,30}system.{0,40}(not|invalid|unsup)",
    r"developer instruction is not enabled|does not support.{0,10}'?system|only user.{0,30}roles? (is|are) supported",
    r"messages\[\d+\]\.?\W?role.{0,40}system|no system (role|prompt|message)",
)
_ALTERNATE = _any(
    r"roles? must alternate|must alternate|(consecutive|two|same).{0,20}(user|assistant|role).{0,30}(not|in a row|messages)",
    r"after the optional system message|multiple.{0,10}user.{0,30}row|expected.{0,20}(user|assistant).{0,20}(role|message)",
)
_ARGUMENTS = _any(
    r"(arguments?|tool.?call).{0,60}(json|pars|decod|dict|object)|expecting (value|property|',')|json.{0,20}decode",
    r"unterminated string|invalid json|failed to parse tool|extra data: line",
)
_UNSUPPORTED = (
    r"(not|n't|un)[- ]?(be )?(currently )?(support|recogni[sz]|known|expected|permitted|allowed|implement|accept|available)|"
    r"extra (inputs?|fields?|forbidden)|forbidden|deprecated|cannot find field|no longer|only the default|"
    r"additional propert|cannot both|unsupported|remove"
)
_RANGE = _any(
    r"between|in the range|(less|greater|more|lower|higher|smaller|larger) than|at (most|least)|must be (below|above)"
)
"""A value that is refused, not the setting."""
_MISSING = r"missing|required|must (be|have|contain|include|start)|passed? back|need"


def speaks_of_roles(message: str) -> bool:
    """Whether a chat template or endpoint refuses the order or kinds of roles."""
    return refuses_system(message) or wants_alternation(message)


def refuses_system(message: str) -> bool:
    """Whether there is no system role."""
    return bool(_SYSTEM.search(message[:LONGEST_READ]))


def wants_alternation(message: str) -> bool:
    """Whether user and assistant have to take turns."""
    return bool(_ALTERNATE.search(message[:LONGEST_READ]))


def wants_json_arguments(message: str) -> bool:
    """Whether the arguments of an earlier tool call must be JSON, which the model did not write."""
    return bool(_ARGUMENTS.search(message[:LONGEST_READ]))


def wants_new_limit_name(message: str) -> bool:
    """Whether the answer's limit is to be called `max_completion_tokens`."""
    return "max_completion_tokens" in message and bool(re.search(_UNSUPPORTED + r"|use .max_comp", message, re.I))


def wants_old_limit_name(message: str) -> bool:
    """Whether the answer's limit is to be called `max_tokens`."""
    return bool(
        re.search(rf"\bmax_completion_tokens\b.{{0,80}}({_UNSUPPORTED})", message, re.I | re.S)
        or re.search(rf"({_UNSUPPORTED}).{{0,60}}\bmax_completion_tokens\b", message, re.I | re.S)
    )


def refused_name(error: ErrorBody, names: Iterable[str]) -> str | None:
    """The first of `names` (settings, fields of a message) that the endpoint says it does not take."""
    message = error.message[:LONGEST_READ]
    if not re.search(_UNSUPPORTED, message, re.IGNORECASE) or _RANGE.search(message):
        return None
    for name in names:
        if error.param == name or error.param.endswith(f".{name}") or re.search(rf"\b{re.escape(name)}\b", message):
            return name
    return None


def demanded_name(message: str, names: Iterable[str]) -> str | None:
    """The first of `names` that the endpoint wants back with the model's own messages."""
    for name in names:
        if re.search(rf"\b{re.escape(name)}\b.{{0,120}}({_MISSING})", message[:LONGEST_READ], re.I | re.S) or re.search(
            rf"({_MISSING}).{{0,60}}\b{re.escape(name)}\b", message[:LONGEST_READ], re.I | re.S
        ):
            return name
    return None
