"""The page: one file, no way out of its data, the same bytes for the same run, and everything it needs in the wheel."""

import base64
import hashlib
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recursive_agent.trace.tree import ExecutionTree
from recursive_agent.viewer.page import DATA_ID, assets, json_text, page_text
from recursive_agent.viewer.payload import page_data, run_data
from tests.trace.events import node_ended, node_started, run_started

HOSTILE = [
    "</script><script>alert(1)</script>",
    "</SCRIPT\n>",
    "<!--<script>",
    "-->",
    "]]>",
    "\u2028\u2029",
    "\ud800 alone",
    "\0",
    "\x7f\x85\ufeff\uffff",
    "&lt;/script&gt;",
    '"><img src=x onerror=alert(1)>',
]
ROOT = Path(__file__).parents[2]


class Elements(HTMLParser):
    """The scripts, styles and policies of a page, as a browser would find them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None], str]] = []
        self.policies: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs), ""))
        if tag == "meta" and dict(attrs).get("http-equiv") == "Content-Security-Policy":
            self.policies.append(dict(attrs)["content"] or "")

    def handle_endtag(self, tag: str) -> None:
        self.found.append((f"/{tag}", {}, ""))

    def handle_data(self, data: str) -> None:
        if self.found:
            tag, attributes, text = self.found[-1]
            self.found[-1] = (tag, attributes, text + data)

    def of(self, tag: str) -> list[tuple[dict[str, str | None], str]]:
        return [(attributes, text) for name, attributes, text in self.found if name == tag]


def hostile_run(text: str) -> dict[str, Any]:
    tree = ExecutionTree.from_events(
        [run_started(run=text, model=text), node_started(goal=text, context={text: text}), node_ended(result=[text])]
    )
    return run_data(tree, file=text)


@pytest.mark.parametrize("text", HOSTILE)
def test_no_trace_gets_out_of_its_element(text: str) -> None:
    run = hostile_run(text)
    page = page_text(page_data(text, runs=[run]), runs=[(text, json_text(run))])
    page.encode()  # no lone surrogate is left
    elements, plain = Elements(page), Elements(page_text(page_data("x")))
    others = [[name for name, *_ in each.found if "script" not in name] for each in (elements, plain)]
    assert others[0] == others[1]
    scripts = elements.of("script")
    assert len(scripts) == len(plain.of("script")) + 1
    (data,) = [json.loads(body) for attributes, body in scripts if attributes.get("id") == DATA_ID]
    assert data["runs"][0]["nodes"][0]["goal"] == text
    (own,) = [json.loads(body) for attributes, body in scripts if "data-run" in attributes]
    assert own["nodes"][0]["context"] == run["nodes"][0]["context"]


@given(st.text(st.characters(exclude_categories=()), max_size=40))
def test_json_text_is_json_that_no_element_ends(text: str) -> None:
    spelled = json_text({"a": text})
    assert not re.search("[<>&\u2028\u2029\ud800-\udfff\0\ufeff\uffff]", spelled)
    again = json.loads(spelled)["a"]
    assert again.encode("utf-16", "surrogatepass") == text.encode("utf-16", "surrogatepass")


def test_numbers_that_json_lacks_are_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        json_text({"a": float("nan")})


def test_the_policy_allows_the_page_s_own_code_and_nothing_else() -> None:
    for live in (False, True):
        elements = Elements(page_text(page_data("x", live={"url": "events"} if live else None)))
        (policy,) = elements.policies
        rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
        assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
        assert rules["connect-src"] == ("'self'" if live else "'none'")
        assert "unsafe" not in policy
        for tag, rule in (("style", "style-src"), ("script", "script-src")):
            bodies = [body for attributes, body in elements.of(tag) if attributes.get("type") != "application/json"]
            assert bodies
            hashes = [base64.b64encode(hashlib.sha256(body.encode()).digest()).decode() for body in bodies]
            assert rules[rule].split() == [f"'sha256-{each}'" for each in hashes]
        names = [name for name, *_ in elements.found]
        first = next(at for at, (name, attributes, _) in enumerate(elements.found) if "http-equiv" in attributes)
        assert first < min(names.index("style"), names.index("script"))


def test_the_page_asks_for_nothing() -> None:
    for name, attributes, _ in Elements(page_text(page_data("x"))).found:
        assert name not in ("link", "iframe", "object", "embed", "base", "img"), name
        assert "src" not in attributes
        assert not any(attribute.startswith("on") or attribute == "style" for attribute in attributes)
    assert '<meta charset="utf-8">' in page_text(page_data("x"))[:1024]


def test_every_asset_is_listed_and_every_listed_one_is_there() -> None:
    place = files("recursive_agent.viewer") / "assets"
    there = {each.name for each in place.iterdir() if each.name.endswith((".js", ".css"))}
    there |= {f"vendor/{each.name}" for each in (place / "vendor").iterdir() if each.name.endswith((".js", ".css"))}
    assert set(assets()) == there


_HASHED = """
import sys, hashlib
from recursive_agent.trace.tree import ExecutionTree
from recursive_agent.viewer.page import page_text
from recursive_agent.viewer.payload import page_data, run_data
from tests.trace.events import *
events = [run_started(settings={"tools": {"b", "a", "c"}}),
          node_started(context={"s": {"x", "y", "z"}, ("k", frozenset({"p", "q"})): 1}), node_ended(result={"r", "s", "t"})]
print(hashlib.sha256(page_text(page_data("x", runs=[run_data(ExecutionTree.from_events(events))])).encode()).hexdigest())
"""


def test_the_same_run_is_the_same_page_whatever_the_process() -> None:
    pages = {
        subprocess.run(
            [sys.executable, "-c", _HASHED],
            cwd=ROOT,
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(pages) == 1
