"""Calls of a tool as models write them into their text, where no parser of the server took them out.

Each dialect is one pattern; what they give is the name of the tool and its arguments, as JSON text or as a dict of texts.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

_MOST = 16
"""Calls that are looked at in one answer."""
_MOST_PARAMETERS = 8

_INVOKED = re.compile(
    r"<[^<>\n\s]{0,24}?invoke\s+name=\"?(?P<name>[\w.:-]{1,60})\"?\s*>(?P<body>.*?)(?:</[^<>\n\s]{0,24}?invoke>|\Z)",
    re.S,
)
"""Anthropic's own form, and those of MiniMax and DeepSeek after it."""
_PARAMETER = re.compile(
    r"<[^<>\n\s]{0,24}?parameter\s+name=\"?(?P<key>\w{1,60})\"?[^<>\n]{0,60}>(?P<value>.*?)</[^<>\n\s]{0,24}?parameter>",
    re.S,
)
_ARG_KEYS = re.compile(r"<tool_call>\s*(?P<name>[\w.]{1,60})\s*(?P<body><arg_key>.*?)(?:</tool_call>|\Z)", re.S)
"""GLM's."""
_ARG = re.compile(r"<arg_key>\s*(?P<key>\w{1,60})\s*</arg_key>\s*<arg_value>(?P<value>.*?)</arg_value>", re.S)
_NAMED = re.compile(
    r"(?P<name>[A-Za-z_][\w.]{0,60})(?::\d{1,4})?\s{0,4}"
    r"(?:<\|tool_call_argument_begin\|>|<｜tool▁sep｜>|(?:\[CALL_ID\]\w{0,40})?\[ARGS\])\s{0,4}(?=\{)"
)
"""Kimi's, DeepSeek's and Mistral's: a name, a mark, and JSON."""
_REACT = re.compile(
    r"^Action:[ \t]*(?P<name>[\w.]{1,60})[ \t]*\nAction Input:[ \t]*(?P<given>.+?)(?=\n+(?:Observation|Thought|Action):|\Z)",
    re.S | re.M,
)


def written_calls(text: str) -> Iterator[tuple[str, str | dict[str, str]]]:
    """Name and arguments of each call that is spelt in a text."""
    for outer, inner in ((_INVOKED, _PARAMETER), (_ARG_KEYS, _ARG)):
        for call in islice(outer.finditer(text), _MOST):
            found = islice(inner.finditer(call["body"]), _MOST_PARAMETERS)
            yield call["name"], {each["key"]: each["value"] for each in found}
    for call in islice(_NAMED.finditer(text), _MOST):
        try:
            value, _ = json.JSONDecoder(strict=False).raw_decode(text, call.end())
        except (ValueError, RecursionError):
            continue
        yield call["name"], json.dumps(value)
    for call in islice(_REACT.finditer(text), _MOST):
        yield call["name"], call["given"].strip()


def pythonic_call(tree: ast.Module | None) -> tuple[str, dict[str, Any]] | None:
    """`[python(code="…")]` and `python(code="…")` as the whole of an answer: Llama's own form."""
    if tree is None or len(tree.body) != 1 or not isinstance(tree.body[0], ast.Expr):
        return None
    call = tree.body[0].value
    if isinstance(call, ast.List) and len(call.elts) == 1:
        call = call.elts[0]
    if not isinstance(call, ast.Call):
        return None
    name, named = ast.unparse(call.func), [*call.keywords]
    values = {word.arg: word.value for word in named if word.arg} | ({"code": call.args[0]} if call.args else {})
    if len(values) != 1 or not all(isinstance(value, ast.Constant) for value in values.values()):
        return None
    return name, {key: value.value for key, value in values.items() if isinstance(value, ast.Constant)}
