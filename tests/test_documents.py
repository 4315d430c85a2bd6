"""What documents tell to type exists: commands, options, settings, and the files they point to."""

import itertools
import re
import shlex
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer.main
from rao_cli.main import app

from .cli.command import rao

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted(
    path.relative_to(ROOT)
    for pattern in ("*.md", "docs/*.md", "docs/environments/*.md", "examples/*/README.md", "benchmarks/*.md")
    for path in ROOT.glob(pattern)
)
COMMANDS = typer.main.get_command(app)


def command_lines(text: str) -> list[list[str]]:
    """The words of every line that starts `rao`, by itself or under accelerate; comments and what follows -- left out."""
    joined = re.sub(r"\\\n\s*", " ", text)
    lines = re.findall(r"^(?:    )?(?:\$ )?(rao .+|accelerate launch .+-m rao_cli .+)$", joined, re.MULTILINE)
    found = []
    for line in lines:
        for part in re.sub(r"^accelerate launch .+? -m rao_cli", "rao", line).split(" && "):
            words = shlex.split(part.replace("…", "X"), comments=True)
            found.append(words[: words.index("--")] if "--" in words else words)
    return [words for words in found if words[0] == "rao"]


def unknown_words(words: list[str]) -> list[str]:
    """What of a command line rao does not know."""
    command: Any = COMMANDS
    place = 1
    while hasattr(command, "commands") and place < len(words) and words[place] in command.commands:
        command, place = command.commands[words[place]], place + 1
    if hasattr(command, "commands") and not words[place].startswith("-"):
        return [" ".join(words[: place + 1])]
    known = {name for parameter in command.params for name in parameter.opts} | {"--help", "-h"}
    wrong = [word for word in words[place:] if word.startswith("-") and word.partition("=")[0] not in known]
    set_here = [after.partition("=")[0] for word, after in itertools.pairwise(words) if word == "--set"]
    return wrong + [name for name in set_here if name not in settings()]


@cache
def settings() -> set[str]:
    listed = rao("train", "--settings", cwd=ROOT).stdout
    return {line.partition("=")[0] for line in listed.splitlines()}


def test_what_does_not_exist_is_found() -> None:
    lines = "$ rao trian x\n    rao train x --otu y --set credit.base=1 \\\n   --out z\nrao serve x -- --max-num-seqs 4  # z\n"
    assert [unknown_words(words) for words in command_lines(lines)] == [["rao trian"], ["--otu", "credit.base"], []]


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_every_command_exists_with_its_options(document: Path) -> None:
    for words in command_lines((ROOT / document).read_text()):
        assert unknown_words(words) == [], shlex.join(words)


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_every_link_leads_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", (ROOT / document).read_text()):
        assert (ROOT / document.parent / target).exists(), target
