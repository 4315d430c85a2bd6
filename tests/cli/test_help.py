"""`--help` of every command: a newcomer finds each option explained, an example, and plain words."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer.main
from rao_cli.main import app

from .command import run_here


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command and group by the words that call it."""
    yield path, command
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, (*path, name))


COMMANDS = dict(commands(typer.main.get_command(app)))
every_command = pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(words) or "rao")
DIALECT = re.compile(r"\b(told|wanted|made of|one trade|policy of|put out|nobody|whoever)\b", re.IGNORECASE)


def sentence(parameter: Any) -> str:
    return str(getattr(parameter, "help", None) or "")


@every_command
def test_every_parameter_is_shown_and_explained(words: tuple[str, ...]) -> None:
    for parameter in COMMANDS[words].params:
        name = "/".join(parameter.opts)
        assert not parameter.hidden, f"{name} is hidden"
        assert len(sentence(parameter).split()) >= 2, f"{name} has no sentence"
        assert sentence(parameter).endswith((".", ")")), f"{name}: {sentence(parameter)}"


@every_command
def test_the_words_are_plain(words: tuple[str, ...]) -> None:
    command = COMMANDS[words]
    for text in (command.help or "", *map(sentence, command.params)):
        assert DIALECT.search(text) is None, text


@every_command
def test_the_help_fits_eighty_columns_and_shows_an_example(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, out, err = run_here(monkeypatch, capsys, *words, "--help")
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    assert "[/" not in out, "markup that was not rendered"
    # An example is a line that could be typed.
    assert re.search(rf"^ +{' '.join(('rao', *words))} [^[]*$", out.partition("Usage:")[2].partition("\n")[2], re.M)
    for parameter in COMMANDS[words].params:
        assert max(parameter.opts, key=len).lower() in out.lower() or parameter.metavar in out


@pytest.mark.parametrize("words", [(), ("trace",)], ids=["rao", "trace"])
def test_a_group_alone_shows_its_help(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    code, out, err = run_here(monkeypatch, capsys, *words)
    assert (code, err) == (2, "")
    assert "Usage: rao" in out
