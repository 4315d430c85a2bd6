"""Every way out of the language is shut by the language alone, and each is shown to work in plain Python."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import pytest

from recursive_agent.repl import InProcessSandbox, ProcessSandbox, TrustedCodeWarning

from ..conftest import SECRET, Attack, Canaries, attacks_on
from .escapes import ESCAPES, HOOK_ESCAPES, LANGUAGE_ESCAPES, Escape

# What an attack does with what it got. Under the kernel's layers alone none of it may reach a canary.
PAYLOAD = """
import os, socket
for step in (
    lambda: print(open({file!r}).read()),
    lambda: print(dict(os.environ)),
    lambda: open({file!r}, "w"),
    lambda: os.unlink({file!r}),
    lambda: os.mkdir({file!r} + ".d"),
    lambda: socket.create_connection(("127.0.0.1", {port})),
    lambda: os.kill({pid}, 9),
    lambda: print(open("/proc/{pid}/environ", "rb").read()),
    lambda: os.system("echo ESCAPED > {file}"),
):
    try: step()
    except (OSError, ImportError): pass
"""


@pytest.fixture(scope="module")
def in_the_language() -> Iterator[Attack]:
    """Cells of this very process: where the language fails, nothing else protects the canaries."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TrustedCodeWarning)
        with attacks_on(InProcessSandbox) as attack:
            yield attack


@pytest.fixture(scope="module")
def in_plain_python() -> Iterator[Attack]:
    with attacks_on(lambda: ProcessSandbox(policy=False)) as attack:
        yield attack


@pytest.mark.parametrize("escape", ESCAPES, ids=lambda e: e.name)
def test_the_language_alone_gives_nothing_away(escape: Escape, in_the_language: Attack, canaries: Canaries) -> None:
    result = in_the_language(escape.code)
    said = result.output + (result.error or "")
    assert "ESCAPED" not in result.output
    assert result.status == "error" or not result.output, result
    canaries.check(said)


@pytest.mark.parametrize("escape", [e for e in HOOK_ESCAPES if e.control], ids=lambda e: e.name)
def test_what_the_language_stops_works_in_plain_python(escape: Escape, in_plain_python: Attack) -> None:
    assert "ESCAPED" in in_plain_python(escape.code).output


@pytest.mark.parametrize("escape", LANGUAGE_ESCAPES, ids=lambda e: e.name)
def test_the_kernel_alone_lets_nothing_out(escape: Escape, in_plain_python: Attack, canaries: Canaries) -> None:
    payload = PAYLOAD.format(file=str(canaries.file), port=canaries.port, pid=canaries.victim.pid)
    attempt = "\n".join("    " + line for line in escape.code.splitlines())
    if escape.control:
        assert "ESCAPED" in in_plain_python(escape.code).output, "this attack does not even work in plain Python"
    result = in_plain_python(f"{payload}\ntry:\n{attempt}\nexcept Exception: pass\n{payload}")
    canaries.check(result.output + (result.error or ""))
    assert SECRET not in str(result)


def test_there_are_over_five_hundred_attacks_with_different_names() -> None:
    names = [escape.name for escape in ESCAPES]
    assert len(set(names)) == len(names) > 500
