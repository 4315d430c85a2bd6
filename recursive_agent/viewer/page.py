"""Data → one HTML text that needs nothing else: no network, no other file. The same data always give the same text.

`assets/page.html` lists style sheets and scripts; each is put where it stands. Scripts run only if their hash is in the
page's content policy, and nothing that a trace holds is in one of them: data stand in `application/json` elements, with every
character escaped that could end one.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from importlib.resources import files
from itertools import chain
from typing import Any

DATA_ID = "data"
"""Id of the element that holds the data of the page."""
_ESCAPED = re.compile("[<>&\u2028\u2029\x7f-\x9f\ud800-\udfff\ufeff\ufffe\uffff]")
_LINK = re.compile(r'<link rel="stylesheet" href="([\w./-]+)">')
_SCRIPT = re.compile(r'<script src="([\w./-]+)"></script>')
_TITLE = re.compile(r"<title>.*?</title>", re.DOTALL)
_DATA, _POLICY = "<!-- data -->", "<!-- policy -->"


def json_text(data: Any) -> str:
    """Data as JSON that may stand in a script element of a page. Raises ValueError for numbers that JSON lacks."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return _ESCAPED.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def page_text(data: Any, *, runs: Iterable[tuple[str, str]] = ()) -> str:
    """The page of these data (see `payload.page_data`).

    `runs` are runs that are read when they are opened: the id and the JSON (`json_text`) of each.
    """
    return "".join(page_pieces(data, runs=runs))


def page_pieces(data: Any, *, runs: Iterable[tuple[str, str]] = ()) -> Iterator[str]:
    """`page_text` in pieces, so that a large page need not be in memory twice."""
    before, after = _shell(live=bool(data.get("live")))
    title = html.escape(_valid(str(data.get("title") or "Trace")))
    yield before.replace("<title></title>", f"<title>{title}</title>", 1)
    yield f'<script type="application/json" id="{DATA_ID}">{json_text(data)}</script>'
    for name, text in runs:
        yield f'\n<script type="application/json" data-run="{html.escape(_valid(name))}">'
        yield text
        yield "</script>"
    yield after


def assets() -> dict[str, str]:
    """Style sheets and scripts of the page by name, in their order."""
    page = _asset("page.html")
    return {name: _asset(name) for name in chain(_LINK.findall(page), _SCRIPT.findall(page))}


@cache
def _shell(*, live: bool) -> tuple[str, str]:
    """The page without data and title: what stands before the data, and what stands after them."""
    page = _TITLE.sub("<title></title>", _asset("page.html"), count=1)
    for mark in (_DATA, _POLICY, "<title></title>"):
        if page.count(mark) != 1:
            raise RuntimeError(f"assets/page.html must contain {mark} once")
    page = page.replace(_POLICY, _policy(live))
    page = _LINK.sub(_inlined("style"), page)
    page = _SCRIPT.sub(_inlined("script"), page)
    before, _, after = page.partition(_DATA)
    return before, after


def _inlined(element: str) -> Callable[[re.Match[str]], str]:
    def inline(match: re.Match[str]) -> str:
        return f"<{element}>{_asset(match[1])}</{element}>"

    return inline


def _policy(live: bool) -> str:
    """What the page may do: run its own scripts and styles, and nothing else; a live one may ask the server it came from."""
    page = _asset("page.html")
    styles, scripts = (
        " ".join(f"'sha256-{_hash(_asset(name))}'" for name in pattern.findall(page)) or "'none'"
        for pattern in (_LINK, _SCRIPT)
    )
    rules = {
        "default-src": "'none'",
        "style-src": styles,
        "script-src": scripts,
        "img-src": "data:",
        "connect-src": "'self'" if live else "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    content = "; ".join(f"{name} {value}" for name, value in rules.items())
    return f'<meta http-equiv="Content-Security-Policy" content="{content}">'


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


@cache
def _asset(name: str) -> str:
    """The text of an asset. A script that would end its own element is refused."""
    text = files(__package__).joinpath("assets", name).read_text(encoding="utf-8")
    if name.endswith((".js", ".css")) and re.search(r"</(script|style)|<!--", text, re.IGNORECASE):
        raise RuntimeError(f"assets/{name} contains </script, </style or <!--, which would end its element")
    return text


def _valid(text: str) -> str:
    """Text without what UTF-8 and HTML have no form for."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "\ufffd")
