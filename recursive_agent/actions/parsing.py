"""From a model's answer to the code to run."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass

from ..model.base import Completion, ToolCall
from ..model.thinking import part
from ..styles import ActionFormat
from .code_checks import calls_something, is_comment, is_data, is_unended, plausible, unwrapped
from .fences import Block, blocks, is_code, mended, sole_code
from .no_code import ASKED, cut_short, missing_code, stray_call
from .python_calls import PYTHON_NAMES, code_argument, plain_name, spelt_call, spelt_calls

_TAG = re.compile(r"<python>", re.I)
_OTHER_TAG = re.compile(
    r"^[ \t]*<(python|py|code|execute|execute_python|execute_ipython|tool_code|python_code)>", re.I | re.M
)
_CODE_TAG = re.compile(
    r"<\|python_tag\|>(?P<llama>.*?)(?:<\|\w+\|>|\Z)|\[PYTHON\](?P<meta>.*?)(?:\[/PYTHON\]|\Z)"
    r"|<pre[^<>]{0,80}>\s{0,8}<code[^<>]{0,80}>(?P<html>.*?)</code>|<script[^<>]{0,40}python[^<>]{0,40}>(?P<script>.*?)</script>"
    r"|```[ \t]*(?:python|py)[ \t]+(?P<inline>[^`\n]+)```|^``[ \t]*(?:python|py)[ \t]*\n(?P<short>.*?)\n``[ \t]*$"
    r"|\A\s*`{1,2}(?P<whole>[^`]+)`{1,2}\s*\Z",
    re.S | re.I | re.M,
)
"""Other marks that mean code to run: Llama's, Meta's, HTML, and fences that Markdown does not know."""
_NEUTRAL = frozenset({"text", "txt", "plaintext", "plain", "none", "sage", "ipynb"})
"""Labels of blocks that are run where nothing else is there and they are Python."""
_ENDS = ("<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end|>", "<|endoftext|>", "<|end_of_text|>", "<|return|>", "</s>",
         "<end_of_turn>")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Action:
    """Code to run, or (`code` None) the reason why there is none. `note` is for the agent to read with the output.

    `example` shows the right form, for the first time that it is missed.
    """

    code: str | None
    note: str | None = None
    example: str | None = None


def parse_action(completion: Completion, action_format: ActionFormat, *, bare_code: bool = True) -> Action:
    """The action of an answer. Only the first block counts: what follows was written without having seen its output.

    With `bare_code`, an answer that is Python as a whole is code without a fence too.
    """
    text, _, unended = part(_cleaned(completion.text))  # an endpoint's answers come without drafts already
    called = _called(completion.tool_calls)
    if action_format == "tool" and called is not None:
        return called
    written = _written(text, completion, action_format)
    if written is not None and (written.code is not None or called is None):
        return written
    if called is not None:
        return called
    if completion.finish_reason != "length":
        code = _tolerated(text, action_format, bare_code=bare_code)
        if code is not None:
            return Action(code)
    if completion.tool_calls:
        return Action(None, stray_call(completion, action_format))
    return Action(None, *missing_code(completion, text, unended, action_format))


# -- the form that was asked for --------------------------------------------------------------------------------------


def _written(text: str, completion: Completion, action_format: ActionFormat) -> Action | None:
    """The block that was asked for: its code, or why it is none. None where there is no such block."""
    if action_format == "tool":
        return None
    cut = completion.finish_reason == "length"
    if action_format == "fenced" and not cut and (code := sole_code(text)) is not None:
        return Action(spelt_call(code.strip()) or code)
    found = _tagged(text, _TAG) if action_format == "tags" else _python(blocks(text))
    if not found:
        return None
    if (cut and found[0].end == len(text) and not found[0].closed) or (cut and is_unended(found[0].code)):
        return Action(None, cut_short(completion, action_format))
    filled = [block for block in found if block.code.strip()]
    filled = [block for block in filled if not is_comment(block.code)] or filled
    if not filled:
        return Action(None, f"The code block of your answer was empty. {ASKED[action_format]} with code in it.")
    note = (
        f"Only the first of your {len(found)} code blocks was run; write one for each answer."
        if len(found) > 1
        else None
    )
    code = filled[0].code
    return Action(spelt_call(code.strip()) or code, note)


def _python(found: list[Block]) -> list[Block]:
    """The blocks that are meant: those that say Python, else those that say nothing (what is Python before what is not)."""
    labelled = [block for block in found if block.is_python]
    if labelled:
        return labelled
    silent = [block for block in found if not block.label and not is_data(block.code)]
    return sorted(silent, key=lambda block: not block.parses)


def _tagged(text: str, tag: re.Pattern[str]) -> list[Block]:
    """Code between tags: up to the first closing tag that makes it Python, else the first."""
    found: list[Block] = []
    place = 0
    while (opening := tag.search(text, place)) is not None and len(found) < 32:
        name = opening[0].strip(" \t<>")
        closings = list(re.finditer(rf"</{name}>", text[opening.end() :], re.I))[:16]
        ends = [(opening.end() + match.start(), opening.end() + match.end()) for match in closings]
        chosen: Block | None = None
        for end, after in ends or [(len(text), len(text))]:
            code = unwrapped(text[opening.end() : end])
            block = Block(code, "python", opening.start(), after, bool(ends), is_code(code))
            if chosen is None or block.parses:
                chosen = block
            if block.parses:
                break
        assert chosen is not None
        found.append(chosen)
        place = chosen.end
    return found


# -- other forms that leave no doubt ----------------------------------------------------------------------------------


def _tolerated(text: str, action_format: ActionFormat, *, bare_code: bool) -> str | None:
    """Code in another form than the one asked for, where it is clear what is meant."""
    for code in spelt_calls(text):
        return code
    written = blocks(text)
    for found in (
        _tagged(text, _OTHER_TAG),
        [block for block in written if block.is_python],
        [block for block in written if block.label in _NEUTRAL],
    ):
        if found and plausible(found[0].code):
            return found[0].code
    for match in _CODE_TAG.finditer(text):
        code = next(part for part in match.groups() if part is not None)
        code = mended((html.unescape(code) if match["html"] is not None else code).strip("\n").rstrip()).strip("\n")
        if plausible(code) if match["whole"] is None else (bare_code and calls_something(code)):
            return code
    if bare_code and action_format != "tool":
        code = mended(text.strip("\n"))
        if plausible(code):
            return code
    return None


def _called(calls: tuple[ToolCall, ...]) -> Action | None:
    """The code of the first native call to `python`; None where there is none that can be read."""
    for call in calls:
        if not PYTHON_NAMES.fullmatch(plain_name(call.name)):
            continue
        code = code_argument(call.arguments)
        if code is None or not code.strip():
            return None
        several = "Only the first of your tool calls was run; make one for each answer." if len(calls) > 1 else None
        return Action(code, several)
    return None


def _cleaned(text: str) -> str:
    """With Python's line ends, and without the marks that a template left at the end."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").lstrip("\ufeff")
    for _ in range(4):
        if not text.rstrip().endswith(_ENDS):
            break
        text = text.rstrip(" \t\n")
        for mark in _ENDS:
            text = text.removesuffix(mark)
    return text
